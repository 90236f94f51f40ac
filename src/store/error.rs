//! Why a recording is not to be had.

use std::error::Error;
use std::io;

use crate::sign::Refusal;

/// Why a recording is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none, or what is there is no recording.
    #[error("no recording: {0}")]
    NotFound(&'static str),
    /// There was one; retention erased it.
    #[error("the recording was erased")]
    Erased,
    /// A scrub found other bytes than were put.
    #[error("the recording is not as it was put")]
    Damaged,
    /// Its grants have been revoked.
    #[error("the grant was revoked")]
    Refused(#[from] Refusal),
    /// The machine is out of something that comes back: descriptors, memory.
    #[error("the machine is out of resources")]
    Exhausted(#[source] io::Error),
    /// The disk, or its permissions.
    #[error("the store cannot be read")]
    Io(#[source] io::Error),
    /// The record beside the recording cannot be understood, and with it neither what is revoked.
    #[error("the recording's record cannot be read")]
    Record(#[source] serde_json::Error),
    /// There is another version now than the one that was located.
    #[error("the object was replaced meanwhile")]
    Replaced,
    /// As many requests to the bucket are under way as there may be.
    #[error("too many requests to the bucket are under way")]
    Busy,
    /// The bucket cannot be reached, or says that it cannot answer now.
    #[error("the bucket cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// The bucket did not answer in time.
    #[error("the bucket did not answer in time")]
    TimedOut,
    /// The bucket refused, or its answer made no sense.
    #[error("the bucket gave no useful answer")]
    Upstream(#[source] Box<dyn Error + Send + Sync>),
}

impl StoreError {
    /// Whether it says nothing of the recording, but that the bucket cannot be asked now.
    #[cfg(feature = "object")]
    pub(super) const fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TimedOut | Self::Busy)
    }

    /// Whether there is no such recording, or none any more.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::Erased)
    }
}
