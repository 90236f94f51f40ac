//! Google's signature version 4 in a query, as Cloud Storage checks it: by Google's page on it, and held
//! against the conformance tests published for its clients.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tonearm::recording::UnixTime;

use super::sigv4::{hex, spelled, value};

/// Which host is signed for, wherever the tests' bucket is.
const HOST: &str = "storage.googleapis.com";

/// The account that may sign here, as its key's file.
pub fn account() -> String {
    let pem = private_key();
    let lines: Vec<_> = pem
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    );
    serde_json::json!({
        "type": "service_account",
        "private_key": pem,
        "private_key_id": "one",
        "client_email": "tests@project.example",
    })
    .to_string()
}

/// In base64: a key of the tests.
fn private_key() -> String {
    let vectors: Value = serde_json::from_str(include_str!("../../../vectors/cdn.json")).unwrap();
    let found = vectors.to_string();
    let (_, rest) = found
        .split_once("\"test_private_key_pkcs8_b64\":\"")
        .unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

fn public_key() -> Vec<u8> {
    let pair = KeyPair::from_pkcs8(&BASE64.decode(private_key()).unwrap()).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    der.as_ref().to_vec()
}

/// A request whose query is signed.
pub struct Presigned<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
}

impl Presigned<'_> {
    /// Whether Cloud Storage would let it in at `now`.
    pub fn check(&self, now: UnixTime) -> Result<(), &'static str> {
        let value = |name| value(self.query, name).ok_or("a parameter is missing");
        let begin = value("X-Goog-Date")?.replace('Z', "+0000");
        let begin = jiff::fmt::strtime::parse("%Y%m%dT%H%M%S%z", begin).unwrap();
        let begin = begin.to_timestamp().unwrap().as_second();
        let lives: i64 = value("X-Goog-Expires")?.parse().unwrap();
        let now = i64::try_from(now.0).unwrap();
        if lives > 604_800 || now > begin + lives || now < begin - 900 {
            return Err("expired");
        }
        if self.holds(&public_key()) {
            Ok(())
        } else {
            Err("SignatureDoesNotMatch")
        }
    }

    fn holds(&self, public_key: &[u8]) -> bool {
        let value = |name| value(self.query, name).unwrap();
        let (date, credential) = (value("X-Goog-Date"), value("X-Goog-Credential"));
        let scope = credential.split_once('/').unwrap().1;
        let request = hex(&Sha256::digest(self.canonical()));
        let message = format!("GOOG4-RSA-SHA256\n{date}\n{scope}\n{request}");
        let signature = value("X-Goog-Signature");
        let byte = |at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..signature.len()).step_by(2).map(byte).collect();
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public_key);
        key.verify(message.as_bytes(), &bytes).is_ok()
    }

    /// The canonical request: each pair escaped in the one spelling there is, and sorted.
    fn canonical(&self) -> String {
        let pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        let mut pairs: Vec<_> = pairs
            .filter(|(name, _)| *name != "X-Goog-Signature")
            .map(|(name, value)| format!("{}={}", spelled(name), spelled(value)))
            .collect();
        pairs.sort();
        let (method, path) = (self.method, self.path);
        format!(
            "{method}\n{path}\n{}\nhost:{HOST}\n\nhost\nUNSIGNED-PAYLOAD",
            pairs.join("&")
        )
    }
}

#[test]
fn the_published_vectors() {
    let text = include_str!("../../../vectors/gcs-v4.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let public_key = BASE64
        .decode(vectors["public_key_b64"].as_str().unwrap())
        .unwrap();
    for vector in vectors["vectors"].as_array().unwrap() {
        let url = vector["expectedUrl"].as_str().unwrap();
        let rest = url.strip_prefix("https://storage.googleapis.com").unwrap();
        let (path, query) = rest.split_once('?').unwrap();
        let method = vector["method"].as_str().unwrap();
        let signed = Presigned {
            method,
            path,
            query,
        };
        assert!(signed.holds(&public_key), "{url}");
        for (what, signed) in [
            (
                "another method",
                Presigned {
                    method: "DELETE",
                    ..signed
                },
            ),
            (
                "another path",
                Presigned {
                    path: "/bucket/other",
                    ..signed
                },
            ),
        ] {
            assert!(!signed.holds(&public_key), "{what}: {url}");
        }
        assert_eq!(signed.check(UnixTime(1_800_000_000)), Err("expired"));
    }
}
