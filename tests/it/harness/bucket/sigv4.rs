//! AWS's signature version 4 in a query, as S3 checks it: by AWS's page on it, and held against the
//! example published there.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};
use tonearm::recording::UnixTime;

/// The only secret that signs here.
const SECRET: &str = "secret";

/// A request whose query is signed.
pub struct Presigned<'a> {
    pub method: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    pub query: &'a str,
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

pub(super) fn value(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(is, _)| *is == name).map(|(_, value)| value);
    let value = values.next()?;
    assert_eq!(values.next(), None, "{name} stands twice");
    Some(
        percent_decode_str(value)
            .decode_utf8()
            .unwrap()
            .into_owned(),
    )
}

/// As the canonical form spells it, which escapes all but the unreserved; `+` for a space is not its way.
pub(super) fn spelled(text: &str) -> String {
    let decoded = percent_decode_str(&text.replace('+', "%20")).collect::<Vec<u8>>();
    decoded.iter().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(*byte));
            }
            byte => write!(out, "%{byte:02X}").unwrap(),
        }
        out
    })
}

impl Presigned<'_> {
    /// Whether S3 would let it in at `now`.
    pub fn check(&self, now: UnixTime) -> Result<(), &'static str> {
        let value = |name| value(self.query, name).ok_or("a parameter is missing");
        let date = value("X-Amz-Date")?;
        let begin = jiff::fmt::strtime::parse("%Y%m%dT%H%M%S%z", date.replace('Z', "+0000"));
        let begin = begin.unwrap().to_timestamp().unwrap().as_second();
        let lives: i64 = value("X-Amz-Expires")?.parse().unwrap();
        let now = i64::try_from(now.0).unwrap();
        if lives > 604_800 || now > begin + lives || now < begin - 900 {
            return Err("expired");
        }
        if value("X-Amz-Signature")? == self.signature(&date, SECRET) {
            Ok(())
        } else {
            Err("SignatureDoesNotMatch")
        }
    }

    fn signature(&self, date: &str, secret: &str) -> String {
        let mut pairs: Vec<_> = self.query.split('&').collect();
        pairs.retain(|pair| !pair.starts_with("X-Amz-Signature="));
        let mut pairs: Vec<_> = pairs
            .into_iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| format!("{}={}", spelled(name), spelled(value)))
            .collect();
        pairs.sort();
        let request = format!(
            "{}\n{}\n{}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD",
            self.method,
            self.path,
            pairs.join("&"),
            self.host
        );
        let credential = value(self.query, "X-Amz-Credential").unwrap();
        let scope = credential.split_once('/').unwrap().1;
        let message = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            hex(&Sha256::digest(request))
        );
        let key = scope
            .split('/')
            .fold(format!("AWS4{secret}").into_bytes(), |key, part| {
                mac(&key, part)
            });
        hex(&mac(&key, &message))
    }
}

/// The fields that a query asks for in place of the object's own.
pub fn overrides(query: &str) -> String {
    let names = ["content-type", "content-disposition"];
    names.into_iter().fold(String::new(), |mut fields, name| {
        if let Some(value) = value(query, &format!("response-{name}")) {
            write!(fields, "{name}: {value}\r\n").unwrap();
        }
        fields
    })
}

/// "Authenticating Requests: Using Query Parameters", AWS's own example.
#[test]
fn the_published_example() {
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let signed = Presigned {
        method: "GET",
        host: "examplebucket.s3.amazonaws.com",
        path: "/test.txt",
        query,
    };
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    let signature = signed.signature("20130524T000000Z", secret);
    assert_eq!(Some(signature), value(query, "X-Amz-Signature"));
}
