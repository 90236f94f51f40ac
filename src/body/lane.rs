//! The way of file segments from a body to its connection's writer: who is known to whom, what was
//! announced, and whether what was sent is what was passed over. Shows nobody a byte, and sends none.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Longest file segment, in bytes: most that one sendfile(2) sends, so that no connection keeps the others
/// waiting for long.
pub const MAX_SEGMENT: usize = 1 << 21;

/// What stands for file bytes in a vectored write. Never read: it costs address space only.
static PLACEHOLDER: [u8; MAX_SEGMENT] = [0; MAX_SEGMENT];

/// A placeholder of so many bytes, at most [`MAX_SEGMENT`].
pub(super) fn placeholder(length: usize) -> &'static [u8] {
    &PLACEHOLDER[..length]
}

/// Whether a slice belongs to a placeholder, be it an empty one.
fn is_of_placeholder(slice: &[u8]) -> bool {
    PLACEHOLDER.as_ptr_range().contains(&slice.as_ptr())
}

/// Whether a slice stands for file bytes.
fn is_placeholder(slice: &[u8]) -> bool {
    !slice.is_empty() && is_of_placeholder(slice)
}

/// What tells one body from all others, and whether its lane's writer knows it.
#[derive(Debug, Default)]
pub(super) struct Pass {
    known: AtomicBool,
    /// Its address is the body's mark, and nobody else's for as long as somebody holds the pass.
    place: u8,
}

impl Pass {
    pub(super) fn mark(&self) -> &[u8] {
        &slice::from_ref(&self.place)[..0]
    }

    fn is_marked(&self, slice: &[u8]) -> bool {
        slice.is_empty() && slice.as_ptr() == self.mark().as_ptr()
    }
}

/// How the writer of its lane comes to know a body.
#[derive(Debug)]
enum Standing {
    /// It sees the body's pass, which is there from the first segment on.
    Stranger(Option<Arc<Pass>>),
    /// It was introduced, and has a segment already or not.
    Introduced { begun: bool },
}

/// The same of one of its segments.
#[derive(Debug)]
pub(super) enum Ticket {
    Pass(Arc<Pass>),
    /// The writer has been told that the body begins, or need not be.
    Introduced {
        begun: AtomicBool,
    },
}

impl Ticket {
    /// The pass of a body that the writer does not know.
    pub(super) fn unknown(&self) -> Option<&Arc<Pass>> {
        match self {
            Self::Pass(pass) => (!pass.known.load(Ordering::Acquire)).then_some(pass),
            Self::Introduced { .. } => None,
        }
    }

    /// Whether the writer has still to be told that the body begins; true once.
    pub(super) fn begins(&self) -> bool {
        match self {
            // It was when it saw the pass.
            Self::Pass(_) => false,
            // One writer at a time, so that no read-modify-write is needed.
            Self::Introduced { begun } => {
                let begins = !begun.load(Ordering::Relaxed);
                begun.store(true, Ordering::Relaxed);
                begins
            }
        }
    }
}

/// A segment whose body is not known yet, and whose mark is in the very write that follows.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) pass: Arc<Pass>,
    pub(super) length: usize,
    pub(super) more: bool,
}

/// A segment whose placeholder is in the very write that follows.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) length: usize,
    /// Its body has only been introduced so far: this is the beginning of a response.
    pub(crate) first: bool,
    pub(crate) more: bool,
}

/// What a write is about.
#[derive(Debug)]
pub(crate) enum Collected {
    /// Nothing but memory.
    Memory,
    /// So many slices of memory, and behind them a body that has just become known: the next write
    /// has its first segment, of this length, and `more` of the response behind that.
    Beginning {
        before: usize,
        length: usize,
        more: bool,
    },
    /// So many slices of memory, then so many bytes of the segment.
    Segment {
        before: usize,
        length: usize,
        segment: Announced,
    },
}

/// The way of file segments from a body to its connection's writer. A
/// [`ZeroCopyStream`](crate::server::ZeroCopyStream) gives out its own, and nobody else makes one:
///
/// ```
/// fn lane_of(stream: &tonearm::server::ZeroCopyStream) -> Option<tonearm::body::Lane> {
///     stream.lane()
/// }
/// ```
///
/// ```compile_fail
/// fn lane_of(_: &tonearm::server::ZeroCopyStream) -> Option<tonearm::body::Lane> {
///     Some(tonearm::body::Lane::default())
/// }
/// ```
#[derive(Debug)]
pub struct Lane {
    pub(super) traffic: Arc<Traffic>,
    /// Of the one body that has it.
    standing: Standing,
}

impl Clone for Lane {
    /// For another body, which is a stranger.
    fn clone(&self) -> Self {
        Self::of(&self.traffic)
    }
}

#[derive(Debug, Default)]
pub(super) struct Traffic {
    announcements: Mutex<Announcements>,
    /// There are announcements: without any, the lock is left alone.
    waiting: AtomicBool,
    /// The writer is gone.
    closed: AtomicBool,
    /// Promised bytes could not be had.
    broken: AtomicBool,
    copied: AtomicU64,
    /// Bytes that were sent, and that no segment was advanced by yet.
    unsettled: AtomicUsize,
}

#[derive(Debug, Default)]
struct Announcements {
    segments: VecDeque<Announced>,
    asking: Vec<Asking>,
}

impl Lane {
    fn of(traffic: &Arc<Traffic>) -> Self {
        Self {
            traffic: Arc::clone(traffic),
            standing: Standing::Stranger(None),
        }
    }

    /// Whether there is still a writer at its end.
    pub(super) fn is_open(&self) -> bool {
        !self.traffic.is_closed()
    }

    /// Whether promised bytes could not be had.
    pub(super) fn is_broken(&self) -> bool {
        self.traffic.is_broken()
    }

    /// Has the writer know the body, which has no segment yet, if `own` is the writer's.
    pub(super) fn introduce(&mut self, own: &Self) {
        if Arc::ptr_eq(&self.traffic, &own.traffic) {
            self.standing = Standing::Introduced { begun: false };
        }
    }

    /// Of the body's next segment.
    pub(super) fn ticket(&mut self) -> Ticket {
        match &mut self.standing {
            Standing::Stranger(pass) => Ticket::Pass(Arc::clone(pass.get_or_insert_default())),
            Standing::Introduced { begun } => {
                let begun = AtomicBool::new(std::mem::replace(begun, true));
                Ticket::Introduced { begun }
            }
        }
    }

    /// Bytes of file segments that were read into memory because somebody looked at them.
    #[must_use]
    pub fn copied(&self) -> u64 {
        self.traffic.copied.load(Ordering::Relaxed)
    }
}

impl Traffic {
    fn announcements(&self) -> MutexGuard<'_, Announcements> {
        // Nothing that holds the lock can panic half-way.
        self.announcements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn announce(&self, segment: Announced) {
        self.announcements().segments.push_back(segment);
        self.waiting.store(true, Ordering::Release);
    }

    pub(super) fn ask(&self, asking: Asking) {
        self.announcements().asking.push(asking);
        self.waiting.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Ends the connection with the next write: promised bytes cannot be had.
    pub(super) fn break_off(&self) {
        self.broken.store(true, Ordering::Release);
    }

    pub(super) fn count_copied(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.copied.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A segment was advanced by bytes of its placeholder: the writer has sent as many, or somebody
    /// else took the placeholder for bytes.
    pub(super) fn settle(&self, count: usize) {
        let sent = |unsettled: usize| unsettled.checked_sub(count);
        let settled = self
            .unsettled
            .try_update(Ordering::AcqRel, Ordering::Acquire, sent);
        if settled.is_err() {
            self.break_off();
        }
    }
}

impl Announcements {
    fn find(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Collected> {
        for (before, slice) in slices.iter().enumerate() {
            if is_placeholder(slice) {
                return self.first_segment(slices, before);
            }
            if let Some(asking) = self.asking.iter().find(|one| one.pass.is_marked(slice))
                && self.segments.is_empty()
            {
                asking.pass.known.store(true, Ordering::Release);
                let (length, more) = (asking.length, asking.more);
                return Ok(Collected::Beginning {
                    before,
                    length,
                    more,
                });
            }
            if is_of_placeholder(slice) {
                return Err(mismatch());
            }
        }
        if self.segments.is_empty() {
            Ok(Collected::Memory)
        } else {
            Err(mismatch())
        }
    }

    /// The segment of the first placeholder, if each of them has one.
    fn first_segment(&mut self, slices: &[IoSlice<'_>], before: usize) -> io::Result<Collected> {
        let placeholders = slices.iter().filter(|slice| is_placeholder(slice)).count();
        // A slice may be shorter than its segment, where whoever writes has a limit of its own.
        let length = slices[before].len();
        let all = placeholders == self.segments.len();
        match self.segments.pop_front() {
            Some(segment) if all && segment.length >= length => Ok(Collected::Segment {
                before,
                length,
                segment,
            }),
            _ => Err(mismatch()),
        }
    }

    /// Keeps their room.
    fn clear(&mut self) {
        self.segments.clear();
        self.asking.clear();
    }
}

/// The writer's end of a lane, which closes with it.
#[derive(Debug, Default)]
pub(crate) struct Terminus(Arc<Traffic>);

impl Terminus {
    pub(crate) fn lane(&self) -> Lane {
        Lane::of(&self.0)
    }

    /// What these slices are about; all that was announced since the last call is in them.
    ///
    /// # Errors
    /// Placeholders and segments do not fit each other, or promised bytes could not be had: nothing
    /// may be sent.
    pub(crate) fn collect(&self, slices: &[IoSlice<'_>]) -> io::Result<Collected> {
        if self.0.is_broken() {
            return Err(io::Error::other("promised bytes could not be read"));
        }
        if self.0.unsettled.load(Ordering::Acquire) > 0 {
            // What was sent would be sent again.
            self.0.break_off();
            return Err(mismatch());
        }
        if !self.0.waiting.load(Ordering::Acquire) {
            let foreign = slices.iter().any(|slice| is_of_placeholder(slice));
            return if foreign {
                Err(mismatch())
            } else {
                Ok(Collected::Memory)
            };
        }
        // What is announced meanwhile is found, or says so again.
        self.0.waiting.store(false, Ordering::Relaxed);
        let mut announcements = self.0.announcements();
        let collected = announcements.find(slices);
        announcements.clear();
        collected
    }

    /// So many bytes of a segment are sent.
    pub(crate) fn sent(&self, count: usize) {
        self.0.unsettled.fetch_add(count, Ordering::AcqRel);
    }

    /// Ends the connection with the next write: promised bytes cannot be had.
    pub(crate) fn break_off(&self) {
        self.0.break_off();
    }
}

impl Drop for Terminus {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
    }
}

/// Placeholders and segments that do not fit each other: nothing may be sent.
fn mismatch() -> io::Error {
    io::Error::other("a placeholder without its file segment")
}
