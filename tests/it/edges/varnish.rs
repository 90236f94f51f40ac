//! deploy/varnish, with Debian's Varnish.

use std::process::Command;

use super::check;
use super::setup::{Edge, Origin, PULLS, deployed, free_port};
use crate::harness::skips;

fn start(origin: &Origin) -> Edge {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let backend = format!(".port = \"{}\";", origin.program.public.port());
    let places = [(".port = \"8080\";", &*backend), ("SECRET", PULLS)];
    std::fs::write(
        dir.path().join("tonearm.vcl"),
        deployed("varnish/tonearm.vcl", &places),
    )
    .unwrap();
    let mut command = Command::new("varnishd");
    command.arg("-F").arg("-n").arg(dir.path().join("work"));
    command.arg("-f").arg(dir.path().join("tonearm.vcl"));
    command.args([
        "-a",
        &format!("127.0.0.1:{port}"),
        "-s",
        "malloc,256m",
        "-j",
        "none",
    ]);
    Edge::start(command, port, dir)
}

#[test]
fn varnish_asks_for_verdicts_and_keeps_recordings() {
    let found = Command::new("varnishd").arg("-V").output().is_ok();
    if !(found || skips("varnishd", "apt-get install varnish")) {
        return;
    }
    let origin = Origin::start();
    let edge = start(&origin);
    check(&edge, origin);
}
