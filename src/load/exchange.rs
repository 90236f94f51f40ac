//! A request under way, over whichever protocol: what its head must say, and what its body may be.
//!
//! Never reads a socket, and knows no frame and no chunk.

use std::sync::Arc;
use std::time::Instant;

use super::head::Head;
use super::scenario::{Ask, Range};
use super::tally::Failure;
use super::target::{Checker, Recording, Request};
use super::wide;

/// Longest answer of a resolver.
const MAX_ANSWER: u64 = 64 << 10;
/// The length of a body that has not ended, where nobody has said how long it will be.
const UNTOLD: u64 = u64::MAX;

/// What went wrong, with a sentence on it.
pub(super) type Wrong = (Failure, String);

/// A request under way.
pub(super) struct Exchange {
    pub(super) request: Arc<Request>,
    pub(super) ask: Ask,
    /// When it was to be sent.
    pub(super) due: Instant,
    /// When it was begun, which is later where no listener was free.
    pub(super) begun: Instant,
    /// When the first byte of its answer was there.
    pub(super) first: Option<Instant>,
    /// When something last came.
    pub(super) heard: Instant,
    pub(super) status: u16,
    /// Bytes of the body so far, and of how many.
    pub(super) at: u64,
    pub(super) length: u64,
    /// Bytes that may be read by now.
    pub(super) allowed: u64,
    pub(super) checker: Option<Checker>,
    /// The resolver's answer so far, where this asks it.
    pub(super) answer: Option<Vec<u8>>,
}

impl Exchange {
    /// Bytes after which it is over.
    pub(super) fn goal(&self) -> u64 {
        if self.answer.is_some() {
            return self.length;
        }
        self.ask.enough.min(self.length)
    }

    /// The recording's byte after the last one read.
    pub(super) fn end(&self) -> u64 {
        self.ask.range.first().saturating_add(self.at)
    }

    /// What the head must say; learns the recording's length.
    pub(super) fn check_head(
        &mut self,
        head: &Head<'_>,
        recording: &Recording,
    ) -> Result<(), Wrong> {
        let wrong = |failure: Failure, text: String| Err((failure, text));
        let length = head.promised().unwrap_or(UNTOLD);
        self.length = length;
        if self.answer.is_some() {
            return match (head.status, length) {
                (200, ..=MAX_ANSWER | UNTOLD) => Ok(()),
                (200, _) => wrong(Failure::NoUrl, format!("an answer of {length} bytes")),
                (status, _) => wrong(Failure::Status(status), "of the resolver".to_owned()),
            };
        }
        let asked = self.ask.range;
        let complete = match (asked, head.status, head.range) {
            (Range::Whole, 200, None) => length,
            (Range::Closed(..) | Range::From(_), 206, Some((_, _, complete))) => complete,
            (Range::Closed(..) | Range::From(_), 200, _) => {
                return wrong(Failure::WholeForRange, format!("{asked:?} was asked for"));
            }
            (_, 200 | 206, range) => {
                let text = format!("{asked:?} was answered {} {range:?}", head.status);
                return wrong(Failure::WrongRange, text);
            }
            (_, status, _) => return wrong(Failure::Status(status), format!("to {asked:?}")),
        };
        let (first, last) = asked.of(complete);
        let right = (head.range.is_none() || head.range == Some((first, last, complete)))
            && (length == 0 && complete == 0 || length == (last + 1).saturating_sub(first));
        // How long a whole one is shows at its end.
        if length != UNTOLD && !(right && recording.learn(complete)) {
            let known = recording.length();
            let text = format!(
                "{asked:?} of {known:?} bytes was answered {:?} and {length} bytes",
                head.range
            );
            return wrong(Failure::WrongRange, text);
        }
        if !recording.has_tag(head.etag) {
            let tag = String::from_utf8_lossy(head.etag.unwrap_or_default()).into_owned();
            return wrong(Failure::TagChanged, format!("to {tag:?}"));
        }
        Ok(())
    }

    /// Counts bytes of the body.
    pub(super) fn came(&mut self, count: u64) -> Result<(), Wrong> {
        self.at += count;
        if self.at > self.length {
            let text = format!("more than the {} bytes promised", self.length);
            return Err((Failure::LongBody, text));
        }
        Ok(())
    }

    /// Bytes of the body that are known to be left.
    pub(super) const fn left(&self) -> u64 {
        match self.length {
            UNTOLD => 0,
            length => length - self.at,
        }
    }

    /// Takes the end of the body, where it is told.
    pub(super) fn ends(&mut self, recording: &Recording) -> Result<(), Wrong> {
        if self.length != UNTOLD {
            return if self.at < self.length {
                Err(self.short())
            } else {
                Ok(())
            };
        }
        self.length = self.at;
        if self.answer.is_none() && !recording.learn(self.at) {
            let known = recording.length();
            let text = format!("{} bytes came of {known:?}", self.at);
            return Err((Failure::WrongRange, text));
        }
        let checker = self.checker.as_mut();
        let finished = checker.map_or(Ok(()), |checker| checker.finish(recording));
        finished.map_err(|failure| (failure, format!("in {} bytes", self.at)))
    }

    /// It ended too early.
    pub(super) fn short(&self) -> Wrong {
        let text = if self.at < self.length && self.length != UNTOLD {
            format!("{} of {} bytes came", self.at, self.length)
        } else {
            format!("no last chunk came after {} bytes", self.at)
        };
        (Failure::ShortBody, text)
    }

    /// Takes bytes of the body.
    pub(super) fn take(&mut self, bytes: &[u8], recording: &Recording) -> Result<(), Wrong> {
        let (from, count) = (self.at, wide(bytes.len()));
        self.came(count)?;
        if let Some(answer) = &mut self.answer {
            answer.extend_from_slice(bytes);
            if self.at > MAX_ANSWER {
                let text = format!("an answer of more than {MAX_ANSWER} bytes");
                return Err((Failure::NoUrl, text));
            }
        }
        let Some(checker) = &mut self.checker else {
            return Ok(());
        };
        let fed = checker.feed(recording, bytes);
        let fed = fed.and_then(|()| {
            if self.at == self.length {
                checker.finish(recording)
            } else {
                Ok(())
            }
        });
        let first = self.ask.range.first() + from;
        fed.map_err(|failure| {
            (
                failure,
                format!("in bytes {first} to {}", first + count - 1),
            )
        })
    }
}
