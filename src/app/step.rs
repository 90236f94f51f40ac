//! How far an answer is.

use super::Outgoing;
use crate::recording::RecordingId;
use crate::reject::Rejection;
use crate::respond::Keeper;
use crate::route::{self, BadQuestion};
use crate::sign::Grant;

/// An answer that is there, or what it waits for. A seek in a recording that is held open waits for nothing, and
/// so has no future to be made and moved about.
pub(super) enum Step {
    Now(Result<Outgoing, Rejection>),
    Later(Later),
}

/// What has to be waited for, with what was found out on the way there.
pub(super) enum Later {
    /// What an edge asks.
    Verdict,
    /// A recording that comes in.
    Ingest(route::Ingest),
    /// A recording that has to be looked for.
    Media(Grant, Keeper),
    /// HubSpot's question.
    Resolve(Result<RecordingId, BadQuestion>),
}

impl From<Result<Outgoing, Rejection>> for Step {
    fn from(answer: Result<Outgoing, Rejection>) -> Self {
        Self::Now(answer)
    }
}

impl From<Later> for Step {
    fn from(later: Later) -> Self {
        Self::Later(later)
    }
}
