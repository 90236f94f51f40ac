//! How far an answer is.

use std::future::Future;
use std::pin::Pin;

use super::Outgoing;
use crate::reject::Rejection;

/// An answer that is there, or that has to be waited for. A seek in a recording that is held open waits for
/// nothing, and so has no future to be moved about.
pub(super) enum Step<'a> {
    Now(Result<Outgoing, Rejection>),
    Later(Pin<Box<dyn Future<Output = Result<Outgoing, Rejection>> + Send + 'a>>),
}

impl<'a> Step<'a> {
    pub(super) fn later(
        answer: impl Future<Output = Result<Outgoing, Rejection>> + Send + 'a,
    ) -> Self {
        Self::Later(Box::pin(answer))
    }
}

impl From<Result<Outgoing, Rejection>> for Step<'_> {
    fn from(answer: Result<Outgoing, Rejection>) -> Self {
        Self::Now(answer)
    }
}
