//! HTTP/2 (RFC 9113) with prior knowledge gives the same answers.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};

use crate::harness::frames::{self, Ending};
use crate::harness::http2::{Http2, request, whole};
use crate::harness::signer;
use crate::harness::{OWNER, Server, pattern};

#[test]
fn the_answers_are_those_of_http_1_1() {
    let server = Server::start();
    server.put("call.wav", 1000);
    server.put("empty.wav", 0);
    let (target, absent) = (server.sign("call.wav"), server.sign("absent.wav"));
    let empty = server.sign("empty.wav");
    let refused = target.replace(".k1.", ".k2.");
    let expired = signer::target(&format!("/media/{OWNER}/call.wav"), "1.k1.1700000000");
    let owner = "appId=app-101&externalAccountId=test-account-01";
    let resolver = "/retrieve/authenticated/recordings";
    let (known, unknown) = (
        format!("{resolver}/call?{owner}"),
        format!("{resolver}/absent?{owner}"),
    );
    let question = format!("{resolver}/call");
    let long = format!("/{}", "x".repeat(3000));
    let large = format!("X: {}", "y".repeat(17_000));
    let mut client = Http2::connect(server.addr);
    for (method, target, field, status) in [
        ("GET", target.as_str(), "X: y", 200),
        ("GET", &empty, "X: y", 200),
        ("GET", &target, "Range: bytes=5-9", 206),
        ("GET", &target, "Range: bytes=-9", 206),
        ("GET", &target, "Range: bytes=0-9,20-29,-5", 206),
        ("GET", &target, "Range: bytes=1000-", 416),
        ("GET", &target, "Range: bytes=5-3", 200),
        ("GET", &target, "If-None-Match: *", 304),
        ("GET", &target, "If-Match: \"x\"", 412),
        ("GET", &target, "Origin: null", 200),
        ("GET", &refused, "X: y", 403),
        ("GET", &expired, "X: y", 403),
        ("GET", &absent, "X: y", 404),
        ("GET", "/", "X: y", 404),
        ("GET", "//", "X: y", 403),
        ("GET", &known, "X: y", 200),
        ("GET", &unknown, "X: y", 404),
        ("GET", &question, "X: y", 400),
        ("GET", &long, "X: y", 414),
        ("GET", &target, &large, 431),
        ("HEAD", &target, "X: y", 200),
        ("HEAD", &target, "Range: bytes=5-9", 200),
        ("HEAD", &target, "If-None-Match: *", 304),
        ("HEAD", &refused, "X: y", 403),
        ("HEAD", &known, "X: y", 200),
        ("OPTIONS", &target, "Origin: null", 204),
        ("OPTIONS", &known, "X: y", 204),
        ("POST", &target, "X: y", 405),
        ("DELETE", &target, "X: y", 405),
        ("FOO", &target, "X: y", 405),
    ] {
        let mut both = || {
            let expect = server.ask(method, target, &[field]);
            (expect, client.ask(method, target, &[field]))
        };
        let (mut expect, mut response) = both();
        if expect.body != response.body {
            // The resolver's window may have ended between the two; it does not end twice.
            (expect, response) = both();
        }
        let row = format!("{method} {target} {field}");
        assert_eq!((response.status, expect.status), (status, status), "{row}");
        assert_eq!(response.undated(), expect.undated(), "{row}");
        assert_eq!(response.body, expect.body, "{row}");
    }
}

#[test]
fn a_request_names_one_authority() {
    // RFC 9113 §8.3.1.
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    let mut client = Http2::connect(server.addr);
    let mut status = |uri: &str, fields: &[&str]| {
        let response = client.answer(request("GET", uri, fields));
        // §8.2.2: no field that speaks of the connection.
        assert_eq!(response.field("connection"), None, "{uri} {fields:?}");
        response.status
    };
    let at = |authority: &str| format!("http://{authority}{target}");
    assert_eq!(status(&at("a"), &[]), 200);
    assert_eq!(status(&at("a"), &["Host: a"]), 200);
    assert_eq!(status(&at("a"), &["Host: A"]), 200);
    assert_eq!(status(&at("a"), &["Host: b"]), 400);
    assert_eq!(status(&at("a"), &["Host: a:81"]), 400);
    assert_eq!(status(&at("a"), &["Host: a", "Host: a"]), 400);
    assert_eq!(status(&at("a"), &["Host: a b"]), 400);
    assert_eq!(status(&at("u@a"), &[]), 400);
    assert_eq!(status(&at("a:b"), &[]), 400);
    // Without one, Host will do.
    assert_eq!(status(&target, &["Host: a"]), 200);
    assert_eq!(status(&target, &["Host: "]), 400);
    assert_eq!(status(&target, &[]), 400);
    // And the connection lives.
    assert_eq!(status(&at("a"), &[]), 200);
}

#[test]
fn a_bound_url_is_bound_to_the_authority() {
    let server = Server::start();
    server.put("call.wav", 1000);
    let path = format!("/media/{OWNER}/call.wav");
    let signed = format!("1.k1.{}.h", tonearm::server::now().0 + 600);
    let sig = signer::token("rec.example.com", &path, &signed);
    let mut client = Http2::connect(server.addr);
    for (authority, status) in [
        ("rec.example.com", 200),
        ("REC.example.com:80", 200),
        ("other.example.com", 403),
    ] {
        let uri = format!("http://{authority}{path}?sig={sig}");
        let response = client.answer(request("GET", &uri, &[]));
        assert_eq!(response.status, status, "{authority}");
    }
}

#[test]
fn many_streams_get_their_own_bytes() {
    const LENGTH: usize = 3_000_000;
    let server = Server::start();
    server.put("call.wav", LENGTH);
    let target = server.sign("call.wav");
    let bytes = pattern(LENGTH);
    let mut client = Http2::connect(server.addr);
    let asked: Vec<_> = (0..100)
        .map(|at| {
            let range = format!("Range: bytes={}-{}", at * 7919, at * 7919 + 1_000_000);
            let request = client.request("GET", &target, &[&range]);
            (at * 7919, client.sender.send_request(request))
        })
        .collect();
    client.runtime.block_on(async {
        let mut reading = tokio::task::JoinSet::new();
        for (first, asked) in asked {
            reading.spawn(async move { (first, whole(asked.await.unwrap()).await) });
        }
        while let Some(read) = reading.join_next().await {
            let (first, response) = read.unwrap();
            assert_eq!(response.status, 206, "from {first}");
            let same = response.body == bytes[first..=first + 1_000_000];
            assert!(same, "other bytes from {first}");
        }
    });
}

#[test]
fn content_nobody_asked_for_costs_its_stream_only() {
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    let mut client = Http2::connect(server.addr);
    let mut post = client.request("POST", &target, &[]);
    *post.body_mut() = Full::new(Bytes::from(vec![b'x'; 5_000]));
    assert_eq!(client.answer(post).status, 405);
    assert_eq!(client.ask("GET", &target, &[]).body, pattern(1000));
}

#[test]
fn a_stop_lets_running_streams_finish() {
    let server = Server::start();
    server.put("large.wav", 32 << 20);
    let target = server.sign("large.wav");
    let mut client = Http2::connect(server.addr);
    let request = client.request("GET", &target, &[]);
    let asked = client.sender.send_request(request);
    let body = client.runtime.block_on(async {
        let response = asked.await.unwrap();
        server.begin_stop();
        response.into_body().collect().await.unwrap().to_bytes()
    });
    assert!(body == pattern(32 << 20), "other bytes");
    drop(client);
    assert_eq!(server.stop().cut, 0);
}

#[test]
fn a_file_that_shrinks_ends_its_stream_and_no_other() {
    let server = Server::start();
    server.put("large.wav", 32 << 20);
    server.put("call.wav", 1000);
    let (large, target) = (server.sign("large.wav"), server.sign("call.wav"));
    let mut client = Http2::connect(server.addr);
    let request = client.request("GET", &large, &[]);
    let asked = client.sender.send_request(request);
    client.runtime.block_on(async {
        let response = asked.await.unwrap();
        let mut options = std::fs::File::options();
        let file = options.write(true).open(server.file("large.wav"));
        file.unwrap().set_len(1 << 20).unwrap();
        let read = response.into_body().collect().await;
        assert!(read.is_err(), "a short stream passes for a whole one");
    });
    assert_eq!(client.ask("GET", &target, &[]).body, pattern(1000));
}

#[test]
fn a_malformed_request_opens_nothing() {
    // RFC 9113 §8.1.1, §8.2, §8.3.
    const METHOD: (&str, &str) = (":method", "GET");
    const SCHEME: (&str, &str) = (":scheme", "http");
    const AUTHORITY: (&str, &str) = (":authority", "a");
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    let path = (":path", target.as_str());
    let good = frames::ask(server.addr, &[METHOD, SCHEME, AUTHORITY, path]);
    assert_eq!(good, Ending::Answered(pattern(1000)), "the plain request");
    let (fragment, blank) = (format!("{target}#x"), format!("{target} x"));
    let absolute = format!("http://a{target}");
    let rows: [(&str, &[(&str, &str)]); 17] = [
        (
            "a fragment",
            &[METHOD, SCHEME, AUTHORITY, (":path", &fragment)],
        ),
        (
            "a blank in the path",
            &[METHOD, SCHEME, AUTHORITY, (":path", &blank)],
        ),
        (
            "absolute form",
            &[METHOD, SCHEME, AUTHORITY, (":path", &absolute)],
        ),
        (
            "no slash",
            &[METHOD, SCHEME, AUTHORITY, (":path", &target[1..])],
        ),
        ("an empty path", &[METHOD, SCHEME, AUTHORITY, (":path", "")]),
        ("no path", &[METHOD, SCHEME, AUTHORITY]),
        ("no method", &[SCHEME, AUTHORITY, path]),
        ("no scheme", &[METHOD, AUTHORITY, path]),
        (
            "another scheme",
            &[METHOD, (":scheme", "ftp"), AUTHORITY, path],
        ),
        ("two paths", &[METHOD, SCHEME, AUTHORITY, path, path]),
        (
            "two authorities",
            &[METHOD, SCHEME, AUTHORITY, AUTHORITY, path],
        ),
        (
            "an unknown pseudo-field",
            &[METHOD, SCHEME, AUTHORITY, path, (":x", "y")],
        ),
        (
            "a pseudo-field late",
            &[METHOD, SCHEME, AUTHORITY, ("x", "y"), path],
        ),
        (
            "a name in capitals",
            &[METHOD, SCHEME, AUTHORITY, path, ("X", "y")],
        ),
        (
            "a connection's field",
            &[METHOD, SCHEME, AUTHORITY, path, ("connection", "x")],
        ),
        (
            "a line break",
            &[METHOD, SCHEME, AUTHORITY, path, ("x", "y\r\nz: a")],
        ),
        (
            "a coding",
            &[
                METHOD,
                SCHEME,
                AUTHORITY,
                path,
                ("transfer-encoding", "chunked"),
            ],
        ),
    ];
    let mut opened = Vec::new();
    for (what, fields) in rows {
        if let Ending::Answered(body) = frames::ask(server.addr, fields)
            && !String::from_utf8_lossy(&body).contains("\"status\":4")
        {
            opened.push(what);
        }
    }
    // The parser below the server drops a fragment without a trace. What is left is a target
    // whose MAC holds, so that it opens what it would have opened without one.
    assert_eq!(opened, ["a fragment"]);
}
