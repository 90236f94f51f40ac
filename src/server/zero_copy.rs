//! The writer that sends file segments from the page cache to the socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::turns::{Turn, Turns};
use crate::body::segment::{Announced, Lane, is_placeholder};

/// Most bytes of one sendfile(2), so that no connection keeps the others waiting for long.
const MOST_AT_ONCE: usize = 1024 * 1024;

/// Responses from about this size on are sent corked: the kernel then makes full packets of them,
/// which saves more than the two calls cost. Below, a corked end waits for an acknowledgement.
const CORKED_FROM: usize = 128 * 1024;

/// A TCP stream that sends the file segments of its [`Lane`] with sendfile(2).
///
/// For hyper, put it into `hyper_util::rt::TokioIo`, give `http1::Builder` `.writev(true)`, and the
/// connection's bodies the stream's lane.
#[derive(Debug)]
pub struct ZeroCopyStream {
    stream: TcpStream,
    lane: Lane,
    corked: bool,
    /// The response whose segment was sent last goes on.
    more: bool,
    /// The last write found the socket full.
    full: bool,
    turn: Option<Turn>,
}

impl ZeroCopyStream {
    /// Wraps a connected stream.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            lane: Lane::default(),
            corked: false,
            more: false,
            full: false,
            turn: None,
        }
    }

    /// Takes its turns among the connections of one runtime.
    pub(super) fn taking_turns(mut self, turns: Arc<Turns>) -> Self {
        self.turn = Some(Turn::of(turns));
        self
    }

    /// The lane for the bodies of this connection, and of no other; `None` on systems other than
    /// Linux, where bodies are read into memory.
    #[must_use]
    pub fn lane(&self) -> Option<Lane> {
        cfg!(target_os = "linux").then(|| self.lane.clone())
    }

    /// The stream itself, to ask it for something; what is written to it is on nobody's lane.
    #[must_use]
    pub const fn as_tcp(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the last write waits for the socket, and for nothing else.
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }

    /// The stream itself.
    #[must_use]
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// Sends memory, then so many bytes of the segment behind it, as far as the socket takes them.
    fn send(
        &self,
        memory: &[IoSlice<'_>],
        segment: &Announced,
        length: usize,
    ) -> io::Result<usize> {
        let before = if memory.is_empty() {
            0
        } else {
            self.send_memory(memory)?
        };
        if before < memory.iter().map(|slice| slice.len()).sum() {
            return Ok(before);
        }
        match sendfile(&self.stream, segment, length.min(MOST_AT_ONCE)) {
            Ok(0) => {
                self.lane.break_off();
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(sent) => Ok(before + sent),
            // The memory is on its way; the next call finds the socket full.
            Err(Errno::AGAIN) if before > 0 => Ok(before),
            Err(errno) => Err(errno.into()),
        }
    }

    /// MSG_MORE: what follows goes into the same packets.
    fn send_memory(&self, memory: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        let mut control = SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(
            &self.stream,
            memory,
            &mut control,
            flags,
        )?)
    }

    /// Memory alone is a head, the end of a multipart, or a small response: nothing goes on from it,
    /// and nothing was sent before it.
    fn begin(&mut self) {
        self.more = false;
        if let Some(turn) = &mut self.turn {
            turn.begin();
        }
    }

    /// Holds partial packets back, or lets them go.
    fn cork(&mut self, corked: bool) -> io::Result<()> {
        if self.corked != corked {
            sockopt::set_tcp_cork(&self.stream, corked)?;
            self.corked = corked;
        }
        Ok(())
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        memory: &[IoSlice<'_>],
        segment: &Announced,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        self.more = segment.more;
        if segment.more || length >= CORKED_FROM {
            self.cork(true)?;
        }
        let allowed = match &mut self.turn {
            Some(turn) => {
                if !memory.is_empty() {
                    turn.begin();
                }
                // A socket that was full is taken to be, until its turn comes to be asked again.
                ready!(turn.poll_allowance(cx))
            }
            None => length,
        };
        loop {
            let ready = self.stream.poll_write_ready(cx);
            self.full = ready.is_pending();
            if let (Poll::Pending, Some(turn)) = (&ready, &mut self.turn) {
                turn.pass();
            }
            ready!(ready)?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                self.send(memory, segment, length.min(allowed))
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => {
                    if let (Ok(sent), Some(turn)) = (&done, &mut self.turn) {
                        turn.spend(*sent);
                    }
                    return Poll::Ready(done);
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn sendfile(stream: &TcpStream, segment: &Announced, length: usize) -> Result<usize, Errno> {
    let mut offset = segment.offset;
    rustix::fs::sendfile(stream, &segment.file, Some(&mut offset), length)
}

/// Never called: without a lane there are no segments.
#[cfg(not(target_os = "linux"))]
fn sendfile(_: &TcpStream, _: &Announced, _: usize) -> Result<usize, Errno> {
    Err(Errno::NOSYS)
}

/// Placeholders and segments that do not fit each other: nothing may be sent.
fn mismatch() -> io::Error {
    io::Error::other("a placeholder without its file segment")
}

impl AsyncWrite for ZeroCopyStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.lane.take()?.is_empty() || is_placeholder(bytes) {
            return Poll::Ready(Err(mismatch()));
        }
        self.begin();
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.full = written.is_pending();
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let announced = self.lane.take()?;
        let mut places = (0..slices.len()).filter(|at| is_placeholder(&slices[*at]));
        let Some(first) = places.next() else {
            if !announced.is_empty() {
                return Poll::Ready(Err(mismatch()));
            }
            self.begin();
            let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
            self.full = written.is_pending();
            return written;
        };
        // A slice may be shorter than its segment, where whoever writes has a limit of its own.
        let length = slices[first].len();
        match announced.front() {
            Some(segment) if segment.length >= length && places.count() + 1 == announced.len() => {
                self.poll_send(cx, &slices[..first], segment, length)
            }
            _ => Poll::Ready(Err(mismatch())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A body that was flattened and could not be read to its end must not look complete.
        if !self.lane.take()?.is_empty() {
            return Poll::Ready(Err(mismatch()));
        }
        // What the response still brings fills the last packet up; its end does not wait.
        if !self.more {
            self.cork(false)?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for ZeroCopyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}
