//! One connection of HTTP/1.1: sends a request, reads its answer, and checks it on the way.
//!
//! A client of its own, since hyper's takes most of a core for what is only to be counted: here a body
//! that is not compared is thrown away by the kernel and never copied.

use std::io::{self, Write as _};
use std::time::Instant;

use mio::Registry;
use rustix::net::RecvFlags;

use super::chunked::Chunked;
use super::exchange::{Exchange, Wrong};
use super::head::Head;
use super::scenario::Range;
use super::tally::Failure;
use super::target::Recording;
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
            0 if self.chunks.is_none() => Ok(exchange.ends(recording)?),
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
