//! Status and fields: what a selection looks like on the wire.
//!
//! The only author of 200, 206, 304, 412 and 416. Pure: it names the bytes to send and reads none
//! of them. Which bytes is `select`'s decision; whether anything may be sent was `sign`'s.

mod answer;
mod disposition;
mod edge;
mod problem;

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

pub use self::answer::{Answer, Payload, Piece};
use self::answer::{IntoValue, value};
use self::disposition::attachment;
pub use self::edge::{allowed, denied};
pub use self::problem::Problem;
use crate::recording::{EntityTag, MediaType, Representation, UnixTime};
use crate::select::{ByteRange, Selection};
use crate::sign::Disposition;

/// Longest time a viewer's cache may keep a recording, in seconds.
const MAX_AGE: u64 = 600;
const LONGEST: &str = "private, no-transform, max-age=600";

/// Digest of the representation (RFC 9530 §3).
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A representation with the fields of its responses ready to be sent, since many requests are for
/// few files.
#[derive(Debug, Clone)]
pub struct Described {
    representation: Representation,
    /// A 206 with one range, as most requests get it. What differs from one to the next is written
    /// over.
    partial: HeaderMap,
}

impl From<Representation> for Described {
    fn from(representation: Representation) -> Self {
        let etag = representation.etag.as_str().to_owned();
        let [content_type, disposition] =
            presented(representation.media, &representation.file_name, None);
        let mut partial = OF_ANY.clone();
        partial.insert(header::CONTENT_TYPE, content_type);
        partial.insert(header::ETAG, etag.into_value());
        partial.insert(header::CONTENT_DISPOSITION, disposition);
        match representation.last_modified {
            Some(modified) => {
                partial.insert(header::LAST_MODIFIED, http_date(modified).into_value())
            }
            None => partial.remove(header::LAST_MODIFIED),
        };
        if let Some(digest) = &representation.sha256 {
            let digest = format!("sha-256=:{}:", BASE64.encode(digest));
            partial.insert(REPR_DIGEST, digest.into_value());
        }
        Self {
            representation,
            partial,
        }
    }
}

/// The fields of such a 206 of any recording, with room for what each says of itself.
static OF_ANY: LazyLock<HeaderMap> = LazyLock::new(|| {
    Answer::new(StatusCode::PARTIAL_CONTENT)
        .with(header::CONTENT_RANGE, "")
        .with(header::CONTENT_TYPE, "")
        .with(header::ETAG, "")
        .with(header::CACHE_CONTROL, LONGEST)
        .with(header::ACCEPT_RANGES, "bytes")
        .with(header::CONTENT_DISPOSITION, "")
        .with(header::LAST_MODIFIED, "")
        .readable_from_any_origin()
        .fields
});

fn inline_type(media: MediaType) -> HeaderValue {
    mime_guess::from_ext(media.extension())
        .first_raw()
        .map_or(OCTET_STREAM, HeaderValue::from_static)
}

impl Described {
    /// What is described.
    #[must_use]
    pub const fn representation(&self) -> &Representation {
        &self.representation
    }
}

/// Who may keep a response, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// The viewer, while its grant lasts: so many seconds.
    Viewer(u64),
    /// An edge, which asks again before each use whether it may be used.
    Edge,
}

/// What a grant says of the response, and how long it lasts.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Attachment or inline; `None` is an attachment under the recording's own name.
    pub disposition: Option<&'a Disposition>,
    /// Who may keep the response.
    pub keeper: Keeper,
    /// The response's Date, or the second before it.
    pub now: UnixTime,
}

/// Answers with `selection` of what is `described`.
#[must_use]
pub fn respond(selection: &Selection, described: &Described, terms: Terms<'_>) -> Answer {
    let length = described.representation.length;
    match selection {
        Selection::Full => {
            let whole = whole(length).map(Piece::Stored);
            full(described, terms).sending(Payload::from_iter(whole))
        }
        Selection::Partial(ranges) => partial(ranges.as_slice(), described, terms),
        Selection::NotModified => not_modified(described, terms),
        Selection::PreconditionFailed => Problem::new(StatusCode::PRECONDITION_FAILED)
            .answer()
            .readable_from_any_origin(),
        Selection::NotSatisfiable => Problem::new(StatusCode::RANGE_NOT_SATISFIABLE)
            .answer()
            .readable_from_any_origin()
            .with(header::ACCEPT_RANGES, "bytes")
            .with(header::CONTENT_RANGE, format!("bytes */{length}")),
    }
}

fn whole(length: u64) -> Option<ByteRange> {
    let last = length.checked_sub(1)?;
    Some(ByteRange { first: 0, last })
}

/// The fields of a 200.
fn full(described: &Described, terms: Terms<'_>) -> Answer {
    let mut answer = describing(described, terms);
    answer.status = StatusCode::OK;
    answer.fields.remove(header::CONTENT_RANGE);
    answer
}

fn partial(ranges: &[ByteRange], described: &Described, terms: Terms<'_>) -> Answer {
    let representation = &described.representation;
    let mut answer = describing(described, terms);
    // §15.3.7.1: one range is never a multipart.
    if let [range] = ranges {
        let content_range = content_range(*range, representation);
        answer.fields.insert(header::CONTENT_RANGE, content_range);
        answer.payload = [Piece::Stored(*range)].into();
        return answer;
    }
    let boundary = boundary(representation);
    answer.fields.remove(header::CONTENT_RANGE);
    let content_type = answer.fields.insert(
        header::CONTENT_TYPE,
        format!("multipart/byteranges; boundary={boundary}").into_value(),
    );
    let content_type = content_type.unwrap_or(OCTET_STREAM);
    answer.sending(multipart(ranges, representation, &content_type, &boundary))
}

/// §15.4.5: what a cache needs to freshen its copy, and nothing that describes a content.
fn not_modified(described: &Described, terms: Terms<'_>) -> Answer {
    let mut answer = Answer::new(StatusCode::NOT_MODIFIED).readable_from_any_origin();
    let mut described = describing(described, terms).fields;
    let validators = [header::ETAG, header::LAST_MODIFIED];
    for name in edge::KEEPING.iter().chain(&validators) {
        if let Some(value) = described.remove(name) {
            answer = answer.with(name.clone(), value);
        }
    }
    answer
}

/// The parts of a multipart/byteranges (§14.6), each between its delimiter and the next.
fn multipart(
    ranges: &[ByteRange],
    representation: &Representation,
    content_type: &HeaderValue,
    boundary: &str,
) -> Vec<Piece> {
    let content_type = content_type.to_str().unwrap_or_default();
    let mut pieces = Vec::with_capacity(ranges.len() * 2 + 1);
    let mut line_break = "";
    for range in ranges {
        let content_range = content_range(*range, representation);
        let head = format!(
            "{line_break}--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {}\r\n\r\n",
            content_range.to_str().unwrap_or_default()
        );
        pieces.push(Piece::Bytes(head.into()));
        pieces.push(Piece::Stored(*range));
        line_break = "\r\n";
    }
    pieces.push(Piece::Bytes(format!("\r\n--{boundary}--\r\n").into()));
    pieces
}

/// A delimiter that nobody who made the recording could have known: the validator's first digits.
fn boundary(representation: &Representation) -> String {
    let opaque = representation.etag.opaque();
    format!("tonearm-{}", &opaque[..opaque.len().min(32)])
}

fn content_range(range: ByteRange, representation: &Representation) -> HeaderValue {
    let mut digits = [(); 3].map(|()| itoa::Buffer::new());
    let [first, last, length] = &mut digits;
    value(&[
        "bytes ",
        first.format(range.first),
        "-",
        last.format(range.last),
        "/",
        length.format(representation.length),
    ])
}

/// A response that describes the representation, as far as this request makes a difference.
fn describing(described: &Described, terms: Terms<'_>) -> Answer {
    let mut answer = Answer {
        status: StatusCode::PARTIAL_CONTENT,
        fields: described.partial.clone(),
        payload: Payload::new(),
    };
    match terms.keeper {
        Keeper::Viewer(left) if left < MAX_AGE => {
            let mut digits = itoa::Buffer::new();
            let shorter = value(&["private, no-transform, max-age=", digits.format(left)]);
            answer = answer.with(header::CACHE_CONTROL, shorter);
        }
        Keeper::Viewer(_) => {}
        Keeper::Edge => answer = edge::kept(answer),
    }
    // §8.8.2.1: a date from the future is replaced by the response's own.
    if described.representation.last_modified > Some(terms.now) {
        answer = answer.with(header::LAST_MODIFIED, http_date(terms.now));
    }
    match terms.disposition {
        Some(Disposition::Attachment(None)) | None => answer,
        asked => {
            let Representation {
                media, file_name, ..
            } = &described.representation;
            let [content_type, disposition] = presented(*media, file_name, asked);
            answer
                .with(header::CONTENT_TYPE, content_type)
                .with(header::CONTENT_DISPOSITION, disposition)
        }
    }
}

/// Content-Type and Content-Disposition of a recording called `file_name`.
///
/// HubSpot needs the octet-stream; a page that embeds a player asks for the real type by its grant.
/// The bytes never depend on it.
#[must_use]
pub fn presented(
    media: MediaType,
    file_name: &str,
    disposition: Option<&Disposition>,
) -> [HeaderValue; 2] {
    match disposition {
        Some(Disposition::Inline) => [inline_type(media), "inline".into_value()],
        Some(Disposition::Attachment(Some(name))) => [OCTET_STREAM, attachment(name).into_value()],
        Some(Disposition::Attachment(None)) | None => {
            [OCTET_STREAM, attachment(file_name).into_value()]
        }
    }
}

pub(crate) fn http_date(time: UnixTime) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(time.0))
}

/// A JSON document, never stored.
#[must_use]
pub fn json(body: Vec<u8>) -> Answer {
    Answer::new(StatusCode::OK)
        .with(header::CONTENT_TYPE, "application/json")
        .with(header::CACHE_CONTROL, NO_STORE)
        .sending([Piece::Bytes(body.into())])
}

/// What is known of a recording, as JSON under the recording's own tag. Never stored.
#[must_use]
pub fn told(
    status: StatusCode,
    etag: &EntityTag,
    location: Option<String>,
    body: Vec<u8>,
) -> Answer {
    let mut answer = json(body).with(header::ETAG, etag.as_str().to_owned());
    answer.status = status;
    match location {
        Some(location) => answer.with(header::LOCATION, location),
        None => answer,
    }
}

/// The answer that says nothing but that it was done.
#[must_use]
pub fn no_content() -> Answer {
    Answer::new(StatusCode::NO_CONTENT).with(header::CACHE_CONTROL, NO_STORE)
}

/// An answer about an upload in parts. Never stored.
#[must_use]
pub fn uploading(status: StatusCode, fields: &[(HeaderName, String)]) -> Answer {
    let mut answer = Answer::new(status).with(header::CACHE_CONTROL, NO_STORE);
    for (name, value) in fields {
        answer = answer.with(name.clone(), value.clone());
    }
    if status == StatusCode::NO_CONTENT {
        return answer;
    }
    answer.sending(Vec::new())
}

/// Text of a given type, never stored.
#[must_use]
pub fn text(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    Answer::new(status)
        .with(header::CONTENT_TYPE, content_type)
        .with(header::CACHE_CONTROL, NO_STORE)
        .sending([Piece::Bytes(body.into())])
}

/// The answer to OPTIONS: what may be asked.
#[must_use]
pub fn options(allow: &'static str) -> Answer {
    no_content().with(header::ALLOW, allow)
}

/// The answer to a preflight for the fields that a seeking player sends.
#[must_use]
pub fn preflight(allow: &'static str) -> Answer {
    options(allow)
        .with(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD")
        .with(header::ACCESS_CONTROL_ALLOW_HEADERS, "Range, If-Range")
        .with(header::ACCESS_CONTROL_MAX_AGE, "86400")
}

#[cfg(test)]
mod tests;
