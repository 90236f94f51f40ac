use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::recording::{EntityTag, MediaType};
use crate::select::select;

const NOW: UnixTime = UnixTime(784_111_800);

fn representation(length: u64) -> Representation {
    Representation {
        length,
        etag: EntityTag::from_file(length, 77),
        last_modified: Some(UnixTime(784_111_777)),
        media: MediaType::Wav,
        file_name: "test-call-01.wav".into(),
        sha256: None,
    }
}

fn terms(disposition: Option<&Disposition>) -> Terms<'_> {
    Terms {
        disposition,
        keeper: Keeper::Viewer(900),
        now: NOW,
    }
}

fn get(range: &str, representation: &Representation) -> Answer {
    let mut fields = HeaderMap::new();
    if !range.is_empty() {
        fields.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
    }
    let selection = select(&Method::GET, &fields, representation, NOW);
    respond(&selection, &representation.clone().into(), terms(None))
}

fn field<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer
        .fields
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

/// The payload over a file whose byte n is n mod 251.
fn bytes(answer: &Answer) -> Vec<u8> {
    let of = |at: u64| u8::try_from(at % 251).unwrap();
    let mut out = Vec::new();
    for piece in &answer.payload {
        match piece {
            Piece::Bytes(bytes) => out.extend_from_slice(bytes),
            Piece::Stored(range) => out.extend((range.first..=range.last).map(of)),
        }
    }
    out
}

#[test]
fn statuses_and_fields() {
    let it = representation(1000);
    let full = get("", &it);
    assert_eq!(full.status, 200);
    for (name, value) in [
        ("accept-ranges", "bytes"),
        // The connection's, from the body.
        ("content-length", ""),
        ("etag", "\"3e8-4d\""),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("cache-control", "private, no-transform, max-age=600"),
        ("content-type", "application/octet-stream"),
        (
            "content-disposition",
            "attachment; filename=\"test-call-01.wav\"",
        ),
        ("content-range", ""),
        ("repr-digest", ""),
        ("vary", ""),
        ("content-encoding", ""),
    ] {
        assert_eq!(field(&full, name), value, "{name}");
    }
    let one = get("bytes=0-", &it);
    assert_eq!(
        (one.status.as_u16(), field(&one, "content-range")),
        (206, "bytes 0-999/1000")
    );
    assert_eq!(one.length(), 1000);
    let head = one.without_payload();
    assert_eq!((field(&head, "content-length"), head.length()), ("1000", 0));
    let past = get("bytes=1000-", &it);
    assert_eq!(
        (past.status.as_u16(), field(&past, "content-range")),
        (416, "bytes */1000")
    );
    assert_eq!(field(&past, "cache-control"), "no-store");
    assert_eq!(
        field(&get("bytes=0-", &representation(0)), "content-range"),
        "bytes */0"
    );
    let empty = get("bytes=-5", &representation(0));
    assert_eq!(
        (empty.status.as_u16(), field(&empty, "content-length")),
        (200, "0")
    );
}

#[test]
fn not_modified_says_what_a_cache_needs_and_no_more() {
    let it = representation(1000);
    let answer = respond(&Selection::NotModified, &it.clone().into(), terms(None));
    let mut names: Vec<_> = answer.fields.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let of_every_media_response = [
        "access-control-allow-origin",
        "access-control-expose-headers",
        "referrer-policy",
        "x-content-type-options",
        "x-robots-tag",
    ];
    names.retain(|name| !of_every_media_response.contains(name));
    assert_eq!(names, ["cache-control", "etag", "last-modified"]);
    assert!(answer.payload.is_empty());
}

#[test]
fn max_age_never_outlives_the_url() {
    let short = Terms {
        keeper: Keeper::Viewer(20),
        ..terms(None)
    };
    let answer = respond(&Selection::Full, &representation(1).into(), short);
    assert_eq!(
        field(&answer, "cache-control"),
        "private, no-transform, max-age=20"
    );
}

#[test]
fn a_date_from_the_future_is_replaced() {
    let ahead = Representation {
        last_modified: Some(NOW.plus(99)),
        ..representation(1)
    };
    let answer = respond(&Selection::Full, &ahead.into(), terms(None));
    assert_eq!(field(&answer, "last-modified"), http_date(NOW));
}

#[test]
fn dispositions() {
    let named = |name: &str| Disposition::Attachment(Some(name.to_owned()));
    for (disposition, content_type, value) in [
        (Disposition::Inline, "audio/wav", "inline"),
        (
            Disposition::Attachment(None),
            "application/octet-stream",
            "attachment; filename=\"test-call-01.wav\"",
        ),
        (
            named("Call 1.wav"),
            "application/octet-stream",
            "attachment; filename=\"Call 1.wav\"",
        ),
        (
            named("Zoë.wav"),
            "application/octet-stream",
            "attachment; filename=\"Zo_.wav\"; filename*=UTF-8''Zo%C3%AB.wav",
        ),
        (
            named("a\"b%.wav"),
            "application/octet-stream",
            "attachment; filename=\"a_b_.wav\"; filename*=UTF-8''a%22b%25.wav",
        ),
        (
            named("../a\r\nX: y"),
            "application/octet-stream",
            "attachment; filename=\".._a__X: y\"",
        ),
    ] {
        let answer = respond(
            &Selection::Full,
            &representation(1).into(),
            terms(Some(&disposition)),
        );
        assert_eq!(
            field(&answer, "content-type"),
            content_type,
            "{disposition:?}"
        );
        assert_eq!(
            field(&answer, "content-disposition"),
            value,
            "{disposition:?}"
        );
    }
}

#[test]
fn every_format_has_an_inline_type() {
    for (media, expect) in MediaType::ALL.into_iter().zip([
        "audio/wav",
        "audio/flac",
        "audio/mpeg",
        "video/mp4",
        "audio/m4a",
    ]) {
        let it = Representation {
            media,
            ..representation(1)
        };
        let answer = respond(
            &Selection::Full,
            &it.into(),
            terms(Some(&Disposition::Inline)),
        );
        let found = field(&answer, "content-type");
        assert_eq!(found, expect);
    }
}

#[test]
fn a_known_digest_is_said() {
    let it = Representation {
        sha256: Some([0; 32]),
        ..representation(1)
    };
    let answer = respond(&Selection::Full, &it.clone().into(), terms(None));
    let value = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    assert_eq!(field(&answer, "repr-digest"), value);
}

#[test]
fn a_multipart_is_as_long_as_it_says() {
    let answer = get("bytes=0-1, 5-6", &representation(1000));
    assert_eq!(answer.status, 206);
    let content_type = field(&answer, "content-type");
    assert_eq!(
        content_type,
        "multipart/byteranges; boundary=tonearm-3e8-4d"
    );
    let body = bytes(&answer);
    assert_eq!(answer.length(), u64::try_from(body.len()).unwrap());
    assert_eq!(field(&answer, "content-range"), "");
    let text = String::from_utf8(body).unwrap();
    assert_eq!(
        text,
        "--tonearm-3e8-4d\r\nContent-Type: application/octet-stream\r\n\
         Content-Range: bytes 0-1/1000\r\n\r\n\0\u{1}\r\n\
         --tonearm-3e8-4d\r\nContent-Type: application/octet-stream\r\n\
         Content-Range: bytes 5-6/1000\r\n\r\n\u{5}\u{6}\r\n--tonearm-3e8-4d--\r\n"
    );
}

#[test]
fn a_response_never_outgrows_the_file_by_4_kib() {
    let mut digest = representation(u64::MAX / 4);
    digest.etag = EntityTag::from_sha256(&[7; 32]);
    let far = digest.length - 100;
    let set: Vec<_> = (0..16).map(|i| format!("{0}-{0}", far + i * 3)).collect();
    let answer = get(&format!("bytes={}", set.join(",")), &digest);
    assert_eq!(answer.payload.len(), 33);
    assert!(answer.length() < 4096, "{}", answer.length());
}

#[test]
fn problems_are_self_delimited_and_never_stored() {
    let answer = Problem::new(StatusCode::FORBIDDEN)
        .error("expired")
        .answer();
    let body = String::from_utf8(bytes(&answer)).unwrap();
    assert_eq!(
        body,
        r#"{"type":"about:blank","title":"Forbidden","status":403,"error":"expired"}"#
    );
    assert_eq!(answer.length(), u64::try_from(body.len()).unwrap());
    assert_eq!(field(&answer, "content-type"), "application/problem+json");
    assert_eq!(field(&answer, "cache-control"), "no-store");
}

proptest! {
    #[test]
    fn a_payload_is_as_long_as_a_head_says(
        length in 0..2000_u64,
        first in 0..2500_u64,
        span in 0..2500_u64,
        second in 0..2500_u64,
    ) {
        let it = representation(length);
        let answer = get(&format!("bytes={first}-{},{second}-{second}", first + span), &it);
        let sent = bytes(&answer).len();
        let said: usize = field(&answer.without_payload(), "content-length").parse().unwrap();
        prop_assert_eq!(said, sent);
        prop_assert!(said <= usize::try_from(length).unwrap() + 4096);
    }

    #[test]
    fn any_name_makes_a_field(name in "\\PC{1,60}|[\\x00-\\x7f]{1,20}") {
        let disposition = Disposition::Attachment(Some(name));
        let answer = respond(&Selection::Full, &representation(1).into(), terms(Some(&disposition)));
        let value = field(&answer, "content-disposition");
        prop_assert!(value.starts_with("attachment; filename=\""));
        prop_assert_eq!(value.matches('"').count(), 2);
    }
}
