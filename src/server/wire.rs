//! The bytes of a connection before hyper sees them.
//!
//! Tells HTTP/2 from HTTP/1.1 by the preface, and remembers of the heads of HTTP/1.1 what hyper
//! drops without a trace. Parses no more than where heads begin: where it is wrong, a request is
//! refused that need not have been, never the other way round.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use super::frames::Frames;
use super::pulse::Pulse;
use super::stream::Stream;
use super::unparsed;
use crate::body::Lane;

/// The client's connection preface (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Most bytes, and longest time, that a closing connection is read on so that its last answer
/// arrives: closing over unread bytes resets the connection, and the client may lose the answer.
const LINGER_BYTES: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// What has stood on a connection, ever.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// A Content-Length beside a Transfer-Encoding, or in what need not be a head.
    pub content_length: AtomicBool,
    pub fragment: AtomicBool,
}

/// The protocol a client began to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A stream whose first bytes may already have been read.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    prefix: BytesMut,
    lines: Option<Lines>,
    frames: Option<Frames>,
    ended: bool,
    pulse: Arc<Pulse>,
    /// hyper's own answer, as far as it has not been sent.
    unsent: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: Stream, pulse: Arc<Pulse>) -> Self {
        Self {
            stream,
            prefix: BytesMut::new(),
            lines: None,
            frames: None,
            ended: false,
            pulse,
            unsent: BytesMut::new(),
        }
    }

    /// What moves on this connection.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Waits for the first byte of another request, or for the end.
    pub(super) async fn readable(&self) -> io::Result<()> {
        if self.prefix.is_empty() && !self.stream.has_more() {
            self.stream.as_tcp().readable().await?;
        }
        Ok(())
    }

    /// Whether the client has closed its side.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes back what somebody has read ahead.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        let rest = std::mem::take(&mut self.prefix);
        self.prefix.extend_from_slice(bytes);
        self.prefix.extend_from_slice(&rest);
    }

    /// Reads until the protocol is clear; `None` when the client said nothing at all, or does not
    /// keep to what was agreed on.
    pub(super) async fn sniff(&mut self) -> io::Result<Option<Protocol>> {
        let agreed = match self.stream.is_http2() {
            Some(true) => Some(Protocol::Http2),
            Some(false) => Some(Protocol::Http1),
            None => None,
        };
        let spoken = self.spoken().await?;
        Ok(spoken.filter(|spoken| agreed.is_none_or(|agreed| agreed == *spoken)))
    }

    async fn spoken(&mut self) -> io::Result<Option<Protocol>> {
        loop {
            // What was put back may be all that is to come.
            let known = self.prefix.len().min(PREFACE.len());
            if self.prefix[..known] != PREFACE[..known] {
                return Ok(Some(Protocol::Http1));
            }
            if known == PREFACE.len() {
                return Ok(Some(Protocol::Http2));
            }
            // What is silent has no room for a word.
            self.readable().await?;
            self.prefix.reserve(1024);
            if self.stream.read_buf(&mut self.prefix).await? == 0 {
                return Ok((!self.prefix.is_empty()).then_some(Protocol::Http1));
            }
        }
    }

    /// What was agreed on before: TLS's version, and whether an earlier session went on.
    pub(super) fn agreed(&self) -> Option<(&'static str, &'static str)> {
        self.stream.agreed()
    }

    /// The lane of this connection.
    pub(super) fn lane(&self) -> Option<Lane> {
        self.stream.lane()
    }

    /// Begins to watch the lines that come in.
    pub(super) fn watch(&mut self) -> Arc<Seen> {
        let lines = self.lines.insert(Lines::default());
        Arc::clone(&lines.seen)
    }

    /// Begins to count the frames that come in.
    pub(super) fn count_frames(&mut self) {
        self.frames = Some(Frames::default());
    }

    /// Closes the sending side, and reads on for a while if the client has not closed its own.
    pub(super) async fn linger(mut self: Box<Self>) {
        // However it ends, the stream is closed next.
        let _ = tokio::time::timeout(LINGER, self.stream.goodbye()).await;
        if !self.ended {
            linger(self.stream.into_tcp()).await;
        }
    }

    /// The socket once more, to linger on for one who keeps the first to itself.
    pub(super) fn spare(&self) -> io::Result<std::net::TcpStream> {
        Ok(self.stream.as_tcp().as_fd().try_clone_to_owned()?.into())
    }

    /// Ends the connection with a reset. What waits for a reader who does not read would stay with the
    /// kernel for as long as it tries.
    pub(super) fn reset(self) {
        reset(&self.stream.into_tcp());
    }

    /// Closes both sides at once.
    pub(super) fn close(self) {
        if let Ok(stream) = self.stream.into_tcp().into_std() {
            // A stream the client has already reset is closed as well.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Has a connection reset when it is closed.
pub(super) fn reset(stream: &TcpStream) {
    // One that is gone already needs none.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Closes the sending side, and reads on for a while.
pub(super) async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        // Not in the connection's own state, where it would be from its first byte on.
        let mut sink = vec![0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut sink).await {
                Ok(count) if count > 0 => left = left.saturating_sub(count),
                _ => break,
            }
        }
    };
    // However it ends, the stream is dropped next.
    let _ = tokio::time::timeout(LINGER, drain).await;
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.prefix.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let count = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix[..count]);
            self.prefix.advance(count);
            if self.prefix.is_empty() {
                self.prefix = BytesMut::new();
            }
        }
        let new = &buf.filled()[before..];
        self.ended |= new.is_empty();
        let mut between = true;
        if let Some(lines) = &mut self.lines {
            lines.take(new);
            between = lines.are_between();
        }
        if let Some(frames) = &mut self.frames {
            let came = frames.take(new);
            self.pulse.framed(came);
        }
        self.pulse.read(new.len(), between);
        Poll::Ready(Ok(()))
    }
}

impl Wire {
    /// Takes hyper's own answer over, to send it with the flush.
    fn take_over(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.lines.is_none() || self.pulse.owes() {
            return None;
        }
        self.unsent = unparsed::with_field(bytes)?;
        Some(bytes.len())
    }

    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.take_over(buf) {
            Some(taken) => Poll::Ready(Ok(taken)),
            None => Pin::new(&mut self.stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [head] = bufs
            && let Some(taken) = self.take_over(head)
        {
            return Poll::Ready(Ok(taken));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        // hyper flushes when it has nothing more to send.
        self.pulse.flushed();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const CONTENT_LENGTH: &[u8] = b"content-length:";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";

/// Bytes of a line that are looked at: a Content-Length with its digits, a chunk's size.
const START: usize = 64;

/// What the next bytes are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// Lines of a head; the first of them is the request's.
    #[default]
    Request,
    Fields,
    /// So much of a content, which is not looked at.
    Content(u64),
    /// RFC 9112 §7.1: a line that says a size, so much of a chunk with its line end, lines behind
    /// the last chunk.
    ChunkSize,
    Chunk(u64),
    Trailer,
    /// It cannot be told: any line may be one of a head.
    Lost,
}

/// The lines of heads, across reads. Contents are passed over, as long as they are delimited in the
/// plainest way; behind any other, every line is watched.
#[derive(Debug)]
struct Lines {
    seen: Arc<Seen>,
    at: At,
    /// The line so far.
    start: [u8; START],
    length: usize,
    last: u8,
    hash: bool,
    /// What the head so far says of its content.
    content_length: Option<u64>,
    chunked: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            seen: Arc::default(),
            at: At::default(),
            start: [0; START],
            length: 0,
            last: 0,
            hash: false,
            content_length: None,
            chunked: false,
        }
    }
}

impl Lines {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (At::Content(left) | At::Chunk(left)) = self.at else {
                bytes = self.take_line(bytes);
                continue;
            };
            let passed = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            bytes = &bytes[passed..];
            let left = left - u64::try_from(passed).unwrap_or(left);
            self.at = match self.at {
                At::Content(_) if left == 0 => At::Request,
                At::Content(_) => At::Content(left),
                _ if left == 0 => At::ChunkSize,
                _ => At::Chunk(left),
            };
        }
    }

    /// Whether a request may begin with the next byte, and none has begun.
    fn are_between(&self) -> bool {
        self.at == At::Request && self.length == 0
    }

    /// Takes the rest of a line, or all there is of it.
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = memchr(b'\n', bytes);
        let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let known = self.length.min(START);
        let taken = part.len().min(START - known);
        self.start[known..][..taken].copy_from_slice(&part[..taken]);
        self.length += part.len();
        self.last = part.last().copied().unwrap_or(self.last);
        if matches!(self.at, At::Request | At::Lost) {
            self.hash |= memchr(b'#', part).is_some();
        }
        if end.is_none() {
            return rest;
        }
        self.at = self.end_line();
        (self.length, self.last, self.hash) = (0, 0, false);
        &rest[1..]
    }

    /// What follows the line that has just ended.
    fn end_line(&mut self) -> At {
        let start = &self.start[..self.length.min(START)];
        let is_empty = matches!((self.length, self.last), (0, _) | (1, b'\r'));
        match self.at {
            // RFC 9112 §2.2: empty lines before a request say nothing.
            At::Request if is_empty => At::Request,
            At::Request => {
                if self.hash {
                    self.seen.fragment.store(true, Ordering::Relaxed);
                }
                At::Fields
            }
            At::Fields if is_empty => self.end_head(),
            At::Fields if begins(start, TRANSFER_ENCODING) => {
                self.chunked = true;
                At::Fields
            }
            At::Fields if begins(start, CONTENT_LENGTH) => {
                let said = decimal(start).filter(|_| self.length < START);
                match (said, self.content_length) {
                    (Some(said), None) => self.content_length = Some(said),
                    (Some(said), Some(before)) if said == before => {}
                    _ => return self.lost(),
                }
                At::Fields
            }
            At::Fields => At::Fields,
            // From here on a line ends in CRLF, or hyper ends the connection.
            At::ChunkSize | At::Trailer if self.last != b'\r' => self.lost(),
            At::ChunkSize => match hexadecimal(start) {
                Some(0) => At::Trailer,
                Some(size) => size.checked_add(2).map_or(At::Lost, At::Chunk),
                None => self.lost(),
            },
            At::Trailer if is_empty => At::Request,
            At::Trailer => At::Trailer,
            At::Content(_) | At::Chunk(_) | At::Lost => self.lost(),
        }
    }

    fn end_head(&mut self) -> At {
        let said = (
            self.content_length.take(),
            std::mem::take(&mut self.chunked),
        );
        match said {
            (Some(_), true) => {
                self.seen.content_length.store(true, Ordering::Relaxed);
                At::Lost
            }
            (None, true) => At::ChunkSize,
            (None | Some(0), false) => At::Request,
            (Some(length), false) => At::Content(length),
        }
    }

    /// Any line may be one of a head, this one too.
    fn lost(&mut self) -> At {
        let start = &self.start[..self.length.min(START)];
        if begins(start, CONTENT_LENGTH) || self.content_length.is_some() {
            self.seen.content_length.store(true, Ordering::Relaxed);
        }
        // A method and a blank before any colon, as no field line has them.
        let word = start.iter().position(|byte| !byte.is_ascii_alphabetic());
        if self.hash && word.is_some_and(|at| at > 0 && start[at] == b' ') {
            self.seen.fragment.store(true, Ordering::Relaxed);
        }
        At::Lost
    }
}

fn begins(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|begins| begins.eq_ignore_ascii_case(name))
}

/// The value of a Content-Length line, where it is digits alone.
fn decimal(line: &[u8]) -> Option<u64> {
    let value = line.get(CONTENT_LENGTH.len()..)?.trim_ascii();
    let digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

/// The size of a chunk, before its extensions.
fn hexadecimal(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit())?;
    let (digits, rest) = line.split_at(end);
    if !matches!(rest.trim_ascii_start().first(), None | Some(b';')) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It would wait for ever: the client has said all it had to say.
    #[test]
    fn a_request_that_was_put_back_needs_no_other_byte() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap());
            let pulse = Arc::<Pulse>::default();
            let stream = Stream::plain(stream.await.unwrap(), Arc::default(), Arc::clone(&pulse));
            let mut wire = Wire::new(stream, pulse);
            wire.put_back(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
            let patience = Duration::from_secs(5);
            let sniffed = tokio::time::timeout(patience, wire.sniff()).await;
            assert_eq!(sniffed.unwrap().unwrap(), Some(Protocol::Http1));
        });
    }

    fn seen(parts: &[&[u8]]) -> (bool, bool) {
        let mut lines = Lines::default();
        for part in parts {
            lines.take(part);
        }
        let Seen {
            content_length,
            fragment,
        } = &*lines.seen;
        (
            content_length.load(Ordering::Relaxed),
            fragment.load(Ordering::Relaxed),
        )
    }

    #[test]
    fn lines() {
        const PLAIN: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(seen(&[PLAIN]), (false, false));
        assert_eq!(seen(&[b"GET /a#b HTTP/1.1\r\n"]), (false, true));
        assert_eq!(seen(&[b"PUT /a#b HTTP/1.1\r\n"]), (false, true));
        assert_eq!(seen(&[b"\r\n\nGET /a#b HTTP/1.1\n"]), (false, true));
        assert_eq!(seen(&[b"GET /a HTTP/1.1\r\nX: a#b\r\n"]), (false, false));
    }

    /// A request and its content, then one with a fragment, which is seen if it is taken for what
    /// it is.
    #[test]
    fn contents_are_passed_over() {
        const NEXT: &str = "GET /a#b HTTP/1.1\r\n\r\n";
        const BOTH: &str =
            "GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = format!("PUT /x#y HTTP/1.1\r\n\r\n{BOTH}");
        let plain = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let twice = format!("Content-Length: {}\r\n{plain}", body.len());
        let blanks = format!("content-length:\t {} \r\nX: y\r\n\r\n{body}", body.len());
        let size = format!("{:X}", body.len());
        let chunks = |size: &str, trailer: &str| {
            format!("Transfer-Encoding: chunked\r\n\r\n{size}\r\n{body}\r\n0\r\n{trailer}\r\n")
        };
        for (what, message) in [
            ("none", "\r\n".to_owned()),
            ("empty", "Content-Length: 0\r\n\r\n".to_owned()),
            ("by length", plain),
            ("by a length said twice", twice),
            ("by a length among blanks", blanks),
            ("in chunks", chunks(&size, "")),
            (
                "in chunks with extensions",
                chunks(&format!("{size} ; x=\"{size}\""), ""),
            ),
            (
                "in chunks with a long extension",
                chunks(&format!("{size};{}", "x".repeat(99)), ""),
            ),
            ("in chunks with zeros", chunks(&format!("00{size}"), "")),
            (
                "in chunks with a trailer",
                chunks(&size, "Content-Length: 5\r\n"),
            ),
        ] {
            let message = format!("PUT / HTTP/1.1\r\n{message}");
            assert_eq!(seen(&[message.as_bytes()]), (false, false), "{what}");
            let next = format!("{message}{NEXT}");
            assert_eq!(seen(&[next.as_bytes()]), (false, true), "{what}");
            let both = format!("{message}{BOTH}");
            assert_eq!(seen(&[both.as_bytes()]), (true, false), "{what}");
        }
    }

    /// What is delimited in any other way may end sooner than is thought: both are then seen in
    /// whatever follows.
    #[test]
    fn behind_what_cannot_be_told_every_line_is_watched() {
        let long = format!("Content-Length: {}5", "0".repeat(80));
        for message in [
            "Content-Length: +5\r\n\r\n",
            "Content-Length: 5, 5\r\n\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "Content-Length: 99999999999999999999\r\n\r\n",
            &format!("{long}\r\n\r\n"),
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n",
            "Transfer-Encoding: chunked\r\n\r\nx\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5 5\r\n",
            "Transfer-Encoding: chunked\r\n\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
            "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\n",
        ] {
            let message = format!("PUT / HTTP/1.1\r\n{message}");
            let next = format!("{message}PUT /a#b HTTP/1.1\r\nContent-Length: 5\r\n");
            assert_eq!(seen(&[next.as_bytes()]), (true, true), "{message}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reads_may_cut_a_line_anywhere(cuts in proptest::collection::vec(1..9_usize, 1..9)) {
            let text = b"PUT /a HTTP/1.1\r\ncontent-length: 7\r\n\r\nGET /#\nPUT / HTTP/1.1\r\n\
                transfer-encoding: chunked\r\n\r\n7;a=b\r\nGET /#\n\r\n0\r\na: b\r\n\r\n\
                HEAD /x#y HTTP/1.1\r\nHost: a\r\ncOnTeNt-LeNgTh: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut rest = &text[..];
            let mut parts = Vec::new();
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                parts.push(part);
                rest = after;
            }
            parts.push(rest);
            proptest::prop_assert_eq!(seen(&parts), (true, true));
        }
    }
}
