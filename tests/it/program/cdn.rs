//! `url.format`: the resolver and `tonearm url` give URLs of a CDN.

use serde_json::Value;

use crate::harness::OWNER;
use crate::harness::program::{Place, Program};

const BASE: (&str, &str) = ("TONEARM_URL_CDN_BASE_URL", "https://cdn.example");
const KEY: (&str, &str) = ("TONEARM_URL_KEY_FILE", "cdn.key");
const SHARED: &str = "a-secret-of-some-length-0123456789";

const fn format(name: &str) -> (&str, &str) {
    ("TONEARM_URL_FORMAT", name)
}

/// A store with a recording, and the private key of the vectors.
fn place() -> Place {
    let place = Place::new();
    place.put("call.wav", b"a recording");
    let vectors: Value = serde_json::from_str(include_str!("../../vectors/cdn.json")).unwrap();
    let of = |vector: &&Value| vector["scheme"] == "cloudfront-canned-rsa-sha256";
    let vector = vectors["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .find(of)
        .unwrap();
    let key = vector["test_private_key_pkcs8_b64"].as_str().unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
    place.write("cloudfront.pem", pem, 0o600);
    place.write("cdn.key", format!("{SHARED}\n"), 0o600);
    place
}

fn resolved(program: &Program) -> Value {
    let (app, account) = OWNER.split_once('/').unwrap();
    let target =
        format!("/retrieve/authenticated/recordings/call?appId={app}&externalAccountId={account}");
    serde_json::from_slice(&program.get(&target, &[]).body).unwrap()
}

#[test]
fn the_resolver_gives_urls_of_cloudfront() {
    let place = place();
    let environment = [
        format("cloudfront"),
        BASE,
        ("TONEARM_URL_KEY_FILE", "cloudfront.pem"),
        ("TONEARM_URL_KEY_ID", "K2JCJMDEHXQW5F"),
    ];
    let program = place.serve_with(&[], &environment);
    let answer = resolved(&program);
    let url = answer["authenticatedUrl"].as_str().unwrap();
    let begins = format!("https://cdn.example/media/{OWNER}/call.wav?Expires=");
    let rest = url.strip_prefix(&begins).unwrap_or_else(|| panic!("{url}"));
    let (expires, rest) = rest.split_once("&Signature=").unwrap();
    assert!(
        rest.ends_with("&Key-Pair-Id=K2JCJMDEHXQW5F&Hash-Algorithm=SHA256"),
        "{url}"
    );
    let ends = tonearm::recording::UnixTime(expires.parse().unwrap());
    assert_eq!(answer["expiresAt"], ends.rfc3339());
    // One URL a window: RSA says the same twice.
    let (app, account) = OWNER.split_once('/').unwrap();
    let asked = ["url", "call", "--app", app, "--account", account];
    let typed = place.run_with(&asked, &environment).ok();
    assert!(typed.starts_with(&begins), "{typed}");
    // A base that is typed is a server of one's own, and its URL opens here.
    let base = format!("http://{}", program.public);
    let native = place
        .run_with(&[&asked[..], &["--base", &base]].concat(), &environment)
        .ok();
    assert_eq!(program.get(native.trim_end(), &[]).status, 200);
    let inline = place.run_with(&[&asked[..], &["--inline"]].concat(), &environment);
    assert_eq!(inline.code, Some(2), "{inline:?}");
    assert!(
        inline.err.contains("cloudfront cannot say a disposition"),
        "{inline:?}"
    );
    assert!(!program.log().contains("is weak"));
}

#[test]
fn a_weak_format_says_so_where_it_is_configured() {
    let place = place();
    for name in ["keycdn", "nginx-secure-link", "bunny-v2"] {
        let environment = [format(name), BASE, KEY];
        let program = place.serve_with(&[], &environment);
        program.wait_log("url.format is weak", 1);
        assert!(
            resolved(&program)["authenticatedUrl"]
                .as_str()
                .unwrap()
                .starts_with("https://cdn.example/media/")
        );
        let checked = place.run_with(&["config", "check"], &environment).ok();
        assert!(
            checked.contains(&format!("url.format = {name} is weak")),
            "{checked}"
        );
        assert!(!format!("{checked}{}", program.log()).contains(SHARED));
    }
    let strong = place
        .run_with(&["config", "check"], &[format("bunny"), BASE, KEY])
        .ok();
    assert!(
        strong.contains("cdn.key: a key of bunny\n") && !strong.contains("weak"),
        "{strong}"
    );
}

#[test]
fn a_cdn_that_cannot_be_signed_for_stops_the_start() {
    let place = place();
    place.write("open.key", SHARED, 0o644);
    let other = |file: &'static str| ("TONEARM_URL_KEY_FILE", file);
    for (environment, says) in [
        (vec![format("akamay")], "native, or a CDN's: cloudfront, "),
        (vec![format("bunny"), KEY], "url.cdn_base_url"),
        (vec![format("bunny"), BASE], "url.key_file"),
        (
            vec![format("cloudfront"), BASE, KEY],
            "cloudfront needs the public key's id",
        ),
        (vec![format("bunny"), BASE, other("open.key")], "chmod 600"),
        (vec![format("bunny"), BASE, other("no.key")], "no.key"),
        (vec![format("akamai"), BASE, KEY], "it is not hexadecimal"),
        (
            vec![format("cloudfront"), BASE, KEY, ("TONEARM_URL_KEY_ID", "K")],
            "it is not the PEM of a private key",
        ),
        (
            vec![
                format("bunny"),
                ("TONEARM_URL_CDN_BASE_URL", "cdn.example"),
                KEY,
            ],
            "https://",
        ),
    ] {
        for command in [
            &["serve", "--listen", "127.0.0.1:0"][..],
            &["config", "check"],
        ] {
            let ran = place.run_with(command, &environment);
            assert_eq!(ran.code, Some(78), "{environment:?} {ran:?}");
            assert!(ran.err.contains(says), "{says}: {ran:?}");
            assert!(!ran.err.contains(SHARED), "{ran:?}");
        }
    }
}
