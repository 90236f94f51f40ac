//! Messages that could be read in two ways (RFC 9112), and heads that are too large.
//!
//! Behind each stands a second request. It may be answered only where the first has one reading
//! and one end.

use crate::harness::raw::Response;
use crate::harness::{Server, pattern};

/// All answers to `bytes` from a client that then says no more.
fn answers(server: &Server, bytes: impl AsRef<[u8]>) -> Vec<Response> {
    let mut client = server.connect();
    client.send(bytes);
    client.half_close();
    client.responses()
}

fn statuses(responses: &[Response]) -> Vec<u16> {
    responses.iter().map(|response| response.status).collect()
}

fn with_call() -> (Server, String) {
    let server = Server::start();
    server.put("call.wav", 100);
    let target = server.sign("call.wav");
    (server, target)
}

/// Checks that a message gets one 400 that ends the connection, whatever stands behind it.
fn check_refused(server: &Server, target: &str, message: &[u8], what: &str) {
    let smuggled = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let responses = answers(server, [message, smuggled.as_bytes()].concat());
    assert_eq!(statuses(&responses), [400], "{what}");
    let closing = responses[0].field("connection");
    assert_eq!(closing, Some("close"), "{what}");
}

/// Checks `GET` with these lines instead of its own Host.
fn check_lines_refused(rows: &[(&str, &str)]) {
    let (server, target) = with_call();
    for (what, lines) in rows {
        let message = format!("GET {target} HTTP/1.1\r\n{lines}\r\n\r\n");
        check_refused(&server, &target, message.as_bytes(), what);
    }
}

#[test]
fn a_request_has_one_host() {
    // RFC 9112 §3.2.
    check_lines_refused(&[
        ("none", "X: y"),
        ("two", "Host: a\r\nHost: b"),
        ("the same twice", "Host: a\r\nHost: a"),
        ("twice, in capitals", "Host: a\r\nHOST: a"),
        ("empty", "Host:"),
        ("blank", "Host:  "),
        ("a list", "Host: a, b"),
        ("two words", "Host: a b"),
        ("a path", "Host: a/b"),
        ("a URL", "Host: http://a"),
        ("a user", "Host: u@a"),
        ("a query", "Host: a?b"),
        ("a fragment", "Host: a#b"),
        ("a port that is none", "Host: a:b"),
        ("a port and more", "Host: a:80b"),
        ("two ports", "Host: a:80:80"),
        ("a signed port", "Host: a:+80"),
        ("a port behind brackets that is none", "Host: [::1]b"),
        ("no name", "Host: :80"),
        ("a bracket", "Host: [::1"),
        ("no brackets", "Host: ::1"),
        ("a quote", "Host: a\"b"),
        ("a backslash", "Host: a\\b"),
        ("not ASCII", "Host: \u{e4}"),
        ("a tab", "Host: a\tb"),
    ]);
}

#[test]
fn hosts_that_are_hosts() {
    let (server, target) = with_call();
    for host in [
        "a",
        "A.example.",
        "a-b_c",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:80",
        "a:",
    ] {
        for lines in [format!("Host: {host}"), format!("hOST:{host}\t ")] {
            let responses = answers(&server, format!("GET {target} HTTP/1.1\r\n{lines}\r\n\r\n"));
            assert_eq!(statuses(&responses), [200], "{lines:?}");
        }
    }
}

#[test]
fn a_length_is_told_in_one_way() {
    // RFC 9112 §6.1, §6.3.
    check_lines_refused(&[
        (
            "CL then TE",
            "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        ),
        (
            "TE then CL",
            "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
        ),
        (
            "CL 0 and TE",
            "Host: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked",
        ),
        (
            "TE and CL in capitals",
            "Host: a\r\nTRANSFER-ENCODING: CHUNKED\r\nCONTENT-LENGTH: 5",
        ),
        (
            "TE and a bad CL",
            "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: x",
        ),
        (
            "TE first of all",
            "Transfer-Encoding: chunked\r\nHost: a\r\nContent-Length: 5",
        ),
        (
            "two lengths",
            "Host: a\r\nContent-Length: 5\r\nContent-Length: 6",
        ),
        (
            "two lengths, far apart",
            "Content-Length: 0\r\nHost: a\r\nX: y\r\nContent-Length: 60",
        ),
        ("two lengths in one", "Host: a\r\nContent-Length: 5, 6"),
        ("negative", "Host: a\r\nContent-Length: -1"),
        ("signed", "Host: a\r\nContent-Length: +5"),
        ("hexadecimal", "Host: a\r\nContent-Length: 0x5"),
        ("empty", "Host: a\r\nContent-Length:"),
        ("a word", "Host: a\r\nContent-Length: five"),
        ("two numbers", "Host: a\r\nContent-Length: 5 5"),
        ("a fraction", "Host: a\r\nContent-Length: 5.0"),
        (
            "past u64",
            "Host: a\r\nContent-Length: 18446744073709551616",
        ),
        ("gzip", "Host: a\r\nTransfer-Encoding: gzip"),
        ("identity", "Host: a\r\nTransfer-Encoding: identity"),
        (
            "chunked is not last",
            "Host: a\r\nTransfer-Encoding: chunked, identity",
        ),
        (
            "chunked is not last line",
            "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
        ),
        ("nearly chunked", "Host: a\r\nTransfer-Encoding: xchunked"),
        (
            "chunked in quotes",
            "Host: a\r\nTransfer-Encoding: \"chunked\"",
        ),
        (
            "chunked and more",
            "Host: a\r\nTransfer-Encoding: chunked-ish",
        ),
        ("an empty coding", "Host: a\r\nTransfer-Encoding:"),
        (
            "chunked with a tab",
            "Host: a\r\nTransfer-Encoding: \x0bchunked",
        ),
    ]);
}

#[test]
fn http_1_0_knows_no_transfer_encoding() {
    // RFC 9112 §6.1: treated as faulty framing.
    let (server, target) = with_call();
    let message = format!(
        "GET {target} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    check_refused(&server, &target, message.as_bytes(), "HTTP/1.0");
}

#[test]
fn a_field_line_has_one_spelling() {
    // RFC 9112 §2.2, §5.1, §5.2; RFC 9110 §5.5.
    check_lines_refused(&[
        ("obs-fold", "Host: a\r\nX: y\r\n z"),
        ("obs-fold by tab", "Host: a\r\nX: y\r\n\tz"),
        ("obs-fold of a length", "Host: a\r\nContent-Length:\r\n 5"),
        ("a blank before the first", " Host: a\r\nX: y"),
        ("a blank before the colon", "Host: a\r\nX : y"),
        ("a tab before the colon", "Host: a\r\nX\t: y"),
        ("a blank before Host's colon", "Host : a"),
        (
            "a blank before a length's colon",
            "Host: a\r\nContent-Length : 5",
        ),
        (
            "a blank before a coding's colon",
            "Host: a\r\nTransfer-Encoding : chunked",
        ),
        ("bare CR in a value", "Host: a\r\nX: y\rContent-Length: 5"),
        ("bare CR at a value's end", "Host: a\r\nX: y\r\r\nZ: z"),
        ("bare CR in a name", "Host: a\r\nX\rY: z"),
        ("NUL in a value", "Host: a\r\nX: y\0z"),
        ("NUL in a name", "Host: a\r\nX\0: y"),
        ("no colon", "Host: a\r\nX"),
        ("no name", "Host: a\r\n: y"),
        ("a name of two words", "Host: a\r\nX Y: z"),
        ("a name in brackets", "Host: a\r\nX(y): z"),
        ("a name that is not ASCII", "Host: a\r\n\u{e4}: z"),
    ]);
}

#[test]
fn a_request_line_has_one_spelling() {
    // RFC 9112 §3.
    let (server, target) = with_call();
    let host = "Host: a\r\n\r\n";
    for line in [
        "GET".to_owned(),
        format!("GET {target}"),
        format!("GET {target} "),
        format!("GET {target} HTTP/1.1 "),
        format!("GET {target} HTTP/1.1 x"),
        format!("GET  {target} HTTP/1.1"),
        format!("GET {target}  HTTP/1.1"),
        format!("GET\t{target} HTTP/1.1"),
        format!("GET {target}\tHTTP/1.1"),
        format!(" GET {target} HTTP/1.1"),
        format!("{target} HTTP/1.1"),
        format!("GET {target} http/1.1"),
        format!("GET {target} HTTP/1"),
        format!("GET {target} HTTP/1.1.1"),
        format!("GET {target} HTTP/11"),
        format!("GET {target} HTTPS/1.1"),
        format!("GET {target} HTTP/0.9"),
        format!("GET {target}x y HTTP/1.1"),
        format!("GET {target}\0 HTTP/1.1"),
        format!("GET {target}\r HTTP/1.1"),
        format!("GET {target}\u{7f} HTTP/1.1"),
        format!("GET<> {target} HTTP/1.1"),
        format!("G\0T {target} HTTP/1.1"),
        "\u{16}\u{3}\u{1}\u{2}\u{0}".into(),
    ] {
        let message = format!("{line}\r\n{host}");
        check_refused(&server, &target, message.as_bytes(), &line);
    }
}

#[test]
fn versions_that_are_not_spoken() {
    let (server, target) = with_call();
    let next = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/9.9", "HTTP/0.0", "HTTP/2"] {
        let message = format!("GET {target} {version}\r\nHost: a\r\n\r\n{next}");
        let responses = answers(&server, message);
        assert_eq!(responses.len(), 1, "{version}");
        // RFC 9110 §15.6.6 has a status of its own for it.
        assert!(matches!(responses[0].status, 400 | 505), "{version}");
    }
}

#[test]
fn a_target_is_a_path_or_a_url() {
    // RFC 9112 §3.2.
    let (server, target) = with_call();
    for bad in [
        format!("{target}#x"),
        format!("{target}#"),
        format!("http://a{target}#x"),
        format!("/#{target}"),
        "#".into(),
        "a".into(),
        "a:80".into(),
        "rec.test:443".into(),
        "*".into(),
        "**".into(),
        "?sig=x".into(),
        "call.wav?sig=x".into(),
        format!("*{target}"),
        format!("http://u:p@a{target}"),
        format!("http://{target}"),
        format!("http:{target}"),
        format!("://a{target}"),
        format!("ftp://a{target}"),
        format!("file://a{target}"),
        format!("http://a b{target}"),
        "http://".into(),
        "\"/\"".into(),
    ] {
        let message = format!("GET {bad} HTTP/1.1\r\nHost: a\r\n\r\n");
        check_refused(&server, &target, message.as_bytes(), &bad);
    }
    for authority in ["a:443", "a", "/", "http://a/"] {
        let message = format!("CONNECT {authority} HTTP/1.1\r\nHost: a\r\n\r\n");
        check_refused(&server, &target, message.as_bytes(), authority);
    }
}

#[test]
fn an_asterisk_is_for_options() {
    let (server, target) = with_call();
    for method in ["GET", "POST", "PROPFIND"] {
        let message = format!("{method} * HTTP/1.1\r\nHost: a\r\n\r\n");
        check_refused(&server, &target, message.as_bytes(), method);
    }
    let responses = answers(&server, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(statuses(&responses), [204]);
    assert_eq!(responses[0].field("allow"), Some("GET, HEAD, OPTIONS"));
    let hostless = b"OPTIONS * HTTP/1.1\r\n\r\n";
    check_refused(&server, &target, hostless, "without Host");
}

#[test]
fn lines_that_end_in_lf_alone_get_one_reading() {
    // RFC 9112 §2.2: a recipient MAY take a lone LF for a line's end.
    let (server, target) = with_call();
    for message in [
        format!("GET {target} HTTP/1.1\nHost: a\n\n"),
        format!("GET {target} HTTP/1.1\r\nHost: a\n\r\n"),
        format!("GET {target} HTTP/1.1\nHost: a\nX: y\r\n\r\n"),
    ] {
        let responses = answers(&server, &message);
        assert_eq!(responses.len(), 1, "{message:?}");
        assert!(matches!(responses[0].status, 200 | 400), "{message:?}");
    }
    for lines in [
        "Content-Length: 5\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\nContent-Length: 5",
        "Content-Length: 5\nContent-Length: 6",
    ] {
        let message = format!("GET {target} HTTP/1.1\nHost: a\n{lines}\n\n");
        check_refused(&server, &target, message.as_bytes(), lines);
    }
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    // RFC 9112 §2.2.
    let (server, target) = with_call();
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let responses = answers(&server, format!("\r\n{request}\r\n{request}"));
    assert_eq!(statuses(&responses), [200, 200]);
}

#[test]
fn fields_past_their_limits() {
    let (server, target) = with_call();
    let head = |lines: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let many = |count: usize| head(&"X: y\r\n".repeat(count));
    let large = |bytes: usize| head(&format!("X: {}\r\n", "y".repeat(bytes)));
    let spread = |bytes: usize| head(&format!("X: {}\r\n", "y".repeat(996)).repeat(bytes / 1000));
    for (what, request, status) in [
        ("99 fields and Host", many(99), 200),
        ("100 fields and Host", many(100), 431),
        ("1000 fields", many(1000), 431),
        ("15 KiB in one", large(15 * 1024), 200),
        ("17 KiB in one", large(17 * 1024), 431),
        ("17 KiB in many", spread(18_000), 431),
        ("100 KiB in one", large(100 * 1024), 431),
        ("200 KiB in one", large(200 * 1024), 431),
        ("900 KiB in one", large(900 * 1024), 431),
    ] {
        let responses = answers(&server, request);
        assert_eq!(statuses(&responses), [status], "{what}");
    }
}

#[test]
fn targets_past_their_limit() {
    let (server, target) = with_call();
    let ask = |bytes: usize| {
        let padded = format!("{target}&{}", "x".repeat(bytes - target.len() - 1));
        answers(&server, format!("GET {padded} HTTP/1.1\r\nHost: a\r\n\r\n"))
    };
    for kib in [3, 20, 63, 70, 120] {
        assert_eq!(statuses(&ask(kib * 1024)), [414], "{kib} KiB");
    }
    // Past the longest head the server cannot tell which part of it is too long.
    for kib in [130, 200, 900] {
        let responses = ask(kib * 1024);
        assert_eq!(responses.len(), 1, "{kib} KiB");
        assert!(matches!(responses[0].status, 414 | 431), "{kib} KiB");
    }
}

#[test]
fn what_cannot_be_parsed_is_never_stored() {
    let (server, target) = with_call();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100 * 1024));
    let large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(200 * 1024));
    let ask = |method: &str, target: &str, field: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{field}\r\n")
    };
    // First on the connection, and behind answers of each kind: none, in memory, from the file, refused.
    let before = [
        (String::new(), None),
        (ask("OPTIONS", "*", ""), Some(204)),
        (ask("GET", &target, "Range: bytes=0-9\r\n"), Some(206)),
        (ask("GET", &target, ""), Some(200)),
        (ask("GET", "/nowhere", ""), Some(404)),
    ];
    for (unparsed, status) in [
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("\x16\x03\x01\x02\0\x01", 400),
        ("GET / HTTP/3.0\r\n\r\n", 400),
        (&*long, 414),
        (&large, 431),
    ] {
        for (first, answered) in &before {
            let responses = answers(&server, format!("{first}{unparsed}"));
            let expected: Vec<_> = answered.iter().copied().chain([status]).collect();
            assert_eq!(statuses(&responses), expected, "{first:?}");
            let head = responses.last().unwrap();
            assert_eq!(head.field("content-length"), Some("0"), "{first:?}");
            assert_eq!(head.field("cache-control"), Some("no-store"), "{first:?}");
        }
    }
}

#[test]
fn a_url_that_is_long_by_its_scheme_and_host_alone_is_not_too_long() {
    let (server, target) = with_call();
    let padded = format!("{target}&{}", "x".repeat(2048 - target.len() - 1));
    let request = format!("GET http://rec.test{padded} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(statuses(&answers(&server, request)), [200]);
}

#[test]
fn content_is_never_taken_for_a_request() {
    let (server, target) = with_call();
    let inner = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let chunk = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let long = inner.repeat(4_000);
    for (what, message, expect) in [
        (
            "a length",
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}",
                inner.len()
            ),
            405,
        ),
        (
            "chunks",
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
            405,
        ),
        (
            "chunks with a trailer",
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}",
                chunk.replace("0\r\n\r\n", "0;x=y\r\nX: y\r\n\r\n")
            ),
            405,
        ),
        (
            "content of GET",
            format!(
                "GET {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}",
                inner.len()
            ),
            200,
        ),
        (
            "more than is read away",
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{long}",
                long.len()
            ),
            405,
        ),
        (
            "more than arrives",
            format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n{inner}"),
            405,
        ),
        (
            "a refused URL's",
            format!(
                "GET /media/a/b/c.wav HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}",
                inner.len()
            ),
            403,
        ),
    ] {
        let responses = answers(&server, &message);
        assert_eq!(statuses(&responses), [expect], "{what}");
        // RFC 9110 §10.1.1, RFC 9112 §9.6: what is not read ends the connection, and that is said.
        let closing = responses[0].field("connection") == Some("close");
        assert_eq!(closing, what.starts_with("more than"), "{what}");
    }
}

#[test]
fn broken_chunks_end_the_connection() {
    // RFC 9112 §7.1.
    let (server, target) = with_call();
    let next = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    for chunks in [
        "zz\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n",
        "5\r\nhelloX\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "\r\n\r\n",
        "5 5\r\nhello\r\n",
        "5\rhello\r\n",
    ] {
        let message = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{next}"
        );
        let responses = answers(&server, &message);
        assert!(responses.len() <= 1, "{chunks:?}: {responses:?}");
        for response in responses {
            assert!(matches!(response.status, 400 | 405), "{chunks:?}");
        }
    }
}

#[test]
fn the_same_length_twice_is_one_length_or_none() {
    // RFC 9112 §6.3: may be taken as one, or refused.
    let (server, target) = with_call();
    let message = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhelloGET {target} HTTP/1.1\r\nHost: a\r\n\r\n"
    );
    let responses = answers(&server, message);
    let found = statuses(&responses);
    assert!(matches!(*found, [400] | [405, 200]), "{found:?}");
}

#[test]
fn a_refusal_arrives_although_the_client_has_more_to_say() {
    let (server, target) = with_call();
    let rest = vec![b'x'; 700_000];
    for head in [
        format!("GET {target} HTTP/1.1\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"),
        format!("GET {target} HTTP/9.9\r\nHost: a\r\n\r\n"),
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"),
        format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        ),
    ] {
        let mut client = server.connect();
        client.send(&head);
        client.send(&rest);
        let response = client.response("POST");
        assert!(matches!(response.status, 400 | 405), "{head}");
        assert!(client.is_closed(), "{head}");
    }
}

#[test]
fn a_fault_of_one_connection_is_not_another_s() {
    let (server, target) = with_call();
    let mut patient = server.connect();
    assert_eq!(patient.get(&target, &[]).status, 200);
    answers(&server, "GET / HTTP/1.1\r\n\r\n");
    answers(&server, "\0\0\0\0\r\n\r\n");
    let response = patient.get(&target, &[]);
    assert_eq!((response.status, response.body), (200, pattern(100)));
}
