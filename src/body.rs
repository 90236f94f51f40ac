//! A response's bytes on their way out.
//!
//! Sends exactly the promised bytes, or fails: never fewer under a whole Content-Length, never
//! padding, never two versions of a file in one response. Says once how it ended. Knows nothing of
//! why these bytes are sent.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::respond::Piece;
use crate::select::ByteRange;
use crate::store::Handle;

/// Size of a response's first read: playback often ends soon after it began.
const FIRST_READ: u64 = 64 * 1024;
/// Size of every further read.
const NEXT_READ: u64 = 256 * 1024;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte was handed to the connection.
    Complete,
    /// The client went away first.
    Aborted,
    /// The bytes could not be read; the connection was cut.
    Failed,
}

impl Outcome {
    /// The outcome in one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

/// What a body tells when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Bytes promised.
    pub promised: u64,
    /// Bytes handed to the connection.
    pub sent: u64,
    /// How it ended.
    pub outcome: Outcome,
}

type OnEnd = Box<dyn FnOnce(Ended) + Send>;

/// The bytes of a response, read off the reactor, one read ahead of what is being sent.
pub struct Body {
    pieces: VecDeque<Piece>,
    handle: Option<Handle>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    next_read: u64,
    promised: u64,
    sent: u64,
    failed: bool,
    on_end: Option<OnEnd>,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("promised", &self.promised)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl Body {
    /// A body of `pieces`, of which the stored ones are read from `handle`. `on_end` is called
    /// once, when the body is dropped.
    pub fn new(
        pieces: Vec<Piece>,
        handle: Option<Handle>,
        on_end: impl FnOnce(Ended) + Send + 'static,
    ) -> Self {
        Self {
            promised: pieces.iter().map(Piece::len).sum(),
            pieces: pieces.into(),
            handle,
            reading: None,
            next_read: FIRST_READ,
            sent: 0,
            failed: false,
            on_end: Some(Box::new(on_end)),
        }
    }

    /// Takes the next bytes to read off the front of the pieces, if a stored range is there.
    fn take_range(&mut self) -> Option<ByteRange> {
        let Some(Piece::Stored(range)) = self.pieces.front_mut() else {
            return None;
        };
        let last = range
            .last
            .min(range.first.saturating_add(self.next_read - 1));
        let part = ByteRange {
            first: range.first,
            last,
        };
        self.next_read = NEXT_READ;
        if last == range.last {
            self.pieces.pop_front();
        } else {
            range.first = last + 1;
        }
        Some(part)
    }

    /// Begins the next read, if none is under way and the next piece is a stored one.
    fn read_ahead(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let Some(part) = self.take_range() else {
            return;
        };
        let handle = self.handle.clone();
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let handle = handle.ok_or_else(|| io::Error::other("no file to read from"))?;
            let length = usize::try_from(part.len()).map_err(io::Error::other)?;
            let mut buffer = BytesMut::zeroed(length);
            handle.read_at(&mut buffer, part.first)?;
            Ok(buffer.freeze())
        }));
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.read_ahead();
        if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            self.read_ahead();
            return Poll::Ready(Some(
                read.unwrap_or_else(|error| Err(io::Error::other(error))),
            ));
        }
        match self.pieces.pop_front() {
            Some(Piece::Bytes(bytes)) => Poll::Ready(Some(Ok(bytes))),
            Some(Piece::Stored(_)) | None => Poll::Ready(None),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match ready!(self.poll_next(cx)) {
            Some(Ok(bytes)) => {
                self.sent += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                Some(Ok(Frame::data(bytes)))
            }
            Some(Err(error)) => {
                self.failed = true;
                tracing::error!(%error, sent = self.sent, "a body cannot be sent whole; the connection is cut");
                Some(Err(error))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.promised
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised - self.sent)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let outcome = if self.failed {
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
            });
        }
    }
}
