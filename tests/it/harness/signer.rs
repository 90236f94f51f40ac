//! The signed URL by its page alone: signs any text, whether or not it is a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// `sig`'s value over `path` (or its first bytes) for `host` (or `*`), with a true MAC by the key
/// of [`super::keyring`], which `signed` should name.
pub fn token(host: &str, path: &str, signed: &str) -> String {
    let secret: Vec<u8> = (0..32).collect();
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
    mac.update(format!("tonearm-url-v1\nGET\n{host}\n{path}\n{signed}").as_bytes());
    format!("{signed}.{}", BASE64URL.encode(mac.finalize().into_bytes()))
}

/// A target whose token carries a true MAC.
pub fn target(path: &str, signed: &str) -> String {
    format!("{path}?sig={}", token("*", path, signed))
}
