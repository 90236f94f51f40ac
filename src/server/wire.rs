//! The bytes of a connection before hyper sees them.
//!
//! Tells HTTP/2 from HTTP/1.1 by the preface, and remembers of the lines of HTTP/1.1 what hyper
//! drops without a trace. Parses nothing: where it is wrong, a request is refused that need not
//! have been, never the other way round.

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

use super::ZeroCopyStream;
use super::turns::Turns;
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
    pub content_length: AtomicBool,
    pub fragment: AtomicBool,
}

/// The protocol a client began to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A TCP stream whose first bytes may already have been read.
#[derive(Debug)]
pub(super) struct Wire {
    stream: ZeroCopyStream,
    prefix: BytesMut,
    lines: Option<Lines>,
    ended: bool,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, turns: Arc<Turns>) -> Self {
        Self {
            stream: ZeroCopyStream::new(stream).taking_turns(turns),
            prefix: BytesMut::new(),
            lines: None,
            ended: false,
        }
    }

    /// Reads until the protocol is clear; `None` when the client said nothing at all.
    pub(super) async fn sniff(&mut self) -> io::Result<Option<Protocol>> {
        loop {
            self.prefix.reserve(1024);
            if self.stream.read_buf(&mut self.prefix).await? == 0 {
                return Ok((!self.prefix.is_empty()).then_some(Protocol::Http1));
            }
            let known = self.prefix.len().min(PREFACE.len());
            if self.prefix[..known] != PREFACE[..known] {
                return Ok(Some(Protocol::Http1));
            }
            if known == PREFACE.len() {
                return Ok(Some(Protocol::Http2));
            }
        }
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

    /// Closes the sending side, and reads on for a while if the client has not closed its own.
    pub(super) async fn linger(self) {
        if !self.ended {
            linger(self.stream.into_inner()).await;
        }
    }

    /// The socket once more, to linger on for one who keeps the first to itself.
    pub(super) fn spare(&self) -> io::Result<std::net::TcpStream> {
        Ok(self.stream.as_tcp().as_fd().try_clone_to_owned()?.into())
    }

    /// Closes both sides at once.
    pub(super) fn close(self) {
        if let Ok(stream) = self.stream.into_inner().into_std() {
            // A stream the client has already reset is closed as well.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
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
        if let Some(lines) = &mut self.lines {
            lines.take(new);
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
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const CONTENT_LENGTH: &[u8] = b"content-length:";

/// The beginnings of lines, across reads.
#[derive(Debug, Default)]
struct Lines {
    seen: Arc<Seen>,
    start: [u8; CONTENT_LENGTH.len()],
    length: usize,
    hash: bool,
}

impl Lines {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let end = memchr(b'\n', bytes).map(|at| at + 1);
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            let taken = part.len().min(self.start.len() - self.length);
            let start = &mut self.start[self.length..][..taken];
            start.copy_from_slice(&part[..taken]);
            self.length += taken;
            self.hash |= memchr(b'#', part).is_some();
            if end.is_some() {
                self.end_line();
            }
            bytes = rest;
        }
    }

    fn end_line(&mut self) {
        let start = &self.start[..self.length];
        if start.eq_ignore_ascii_case(CONTENT_LENGTH) {
            self.seen.content_length.store(true, Ordering::Relaxed);
        }
        if self.hash && is_request_line(start) {
            self.seen.fragment.store(true, Ordering::Relaxed);
        }
        self.length = 0;
        self.hash = false;
    }
}

/// A method and a blank before any colon, as no field line has them.
fn is_request_line(start: &[u8]) -> bool {
    [&b"get "[..], b"head ", b"options "].iter().any(|method| {
        let begins = start.get(..method.len());
        begins.is_some_and(|begins| begins.eq_ignore_ascii_case(method))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            seen(&[PLAIN, b"POST / HTTP/1.1\r\nContent-Length: 5\r\n"]),
            (true, false)
        );
        assert_eq!(seen(&[b"X: Content-Length: 5\r\n"]), (false, false));
        assert_eq!(seen(&[b"GET /a#b HTTP/1.1\r\n"]), (false, true));
        assert_eq!(seen(&[b"GET /a HTTP/1.1\r\nX: a#b\r\n"]), (false, false));
    }

    proptest::proptest! {
        #[test]
        fn reads_may_cut_a_line_anywhere(cuts in proptest::collection::vec(1..9_usize, 1..9)) {
            let text = b"HEAD /x#y HTTP/1.1\r\nHost: a\r\ncOnTeNt-LeNgTh: 1\r\n\r\n";
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
