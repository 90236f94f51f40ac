//! Ranges of one version of an object, as streams that go on where the store broke off.
//!
//! Every request names the version (`If-Match`), and every answer is held against it: stores have
//! been seen that ignore the field. What is not had after a few tries ends the stream with an error;
//! no byte is ever made up, skipped or sent twice.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, try_unfold};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{GetOptions, GetRange};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::{Pinned, strong};
use crate::select::ByteRange;
use crate::store::StoreError;

/// So often in a row a range is asked for again without a byte of it.
const TRIES: u32 = 4;
/// The wait before the first of them; it doubles.
const WAIT: Duration = Duration::from_millis(100);

/// An object whose first range may be on its way.
#[derive(Debug)]
pub struct Reading {
    object: Arc<Pinned>,
    begun: Option<(ByteRange, Stream)>,
}

impl Reading {
    pub(super) const fn new(object: Arc<Pinned>) -> Self {
        Self {
            object,
            begun: None,
        }
    }

    pub(super) fn begun(&mut self, range: ByteRange, fetch: Fetch) {
        self.begun = Some((range, fetch.stream()));
    }

    /// The bytes of a range.
    pub(crate) fn stream(&mut self, range: ByteRange) -> Stream {
        match self.begun.take() {
            Some((begun, stream)) if begun == range => stream,
            _ => Fetch::new(Arc::clone(&self.object), range).stream(),
        }
    }
}

/// The bytes of a range: all of them, or an error behind those there were.
pub(crate) struct Stream(BoxStream<'static, io::Result<Bytes>>);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.0.poll_next_unpin(cx)
    }
}

/// A range that is being read.
pub(super) struct Fetch {
    object: Arc<Pinned>,
    /// What has not been read.
    left: ByteRange,
    answer: Option<Answer>,
    tries: u32,
}

/// An answer's content, and its place among the requests under way.
struct Answer {
    content: BoxStream<'static, object_store::Result<Bytes>>,
    _permit: OwnedSemaphorePermit,
}

impl Fetch {
    const fn new(object: Arc<Pinned>, range: ByteRange) -> Self {
        Self {
            object,
            left: range,
            answer: None,
            tries: 0,
        }
    }

    /// One whose answer has begun.
    pub(super) async fn begin(object: Arc<Pinned>, range: ByteRange) -> Result<Self, StoreError> {
        let mut fetch = Self::new(object, range);
        fetch.answer = Some(fetch.object.get(range).await?);
        Ok(fetch)
    }

    fn stream(self) -> Stream {
        Stream(self.parts().map_err(io::Error::other).boxed())
    }

    /// The bytes, as they come.
    pub(super) fn parts(self) -> BoxStream<'static, Result<Bytes, StoreError>> {
        let parts = try_unfold(self, async |mut fetch| {
            let next = fetch.next().await?;
            Ok(next.map(|bytes| (bytes, fetch)))
        });
        parts.boxed()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        while self.left.first <= self.left.last {
            let error = match self.part().await {
                Ok(part) if part.is_empty() => continue,
                Ok(part) => {
                    self.tries = 0;
                    return Ok(Some(part));
                }
                // There is nothing left to go on with.
                Err(error @ (StoreError::Replaced | StoreError::NotFound(_))) => return Err(error),
                Err(error) => error,
            };
            self.answer = None;
            if self.tries == TRIES {
                return Err(error);
            }
            tracing::warn!(%error, at = self.left.first, "the store broke off; going on from there");
            sleep(WAIT.saturating_mul(1 << self.tries)).await;
            self.tries += 1;
        }
        Ok(None)
    }

    /// Some bytes more; none where an answer has just begun.
    async fn part(&mut self) -> Result<Bytes, StoreError> {
        let Some(answer) = &mut self.answer else {
            self.answer = Some(self.object.get(self.left).await?);
            return Ok(Bytes::new());
        };
        let part = timeout(self.object.client.timeout, answer.content.next()).await;
        let part = match part.map_err(|_| StoreError::TimedOut)? {
            Some(part) => part.map_err(super::failure)?,
            None => {
                return Err(StoreError::Upstream(
                    "fewer bytes than were promised".into(),
                ));
            }
        };
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        if length > self.left.len() {
            return Err(StoreError::Upstream(
                "more bytes than were asked for".into(),
            ));
        }
        self.left.first += length;
        Ok(part)
    }
}

impl Pinned {
    /// Asks for a range of this version, and holds the answer against it.
    async fn get(&self, range: ByteRange) -> Result<Answer, StoreError> {
        let wanted = range.first..range.last.saturating_add(1);
        let etag = strong(&self.meta);
        let options = GetOptions {
            range: Some(GetRange::Bounded(wanted.clone())),
            if_match: etag.map(ToOwned::to_owned),
            if_unmodified_since: etag.is_none().then_some(self.meta.last_modified),
            ..GetOptions::default()
        };
        let (result, permit) = self.client.ask(&self.meta.location, options).await?;
        let (meta, is) = (&result.meta, &self.meta);
        if meta.e_tag != is.e_tag || meta.size != is.size {
            return Err(StoreError::Replaced);
        }
        if etag.is_none() && meta.last_modified != is.last_modified {
            return Err(StoreError::Replaced);
        }
        if result.range != wanted {
            return Err(StoreError::Upstream(
                "another range than was asked for".into(),
            ));
        }
        Ok(Answer {
            content: result.into_stream(),
            _permit: permit,
        })
    }

    /// A few bytes at once, for looking at a header.
    pub(super) async fn read(self: &Arc<Self>, range: ByteRange) -> Result<Vec<u8>, StoreError> {
        let mut fetch = Fetch::new(Arc::clone(self), range);
        let mut bytes = Vec::new();
        while let Some(part) = fetch.next().await? {
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }
}
