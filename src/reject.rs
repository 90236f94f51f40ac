//! The only map from a failure to a status and a public text.
//!
//! The log gets the exact reason, the client what it may know: nothing that would tell a guesser
//! how close the guess was, and never the text of an error.

use std::borrow::Cow;
use std::error::Error as _;

use http::{HeaderValue, StatusCode, header};

use crate::respond::{Answer, Problem};
use crate::route::BadQuestion;
use crate::sign::{MintError, Refusal};
use crate::store::StoreError;

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
    /// A question whose recording is not there.
    #[error("unknown recording: {0}")]
    Unknown(#[source] StoreError),
    /// The store's answer behind a true MAC.
    #[error("{0}")]
    Store(#[source] StoreError),
    /// No URL could be signed.
    #[error("cannot sign: {0}")]
    Mint(#[from] MintError),
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

    /// What lies at the bottom, where it says more than the top.
    fn root(&self) -> Option<String> {
        let (Self::Store(error) | Self::Unknown(error)) = self else {
            return None;
        };
        error.source().map(ToString::to_string)
    }

    /// Whether an operator has to do something about it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.status().is_server_error()
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Framing(_) | Self::Host(_) | Self::Target(_) | Self::Question(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::FieldsTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Refused(Refusal::Method) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Refused(Refusal::TooLong) => StatusCode::URI_TOO_LONG,
            Self::Refused(_) => StatusCode::FORBIDDEN,
            // An id too long to be signed can never have been given a URL: it is unknown.
            Self::NoRoute | Self::NotAllowed(_) | Self::Mint(MintError::Path(_)) => {
                StatusCode::NOT_FOUND
            }
            Self::Store(error) | Self::Unknown(error) => self.store_status(error),
            Self::Mint(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn store_status(&self, error: &StoreError) -> StatusCode {
        match error {
            StoreError::NotFound(_) => StatusCode::NOT_FOUND,
            // The resolver's caller shows no grant: it learns nothing of what once was.
            StoreError::Erased if matches!(self, Self::Unknown(_)) => StatusCode::NOT_FOUND,
            StoreError::Erased => StatusCode::GONE,
            StoreError::Refused(_) => StatusCode::FORBIDDEN,
            StoreError::Exhausted(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Io(_) | StoreError::Record(_) => StatusCode::INTERNAL_SERVER_ERROR,
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
        let mut answer = problem.answer();
        if status == StatusCode::METHOD_NOT_ALLOWED {
            let allow = HeaderValue::from_static(ALLOW);
            answer.fields.insert(header::ALLOW, allow);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let second = HeaderValue::from_static("1");
            answer.fields.insert(header::RETRY_AFTER, second);
        }
        match self {
            // What follows such a head on the connection cannot be trusted to be a request.
            Self::Framing(_) | Self::Host(_) | Self::Target(_) => answer.closing(),
            _ => answer,
        }
    }

    /// The reason in a word, where the caller may know it.
    fn told(&self) -> Option<&'static str> {
        match self {
            Self::Refused(refusal) if refusal.is_told() => Some(refusal.word()),
            Self::Store(StoreError::Refused(refusal)) => Some(refusal.word()),
            Self::Store(StoreError::Erased) => Some("erased"),
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
            _ => None,
        }
    }
}
