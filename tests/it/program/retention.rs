//! What goes by its age, what is held, and what is left of either.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::program::Place;
use crate::harness::{OWNER, pattern};

const DAY: Duration = Duration::from_hours(24);

fn put(place: &Place, name: &str, days: u32) {
    place.put(name, &pattern(1000));
    let path = place.path("storage").join(OWNER).join(name);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - DAY * days).unwrap();
}

fn there(place: &Place, name: &str) -> bool {
    place.path("storage").join(OWNER).join(name).exists()
}

fn hold(place: &Place, flags: &[&str]) -> crate::harness::program::Ran {
    let (app, account) = OWNER.split_once('/').unwrap();
    place.run(&[&["hold", "--app", app, "--account", account], flags].concat())
}

/// One audit line says what was done to the hold, and by whom.
fn is_audited(ran: &crate::harness::program::Ran, done: &str) {
    let lines: Vec<_> = ran.err.lines().collect();
    let says = |part: &str| lines.len() == 1 && lines[0].contains(part);
    let recording = format!("recording={OWNER}/held");
    for part in ["audit", "who=\"tonearm hold\"", &recording, done] {
        assert!(says(part), "{part}: {ran:?}");
    }
}

fn rows(out: &str) -> Vec<(String, String)> {
    let mut rows: Vec<_> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            (text("recording"), text("outcome"))
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn the_old_are_erased_the_held_and_the_young_are_not() {
    let place = Place::new();
    put(&place, "old.wav", 91);
    put(&place, "old-too.mp3", 400);
    put(&place, "held.wav", 91);
    put(&place, "young.wav", 89);
    std::fs::write(place.path("storage/readme.txt"), "no directory").unwrap();
    let held = hold(&place, &["held"]);
    assert_eq!(held.out, format!("held {OWNER}/held\n"));
    is_audited(&held, "held");
    let missing = hold(&place, &["held", "missing"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");

    let id = |name: &str| format!("{OWNER}/{name}");
    let dry = place.run(&["expire", "--older-than", "90d", "--dry-run", "--json"]);
    let expect = [
        (id("held"), "held".to_owned()),
        (id("old"), "would erase".to_owned()),
        (id("old-too"), "would erase".to_owned()),
    ];
    assert_eq!(rows(&dry.ok()), expect);
    assert!(there(&place, "old.wav"));

    let program = place.serve();
    let url = place.url("old", &program, &[]);
    assert_eq!(program.get(&url, &[]).status, 200);
    let ran = place.run(&["expire", "--older-than", "90d", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let expect = expect.map(|(id, outcome)| (id, outcome.replace("would erase", "erased")));
    assert_eq!(rows(&ran.out), expect);
    // A line of audit for each: who, what, why, and of which bytes.
    let lines: Vec<_> = ran
        .err
        .lines()
        .filter(|line| line.contains("audit"))
        .collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    for part in ["tonearm expire", "older than 90d", "bytes=1000", "sha256="] {
        assert!(lines.iter().all(|line| line.contains(part)), "{lines:?}");
    }
    assert!(!there(&place, "old.wav") && !there(&place, "old-too.mp3"));
    assert!(there(&place, "held.wav") && there(&place, "young.wav"));
    assert_eq!(program.get(&url, &[]).status, 410);

    // Again, there is nothing left to do; released, the held one goes.
    let again = place.run(&["expire", "--older-than", "90d"]).ok();
    assert_eq!(again, format!("held {OWNER}/held.wav, 1000 bytes\n"));
    is_audited(&hold(&place, &["held", "--release"]), "released");
    let last = place.run(&["expire", "--older-than", "90d"]);
    assert_eq!(last.out, format!("erased {OWNER}/held.wav, 1000 bytes\n"));
    assert_eq!(place.run(&["expire", "--older-than", "soon"]).code, Some(2));
}
