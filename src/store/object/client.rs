//! The way to a bucket: how long it may take, how much goes on at a time, and what a failure says.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::store::StoreError;

/// What a bucket is asked, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest wait for an answer, and for more of one.
    pub timeout: Duration,
    /// Most requests under way at a time; a stream counts for as long as it lasts.
    pub requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            requests: 1024,
        }
    }
}

/// The way to the bucket.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) under_way: Arc<Semaphore>,
    pub(super) timeout: Duration,
}

impl Client {
    pub(super) async fn head(&self, key: Path) -> Result<ObjectMeta, StoreError> {
        let _permit = self.permit().await?;
        let head = timeout(self.timeout, self.store.head(&key)).await;
        head.map_err(|_| StoreError::TimedOut)?.map_err(failure)
    }

    pub(super) async fn ask(
        &self,
        key: &Path,
        options: GetOptions,
    ) -> Result<(GetResult, OwnedSemaphorePermit), StoreError> {
        let permit = self.permit().await?;
        let result = timeout(self.timeout, self.store.get_opts(key, options)).await;
        let result = result.map_err(|_| StoreError::TimedOut)?;
        Ok((result.map_err(failure)?, permit))
    }

    /// A place among the requests under way, if one becomes free soon.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        /// A listener waits so long for a first byte without going away.
        const SOON: Duration = Duration::from_secs(2);
        match timeout(SOON, Arc::clone(&self.under_way).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(StoreError::Busy),
        }
    }
}

/// What a failure of the store says of the recording.
pub(super) fn failure(error: object_store::Error) -> StoreError {
    use object_store::Error as E;

    match error {
        E::NotFound { .. } => StoreError::NotFound("no such object"),
        E::Precondition { .. } | E::NotModified { .. } => StoreError::Replaced,
        error if is_timeout(&error) => StoreError::TimedOut,
        E::Generic { source, .. } if is_refusal(&*source) => StoreError::Unreachable(source),
        error => StoreError::Upstream(error.into()),
    }
}

/// Whether the request failed, or was answered with a failure; else the answer made no sense.
fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    // The type is private to object_store; this is how all of its values begin.
    error.to_string().starts_with("Error performing") || http_kind(error).is_some()
}

fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    http_kind(error) == Some(object_store::client::HttpErrorKind::Timeout)
}

fn http_kind(
    error: &(dyn std::error::Error + 'static),
) -> Option<object_store::client::HttpErrorKind> {
    let mut chain = std::iter::successors(Some(error), |error| error.source());
    chain.find_map(|error| {
        Some(
            error
                .downcast_ref::<object_store::client::HttpError>()?
                .kind(),
        )
    })
}
