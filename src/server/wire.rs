//! The bytes of a connection before hyper sees them.
//!
//! Tells HTTP/2 from HTTP/1.1 by the preface, and shows what comes in to those who watch it.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use super::frames::Frames;
use super::lines::{Lines, Seen};
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
}
