mod vectors;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::Value;

use super::*;

const VECTORS: &str = include_str!("../../../tests/vectors/cdn.json");
const NOW: UnixTime = UnixTime(1_767_225_600);
/// Of the vectors made for this project: an hour.
const HOUR: u64 = 3600;

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn text<'v>(vector: &'v Value, field: &str) -> &'v str {
    vector[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} of {vector}"))
}

fn pem(vector: &Value) -> String {
    let key = text(vector, "test_private_key_pkcs8_b64");
    format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n")
}

fn signer(format: Format, base: &str, key_id: &str, secret: &str) -> Signer {
    Signer::new(format, base, key_id, secret, HOUR).unwrap()
}

fn verifies(
    algorithm: &'static dyn VerificationAlgorithm,
    signer: &Signer,
    message: &[u8],
    signature: &str,
) {
    let standard = signature
        .replace('-', "+")
        .replace('_', "=")
        .replace('~', "/");
    let signature = BASE64.decode(standard).unwrap();
    let key = UnparsedPublicKey::new(algorithm, signer.secret.public());
    key.verify(message, &signature).unwrap();
}

fn parameter<'u>(url: &'u str, name: &str) -> &'u str {
    let query = url.split_once('?').unwrap().1;
    let found = query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("{name} in {url}"))
}

const SHARED: &str = "0123456789abcdef0123456789abcdef";

fn any(format: Format) -> Signer {
    let vector = |scheme| {
        vectors()
            .into_iter()
            .find(|vector| text(vector, "scheme") == scheme)
            .unwrap()
    };
    let secret = match format {
        Format::CloudFront | Format::CloudFrontCustom => {
            pem(&vector("cloudfront-canned-rsa-sha256"))
        }
        Format::GoogleMedia => text(
            &vector("google-media-cdn-ed25519-url"),
            "private_seed_b64url",
        )
        .to_owned(),
        _ => SHARED.to_owned(),
    };
    signer(format, "https://cdn.example", "key-1", &secret)
}

#[test]
fn every_format_covers_path_and_expiry_and_gives_one_url_a_window() {
    for (format, name) in Format::ALL {
        assert_eq!(name.parse(), Ok(format));
        assert_eq!(format.to_string(), name);
        let it = any(format);
        let exp = NOW.plus(600);
        let of = |path: &str, exp, now| it.url(path, &Claims::until(exp), now).unwrap();
        let made = of("/media/a/b/c.wav", exp, NOW);
        assert!(
            made.starts_with("https://cdn.example/media/a/b/c.wav?"),
            "{made}"
        );
        assert_eq!(of("/media/a/b/c.wav", exp, NOW.plus(299)), made, "{name}");
        let other = of("/media/a/b/d.wav", exp, NOW);
        assert_ne!(other.replace("/d.wav", "/c.wav"), made, "{name}");
        assert_ne!(of("/media/a/b/c.wav", exp.plus(300), NOW), made, "{name}");
        assert!(made.bytes().all(|byte| byte.is_ascii_graphic()), "{made}");
        assert!(!made.contains(SHARED));
        assert!(!format!("{it:?}").contains(SHARED), "{it:?}");
    }
}

#[test]
fn what_a_format_cannot_say_is_refused() {
    let until = Claims::until(NOW.plus(600));
    for (format, name) in Format::ALL {
        let it = any(format);
        let refused = |claims: Claims| {
            matches!(
                it.url("/media/a/b/c.wav", &claims, NOW),
                Err(UrlError::Unsayable(..))
            )
        };
        let says = !refused(Claims {
            not_before: Some(NOW),
            ..until.clone()
        });
        assert_eq!(says, format.says_not_before(), "{name}");
        assert!(refused(Claims {
            disposition: Some(Disposition::Inline),
            ..until.clone()
        }));
        assert!(refused(Claims {
            prefix: Some(7),
            ..until.clone()
        }));
        assert!(!refused(Claims {
            generation: Some(3),
            ..until.clone()
        }));
        for exp in [NOW, NOW.plus(HOUR + 1)] {
            let ended = it.url("/media/a/b/c.wav", &Claims::until(exp), NOW);
            assert_eq!(ended, Err(UrlError::Expiry(exp)), "{name}");
        }
        let path = it.url("/media/../c.wav", &until, NOW);
        assert!(matches!(path, Err(UrlError::Path(_))), "{name}");
    }
    let tilde = any(Format::Akamai).url("/media/a/b/c~1.wav", &until, NOW);
    assert!(matches!(tilde, Err(UrlError::Unsayable(..))));
}

#[test]
fn a_custom_policy_says_a_not_before() {
    let it = any(Format::CloudFrontCustom);
    let claims = Claims {
        not_before: Some(NOW),
        ..Claims::until(NOW.plus(60))
    };
    let made = it.url("/media/a/b/c.wav", &claims, NOW).unwrap();
    let policy = parameter(&made, "Policy")
        .replace('-', "+")
        .replace('_', "=")
        .replace('~', "/");
    let policy = BASE64.decode(policy).unwrap();
    let read: Value = serde_json::from_slice(&policy).unwrap();
    let statement = &read["Statement"][0];
    assert_eq!(statement["Resource"], "https://cdn.example/media/a/b/c.wav");
    assert_eq!(
        statement["Condition"]["DateLessThan"]["AWS:EpochTime"],
        NOW.0 + 60
    );
    assert_eq!(
        statement["Condition"]["DateGreaterThan"]["AWS:EpochTime"],
        NOW.0
    );
    verifies(
        &RSA_PKCS1_2048_8192_SHA256,
        &it,
        &policy,
        parameter(&made, "Signature"),
    );
}

#[test]
fn keys_that_will_not_do() {
    let made = |format, key_id: &str, secret: &str| {
        Signer::new(format, "https://cdn.example", key_id, secret, HOUR)
            .map(|_| ())
            .unwrap_err()
    };
    let key = |format, error| SignerError::Key(format, error);
    for (format, secret, error) in [
        (Format::CloudFront, "secret", KeyError::Pem),
        (
            Format::CloudFront,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            KeyError::Kind,
        ),
        (Format::GoogleMedia, "AAAA", KeyError::Seed),
        (Format::GoogleMedia, "!", KeyError::Base64Url),
        (Format::Fastly, "a-b_", KeyError::Base64),
        (Format::Akamai, "xy", KeyError::Hex),
        (Format::Akamai, "abc", KeyError::Hex),
        (Format::Akamai, "abcd", KeyError::Short(2, 14)),
        (Format::Bunny, "short", KeyError::Short(5, 16)),
    ] {
        assert_eq!(made(format, "k", secret), key(format, error));
    }
    for key_id in ["", "a&b", "a b"] {
        let error = made(Format::CloudFront, key_id, "secret");
        assert!(
            matches!(error, SignerError::KeyId(Format::CloudFront, _)),
            "{key_id}"
        );
    }
}
