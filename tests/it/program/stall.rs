//! A server that was held up: by its machine, a debugger, a suspended container.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::program::Place;

/// When it goes on, a connection has been idle for long, and has asked: that it has asked counts.
#[test]
fn who_asked_while_the_server_was_held_up_is_answered_and_stays() {
    let place = Place::new();
    place.put("call.wav", b"0123456789");
    let program = place.serve_with(&["--workers", "1"], &[]);
    let url = place.url("call", &program, &[]);
    let target = program.target(&url);
    for _ in 0..2 {
        let mut client = program.connect();
        assert_eq!(client.get(target, &[]).status, 200);
        // It has been looked at, and has not been idle for long enough to be put aside.
        sleep(Duration::from_millis(350));
        program.signal(Signal::STOP);
        sleep(Duration::from_millis(350));
        for range in ["bytes=0-1", "bytes=2-3", "bytes=4-5"] {
            client.ask("GET", target, &[&format!("Range: {range}")]);
        }
        program.signal(Signal::CONT);
        for body in [b"01", b"23", b"45"] {
            let answer = client.response("GET");
            assert_eq!(answer.body, body);
            assert_eq!(answer.field("connection"), None);
        }
    }
}
