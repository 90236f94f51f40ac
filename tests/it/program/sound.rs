//! `tonearm inspect` and `tonearm add`: what is told, what is mended, what is stored.

use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use crate::audio::made::{Made, have_makers};
use crate::harness::OWNER;
use crate::harness::program::{Place, Ran};

const CALL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/storage/app-101/test-account-01/test-call-01.wav"
);

fn add(place: &Place, file: &str, flags: &[&str]) -> Ran {
    let (app, account) = OWNER.split_once('/').unwrap();
    let mut args = vec!["add", file, "--app", app, "--account", account];
    args.extend(flags);
    place.run(&args)
}

fn stored(place: &Place, name: &str) -> Vec<u8> {
    std::fs::read(place.path("storage").join(OWNER).join(name)).unwrap()
}

/// Every file below the store.
fn files(place: &Place) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![place.path("storage")];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn inspect_says_what_hubspot_makes_of_it() {
    let place = Place::new();
    let ran = place.run(&["inspect", CALL]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.out
            .contains("WAV, PCM, 16 bits, 2 channels, 8000 Hz, 0:23.632 (from the header)")
    );
    assert!(ran.out.contains("HubSpot plays it and transcribes it."));
    let value = place.run(&["inspect", CALL, "--json"]).json();
    assert_eq!(value["facts"]["duration_ms"], 23_632);
    assert_eq!(value["verdict"]["use"], "transcription");
    assert_eq!(value["sound"]["identical"], false);
    assert_eq!(value["fix"], Value::Null);
}

#[test]
fn inspect_names_what_is_no_recording() {
    let place = Place::new();
    place.write("call.wav", "<!doctype html><title>Sign in</title>", 0o644);
    let ran = place.run(&["inspect", "call.wav"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("a web page (HTML), not audio"), "{ran:?}");
    assert_eq!(place.run(&["inspect", "none.wav"]).code, Some(74));
    assert_eq!(place.run(&["inspect", "storage"]).code, Some(2));
}

#[test]
fn inspect_draws() {
    let place = Place::new();
    assert_eq!(
        place.run(&["inspect", CALL, "--svg", "out.svg"]).code,
        Some(0)
    );
    let svg = place.read("out.svg");
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("channel 1") && svg.contains("channel 2") && svg.contains(">0:22<"));
}

#[test]
fn a_recording_is_added_once_as_it_is() {
    let place = Place::new();
    let first = add(&place, CALL, &["--id", "c1"]);
    assert!(first.out.contains("c1.wav: stored"), "{first:?}");
    assert_eq!(stored(&place, "c1.wav"), std::fs::read(CALL).unwrap());
    let record: Value = serde_json::from_slice(&stored(&place, "c1.json")).unwrap();
    assert_eq!(record["audio"]["duration_ms"], 23_632);
    assert_eq!(record["file"]["sha256"].as_str().unwrap().len(), 64);
    let again = add(&place, CALL, &["--id", "c1"]);
    assert_eq!(
        (again.code, again.out.contains("already there")),
        (Some(0), true),
        "{again:?}"
    );
    assert_eq!(files(&place), ["c1.json", "c1.wav"]);
}

#[test]
fn another_recording_needs_replace() {
    let place = Place::new();
    add(&place, CALL, &["--id", "c1"]).ok();
    let other = CALL.replace("01.wav", "02.wav");
    let refused = add(&place, &other, &["--id", "c1"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("--replace"), "{refused:?}");
    assert_eq!(stored(&place, "c1.wav"), std::fs::read(CALL).unwrap());
    let replaced = add(&place, &other, &["--id", "c1", "--replace"]);
    assert!(replaced.ok().contains("replaced"));
    assert_eq!(stored(&place, "c1.wav"), std::fs::read(&other).unwrap());
}

#[test]
fn what_cannot_be_used_is_not_stored() {
    if !have_makers() {
        return;
    }
    let (place, made) = (Place::new(), Made::new());
    made.sh("sox mono.wav -e gsm-full-rate gsm.wav; sox call.wav call.w64; head -c 44 call.wav > empty.wav; echo no > text.wav");
    for (name, says) in [
        ("gsm.wav", "add --join OTHER-LEG --to flac"),
        ("call.w64", "add --to wav or --to flac"),
        ("empty.wav", "no sound"),
        ("text.wav", "text, not audio"),
    ] {
        let ran = add(&place, made.path(name).to_str().unwrap(), &["--id", "x"]);
        assert_eq!(ran.code, Some(1), "{name}: {ran:?}");
        assert!(ran.err.contains(says), "{name}: {ran:?}");
    }
    assert!(files(&place).is_empty());
}

#[test]
fn a_dry_run_stores_nothing() {
    let place = Place::new();
    let ran = add(
        &place,
        CALL,
        &["--id", "c1", "--to", "flac", "--dry-run", "--json"],
    );
    assert_eq!(ran.json()["path"], format!("{OWNER}/c1.flac"));
    assert!(files(&place).is_empty());
}

#[test]
fn repairs_are_what_sox_makes_of_it() {
    if !have_makers() {
        return;
    }
    let (place, made) = (Place::new(), Made::new());
    made.sh(
        "sox -D call.wav left.wav remix 1; sox -D call.wav right.wav remix 2; \
         sox -D call.wav swapped.wav remix 2 1; sox -D left.wav -e gsm-full-rate left-gsm.wav",
    );
    let path = |name: &str| made.path(name).to_str().unwrap().to_owned();
    add(
        &place,
        &path("left.wav"),
        &["--id", "joined", "--join", &path("right.wav")],
    )
    .ok();
    assert_eq!(stored(&place, "joined.wav"), made.read("call.wav"));
    add(&place, &path("call.wav"), &["--id", "swapped", "--swap"]).ok();
    assert_eq!(stored(&place, "swapped.wav"), made.read("swapped.wav"));
    let outbound = [
        "--id",
        "connect",
        "--source",
        "amazon-connect",
        "--direction",
        "outbound",
    ];
    add(&place, &path("call.wav"), &outbound).ok();
    assert_eq!(stored(&place, "connect.wav"), made.read("swapped.wav"));
    let gsm = [
        "--id",
        "gsm",
        "--join",
        &path("right.wav"),
        "--to",
        "flac",
        "--offset=-250ms",
    ];
    let told = add(&place, &path("left-gsm.wav"), &gsm).ok();
    assert!(
        told.contains("FLAC, 16 bits, 2 channels, 8000 Hz, 0:02.750"),
        "{told}"
    );
}

#[test]
fn what_no_source_states_is_not_guessed() {
    let place = Place::new();
    for (flags, says) in [
        (
            &["--source", "vapi", "--direction", "inbound"][..],
            "does not state",
        ),
        (
            &["--source", "twilio", "--direction", "outbound"],
            "--first-leg",
        ),
        (
            &["--source", "skype", "--direction", "inbound"],
            "known are",
        ),
        (&["--source", "twilio"], "--direction"),
        (&["--join", CALL, "--offset", "soon"], "no duration"),
    ] {
        let ran = add(&place, CALL, &[flags, &["--id", "x"]].concat());
        // A leg of two channels cannot be joined, which is found before its offset is read.
        assert!(matches!(ran.code, Some(1 | 2)), "{ran:?}");
        assert!(ran.err.contains(says), "{ran:?}");
    }
    assert!(files(&place).is_empty());
}

#[test]
fn killed_at_any_moment_it_leaves_a_whole_recording_or_none() {
    const ROUNDS: u32 = 20;
    let place = Place::new();
    let (app, account) = OWNER.split_once('/').unwrap();
    let began = Instant::now();
    add(&place, CALL, &["--id", "whole", "--swap"]).ok();
    let took = began.elapsed();
    let whole = stored(&place, "whole.wav");
    let mut complete = 0;
    for round in 0..ROUNDS {
        let id = format!("k{round}");
        let mut child = place
            .command(&[
                "add",
                CALL,
                "--to",
                "flac",
                "--id",
                &id,
                "--app",
                app,
                "--account",
                account,
            ])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(took * round / ROUNDS);
        child.kill().unwrap();
        child.wait().unwrap();
        let path = place.path("storage").join(OWNER).join(format!("{id}.wav"));
        if let Ok(bytes) = std::fs::read(&path) {
            assert!(bytes == whole, "part of a recording, in round {round}");
            complete += 1;
        }
    }
    assert!(complete < ROUNDS, "none was killed");
    for round in 0..ROUNDS {
        let id = format!("k{round}");
        add(&place, CALL, &["--id", &id, "--swap"]).ok();
        assert!(stored(&place, &format!("{id}.wav")) == whole);
    }
    // A recording and a record each, and nothing else.
    assert_eq!(
        files(&place).len(),
        2 * usize::try_from(ROUNDS + 1).unwrap()
    );
}
