//! deploy/varnish, with Debian's Varnish.

use std::process::Command;

use super::check;
use super::setup::{Edge, Origin, PULLS, deployed, free_port};
use crate::harness::{pattern, skips};

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
    a_far_seek_fetches_no_more_than_it_asks(&edge, &origin);
    check(&edge, origin);
}

/// Varnish itself would fetch the whole recording, and have the seek wait for its place in it.
fn a_far_seek_fetches_no_more_than_it_asks(edge: &Edge, origin: &Origin) {
    let bytes = pattern(24 << 20);
    origin.put("long.wav", &bytes);
    let at = 23_000_000;
    let range = format!("Range: bytes={at}-{}", at + 99);
    let part = edge.get(&origin.url("long", &[]), &[&range]);
    assert_eq!(part.status, 206, "{part:?}");
    assert!(part.body == bytes[at..at + 100], "other bytes");
    let sent = ["complete", "aborted", "failed"].map(|outcome| {
        let name = format!("tonearm_sent_bytes_total{{outcome=\"{outcome}\"}}");
        origin.program.metric(&name)
    });
    assert!(
        (100..1 << 20).contains(&sent.iter().sum::<u64>()),
        "{sent:?}"
    );
    // Once somebody has listened from the start, it is there for all.
    let url = origin.url("long", &[]);
    assert_eq!(edge.get(&url, &["Range: bytes=0-"]).body.len(), bytes.len());
    let before = origin.media_answers();
    assert!(edge.get(&url, &[&range]).body == part.body);
    assert_eq!(origin.media_answers(), before);
}
