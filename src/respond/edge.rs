//! What an edge is told: how long it may keep a recording, and its verdicts.

use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};

use super::{Answer, OCTET_STREAM, Problem, attachment, inline_type};
use crate::recording::{MediaPath, UnixTime};
use crate::sign::{Claims, Disposition};

/// A year, which is as long as caches count.
const YEAR: &str = "31536000";
const FOREVER: HeaderValue =
    HeaderValue::from_static("public, max-age=31536000, immutable, no-transform");
/// For caches that a CDN runs, and no others (RFC 9213).
const TARGETED: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");

const ACCEL_EXPIRES: HeaderName = HeaderName::from_static("x-accel-expires");
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");
const EXP: HeaderName = HeaderName::from_static("x-tonearm-exp");
const DISPOSITION: HeaderName = HeaderName::from_static("x-tonearm-disposition");
const TYPE: HeaderName = HeaderName::from_static("x-tonearm-type");
const REASON: HeaderName = HeaderName::from_static("x-tonearm-reason");

/// What says how long a response may be kept, in the order in which it is to be read.
pub(super) const KEEPING: [HeaderName; 4] = [
    ACCEL_EXPIRES,
    header::CACHE_CONTROL,
    CDN_CACHE_CONTROL,
    SURROGATE_CONTROL,
];

/// The same answer to an edge, which may keep it: an entity tag names these bytes for good, and who
/// may have them is asked before each use. Up to 1.22, nginx goes by whichever of X-Accel-Expires
/// and Cache-Control it reads first, so this is an order.
pub(super) fn kept(mut answer: Answer) -> Answer {
    answer.fields.remove(header::CACHE_CONTROL);
    answer
        .with(ACCEL_EXPIRES, YEAR)
        .with(header::CACHE_CONTROL, FOREVER)
        .with(CDN_CACHE_CONTROL, TARGETED)
        .with(SURROGATE_CONTROL, TARGETED)
}

/// A yes: the viewer may have the recording at `path` as `claims` say, and the edge may keep this
/// until `fresh`.
#[must_use]
pub fn allowed(path: &MediaPath, claims: &Claims, fresh: UnixTime, now: UnixTime) -> Answer {
    let (content_type, disposition) = match &claims.disposition {
        Some(Disposition::Inline) => (inline_type(path.media), "inline".to_owned()),
        Some(Disposition::Attachment(Some(name))) => (OCTET_STREAM, attachment(name)),
        Some(Disposition::Attachment(None)) | None => (OCTET_STREAM, attachment(&path.file_name())),
    };
    Answer::new(StatusCode::NO_CONTENT)
        .with(ACCEL_EXPIRES, format!("@{fresh}"))
        .with(
            header::CACHE_CONTROL,
            format!("max-age={}", now.until(fresh)),
        )
        .with(EXP, claims.exp.to_string())
        .with(DISPOSITION, disposition)
        .with(TYPE, content_type)
}

/// A no. Never kept: the next moment, or the next URL, may be another.
#[must_use]
pub fn denied(reason: &'static str) -> Answer {
    Problem::new(StatusCode::FORBIDDEN)
        .answer()
        .with(REASON, reason)
}
