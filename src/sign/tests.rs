use std::collections::HashSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::Value;

use super::*;

mod keys;
mod properties;

const VECTORS: &str = include_str!("../../tests/vectors/native-url.json");
const NOW: UnixTime = UnixTime(1_767_225_600);

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn ring_of(keys: Vec<Key>) -> Keyring {
    Keyring::new(keys, HashSet::new(), &Policy::default()).unwrap()
}

fn vector_key(kid: &str) -> Key {
    let vectors = vectors();
    let secret = BASE64URL
        .decode(vectors["keys"][kid].as_str().unwrap())
        .unwrap();
    Key::new(kid, &secret, Window::default(), Audience::Origin).unwrap()
}

fn ring() -> Keyring {
    ring_of(vec![vector_key("k26a"), vector_key("k26b")])
}

fn get<'a>(host: &'a str, target: &'a str) -> SignedRequest<'a> {
    SignedRequest {
        method: "GET",
        host,
        target,
    }
}

/// A grant for `path`, for the tests of those who want one.
pub(crate) fn grant(path: &str) -> Grant {
    let (policy, claims) = (Policy::default(), Claims::until(NOW.plus(600)));
    let minted = mint(path, &claims, "*", &ring(), &policy, NOW).unwrap();
    verify(get("h", &minted.target), &ring(), &policy, NOW).unwrap()
}

#[test]
fn the_vectors_policy_is_the_default() {
    let policy = Policy::default();
    let given = &vectors()["policy"];
    assert_eq!(given["max_ttl"], policy.max_ttl);
    assert_eq!(given["nbf_skew"], policy.nbf_skew);
    assert_eq!(given["bucket_slack"], policy.bucket);
}

#[test]
fn mint_vectors() {
    let vectors = vectors();
    let cases = vectors["mint"].as_array().unwrap();
    assert_eq!(cases.len(), 14);
    for case in cases {
        let name = &case["name"];
        let text = |field: &str| case[field].as_str().unwrap();
        let (path, query) = text("target").split_once('?').unwrap();
        let token = Token::parse(query.strip_prefix("sig=").unwrap()).unwrap();
        assert_eq!(token.kid, text("kid"), "{name}");
        let signed_path = token.claims.signed_path(path).unwrap();
        assert_eq!(
            text("string_to_sign"),
            format!(
                "tonearm-url-v1\nGET\n{}\n{signed_path}\n{}",
                text("host"),
                token.signed
            ),
            "{name}"
        );
        // Minted anew from the claims, the very same target comes out.
        let ring = ring_of(vec![vector_key(token.kid)]);
        let before = UnixTime(token.claims.exp.0 - 600);
        let minted = mint(
            path,
            &token.claims,
            text("host"),
            &ring,
            &Policy::default(),
            before,
        );
        assert_eq!(minted.unwrap().target, text("target"), "{name}");
        assert_eq!(query, format!("sig={}", text("token")), "{name}");
    }
}

#[test]
fn verify_vectors() {
    let vectors = vectors();
    let cases = vectors["verify"].as_array().unwrap();
    assert_eq!(cases.len(), 40);
    // Once by a ring that knows nothing, and twice by one that has met them all.
    let met = ring();
    for (case, ring) in cases
        .iter()
        .flat_map(|case| [(case, ring()), (case, met.clone())])
        .chain(cases.iter().map(|case| (case, met.clone())))
    {
        let text = |field: &str| case[field].as_str().unwrap();
        let request = SignedRequest {
            method: text("method"),
            host: text("host"),
            target: text("target"),
        };
        let now = UnixTime(case["now"].as_u64().unwrap());
        let generation = case["current_generation"].as_u64().unwrap_or(0);
        let verdict = verify(request, &ring, &Policy::default(), now)
            .and_then(|grant| grant.check_generation(u32::try_from(generation).unwrap()));
        let word = verdict.map_or_else(Refusal::word, |()| "ok");
        assert_eq!(word, text("expect"), "{}", text("name"));
    }
}

#[test]
fn bucket_and_ttl_vectors() {
    let vectors = vectors();
    let number = |case: &Value, field: &str| case[field].as_u64().unwrap();
    for case in vectors["bucket"].as_array().unwrap() {
        let policy = Policy {
            bucket: number(case, "bucket"),
            ..Policy::default()
        };
        let exp = policy.expiry(UnixTime(number(case, "now")), number(case, "ttl"));
        assert_eq!(exp.0, number(case, "exp"), "{case}");
    }
    for case in vectors["ttl"].as_array().unwrap() {
        let duration = Duration::from_secs(number(case, "duration_s"));
        let listened = (case["kind"] == "playback").then_some(duration);
        assert_eq!(
            Policy::default().ttl(listened),
            number(case, "ttl_s"),
            "{case}"
        );
    }
}

#[test]
fn ttl_is_clamped_and_rounds_a_started_second_up() {
    let policy = Policy {
        base: 0,
        ..Policy::default()
    };
    assert_eq!(policy.ttl(None), 300);
    assert_eq!(policy.ttl(Some(Duration::from_millis(400_001))), 401);
    assert_eq!(policy.ttl(Some(Duration::MAX)), policy.max_ttl);
}

/// Signs any text as a token over `/media/a/b/c.wav`, whatever the grammar thinks of it.
fn signed(text: &str) -> String {
    let mac = vector_key("k26a").sign("*", "/media/a/b/c.wav", text);
    format!("/media/a/b/c.wav?sig={text}.{}", token::encode_mac(&mac))
}

#[test]
fn grammar_of_truly_signed_tokens() {
    let name = |bytes: usize| BASE64URL.encode("n".repeat(bytes));
    for (token, expect) in [
        ("1.k26a.1767229200", "ok"),
        ("1.k26a.1767229200.da", "ok"),
        ("1.k26a.1767229200.p1", "bad_signature"),
        ("1.k26a.1767229200.g0", "ok"),
        ("1.k26a.1767229200.g999999999", "ok"),
        ("1.k26a.1767229200.g1234567890", "malformed"),
        ("1.k26a.1767229200.g", "malformed"),
        ("1.k26a.1767229200.g+1", "malformed"),
        ("1.k26a.1767229200.d", "malformed"),
        ("1.k26a.1767229200.da-", "malformed"),
        ("1.k26a.1767229200.dx", "malformed"),
        ("1.k26a.1767229200.da-_w", "malformed"),
        ("1.k26a.1767229200.da-QQ", "ok"),
        ("1.k26a.1767229200.da-QR", "malformed"),
        (&format!("1.k26a.1767229200.da-{}", name(190)), "ok"),
        (&format!("1.k26a.1767229200.da-{}", name(191)), "malformed"),
        ("1.k26a.1767229200.h1", "malformed"),
        ("1.k26a.1767229200.jAAECAwQFBgcICQo", "malformed"),
        ("1.k26a.1767229200.n176722500", "malformed"),
        ("1.k26a.1767229200.p", "malformed"),
        ("1.k26a.1767229200.p0", "malformed"),
        ("1.k26a.1767229200.p2", "malformed"),
        ("1.k26a.1767229200.p1000", "malformed"),
        ("1.k26a.1767229200.g1.di", "malformed"),
        ("1.k26a.1767229200.z1", "unsupported_option"),
        ("1.k26a.1767229200.A", "unsupported_option"),
        ("1.k26a.1767229200.7", "malformed"),
        ("1.k26a.1767229200.\u{e4}", "malformed"),
        ("1..1767229200", "malformed"),
        ("1.k26a", "malformed"),
        ("1", "malformed"),
        ("1.seventeen-letters.1767229200", "malformed"),
        ("1.k26c.1767229200", "unknown_key"),
        ("1.k26a.1767225600", "expired"),
        ("1.k26a.1767225601", "ok"),
        ("1.k26a.1767269100", "ok"),
        ("1.k26a.1767269101", "ttl_too_long"),
        ("1.k26a.9999999999", "ttl_too_long"),
        ("1.k26a.1767229200.n1767225630", "ok"),
        ("1.k26a.1767229200.n1767225631", "not_yet"),
    ] {
        let target = signed(token);
        let verdict = verify(get("h", &target), &ring(), &Policy::default(), NOW);
        assert_eq!(
            verdict.map_or_else(Refusal::word, |_| "ok"),
            expect,
            "{token}"
        );
    }
}

#[test]
fn queries() {
    let good = signed("1.k26a.1767229200");
    let (path, sig) = good.split_once('?').unwrap();
    for (query, expect) in [
        (format!("{sig}&a=b"), "ok"),
        (format!("a=b&{sig}"), "ok"),
        (format!("&&{sig}&"), "ok"),
        (format!("a=sig=&{sig}"), "ok"),
        (format!("{sig}&sig"), "duplicate"),
        (format!("{sig}&{sig}"), "duplicate"),
        ("sig".to_owned(), "malformed"),
        ("Sig=1".to_owned(), "missing"),
        (sig.replace("sig=", "SIG="), "missing"),
        (format!("{sig};a=b"), "malformed"),
        (format!("a=b?{sig}"), "missing"),
        (format!("{sig}&a={}", "x".repeat(2048)), "too_long"),
    ] {
        let target = format!("{path}?{query}");
        let verdict = verify(get("h", &target), &ring(), &Policy::default(), NOW);
        assert_eq!(
            verdict.map_or_else(Refusal::word, |_| "ok"),
            expect,
            "{query}"
        );
    }
    let bare = verify(get("h", path), &ring(), &Policy::default(), NOW);
    assert_eq!(bare, Err(Refusal::Missing));
}

#[test]
fn what_would_not_verify_is_not_minted() {
    let policy = Policy::default();
    let with = |path: &str, claims: Claims| mint(path, &claims, "h", &ring(), &policy, NOW);
    let until = |seconds| Claims::until(NOW.plus(seconds));
    let named = |name: &str| Claims {
        disposition: Some(Disposition::Attachment(Some(name.to_owned()))),
        ..until(60)
    };
    assert!(matches!(with("/a//b", until(60)), Err(MintError::Path(_))));
    assert!(matches!(
        with("/a", until(0)),
        Err(MintError::Expiry { .. })
    ));
    assert!(matches!(
        with("/a", until(43_501)),
        Err(MintError::Expiry { .. })
    ));
    for name in ["", "a/b", "a\nb", &"x".repeat(191)] {
        assert!(
            matches!(with("/a", named(name)), Err(MintError::Name(_))),
            "{name:?}"
        );
    }
    let prefixed = Claims {
        prefix: Some(3),
        ..until(60)
    };
    assert_eq!(
        with("/a/b", prefixed),
        Ok(with(
            "/a/b",
            Claims {
                prefix: Some(3),
                ..until(60)
            }
        )
        .unwrap())
    );
    assert_eq!(
        with(
            "/ab/c",
            Claims {
                prefix: Some(3),
                ..until(60)
            }
        ),
        Err(MintError::Prefix)
    );
}

#[test]
fn numbers_past_the_grammars_digits_are_not_minted() {
    let at = |now: u64, change: fn(&mut Claims)| {
        let mut claims = Claims::until(UnixTime(now + 60));
        change(&mut claims);
        let now = UnixTime(now);
        mint("/a", &claims, "h", &ring(), &Policy::default(), now)
            .map(|minted| verify(get("h", &minted.target), &ring(), &Policy::default(), now))
    };
    let now = NOW.0;
    let most = at(now, |claims| claims.generation = Some(999_999_999));
    assert!(matches!(most, Ok(Ok(_))));
    for over in [
        at(now, |claims| claims.generation = Some(1_000_000_000)),
        at(now, |claims| {
            claims.not_before = Some(UnixTime(10_000_000_000));
        }),
        at(999_999_000, |_| {}),
        at(9_999_999_990, |_| {}),
    ] {
        assert_eq!(over, Err(MintError::Digits));
    }
}

#[test]
fn logs_and_texts_never_hold_a_mac() {
    let target = signed("1.k26a.1767229200.da-Q2FsbA.jAAECAwQFBgcICQoL");
    let (_, query) = target.split_once('?').unwrap();
    let trace = TokenTrace::of_query(query).unwrap();
    assert_eq!((trace.kid, trace.exp), ("k26a", UnixTime(1_767_229_200)));
    let mut text = String::from("options=");
    trace.push_options(&mut text);
    assert_eq!(text, "options=da.jAAECAwQFBgcICQoL");
    let (_, mac) = query.rsplit_once('.').unwrap();
    let digest = Sha256::digest(BASE64URL.decode(mac).unwrap());
    let print = u32::from_be_bytes(digest[..4].try_into().unwrap());
    let mut text = String::from("mac=");
    trace.push_mac_print(&mut text);
    assert_eq!(text, format!("mac={print:08x}"));
    let shown = format!("{trace:?}");
    assert!(!shown.contains(mac) && !shown.contains("Call"), "{shown}");
    // Without options there is no dot of theirs either.
    let target = signed("1.k26a.1767229200");
    let (_, query) = target.split_once('?').unwrap();
    let mut text = String::from("options=");
    TokenTrace::of_query(query).unwrap().push_options(&mut text);
    assert_eq!(text, "options=");
    assert_eq!(
        redact("GET /a?x=1&sig=1.k.2-_=&y=2 HTTP"),
        "GET /a?x=1&sig=[redacted]&y=2 HTTP"
    );
    assert_eq!(
        redact("two: ?sig=a \"?sig=b\""),
        "two: ?sig=[redacted] \"?sig=[redacted]\""
    );
    assert_eq!(redact("nothing"), "nothing");
    assert!(!format!("{:?}", ring()).contains("tonearm-test-key"));
}

#[test]
fn an_escaped_target_in_a_path_is_redacted() {
    for equals in ["=", "%3D", "%3d", "%253D", "%25253d"] {
        let path = format!("/media/a/b/c.wav%3Fsig{equals}1.k26a.1767229200.MAC");
        let redacted = format!("/media/a/b/c.wav%3Fsig{equals}[redacted]");
        assert_eq!(redact(&path), redacted);
    }
    assert_eq!(redact("/signal/%sig%3E"), "/signal/%sig%3E");
}
