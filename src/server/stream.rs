//! A connection's bytes, in the clear or inside TLS, and what moves beneath.
//!
//! Only a stream in the clear has a lane, so that no file can pass TLS by: without a lane there is no
//! segment of a file, and bodies are read into memory.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(feature = "tls")]
use tokio_rustls::server::TlsStream;

use super::ZeroCopyStream;
#[cfg(feature = "tls")]
use super::front::Failed;
use super::pulse::Pulse;
#[cfg(feature = "tls")]
use super::tls::{self, Tls};
use super::turns::Turns;
use crate::body::Lane;

/// What HTTP is spoken on.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Metered<ZeroCopyStream>),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<Metered<TcpStream>>>),
}

/// Tells the pulse of what a socket takes.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

/// What a socket is written through.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Whether a write that is `pending` or not waits for the socket, and for nothing else.
    fn is_full(&self, pending: bool) -> bool;
}

impl Socket for TcpStream {
    fn is_full(&self, pending: bool) -> bool {
        pending
    }
}

impl Socket for ZeroCopyStream {
    fn is_full(&self, _: bool) -> bool {
        Self::is_full(self)
    }
}

impl Stream {
    pub(super) fn plain(stream: TcpStream, turns: Arc<Turns>, pulse: Arc<Pulse>) -> Self {
        let stream = ZeroCopyStream::new(stream).taking_turns(turns);
        Self::Plain(Metered { stream, pulse })
    }

    /// Files take no turns here: whoever writes to the stream does.
    pub(super) fn leave_turns(&mut self) {
        match self {
            Self::Plain(metered) => metered.stream.leave_turns(),
            // Nobody sends files inside TLS.
            #[cfg(feature = "tls")]
            Self::Tls(_) => {}
        }
    }

    /// Shakes hands.
    #[cfg(feature = "tls")]
    pub(super) async fn tls(
        stream: TcpStream,
        tls: &Tls,
        pulse: Arc<Pulse>,
    ) -> Result<Self, Failed> {
        // What is silent costs no more than in the clear.
        stream.readable().await?;
        let stream = Box::pin(tls.accept(Metered { stream, pulse })).await?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Version and kind of the handshake, if there was one.
    pub(super) fn agreed(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Plain(_) => None,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Some(tls::agreed(stream)),
        }
    }

    /// Whether HTTP/2 or HTTP/1.1 was agreed on beforehand.
    pub(super) fn is_http2(&self) -> Option<bool> {
        match self {
            Self::Plain(_) => None,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => tls::is_http2(stream),
        }
    }

    /// The lane of files, which only a stream in the clear has.
    pub(super) fn lane(&self) -> Option<Lane> {
        match self {
            Self::Plain(metered) => metered.stream.lane(),
            #[cfg(feature = "tls")]
            Self::Tls(_) => None,
        }
    }

    pub(super) fn as_tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(metered) => metered.stream.as_tcp(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => &stream.get_ref().0.stream,
        }
    }

    /// Whether bytes wait here that are no longer in the socket.
    pub(super) fn has_more(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => !stream.get_ref().1.wants_read(),
        }
    }

    pub(super) fn into_tcp(self) -> TcpStream {
        match self {
            Self::Plain(metered) => metered.stream.into_inner(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.into_inner().0.stream,
        }
    }

    /// Says goodbye where that is more than closing the socket.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unused_async, reason = "for TLS"))]
    pub(super) async fn goodbye(&mut self) {
        match self {
            Self::Plain(_) => {}
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                // One who has gone hears none.
                let _ = tokio::io::AsyncWriteExt::shutdown(stream).await;
            }
        }
    }
}

/// Calls the same of whichever stream it is.
macro_rules! either {
    ($stream:expr, $method:ident($($argument:expr),*)) => {
        match $stream {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match either!(self.get_mut(), poll_read(cx, buf)) {
            // RFC 9112 §9.8: a client that closes without a word has closed. What it sent says itself
            // where it ends.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(()))
            }
            read => read,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), poll_shutdown(cx))
    }
}

impl<S: Socket> Metered<S> {
    fn told(&self, written: &Poll<io::Result<usize>>) {
        let bytes = match written {
            Poll::Ready(Ok(bytes)) => *bytes,
            _ => 0,
        };
        let stalled = self.stream.is_full(written.is_pending());
        self.pulse.written(bytes, stalled);
    }
}

impl<S: Socket> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Socket> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.told(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.told(&written);
        written
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
