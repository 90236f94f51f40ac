//! The fields on every response, the recording's record, and what pages of other sites may read.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use tonearm::recording::UnixTime;
use tonearm::server;
use tonearm::sign::Disposition;

use crate::harness::multipart::parts;
use crate::harness::raw::Response;
use crate::harness::{MODIFIED, MODIFIED_DATE, OWNER, Server, pattern};

fn attachment(name: &str) -> Disposition {
    Disposition::Attachment(Some(name.to_owned()))
}

fn sign_as(server: &Server, name: &str, disposition: Disposition) -> String {
    server.sign_with(name, |mut claims| {
        claims.disposition = Some(disposition);
        claims
    })
}

/// Writes a record that was made for the file as it is.
fn record(server: &Server, name: &str, bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let stem = name.split_once('.').unwrap().0;
    let text = format!(
        r#"{{"file":{{"size":{},"modified_ns":{},"sha256":"{hex}"}},"of":{{"a":[1]}}}}"#,
        bytes.len(),
        MODIFIED * 1_000_000_000
    );
    std::fs::write(server.file(&format!("{stem}.json")), text).unwrap();
    hex
}

fn check_described(response: &Response, what: &str) {
    assert_eq!(response.field("accept-ranges"), Some("bytes"), "{what}");
    let etag = response.field("etag").expect("an ETag");
    assert!(
        etag.starts_with('"') && etag.ends_with('"'),
        "{what}: {etag}"
    );
    assert_eq!(
        response.field("last-modified"),
        Some(MODIFIED_DATE),
        "{what}"
    );
    assert!(response.field("cache-control").is_some(), "{what}");
    assert!(response.field("content-length").is_some(), "{what}");
    assert!(response.field("content-type").is_some(), "{what}");
    let disposition = response.field("content-disposition");
    assert_eq!(
        disposition,
        Some("attachment; filename=\"call.wav\""),
        "{what}"
    );
    assert_eq!(
        response.field("access-control-allow-origin"),
        Some("*"),
        "{what}"
    );
    check_exposed(response);
}

fn check_exposed(response: &Response) {
    let exposed = response.field("access-control-expose-headers");
    let exposed = exposed.expect("exposed fields").to_ascii_lowercase();
    let mut names: Vec<_> = exposed.split(',').map(str::trim).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["accept-ranges", "content-length", "content-range", "etag"]
    );
    assert_eq!(response.field("access-control-allow-credentials"), None);
}

#[test]
fn every_200_206_and_head_describes_the_recording() {
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    for (method, range, status, length) in [
        ("GET", "X: y", 200, Some("1000")),
        ("HEAD", "X: y", 200, Some("1000")),
        ("GET", "Range: bytes=0-99", 206, Some("100")),
        ("GET", "Range: bytes=0-9,20-29", 206, None),
        ("HEAD", "Range: bytes=0-99", 200, Some("1000")),
    ] {
        let response = server.ask(method, &target, &[range]);
        assert_eq!(response.status, status, "{method} {range}");
        check_described(&response, range);
        if length.is_some() {
            assert_eq!(response.field("content-length"), length, "{method} {range}");
        }
    }
}

#[test]
fn head_has_the_fields_of_get_whatever_the_answer() {
    let server = Server::start();
    server.put("call.wav", 1000);
    server.put("empty.wav", 0);
    record(&server, "call.wav", &pattern(1000));
    let retrieve = "/retrieve/authenticated/recordings";
    let owner = "appId=app-101&externalAccountId=test-account-01";
    for (target, field, status) in [
        (server.sign("call.wav"), "X: y", 200),
        (server.sign("empty.wav"), "X: y", 200),
        (server.sign("call.wav"), "If-None-Match: *", 304),
        (server.sign("call.wav"), "If-Match: \"x\"", 412),
        (server.sign("absent.wav"), "X: y", 404),
        (format!("/media/{OWNER}/call.wav"), "X: y", 403),
        ("/nowhere".into(), "X: y", 404),
        (format!("{retrieve}/call?{owner}"), "X: y", 200),
        (format!("{retrieve}/absent?{owner}"), "X: y", 404),
        (format!("{retrieve}/call"), "X: y", 400),
        (format!("/{}", "x".repeat(3000)), "X: y", 414),
    ] {
        let get = server.ask("GET", &target, &[field]);
        let head = server.ask("HEAD", &target, &[field]);
        assert_eq!((get.status, head.status), (status, status), "{target}");
        assert_eq!(head.undated(), get.undated(), "{target}");
        if status != 304 {
            let length = get.body.len().to_string();
            assert_eq!(
                head.field("content-length"),
                Some(length.as_str()),
                "{target}"
            );
        }
    }
}

#[test]
fn a_head_is_followed_by_no_body() {
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    let mut client = server.connect();
    for _ in 0..3 {
        client.ask("HEAD", &target, &[]);
        let head = client.response("HEAD");
        assert_eq!(head.field("content-length"), Some("1000"));
    }
    client.ask("HEAD", &target, &["Connection: close"]);
    client.response("HEAD");
    assert!(client.is_closed(), "bytes behind the head");
}

#[test]
fn a_viewer_keeps_a_recording_no_longer_than_its_url() {
    let server = Server::start();
    server.put("call.wav", 1000);
    for (ttl, least, most) in [
        (100, 60, 100),
        (599, 550, 599),
        (3600, 600, 600),
        (43_000, 600, 600),
    ] {
        let target = server.sign_with("call.wav", |mut claims| {
            claims.exp = UnixTime(server::now().0 + ttl);
            claims
        });
        for field in ["X: y", "Range: bytes=0-5", "If-None-Match: *"] {
            let response = server.get(&target, &[field]);
            let value = response.field("cache-control").unwrap();
            let age = value.strip_prefix("private, no-transform, max-age=");
            let age: u64 = age.expect(value).parse().unwrap();
            assert!((least..=most).contains(&age), "{ttl} {field}: {value}");
        }
    }
}

#[test]
fn content_type_follows_the_grant_and_the_bytes_do_not() {
    let server = Server::start();
    for (name, inline) in [
        ("call.wav", "audio/wav"),
        ("call.flac", "audio/flac"),
        ("call.mp3", "audio/mpeg"),
        ("call.mp4", "video/mp4"),
        ("call.m4a", "audio/m4a"),
    ] {
        server.put(name, 500);
        let own = format!("attachment; filename=\"{name}\"");
        for (target, media_type, disposition) in [
            (server.sign(name), "application/octet-stream", own.as_str()),
            (
                sign_as(&server, name, Disposition::Attachment(None)),
                "application/octet-stream",
                own.as_str(),
            ),
            (
                sign_as(&server, name, Disposition::Inline),
                inline,
                "inline",
            ),
        ] {
            for range in ["X: y", "Range: bytes=0-499"] {
                let response = server.get(&target, &[range]);
                assert_eq!(response.field("content-type"), Some(media_type), "{name}");
                let found = response.field("content-disposition");
                assert_eq!(found, Some(disposition), "{name}");
                assert_eq!(response.body, pattern(500), "{name}");
            }
            let many = server.get(&target, &["Range: bytes=0-5,10-15"]);
            for part in parts(&many) {
                assert_eq!(part.content_type, media_type, "{name}");
            }
        }
    }
}

#[test]
fn file_names_of_grants() {
    let server = Server::start();
    server.put("call.wav", 10);
    // RFC 6266 §4.3, appendix D; RFC 8187 §3.2.
    for (name, expect) in [
        ("plain.wav", "attachment; filename=\"plain.wav\""),
        ("two words.wav", "attachment; filename=\"two words.wav\""),
        ("semi;colon.wav", "attachment; filename=\"semi;colon.wav\""),
        (
            "Zoë.wav",
            "attachment; filename=\"Zo_.wav\"; filename*=UTF-8''Zo%C3%AB.wav",
        ),
        (
            "電話 €5.wav",
            "attachment; filename=\"__ _5.wav\"; filename*=UTF-8''%E9%9B%BB%E8%A9%B1%20%E2%82%AC5.wav",
        ),
        (
            "100%.wav",
            "attachment; filename=\"100_.wav\"; filename*=UTF-8''100%25.wav",
        ),
        (
            "a\"b.wav",
            "attachment; filename=\"a_b.wav\"; filename*=UTF-8''a%22b.wav",
        ),
        ("it's (1)*.wav", "attachment; filename=\"it's (1)*.wav\""),
        (
            "é'(*).wav",
            "attachment; filename=\"_'(*).wav\"; filename*=UTF-8''%C3%A9%27%28%2A%29.wav",
        ),
    ] {
        let target = sign_as(&server, "call.wav", attachment(name));
        let response = server.get(&target, &[]);
        assert_eq!(response.status, 200, "{name}");
        assert_eq!(
            response.field("content-disposition"),
            Some(expect),
            "{name}"
        );
        assert_eq!(response.body, pattern(10), "{name}");
    }
}

#[test]
fn a_file_name_cannot_end_a_line() {
    use crate::harness::signer;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

    let server = Server::start();
    server.put("call.wav", 10);
    let exp = server::now().0 + 600;
    let path = format!("/media/{OWNER}/call.wav");
    // No minter makes these; a key's holder could.
    for name in [
        "a\r\nSet-Cookie: x=1",
        "a\nb",
        "../../etc/passwd",
        "a\0b",
        "\u{7f}",
    ] {
        let signed = format!("1.k1.{exp}.da-{}", BASE64URL.encode(name));
        let response = server.get(&signer::target(&path, &signed), &[]);
        assert!(matches!(response.status, 200 | 403), "{name:?}");
        assert_eq!(response.field("set-cookie"), None, "{name:?}");
        let disposition = response.field("content-disposition").unwrap_or_default();
        assert!(!disposition.contains(['/', '\\', '\0']), "{disposition}");
    }
}

#[test]
fn etags_are_of_content_where_a_record_knows_it() {
    let server = Server::start();
    let bytes = pattern(1000);
    server.put("call.wav", 1000);
    let hex = record(&server, "call.wav", &bytes);
    let target = server.sign("call.wav");
    let digest = format!("sha-256=:{}:", BASE64.encode(Sha256::digest(&bytes)));
    let etag = format!("\"{hex}\"");
    for (method, field) in [
        ("GET", "X: y"),
        ("HEAD", "X: y"),
        ("GET", "Range: bytes=0-5"),
        ("GET", "Range: bytes=0-5,10-15"),
    ] {
        let response = server.ask(method, &target, &[field]);
        assert_eq!(response.field("etag"), Some(etag.as_str()), "{field}");
        // RFC 9530 §3: of the whole representation, also beside a part.
        let found = response.field("repr-digest");
        assert_eq!(found, Some(digest.as_str()), "{field}");
    }
    let known = server.get(&target, &[&format!("If-None-Match: {etag}")]);
    assert_eq!(known.status, 304);
    assert_eq!(known.field("etag"), Some(etag.as_str()));
    let part = server.get(&target, &["Range: bytes=0-5", &format!("If-Range: {etag}")]);
    assert_eq!(part.status, 206);
}

#[test]
fn a_record_of_another_file_says_nothing_of_this_one() {
    let server = Server::start();
    let bytes = pattern(1000);
    let target = server.sign("call.wav");
    let hex = record(&server, "call.wav", &bytes);
    for (what, length, modified) in [
        ("another length", 999, MODIFIED),
        ("another time", 1000, MODIFIED + 1),
    ] {
        server.put("call.wav", length);
        server.date("call.wav", UNIX_EPOCH + Duration::from_secs(modified));
        let response = server.get(&target, &[]);
        assert_eq!(response.status, 200, "{what}");
        assert_eq!(response.field("repr-digest"), None, "{what}");
        assert!(!response.field("etag").unwrap().contains(&hex), "{what}");
    }
}

#[test]
fn a_record_that_cannot_be_read_opens_nothing() {
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    for text in [
        "",
        "{",
        "[]",
        "{\"generation\":-1}",
        "{\"generation\":\"1\"}",
    ] {
        std::fs::write(server.file("call.json"), text).unwrap();
        let response = server.get(&target, &[]);
        assert_eq!(response.status, 500, "{text:?}");
        assert!(!response.text().contains("JSON"), "{}", response.text());
    }
    std::fs::write(server.file("call.json"), "{}").unwrap();
    assert_eq!(server.get(&target, &[]).status, 200);
}

#[test]
fn etags_are_equal_on_replicas_and_differ_between_versions() {
    let (one, other) = (Server::start(), Server::start());
    let etag = |server: &Server| {
        let response = server.get(&server.sign("call.wav"), &[]);
        response.field("etag").unwrap().to_owned()
    };
    one.put("call.wav", 1000);
    other.put("call.wav", 1000);
    let first = etag(&one);
    assert_eq!(first, etag(&other));
    one.put("call.wav", 1001);
    assert_ne!(etag(&one), first, "another length");
    one.put("call.wav", 1000);
    assert_eq!(
        etag(&one),
        first,
        "the same once more, in another inode's place"
    );
    // Nanoseconds count.
    one.date("call.wav", UNIX_EPOCH + Duration::new(MODIFIED, 1));
    assert_ne!(etag(&one), first, "a nanosecond later");
}

#[test]
fn a_file_from_before_1970_has_a_validator_too() {
    let server = Server::start();
    server.put("call.wav", 1000);
    server.date("call.wav", UNIX_EPOCH - Duration::from_millis(1500));
    let target = server.sign("call.wav");
    let whole = server.get(&target, &[]);
    assert_eq!((whole.status, whole.body.len()), (200, 1000));
    let etag = whole.field("etag").expect("an ETag");
    let known = server.get(&target, &[&format!("If-None-Match: {etag}")]);
    assert_eq!(known.status, 304);
    // A date that is not shown is not compared with either.
    let epoch = "Thu, 01 Jan 1970 00:00:00 GMT";
    for (field, status) in [("If-Modified-Since", 200), ("If-Unmodified-Since", 200)] {
        let response = server.get(&target, &[&format!("{field}: {epoch}")]);
        assert_eq!(response.status, status, "{field}");
    }
}

#[test]
fn a_page_of_any_origin_may_seek() {
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    let plain = server.get(&target, &[]);
    for origin in ["null", "https://app.hubspot.com"] {
        let response = server.get(&target, &[&format!("Origin: {origin}")]);
        assert_eq!(response.undated(), plain.undated(), "{origin}");
        assert_eq!(response.body, plain.body, "{origin}");
    }
    // A page has to be able to tell an expired URL from a network that is down.
    let mut refused = target;
    refused.push('x');
    let refused = server.get(&refused, &["Origin: null"]);
    assert_eq!(refused.status, 403);
    assert_eq!(refused.field("access-control-allow-origin"), Some("*"));
}

#[test]
fn the_preflight_allows_range() {
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    let path = target.split('?').next().unwrap();
    for target in [target.as_str(), path] {
        let response = server.ask(
            "OPTIONS",
            target,
            &[
                "Origin: null",
                "Access-Control-Request-Method: GET",
                "Access-Control-Request-Headers: range, if-range",
            ],
        );
        assert_eq!(response.status, 204, "{target}");
        let list = |name: &str| -> Vec<String> {
            let value = response.field(name).unwrap_or_else(|| panic!("no {name}"));
            let members = value.split(',').map(|member| member.trim().to_lowercase());
            members.collect()
        };
        assert_eq!(list("access-control-allow-headers"), ["range", "if-range"]);
        assert!(list("access-control-allow-methods").contains(&"get".into()));
        assert_eq!(list("allow"), ["get", "head", "options"]);
        assert_eq!(response.field("access-control-allow-origin"), Some("*"));
        assert_eq!(response.field("access-control-allow-credentials"), None);
    }
}

#[test]
fn nothing_is_negotiated() {
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    let plain = server.get(&target, &[]);
    for field in [
        "Accept: image/png",
        "Accept-Encoding: gzip, br, identity;q=0",
        "Accept-Language: de",
        "Cookie: a=b",
        "Cache-Control: no-cache",
        "Authorization: Bearer x",
        "TE: trailers",
        "Upgrade: h2c, websocket",
        "Want-Repr-Digest: sha-512=10",
        "X-Forwarded-Host: evil.example",
        "X-HTTP-Method-Override: DELETE",
    ] {
        let response = server.get(&target, &[field]);
        assert_eq!(response.status, 200, "{field}");
        assert_eq!(response.undated(), plain.undated(), "{field}");
        assert_eq!(response.body, plain.body, "{field}");
    }
}
