//! How long an object plays, from as few ranged reads as will tell.
//!
//! The header's reader waits for its bytes, so it runs where waiting is no harm, and what it asks
//! for next most likely lies in what was read before.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::Pinned;
use crate::audio::{Content, Effort, Ranged, inspect};
use crate::select::ByteRange;
use crate::store::StoreError;

/// Bytes read at once: a whole header of most recordings.
const STEP: u64 = 64 * 1024;
/// Most reads of one object. A file that needs more has its duration left unknown.
const MOST: u32 = 16;

/// How long it plays, where its header says so within a few reads.
pub(super) async fn duration(object: Pinned) -> Result<Option<Duration>, StoreError> {
    let runtime = Handle::current();
    let read = move || {
        let source = Source {
            object: Arc::new(object),
            runtime,
            held: RefCell::new((0, Vec::new())),
            reads: RefCell::new(0),
        };
        match inspect(&source, Effort::Header) {
            Ok(Content::Recording(facts)) => Ok(facts.duration),
            Ok(Content::Other(_)) | Err(Stopped::Enough) => Ok(None),
            Err(Stopped::Failed(error)) => Err(error),
        }
    };
    super::super::off_reactor(read).await
}

/// Why there are no more bytes.
enum Stopped {
    Enough,
    Failed(StoreError),
}

struct Source {
    object: Arc<Pinned>,
    runtime: Handle,
    /// Where the bytes read last begin, and they themselves.
    held: RefCell<(u64, Vec<u8>)>,
    reads: RefCell<u32>,
}

impl Source {
    fn held(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let held = self.held.borrow();
        let skip = offset.checked_sub(held.0).map(usize::try_from);
        let Some(rest) = skip.and_then(|skip| held.1.get(skip.ok()?..)) else {
            return 0;
        };
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        count
    }
}

impl Ranged for Source {
    type Error = Stopped;

    fn length(&self) -> u64 {
        self.object.meta.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Stopped> {
        let Some(end) = self.length().checked_sub(1).filter(|end| offset <= *end) else {
            return Ok(0);
        };
        if buffer.is_empty() {
            return Ok(0);
        }
        let held = self.held(offset, buffer);
        if held > 0 {
            return Ok(held);
        }
        if *self.reads.borrow() == MOST {
            return Err(Stopped::Enough);
        }
        *self.reads.borrow_mut() += 1;
        let rest = ByteRange {
            first: offset,
            last: end,
        };
        let bytes = self
            .runtime
            .block_on(self.object.read(rest.beginning(STEP)));
        *self.held.borrow_mut() = (offset, bytes.map_err(Stopped::Failed)?);
        Ok(self.held(offset, buffer))
    }
}
