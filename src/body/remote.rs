//! An object in a bucket that a body is sent from as it comes.

use std::io;
use std::task::{Context, Poll, ready};

use super::Segment;
use crate::select::ByteRange;
use crate::store::{Reading, Stream};

/// An object, and the range of it that is being sent.
pub(super) struct Remote {
    reading: Box<Reading>,
    stream: Option<Stream>,
}

impl Remote {
    pub(super) const fn of(reading: Box<Reading>) -> Self {
        let stream = None;
        Self { reading, stream }
    }

    /// The next bytes of `range`; `None` when all of it was had.
    pub(super) fn poll_next(
        &mut self,
        range: ByteRange,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Segment>>> {
        let stream = self
            .stream
            .get_or_insert_with(|| self.reading.stream(range));
        let part = ready!(stream.poll_next(cx));
        if part.is_none() {
            self.stream = None;
        }
        Poll::Ready(part.map(|part| part.map(Segment::from)))
    }
}
