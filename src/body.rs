//! A response's bytes on their way out.
//!
//! Sends exactly the promised bytes, or fails: never fewer under a whole Content-Length, never
//! padding, never two versions of a file in one response. Says once how it ended. Knows nothing of
//! why these bytes are sent.

mod ended;
pub(crate) mod lane;
#[cfg(feature = "object")]
mod remote;
mod segment;
mod sending;
mod windows;
mod work;

use std::fmt;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http_body::{Frame, SizeHint};

pub use self::ended::{Ended, Outcome};
pub use self::lane::{Lane, MAX_SEGMENT};
pub use self::segment::Segment;
use self::sending::Sending;
use crate::respond::{Payload, Piece};
pub(crate) use crate::store::SMALL_READ;
use crate::store::{Handle, LARGEST_READ, Source};

/// The bytes of a response: memory, and ranges of one open file.
///
/// On a connection with a [`Lane`], ranges that lie in the page cache go to the socket without
/// being copied; small ones, and all without a lane, are copied from there. What is not in the page
/// cache is brought there by the blocking pool first, one window ahead of what is being sent, so that no cold
/// file keeps the listeners of warm ones waiting.
pub struct FileBody(Box<Sending>);

impl fmt::Debug for FileBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBody")
            .field("promised", &self.0.promised)
            .field("sent", &self.0.sent)
            .finish_non_exhaustive()
    }
}

impl FileBody {
    /// A body of `pieces`, of which the stored ones are ranges of `file`.
    ///
    /// # Errors
    /// The file cannot be asked for its length, or ends before one of the ranges does.
    pub fn of_file(file: File, pieces: impl Into<Payload>) -> io::Result<Self> {
        let handle = Handle::new(file)?;
        let pieces = pieces.into();
        let beyond = |piece: &Piece| match piece {
            Piece::Bytes(_) => false,
            Piece::Stored(range) => range.last >= handle.version.length,
        };
        if pieces.iter().any(beyond) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self::new(pieces, Some(Source::File(handle))))
    }

    /// A body of `pieces`, of which the stored ones are ranges of `source`.
    #[must_use]
    pub fn new(pieces: impl Into<Payload>, source: Option<Source>) -> Self {
        Self(Box::new(Sending::of(pieces.into(), source)))
    }

    /// Sends on a connection whose writer this lane belongs to; a file that may still be written to
    /// is copied all the same.
    #[must_use]
    pub fn on_lane(mut self, lane: Option<Lane>) -> Self {
        let settled = self.0.is_settled();
        self.0.lane = lane.filter(|lane| settled && lane.is_open());
        self
    }

    /// Holds `presence` until it is dropped, and reads no more than `window` at once, where it is
    /// copied. In place: a body is large to be moved.
    pub(crate) fn attach(&mut self, presence: Arc<()>, window: Option<u64>) {
        self.0.presence = Some(presence);
        self.0.windows.largest_read = window.unwrap_or(LARGEST_READ);
    }

    /// For whoever gives bodies to the very hyper that writes on `lane`: its writer need not see the body first.
    pub(crate) fn introduce(&mut self, lane: &Lane) {
        if let Some(own) = &mut self.0.lane {
            own.introduce(lane);
        }
    }

    /// Whether somebody has looked for a place within what is stored, and listens from there on; who downloads
    /// begins with the beginning.
    pub(crate) fn is_sought(&self) -> bool {
        self.0.windows.begin_within()
    }

    /// Tells at its end how long after `began` the first bytes were handed over.
    #[must_use]
    pub fn timed(mut self, began: Instant) -> Self {
        self.0.began = Some(began);
        self
    }

    /// Calls `on_end` once, when the body is dropped.
    #[must_use]
    pub fn on_end(mut self, on_end: impl FnOnce(Ended) + Send + 'static) -> Self {
        self.0.on_end = Some(Box::new(on_end));
        self
    }
}

impl http_body::Body for FileBody {
    type Data = Segment;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Segment>>>> {
        use bytes::Buf as _;

        let sending = &mut self.0;
        Poll::Ready(match ready!(sending.poll_next(cx)) {
            Some(Ok(segment)) => {
                if sending.first_byte.is_none() {
                    sending.first_byte = sending.began.map(|began| began.elapsed());
                }
                sending.sent += u64::try_from(segment.remaining()).unwrap_or(u64::MAX);
                Some(Ok(Frame::data(segment)))
            }
            Some(Err(error)) => {
                sending.failed = true;
                tracing::error!(%error, sent = sending.sent, "a body cannot be sent whole; the connection is cut");
                Some(Err(error))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.sent == self.0.promised
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.promised - self.0.sent)
    }
}
