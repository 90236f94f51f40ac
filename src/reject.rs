//! The only map from a failure to a status and a public text.
//!
//! The log gets the exact reason, the client what it may know: nothing that would tell a guesser
//! how close the guess was, and never the text of an error.

use std::borrow::Cow;
use std::error::Error;

use http::{HeaderName, HeaderValue, StatusCode, header};

#[cfg(feature = "cdn")]
use crate::edge::cdn::UrlError;
use crate::hubspot::signature::Unsigned;
use crate::ingest::{self, Unfit};
use crate::respond::{Answer, Problem};
use crate::route::BadQuestion;
use crate::sign::{MintError, Refusal};
use crate::store::{ChangeError, StoreError};

/// The methods of the public listener.
pub const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Why a request gets no recording and no URL.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The message could be read in two ways.
    #[error("ambiguous framing: {0}")]
    Framing(&'static str),
    /// No Host, more than one, or one that names no host.
    #[error("bad host: {0}")]
    Host(&'static str),
    /// Neither origin nor absolute form.
    #[error("bad request target: {0}")]
    Target(&'static str),
    /// The fields are larger than the limit.
    #[error("{0} bytes of fields")]
    FieldsTooLarge(usize),
    /// No such place.
    #[error("no route")]
    NoRoute,
    /// The signed URL does not hold.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// A question that asks for no recording.
    #[error("bad question: {0}")]
    Question(#[from] BadQuestion),
    /// An app or account that is not served here.
    #[error("not allowed: {0}")]
    NotAllowed(&'static str),
    /// A question that HubSpot did not sign.
    #[error("not signed: {0}")]
    Unsigned(#[source] Unsigned),
    /// More questions than are allowed; in so many seconds there may be another.
    #[error("too many questions: {0} s to wait")]
    TooMany(u64),
    /// A question whose recording is not there.
    #[error("unknown recording: {0}")]
    Unknown(#[source] StoreError),
    /// The store's answer behind a true MAC.
    #[error("{0}")]
    Store(#[source] StoreError),
    /// Nothing was taken in or erased.
    #[error("{0}")]
    Ingest(#[from] ingest::Refused),
    /// As many responses are under way as may be.
    #[error("too many responses are under way")]
    Busy,
    /// No URL could be signed.
    #[error("cannot sign: {0}")]
    Mint(#[from] MintError),
    /// No URL of the CDN could be signed.
    #[cfg(feature = "cdn")]
    #[error("cannot sign for the CDN: {0}")]
    Cdn(#[from] UrlError),
}

impl Rejection {
    /// The exact reason, for the log.
    #[must_use]
    pub fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::Refused(refusal) => refusal.word().into(),
            Self::NoRoute => "no_route".into(),
            _ => match self.root() {
                Some(root) => format!("{self}: {root}").into(),
                None => self.to_string().into(),
            },
        }
    }

    /// The reason in one of a few words, for the metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Framing(_) => "framing",
            Self::Host(_) => "host",
            Self::Target(_) => "target",
            Self::FieldsTooLarge(_) => "fields_too_large",
            Self::NoRoute => "no_route",
            Self::Refused(refusal) => refusal.word(),
            Self::Question(_) => "question",
            Self::NotAllowed(_) => "not_allowed",
            Self::Unsigned(_) => "unsigned",
            Self::TooMany(_) => "too_many",
            Self::Unknown(error) | Self::Store(error) => match error {
                StoreError::Refused(refusal) => refusal.word(),
                StoreError::NotFound(_) | StoreError::Erased => "not_found",
                StoreError::Exhausted(_) => "exhausted",
                StoreError::Io(_) => "store",
                StoreError::Record(_) => "record",
                StoreError::Damaged => "damaged",
                StoreError::Replaced => "replaced",
                StoreError::Busy => "bucket_busy",
                StoreError::Unreachable(_) => "bucket_unreachable",
                StoreError::TimedOut => "bucket_timeout",
                StoreError::Upstream(_) => "bucket",
            },
            Self::Ingest(_) => "ingest",
            Self::Busy => "busy",
            #[cfg(feature = "cdn")]
            Self::Cdn(_) => "cdn",
            Self::Mint(_) => "cannot_sign",
        }
    }

    /// What lies at the bottom, where it says more than the top.
    fn root(&self) -> Option<String> {
        let error: &dyn Error = match self {
            Self::Store(error) | Self::Unknown(error) => error,
            Self::Ingest(error) => error,
            _ => return None,
        };
        error.source().map(ToString::to_string)
    }

    /// Whether an operator has to do something about it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.status().is_server_error()
    }

    /// Whether it is the message that will not do: what follows it on the connection cannot be
    /// trusted to be a request.
    #[must_use]
    pub const fn is_of_the_message(&self) -> bool {
        matches!(self, Self::Framing(_) | Self::Host(_) | Self::Target(_))
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Framing(_) | Self::Host(_) | Self::Target(_) | Self::Question(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::FieldsTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Refused(Refusal::Method) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Refused(Refusal::TooLong) => StatusCode::URI_TOO_LONG,
            Self::Refused(_) | Self::Unsigned(_) => StatusCode::FORBIDDEN,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            // An id too long to be signed can never have been given a URL: it is unknown.
            Self::NoRoute | Self::NotAllowed(_) | Self::Mint(MintError::Path(_)) => {
                StatusCode::NOT_FOUND
            }
            Self::Store(error) | Self::Unknown(error) => self.store_status(error),
            Self::Ingest(refused) => self.ingest_status(refused),
            #[cfg(feature = "cdn")]
            Self::Cdn(UrlError::Path(_)) => StatusCode::NOT_FOUND,
            #[cfg(feature = "cdn")]
            Self::Cdn(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Busy | Self::Mint(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn ingest_status(&self, refused: &ingest::Refused) -> StatusCode {
        use ingest::Refused as R;

        match refused {
            R::Token => StatusCode::UNAUTHORIZED,
            R::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            R::Id(_) | R::LongId | R::Field(_) | R::Digest(_) | R::Cut => StatusCode::BAD_REQUEST,
            R::Type => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            R::Unfit(_) => StatusCode::UNPROCESSABLE_ENTITY,
            R::Precondition | R::Version => StatusCode::PRECONDITION_FAILED,
            R::Offset => StatusCode::CONFLICT,
            // tus 1.0.0, checksum: "460 Checksum Mismatch".
            R::Checksum => StatusCode::from_u16(460).unwrap_or(StatusCode::BAD_REQUEST),
            R::Stalled => StatusCode::REQUEST_TIMEOUT,
            R::Store(ChangeError::Taken | ChangeError::Held | ChangeError::Young) => {
                StatusCode::CONFLICT
            }
            R::Store(ChangeError::Busy) => StatusCode::LOCKED,
            R::Store(ChangeError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            R::Store(ChangeError::Full(_)) => StatusCode::INSUFFICIENT_STORAGE,
            R::Store(ChangeError::Unguarded) => StatusCode::NOT_IMPLEMENTED,
            R::Store(ChangeError::Store(error)) => self.store_status(error),
        }
    }

    fn store_status(&self, error: &StoreError) -> StatusCode {
        match error {
            StoreError::NotFound(_) => StatusCode::NOT_FOUND,
            // The resolver's caller shows no grant: it learns nothing of what once was.
            StoreError::Erased if matches!(self, Self::Unknown(_)) => StatusCode::NOT_FOUND,
            StoreError::Erased => StatusCode::GONE,
            StoreError::Refused(_) => StatusCode::FORBIDDEN,
            StoreError::Exhausted(_)
            | StoreError::Replaced
            | StoreError::Busy
            | StoreError::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            StoreError::Upstream(_) => StatusCode::BAD_GATEWAY,
            StoreError::Io(_) | StoreError::Record(_) | StoreError::Damaged => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// The response.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let status = self.status();
        let mut problem = Problem::new(status);
        if let Some(word) = self.told() {
            problem = problem.error(word);
        }
        if let Some(sentence) = self.hint() {
            problem = problem.detail(sentence);
        }
        if let Self::Ingest(ingest::Refused::Unfit(Unfit(sentence))) = self {
            problem = problem.detail(sentence.clone());
        }
        let mut answer = problem.answer();
        if status == StatusCode::METHOD_NOT_ALLOWED {
            let allow = match self {
                Self::Ingest(ingest::Refused::Method(allow)) => allow,
                _ => ALLOW,
            };
            let allow = HeaderValue::from_static(allow);
            answer.fields.insert(header::ALLOW, allow);
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §11.6.1.
            let bearer = HeaderValue::from_static("Bearer");
            answer.fields.insert(header::WWW_AUTHENTICATE, bearer);
        }
        if matches!(self, Self::Ingest(ingest::Refused::Version)) {
            let name = HeaderName::from_static("tus-version");
            answer
                .fields
                .insert(name, HeaderValue::from_static("1.0.0"));
        }
        let passes = [
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::BAD_GATEWAY,
            StatusCode::GATEWAY_TIMEOUT,
            StatusCode::LOCKED,
        ];
        if passes.contains(&status) {
            let second = HeaderValue::from_static("1");
            answer.fields.insert(header::RETRY_AFTER, second);
        }
        if let Self::TooMany(seconds) = self {
            answer
                .fields
                .insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
        }
        if self.is_of_the_message() {
            return answer.closing();
        }
        answer
    }

    /// The reason in a word, where the caller may know it.
    fn told(&self) -> Option<&'static str> {
        match self {
            Self::Refused(refusal) if refusal.is_told() => Some(refusal.word()),
            Self::Store(StoreError::Refused(refusal)) => Some(refusal.word()),
            Self::Store(StoreError::Erased)
            | Self::Ingest(ingest::Refused::Store(ChangeError::Store(StoreError::Erased))) => {
                Some("erased")
            }
            Self::Ingest(ingest::Refused::Store(ChangeError::Held)) => Some("legal_hold"),
            _ => None,
        }
    }

    /// What the caller can mend.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Framing(sentence) | Self::Host(sentence) | Self::Target(sentence) => {
                Some(sentence)
            }
            Self::FieldsTooLarge(_) => Some("The request has more than 16 KiB of fields."),
            Self::Refused(Refusal::TooLong) => Some("The request target has more than 2048 bytes."),
            Self::Question(BadQuestion::Missing(_)) => {
                Some("The query needs appId and externalAccountId.")
            }
            Self::Question(BadQuestion::Repeated(_)) => {
                Some("appId and externalAccountId stand once each.")
            }
            Self::Question(BadQuestion::Id { .. }) => {
                Some("An id is 1 to 128 of A-Z a-z 0-9 . _ ~ - and neither \".\" nor \"..\".")
            }
            Self::Ingest(refused) => ingest_hint(refused),
            _ => None,
        }
    }
}

/// What one who brings recordings can mend.
fn ingest_hint(refused: &ingest::Refused) -> Option<&'static str> {
    use ingest::Refused as R;

    match refused {
        R::Id(_) => Some("An id is 1 to 128 of A-Z a-z 0-9 . _ ~ - and neither \".\" nor \"..\"."),
        R::LongId => Some("The ids are too long for a signed URL: an externalId has at most 123."),
        R::Field(sentence) => Some(sentence),
        R::Digest(_) => Some("The body's digest is another; send it again."),
        R::Type => Some(
            "The types are audio/wav, audio/flac, audio/mpeg, audio/mp4 and audio/m4a, without a coding.",
        ),
        R::Version => Some("The version is tus 1.0.0; Tus-Resumable says so."),
        R::Offset => Some("HEAD tells the offset at which the upload goes on."),
        R::Checksum => Some("The part's checksum is another; send it again."),
        R::Store(ChangeError::Taken) => {
            Some("Another recording has this id; If-Match with its ETag replaces it.")
        }
        _ => None,
    }
}
