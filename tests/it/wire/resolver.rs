//! HubSpot's question: which URL opens this recording.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use serde_json::Value;
use tonearm::app::Resolver;
use tonearm::recording::Id;
use tonearm::server;

use crate::harness::raw::Response;
use crate::harness::{Server, Setup, pattern};

const OWNER: &str = "appId=app-101&externalAccountId=test-account-01";

fn question(id: &str) -> String {
    format!("/retrieve/authenticated/recordings/{id}?{OWNER}")
}

fn with(resolver: Resolver) -> Server {
    Server::with(Setup {
        resolver,
        ..Setup::default()
    })
}

/// URL and end of a good answer, which has these two members and no other.
fn resolved(response: &Response) -> (String, u64) {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.field("content-type"), Some("application/json"));
    assert_eq!(response.field("cache-control"), Some("no-store"));
    let json: Value = serde_json::from_slice(&response.body).unwrap();
    let members: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(members, ["authenticatedUrl", "expiresAt"]);
    let text = |name: &str| json[name].as_str().unwrap().to_owned();
    let end: jiff::Timestamp = text("expiresAt").parse().unwrap();
    (
        text("authenticatedUrl"),
        u64::try_from(end.as_second()).unwrap(),
    )
}

/// Scheme and authority, and the target behind them.
fn split(url: &str) -> (&str, &str) {
    let at = url.find("/media/").expect("a media URL");
    url.split_at(at)
}

#[test]
fn the_answer_is_a_url_that_opens_the_recording() {
    let server = Server::start();
    server.put("call.wav", 1000);
    let (url, end) = resolved(&server.get(&question("call"), &[]));
    let (base, target) = split(&url);
    assert_eq!(base, format!("http://{}", server.addr));
    let whole = server.get(target, &[]);
    assert_eq!(whole.body, pattern(1000));
    let part = server.get(target, &["Range: bytes=10-19"]);
    assert_eq!((part.status, part.body), (206, pattern(20)[10..].to_vec()));
    // The token ends when the answer says it does.
    assert!(target.contains(&format!(".{end}.")), "{target} {end}");
    // HubSpot needs the octet-stream.
    assert_eq!(
        whole.field("content-type"),
        Some("application/octet-stream")
    );
}

#[test]
fn the_base_is_the_configured_one_and_never_host_then() {
    let server = with(Resolver {
        public_base_url: Some("https://rec.example.com".parse().unwrap()),
        ..Resolver::default()
    });
    server.put("call.wav", 10);
    for head in [
        "Host: evil.example".to_owned(),
        format!("Host: {}", server.addr),
        "Host: a\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example".into(),
    ] {
        let mut client = server.connect();
        client.send(format!(
            "GET {} HTTP/1.1\r\n{head}\r\n\r\n",
            question("call")
        ));
        let (url, _) = resolved(&client.response("GET"));
        let expect = "https://rec.example.com/media/app-101/test-account-01/call.wav?sig=1.";
        assert!(url.starts_with(expect), "{url}");
    }
    let mut client = server.connect();
    client.send(format!("GET {} HTTP/1.0\r\n\r\n", question("call")));
    let (url, _) = resolved(&client.response("GET"));
    assert!(url.starts_with("https://rec.example.com/media/"), "{url}");
}

#[test]
fn without_one_the_base_is_the_host_that_was_asked() {
    let server = Server::start();
    server.put("call.wav", 10);
    let ask = |line: &str, lines: &str| {
        let mut client = server.connect();
        client.send(format!("GET {line}\r\n{lines}\r\n"));
        client.response("GET")
    };
    let question = question("call");
    for (line, lines, base) in [
        (
            format!("{question} HTTP/1.1"),
            "Host: rec.test:81\r\n",
            "http://rec.test:81",
        ),
        (
            format!("{question} HTTP/1.1"),
            "Host: a\r\nX-Forwarded-Host: b\r\n",
            "http://a",
        ),
        // RFC 9112 §3.2.2: the target's own authority goes before Host.
        (
            format!("http://b:82{question} HTTP/1.1"),
            "Host: a\r\n",
            "http://b:82",
        ),
        (format!("{question} HTTP/1.0"), "Host: a\r\n", "http://a"),
    ] {
        let (url, _) = resolved(&ask(&line, lines));
        assert_eq!(split(&url).0, base, "{line}");
    }
    // An HTTP/1.0 request may have no Host; then there is no URL to give.
    let response = ask(&format!("{question} HTTP/1.0"), "");
    assert_eq!(response.status, 400, "{response:?}");
}

#[test]
fn methods_of_the_resolver() {
    let server = Server::start();
    server.put("call.wav", 10);
    let target = question("call");
    let head = server.ask("HEAD", &target, &[]);
    assert_eq!(head.status, 200);
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(server.ask(method, &target, &[]).status, 405, "{method}");
    }
    let options = server.ask("OPTIONS", &target, &[]);
    assert_eq!(options.status, 204);
    assert_eq!(options.field("allow"), Some("GET, HEAD, OPTIONS"));
    // Whoever can read this answer can read the recording: no page of another site.
    let get = server.get(&target, &["Origin: https://evil.example"]);
    for response in [get, options] {
        assert_eq!(response.field("access-control-allow-origin"), None);
    }
}

#[test]
fn templates_with_the_id_in_path_or_query() {
    for (template, target) in [
        ("/rec/%s", format!("/rec/call?{OWNER}")),
        ("/rec/%s.json", format!("/rec/call.json?{OWNER}")),
        ("/rec/a-%s/url", format!("/rec/a-call/url?{OWNER}")),
        ("/rec?id=%s", format!("/rec?id=call&{OWNER}")),
        ("/rec?id=%s&v=2", format!("/rec?id=call&v=2&{OWNER}")),
        (
            "/rec?v=2&id=%s",
            format!("/rec?v=2&id=call&{OWNER}&portalId=9"),
        ),
        ("/rec/%s", format!("/rec/%63all?{OWNER}")),
    ] {
        let server = with(Resolver {
            template: template.parse().unwrap(),
            ..Resolver::default()
        });
        server.put("call.wav", 10);
        let (url, _) = resolved(&server.get(&target, &[]));
        assert_eq!(server.get(split(&url).1, &[]).status, 200, "{template}");
        // The default path is then none.
        assert_eq!(server.get(&question("call"), &[]).status, 404, "{template}");
    }
}

#[test]
fn questions_that_are_none() {
    let server = Server::start();
    server.put("call.wav", 10);
    let path = "/retrieve/authenticated/recordings";
    for target in [
        format!("{path}/call"),
        format!("{path}/call?appId=app-101"),
        format!("{path}/call?externalAccountId=test-account-01"),
        format!("{path}/call?appid=app-101&externalaccountid=test-account-01"),
        format!("{path}/call?{OWNER}&appId=app-102"),
        format!("{path}/call?{OWNER}&appId=app-101"),
        format!("{path}/call?{OWNER}&externalAccountId=x"),
        format!("{path}/call?appId=&externalAccountId=test-account-01"),
        format!("{path}/call?appId=app%2F101&externalAccountId=test-account-01"),
        format!("{path}/call?appId=..&externalAccountId=test-account-01"),
        format!("{path}/?{OWNER}"),
        format!("{path}/..?{OWNER}"),
        format!("{path}/%2e%2e?{OWNER}"),
        format!("{path}/..%2Fcall?{OWNER}"),
        format!("{path}/a%00?{OWNER}"),
        format!("{path}/a%252e?{OWNER}"),
        format!("{path}/%zz?{OWNER}"),
        format!("{path}/%ff?{OWNER}"),
        format!("{path}/{}?{OWNER}", "x".repeat(129)),
        format!("{path}/a%20b?{OWNER}"),
    ] {
        let response = server.get(&target, &[]);
        assert_eq!(response.status, 400, "{target}");
        let head = server.ask("HEAD", &target, &[]);
        assert_eq!(head.undated(), response.undated(), "{target}");
        // What was wrong can be mended, so it may be said; and the connection is in order.
        assert_eq!(response.field("connection"), None, "{target}");
    }
}

#[test]
fn what_is_not_served_is_answered_alike() {
    let id = |text: &str| Id::new(text).unwrap();
    let server = with(Resolver {
        allowed_apps: Some(vec![id("app-101"), id("app-102")]),
        allowed_accounts: Some(vec![id("test-account-01")]),
        ..Resolver::default()
    });
    server.put("call.wav", 10);
    for owner in ["app-999/test-account-01", "app-101/test-account-99"] {
        let directory = server.root().join(owner);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("call.wav"), "there").unwrap();
    }
    std::fs::write(
        server.file("gone.json"),
        r#"{"erased_at":"2026-01-01T00:00:00Z"}"#,
    )
    .unwrap();
    std::fs::create_dir(server.file("directory.wav")).unwrap();
    assert_eq!(server.get(&question("call"), &[]).status, 200);
    let path = "/retrieve/authenticated/recordings";
    let long = "x".repeat(128);
    let first = server.get(&question("absent"), &[]);
    assert_eq!(first.status, 404);
    for (what, target) in [
        (
            "an unknown app",
            format!("{path}/call?appId=app-102&externalAccountId=test-account-01"),
        ),
        (
            "an app not allowed",
            format!("{path}/call?appId=app-999&externalAccountId=test-account-01"),
        ),
        (
            "an account not allowed",
            format!("{path}/call?appId=app-101&externalAccountId=test-account-99"),
        ),
        (
            "neither",
            format!("{path}/call?appId=x&externalAccountId=y"),
        ),
        ("erased", question("gone")),
        ("no regular file", question("directory")),
        ("a name too long to be signed", question(&long)),
    ] {
        let response = server.get(&target, &[]);
        assert_eq!(response.status, 404, "{what}");
        // Field for field in the same order, and byte for byte.
        let undated = |response: &Response| -> Vec<_> {
            let fields = response.fields.iter();
            fields.filter(|(name, _)| name != "date").cloned().collect()
        };
        assert_eq!(undated(&response), undated(&first), "{what}");
        assert_eq!(response.body, first.body, "{what}");
    }
}

#[test]
fn formats_are_taken_in_order() {
    let server = Server::start();
    for (name, expect) in [
        ("call.m4a", "call.m4a"),
        ("call.mp4", "call.mp4"),
        ("call.mp3", "call.mp3"),
        ("call.flac", "call.flac"),
        ("call.wav", "call.wav"),
    ] {
        server.put(name, 10);
        let (url, _) = resolved(&server.get(&question("call"), &[]));
        let expect = format!("/{expect}?");
        assert!(url.contains(&expect), "{url}");
        assert_eq!(server.get(split(&url).1, &[]).status, 200, "{name}");
    }
}

#[test]
fn a_raised_generation_is_in_the_url() {
    let server = Server::start();
    server.put("call.wav", 10);
    let (before, _) = resolved(&server.get(&question("call"), &[]));
    std::fs::write(server.file("call.json"), r#"{"generation":3}"#).unwrap();
    let (after, _) = resolved(&server.get(&question("call"), &[]));
    assert!(after.contains(".g3."), "{after}");
    assert_eq!(server.get(split(&before).1, &[]).status, 403);
    assert_eq!(server.get(split(&after).1, &[]).status, 200);
}

/// A WAV of 8000 bytes a second whose sound is a hole in the file.
fn put_wav(server: &Server, name: &str, seconds: u32) {
    let mut head =
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data"
            .to_vec();
    head.extend((seconds * 8000).to_le_bytes());
    let file = File::create(server.file(name)).unwrap();
    file.write_all_at(&head, 0).unwrap();
    file.set_len(44 + u64::from(seconds) * 8000).unwrap();
}

#[test]
fn a_url_lives_for_as_long_as_the_call_takes() {
    let server = Server::start();
    put_wav(&server, "short.wav", 10);
    put_wav(&server, "hour.wav", 3600);
    put_wav(&server, "day.wav", 86_400);
    server.put("noise.wav", 1000);
    server.put("song.mp3", 1000);
    for (id, ttl) in [
        ("short", 900 + 10),
        ("hour", 900 + 3600),
        ("day", 43_200),
        ("noise", 900),
        ("song", 900),
    ] {
        let rounded = |now: u64| (now + ttl).div_ceil(300) * 300;
        let before = rounded(server::now().0);
        let (url, end) = resolved(&server.get(&question(id), &[]));
        let after = rounded(server::now().0);
        assert!((before..=after).contains(&end), "{id}: {before} {end}");
        if id == "day" {
            assert_eq!(server.ask("HEAD", split(&url).1, &[]).status, 200);
        }
    }
}

#[test]
fn one_window_gives_one_url() {
    let server = Server::start();
    server.put("call.wav", 10);
    let window = || (server::now().0 + 900).div_ceil(300);
    let before = window();
    let (one, _) = resolved(&server.get(&question("call"), &[]));
    let (other, _) = resolved(&server.get(&question("call"), &["X: y"]));
    assert!(one == other || before != window(), "{one} {other}");
}

#[cfg(feature = "hubspot")]
mod guard {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use tonearm::app::{Guard, Mode, Resolver, Signatures};
    use tonearm::hubspot::signature::sign;
    use tonearm::server::now;

    use super::{Server, question, with};

    const SECRET: &str = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy";
    const BASE: &str = "https://rec.example.com";

    fn guarded(guard: Guard) -> Server {
        let server = with(Resolver {
            guard: Arc::new(guard),
            ..Resolver::default()
        });
        server.put("call.wav", 100);
        server.put("other.wav", 100);
        server
    }

    fn signing(mode: Mode) -> Server {
        let base = BASE.parse().unwrap();
        let signatures = Signatures {
            mode,
            secret: SECRET.to_owned().into(),
            base,
        };
        guarded(Guard::new(Some(signatures), None, None))
    }

    #[test]
    fn a_question_that_is_to_be_signed() {
        let server = signing(Mode::Require);
        let target = question("call");
        let lines = |url: &str, now_ms: u64, keep: &[usize]| -> Vec<String> {
            let fields = sign(SECRET, "GET", url, b"", now_ms);
            let kept = fields
                .iter()
                .enumerate()
                .filter(|(at, _)| keep.contains(at));
            kept.map(|(_, (name, value))| format!("{name}: {value}"))
                .collect()
        };
        let now_ms = now().0 * 1000;
        let public = format!("{BASE}{target}");
        let here = format!("http://{}{target}", server.addr);
        for (what, lines, status) in [
            ("all versions", lines(&public, now_ms, &[0, 1, 2, 3]), 200),
            ("version 3", lines(&public, now_ms, &[0, 1]), 200),
            ("version 2", lines(&public, now_ms, &[2, 3]), 200),
            (
                "four minutes ago",
                lines(&public, now_ms - 240_000, &[0, 1]),
                200,
            ),
            (
                "six minutes ago",
                lines(&public, now_ms - 360_000, &[0, 1]),
                403,
            ),
            (
                "in two minutes",
                lines(&public, now_ms + 120_000, &[0, 1]),
                403,
            ),
            ("without a time", lines(&public, now_ms, &[0]), 403),
            ("for another host", lines(&here, now_ms, &[0, 1]), 403),
            (
                "for another call",
                lines(&public.replace("call", "other"), now_ms, &[0, 1]),
                403,
            ),
            ("not at all", vec![], 403),
        ] {
            let fields: Vec<_> = lines.iter().map(String::as_str).collect();
            let got = server.get(&target, &fields);
            assert_eq!(got.status, status, "{what}: {got:?}");
            assert!(
                status == 200 || !got.text().contains("sign"),
                "{what}: {got:?}"
            );
        }
        // Which of two would be meant?
        let lines = lines(&public, now_ms, &[0, 1]);
        let twice = lines.iter().chain(&lines);
        let fields: Vec<_> = twice.map(String::as_str).collect();
        assert_eq!(server.get(&target, &fields).status, 403);
    }

    #[test]
    fn a_signature_that_is_only_observed_refuses_nobody() {
        let server = signing(Mode::Observe);
        assert_eq!(server.get(&question("call"), &[]).status, 200);
        let bad = "X-HubSpot-Signature-v3: no";
        assert_eq!(server.get(&question("call"), &[bad]).status, 200);
    }

    #[test]
    fn too_many_questions() {
        let limit = NonZeroU32::new(3);
        for (guard, other) in [
            (Guard::new(None, None, limit), 200),
            (Guard::new(None, limit, None), 429),
        ] {
            let server = guarded(guard);
            let statuses: Vec<_> = (0..4)
                .map(|_| server.get(&question("call"), &[]).status)
                .collect();
            assert_eq!(statuses, [200, 200, 200, 429]);
            let limited = server.get(&question("call"), &[]);
            let wait: u64 = limited.field("retry-after").unwrap().parse().unwrap();
            assert!((1..=20).contains(&wait), "{limited:?}");
            assert_eq!(server.get(&question("other"), &[]).status, other);
            // The recordings themselves are not counted.
            assert_eq!(server.get(&server.sign("call.wav"), &[]).status, 200);
        }
    }
}
