//! How a body ended.

use std::time::Duration;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte was handed to the connection.
    Complete,
    /// The client went away first.
    Aborted,
    /// The bytes could not be read; the connection was cut.
    Failed,
}

impl Outcome {
    /// The outcome in one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

/// What a body tells when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Bytes promised.
    pub promised: u64,
    /// Bytes handed to the connection.
    pub sent: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// How long after [`FileBody::timed`](super::FileBody::timed)'s moment the first bytes were handed over; `None` where
    /// there were none, or no moment.
    pub first_byte: Option<Duration>,
}
