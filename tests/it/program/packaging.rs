//! The systemd unit, and what a service manager is told.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
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

/// What `deploy/debian/build` packs is there or made by it, and where the unit looks for it.
#[test]
fn the_package_has_what_the_unit_wants() {
    let manifest: toml::Table = include_str!("../../../Cargo.toml").parse().unwrap();
    let build = include_str!("../../../deploy/debian/build");
    let deb = &manifest["package"]["metadata"]["deb"];
    let mut installed = Vec::new();
    for asset in deb["assets"].as_array().unwrap() {
        let [source, place, _] = &asset.as_array().unwrap()[..] else {
            panic!("{asset}");
        };
        let source = Path::new(source.as_str().unwrap());
        let made = [
            "target/package",
            "target/package/man",
            "target/package/completions",
        ];
        let directory = source.parent().unwrap().to_str().unwrap();
        if made.contains(&directory) {
            let made = if directory == "target/package" {
                source.to_str().unwrap()
            } else {
                directory
            };
            assert!(build.contains(made), "{made}");
        } else {
            assert!(source.is_file(), "{source:?}");
        }
        let name = source.file_name().unwrap().to_str().unwrap();
        installed.push(format!("/{}{name}", place.as_str().unwrap()));
    }
    // The units are there for those who want them, and nobody enables or starts them for them.
    let units = &deb["systemd-units"];
    let directory = Path::new(units["unit-scripts"].as_str().unwrap());
    for unit in ["tonearm.service", "tonearm.socket"] {
        assert!(directory.join(unit).is_file(), "{unit}");
    }
    for asked in ["enable", "start", "stop-on-upgrade"] {
        assert_eq!(units[asked].as_bool(), Some(false), "{asked}");
    }
    for wanted in ["/usr/bin/tonearm", "/etc/tonearm/tonearm.toml"] {
        assert!(UNIT.contains(wanted), "{wanted}");
        assert!(installed.contains(&wanted.to_owned()), "{installed:?}");
    }
    // What the file suggests will do.
    let place = Place::new();
    let example = include_str!("../../../deploy/debian/tonearm.toml");
    let taken: String = example
        .lines()
        .filter_map(|line| line.strip_prefix("# ").filter(|line| line.contains(" = ")))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(taken.lines().count(), 2);
    place.write("tonearm.toml", taken, 0o644);
    place.run(&["config", "check"]).ok();
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
