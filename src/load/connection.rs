//! One connection of HTTP/1.1: sends a request, reads its answer, and checks it on the way.
//!
//! A client of its own, since hyper's takes most of a core for what is only to be counted: here a body
//! that is not compared is thrown away by the kernel and never copied.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;

use mio::Registry;
use rustix::net::RecvFlags;

use super::chunked::Chunked;
use super::head::Head;
use super::scenario::{Ask, Range};
use super::tally::Failure;
use super::target::{Checker, Recording, Request};
use super::wire::{Origin, Tls, Wire, is_early};
use super::{size, wide};

/// Bytes read together with a head, where the body is not compared.
const FIRST_READ: usize = 4 << 10;
/// Bytes that are compared at once, so that they are still in the core's cache.
const CHECKED_READ: usize = 128 << 10;
/// Most bytes read at once.
pub(super) const SCRATCH: usize = 1 << 20;
/// Reads of one connection before others have their turn.
const READS: usize = 4;
/// Bytes read at once where a body in chunks has little to come: its last chunk with a trailer.
const CHUNK_END: usize = 64;
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
        let length = match head.promised() {
            Some(length) => length,
            None if head.told => UNTOLD,
            None => return wrong(Failure::Malformed, "no Content-Length".to_owned()),
        };
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
    fn came(&mut self, count: u64) -> Result<(), Wrong> {
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
    fn short(&self) -> Wrong {
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

/// What became of a connection that was looked at.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing can be done until it is ready again.
    Waiting,
    /// There may be more to read; others come first.
    More,
    /// All that may be read by now has been.
    Enough,
    /// The exchange is over; whether the connection can be kept.
    Done(bool),
    /// The server closed it between two requests.
    Closed,
    Failed(Wrong),
}

pub(super) struct Connection {
    pub(super) origin: Origin,
    /// Exchanges that were finished here.
    finished: u32,
    wire: Wire,
    out: Vec<u8>,
    sent: usize,
    /// Why it could not be sent: the system tells it once.
    unsent: Option<io::Error>,
    /// A head so far, when it comes in pieces.
    partial: Vec<u8>,
    in_body: bool,
    /// Where the body is in chunks.
    chunks: Option<Chunked>,
    closes: bool,
}

impl Connection {
    pub(super) fn open(
        origin: &Origin,
        tls: Option<&Tls>,
        registry: &Registry,
        token: usize,
    ) -> io::Result<Self> {
        let wire = Wire::open(origin, tls, false, registry, token)?;
        Ok(Self {
            origin: origin.clone(),
            finished: 0,
            wire,
            out: Vec::with_capacity(512),
            sent: 0,
            unsent: None,
            partial: Vec::new(),
            in_body: false,
            chunks: None,
            closes: false,
        })
    }

    /// Sends a request, or as much of it as can be by now; whether `advance` has to be called for it,
    /// since nothing more will be heard of it otherwise.
    pub(super) fn ask(&mut self, exchange: &Exchange) -> bool {
        self.out.clear();
        self.out.extend_from_slice(&exchange.request.head);
        // Writing to a Vec cannot fail.
        let _ = match exchange.ask.range {
            _ if exchange.answer.is_some() => Ok(()),
            Range::Whole => Ok(()),
            Range::Closed(first, last) => write!(self.out, "Range: bytes={first}-{last}\r\n"),
            Range::From(first) => write!(self.out, "Range: bytes={first}-\r\n"),
        };
        self.out.extend_from_slice(b"\r\n");
        self.sent = 0;
        self.in_body = false;
        self.unsent = self.flush().err();
        self.unsent.is_some()
    }

    /// Closes with a reset, as a player does that throws the rest away.
    pub(super) fn abort(self) {
        self.wire.abort();
    }

    /// Looks for a close while nothing is asked.
    pub(super) fn is_closed(&mut self, scratch: &mut [u8]) -> bool {
        self.wire.is_closed(scratch)
    }

    /// Sends and reads what can be.
    pub(super) fn advance(
        &mut self,
        exchange: &mut Exchange,
        recording: &Recording,
        scratch: &mut [u8],
        clock: fn() -> Instant,
    ) -> Progress {
        let flushed = match self.unsent.take() {
            Some(error) => Err(error),
            None => self.flush(),
        };
        match flushed {
            Ok(true) => {}
            Ok(false) => return Progress::Waiting,
            Err(error) => return self.broken(&error, exchange),
        }
        for _ in 0..READS {
            let stopped = if self.in_body {
                self.read_body(exchange, recording, scratch)
            } else {
                self.read_head(exchange, recording, scratch, clock)
            };
            match stopped {
                Ok(()) => {}
                Err(Stop::Progress(progress)) => return progress,
                Err(Stop::Io(error)) if is_early(&error) => return Progress::Waiting,
                Err(Stop::Io(error)) => return self.broken(&error, exchange),
            }
            if self.is_over(exchange) {
                self.finished = self.finished.saturating_add(1);
                self.in_body = false;
                return Progress::Done(!self.closes && exchange.at == exchange.length);
            }
        }
        Progress::More
    }

    /// Whether all was read that was wanted; behind the last byte of chunks comes their end.
    fn is_over(&self, exchange: &Exchange) -> bool {
        let ended = match &self.chunks {
            Some(chunks) if exchange.at == exchange.length => chunks.is_over(),
            _ => exchange.at >= exchange.goal(),
        };
        self.in_body && ended
    }

    fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.out.len() {
            match self.wire.write(&self.out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if is_early(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.wire.flush()
    }

    fn read_head(
        &mut self,
        exchange: &mut Exchange,
        recording: &Recording,
        scratch: &mut [u8],
        clock: fn() -> Instant,
    ) -> Result<(), Stop> {
        let most = match (&exchange.checker, exchange.ask.dwell) {
            (Some(_), None) => CHECKED_READ,
            _ => FIRST_READ,
        };
        let count = self.wire.read(scratch, most, RecvFlags::empty())?;
        if count == 0 {
            return Err(self.ended_early(exchange));
        }
        exchange.heard = clock();
        exchange.first.get_or_insert(exchange.heard);
        if self.partial.is_empty() {
            return self.take_head(exchange, recording, &scratch[..count]);
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(&scratch[..count]);
        self.take_head(exchange, recording, &joined)
    }

    fn take_head(
        &mut self,
        exchange: &mut Exchange,
        recording: &Recording,
        bytes: &[u8],
    ) -> Result<(), Stop> {
        let malformed = |text| Stop::Progress(Progress::Failed((Failure::Malformed, text)));
        let Some(head) = Head::parse(bytes).map_err(malformed)? else {
            self.partial = bytes.to_vec();
            return Ok(());
        };
        exchange.status = head.status;
        exchange.check_head(&head, recording)?;
        self.in_body = true;
        self.closes = head.closes;
        self.chunks = head.chunked.then(Chunked::default);
        self.take(exchange, recording, &bytes[head.size..])
    }

    fn take(
        &mut self,
        exchange: &mut Exchange,
        recording: &Recording,
        mut bytes: &[u8],
    ) -> Result<(), Stop> {
        let Some(chunks) = &mut self.chunks else {
            return Ok(exchange.take(bytes, recording)?);
        };
        let malformed = |text: &str| (Failure::Malformed, text.to_owned());
        while let Some(data) = chunks.next(&mut bytes).map_err(malformed)? {
            exchange.take(data, recording)?;
        }
        if !chunks.is_over() {
            return Ok(());
        }
        if !bytes.is_empty() {
            let text = format!("{} bytes behind the last chunk", bytes.len());
            return Err((Failure::LongBody, text).into());
        }
        Ok(exchange.ends(recording)?)
    }

    fn read_body(
        &mut self,
        exchange: &mut Exchange,
        recording: &Recording,
        scratch: &mut [u8],
    ) -> Result<(), Stop> {
        let left = exchange.goal().saturating_sub(exchange.at);
        let now = exchange.allowed.saturating_sub(exchange.at).min(left);
        if now == 0 && left > 0 {
            return Err(Stop::Progress(Progress::Enough));
        }
        let most = size(now).min(SCRATCH);
        let count = if self.chunks.is_some() {
            let most = most.clamp(CHUNK_END, CHECKED_READ);
            let count = self.wire.read(scratch, most, RecvFlags::empty())?;
            self.take(exchange, recording, &scratch[..count])?;
            count
        } else if exchange.checker.is_some() || exchange.answer.is_some() {
            let most = most.min(CHECKED_READ);
            let count = self.wire.read(scratch, most, RecvFlags::empty())?;
            exchange.take(&scratch[..count], recording)?;
            count
        } else {
            let count = self.wire.read(scratch, most, DISCARD)?;
            exchange.came(wide(count))?;
            count
        };
        match count {
            0 => Err(exchange.short().into()),
            _ => Ok(()),
        }
    }

    /// The end before a head: what a server may do to a connection it has kept for a while.
    fn ended_early(&self, exchange: &Exchange) -> Stop {
        Stop::Progress(match (self.finished, self.partial.is_empty()) {
            (1.., true) if exchange.first.is_none() => Progress::Closed,
            _ => Progress::Failed((Failure::ShortHead, "no head came".to_owned())),
        })
    }

    fn broken(&self, error: &io::Error, exchange: &Exchange) -> Progress {
        match Failure::of(error) {
            Failure::Reset if self.finished > 0 && exchange.first.is_none() => Progress::Closed,
            failure => Progress::Failed((failure, error.to_string())),
        }
    }
}

/// The kernel throws away what is received and says how much it was (tcp(7)).
#[cfg(target_os = "linux")]
const DISCARD: RecvFlags = RecvFlags::TRUNC;
#[cfg(not(target_os = "linux"))]
const DISCARD: RecvFlags = RecvFlags::empty();

/// Why reading ended early.
enum Stop {
    Progress(Progress),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Wrong> for Stop {
    fn from(wrong: Wrong) -> Self {
        Self::Progress(Progress::Failed(wrong))
    }
}
