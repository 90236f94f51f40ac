//! http-semantics, row by row, over raw sockets.

use crate::harness::{Server, pattern};

#[test]
fn a_signed_recording_is_served_whole_and_in_parts() {
    let server = Server::start();
    server.put("call.wav", 300_000);
    let target = server.sign("call.wav");
    let full = server.get(&target, &[]);
    assert_eq!((full.status, full.body.len()), (200, 300_000));
    assert_eq!(full.body, pattern(300_000));
    let part = server.get(&target, &["Range: bytes=100000-200000"]);
    assert_eq!(part.status, 206);
    assert_eq!(
        part.field("content-range"),
        Some("bytes 100000-200000/300000")
    );
    assert_eq!(part.body, pattern(300_000)[100_000..=200_000]);
}
