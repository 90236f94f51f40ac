//! The keyring's life, in its file and in a running server.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::program::{Place, Program, TONEARM, past_trust};
use crate::harness::{OWNER, pattern};

const FAILED: &str = "tonearm_keyring_reloads_total{outcome=\"failed\"}";
const OK: &str = "tonearm_keyring_reloads_total{outcome=\"ok\"}";

fn served() -> (Place, Program) {
    let place = Place::new();
    place.put("call.wav", &pattern(1000));
    let program = place.serve();
    (place, program)
}

/// The URL that HubSpot would get.
fn resolved(program: &Program) -> String {
    let (app, account) = OWNER.split_once('/').unwrap();
    let target =
        format!("/retrieve/authenticated/recordings/call?appId={app}&externalAccountId={account}");
    let answer: Value = serde_json::from_str(&program.get(&target, &[]).text()).unwrap();
    answer["authenticatedUrl"].as_str().unwrap().to_owned()
}

fn kid(url: &str) -> &str {
    url.split("?sig=1.")
        .nth(1)
        .unwrap()
        .split('.')
        .next()
        .unwrap()
}

/// The keys' ids and states.
fn states(place: &Place) -> Vec<(String, String)> {
    let listed = place.run(&["keys", "list", "--json"]).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = listed.as_array().unwrap().iter();
    rows.map(|row| (text(&row["kid"]), text(&row["state"])))
        .collect()
}

#[test]
fn a_rotated_keyring_is_taken_at_sighup() {
    let (place, program) = served();
    let old = resolved(&program);
    place.run(&["keys", "rotate", "--after", "0s"]).ok();
    assert_eq!(
        kid(&resolved(&program)),
        kid(&old),
        "taken before it was asked for"
    );
    program.reload();
    let new = resolved(&program);
    assert_ne!(kid(&new), kid(&old));
    for url in [&old, &new] {
        assert_eq!(program.get(url, &[]).status, 200, "{url}");
    }
    assert_eq!((program.metric(OK), program.metric(FAILED)), (1, 0));

    place.run(&["keys", "revoke", kid(&old)]).ok();
    program.reload();
    let refused = program.get(&old, &[]);
    assert_eq!(refused.status, 403);
    assert!(!refused.text().contains("key"), "{}", refused.text());
    assert_eq!(program.get(&new, &[]).status, 200);
    program.wait_log("unknown_key", 1);
}

#[test]
fn a_bad_keyring_leaves_the_old_one_in_place() {
    let (place, program) = served();
    let url = resolved(&program);
    let good = place.read("keyring.toml");
    let bad = [
        ("broken", good.replace("[[key]]", "[[key]"), 0o600, "TOML"),
        ("empty", String::new(), 0o600, "no key"),
        ("open to all", good.clone(), 0o644, "chmod 600"),
    ];
    for (at, (name, text, mode, says)) in (1..).zip(&bad) {
        place.write("keyring.toml", text, *mode);
        program.reload();
        let log = program.wait_log("the old one stays", usize::try_from(at).unwrap());
        assert!(log.contains(says), "{name}: {log}");
        assert_eq!(program.metric(FAILED), at, "{name}");
        assert_eq!(program.get(&url, &[]).status, 200, "{name}");
        assert_eq!(kid(&resolved(&program)), kid(&url), "{name}");
    }
    std::fs::remove_file(place.path("keyring.toml")).unwrap();
    program.reload();
    assert_eq!(program.get(&url, &[]).status, 200);
    assert!(!place.path("keyring.toml").exists());

    place.write("keyring.toml", &good, 0o600);
    program.reload();
    assert_eq!((program.metric(OK), program.metric(FAILED)), (1, 4));
    for secret in place.secrets() {
        assert!(!program.log().contains(&secret), "{program:?}");
    }
}

#[test]
fn a_revoked_url_is_refused_after_sighup() {
    let (place, program) = served();
    let url = place.url("call", &program, &["--revocable"]);
    let other = place.url("call", &program, &["--revocable"]);
    let explained = place.run(&["explain", "--json", &url]).json();
    let id = explained["token"]["token_id"].as_str().unwrap();
    assert_eq!(program.get(&url, &[]).status, 200);
    let said = place.run(&["keys", "revoke", "--url-id", id]).ok();
    assert!(said.contains(id), "{said}");
    program.reload();
    let refused = program.get(&url, &[]);
    let problem: Value = serde_json::from_str(&refused.text()).unwrap();
    assert_eq!(
        (refused.status, &problem["error"]),
        (403, &json!("revoked"))
    );
    assert_eq!(program.get(&other, &[]).status, 200);
    let again = place.run(&["explain", "--json", &url]);
    assert_eq!(
        (again.code, &again.json()["verdict"]),
        (Some(1), &json!("revoked"))
    );
}

#[test]
fn sighup_is_no_stop() {
    let (_place, mut program) = served();
    for _ in 0..20 {
        program.signal(Signal::HUP);
    }
    program.wait_log("the keyring was read again", 1);
    assert_eq!(program.get(&resolved(&program), &[]).status, 200);
    program.signal(Signal::TERM);
    assert_eq!(program.wait(), 0);
}

#[test]
fn init_list_rotate_revoke() {
    let place = Place::new();
    let missing = place.run(&["keys", "list"]);
    assert_eq!(missing.code, Some(78));
    assert!(missing.err.contains("tonearm keys init"), "{missing:?}");

    let made = place.run(&["keys", "init"]).ok();
    let [(first, state)] = &states(&place)[..] else {
        panic!("{made}");
    };
    assert_eq!(made, format!("made keyring.toml with key {first}\n"));
    assert_eq!(state, "signs");
    let ring = place.read("keyring.toml");
    let again = place.run(&["keys", "init"]);
    assert_eq!((again.code, again.out.as_str()), (Some(74), ""));
    assert!(again.err.contains("keyring.toml"), "{again:?}");
    assert_eq!(place.read("keyring.toml"), ring);

    let dry = place.run(&["keys", "rotate", "--dry-run"]).ok();
    assert!(dry.lines().count() == 2, "{dry}");
    assert!(
        dry.lines().all(|line| line.starts_with("would do: ")),
        "{dry}"
    );
    assert_eq!(place.read("keyring.toml"), ring);

    let rotated = place.run(&["keys", "rotate"]).ok();
    assert!(
        rotated.contains("verifies at once") && rotated.contains("kill -HUP"),
        "{rotated}"
    );
    let [(_, old), (second, new)] = &states(&place)[..] else {
        panic!("{rotated}");
    };
    assert_eq!((old.as_str(), new.as_str()), ("signs", "verifies"));
    let listed = place.run(&["keys", "list"]).ok();
    for text in [
        first,
        second,
        "signs until",
        "signs from",
        "verifies until",
        "origin",
    ] {
        assert!(listed.contains(text), "{text} in {listed}");
    }
    for secret in place.secrets() {
        for text in [&made, &dry, &rotated, &listed] {
            assert!(!text.contains(&secret), "{text}");
        }
    }

    let ring = place.read("keyring.toml");
    let no_id = "0123456789abcde";
    for (args, code, says) in [
        (&["revoke", "k0"][..], 1, "no key \"k0\""),
        (&["revoke", first], 1, "tonearm keys rotate --after 0s"),
        (&["revoke"], 2, "--url-id"),
        (
            &["revoke", first, "--url-id", "AAECAwQFBgcICQoL"],
            2,
            "--url-id",
        ),
        (&["revoke", "--url-id", no_id], 2, "--url-id"),
        (&["rotate", "--after", "soon"], 2, "--after"),
        (&["rotate", "--keyring", "none.toml"], 78, "none.toml"),
        (&["init", "--json"], 2, "--json"),
    ] {
        let ran = place.run(&[&["keys"], args].concat());
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (Some(code), ""),
            "{args:?}: {ran:?}"
        );
        assert!(ran.err.contains(says), "{args:?}: {ran:?}");
    }
    for dry in [
        &["rotate", "--after", "0s"][..],
        &["revoke", second],
        &["revoke", "--url-id", "AAECAwQFBgcICQoL"],
        &["revoke", "--url-id", "-AECAwQFBgcICQoL"],
    ] {
        let said = place.run(&[&["keys"], dry, &["--dry-run"]].concat()).ok();
        assert!(said.starts_with("would do: "), "{dry:?}: {said}");
    }
    assert_eq!(place.read("keyring.toml"), ring);
    place.run(&["keys", "revoke", second]).ok();
    assert_eq!(states(&place), [(first.clone(), "signs".to_owned())]);
}

#[test]
fn a_change_goes_where_the_file_is() {
    let place = Place::new();
    std::fs::create_dir(place.path("secrets")).unwrap();
    let kept = ["keys", "init", "--keyring", "secrets/ring.toml"];
    place.run(&kept).ok();
    symlink("secrets/ring.toml", place.path("keyring.toml")).unwrap();
    place.run(&["keys", "rotate"]).ok();
    let link = place.path("keyring.toml").symlink_metadata().unwrap();
    assert!(link.is_symlink());
    assert_eq!(
        place.read("secrets/ring.toml").matches("[[key]]").count(),
        2
    );
}

#[test]
fn another_change_under_way_is_named() {
    let place = Place::new();
    place.run(&["keys", "init"]).ok();
    let ring = place.read("keyring.toml");
    place.write("keyring.toml.new", "", 0o600);
    let ran = place.run(&["keys", "rotate"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(74), ""), "{ran:?}");
    assert!(ran.err.contains("keyring.toml.new: "), "{}", ran.err);
    assert_eq!(place.read("keyring.toml"), ring);
    assert_eq!(place.read("keyring.toml.new"), "");
}

#[test]
fn every_url_of_a_recording_ends_with_its_generation() {
    let (place, program) = served();
    let record = place.path("storage").join(OWNER).join("call.json");
    let first = place.url("call", &program, &[]);
    assert_eq!(program.get(&first, &[]).status, 200);
    std::fs::write(&record, "{\"generation\": 3}").unwrap();
    past_trust();
    let second = place.url("call", &program, &[]);
    assert!(second.contains(".g3."), "{second}");
    assert!(resolved(&program).contains(".g3."));
    for (url, status) in [(&first, 403), (&second, 200)] {
        assert_eq!(program.get(url, &[]).status, status, "{url}");
    }
    std::fs::write(&record, "{\"generation\": 4}").unwrap();
    past_trust();
    assert_eq!(program.get(&second, &[]).status, 403);
    let explained = place.run(&["explain", &second, "--generation", "4"]);
    assert!(explained.out.contains("revoked"), "{explained:?}");
}

/// What `keys revoke` advises has to work while an earlier rotation is still to come.
#[test]
fn a_rotation_overtakes_one_that_is_to_come() {
    let place = Place::new();
    place.run(&["keys", "init"]).ok();
    let (first, _) = states(&place).remove(0);
    place.run(&["keys", "rotate", "--after", "1h"]).ok();
    let refused = place.run(&["keys", "revoke", &first]);
    assert!(
        refused.err.contains("keys rotate --after 0s"),
        "{refused:?}"
    );
    for (after, signing) in [("0s", 2), ("0s", 2), ("1h", 2), ("1h", 2)] {
        place.run(&["keys", "rotate", "--after", after]).ok();
        let signs = |(_, state): &(String, String)| state == "signs";
        let at = states(&place).iter().position(signs);
        assert!(at >= Some(signing), "{after}: {:?}", states(&place));
    }
    place.run(&["keys", "revoke", &first]).ok();
}

#[test]
fn changes_at_once_lose_no_key() {
    let place = Place::new();
    place.run(&["keys", "init"]).ok();
    let ran: Vec<_> = std::thread::scope(|scope| {
        let rotate = || place.run(&["keys", "rotate", "--after", "1h"]);
        let rotations: Vec<_> = (0..12).map(|_| scope.spawn(rotate)).collect();
        let ended = rotations.into_iter().map(|one| one.join().unwrap());
        ended.collect()
    });
    let done = ran.iter().filter(|ran| ran.code == Some(0)).count();
    assert!(done >= 1, "{ran:?}");
    assert_eq!(states(&place).len(), 1 + done, "{ran:?}");
    assert!(!place.path("keyring.toml.new").exists());
}

#[test]
fn a_change_keeps_the_files_mode_under_any_umask() {
    let place = Place::new();
    place.run(&["keys", "init"]).ok();
    place.write("keyring.toml", place.read("keyring.toml"), 0o640);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "umask 077; exec \"$0\" keys rotate", TONEARM]);
    let status = command.env_clear().current_dir(place.path(".")).status();
    assert!(status.unwrap().success());
    let metadata = place.path("keyring.toml").metadata().unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
}
