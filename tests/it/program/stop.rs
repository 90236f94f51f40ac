//! How a server stops: nobody is cut off before the deadline, and then everybody is.

use std::io::ErrorKind;
use std::net::TcpStream;

use rustix::process::Signal;

use crate::harness::program::{Place, Program, ask, poll};
use crate::harness::raw::Client;

/// More than the buffers between a server and a client that does not read can hold.
const BIG: usize = 32 << 20;

fn big() -> Vec<u8> {
    let block: Vec<u8> = (0..=250).collect();
    let mut bytes = block.repeat(BIG / block.len() + 1);
    bytes.truncate(BIG);
    bytes
}

/// A server with a big recording, and a client in the middle of it.
fn in_mid_body(environment: &[(&str, &str)]) -> (Place, Program, Client) {
    let place = Place::new();
    place.put("big.wav", &big());
    let program = place.serve_with(&["--workers", "2"], environment);
    let url = place.url("big", &program, &[]);
    let mut client = program.connect();
    client.ask("GET", program.target(&url), &[]);
    assert_eq!(client.head().status, 200);
    (place, program, client)
}

#[test]
fn a_stop_lets_running_responses_finish_and_takes_no_more() {
    for signal in [Signal::TERM, Signal::INT] {
        let (_place, mut program, mut client) = in_mid_body(&[]);
        let mut idle = program.connect();
        idle.ask("OPTIONS", "*", &[]);
        assert_eq!(idle.response("OPTIONS").status, 204);
        let mut silent = program.connect();
        assert_eq!(ask(program.admin, "GET", "/readyz", &[]).status, 200);

        program.signal(signal);
        assert!(idle.is_closed());
        assert!(silent.is_closed());
        // The server waits a while for its clients to close too.
        drop((idle, silent));
        let error = poll("connections are refused", || {
            TcpStream::connect(program.public).err()
        });
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let mut admin = Client::connect(program.admin);
        admin.ask("GET", "/readyz", &[]);
        assert_eq!(admin.head().status, 503);
        assert_eq!(admin.exactly("stopping\n".len()), b"stopping\n");
        assert_eq!(ask(program.admin, "GET", "/healthz", &[]).status, 200);

        assert!(client.exactly(BIG) == big(), "{signal:?}: other bytes");
        assert!(client.is_closed());
        drop(client);
        assert_eq!(program.wait(), 0, "{program:?}");
        let log = program.log();
        assert!(log.contains("stopped") && !log.contains("cut"), "{log}");
    }
}

/// The figure of a release build is in docs/operations.md.
#[test]
fn a_hundred_downloads_that_are_under_way_come_to_their_end() {
    const DOWNLOADS: usize = 100;
    let place = Place::new();
    let bytes = &big()[..4 << 20];
    place.put("call.wav", bytes);
    let mut program = place.serve_with(&["--workers", "2"], &[]);
    let url = place.url("call", &program, &[]);
    let begin = |_| {
        let mut client = program.connect();
        client.set_receive_buffer(64 * 1024);
        client.ask("GET", program.target(&url), &[]);
        assert_eq!(client.head().status, 200);
        client
    };
    let clients: Vec<_> = (0..DOWNLOADS).map(begin).collect();
    program.signal(Signal::TERM);
    program.wait_log("stopping", 1);
    poll("connections are refused", || {
        TcpStream::connect(program.public).err()
    });
    std::thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || assert!(client.exactly(bytes.len()) == bytes, "other bytes"));
        }
    });
    assert_eq!(program.wait(), 0, "{program:?}");
    let whole = "outcome=\"complete\"";
    assert_eq!(program.log().matches(whole).count(), DOWNLOADS);
}

#[test]
fn the_drain_deadline_ends_a_client_that_does_not_read() {
    let (_place, mut program, client) = in_mid_body(&[("TONEARM_LIMITS_DRAIN", "300ms")]);
    program.signal(Signal::TERM);
    assert_eq!(program.wait(), 75, "{program:?}");
    let log = program.log();
    assert!(log.contains("were cut cut=1"), "{log}");
    assert!(log.contains("outcome=\"aborted\""), "{log}");
    drop(client);
}

#[test]
fn a_second_signal_ends_the_wait() {
    let (_place, mut program, client) = in_mid_body(&[("TONEARM_LIMITS_DRAIN", "10m")]);
    program.signal(Signal::TERM);
    program.wait_log("stopping", 1);
    // This one asks for no stop.
    program.signal(Signal::HUP);
    program.signal(Signal::INT);
    assert_eq!(program.wait(), 69, "{program:?}");
    let log = program.log();
    let last = log.lines().last().unwrap();
    assert!(
        last.starts_with("tonearm: stopped by a second signal"),
        "{log}"
    );
    drop(client);
}

#[test]
fn a_stop_right_after_the_start_is_a_stop() {
    let place = Place::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut program = place.serve();
        program.signal(signal);
        assert_eq!(program.wait(), 0, "{program:?}");
    }
}
