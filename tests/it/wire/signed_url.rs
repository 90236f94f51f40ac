//! The signed URL: every step of its verification, what it answers, and what it keeps to itself.

use std::collections::HashSet;
use std::os::unix::fs::symlink;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use tonearm::recording::UnixTime;
use tonearm::server;
use tonearm::sign::{Audience, Claims, Key, Keyring, Policy, TokenId, Window};

use crate::harness::raw::Response;
use crate::harness::signer::{target, token};
use crate::harness::{OWNER, Server, Setup, keyring};

fn path() -> String {
    format!("/media/{OWNER}/call.wav")
}

fn now() -> u64 {
    server::now().0
}

/// The token's signed part, ten minutes long, with these options.
fn signed(options: &str) -> String {
    format!("1.k1.{}{options}", now() + 600)
}

fn with_call() -> Server {
    let server = Server::start();
    server.put("call.wav", 1000);
    server
}

/// Checks a refusal that says nothing of its reason, and that HEAD is of one class with GET.
fn check_silent(server: &Server, target: &str, what: &str) -> Response {
    let response = server.get(target, &[]);
    assert_eq!(response.status, 403, "{what}: {target}");
    assert_eq!(response.told(), None, "{what}");
    let head = server.ask("HEAD", target, &[]);
    assert_eq!(head.undated(), response.undated(), "{what}");
    response
}

fn check_told(server: &Server, target: &str, status: u16, reason: &str) {
    let response = server.get(target, &[]);
    assert_eq!(response.status, status, "{reason}: {response:?}");
    assert_eq!(response.told().as_deref(), Some(reason), "{response:?}");
    let head = server.ask("HEAD", target, &[]);
    assert_eq!(head.undated(), response.undated(), "{reason}");
}

#[test]
fn the_page_alone_suffices_to_sign() {
    let server = with_call();
    let whole = server.get(&target(&path(), &signed("")), &[]);
    assert_eq!((whole.status, whole.body.len()), (200, 1000));
    let head = server.ask("HEAD", &target(&path(), &signed("")), &[]);
    assert_eq!(head.status, 200);
    let sig = token("*", &path(), &signed(""));
    for query in [
        format!("a=b&sig={sig}"),
        format!("sig={sig}&a=b"),
        format!("a=b&sig={sig}&sig2=x&xsig=y"),
        format!("sig={sig}&%73ig=x&SIG=y"),
    ] {
        let response = server.get(&format!("{}?{query}", path()), &[]);
        assert_eq!(response.status, 200, "{query}");
    }
    for options in [
        ".di",
        ".da",
        ".g0",
        ".g7",
        ".g000000001",
        ".jAAAAAAAAAAAAAAAA",
    ] {
        let response = server.get(&target(&path(), &signed(options)), &[]);
        assert_eq!(response.status, 200, "{options}");
    }
}

#[test]
fn step_1_method_and_length() {
    let server = with_call();
    let good = server.sign("call.wav");
    for target in [good.as_str(), "/nowhere", "/media/a", "/"] {
        for method in [
            "POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get", "Get",
        ] {
            let response = server.ask(method, target, &[]);
            assert_eq!(response.status, 405, "{method} {target}");
        }
    }
    let padded = |length: usize| format!("{good}&{}", "x".repeat(length - good.len() - 1));
    for method in ["GET", "HEAD"] {
        assert_eq!(
            server.ask(method, &padded(2048), &[]).status,
            200,
            "{method}"
        );
        assert_eq!(
            server.ask(method, &padded(2049), &[]).status,
            414,
            "{method}"
        );
    }
}

#[test]
fn step_2_a_path_has_one_spelling() {
    let server = with_call();
    server.put(&format!("{}.wav", "x".repeat(125)), 10);
    let long = "s".repeat(128);
    for bad in [
        format!("/media/{OWNER}/%63all.wav"),
        format!("/media/{OWNER}/call%2Ewav"),
        format!("/media/{OWNER}/call.wav%00"),
        format!("/media/{OWNER}/call.wav/"),
        format!("/media/{OWNER}//call.wav"),
        format!("//media/{OWNER}/call.wav"),
        format!("/./media/{OWNER}/call.wav"),
        format!("/media/{OWNER}/./call.wav"),
        format!("/media/{OWNER}/../test-account-01/call.wav"),
        format!("/media/{OWNER}/call.wav/.."),
        format!("/media/{OWNER}/..%2F..%2Fetc%2Fpasswd"),
        format!("/media/{OWNER}/call.wav;v=1"),
        format!("/media/{OWNER}/call+1.wav"),
        format!("/media/{OWNER}/call.wav\\x"),
        format!("/media/{OWNER}/call,1.wav"),
        format!("/media/{OWNER}/{long}s"),
        format!("/{long}/{long}/{long}/{long}"),
        "//".into(),
        "/..".into(),
        "/x/".into(),
    ] {
        let plain = check_silent(&server, &bad, "no token");
        let signed = check_silent(&server, &target(&bad, &signed("")), "a true MAC");
        assert_eq!(plain.body, signed.body, "{bad}");
    }
}

#[test]
fn step_2_no_route_is_alike_for_everything() {
    let server = with_call();
    let first = server.get("/", &[]);
    assert_eq!(first.status, 404);
    assert_eq!(first.told(), None);
    for bare in [
        "/favicon.ico".to_owned(),
        "/media".into(),
        "/robots.txt".into(),
        format!("/media/{OWNER}"),
        format!("/media/{OWNER}/call"),
        format!("/media/{OWNER}/call.json"),
        format!("/media/{OWNER}/call.WAV"),
        format!("/media/{OWNER}/call.txt"),
        format!("/media/{OWNER}/.wav"),
        format!("/media/{OWNER}/x/call.wav"),
        format!("/Media/{OWNER}/call.wav"),
    ] {
        for target in [bare.clone(), target(&bare, &signed(""))] {
            let response = server.get(&target, &[]);
            assert_eq!(response.status, 404, "{target}");
            assert_eq!(response.body, first.body, "{target}");
        }
    }
}

#[test]
fn step_3_exactly_one_well_formed_token() {
    let server = with_call();
    let sig = token("*", &path(), &signed(""));
    let mac = sig.rsplit_once('.').unwrap().1.to_owned();
    let exp = now() + 600;
    let true_mac = |signed: String| format!("sig={}", token("*", &path(), &signed));
    let mut bodies = HashSet::new();
    for query in [
        String::new(),
        "sig".into(),
        "sig=".into(),
        "sig=.".into(),
        "a=b".into(),
        format!("SIG={sig}"),
        format!("%73ig={sig}"),
        format!("Sig={sig}"),
        format!("xsig={sig}"),
        format!("sig={sig}&sig={sig}"),
        format!("sig={sig}&sig="),
        format!("sig&sig={sig}"),
        format!("sig=x&a=b&sig={sig}"),
        format!("sig={sig};a=b"),
        format!("sig={sig}?a=b"),
        format!("sig={sig}="),
        format!("sig=%31{}", &sig[1..]),
        format!("sig={mac}"),
        // The MAC's text has one spelling.
        format!("sig={sig}A"),
        format!("sig={}", &sig[..sig.len() - 1]),
        format!("sig={}", sig.replace(&mac, &other_spelling(&mac))),
        // All below carry a MAC that would hold.
        true_mac(format!("2.k1.{exp}")),
        true_mac(format!("01.k1.{exp}")),
        true_mac(format!(".k1.{exp}")),
        true_mac(format!("1..{exp}")),
        true_mac("1.k1".into()),
        true_mac("1.k1.".into()),
        true_mac(format!("1.k1.0{exp}")),
        true_mac(format!("1.k1.{exp}0")),
        true_mac(format!("1.k1.+{}", &exp.to_string()[1..])),
        true_mac("1.k1.0999999999".into()),
        true_mac(format!("1.{}.{exp}", "k".repeat(17))),
        true_mac(format!("1.k1.{exp}.")),
        true_mac(format!("1.k1.{exp}..di")),
        true_mac(format!("1.k1.{exp}.d")),
        true_mac(format!("1.k1.{exp}.dx")),
        true_mac(format!("1.k1.{exp}.dii")),
        true_mac(format!("1.k1.{exp}.da-")),
        true_mac(format!("1.k1.{exp}.da-A")),
        true_mac(format!("1.k1.{exp}.da-_w")),
        true_mac(format!(
            "1.k1.{exp}.da-{}",
            BASE64URL.encode("n".repeat(191))
        )),
        true_mac(format!("1.k1.{exp}.di-QQ")),
        true_mac(format!("1.k1.{exp}.g")),
        true_mac(format!("1.k1.{exp}.g1234567890")),
        true_mac(format!("1.k1.{exp}.g-1")),
        true_mac(format!("1.k1.{exp}.h1")),
        true_mac(format!("1.k1.{exp}.jAAAA")),
        true_mac(format!("1.k1.{exp}.n1")),
        true_mac(format!("1.k1.{exp}.p")),
        true_mac(format!("1.k1.{exp}.p1000")),
        // At most once, in alphabetical order.
        true_mac(format!("1.k1.{exp}.di.di")),
        true_mac(format!("1.k1.{exp}.di.da")),
        true_mac(format!("1.k1.{exp}.g1.di")),
        true_mac(format!("1.k1.{exp}.g1.g2")),
        // Refused, never skipped.
        true_mac(format!("1.k1.{exp}.x")),
        true_mac(format!("1.k1.{exp}.a1")),
        true_mac(format!("1.k1.{exp}.di.z9")),
        true_mac(format!("1.k1.{exp}.DI")),
        true_mac(format!("1.k1.{exp}.G1")),
        true_mac(format!("1.k1.{exp}.-")),
    ] {
        let response = check_silent(&server, &format!("{}?{query}", path()), "step 3");
        bodies.insert(response.body);
    }
    assert_eq!(bodies.len(), 1, "the body tells refusals apart: {bodies:?}");
}

/// The same MAC with its two idle bits set, which a lax decoder would take.
fn other_spelling(mac: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (head, last) = mac.split_at(mac.len() - 1);
    let at = ALPHABET.iter().position(|byte| last.as_bytes() == [*byte]);
    format!("{head}{}", char::from(ALPHABET[at.unwrap() | 1]))
}

#[test]
fn step_4_only_a_known_key_s_mac_holds() {
    let server = with_call();
    let exp = now() + 600;
    let other = format!("/media/{OWNER}/other.wav");
    let (good, foreign) = (
        token("*", &path(), &signed("")),
        token("*", &other, &signed("")),
    );
    let mut bodies = HashSet::new();
    for (what, sig) in [
        ("unknown key", token("*", &path(), &format!("1.k2.{exp}"))),
        (
            "key id in capitals",
            token("*", &path(), &format!("1.K1.{exp}")),
        ),
        ("another path's", foreign),
        (
            "another host's",
            token("other.example", &path(), &signed("")),
        ),
        ("an empty path's", token("*", "", &signed(""))),
        (
            "bound without h",
            token(&server.addr.to_string(), &path(), &signed("")),
        ),
        ("unbound with h", token("*", &path(), &signed(".h"))),
        (
            "another expiry's",
            good.replace(&exp.to_string(), &(exp + 1).to_string()),
        ),
        ("zeros", format!("1.k1.{exp}.{}", "A".repeat(43))),
        (
            "expired, and forged",
            format!("1.k1.1700000000.{}", "A".repeat(43)),
        ),
        (
            "with an option added",
            good.replacen(&format!("{exp}."), &format!("{exp}.di."), 1),
        ),
    ] {
        let target = format!("{}?sig={sig}", path());
        bodies.insert(check_silent(&server, &target, what).body);
    }
    // Ids cannot be probed: what is absent is refused as what is there.
    let absent = format!("/media/{OWNER}/absent.wav?sig={good}");
    bodies.insert(check_silent(&server, &absent, "absent").body);
    let gone = format!("/media/{OWNER}/gone.wav?sig={good}");
    std::fs::write(
        server.file("gone.json"),
        r#"{"erased_at":"2026-01-01T00:00:00Z"}"#,
    )
    .unwrap();
    bodies.insert(check_silent(&server, &gone, "erased").body);
    assert_eq!(bodies.len(), 1, "the body tells refusals apart: {bodies:?}");
}

#[test]
fn step_4_an_edge_s_key_opens_nothing_here() {
    let secret: Vec<u8> = (0..32).collect();
    let edge = Key::new(
        "k1",
        &secret,
        Window::default(),
        Audience::Edge("cdn".into()),
    );
    let own = Key::new(
        "k9",
        &[secret.as_slice(), b"x"].concat(),
        Window::default(),
        Audience::Origin,
    );
    let keys = vec![edge.unwrap(), own.unwrap()];
    let server = Server::with(Setup {
        keyring: Some(Keyring::new(keys, HashSet::new(), &Policy::default()).unwrap()),
        ..Setup::default()
    });
    server.put("call.wav", 1000);
    check_silent(&server, &target(&path(), &signed("")), "an edge's key");
}

#[test]
fn step_5_times_are_told() {
    let server = with_call();
    let at = |exp: u64, options: &str| target(&path(), &format!("1.k1.{exp}{options}"));
    let max = 43_200 + 300;
    for (target, reason) in [
        (at(now(), ""), "expired"),
        (at(now() - 1, ""), "expired"),
        (at(1_000_000_000, ""), "expired"),
        (at(now() + max + 60, ""), "ttl_too_long"),
        (at(9_999_999_999, ""), "ttl_too_long"),
        (at(now() + 600, &format!(".n{}", now() + 90)), "not_yet"),
        (at(now() + 600, ".n9999999999"), "not_yet"),
        // What comes first is told.
        (at(now() - 1, ".n9999999999"), "expired"),
    ] {
        check_told(&server, &target, 403, reason);
    }
    for good in [
        at(now() + 10, ""),
        at(now() + max, ""),
        at(now() + 600, &format!(".n{}", now())),
        at(now() + 600, &format!(".n{}", now() + 20)),
        at(now() + 600, ".n0000000000"),
    ] {
        assert_eq!(server.get(&good, &[]).status, 200, "{good}");
    }
}

#[test]
fn step_5_a_retired_key_is_told() {
    let secret: Vec<u8> = (0..32).collect();
    let window = Window {
        mint_until: Some(UnixTime(now() - 100_000)),
        verify_until: Some(UnixTime(now() - 1)),
        ..Window::default()
    };
    let old = Key::new("k1", &secret, window, Audience::Origin).unwrap();
    let new = Key::new(
        "k2",
        &[7, 1].iter().chain(&secret).copied().collect::<Vec<u8>>(),
        Window::default(),
        Audience::Origin,
    );
    let keys = vec![old, new.unwrap()];
    let server = Server::with(Setup {
        keyring: Some(Keyring::new(keys, HashSet::new(), &Policy::default()).unwrap()),
        ..Setup::default()
    });
    server.put("call.wav", 1000);
    check_told(&server, &target(&path(), &signed("")), 403, "key_retired");
}

#[test]
fn step_6_a_generation_revokes_what_came_before() {
    let server = with_call();
    std::fs::write(server.file("call.json"), r#"{"generation":2}"#).unwrap();
    for options in ["", ".g0", ".g1", ".di"] {
        check_told(&server, &target(&path(), &signed(options)), 403, "revoked");
    }
    for options in [".g2", ".g3", ".g000000002", ".di.g2"] {
        let response = server.get(&target(&path(), &signed(options)), &[]);
        assert_eq!(response.status, 200, "{options}");
    }
    // The record is asked for every request, not kept.
    std::fs::write(server.file("call.json"), r#"{"generation":3}"#).unwrap();
    check_told(&server, &target(&path(), &signed(".g2")), 403, "revoked");
    // Other recordings are not concerned.
    server.put("other.wav", 10);
    let other = format!("/media/{OWNER}/other.wav");
    assert_eq!(server.get(&target(&other, &signed("")), &[]).status, 200);
}

#[test]
fn step_6_one_url_can_be_revoked() {
    let secret: Vec<u8> = (0..32).collect();
    let key = Key::new("k1", &secret, Window::default(), Audience::Origin).unwrap();
    let revoked = HashSet::from([TokenId([7; 12])]);
    let server = Server::with(Setup {
        keyring: Some(Keyring::new(vec![key], revoked, &Policy::default()).unwrap()),
        ..Setup::default()
    });
    server.put("call.wav", 1000);
    let of = |id: [u8; 12]| target(&path(), &signed(&format!(".j{}", BASE64URL.encode(id))));
    check_told(&server, &of([7; 12]), 403, "revoked");
    assert_eq!(server.get(&of([8; 12]), &[]).status, 200);
    assert_eq!(server.get(&target(&path(), &signed("")), &[]).status, 200);
}

#[test]
fn step_7_erased_is_gone_and_absent_was_never() {
    let server = with_call();
    std::fs::write(
        server.file("gone.json"),
        r#"{"erased_at":"2026-01-01T00:00:00Z"}"#,
    )
    .unwrap();
    let gone = format!("/media/{OWNER}/gone.wav");
    check_told(&server, &target(&gone, &signed("")), 410, "erased");
    let absent = server.get(&server.sign("absent.wav"), &[]);
    assert_eq!(absent.status, 404);
    // Another format of a recording that is there.
    assert_eq!(server.get(&server.sign("call.mp3"), &[]).status, 404);
    // Revocation comes before.
    std::fs::write(
        server.file("gone.json"),
        r#"{"generation":1,"erased_at":"2026-01-01T00:00:00Z"}"#,
    )
    .unwrap();
    check_told(&server, &target(&gone, &signed("")), 403, "revoked");
}

#[test]
fn step_7_only_a_regular_file_beneath_the_root_is_a_recording() {
    let server = with_call();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret.wav");
    std::fs::write(&secret, "secret").unwrap();
    symlink(&secret, server.file("absolute.wav")).unwrap();
    let up = "../".repeat(12);
    let climbing = format!("{up}{}", secret.display());
    symlink(climbing, server.file("climbing.wav")).unwrap();
    symlink("loop.wav", server.file("loop.wav")).unwrap();
    symlink("nothing.wav", server.file("dangling.wav")).unwrap();
    symlink("/dev/zero", server.file("device.wav")).unwrap();
    symlink("/proc/self/fd/0", server.file("magic.wav")).unwrap();
    std::fs::create_dir(server.file("directory.wav")).unwrap();
    let fifo = std::process::Command::new("mkfifo")
        .arg(server.file("fifo.wav"))
        .status();
    assert!(fifo.unwrap().success(), "no FIFO to test with");
    let _socket = std::os::unix::net::UnixListener::bind(server.file("socket.wav")).unwrap();
    std::fs::write(server.root().join("app-101/file"), "").unwrap();
    symlink(outside.path(), server.root().join("app-101/elsewhere")).unwrap();
    for path in [
        format!("/media/{OWNER}/absolute.wav"),
        format!("/media/{OWNER}/climbing.wav"),
        format!("/media/{OWNER}/loop.wav"),
        format!("/media/{OWNER}/dangling.wav"),
        format!("/media/{OWNER}/device.wav"),
        format!("/media/{OWNER}/magic.wav"),
        format!("/media/{OWNER}/directory.wav"),
        format!("/media/{OWNER}/fifo.wav"),
        format!("/media/{OWNER}/socket.wav"),
        "/media/app-101/elsewhere/secret.wav".into(),
        "/media/app-101/nobody/call.wav".into(),
        "/media/nobody/nobody/call.wav".into(),
        // A file where a directory should be.
        "/media/app-101/file/call.wav".into(),
        format!("/media/{OWNER}/{}.wav", "n".repeat(124)),
    ] {
        let response = server.get(&target(&path, &signed("")), &[]);
        assert_eq!(response.status, 404, "{path}");
    }
    assert_eq!(server.get(&server.sign("call.wav"), &[]).status, 200);
}

#[test]
fn a_prefix_grants_what_lies_under_it() {
    let server = with_call();
    server.put("other.flac", 500);
    let prefix = format!("/media/{OWNER}/");
    let sig = token("*", &prefix, &signed(&format!(".p{}", prefix.len())));
    let of = |path: &str| server.get(&format!("{path}?sig={sig}"), &[]).status;
    assert_eq!(of(&path()), 200);
    assert_eq!(of(&format!("{prefix}other.flac")), 200);
    assert_eq!(of(&format!("{prefix}absent.wav")), 404);
    for elsewhere in [
        "/media/app-101/test-account-02/call.wav",
        "/media/app-102/test-account-01/call.wav",
        "/media/app-101/x/call.wav",
    ] {
        assert_eq!(of(elsewhere), 403, "{elsewhere}");
    }
    // N counts to behind a "/" of the path.
    for n in [0, prefix.len() - 1, prefix.len() + 1, path().len(), 999] {
        let cut = path()[..n.min(path().len())].to_owned();
        let sig = token("*", &cut, &signed(&format!(".p{n}")));
        let response = server.get(&format!("{}?sig={sig}", path()), &[]);
        assert_eq!(response.status, 403, "p{n}");
        assert_eq!(response.told(), None, "p{n}");
    }
}

/// A request with a Host of its own.
fn get_at(server: &Server, host: &str, target: &str) -> Response {
    let mut client = server.connect();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    client.response("GET")
}

#[test]
fn a_bound_url_holds_at_its_host_alone() {
    let server = with_call();
    let bound = format!(
        "{}?sig={}",
        path(),
        token("rec.example.com", &path(), &signed(".h"))
    );
    for (host, status) in [
        ("rec.example.com", 200),
        ("REC.Example.COM", 200),
        ("rec.example.com:80", 200),
        ("rec.example.com:443", 200),
        ("rec.example.com:8080", 403),
        ("rec.example.com.", 403),
        ("other.example.com", 403),
        ("xrec.example.com", 403),
        ("127.0.0.1", 403),
    ] {
        assert_eq!(get_at(&server, host, &bound).status, status, "{host}");
    }
    // RFC 9112 §3.2.2: the target's own authority goes before Host.
    for (authority, host, status) in [
        ("rec.example.com", "other.example", 200),
        ("Rec.Example.com:80", "other.example", 200),
        ("other.example", "rec.example.com", 403),
    ] {
        let target = format!("http://{authority}{bound}");
        assert_eq!(get_at(&server, host, &target).status, status, "{target}");
    }
    let with_port = token("rec.example.com:8080", &path(), &signed(".h"));
    let with_port = format!("{}?sig={with_port}", path());
    assert_eq!(
        get_at(&server, "rec.example.com:8080", &with_port).status,
        200
    );
    assert_eq!(get_at(&server, "rec.example.com", &with_port).status, 403);
    // An HTTP/1.0 request may have no host, and so is at none.
    let mut client = server.connect();
    client.send(format!("GET {bound} HTTP/1.0\r\n\r\n"));
    assert_eq!(client.response("GET").status, 403);
}

#[test]
fn what_is_minted_for_this_server_opens_here() {
    let server = with_call();
    let bound = server.sign_with("call.wav", |claims| Claims {
        host_bound: true,
        ..claims
    });
    assert_eq!(server.get(&bound, &[]).status, 200);
    assert!(keyring().minting(server::now()).is_some());
}

#[test]
fn a_url_that_ends_during_its_response_does_not_end_it() {
    let server = Server::start();
    server.put("call.wav", 20_000_000);
    let exp = now() + 1;
    let target = target(&path(), &format!("1.k1.{exp}"));
    let mut client = server.connect();
    client.ask("GET", &target, &[]);
    let head = client.head();
    if head.status == 403 {
        // The second ended before the request began.
        return;
    }
    assert_eq!(head.status, 200);
    while now() <= exp {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let body = client.exactly(20_000_000);
    assert!(body == crate::harness::pattern(20_000_000), "other bytes");
}
