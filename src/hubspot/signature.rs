//! Whether HubSpot signed a request: versions 1, 2 and 3 of its signature.
//!
//! | version | field | digest over | digest |
//! |---|---|---|---|
//! | 1 | `X-HubSpot-Signature` | secret, body | SHA-256, hex |
//! | 2 | `X-HubSpot-Signature` | secret, method, URI, body | SHA-256, hex |
//! | 3 | `X-HubSpot-Signature-v3` | method, URI, body, timestamp | HMAC-SHA-256, base64 |
//!
//! The URI is the public one, with scheme, host and the query in its order. HubSpot's page has
//! version 3 sign it with twelve escapes decoded, HubSpot's own libraries decode none, and no live
//! signature of a GET with a query is published: both spellings are tried. Digests are compared in
//! one place, by HMAC under a throw-away key, so that the time taken tells nothing.
//!
//! Never decides what becomes of a request: that is the resolver's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Oldest timestamp that holds, in milliseconds: HubSpot's page says five minutes.
const MAX_AGE_MS: i128 = 300_000;
/// How far a timestamp may lie ahead of our clock, in milliseconds. HubSpot's page has no bound.
const MAX_AHEAD_MS: i128 = 60_000;
/// Milliseconds since 1970 have 13 digits until the year 2286; more than this is no time.
const MAX_DIGITS: usize = 16;

/// What `X-HubSpot-Signature-Version` and the fields say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Of webhooks.
    V1,
    /// Of workflow actions and cards.
    V2,
    /// The current one.
    V3,
}

impl Version {
    /// Its name in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
        }
    }
}

/// A request as HubSpot signs it, and the fields it signs it with, as they were received.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// Scheme, host, path and query, as the public sees them.
    pub uri: &'a str,
    /// The body's bytes; empty for a GET.
    pub body: &'a [u8],
    /// `X-HubSpot-Signature`.
    pub signature: Option<&'a str>,
    /// `X-HubSpot-Signature-Version`.
    pub version: Option<&'a str>,
    /// `X-HubSpot-Signature-v3`.
    pub signature_v3: Option<&'a str>,
    /// `X-HubSpot-Request-Timestamp`, in milliseconds since 1970.
    pub timestamp: Option<&'a str>,
}

/// Why a request is not taken to be HubSpot's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// No signature at all.
    #[error("no signature")]
    Missing,
    /// A version 3 without its timestamp, or one that is no number.
    #[error("no timestamp in milliseconds")]
    Timestamp,
    /// Made more than five minutes ago.
    #[error("the signature is more than 5 minutes old")]
    Old,
    /// Made more than a minute from now.
    #[error("the signature is of the future")]
    Ahead,
    /// `X-HubSpot-Signature-Version` names none of 1 and 2.
    #[error("unknown signature version")]
    UnknownVersion,
    /// It is not what the secret and the request give.
    #[error("the signature does not match")]
    Mismatch,
}

/// Checks a request against the app's client secret at `now_ms`, milliseconds since 1970. The best
/// signature there is decides: older ones are sent beside version 3, and protect less.
///
/// # Errors
/// [`Unsigned`].
pub fn check(secret: &str, request: &Signed<'_>, now_ms: u64) -> Result<Version, Unsigned> {
    if let Some(signature) = request.signature_v3 {
        return check_v3(secret, request, signature, now_ms).map(|()| Version::V3);
    }
    let signature = request.signature.ok_or(Unsigned::Missing)?;
    let (version, expect) = match request.version {
        Some("v2") => (
            Version::V2,
            spellings(request.uri)
                .iter()
                .map(|uri| v2(secret, request, uri))
                .collect(),
        ),
        Some("v1") | None => (
            Version::V1,
            vec![hex_sha256(&[secret.as_bytes(), request.body])],
        ),
        Some(_) => return Err(Unsigned::UnknownVersion),
    };
    let signature = signature.to_ascii_lowercase();
    if expect
        .iter()
        .any(|expect| alike(secret, expect.as_bytes(), signature.as_bytes()))
    {
        Ok(version)
    } else {
        Err(Unsigned::Mismatch)
    }
}

fn check_v3(
    secret: &str,
    request: &Signed<'_>,
    signature: &str,
    now_ms: u64,
) -> Result<(), Unsigned> {
    let timestamp = request.timestamp.ok_or(Unsigned::Timestamp)?;
    let age = i128::from(now_ms) - i128::from(milliseconds(timestamp)?);
    if age > MAX_AGE_MS {
        return Err(Unsigned::Old);
    }
    if age < -MAX_AHEAD_MS {
        return Err(Unsigned::Ahead);
    }
    let holds = spellings(request.uri).iter().any(|uri| {
        // The timestamp is signed as the text it was sent as.
        let parts = [
            request.method.as_bytes(),
            uri.as_bytes(),
            request.body,
            timestamp.as_bytes(),
        ];
        alike(
            secret,
            STANDARD.encode(hmac_sha256(secret, &parts)).as_bytes(),
            signature.as_bytes(),
        )
    });
    if holds {
        Ok(())
    } else {
        Err(Unsigned::Mismatch)
    }
}

fn milliseconds(text: &str) -> Result<u64, Unsigned> {
    let digits =
        (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.ok_or(Unsigned::Timestamp)
}

fn v2(secret: &str, request: &Signed<'_>, uri: &str) -> String {
    let parts = [secret, request.method, uri].map(str::as_bytes);
    hex_sha256(&[parts[0], parts[1], parts[2], request.body])
}

/// The URI as it is, and with HubSpot's twelve escapes decoded where that differs.
fn spellings(uri: &str) -> Vec<String> {
    let decoded = decode_twelve(uri);
    let mut all = vec![uri.to_owned()];
    if decoded != uri {
        all.push(decoded);
    }
    all
}

/// The escapes that HubSpot's page has decoded before version 3 is computed. All others stay:
/// `%20`, `%25`, `%26`, `%3D`.
const TWELVE: [(&str, &str); 12] = [
    ("%3A", ":"),
    ("%2F", "/"),
    ("%3F", "?"),
    ("%40", "@"),
    ("%21", "!"),
    ("%24", "$"),
    ("%27", "'"),
    ("%28", "("),
    ("%29", ")"),
    ("%2A", "*"),
    ("%2C", ","),
    ("%3B", ";"),
];

/// One pass from left to right, so that nothing is decoded twice.
fn decode_twelve(uri: &str) -> String {
    let mut decoded = String::with_capacity(uri.len());
    let mut rest = uri;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        let escape = rest.get(..3).unwrap_or_default();
        let known = TWELVE
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(escape));
        let (text, length) = known.map_or(("%", 1), |(_, plain)| (*plain, 3));
        decoded.push_str(text);
        rest = &rest[length..];
    }
    decoded + rest
}

/// Signs a request in all three versions as HubSpot would at `now_ms`: the fields and their values.
#[must_use]
pub fn sign(
    secret: &str,
    method: &str,
    uri: &str,
    body: &[u8],
    now_ms: u64,
) -> Vec<(&'static str, String)> {
    let timestamp = now_ms.to_string();
    let parts = [
        method.as_bytes(),
        uri.as_bytes(),
        body,
        timestamp.as_bytes(),
    ];
    let v3 = STANDARD.encode(hmac_sha256(secret, &parts));
    let v2 = hex_sha256(&[secret.as_bytes(), method.as_bytes(), uri.as_bytes(), body]);
    vec![
        (V3_FIELD, v3),
        (TIMESTAMP_FIELD, timestamp),
        (FIELD, v2),
        (VERSION_FIELD, "v2".to_owned()),
    ]
}

/// Versions 1 and 2.
pub const FIELD: &str = "x-hubspot-signature";
/// Which of the two.
pub const VERSION_FIELD: &str = "x-hubspot-signature-version";
/// Version 3.
pub const V3_FIELD: &str = "x-hubspot-signature-v3";
/// When version 3 was made, in milliseconds since 1970.
pub const TIMESTAMP_FIELD: &str = "x-hubspot-request-timestamp";

fn hmac_sha256(key: &str, parts: &[&[u8]]) -> [u8; 32] {
    mac(key, parts).finalize().into_bytes().into()
}

fn mac(key: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
    // An HMAC takes a key of any length; the fallback is there because the type does not say so.
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
        .unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default()));
    for part in parts {
        mac.update(part);
    }
    mac
}

fn hex_sha256(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    digest
        .finalize()
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The one comparison: MACs of both are compared in constant time, so nothing is told of either.
fn alike(key: &str, expect: &[u8], given: &[u8]) -> bool {
    mac(key, &[given])
        .verify_slice(&hmac_sha256(key, &[expect]))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy";
    const URI: &str = "https://www.example.com/webhook_uri";
    const PYTHON: &str = "{'example_field':'example_value'}";

    fn request<'a>(method: &'a str, body: &'a str) -> Signed<'a> {
        Signed {
            method,
            uri: URI,
            body: body.as_bytes(),
            signature: None,
            version: None,
            signature_v3: None,
            timestamp: None,
        }
    }

    #[test]
    fn the_published_vectors() {
        let creation = r#"[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,"changeSource":"CRM","changeFlag":"NEW","appId":54321}]"#;
        let v1 = Signed {
            signature: Some("232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de"),
            version: Some("v1"),
            ..request("POST", creation)
        };
        let v2_get = Signed {
            signature: Some("eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e"),
            version: Some("v2"),
            ..request("GET", "")
        };
        let v2_post = Signed {
            signature: Some("9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900"),
            version: Some("v2"),
            ..request("POST", r#"{"example_field":"example_value"}"#)
        };
        let v3 = |signature, timestamp| Signed {
            signature_v3: Some(signature),
            timestamp: Some(timestamp),
            ..request("POST", PYTHON)
        };
        for (request, now_ms, version) in [
            (v1, 0, Version::V1),
            (v2_get, 0, Version::V2),
            (v2_post, 0, Version::V2),
            (
                v3(
                    "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y=",
                    "1693657560000",
                ),
                1_693_657_560_000,
                Version::V3,
            ),
            (
                v3(
                    "RnbPH7+UMKVkbV32P8bz450N4M56aPmcru1+D3kSDtw=",
                    "1700000300000",
                ),
                1_700_000_300_000,
                Version::V3,
            ),
        ] {
            assert_eq!(check(SECRET, &request, now_ms), Ok(version), "{request:?}");
            let other = Signed {
                body: b"other",
                ..request
            };
            assert_eq!(
                check(SECRET, &other, now_ms),
                Err(Unsigned::Mismatch),
                "{request:?}"
            );
            assert_eq!(
                check("other", &request, now_ms),
                Err(Unsigned::Mismatch),
                "{request:?}"
            );
        }
    }

    #[test]
    fn the_window_of_version_3() {
        let time = 1_700_000_300_000;
        let signed = Signed {
            signature_v3: Some("RnbPH7+UMKVkbV32P8bz450N4M56aPmcru1+D3kSDtw="),
            timestamp: Some("1700000300000"),
            ..request("POST", PYTHON)
        };
        for (now, expect) in [
            (time + 300_000, Ok(Version::V3)),
            (time + 300_001, Err(Unsigned::Old)),
            (time - 60_000, Ok(Version::V3)),
            (time - 60_001, Err(Unsigned::Ahead)),
        ] {
            assert_eq!(check(SECRET, &signed, now), expect, "{now}");
        }
    }

    #[test]
    fn fields_that_will_not_do() {
        let v3 = Signed {
            signature_v3: Some("x"),
            ..request("GET", "")
        };
        let with = |timestamp| check(SECRET, &Signed { timestamp, ..v3 }, 1_700_000_300_000);
        for bad in [
            None,
            Some(""),
            Some("1.7e12"),
            Some("+1700000300000"),
            Some("17000003000000000"),
        ] {
            assert_eq!(with(bad), Err(Unsigned::Timestamp), "{bad:?}");
        }
        assert_eq!(with(Some("1700000300000")), Err(Unsigned::Mismatch));
        assert_eq!(
            check(SECRET, &request("GET", ""), 0),
            Err(Unsigned::Missing)
        );
        let odd = Signed {
            signature: Some("x"),
            version: Some("v9"),
            ..request("GET", "")
        };
        assert_eq!(check(SECRET, &odd, 0), Err(Unsigned::UnknownVersion));
        // A version 3 that fails is not made good by an older one beside it.
        let v2 = Signed {
            signature: Some("eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e"),
            version: Some("v2"),
            timestamp: Some("1700000300000"),
            ..v3
        };
        assert_eq!(
            check(SECRET, &v2, 1_700_000_300_000),
            Err(Unsigned::Mismatch)
        );
    }

    #[test]
    fn a_uri_is_signed_raw_or_with_twelve_escapes_decoded() {
        let raw = "https://a.example/r/x%3Ay?appId=1&n=a%20b%26c%2Cd%253A";
        let decoded = "https://a.example/r/x:y?appId=1&n=a%20b%26c,d%253A";
        assert_eq!(decode_twelve(raw), decoded);
        assert_eq!(
            decode_twelve("%3a%2f%3f%40%21%24%27%28%29%2a%2c%3b%"),
            ":/?@!$'()*,;%"
        );
        assert_eq!(decode_twelve("é%é%3"), "é%é%3");
        let holds = |signed: &str| {
            let fields = sign(SECRET, "GET", signed, b"", 5_000);
            let request = Signed {
                uri: raw,
                signature_v3: Some(&fields[0].1),
                timestamp: Some("5000"),
                ..request("GET", "")
            };
            check(SECRET, &request, 5_000)
        };
        assert_eq!(holds(raw), Ok(Version::V3));
        assert_eq!(holds(decoded), Ok(Version::V3));
        assert_eq!(
            holds("https://a.example/r/x:y?appId=1&n=a b&c,d%253A"),
            Err(Unsigned::Mismatch)
        );
    }

    proptest::proptest! {
        #[test]
        fn what_is_signed_holds_and_nothing_panics(secret: String, uri: String, body: Vec<u8>, now in 0..10_u64.pow(15), junk: String) {
            let fields = sign(&secret, "GET", &uri, &body, now);
            let value = |name| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str());
            let request = Signed {
                method: "GET",
                uri: &uri,
                body: &body,
                signature: value(FIELD),
                version: value(VERSION_FIELD),
                signature_v3: None,
                timestamp: None,
            };
            proptest::prop_assert_eq!(check(&secret, &request, now), Ok(Version::V2));
            let v3 = Signed { signature_v3: value(V3_FIELD), timestamp: value(TIMESTAMP_FIELD), ..request };
            proptest::prop_assert_eq!(check(&secret, &v3, now), Ok(Version::V3));
            let _ = check(&secret, &Signed { signature_v3: Some(&junk), timestamp: Some(&junk), ..request }, now);
        }
    }
}
