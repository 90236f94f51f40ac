//! Connections: kept, pipelined, half-closed, aborted, stopped.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::time::Duration;

use tonearm::server::Settings;

use crate::harness::raw::Client;
use crate::harness::{Server, Setup, pattern};

/// Larger than all the socket buffers between the two ends.
const LARGE: usize = 64 << 20;

fn with_call() -> (Server, String) {
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    (server, target)
}

fn with_settings(settings: Settings) -> Server {
    Server::with(Setup {
        settings,
        ..Setup::default()
    })
}

#[test]
fn a_connection_outlives_every_answer_to_a_well_formed_request() {
    let (server, target) = with_call();
    let absent = server.sign("absent.wav");
    let resolve = "/retrieve/authenticated/recordings/call";
    let long = format!("/{}", "x".repeat(3000));
    let many = format!("X: {}", "y".repeat(17_000));
    let mut client = server.connect();
    for (method, path, field, status) in [
        ("GET", target.as_str(), "X: y", 200),
        ("HEAD", &target, "X: y", 200),
        ("GET", &target, "Range: bytes=5-9", 206),
        ("GET", &target, "Range: bytes=5-9,20-29", 206),
        ("GET", &target, "If-None-Match: *", 304),
        ("HEAD", &target, "If-None-Match: *", 304),
        ("OPTIONS", &target, "X: y", 204),
        ("OPTIONS", "*", "X: y", 204),
        ("GET", resolve, "X: y", 400),
        ("GET", "/media/a/b/c.wav", "X: y", 403),
        ("HEAD", "/media/a/b/c.wav", "X: y", 403),
        ("GET", &absent, "X: y", 404),
        ("GET", "/", "X: y", 404),
        ("POST", &target, "X: y", 405),
        ("POST", &target, "Content-Length: 0", 405),
        ("GET", &target, "If-Match: \"x\"", 412),
        ("HEAD", &target, "If-Match: \"x\"", 412),
        ("GET", &long, "X: y", 414),
        ("GET", &target, "Range: bytes=1000-", 416),
        ("GET", &target, &many, 431),
        ("GET", &target, "Upgrade: h2c", 200),
        (
            "GET",
            &target,
            "Upgrade: websocket\r\nConnection: upgrade",
            200,
        ),
        ("GET", &target, "Expect: 100-continue", 200),
        ("GET", &target, "Connection: keep-alive", 200),
    ] {
        client.ask(method, path, &[field]);
        let response = client.response(method);
        assert_eq!(response.status, status, "{method} {path} {field}");
        assert_ne!(
            response.field("connection"),
            Some("close"),
            "{method} {path}"
        );
        let next = client.get(&target, &[]);
        let expect = (200, pattern(1000));
        assert_eq!(
            (next.status, next.body),
            expect,
            "after {method} {path} {field}"
        );
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (server, target) = with_call();
    server.put("large.wav", 3_000_000);
    let large = server.sign("large.wav");
    let rows = [
        ("GET", large.as_str(), "X: y", 200, 3_000_000),
        ("GET", &target, "Range: bytes=5-9", 206, 5),
        ("HEAD", &large, "X: y", 200, 0),
        ("GET", &target, "If-None-Match: *", 304, 0),
        (
            "GET",
            &large,
            "Range: bytes=1000000-2999999",
            206,
            2_000_000,
        ),
        ("OPTIONS", &target, "X: y", 204, 0),
        ("GET", &target, "X: y", 200, 1000),
        ("GET", &large, "X: y", 200, 3_000_000),
        ("HEAD", &target, "If-Match: \"x\"", 412, 0),
        ("GET", &target, "Range: bytes=0-0", 206, 1),
    ];
    let mut client = server.connect();
    for (method, path, field, _, _) in rows {
        client.ask(method, path, &[field]);
    }
    for (method, path, field, status, length) in rows {
        let response = client.response(method);
        assert_eq!(response.status, status, "{method} {path} {field}");
        assert_eq!(response.body.len(), length, "{method} {path} {field}");
        if status == 200 {
            assert!(response.body == pattern(length), "other bytes: {path}");
        }
    }
    // Many at once, told apart by their ranges.
    for at in 0..200 {
        client.ask("GET", &target, &[&format!("Range: bytes={at}-{}", at + 3)]);
    }
    for at in 0..200 {
        let response = client.response("GET");
        let expect = format!("bytes {at}-{}/1000", at + 3);
        assert_eq!(response.field("content-range"), Some(expect.as_str()));
    }
}

#[test]
fn a_request_may_come_byte_by_byte_or_with_the_next_one_s_head() {
    let (server, target) = with_call();
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-9\r\n\r\n");
    let mut client = server.connect();
    for byte in request.bytes() {
        client.send([byte]);
    }
    let (half, other) = request.split_at(40);
    client.send(format!("{request}{half}"));
    for _ in 0..2 {
        assert_eq!(client.response("GET").body, pattern(10));
    }
    client.send(other);
    assert_eq!(client.response("GET").body, pattern(10));
}

#[test]
fn connection_close_closes() {
    let (server, target) = with_call();
    for value in ["close", "Close", "keep-alive, close", "close, x"] {
        let mut client = server.connect();
        client.ask("GET", &target, &[&format!("Connection: {value}")]);
        client.ask("GET", &target, &[]);
        let response = client.response("GET");
        assert_eq!(
            (response.status, response.body.len()),
            (200, 1000),
            "{value}"
        );
        // RFC 9112 §9.6.
        assert_eq!(response.field("connection"), Some("close"), "{value}");
        assert!(client.is_closed(), "{value}: more than one answer");
    }
}

#[test]
fn http_1_0_closes_unless_it_is_asked_to_stay() {
    let (server, target) = with_call();
    for lines in ["", "Host: a\r\n", "Connection: close\r\n"] {
        let mut client = server.connect();
        client.send(format!("GET {target} HTTP/1.0\r\n{lines}\r\n"));
        let response = client.response("GET");
        assert_eq!(
            (response.status, response.body),
            (200, pattern(1000)),
            "{lines:?}"
        );
        assert!(client.is_closed(), "{lines:?}");
    }
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(format!(
            "GET {target} HTTP/1.0\r\nConnection: Keep-Alive\r\nRange: bytes=0-9\r\n\r\n"
        ));
        let response = client.response("GET");
        assert_eq!(response.body, pattern(10));
        // RFC 9112 §9.3: otherwise the client takes the end of the body for the end of all.
        let kept = response.field("connection").unwrap_or_default();
        assert_eq!(kept.to_ascii_lowercase(), "keep-alive");
    }
}

#[test]
fn http_1_0_is_never_told_to_continue() {
    // RFC 9110 §10.1.1.
    let (server, target) = with_call();
    let mut client = server.connect();
    client.send(format!(
        "GET {target} HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"
    ));
    assert_eq!(client.response("GET").status, 200);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_half_closes_gets_its_answers() {
    let (server, target) = with_call();
    server.put("large.wav", 3_000_000);
    let large = server.sign("large.wav");
    let mut client = server.connect();
    client.ask("GET", &large, &[]);
    client.ask("GET", &target, &[]);
    client.ask("GET", "/", &[]);
    client.half_close();
    let large = client.response("GET");
    assert!(large.body == pattern(3_000_000), "other bytes");
    assert_eq!(client.response("GET").body, pattern(1000));
    assert_eq!(client.response("GET").status, 404);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_says_nothing_is_answered_nothing() {
    let server = Server::start();
    for said in ["", "\r\n", "GET / HT", "P", "PRI * HTTP/2.0\r\n\r\n"] {
        let mut client = server.connect();
        client.send(said);
        client.half_close();
        let rest = String::from_utf8(client.rest()).unwrap();
        assert!(
            rest.is_empty() || rest.starts_with("HTTP/1.1 400 "),
            "{said:?}: {rest}"
        );
    }
}

#[test]
fn absolute_form_is_the_same_request() {
    let (server, target) = with_call();
    let mut client = server.connect();
    for base in [
        "http://rec.test",
        "HTTP://rec.test:80",
        "https://[::1]:8443",
        "http://a",
    ] {
        client.ask("GET", &format!("{base}{target}"), &["Range: bytes=1-3"]);
        let response = client.response("GET");
        assert_eq!(
            (response.status, response.body),
            (206, vec![1, 2, 3]),
            "{base}"
        );
    }
    assert_eq!(client.get("http://rec.test", &[]).status, 404);
}

#[test]
fn content_is_read_away_before_the_next_request() {
    let (server, target) = with_call();
    let mut client = server.connect();
    for length in [1, 5_000, 60_000] {
        let content = "x".repeat(length);
        client.ask("POST", &target, &[&format!("Content-Length: {length}")]);
        client.send(&content);
        assert_eq!(client.response("POST").status, 405, "{length}");
        assert_eq!(
            client.get(&target, &["Range: bytes=0-9"]).status,
            206,
            "{length}"
        );
    }
    let mut client = server.connect();
    client.ask("POST", &target, &["Transfer-Encoding: chunked"]);
    client.send("5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n");
    assert_eq!(client.response("POST").status, 405);
    assert_eq!(client.get(&target, &["Range: bytes=0-9"]).status, 206);
}

#[test]
fn nobody_is_told_to_continue_with_content_nobody_wants() {
    // RFC 9110 §10.1.1: a final status, and then either way of going on.
    let (server, target) = with_call();
    let mut client = server.connect();
    client.ask(
        "POST",
        &target,
        &["Content-Length: 5", "Expect: 100-continue"],
    );
    let response = client.response("POST");
    assert_eq!(response.status, 405);
    assert_eq!(response.field("connection"), Some("close"), "{response:?}");
    client.ask("GET", &target, &[]);
    assert!(client.is_closed(), "content taken for a request");
}

#[test]
fn content_that_does_not_come_is_not_waited_for() {
    let (server, target) = with_call();
    let mut client = server.connect();
    client.ask("POST", &target, &["Content-Length: 5"]);
    let response = client.response("POST");
    assert_eq!(response.status, 405);
    assert_eq!(response.field("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn a_client_that_goes_away_concerns_nobody_else() {
    let server = Server::start();
    server.put("large.wav", LARGE);
    server.put("call.wav", 1000);
    let (large, target) = (server.sign("large.wav"), server.sign("call.wav"));
    let mut patient = server.connect();
    for count in 1..=3 {
        let mut client = server.connect();
        client.ask("GET", &large, &[]);
        assert_eq!(client.head().status, 200);
        client.exactly(100_000);
        drop(client);
        server.wait_for_metric(&format!(
            "tonearm_bodies_total{{outcome=\"aborted\"}} {count}"
        ));
        assert_eq!(patient.get(&target, &[]).body, pattern(1000));
    }
}

#[test]
fn a_slow_reader_gets_every_byte_and_holds_nobody_up() {
    let server = Server::start();
    server.put("large.wav", LARGE);
    server.put("call.wav", 1000);
    let (large, target) = (server.sign("large.wav"), server.sign("call.wav"));
    let mut slow = server.connect();
    slow.ask("GET", &large, &[]);
    assert_eq!(slow.head().field("content-length"), Some("67108864"));
    let mut read = 0;
    // After each gulp others are served while this one waits.
    while read < LARGE {
        let gulp = (LARGE - read).min(4 << 20);
        let bytes = slow.exactly(gulp);
        let phase = read % 251;
        assert!(
            bytes == pattern(phase + gulp)[phase..],
            "other bytes past {read}"
        );
        read += gulp;
        assert_eq!(server.get(&target, &[]).status, 200);
    }
    slow.ask("GET", &target, &[]);
    assert_eq!(slow.response("GET").body, pattern(1000));
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    let server = with_settings(Settings {
        header_timeout: Duration::from_millis(600),
        ..Settings::default()
    });
    let heads = [
        "",
        "P",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "PRI * HTTP/2.0\r\n",
    ];
    let waiting = heads.map(|said| {
        let mut client = server.connect();
        client.send(said);
        (said, client)
    });
    for (said, mut client) in waiting {
        let rest = client.rest();
        let text = String::from_utf8_lossy(&rest);
        let timed_out = rest.is_empty() || text.starts_with("HTTP/1.1 408 ");
        assert!(timed_out, "{said:?}: {text}");
    }
}

#[test]
fn a_head_that_trickles_in_ends_the_connection() {
    let server = with_settings(Settings {
        header_timeout: Duration::from_millis(300),
        ..Settings::default()
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    let brief = Some(Duration::from_millis(20));
    client.stream.set_read_timeout(brief).unwrap();
    let mut buffer = [0; 512];
    for _ in 0..500 {
        client.send("y");
        match client.stream.read(&mut buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => return,
        }
    }
    panic!("ten seconds of trickling, and still open");
}

#[test]
fn a_header_time_out_does_not_end_a_response() {
    let server = with_settings(Settings {
        header_timeout: Duration::from_millis(500),
        ..Settings::default()
    });
    server.put("large.wav", LARGE);
    let target = server.sign("large.wav");
    let mut client = server.connect();
    client.ask("GET", &target, &[]);
    assert_eq!(client.head().status, 200);
    let mut read = 0;
    while read < LARGE {
        let gulp = (LARGE - read).min(16 << 20);
        client.exactly(gulp);
        read += gulp;
        std::thread::sleep(Duration::from_millis(300));
    }
    server.wait_for_metric("tonearm_bodies_total{outcome=\"complete\"} 1");
}

fn is_refused(server: &Server) -> bool {
    match TcpStream::connect(server.addr) {
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
        Ok(_) => false,
    }
}

#[test]
fn a_stop_closes_idle_connections() {
    let (server, target) = with_call();
    let mut idle = server.connect();
    assert_eq!(idle.get(&target, &[]).status, 200);
    let mut silent = server.connect();
    // An answer after the silent one's accept, so that it has been accepted too.
    assert_eq!(server.get(&target, &[]).status, 200);
    server.begin_stop();
    assert!(idle.is_closed());
    assert!(silent.is_closed());
    drop((idle, silent));
    assert_eq!(server.stop().cut, 0);
}

#[test]
fn a_stop_lets_running_responses_finish() {
    let server = Server::start();
    server.put("large.wav", LARGE);
    let target = server.sign("large.wav");
    let mut client = server.connect();
    client.ask("GET", &target, &[]);
    assert_eq!(client.head().status, 200);
    server.begin_stop();
    while !is_refused(&server) {
        std::thread::yield_now();
    }
    assert!(client.exactly(LARGE) == pattern(LARGE), "other bytes");
    assert!(client.is_closed(), "a stopped server keeps a connection");
    drop(client);
    assert_eq!(server.stop().cut, 0);
}

#[test]
fn the_deadline_cuts_who_is_stuck() {
    let server = with_settings(Settings {
        drain: Duration::from_millis(200),
        ..Settings::default()
    });
    server.put("large.wav", LARGE);
    let target = server.sign("large.wav");
    let mut stuck: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    for client in &mut stuck {
        client.ask("GET", &target, &[]);
        assert_eq!(client.head().status, 200);
    }
    let metrics = std::sync::Arc::clone(&server.metrics);
    assert_eq!(server.stop().cut, 2);
    let exposition = metrics.exposition();
    assert!(
        exposition.contains("tonearm_bodies_total{outcome=\"aborted\"} 2"),
        "{exposition}"
    );
    for client in &mut stuck {
        assert!(client.rest().len() < LARGE, "a cut response is whole");
    }
}

#[test]
fn many_connections_at_once() {
    let server = Server::start();
    server.put("call.wav", 200_000);
    let target = server.sign("call.wav");
    let mut clients: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.ask(
            "GET",
            &target,
            &[&format!("Range: bytes={at}-{}", at + 99_999)],
        );
    }
    let whole = pattern(200_000);
    for (at, client) in clients.iter_mut().enumerate() {
        let response = client.response("GET");
        assert_eq!(response.status, 206, "{at}");
        assert!(
            response.body == whole[at..at + 100_000],
            "other bytes: {at}"
        );
    }
}
