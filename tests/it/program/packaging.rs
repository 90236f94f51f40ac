//! The systemd unit, and what a service manager is told.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::has_peer;
use crate::harness::program::{Place, TONEARM};

const UNIT: &str = include_str!("../../../deploy/systemd/tonearm.service");
const SOCKET: &str = include_str!("../../../deploy/systemd/tonearm.socket");
/// Most exposure that `systemd-analyze security` may find, in tenths; 100 is a service without any
/// confinement.
const EXPOSURE: &str = "--threshold=20";

#[test]
fn the_unit_is_valid_and_confined() {
    if !has_peer("systemd-analyze", "apt-get install systemd") {
        return;
    }
    let place = Place::new();
    let unit = UNIT.replace("/usr/bin/tonearm", TONEARM);
    place.write("tonearm.service", unit, 0o644);
    place.write("tonearm.socket", SOCKET, 0o644);
    for (check, unit) in [
        (&["verify", "--man=no"][..], "tonearm.service"),
        (&["verify", "--man=no"], "tonearm.socket"),
        (&["security", "--offline=true", EXPOSURE], "tonearm.service"),
    ] {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(check).arg(place.path(unit));
        let ran = analyze.output().unwrap();
        assert!(ran.status.success(), "{check:?}: {ran:?}");
        // A directive it does not know is a warning only.
        assert!(ran.stderr.is_empty(), "{check:?}: {ran:?}");
    }
}

#[test]
fn a_service_manager_is_told_of_start_and_stop() {
    let place = Place::new();
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let path = place.path("notify");
    let told = || {
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count])
            .trim_end()
            .to_owned()
    };
    let mut program = place.serve_with(&[], &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert_eq!(told(), "READY=1");
    assert_eq!(told(), "WATCHDOG=1");
    program.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(program.wait(), 0);
}
