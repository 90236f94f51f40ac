//! A body under way: what is sent next, and what has to be done before that.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

#[cfg(feature = "object")]
use super::remote::Remote;
use super::windows::Windows;
use super::work::{self, Done, Work};
use super::{Ended, Lane, MAX_SEGMENT, Outcome, Segment};
use crate::respond::{Payload, Piece};
use crate::select::ByteRange;
#[cfg(feature = "object")]
use crate::store::Sliced;
use crate::store::{Handle, Source};

/// Ranges up to this size are copied out of the page cache and leave in one write with their head:
/// cheaper than a sendfile(2) of their own.
const SMALL: u64 = 16 * 1024;

type OnEnd = Box<dyn FnOnce(Ended) + Send>;

/// A body under way. On the heap: hyper moves a response several times before it sends it.
pub(super) struct Sending {
    pub(super) windows: Windows,
    handle: Option<Handle>,
    supply: Supply,
    pub(super) lane: Option<Lane>,
    work: Option<Work>,
    page_cache: PageCache,
    pub(super) promised: u64,
    pub(super) sent: u64,
    pub(super) failed: bool,
    pub(super) began: Option<Instant>,
    pub(super) first_byte: Option<Duration>,
    pub(super) on_end: Option<OnEnd>,
    /// How others know that it is still there.
    pub(super) presence: Option<Arc<()>>,
}

/// Where bytes come from that do not lie in the open file.
enum Supply {
    /// From nowhere: all are there.
    Nothing,
    /// From one file after the other.
    #[cfg(feature = "object")]
    Slices(Box<Sliced>),
    /// From the bucket.
    #[cfg(feature = "object")]
    Remote(Box<Remote>),
}

/// How a body has found the page cache so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageCache {
    /// It had all that was wanted.
    Has,
    /// Something was not there: what is next is likely not to be there either.
    Lacks,
    /// The same, and the window that is being copied was brought there.
    Brought,
    /// What was brought there could not be had from there: the rest is read.
    Silent,
}

impl Sending {
    /// Of `pieces`, of which the stored ones are ranges of `source`.
    pub(super) fn of(pieces: Payload, source: Option<Source>) -> Self {
        // Without a file, no byte lies in it.
        let mut extent = ByteRange { first: 1, last: 0 };
        let (handle, length, supply) = match source {
            Some(Source::File(handle)) => {
                let length = handle.version.length;
                extent = ByteRange {
                    first: 0,
                    last: u64::MAX,
                };
                (Some(handle), length, Supply::Nothing)
            }
            #[cfg(feature = "object")]
            Some(Source::Sliced(sliced)) => (None, sliced.length(), Supply::Slices(sliced)),
            #[cfg(feature = "object")]
            Some(Source::Object(reading)) => {
                (None, 0, Supply::Remote(Box::new(Remote::of(reading))))
            }
            None => (None, 0, Supply::Nothing),
        };
        Self {
            promised: pieces.iter().map(Piece::len).sum(),
            windows: Windows::of(pieces, extent, length),
            handle,
            supply,
            lane: None,
            work: None,
            page_cache: PageCache::Has,
            sent: 0,
            failed: false,
            began: None,
            first_byte: None,
            on_end: None,
            presence: None,
        }
    }

    /// Whether nobody is likely to write to what is sent any more.
    pub(super) fn is_settled(&self) -> bool {
        match (&self.handle, &self.supply) {
            (Some(handle), _) => handle.settled,
            // Nobody else writes to a slice.
            #[cfg(feature = "object")]
            (None, Supply::Slices(_)) => true,
            (None, _) => false,
        }
    }

    /// The next bytes to be handed over.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Segment>>> {
        if let Some(work) = &mut self.work {
            let done = ready!(work.poll(cx));
            self.work = None;
            if let Some(segment) = done.and_then(|done| self.finish(done)).transpose() {
                return Poll::Ready(Some(segment));
            }
        }
        if let Some(part) = self.windows.part() {
            return match self.copy(part) {
                Some(done) => Poll::Ready(Some(done)),
                None => self.poll_next(cx),
            };
        }
        match self.windows.piece() {
            None => Poll::Ready(None),
            Some(Piece::Bytes(bytes)) => {
                let bytes = std::mem::take(bytes);
                self.windows.pass();
                Poll::Ready(Some(Ok(bytes.into())))
            }
            #[cfg(feature = "object")]
            Some(Piece::Stored(range)) if let Supply::Remote(remote) = &mut self.supply => {
                match ready!(remote.poll_next(*range, cx)) {
                    Some(part) => Poll::Ready(Some(part)),
                    None => {
                        self.windows.pass();
                        self.poll_next(cx)
                    }
                }
            }
            Some(Piece::Stored(range)) => {
                let range = *range;
                if let Some(window) = self.windows.take() {
                    return match self.begin(window) {
                        Some(done) => Poll::Ready(Some(done)),
                        None => self.poll_next(cx),
                    };
                }
                match ready!(self.poll_supply(range, cx)) {
                    Ok(()) => self.poll_next(cx),
                    Err(error) => Poll::Ready(Some(Err(error))),
                }
            }
        }
    }

    /// Opens the file that a range begins in.
    #[cfg(feature = "object")]
    fn poll_supply(&mut self, range: ByteRange, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Supply::Slices(sliced) = &mut self.supply else {
            return Poll::Ready(Err(no_file()));
        };
        match ready!(sliced.poll_slice(range, cx))? {
            Some(slice) => {
                self.windows.extent = slice.extent;
                self.handle = Some(slice.handle);
            }
            // What was begun from slices goes on from the bucket, of the same version.
            None => {
                let reading = sliced.uncached();
                self.supply = Supply::Remote(Box::new(Remote::of(Box::new(reading))));
            }
        }
        Poll::Ready(Ok(()))
    }

    #[cfg(not(feature = "object"))]
    fn poll_supply(&mut self, _: ByteRange, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.supply {
            Supply::Nothing => Poll::Ready(Err(no_file())),
        }
    }

    /// Makes a segment of a window, or begins the work that has to be done first.
    fn begin(&mut self, window: ByteRange) -> Option<io::Result<Segment>> {
        let Some(handle) = &self.handle else {
            return Some(Err(no_file()));
        };
        if self.page_cache == PageCache::Brought {
            self.page_cache = PageCache::Lacks;
        }
        let asks = self.page_cache == PageCache::Lacks;
        let next = self.windows.next();
        let Some(lane) = &mut self.lane else {
            if let Some(next) = next.filter(|_| asks) {
                work::ask_for(handle, next);
            }
            self.windows.copy(window);
            return None;
        };
        if window.len() <= SMALL
            && let Some(bytes) = handle.read_cached(window)
        {
            return Some(check(handle, self.sent).map(|()| bytes.into()));
        }
        let is_there = if asks {
            handle.has_come(window)
        } else {
            handle.is_cached(window)
        };
        if !is_there {
            self.work = Some(Work::warm(handle, window, next));
            self.page_cache = PageCache::Lacks;
            return None;
        }
        if let Some(next) = next.filter(|_| asks) {
            work::ask_for(handle, next);
        }
        let more = !self.windows.is_empty();
        Some(check(handle, self.sent).map(|()| segment(handle, window, more, lane)))
    }

    /// Copies the next part of a window, or begins the work that has to be done first: all that is left of it is
    /// brought into the page cache. Where it cannot be had from there, parts are read, one ahead.
    fn copy(&mut self, part: ByteRange) -> Option<io::Result<Segment>> {
        let Some(handle) = &self.handle else {
            return Some(Err(no_file()));
        };
        if let Some(bytes) = handle.read_cached(part) {
            self.windows.take_part();
            return Some(check(handle, self.sent).map(|()| bytes.into()));
        }
        let next = self.windows.next();
        let (work, page_cache) = match (self.page_cache, self.windows.rest()) {
            (PageCache::Has, Some(rest)) => (Work::warm(handle, rest, next), PageCache::Lacks),
            // The next one was asked for when this one began.
            (PageCache::Lacks, Some(rest)) => (Work::warm(handle, rest, None), PageCache::Lacks),
            _ => {
                self.windows.take_part();
                (Work::read(handle, part), PageCache::Silent)
            }
        };
        (self.work, self.page_cache) = (Some(work), page_cache);
        None
    }

    /// What finished work leaves to send; nothing where it is to be copied yet.
    fn finish(&mut self, done: Done) -> io::Result<Option<Segment>> {
        match (done, &self.handle, &mut self.lane) {
            (Done::Read(bytes), handle, _) => {
                if let (Some(handle), Some(part)) = (handle, self.windows.take_part()) {
                    self.work = Some(Work::read(handle, part));
                }
                Ok(Some(bytes.into()))
            }
            (Done::Warm(window), Some(handle), Some(lane)) => {
                handle.check()?;
                let more = !self.windows.is_empty();
                Ok(Some(segment(handle, window, more, lane)))
            }
            (Done::Warm(_), ..) => {
                self.page_cache = PageCache::Brought;
                Ok(None)
            }
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let cut = self.lane.as_ref().is_some_and(Lane::is_broken);
        if cut && !self.failed {
            tracing::error!(
                sent = self.sent,
                "the file ends before the promised bytes; the connection is cut"
            );
        }
        let outcome = if self.failed || cut {
            Outcome::Failed
        } else if self.sent == self.promised {
            Outcome::Complete
        } else {
            Outcome::Aborted
        };
        if let Some(on_end) = self.on_end.take() {
            on_end(Ended {
                promised: self.promised,
                sent: self.sent,
                outcome,
                first_byte: self.first_byte,
            });
        }
    }
}

/// Makes sure that the file is still of its version. Before the first byte is `sent` that was done a
/// moment ago, when it was located.
fn check(handle: &Handle, sent: u64) -> io::Result<()> {
    if sent == 0 { Ok(()) } else { handle.check() }
}

/// A window as a segment; `more` of the response follows behind it.
fn segment(handle: &Handle, window: ByteRange, more: bool, lane: &mut Lane) -> Segment {
    // A window is far smaller than any address space.
    let length = usize::try_from(window.len()).unwrap_or(MAX_SEGMENT);
    Segment::of_file(handle.file.clone(), window.first, length, more, lane)
}

fn no_file() -> io::Error {
    io::Error::other("no file to read from")
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
