//! What `tonearm scrub` finds in a directory, and what nobody is given then.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::pattern;
use crate::harness::program::{Place, Ran, TONEARM, ask};
use crate::harness::rehearsal::Rehearsal;

const SAMPLE: &str = "storage/app-101/test-account-01/test-call-01.wav";

/// One byte rots: neither length nor time tell.
fn rot(path: &Path) {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn scrub_tells_what_is_not_as_it_was_put() {
    let place = Place::new();
    let sample = format!("{}/{SAMPLE}", env!("CARGO_MANIFEST_DIR"));
    for id in ["a", "b"] {
        let to = ["--app", "app-1", "--account", "acc", "--id", id];
        let added = place.run(&[&["add", &sample][..], &to].concat());
        assert_eq!(added.code, Some(0), "{added:?}");
    }
    place.put("by-hand.wav", &pattern(100));
    let ran = place.run(&["scrub"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.out
            .starts_with("2 as they were put, 1 without a digest, 0 not"),
        "{ran:?}"
    );

    let program = place.serve();
    let url = |id: &str| {
        let base = format!("http://{}", program.public);
        let whose = ["--app", "app-1", "--account", "acc", "--base", &base];
        place.run(&[&["url", id][..], &whose].concat())
    };
    let target = url("b").ok();
    let status = || program.get(target.trim(), &[]).status;
    assert_eq!(status(), 200);

    let path = place.path("storage/app-1/acc/b.wav");
    rot(&path);
    let ran = place.run(&["scrub", "--json", "--dry-run"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(status(), 200, "it was to be let alone");
    let ran = place.run(&["scrub", "--json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.out
            .contains(r#"{"verdict":"rotten","recording":"app-1/acc/b.wav"}"#),
        "{ran:?}"
    );
    assert!(ran.err.contains("tonearm::alarm"), "{ran:?}");

    // From now on nobody gets it, and nobody a URL of it.
    assert_eq!(status(), 500);
    let refused = url("b");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let ids = "b?appId=app-1&externalAccountId=acc";
    let asked = format!("/retrieve/authenticated/recordings/{ids}");
    assert_eq!(ask(program.public, "GET", &asked, &[]).status, 500);
    // Put again, it is not what is there; put in its place, it is served.
    let add = |more: &[&str]| {
        let to = ["--app", "app-1", "--account", "acc", "--id", "b"];
        place.run(&[&["add", &sample][..], &to, more].concat()).code
    };
    assert_eq!(add(&[]), Some(1));
    assert_eq!(add(&["--replace"]), Some(0));
    assert_eq!(status(), 200);
    assert_eq!(place.run(&["scrub"]).code, Some(0));

    // Behind one that was looked at.
    let ran = place.run(&["scrub", "--json", "--after", "app-1/acc/a.wav"]);
    assert_eq!(ran.out.lines().count(), 2, "{ran:?}");
    let ran = place.run(&["scrub", "--after", "app-1/acc/a"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");

    // Written to after it was put, and brought back as it was.
    let put = std::fs::read(&path).unwrap();
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, pattern(10)).unwrap();
    let ran = place.run(&["scrub", "--json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("\"changed\""), "{ran:?}");
    assert_eq!(status(), 500);
    std::fs::write(&path, put).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(modified).unwrap();
    let ran = place.run(&["scrub"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(status(), 200);
}

#[test]
fn what_a_scrub_has_marked_is_not_published_and_the_command_that_is_told_mends_it() {
    const WHOSE: [&str; 4] = ["--app", "12345", "--account", "acc"];
    let place = Place::new();
    place.write("token", "pat-na1-secret\n", 0o600);
    std::fs::copy(SAMPLE, place.path("call.wav")).unwrap();
    let rehearsal = Rehearsal::start(&place, &[]);
    place
        .run(&[&["add", "call.wav", "--id", "call"][..], &WHOSE].concat())
        .ok();
    let hubspot = |args: &[&str]| {
        let mut command = place.command(&["hubspot"]);
        command.args(args).envs([
            ("TONEARM_HUBSPOT_BASE_URL", rehearsal.base()),
            ("TONEARM_HUBSPOT_TOKEN_FILE", "token".to_owned()),
        ]);
        Ran::of(command.output().unwrap())
    };
    rot(&place.path("storage/12345/acc/call.wav"));
    assert_eq!(place.run(&["scrub"]).code, Some(1));
    let mending = "fix: tonearm add FILE --app 12345 --account acc --id call --replace";
    let by_id = [&["publish", "--id", "call"][..], &WHOSE].concat();
    for args in [
        by_id.clone(),
        [&["publish", "call.wav"][..], &WHOSE].concat(),
        [&["publish", "call.wav", "--dry-run"][..], &WHOSE].concat(),
        vec!["publish", "--all-pending"],
        [&["log", "call"][..], &WHOSE].concat(),
        [&["attach", "7", "call"][..], &WHOSE].concat(),
    ] {
        let refused = hubspot(&args);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let said = "12345/acc/call: the recording is not as it was put";
        assert!(refused.err.contains(said), "{refused:?}");
        assert!(refused.err.contains(mending), "{refused:?}");
    }
    assert!(rehearsal.requests().is_empty());
    // Neither a URL nor a clean bill.
    let refused = place.run(&[&["url", "call"][..], &WHOSE].concat());
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    let fix = refused
        .err
        .lines()
        .find_map(|line| line.strip_prefix("fix: "));
    let fix = fix.unwrap();
    let report = place.run(&["doctor", "storage", "--json"]);
    assert_eq!(report.code, Some(1), "{report:?}");
    let checks = report.json()["checks"].clone();
    let checks = checks.as_array().unwrap();
    let check = checks.iter().find(|check| check["check"] == "record");
    assert_eq!(check.unwrap()["fix"], json!(fix), "{report:?}");

    let programs = Path::new(TONEARM).parent().unwrap();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &fix.replace("FILE", "call.wav")]);
    shell.env_clear().env("PATH", programs);
    shell.current_dir(place.path(""));
    Ran::of(shell.output().unwrap()).ok();
    hubspot(&by_id).ok();
    assert_eq!(rehearsal.counts(), [1, 0, 1]);
    place.run(&["doctor", "storage"]).ok();
}
