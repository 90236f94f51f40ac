//! What counters are told apart by. Each label has few values.

use http::Method;
use prometheus_client::encoding::EncodeLabelSet;

/// Methods of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// GET and HEAD.
    Read,
    /// PUT, POST, PATCH and DELETE.
    Write,
    /// OPTIONS.
    Options,
    /// Any other.
    Other,
}

impl Class {
    pub(crate) fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::Read,
            Method::PUT | Method::POST | Method::PATCH | Method::DELETE => Self::Write,
            Method::OPTIONS => Self::Options,
            _ => Self::Other,
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Options => "options",
            Self::Other => "other",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HandshakeLabels {
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) route: &'static str,
    pub(super) method: &'static str,
    pub(super) status: u16,
}

macro_rules! one_label {
    ($($name:ident { $label:ident })*) => {$(
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            pub(super) $label: &'static str,
        }
    )*};
}

one_label! {
    RouteLabel { route }
    KindLabel { kind }
    ReasonLabel { reason }
    OutcomeLabel { outcome }
    VerdictLabel { verdict }
}
