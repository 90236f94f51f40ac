//! Edges: what `/edge/verify` answers, and what an edge that shows its secret is given.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use tonearm::recording::UnixTime;
use tonearm::server;
use tonearm::sign::{Audience, Claims, Disposition, Key, Keyring, Policy, TokenId, Window};

use crate::harness::raw::Response;
use crate::harness::signer::target;
use crate::harness::{Server, Setup, keyring, pattern};

const PATH: &str = "/media/app-101/test-account-01/call.wav";
const REVOKED: TokenId = TokenId([7; 12]);

fn secret(first: u8) -> Vec<u8> {
    (first..first + 32).collect()
}

fn edge_key(kid: &str, first: u8, window: Window) -> Key {
    let audience = Audience::Edge("cdn".to_owned());
    Key::new(kid, &secret(first), window, audience).unwrap()
}

/// The harness's key; two of the edge `cdn`, of which one shows itself in a field of its own; one
/// that has retired.
fn ring() -> Keyring {
    let mut keys = keyring().keys().to_vec();
    let retired = Window {
        verify_until: Some(UnixTime(server::now().0 - 1)),
        ..Window::default()
    };
    keys.push(edge_key("e1", 100, Window::default()));
    keys.push(edge_key("e2", 150, Window::default()).shown_in("x-origin-auth"));
    keys.push(edge_key("e3", 200, retired));
    Keyring::new(keys, HashSet::from([REVOKED]), &Policy::default()).unwrap()
}

fn start() -> Server {
    let server = Server::with(Setup {
        keyring: Some(ring()),
        ..Setup::default()
    });
    server.put("call.wav", 1000);
    server
}

fn pull() -> String {
    format!("X-Tonearm-Pull: {}", URL_SAFE_NO_PAD.encode(secret(100)))
}

fn ask(server: &Server, uri: &str) -> Response {
    let uri = format!("X-Original-URI: {uri}");
    server.get("/edge/verify", &[&uri, "X-Original-Method: GET"])
}

fn position(response: &Response, name: &str) -> usize {
    let is = |(found, _): &(String, String)| found.eq_ignore_ascii_case(name);
    response.fields.iter().position(is).unwrap()
}

fn check_denied(response: &Response, reason: &str, what: &str) {
    assert_eq!(response.status, 403, "{what}: {response:?}");
    assert_eq!(response.field("x-tonearm-reason"), Some(reason), "{what}");
    assert_eq!(response.field("cache-control"), Some("no-store"), "{what}");
    assert_eq!(response.field("x-accel-expires"), None, "{what}");
    assert_eq!(response.field("x-tonearm-exp"), None, "{what}");
}

fn sign(server: &Server, change: impl FnOnce(Claims) -> Claims) -> String {
    server.sign_with("call.wav", change)
}

#[test]
fn a_yes_says_until_when_and_how() {
    let server = start();
    for (left, fresh) in [(3600, 60), (61, 60), (40, 40)] {
        let now = server::now();
        let exp = now.plus(left);
        let uri = sign(&server, |claims| Claims { exp, ..claims });
        let yes = ask(&server, &uri);
        assert_eq!((yes.status, yes.body.len()), (204, 0), "{yes:?}");
        // Seconds may pass between here and there.
        let until = yes
            .field("x-accel-expires")
            .unwrap()
            .strip_prefix('@')
            .unwrap();
        let until: u64 = until.parse().unwrap();
        let age = yes
            .field("cache-control")
            .unwrap()
            .strip_prefix("max-age=")
            .unwrap();
        let age: u64 = age.parse().unwrap();
        let there = until - age;
        assert!((now.0..now.0 + 3).contains(&there), "{yes:?}");
        assert_eq!(until, exp.0.min(there + 60), "{fresh} {yes:?}");
        assert!(age <= fresh);
        assert_eq!(yes.field("x-tonearm-exp"), Some(&*exp.to_string()));
        assert!(position(&yes, "x-accel-expires") < position(&yes, "cache-control"));
    }
    for (disposition, says, kind) in [
        (
            None,
            "attachment; filename=\"call.wav\"",
            "application/octet-stream",
        ),
        (Some(Disposition::Inline), "inline", "audio/wav"),
        (
            Some(Disposition::Attachment(Some("Call with Zoe.wav".into()))),
            "attachment; filename=\"Call with Zoe.wav\"",
            "application/octet-stream",
        ),
    ] {
        let uri = sign(&server, |claims| Claims {
            disposition,
            ..claims
        });
        let yes = ask(&server, &uri);
        assert_eq!(yes.field("x-tonearm-disposition"), Some(says));
        assert_eq!(yes.field("x-tonearm-type"), Some(kind));
        // As the recording itself is sent.
        let direct = server.get(&uri, &[]);
        assert_eq!(direct.field("content-disposition"), Some(says));
        assert_eq!(direct.field("content-type"), Some(kind));
    }
}

#[test]
fn a_no_is_a_403_whatever_is_wrong() {
    let server = start();
    let good = sign(&server, |claims| claims);
    let mac = good.rfind('.').unwrap() + 1;
    let forged = format!("{}{}", &good[..mac], "A".repeat(43));
    let now = server::now().0;
    let expired = target(PATH, &format!("1.k1.{}", now - 1));
    let of_edge = target(PATH, &format!("1.e1.{}", now + 60));
    let revoked = sign(&server, |claims| Claims {
        token_id: Some(REVOKED),
        ..claims
    });
    let elsewhere = good.replace("call.wav", "other.wav");
    let resolver = "/retrieve/authenticated/recordings/call?appId=1&externalAccountId=2";
    let not_media = target("/other/place", &format!("1.k1.{}", now + 60));
    for (uri, reason) in [
        (&*forged, "bad_signature"),
        (&expired, "expired"),
        (&of_edge, "unknown_key"),
        (&revoked, "revoked"),
        (PATH, "missing"),
        (&elsewhere, "bad_signature"),
        (
            &format!("{good}&{}", good.split_once('?').unwrap().1),
            "duplicate",
        ),
        (&format!("{PATH}?sig=1.k1"), "malformed"),
        (&good.replace("call", "%63all"), "bad_path"),
        (&format!("http://h{good}"), "bad_path"),
        (resolver, "missing"),
        (&not_media, "no_route"),
        ("/edge/verify", "missing"),
        ("*", "bad_path"),
        (&format!("{good}&{}", "x".repeat(2048)), "too_long"),
        (&format!("/{}", "x".repeat(20_000)), "malformed"),
    ] {
        check_denied(&ask(&server, uri), reason, uri);
    }
}

#[test]
fn an_edge_that_does_not_ask_properly_gets_a_403() {
    let server = start();
    let uri = format!("X-Original-URI: {}", sign(&server, |claims| claims));
    let get = "X-Original-Method: GET";
    assert_eq!(server.get("/edge/verify?x=y", &[&uri, get]).status, 204);
    let head = ["X-Original-Method: HEAD", &uri];
    assert_eq!(server.get("/edge/verify", &head).status, 204);
    assert_eq!(server.ask("HEAD", "/edge/verify", &[&uri, get]).status, 204);
    for (fields, reason) in [
        (vec![], "method"),
        (vec![get], "malformed"),
        (vec![&*uri], "method"),
        (vec![&uri, "X-Original-Method: POST"], "method"),
        (vec![&uri, "X-Original-Method: OPTIONS"], "method"),
        (vec![&uri, "X-Original-Method: get"], "method"),
        (vec![&uri, get, get], "method"),
        (vec![&uri, &uri, get], "malformed"),
        (vec!["X-Original-URI: /media/\u{e4}", get], "malformed"),
        (vec!["X-Original-URI:", get], "bad_path"),
    ] {
        let no = server.get("/edge/verify", &fields);
        check_denied(&no, reason, &format!("{fields:?}"));
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let no = server.ask(method, "/edge/verify", &[&uri, get]);
        check_denied(&no, "method", method);
    }
    // A message that could be two is refused too, and ends its connection.
    let mut client = server.connect();
    client.send(format!(
        "GET /edge/verify HTTP/1.1\r\n{uri}\r\n{get}\r\n\r\n"
    ));
    let no = client.response("GET");
    check_denied(&no, "malformed", "no Host");
    assert_eq!(no.field("connection"), Some("close"));
}

#[test]
fn a_verdict_is_given_where_no_more_responses_are() {
    let server = Server::with(Setup {
        most_responses: 1,
        ..Setup::default()
    });
    server.put("call.wav", 8 << 20);
    let uri = sign(&server, |claims| claims);
    let mut busy = server.connect();
    busy.set_receive_buffer(8 * 1024);
    busy.ask("GET", &uri, &[]);
    busy.head();
    assert_eq!(server.get(&uri, &[]).status, 503);
    assert_eq!(ask(&server, &uri).status, 204);
}

#[test]
fn a_url_bound_to_a_host_is_judged_by_the_host_of_the_question() {
    let server = start();
    let uri = sign(&server, |claims| Claims {
        host_bound: true,
        ..claims
    });
    assert_eq!(ask(&server, &uri).status, 204);
    let mut client = server.connect();
    client.send(format!(
        "GET /edge/verify HTTP/1.1\r\nHost: other.example\r\nX-Original-URI: {uri}\r\nX-Original-Method: GET\r\n\r\n"
    ));
    check_denied(&client.response("GET"), "bad_signature", "another host");
}

#[test]
fn what_is_revoked_or_erased_is_refused_and_what_never_was_is_for_the_origin_to_say() {
    let server = start();
    let uri = sign(&server, |claims| claims);
    std::fs::write(server.file("call.json"), r#"{"generation":1}"#).unwrap();
    check_denied(&ask(&server, &uri), "revoked", "an older generation");
    let newer = sign(&server, |claims| Claims {
        generation: Some(1),
        ..claims
    });
    assert_eq!(ask(&server, &newer).status, 204);
    std::fs::write(server.file("call.json"), "{").unwrap();
    check_denied(
        &ask(&server, &newer),
        "unavailable",
        "a record that cannot be read",
    );
    assert_eq!(ask(&server, &server.sign("never.wav")).status, 204);
}

fn check_public(response: &Response, what: &str) {
    let public = "public, max-age=31536000, immutable, no-transform";
    assert_eq!(response.field("cache-control"), Some(public), "{what}");
    assert_eq!(
        response.field("x-accel-expires"),
        Some("31536000"),
        "{what}"
    );
    for name in ["cdn-cache-control", "surrogate-control"] {
        assert_eq!(
            response.field(name),
            Some("max-age=31536000, immutable"),
            "{what}"
        );
    }
    assert!(
        position(response, "x-accel-expires") < position(response, "cache-control"),
        "{what}: {response:?}"
    );
}

#[test]
fn an_edge_that_shows_its_secret_is_given_media_by_path() {
    let server = start();
    let bytes = pattern(1000);
    let padded = format!("X-Tonearm-Pull: {}", URL_SAFE.encode(secret(100)));
    let other_field = format!("X-Origin-Auth: {}", URL_SAFE_NO_PAD.encode(secret(150)));
    for shown in [&pull(), &padded, &other_field] {
        let whole = server.get(PATH, &[shown]);
        assert_eq!((whole.status, &whole.body), (200, &bytes), "{shown}");
        check_public(&whole, shown);
    }
    let viewer = server.get(&server.sign("call.wav"), &[]);
    let etag = viewer.field("etag").unwrap();
    let validator = format!("If-None-Match: {etag}");
    for (fields, status, body) in [
        (vec!["Range: bytes=100-199"], 206, &bytes[100..200]),
        (vec!["Range: bytes=0-"], 206, &bytes[..]),
        (vec![&*validator], 304, &[]),
    ] {
        let mut fields = fields;
        let shown = pull();
        fields.push(&shown);
        let part = server.get(PATH, &fields);
        assert_eq!((part.status, &*part.body), (status, body), "{fields:?}");
        assert_eq!(part.field("etag"), Some(etag));
        check_public(&part, &format!("{fields:?}"));
    }
    let parts = server.get(PATH, &["Range: bytes=0-1,5-9", &pull()]);
    assert_eq!(parts.status, 206);
    check_public(&parts, "multipart");
    let head = server.ask("HEAD", PATH, &[&pull()]);
    assert_eq!(head.status, 200);
    check_public(&head, "HEAD");
    // The recording's own name, whatever the viewer that made the edge ask was promised.
    assert_eq!(
        head.field("content-disposition"),
        Some("attachment; filename=\"call.wav\"")
    );
    // Errors are nobody's to keep, and a revoked URL is not a revoked recording.
    for (target, fields, status) in [
        (PATH.replace("call", "none"), vec![], 404),
        (PATH.to_owned(), vec!["Range: bytes=1000-"], 416),
    ] {
        let mut fields = fields;
        let shown = pull();
        fields.push(&shown);
        let error = server.get(&target, &fields);
        assert_eq!(error.status, status);
        assert_eq!(error.field("x-accel-expires"), None, "{error:?}");
    }
    std::fs::write(server.file("call.json"), r#"{"generation":9}"#).unwrap();
    assert_eq!(server.get(PATH, &[&pull()]).status, 200);
}

#[test]
fn a_wrong_secret_is_a_viewer() {
    let server = start();
    let of = |name: &str, first| format!("{name}: {}", URL_SAFE_NO_PAD.encode(secret(first)));
    let [right, wrong] = [of("X-Tonearm-Pull", 100), of("X-Tonearm-Pull", 101)];
    let signed = server.sign("call.wav");
    for fields in [
        vec![&*wrong],
        vec!["X-Tonearm-Pull:"],
        vec!["X-Tonearm-Pull: ="],
        vec!["X-Tonearm-Pull: \u{e4}"],
        // The origin's own key, one that has retired, one in the other's field, and one twice.
        vec![&*of("X-Tonearm-Pull", 0)],
        vec![&*of("X-Tonearm-Pull", 200)],
        vec![&*of("X-Tonearm-Pull", 150)],
        vec![&*of("X-Origin-Auth", 100)],
        vec![&*right, &*right],
        vec![&*format!("{right}A")],
        vec![&*format!("X-Tonearm-Pull: {}", "A".repeat(4000))],
    ] {
        let unsigned = server.get(PATH, &fields);
        assert_eq!(unsigned.status, 403, "{fields:?}");
        let viewer = server.get(&signed, &fields);
        assert_eq!(viewer.status, 200, "{fields:?}");
        let private = viewer.field("cache-control").unwrap();
        assert!(private.starts_with("private, "), "{fields:?}");
        assert_eq!(viewer.field("x-accel-expires"), None, "{fields:?}");
    }
    // It opens media, and nothing else.
    let elsewhere = server.get("/other", &[&right]);
    assert_eq!(elsewhere.status, 404);
    let dots = server.get("/media/../keyring.toml", &[&right]);
    assert_eq!(dots.status, 403);
}
