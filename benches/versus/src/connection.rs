//! One connection of the load generator: asks, reads, and checks what it gets.

use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::net::{RecvFlags, recv, sockopt};

use crate::pattern::{FILE_LENGTH, Pattern};
use crate::response::Head;

/// Bytes read together with a head.
const FIRST_READ: usize = 4 << 10;
/// Bytes of a checked body that are read at once, so that they are still in the core's cache.
const CHECKED_READ: usize = 128 << 10;
/// Most bytes read at once.
pub(crate) const SCRATCH: usize = 1 << 20;
/// Reads of one connection before others have their turn.
const READS: usize = 4;

/// Where requests go, and how they begin.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// By file: the request up to its range, each line ended.
    pub(crate) requests: Vec<Vec<u8>>,
}

impl Target {
    /// `path` gives a file's path and query.
    pub(crate) fn new(address: SocketAddr, files: usize, path: impl Fn(usize) -> String) -> Self {
        let request = |file| {
            let path = path(file);
            format!(
                "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: versus\r\nAccept: */*\r\n"
            )
        };
        Self {
            address,
            requests: (0..files).map(|file| request(file).into_bytes()).collect(),
        }
    }
}

/// A request and what has to come.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) file: usize,
    pub(crate) range: Range,
    /// Bytes of the body after which it is over.
    pub(crate) enough: u64,
    /// When it was sent, or should have been.
    pub(crate) begun: Instant,
    /// Whether all bytes are compared, and not only counted.
    pub(crate) checked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    Whole,
    Closed(u64, u64),
    From(u64),
}

impl Range {
    const fn first(self) -> u64 {
        match self {
            Self::Whole => 0,
            Self::Closed(first, _) | Self::From(first) => first,
        }
    }

    const fn last(self) -> u64 {
        match self {
            Self::Closed(_, last) => last,
            Self::Whole | Self::From(_) => FILE_LENGTH - 1,
        }
    }

    fn write(self, into: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Whole => Ok(()),
            Self::Closed(first, last) => write!(into, "Range: bytes={first}-{last}\r\n"),
            Self::From(first) => write!(into, "Range: bytes={first}-\r\n"),
        }
    }

    /// Whether `head` is the answer to this.
    fn check(self, head: &Head) -> Result<(), String> {
        let (status, range) = match self {
            Self::Whole => (200, None),
            Self::Closed(..) | Self::From(_) => {
                (206, Some((self.first(), self.last(), FILE_LENGTH)))
            }
        };
        let length = self.last() - self.first() + 1;
        if (head.status, head.range, head.length) == (status, range, length) {
            return Ok(());
        }
        Err(format!(
            "{self:?} was answered {} with Content-Range {:?} and Content-Length {}",
            head.status, head.range, head.length
        ))
    }
}

/// What became of a connection that was looked at.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Nothing more can be done until it is ready again.
    Waiting,
    /// There may be more to read; others come first.
    More,
    /// The exchange is over.
    Done(Exchange),
    /// The server ended it; with what it still owed, of which no byte had come.
    Closed(Option<Exchange>),
    Failed(String),
}

enum Reading {
    /// The head so far.
    Head(Vec<u8>),
    /// Bytes of the body so far, and whether the connection ends with it.
    Body(u64, bool),
}

pub(crate) struct Connection {
    pub(crate) group: usize,
    /// Requests begun here.
    pub(crate) count: usize,
    /// Whether it stands in line to be read further.
    pub(crate) queued: bool,
    stream: TcpStream,
    request: Vec<u8>,
    sent: usize,
    exchange: Option<Exchange>,
    reading: Reading,
}

impl Connection {
    pub(crate) fn open(
        group: usize,
        address: SocketAddr,
        registry: &Registry,
        token: usize,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        // Closing resets: nothing of one measurement is left to the next.
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        registry.register(
            &mut stream,
            Token(token),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        Ok(Self {
            group,
            count: 0,
            queued: false,
            stream,
            request: Vec::with_capacity(512),
            sent: 0,
            exchange: None,
            reading: Reading::Head(Vec::new()),
        })
    }

    /// Since when an answer is awaited.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.exchange.as_ref().map(|exchange| exchange.begun)
    }

    pub(crate) fn ask(&mut self, target: &Target, exchange: Exchange) -> io::Result<()> {
        self.request.clear();
        self.request
            .extend_from_slice(&target.requests[exchange.file]);
        exchange.range.write(&mut self.request)?;
        self.request.extend_from_slice(b"\r\n");
        self.sent = 0;
        self.count += 1;
        self.exchange = Some(exchange);
        self.reading = Reading::Head(Vec::new());
        self.flush().map(drop)
    }

    /// Whether the request is sent.
    fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.request.len() {
            match (&self.stream).write(&self.request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if is_early(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Sends and reads what can be; `received` counts the bytes of bodies.
    pub(crate) fn advance(
        &mut self,
        scratch: &mut [u8],
        pattern: &Pattern,
        received: &mut u64,
    ) -> Progress {
        match self.flush() {
            Ok(true) => {}
            Ok(false) => return Progress::Waiting,
            Err(error) => return self.broken(&error),
        }
        for _ in 0..READS {
            match self.read(scratch, pattern, received) {
                Ok(true) => {}
                Ok(false) => return self.end_of_exchange(),
                Err(Stop::Progress(progress)) => return progress,
                Err(Stop::Io(error)) if is_early(&error) => return Progress::Waiting,
                Err(Stop::Io(error)) => return self.broken(&error),
            }
        }
        Progress::More
    }

    /// Reads once; whether there is more of the exchange to come.
    fn read(
        &mut self,
        scratch: &mut [u8],
        pattern: &Pattern,
        received: &mut u64,
    ) -> Result<bool, Stop> {
        let Some(exchange) = &self.exchange else {
            return Err(match self.receive(&mut scratch[..1], RecvFlags::empty())? {
                0 => Stop::Progress(Progress::Closed(None)),
                _ => Stop::failed("bytes that were not asked for"),
            });
        };
        let (first, enough) = (exchange.range.first(), exchange.enough);
        let (file, checked) = (exchange.file, exchange.checked);
        let Reading::Body(at, closes) = self.reading else {
            return self.read_head(scratch, pattern, received);
        };
        let left = (enough - at).min(SCRATCH as u64) as usize;
        let count = if checked {
            let piece = &mut scratch[..left.min(CHECKED_READ)];
            let count = self.receive(piece, RecvFlags::empty())?;
            compare(pattern, file, first + at, &piece[..count])?;
            count
        } else {
            // Counted, and thrown away by the kernel: the generator must not be the limit.
            self.receive(&mut scratch[..left], RecvFlags::TRUNC)?
        };
        if count == 0 {
            return Err(Stop::failed(&format!(
                "cut after {at} of {enough} bytes of a body"
            )));
        }
        *received += count as u64;
        self.reading = Reading::Body(at + count as u64, closes);
        Ok(at + (count as u64) < enough)
    }

    fn read_head(
        &mut self,
        scratch: &mut [u8],
        pattern: &Pattern,
        received: &mut u64,
    ) -> Result<bool, Stop> {
        let count = self.receive(&mut scratch[..FIRST_READ], RecvFlags::empty())?;
        let Reading::Head(before) = &mut self.reading else {
            return Ok(true);
        };
        if count == 0 {
            return Err(Stop::Progress(match before.is_empty() {
                true => Progress::Closed(self.exchange.take()),
                false => Progress::Failed("cut within a head".to_owned()),
            }));
        }
        let mut joined = std::mem::take(before);
        let bytes = if joined.is_empty() {
            &scratch[..count]
        } else {
            joined.extend_from_slice(&scratch[..count]);
            &joined
        };
        let Some(head) = Head::parse(bytes).map_err(|problem| Stop::failed(&problem))? else {
            self.reading = Reading::Head(bytes.to_vec());
            return Ok(true);
        };
        let Some(exchange) = &self.exchange else {
            return Ok(true);
        };
        let check = exchange.range.check(&head);
        check.map_err(|problem| Stop::failed(&problem))?;
        let body = &bytes[head.size..];
        if body.len() as u64 > head.length {
            return Err(Stop::failed("more bytes than the Content-Length says"));
        }
        if exchange.checked {
            compare(pattern, exchange.file, exchange.range.first(), body)?;
        }
        *received += body.len() as u64;
        let more = (body.len() as u64) < exchange.enough;
        self.reading = Reading::Body(body.len() as u64, head.closes);
        Ok(more)
    }

    fn receive(&self, into: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        let (_, count) = recv(&self.stream, into, flags)?;
        Ok(count)
    }

    fn end_of_exchange(&mut self) -> Progress {
        match (self.exchange.take(), &self.reading) {
            (Some(_), Reading::Body(_, true)) => {
                Progress::Failed("the server ended a connection that was to be kept".to_owned())
            }
            (Some(exchange), _) => Progress::Done(exchange),
            (None, _) => Progress::Waiting,
        }
    }

    /// A reset of a connection that owed nothing yet is a close.
    fn broken(&mut self, error: &io::Error) -> Progress {
        let untouched = matches!(&self.reading, Reading::Head(head) if head.is_empty());
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe if untouched => {
                Progress::Closed(self.exchange.take())
            }
            _ => Progress::Failed(error.to_string()),
        }
    }
}

/// Why reading ended early.
enum Stop {
    Progress(Progress),
    Io(io::Error),
}

impl Stop {
    fn failed(problem: &str) -> Self {
        Self::Progress(Progress::Failed(problem.to_owned()))
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn compare(pattern: &Pattern, file: usize, offset: u64, bytes: &[u8]) -> Result<(), Stop> {
    match pattern.difference(file, offset, bytes) {
        None => Ok(()),
        Some(place) => Err(Stop::failed(&format!(
            "wrong byte at {place} of file {file} (read from {offset})"
        ))),
    }
}

/// Not yet: the socket is not ready, or not yet connected.
fn is_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, range: Option<(u64, u64, u64)>, length: u64) -> Head {
        Head {
            status,
            length,
            range,
            closes: false,
            size: 0,
        }
    }

    #[test]
    fn ranges_are_written_as_they_are_asked() {
        let written = |range: Range| {
            let mut into = Vec::new();
            range.write(&mut into).unwrap();
            String::from_utf8(into).unwrap()
        };
        assert_eq!(written(Range::Whole), "");
        assert_eq!(written(Range::Closed(1, 9)), "Range: bytes=1-9\r\n");
        assert_eq!(written(Range::From(7)), "Range: bytes=7-\r\n");
    }

    #[test]
    fn only_the_right_answer_passes() {
        let total = FILE_LENGTH;
        let closed = Range::Closed(10, 19);
        assert!(closed.check(&head(206, Some((10, 19, total)), 10)).is_ok());
        for wrong in [
            head(200, None, total),
            head(206, None, 10),
            head(206, Some((10, 19, total)), 11),
            head(206, Some((11, 20, total)), 10),
            head(206, Some((10, 19, total - 1)), 10),
            head(403, Some((10, 19, total)), 10),
        ] {
            assert!(closed.check(&wrong).is_err(), "{wrong:?}");
        }
        let open = head(206, Some((5, total - 1, total)), total - 5);
        assert!(Range::From(5).check(&open).is_ok());
        assert!(Range::Whole.check(&head(200, None, total)).is_ok());
        assert!(
            Range::Whole
                .check(&head(206, Some((0, total - 1, total)), total))
                .is_err()
        );
    }

    #[test]
    fn a_request_names_host_and_path() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let target = Target::new(address, 2, |file| format!("/a/{file}"));
        let text = std::str::from_utf8(&target.requests[1]).unwrap();
        assert!(text.starts_with("GET /a/1 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"));
        assert!(text.ends_with("\r\n"));
    }
}
