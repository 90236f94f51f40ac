//! An answer, put together: status, fields and what follows them. Decides none of them but those that stand
//! on every answer of this server.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use smallvec::SmallVec;

use crate::select::ByteRange;

const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");
const EMPTY: HeaderValue = HeaderValue::from_static("");
const ZERO: HeaderValue = HeaderValue::from_static("0");

/// A piece of a payload, in the order of sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// This range of the representation.
    Stored(ByteRange),
}

impl Piece {
    /// In bytes.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "pieces are never asked for emptiness"
    )]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Stored(range) => range.len(),
        }
    }
}

/// A response whose bytes nobody has read yet.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// All fields but Date, and but Content-Length where there is a payload: those are the connection's, which
    /// knows the time and the body's length.
    pub fields: HeaderMap,
    /// What follows them.
    pub payload: Payload,
}

/// What is sent, piece by piece; nearly always one.
pub type Payload = SmallVec<[Piece; 1]>;

impl Answer {
    /// Adds what stands on every answer to one who speaks tus.
    #[must_use]
    pub fn resumable(self) -> Self {
        self.with(HeaderName::from_static("tus-resumable"), "1.0.0")
    }

    /// An answer with what stands on every response of this server.
    pub(super) fn new(status: StatusCode) -> Self {
        let answer = Self {
            status,
            fields: HeaderMap::with_capacity(16),
            payload: Payload::new(),
        };
        answer
            .with(header::REFERRER_POLICY, "no-referrer")
            .with(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .with(ROBOTS, "noindex")
    }

    pub(super) fn with(mut self, name: HeaderName, value: impl IntoValue) -> Self {
        self.fields.insert(name, value.into_value());
        self
    }

    pub(super) fn sending(self, payload: impl Into<Payload>) -> Self {
        let mut answer = self;
        answer.payload = payload.into();
        if answer.length() == 0 {
            // Who sends nothing need not say so.
            answer.fields.insert(header::CONTENT_LENGTH, ZERO);
        }
        answer
    }

    /// Of the payload, in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.payload.iter().map(Piece::len).sum()
    }

    /// The first range of the representation that is sent.
    #[must_use]
    pub fn first_stored(&self) -> Option<ByteRange> {
        self.payload.iter().find_map(|piece| match piece {
            Piece::Bytes(_) => None,
            Piece::Stored(range) => Some(*range),
        })
    }

    /// The same answer to HEAD: every field, no payload.
    #[must_use]
    pub fn without_payload(mut self) -> Self {
        let length = self.length();
        if length > 0 {
            self = self.with(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        self.payload = Payload::new();
        self
    }

    /// Closes the connection behind this answer (HTTP/1.1 only).
    #[must_use]
    pub fn closing(self) -> Self {
        self.with(header::CONNECTION, "close")
    }

    /// Adds what a page of another origin needs in order to read a media response. The browser
    /// comes by redirects from other sites, so that its Origin is often `null`: any is allowed,
    /// none with credentials.
    #[must_use]
    pub fn readable_from_any_origin(self) -> Self {
        self.with(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*").with(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "Accept-Ranges, Content-Length, Content-Range, ETag",
        )
    }
}

/// A field value of static text, a number, or text this crate made.
pub(super) trait IntoValue {
    fn into_value(self) -> HeaderValue;
}

impl IntoValue for &'static str {
    fn into_value(self) -> HeaderValue {
        HeaderValue::from_static(self)
    }
}

impl IntoValue for HeaderValue {
    fn into_value(self) -> HeaderValue {
        self
    }
}

impl IntoValue for String {
    /// Our own texts are visible ASCII; were one not, the field would stay empty rather than the
    /// response fail.
    fn into_value(self) -> HeaderValue {
        HeaderValue::try_from(self).unwrap_or(EMPTY)
    }
}

/// A field value of parts that are visible ASCII, and short: put together before anything is allocated.
/// Were they not, the field would stay empty rather than the response fail.
pub(super) fn value(parts: &[&str]) -> HeaderValue {
    /// Content-Range has three numbers of up to twenty digits.
    const MOST: usize = 6 + 3 * 20 + 2;
    let (mut text, mut length) = ([0; MOST], 0);
    for part in parts {
        let Some(room) = text.get_mut(length..length + part.len()) else {
            return EMPTY;
        };
        room.copy_from_slice(part.as_bytes());
        length += part.len();
    }
    HeaderValue::from_bytes(&text[..length]).unwrap_or(EMPTY)
}
