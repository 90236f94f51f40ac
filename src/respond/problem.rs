//! Failures as a client sees them (RFC 9457).

use std::borrow::Cow;

use http::{StatusCode, header};
use serde::Serialize;

use super::{Answer, NO_STORE, Piece};

/// A failure as a client sees it (RFC 9457): a status, and of the reason what may be told.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'static, str>>,
    #[serde(skip)]
    code: StatusCode,
}

impl Problem {
    /// A problem that says its status and nothing else.
    #[must_use]
    pub fn new(code: StatusCode) -> Self {
        Self {
            kind: "about:blank",
            title: code.canonical_reason().unwrap_or("Error"),
            status: code.as_u16(),
            error: None,
            detail: None,
            code,
        }
    }

    /// Names the reason in one word.
    #[must_use]
    pub const fn error(mut self, word: &'static str) -> Self {
        self.error = Some(word);
        self
    }

    /// Says in a sentence what the caller can do about it.
    #[must_use]
    pub fn detail(mut self, sentence: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(sentence.into());
        self
    }

    /// The response. Never stored: an edge that kept a 404 would go on saying it.
    #[must_use]
    pub fn answer(&self) -> Answer {
        // Numbers and static text always serialise.
        let body = serde_json::to_vec(self).unwrap_or_default();
        Answer::new(self.code)
            .with(header::CONTENT_TYPE, "application/problem+json")
            .with(header::CACHE_CONTROL, NO_STORE)
            .sending(vec![Piece::Bytes(body.into())])
    }
}
