//! An object read from the slices of a cache, one after the other.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::slices::{ObjectId, Part, SliceId, Slices};
use super::{Pinned, Reading};
use crate::select::ByteRange;
use crate::store::{Handle, StoreError};

/// A slice of an object, as far as it is there: which of its bytes lie in the file, from the file's
/// first on.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) extent: ByteRange,
    pub(crate) handle: Handle,
}

/// An object that is read slice by slice.
pub struct Sliced {
    slices: Arc<Slices>,
    object: Arc<Pinned>,
    id: ObjectId,
    next: Next,
    /// The slice that was counted last.
    counted: Option<SliceId>,
}

/// The slice that comes next.
enum Next {
    Unasked,
    Waited(BoxFuture<'static, Result<Option<Part>, StoreError>>),
    There(Part),
}

impl fmt::Debug for Sliced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sliced").finish_non_exhaustive()
    }
}

impl Sliced {
    pub(super) fn new(slices: &Arc<Slices>, object: &Arc<Pinned>, id: ObjectId) -> Self {
        Self {
            slices: Arc::clone(slices),
            object: Arc::clone(object),
            id,
            next: Next::Unasked,
            counted: None,
        }
    }

    /// Has the slice at hand that a range begins in; `false` where there is none to be had.
    pub(super) async fn begin(&mut self, range: ByteRange) -> Result<bool, StoreError> {
        let (id, extent) = self.slice(range);
        let from = range.first - extent.first;
        let first = match self.slices.held(&id) {
            Some(held) => Some(held),
            None => self.slices.obtain(&self.object, id, from).await?,
        };
        let there = first.is_some();
        self.next = first.map_or(Next::Unasked, Next::There);
        Ok(there)
    }

    /// The slice that a range begins in; `None` where the bucket is to be asked.
    pub(crate) fn poll_slice(
        &mut self,
        range: ByteRange,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Slice>>> {
        let (id, extent) = self.slice(range);
        if matches!(self.next, Next::Unasked) {
            self.next = match self.slices.held(&id) {
                Some(held) => Next::There(held),
                None => Next::Waited(self.obtain(id, range.first - extent.first)),
            };
        }
        if let Next::Waited(obtained) = &mut self.next {
            let part = ready!(obtained.poll_unpin(cx)).map_err(io::Error::other);
            self.next = part?.map_or(Next::Unasked, Next::There);
        }
        let Next::There(part) = std::mem::replace(&mut self.next, Next::Unasked) else {
            return Poll::Ready(Ok(None));
        };
        if self.counted.replace(id) != Some(id)
            && let Some(outcome) = part.outcome
        {
            self.slices.counted(outcome);
        }
        if range.last > extent.last {
            let at = id.at + 1;
            self.slices.expect(&self.object, SliceId { at, ..id });
        }
        let there = ByteRange {
            first: extent.first,
            last: extent.first.saturating_add(part.length).saturating_sub(1),
        };
        Poll::Ready(Ok(Some(Slice {
            extent: there,
            handle: part.handle,
        })))
    }

    fn slice(&self, range: ByteRange) -> (SliceId, ByteRange) {
        let (at, extent) = self.slices.slice_of(&self.object, range.first);
        let object = self.id;
        (SliceId { object, at }, extent)
    }

    fn obtain(
        &self,
        id: SliceId,
        from: u64,
    ) -> BoxFuture<'static, Result<Option<Part>, StoreError>> {
        let (slices, object) = (Arc::clone(&self.slices), Arc::clone(&self.object));
        async move { slices.obtain(&object, id, from).await }.boxed()
    }

    /// In bytes.
    pub(crate) fn length(&self) -> u64 {
        self.object.meta.size
    }

    /// The same object past the cache.
    pub(crate) fn uncached(&self) -> Reading {
        Reading::new(Arc::clone(&self.object))
    }
}
