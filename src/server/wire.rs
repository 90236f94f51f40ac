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
use super::turns::{Turn, Turns};
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
    /// Among those who send what was copied; files take their turns where they are sent.
    turn: Option<Turn>,
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
            turn: None,
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

    /// Has what is written take its turns, as far as nobody asks for something else meanwhile.
    pub(super) fn take_turns(&mut self, turns: &Arc<Turns>) {
        self.stream.leave_turns();
        self.turn
            .get_or_insert_with(|| Turn::of_copies(Arc::clone(turns)));
    }

    /// Waits for the turn of a download.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(turn) = &mut self.turn else {
            return Poll::Ready(Ok(()));
        };
        if self.pulse.is_stalled() {
            // Who stood in line for a socket that is full would be woken by its turn, for nothing.
            ready!(self.stream.as_tcp().poll_write_ready(cx))?;
            // Who waits for a turn is not slow.
            self.pulse.written(0, false);
        }
        turn.poll_allowance(cx).map(|_| Ok(()))
    }

    /// What came of a write in its turn.
    fn took(&mut self, written: &Poll<io::Result<usize>>) {
        let Some(turn) = &mut self.turn else { return };
        match written {
            Poll::Ready(Ok(written)) => turn.spend(*written),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => turn.pass(),
        }
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
        let mut is_asked = !new.is_empty();
        if let Some(lines) = &mut self.lines {
            lines.take(new);
            between = lines.are_between();
        }
        if let Some(frames) = &mut self.frames {
            let came = frames.take(new);
            self.pulse.framed(came);
            is_asked = came.requests > 0;
        }
        if let Some(turn) = self.turn.as_mut().filter(|_| is_asked) {
            turn.begin();
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
        if let Some(taken) = self.take_over(buf) {
            return Poll::Ready(Ok(taken));
        }
        ready!(self.poll_turn(cx))?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.took(&written);
        written
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
        ready!(self.poll_turn(cx))?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.took(&written);
        written
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
    use futures_util::FutureExt as _;

    use super::super::turns::DOWNLOAD_FROM;
    use super::*;

    /// A wire of HTTP/2 that takes its turns, its other end, and those turns.
    async fn taking_turns() -> (Wire, TcpStream, Arc<Turns>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (stream, _) = listener.accept().await.unwrap();
        let (turns, pulse) = (Arc::<Turns>::default(), Arc::<Pulse>::default());
        let stream = Stream::plain(stream, Arc::clone(&turns), Arc::clone(&pulse));
        let mut wire = Wire::new(stream, pulse);
        wire.count_frames();
        wire.take_turns(&turns);
        (wire, other.unwrap(), turns)
    }

    #[tokio::test]
    async fn what_is_copied_takes_its_turns_until_something_else_is_asked_for() {
        let (mut wire, mut other, turns) = taking_turns().await;
        let bytes = vec![1; DOWNLOAD_FROM];
        let mut taken = vec![0; DOWNLOAD_FROM];
        let (sent, received) = tokio::join!(wire.write_all(&bytes), other.read_exact(&mut taken));
        assert!(sent.is_ok() && received.is_ok());
        assert!(wire.write(b"a").now_or_never().is_none());
        assert_eq!(turns.waiting(), 1);
        let serving = async {
            tokio::select!(() = turns.serve() => 0, sent = wire.write(b"a") => sent.unwrap())
        };
        assert_eq!(serving.await, 1);
        // Let go of by a turn, and used up.
        wire.turn.as_mut().unwrap().pass();
        assert!(wire.write(b"a").now_or_never().is_none());
        // A window that opens is not another request, and HEADERS are.
        for (frame, begins) in [
            ([0, 0, 4, 8, 0, 0, 0, 0, 1], false),
            ([0, 0, 1, 1, 5, 0, 0, 0, 3], true),
        ] {
            let payload = vec![0; usize::from(frame[2])];
            let preface = if begins { &[] } else { PREFACE };
            let all = [preface, &frame, &payload].concat();
            other.write_all(&all).await.unwrap();
            wire.read_exact(&mut vec![0; all.len()]).await.unwrap();
            assert_eq!(wire.write(b"a").now_or_never().is_some(), begins);
        }
    }

    /// It would be woken by each of its turns, for nothing, and never rest.
    #[tokio::test]
    async fn for_a_socket_that_is_full_nobody_stands_in_line() {
        let (mut wire, _other, turns) = taking_turns().await;
        let serving = Arc::clone(&turns);
        tokio::spawn(async move { serving.serve().await });
        let bytes = vec![1; 1 << 20];
        while let Ok(sent) =
            tokio::time::timeout(Duration::from_millis(200), wire.write(&bytes)).await
        {
            sent.unwrap();
        }
        assert!(wire.pulse.is_stalled());
        for _ in 0..3 {
            assert!(wire.write(&bytes).now_or_never().is_none());
            assert_eq!(turns.waiting(), 0);
        }
    }

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
