//! Fields and texts of those who bring recordings, and of HubSpot. Input: lines of `name: value`,
//! then, behind an empty line, a body.
//!
//! * A digest that is not the body's never holds, whatever stands beside it.
//! * Whoever does not show the token is nobody; whoever does not know the secret is not HubSpot.
//! * A record that is read is written as it was, and a list of tokens is read whole or not at all.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};
use tonearm::hubspot::signature::{self, Signed, Unsigned};
use tonearm::hubspot::api_error::ApiError;
use tonearm::ingest::Tokens;
use tonearm::ingest::fuzzing::{check_digests, upload_checksum, upload_type};
use tonearm::store::Record;

const TOKEN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let line = "pbx 3ba3f5f43b92602683c19aee62a20342b084dd5971ddd33808d81a328879a547";
    Tokens::parse(line).unwrap()
});

fuzz_target!(|data: &[u8]| {
    let end = data.windows(2).position(|window| window == b"\n\n");
    let (head, body) = end.map_or((data, &b""[..]), |at| (&data[..at], &data[at + 2..]));
    let fields = fields(head);
    digests(&fields, body);
    let _ = upload_type(&fields);
    if let Ok(Some(said)) = upload_checksum(&fields) {
        assert!(said.len() <= fields["upload-checksum"].len());
    }
    if TOKENS.holder(&fields).is_some() {
        let shown = fields["authorization"].to_str().unwrap();
        assert_eq!(shown.split(' ').next_back(), Some(TOKEN));
    }
    from_hubspot(&fields, body);
    records(body);
    if let Ok(tokens) = std::str::from_utf8(body).map_or(Ok(TOKENS.clone()), Tokens::parse) {
        assert!(tokens.count() > 0);
    }
});

fn fields(head: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    fields
}

fn digests(fields: &HeaderMap, body: &[u8]) {
    let held = check_digests(fields, body).is_ok();
    let is = BASE64.encode(Sha256::digest(body));
    for name in ["content-digest", "repr-digest"] {
        for line in fields.get_all(name) {
            let line = line.to_str().unwrap_or_default();
            let members = line.split(',').map(|member| member.trim_matches([' ', '\t']));
            for said in members.filter_map(|member| member.strip_prefix("sha-256=")) {
                let said = said.split(';').next().unwrap_or_default().trim_end();
                assert!(!held || said == format!(":{is}:"), "{said}");
            }
        }
    }
}

fn from_hubspot(fields: &HeaderMap, body: &[u8]) {
    let field = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    let request = Signed {
        method: "GET",
        uri: field("x-uri").unwrap_or("https://rec.example.com/x%20y?a=%2F&b"),
        body,
        signature: field(signature::FIELD),
        version: field(signature::VERSION_FIELD),
        signature_v3: field(signature::V3_FIELD),
        timestamp: field(signature::TIMESTAMP_FIELD),
    };
    let now = 1_767_225_600_000;
    // Not even the fuzzer knows this one.
    let secret = "8d3b0c1e-0f6e-4c7a-9d2f-5a1b2c3d4e5f";
    assert!(signature::check(secret, &request, now).is_err());
    if request.signature_v3.is_none() && request.signature.is_none() {
        assert_eq!(signature::check(secret, &request, now), Err(Unsigned::Missing));
    }
    let error = ApiError::read(400, body);
    let _ = (error.to_string(), error.next_step(), error.is_of_credentials());
}

fn records(body: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(body) else {
        return;
    };
    let text = serde_json::to_vec(&record).unwrap();
    assert_eq!(serde_json::from_slice::<Record>(&text).unwrap(), record);
}
