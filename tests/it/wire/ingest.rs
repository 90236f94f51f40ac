//! Recordings brought over HTTP: each status, and what is in the store behind it.

use std::time::Duration;

use sha2::{Digest as _, Sha256, Sha512};
use tonearm::ingest::Settings;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use bytes::Bytes;
use http_body_util::Full;

use crate::harness::http2::Http2;
use crate::harness::raw::Response;
use crate::harness::{OWNER, Server, Setup, TOKEN, pattern};

/// A WAV of so many bytes in all.
pub fn wav(length: usize) -> Vec<u8> {
    let sound = u32::try_from(length - 44).unwrap();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((sound + 36).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0\x40\x1f\0\0\0\x7d\0\0\x04\0\x10\0data");
    bytes.extend(sound.to_le_bytes());
    bytes.extend(pattern(length - 44));
    bytes
}

fn target(id: &str) -> String {
    format!("/api/v1/recordings/{OWNER}/{id}")
}

fn bring(server: &Server, id: &str, fields: &[&str], content: &[u8]) -> Response {
    let mut client = server.connect();
    client.bring("PUT", &target(id), &[&[TOKEN], fields].concat(), content);
    client.response("PUT")
}

fn ask(server: &Server, method: &str, id: &str) -> Response {
    server.ask(method, &target(id), &[TOKEN])
}

/// Names in the owner's directory, and how much is left over of what was not taken in.
fn names(server: &Server) -> (String, usize) {
    let list = |directory| {
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let place = list(server.root().join(OWNER)).join(" ");
    (place, list(server.root().join("+incoming")).len())
}

fn digest(algorithm: &str, bytes: &[u8]) -> String {
    let digest = match algorithm {
        "sha-256" => Sha256::digest(bytes).to_vec(),
        _ => Sha512::digest(bytes).to_vec(),
    };
    format!("{algorithm}=:{}:", BASE64.encode(digest))
}

#[test]
fn what_is_brought_is_served() {
    let server = Server::taking_in();
    let bytes = wav(1_000_000);
    let created = bring(&server, "call", &["Content-Type: audio/wav"], &bytes);
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.field("location"), Some(&*target("call")));
    let told: serde_json::Value = serde_json::from_slice(&created.body).unwrap();
    assert_eq!(told["path"], format!("/media/{OWNER}/call.wav"));
    assert_eq!(told["etag"].as_str(), created.field("etag"));
    assert_eq!(told["record"]["file"]["size"], 1_000_000);
    let fetched = server.get(&server.sign("call.wav"), &[]);
    assert_eq!((fetched.status, &fetched.body), (200, &bytes));
    assert_eq!(fetched.field("etag"), created.field("etag"));
    assert_eq!(
        fetched.field("repr-digest"),
        Some(&*digest("sha-256", &bytes))
    );
    let known = ask(&server, "GET", "call");
    assert_eq!((known.status, &known.body), (200, &created.body));
    assert_eq!(ask(&server, "HEAD", "call").status, 200);
    assert_eq!(names(&server), ("call.json call.wav".into(), 0));
}

#[test]
fn each_body_has_its_status() {
    let server = Server::with(Setup {
        ingest: Some(Settings {
            max_size: 300_000,
            ..Settings::default()
        }),
        ..Setup::default()
    });
    let bytes = wav(1000);
    let (right, wrong) = (digest("sha-256", &bytes), digest("sha-256", b""));
    let (long, huge) = (digest("sha-512", &bytes), wav(300_001));
    let flac = include_bytes!("../../../storage/app-101/test-account-01/test-call-03.flac");
    let (header, page) = (&flac[..8], b"<html>".as_slice());
    let (last, over) = ("x".repeat(123), "x".repeat(124));
    for (id, field, body, status) in [
        ("a", "Content-Type: audio/x-wav", &bytes[..], 201),
        ("b", "Content-Type: application/octet-stream", &bytes, 201),
        ("c", "X: no type", &bytes, 201),
        ("d", "X: no type", flac.as_slice(), 201),
        ("e", "X: a header's beginning", header, 422),
        ("e", "Content-Type: audio/ogg", &bytes, 415),
        ("e", "Content-Type: text/html", page, 415),
        ("e", "Content-Encoding: gzip", &bytes, 415),
        ("e", "Content-Range: bytes 0-999/2000", &bytes, 400),
        ("e", "Content-Type: audio/flac", &bytes, 422),
        ("e", "Content-Type: audio/wav", page, 422),
        ("e", "Content-Type: audio/wav", b"", 422),
        ("e", "Content-Type: audio/wav", &bytes[..30], 422),
        ("e", &format!("Content-Digest: {wrong}"), &bytes, 400),
        ("e", &format!("Repr-Digest: {wrong}"), &bytes, 400),
        ("e", &format!("Repr-Digest: {right}, {wrong}"), &bytes, 400),
        ("e", "Content-Digest: sha-256=:AAAA:", &bytes, 400),
        ("e", "If-Match: \"x\"", &bytes, 412),
        ("e", "If-Match: *", &bytes, 412),
        ("e", "X: too large", &huge, 413),
        ("..", "X: no id", &bytes, 400),
        ("a%20b", "X: no id", &bytes, 400),
        (&over, "X: no URL", &bytes, 400),
        (&last, "X: a URL", &bytes, 201),
        ("e", &format!("Content-Digest: {right}"), &bytes, 201),
        ("f", &format!("Repr-Digest: {long}, md5=:x:"), &bytes, 201),
        ("g", "If-None-Match: *", &bytes, 201),
    ] {
        let brought = bring(&server, id, &[field], body);
        assert_eq!(brought.status, status, "{id} {field}: {brought:?}");
    }
    let expect = format!(
        "a.json a.wav b.json b.wav c.json c.wav d.flac d.json e.json e.wav f.json f.wav g.json g.wav {last}.json {last}.wav"
    );
    assert_eq!(names(&server), (expect, 0));
}

#[test]
fn what_is_there_is_not_lost_unasked() {
    let server = Server::taking_in();
    let (one, two, long) = (wav(1000), pattern_wav(), wav(2000));
    let etag = bring(&server, "call", &[], &one);
    let etag = etag.field("etag").unwrap().to_owned();
    for (field, body, status) in [
        ("X: again", &one, 200),
        ("If-None-Match: *", &one, 412),
        ("If-None-Match: *", &two, 412),
        ("X: other bytes", &two, 409),
        ("X: another length", &long, 409),
        ("If-Match: \"x\"", &two, 412),
        (&format!("If-Match: {etag}"), &two, 200),
        (&format!("If-Match: {etag}"), &two, 412),
        ("X: again", &two, 200),
        ("If-Match: *", &one, 200),
    ] {
        let brought = bring(&server, "call", &[field], body);
        assert_eq!(brought.status, status, "{field}: {brought:?}");
        let there = std::fs::read(server.file("call.wav")).unwrap();
        if status == 200 {
            assert_eq!(&there, body, "{field}");
        }
        assert_eq!(names(&server).1, 0);
    }
}

/// As long as `wav(1000)`, and other bytes.
fn pattern_wav() -> Vec<u8> {
    let mut bytes = wav(1000);
    bytes[999] ^= 1;
    bytes
}

#[test]
fn who_shows_no_token_learns_nothing() {
    let server = Server::taking_in();
    bring(&server, "call", &[], &wav(1000));
    let wrong = TOKEN.replace("aaaa", "aaab");
    for field in ["X: none", &wrong, "Authorization: Basic eDp4"] {
        for (method, id) in [
            ("PUT", "new"),
            ("GET", "call"),
            ("DELETE", "call"),
            ("GET", "x"),
        ] {
            let refused = server.ask(method, &target(id), &[field]);
            assert_eq!(refused.status, 401, "{method} {field}");
            assert_eq!(refused.field("www-authenticate"), Some("Bearer"));
        }
    }
    // Off, there is nothing.
    let off = Server::start();
    for method in ["GET", "HEAD"] {
        assert_eq!(off.ask(method, &target("call"), &[TOKEN]).status, 404);
    }
    assert_eq!(off.ask("PUT", &target("call"), &[TOKEN]).status, 405);
    assert_eq!(names(&server), ("call.json call.wav".into(), 0));
}

#[test]
fn what_is_erased_answers_410() {
    let server = Server::taking_in();
    bring(&server, "call", &[], &wav(1000));
    let signed = server.sign("call.wav");
    assert_eq!(server.get(&signed, &[]).status, 200);
    assert_eq!(ask(&server, "DELETE", "other").status, 404);
    assert_eq!(ask(&server, "DELETE", "call").status, 204);
    assert_eq!(server.get(&signed, &[]).status, 410);
    assert_eq!(ask(&server, "GET", "call").status, 410);
    assert_eq!(bring(&server, "call", &[], &wav(1000)).status, 410);
    assert_eq!(ask(&server, "DELETE", "call").status, 204);
    assert_eq!(names(&server), ("call.json".into(), 0));
    // Held, it stays.
    bring(&server, "held", &[], &wav(1000));
    std::fs::write(server.file("held.json"), r#"{"legal_hold":true}"#).unwrap();
    let refused = ask(&server, "DELETE", "held");
    assert_eq!(
        (refused.status, refused.told().as_deref()),
        (409, Some("legal_hold"))
    );
    assert_eq!(server.get(&server.sign("held.wav"), &[]).status, 200);
    assert_eq!(ask(&server, "PATCH", "held").status, 405);
    assert_eq!(ask(&server, "OPTIONS", "held").status, 204);
}

#[test]
fn a_body_in_chunks_is_a_body() {
    let server = Server::taking_in();
    let bytes = wav(200_000);
    let mut client = server.connect();
    client.ask(
        "PUT",
        &target("call"),
        &[TOKEN, "Transfer-Encoding: chunked"],
    );
    for chunk in bytes.chunks(7000) {
        client.send(format!("{:x}\r\n", chunk.len()));
        client.send(chunk);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response("PUT").status, 201);
    assert_eq!(std::fs::read(server.file("call.wav")).unwrap(), bytes);
}

#[test]
fn a_client_that_waits_for_100_is_refused_before_it_sends() {
    let server = Server::taking_in();
    bring(&server, "call", &[], &wav(1000));
    let expect = "Expect: 100-continue";
    for (id, fields, status) in [
        ("new", &["Content-Length: 9"][..], 401),
        (
            "new",
            &[TOKEN, "Content-Length: 9", "Content-Type: text/css"],
            415,
        ),
        ("new", &[TOKEN, "Content-Length: 99999999999"], 413),
        ("call", &[TOKEN, "Content-Length: 9"], 409),
        (
            "call",
            &[TOKEN, "Content-Length: 9", "If-None-Match: *"],
            412,
        ),
    ] {
        let mut client = server.connect();
        client.ask("PUT", &target(id), &[fields, &[expect]].concat());
        let refused = client.response("PUT");
        assert_eq!(refused.status, status, "{refused:?}");
        assert_eq!(refused.field("connection"), Some("close"));
    }
    let bytes = wav(1000);
    let mut client = server.connect();
    client.ask(
        "PUT",
        &target("new"),
        &[TOKEN, "Content-Length: 1000", expect],
    );
    assert_eq!(client.head().status, 100);
    client.send(&bytes);
    assert_eq!(client.response("PUT").status, 201);
}

#[test]
fn http_2_brings_the_same() {
    let server = Server::taking_in();
    let bytes = wav(3_000_000);
    let mut client = Http2::connect(server.addr);
    let mut bring = |id: &str, fields: &[&str], bytes: &[u8]| {
        let fields = [&[TOKEN], fields].concat();
        let request = client.request("PUT", &target(id), &fields);
        let content = Full::new(Bytes::copy_from_slice(bytes));
        client.answer(request.map(|_| content)).status
    };
    assert_eq!(bring("call", &[], &bytes), 201);
    assert_eq!(bring("call", &["If-None-Match: *"], &bytes), 412);
    assert_eq!(bring("call", &[], &bytes), 200);
    assert_eq!(bring("page", &[], b"<html></html>"), 422);
    assert_eq!(std::fs::read(server.file("call.wav")).unwrap(), bytes);
}

/// Until what was begun is gone.
fn wait_for_nothing_left(server: &Server) {
    let start = std::time::SystemTime::now();
    while names(server).1 > 0 {
        assert!(start.elapsed().unwrap() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_body_that_ends_early_or_stalls_leaves_nothing() {
    let server = Server::with(Setup {
        ingest: Some(Settings {
            stall_timeout: Duration::from_millis(300),
            ..Settings::default()
        }),
        ..Setup::default()
    });
    let begin = || {
        let mut client = server.connect();
        client.ask("PUT", &target("call"), &[TOKEN, "Content-Length: 1000000"]);
        client.send(&wav(1_000_000)[..500_000]);
        client
    };
    let cut = begin();
    drop(cut);
    wait_for_nothing_left(&server);
    let mut stalled = begin();
    let refused = stalled.response("PUT");
    assert_eq!(refused.status, 408, "{refused:?}");
    wait_for_nothing_left(&server);
    assert_eq!(names(&server), (String::new(), 0));
    assert_eq!(bring(&server, "call", &[], &wav(1_000_000)).status, 201);
}

/// `server/wire.rs` watches the lines of heads. The lines of a body are none.
#[test]
fn a_body_that_looks_like_heads_is_a_body() {
    let server = Server::taking_in();
    let lines =
        "\r\n\r\nGET /x#y HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut bytes = wav(1000);
    for _ in 0..5000 {
        bytes.extend(lines.as_bytes());
    }
    let mut client = server.connect();
    let mut put = |id: &str, chunked: bool| {
        if chunked {
            client.ask("PUT", &target(id), &[TOKEN, "Transfer-Encoding: chunked"]);
            for chunk in bytes.chunks(50_001) {
                client.send(format!("{:X};x=y\r\n", chunk.len()));
                client.send(chunk);
                client.send("\r\n");
            }
            client.send("0\r\nX: a trailer\r\n\r\n");
        } else {
            client.bring("PUT", &target(id), &[TOKEN], &bytes);
        }
        let brought = client.response("PUT");
        assert_eq!(brought.status, 201, "{id}: {brought:?}");
    };
    for (id, chunked) in [
        ("a", false),
        ("b", true),
        ("c", false),
        ("d", true),
        ("e", true),
    ] {
        put(id, chunked);
        let there = std::fs::read(server.file(&format!("{id}.wav"))).unwrap();
        assert_eq!(there, bytes);
    }
    let signed = server.sign("a.wav");
    assert_eq!(client.get(&signed, &["Range: bytes=0-9"]).status, 206);
    // And what is refused is refused as before, behind bodies too.
    client.ask(
        "PUT",
        &target("f"),
        &[TOKEN, "Transfer-Encoding: chunked", "Content-Length: 5"],
    );
    client.send("0\r\n\r\n");
    assert_eq!(client.response("PUT").status, 400);
    assert!(client.is_closed());
}
