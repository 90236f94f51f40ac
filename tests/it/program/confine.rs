//! What the kernel leaves to a server that has started.

use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::harness::program::{Place, Program};
use crate::harness::skips;

fn state(place: &Place, program: &Program) -> String {
    let admin = program.admin.to_string();
    let ran = place.run(&["status", "--json", "--admin-listen", &admin]);
    let screen: Value = serde_json::from_str(&ran.out).unwrap();
    screen["confined"].as_str().unwrap().to_owned()
}

/// A keyring that lies elsewhere from now on is read by a server that may read everything, and by
/// no other.
#[test]
fn a_server_reads_no_more_than_its_store_and_keys() {
    for (confine, says) in [
        ("auto", "the keyring will not do; the old one stays"),
        ("off", "the keyring was read again"),
    ] {
        let (place, elsewhere) = (Place::new(), Place::new());
        let program = place.serve_with(&[], &[("TONEARM_CONFINE", confine)]);
        let state = state(&place, &program);
        if confine == "auto" && state != "full" && state != "partial" {
            skips("Landlock", "boot a kernel that has it");
            return;
        }
        assert_eq!(state == "off", confine == "off");
        let (ring, there) = (place.path("keyring.toml"), elsewhere.path("keyring.toml"));
        std::fs::rename(&ring, &there).unwrap();
        symlink(&there, &ring).unwrap();
        program.reload();
        let log = program.log();
        assert!(log.contains(says), "{confine}: {log}");
        assert_eq!(
            log.contains("Permission denied"),
            confine == "auto",
            "{log}"
        );
    }
}

/// The directory that a link led to at the start is readable, and another file renamed into place.
#[test]
fn a_linked_keyring_is_read_again() {
    let (place, elsewhere) = (Place::new(), Place::new());
    place.run(&["keys", "init"]).ok();
    let (ring, there) = (place.path("keyring.toml"), elsewhere.path("keyring.toml"));
    std::fs::rename(&ring, &there).unwrap();
    symlink(&there, &ring).unwrap();
    let program = place.serve();
    std::fs::copy(&there, elsewhere.path("new")).unwrap();
    std::fs::rename(elsewhere.path("new"), &there).unwrap();
    program.reload();
    assert!(
        program.log().contains("the keyring was read again"),
        "{program:?}"
    );
}

#[test]
fn confinement_that_is_required_is_there_or_there_is_no_start() {
    let place = Place::new();
    let auto = place.serve();
    let state = state(&place, &auto);
    let required = [("TONEARM_CONFINE", "required")];
    if state == "none" {
        let ran = place.run_with(&["serve"], &required);
        assert_eq!(ran.code, Some(69), "{ran:?}");
    } else {
        place.serve_with(&[], &required);
    }
}
