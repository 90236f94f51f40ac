//! An object read from the slices of a cache, one after the other.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::slices::{SliceId, Slices};
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
    id: [u8; 16],
    /// What comes next, if it was asked for.
    next: Option<BoxFuture<'static, Result<Option<Slice>, StoreError>>>,
}

impl fmt::Debug for Sliced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sliced").finish_non_exhaustive()
    }
}

impl Sliced {
    /// `None` for an object whose versions cannot be told apart.
    pub(super) fn new(slices: &Arc<Slices>, object: &Arc<Pinned>) -> Option<Self> {
        Some(Self {
            id: slices.object_id(object)?,
            slices: Arc::clone(slices),
            object: Arc::clone(object),
            next: None,
        })
    }

    /// Has the slice at hand that a range begins in; `false` where there is none to be had.
    pub(super) async fn begin(&mut self, range: ByteRange) -> Result<bool, StoreError> {
        let first = self.slice(range).await?;
        let there = first.is_some();
        self.next = Some(async move { Ok(first) }.boxed());
        Ok(there)
    }

    /// The slice that a range begins in; `None` where the bucket is to be asked.
    pub(crate) fn poll_slice(
        &mut self,
        range: ByteRange,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Slice>>> {
        let slice = match &mut self.next {
            Some(next) => next,
            None => {
                let slice = self.slice(range);
                self.next.insert(slice)
            }
        };
        let slice = ready!(slice.poll_unpin(cx));
        self.next = None;
        Poll::Ready(slice.map_err(io::Error::other))
    }

    fn slice(&self, range: ByteRange) -> BoxFuture<'static, Result<Option<Slice>, StoreError>> {
        let (slices, object) = (Arc::clone(&self.slices), Arc::clone(&self.object));
        let (at, extent) = slices.slice_of(&object, range.first);
        let id = SliceId {
            object: self.id,
            at,
        };
        async move {
            let handle = slices.obtain(&object, id).await?;
            if handle.is_some() && range.last > extent.last {
                let next = SliceId { at: at + 1, ..id };
                slices.expect(&object, next);
            }
            Ok(handle.map(|handle| Slice { extent, handle }))
        }
        .boxed()
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
