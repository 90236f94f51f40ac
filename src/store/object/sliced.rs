//! An object read from the slices of a cache, one after the other.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::slices::{ObjectId, SliceId, Slices};
use super::{Pinned, Reading};
use crate::select::ByteRange;
use crate::store::{Handle, StoreError};

/// A slice of an object: which of its bytes lie in the file, from the file's first on.
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
}

/// The slice that comes next.
enum Next {
    Unasked,
    Waited(BoxFuture<'static, Result<Option<Handle>, StoreError>>),
    There(Handle),
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
        }
    }

    /// Has the slice at hand that a range begins in; `false` where there is none to be had.
    pub(super) async fn begin(&mut self, range: ByteRange) -> Result<bool, StoreError> {
        let (id, _) = self.slice(range);
        let first = match self.slices.held(&id) {
            Some(held) => Some(held),
            None => self.slices.obtain(&self.object, id).await?,
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
                None => Next::Waited(self.obtain(id)),
            };
        }
        let handle = match &mut self.next {
            Next::Waited(obtained) => ready!(obtained.poll_unpin(cx)).map_err(io::Error::other)?,
            Next::There(handle) => Some(handle.clone()),
            Next::Unasked => None,
        };
        self.next = Next::Unasked;
        if handle.is_some() && range.last > extent.last {
            let at = id.at + 1;
            self.slices.expect(&self.object, SliceId { at, ..id });
        }
        Poll::Ready(Ok(handle.map(|handle| Slice { extent, handle })))
    }

    fn slice(&self, range: ByteRange) -> (SliceId, ByteRange) {
        let (at, extent) = self.slices.slice_of(&self.object, range.first);
        let object = self.id;
        (SliceId { object, at }, extent)
    }

    fn obtain(&self, id: SliceId) -> BoxFuture<'static, Result<Option<Handle>, StoreError>> {
        let (slices, object) = (Arc::clone(&self.slices), Arc::clone(&self.object));
        async move { slices.obtain(&object, id).await }.boxed()
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
