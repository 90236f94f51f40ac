//! Recordings of a bucket held against their digests, by the program.

use serde_json::Value;

use super::program::{CALL, Environment, WHOSE, of_s3, run};
use crate::harness::bucket::{FaultyS3, Moto, Spoilt, key};
use crate::harness::program::{Place, Program, Ran, SERVE, ask, poll};
use crate::harness::{OWNER, pattern, skips};

fn add(place: &Place, bucket: &Environment, id: &str, more: &[&str]) -> Ran {
    let args = [&["add", CALL, "--id", id][..], &WHOSE, more].concat();
    run(place, bucket, &args)
}

/// What a scrub says of each recording, in its order.
fn rows(ran: &Ran) -> Vec<(String, String)> {
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let word = |name: &str| row[name].as_str().unwrap().to_owned();
        let file = word("recording").rsplit_once('/').unwrap().1.to_owned();
        (file, word("verdict"))
    };
    ran.out.lines().map(row).collect()
}

fn row(file: &str, verdict: &str) -> (String, String) {
    (file.to_owned(), verdict.to_owned())
}

/// What was put is found good, and what is put past the record is not, whatever the store.
fn finds_what_changed(bucket: &Environment, place_by_hand: impl Fn(&str, &[u8])) {
    let place = Place::new();
    for id in ["a", "b"] {
        add(&place, bucket, id, &[]).ok();
    }
    place_by_hand("by-hand.wav", &pattern(100));
    let ran = run(&place, bucket, &["scrub"]);
    let said = "2 as they were put, 1 without a digest, 0 not as they were put\n";
    assert_eq!(ran.ok(), said);
    place_by_hand("b.wav", &pattern(3 << 20));
    let ran = run(&place, bucket, &["scrub", "--json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let found = [
        row("a.wav", "good"),
        row("b.wav", "changed"),
        row("by-hand.wav", "without_digest"),
    ];
    assert_eq!(rows(&ran), found, "{ran:?}");
    assert!(ran.err.contains("tonearm::alarm"), "{ran:?}");
    // On from one that was told, and with what was found mended.
    let after = format!("{OWNER}/a.wav");
    let ran = run(&place, bucket, &["scrub", "--json", "--after", &after]);
    assert_eq!(rows(&ran), found[1..], "{ran:?}");
    assert_eq!(add(&place, bucket, "b", &[]).code, Some(1));
    add(&place, bucket, "b", &["--replace"]).ok();
    assert_eq!(run(&place, bucket, &["scrub"]).code, Some(0));
}

#[test]
fn what_changed_is_found_in_the_tests_own_s3() {
    let s3 = FaultyS3::start();
    finds_what_changed(&of_s3(s3.addr), |name, bytes| s3.put(&key(name), bytes));
    // What was tried out of the store before it was written to is gone.
    assert!(s3.keys().iter().all(|key| !key.contains('+')));
}

#[test]
fn what_changed_is_found_in_moto() {
    match Moto::start() {
        Some(moto) => finds_what_changed(&of_s3(moto.addr), |name, bytes| {
            moto.put(&key(name), bytes);
        }),
        None => drop(skips("moto", "pip install 'moto[server]'")),
    }
}

#[test]
fn what_rotted_is_served_to_nobody_until_it_is_mended() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    let bucket = of_s3(s3.addr);
    add(&place, &bucket, "call", &[]).ok();
    let mut serve = place.command(&SERVE);
    serve.envs(bucket.iter().cloned());
    let program = Program::start(serve);
    let base = format!("http://{}", program.public);
    let url = || {
        let args = [&["url", "call", "--base", &base][..], &WHOSE].concat();
        run(&place, &bucket, &args)
    };
    let target = url().ok();
    let is = |status: u16| {
        let answer = || program.get(target.trim(), &[]).status;
        poll("it shows within two seconds", || {
            (answer() == status).then_some(())
        });
    };
    is(200);
    s3.rot(&key("call.wav"));
    let dry = run(&place, &bucket, &["scrub", "--dry-run", "--json"]);
    assert_eq!(dry.code, Some(1), "{dry:?}");
    assert_eq!(rows(&dry), [row("call.wav", "rotten")]);
    assert_eq!(run(&place, &bucket, &["scrub"]).code, Some(1));
    is(500);
    let asked = format!(
        "/retrieve/authenticated/recordings/call?appId={}&externalAccountId={}",
        WHOSE[1], WHOSE[3]
    );
    assert_eq!(ask(program.public, "GET", &asked, &[]).status, 500);
    assert_eq!(url().code, Some(1));
    // The store heals; a scrub sees it, and what is marked goes.
    s3.rot(&key("call.wav"));
    is(500);
    assert_eq!(run(&place, &bucket, &["scrub"]).code, Some(0));
    is(200);
    // Or it is put in its place again.
    s3.rot(&key("call.wav"));
    assert_eq!(run(&place, &bucket, &["scrub"]).code, Some(1));
    let is_marked = || {
        let record = s3.bytes(&key("call.json")).unwrap();
        record.windows(9).any(|word| word == b"\"damaged\"")
    };
    assert!(is_marked());
    add(&place, &bucket, "call", &["--replace"]).ok();
    assert!(!is_marked());
    is(200);
}

#[test]
fn what_cannot_be_read_or_marked_is_no_finding() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    let bucket = of_s3(s3.addr);
    for id in ["a", "b"] {
        add(&place, &bucket, id, &[]).ok();
    }
    s3.put(&key("c.wav"), b"RIFF");
    s3.put(&key("c.json"), b"[]");
    let ran = run(&place, &bucket, &["scrub", "--json"]);
    assert_eq!(ran.code, Some(74), "{ran:?}");
    let good = [row("a.wav", "good"), row("b.wav", "good")];
    assert_eq!(rows(&ran), good, "{ran:?}");
    assert!(
        ran.err.contains("c.json") || ran.err.contains("/c"),
        "{ran:?}"
    );
    s3.forget(&key("c.json"));
    // It is told, though it cannot be marked.
    s3.rot(&key("a.wav"));
    s3.spoil("a.json", Spoilt::Status(403));
    let ran = run(&place, &bucket, &["scrub", "--json"]);
    assert_eq!(ran.code, Some(69), "{ran:?}");
    assert_eq!(rows(&ran)[0], row("a.wav", "rotten"), "{ran:?}");
    s3.revive();
    // One that is being put has no digest yet.
    let mut record: Value = serde_json::from_slice(&s3.bytes(&key("b.json")).unwrap()).unwrap();
    record["incoming"] = serde_json::json!({"by": "another", "format": "wav", "sha256": "00"});
    s3.put(&key("b.json"), record.to_string().as_bytes());
    s3.put(&key("b.wav"), &pattern(1000));
    let ran = run(&place, &bucket, &["scrub", "--json", "--dry-run"]);
    assert_eq!(rows(&ran)[1], row("b.wav", "without_digest"), "{ran:?}");
}
