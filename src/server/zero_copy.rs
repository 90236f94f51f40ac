//! The writer that sends file segments from the page cache to the socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::turns::{Turn, Turns};
use super::{UNSENT, UNSENT_OF_DOWNLOAD, instant, set_unsent};
use crate::body::Lane;
use crate::body::lane::{Announced, Collected, Terminus};

/// Responses from about this size on are sent corked: the kernel then makes full packets of them,
/// which saves more than it costs. Below, a corked end waits for an acknowledgement.
const CORKED_FROM: usize = 128 * 1024;

/// A download of which so much was taken within the time is taken fast.
const FAST: usize = 4 * 1024 * 1024;
const FAST_WITHIN: Duration = Duration::from_secs(1);

/// How much may wait in the socket for the network to take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// [`UNSENT`].
    Usual,
    /// The same, of a download that began then.
    Timed(Instant),
    /// The same, of one that is taken slowly.
    Slow,
    /// [`UNSENT_OF_DOWNLOAD`].
    Deep,
}

/// Whether the socket holds partial packets back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cork {
    Off,
    /// It would, and there are none.
    Idle,
    /// It does: something was sent since it last let all go.
    Holding,
}

/// A TCP stream that sends the file segments of its [`Lane`] with sendfile(2).
///
/// For hyper, put it into `hyper_util::rt::TokioIo`, give `http1::Builder` `.writev(true)`, and the
/// connection's bodies the stream's lane. The lane closes with the stream: a body that is on it then
/// is read into memory.
///
/// Large responses are corked, and their ends pushed by setting `TCP_NODELAY`, which stays set.
#[derive(Debug)]
pub struct ZeroCopyStream {
    stream: TcpStream,
    lane: Terminus,
    cork: Cork,
    /// The response whose segment was sent last goes on.
    more: bool,
    /// The last write found the socket full.
    full: bool,
    turn: Option<Turn>,
    depth: Depth,
}

impl ZeroCopyStream {
    /// Wraps a connected stream.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            lane: Terminus::default(),
            cork: Cork::Off,
            more: false,
            full: false,
            turn: None,
            depth: Depth::Usual,
        }
    }

    /// Takes its turns among the connections of one runtime.
    pub(super) fn taking_turns(mut self, turns: Arc<Turns>) -> Self {
        self.turn = Some(Turn::of(turns));
        self
    }

    /// Takes them no more: whoever writes to it does.
    pub(super) fn leave_turns(&mut self) {
        self.turn = None;
    }

    /// The lane for the bodies of this connection; `None` on systems other than Linux, where bodies
    /// are read into memory. A body on the lane of another connection is not sent: the connection
    /// ends.
    #[must_use]
    pub fn lane(&self) -> Option<Lane> {
        cfg!(target_os = "linux").then(|| self.lane.lane())
    }

    /// The stream itself, to ask it for something. What is written to it is on nobody's lane, and
    /// behind a large response it may be held back for 200 ms.
    #[must_use]
    pub const fn as_tcp(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the last write waits for the socket, and for nothing else.
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }

    /// The stream itself. The lane is closed.
    #[must_use]
    pub fn into_inner(mut self) -> TcpStream {
        // A connection that is gone holds nothing back.
        let _ = self.cork(false);
        self.stream
    }

    /// Sends memory, then so many bytes of the segment behind it, as far as the socket takes them.
    fn send(
        &self,
        memory: &[IoSlice<'_>],
        segment: &Announced,
        length: usize,
    ) -> io::Result<usize> {
        let before = self.send_memory(memory)?;
        if before < memory.iter().map(|slice| slice.len()).sum() {
            return Ok(before);
        }
        match sendfile(&self.stream, segment, length) {
            Ok(0) => {
                self.lane.break_off();
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(sent) => {
                self.lane.sent(sent);
                Ok(before + sent)
            }
            // The memory is on its way; the next call finds the socket full.
            Err(Errno::AGAIN) if before > 0 => Ok(before),
            Err(errno) => Err(errno.into()),
        }
    }

    /// MSG_MORE: what follows goes into the same packets.
    fn send_memory(&self, memory: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        Ok(match memory {
            [] => 0,
            [one] => rustix::net::send(&self.stream, one, flags)?,
            several => {
                let mut control = SendAncillaryBuffer::default();
                rustix::net::sendmsg(&self.stream, several, &mut control, flags)?
            }
        })
    }

    /// The first segment of a response is next; `more` of it follows behind that.
    fn begin_segments(&mut self, length: usize, more: bool) -> io::Result<()> {
        self.begin_turn()?;
        self.cork(more || length >= CORKED_FROM)
    }

    fn begin_turn(&mut self) -> io::Result<()> {
        if let Some(turn) = &mut self.turn {
            turn.begin();
        }
        self.shallow()
    }

    /// Has more wait in the socket for a download that is taken fast: asked for less often, it takes a
    /// fifth less of a core. Who takes it slowly would not be seen to take anything until much of it
    /// is gone.
    fn weigh(&mut self) -> io::Result<()> {
        let Some(downloaded) = self.turn.as_ref().and_then(Turn::downloaded) else {
            return Ok(());
        };
        match self.depth {
            Depth::Usual => self.depth = Depth::Timed(instant()),
            Depth::Timed(since) if downloaded >= FAST => {
                self.depth = Depth::Slow;
                if since.elapsed() < FAST_WITHIN {
                    set_unsent(&self.stream, UNSENT_OF_DOWNLOAD)?;
                    self.depth = Depth::Deep;
                }
            }
            Depth::Timed(_) | Depth::Slow | Depth::Deep => {}
        }
        Ok(())
    }

    fn shallow(&mut self) -> io::Result<()> {
        if self.depth == Depth::Deep {
            set_unsent(&self.stream, UNSENT)?;
        }
        self.depth = Depth::Usual;
        Ok(())
    }

    /// Holds partial packets back, or lets them go and holds none back.
    fn cork(&mut self, corked: bool) -> io::Result<()> {
        if corked != (self.cork != Cork::Off) {
            sockopt::set_tcp_cork(&self.stream, corked)?;
            self.cork = if corked { Cork::Idle } else { Cork::Off };
        }
        Ok(())
    }

    /// Lets go what a cork holds back, and leaves it for the next large response: one call, where
    /// there would be one to take it off and one to put it on again.
    fn push(&mut self) -> io::Result<()> {
        if self.cork == Cork::Holding {
            // tcp(7): setting it pushes what is queued, even under a cork.
            sockopt::set_tcp_nodelay(&self.stream, true)?;
            self.cork = Cork::Idle;
        }
        Ok(())
    }

    /// Something is sent.
    fn hold(&mut self) {
        if self.cork == Cork::Idle {
            self.cork = Cork::Holding;
        }
    }

    /// Memory alone is a head, a small response, or the end of a multipart; only that goes on from
    /// what was sent before it, and nothing goes on from it.
    fn begin_memory(&mut self) -> io::Result<()> {
        if !self.more {
            self.cork(false)?;
        }
        self.more = false;
        self.hold();
        self.begin_turn()
    }

    /// The head of a body that has its first segment in the next write.
    fn poll_beginning(
        &mut self,
        cx: &mut Context<'_>,
        memory: &[IoSlice<'_>],
        length: usize,
        more: bool,
    ) -> Poll<io::Result<usize>> {
        self.begin_segments(length, more)?;
        self.more = true;
        if memory.iter().all(|slice| slice.is_empty()) {
            // The head went before. A write of nothing would be an error: the next one is asked for.
            self.full = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.poll_socket(cx, |stream| stream.send_memory(memory))
    }

    fn poll_segment(
        &mut self,
        cx: &mut Context<'_>,
        memory: &[IoSlice<'_>],
        segment: &Announced,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        if segment.first {
            self.begin_segments(segment.length, segment.more)?;
        }
        self.more = segment.more;
        if self.full {
            // hyper asks more than once when it is polled: who stood in line for a socket that is
            // full would be woken by its turn, for nothing, again and again.
            ready!(self.poll_room(cx))?;
        }
        self.weigh()?;
        let allowed = match &mut self.turn {
            Some(turn) => ready!(turn.poll_allowance(cx)),
            None => length,
        };
        let sent = ready!(self.poll_socket(cx, |stream| {
            stream.send(memory, segment, length.min(allowed))
        }));
        if let (Ok(sent), Some(turn)) = (&sent, &mut self.turn) {
            // A head is not counted against a turn: a response of as much as one would need another.
            let memory: usize = memory.iter().map(|slice| slice.len()).sum();
            turn.spend(sent.saturating_sub(memory));
        }
        Poll::Ready(sent)
    }

    /// Waits until the socket takes something, and lets others have their turn meanwhile.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = self.stream.poll_write_ready(cx);
        self.full = ready.is_pending();
        if let (Poll::Pending, Some(turn)) = (&ready, &mut self.turn) {
            turn.pass();
        }
        ready
    }

    /// Sends when the socket takes something.
    fn poll_socket(
        &mut self,
        cx: &mut Context<'_>,
        send: impl Fn(&Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_room(cx))?;
            match self.stream.try_io(Interest::WRITABLE, || send(self)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => {
                    self.hold();
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

/// There is a segment where there is no place for one.
fn misplaced() -> io::Error {
    io::Error::other("a file segment in a write that is none")
}

impl AsyncWrite for ZeroCopyStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Collected::Memory = self.lane.collect(&[IoSlice::new(bytes)])? else {
            return Poll::Ready(Err(misplaced()));
        };
        self.begin_memory()?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.full = written.is_pending();
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.lane.collect(slices)? {
            Collected::Memory => {
                self.begin_memory()?;
                let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
                self.full = written.is_pending();
                written
            }
            Collected::Beginning {
                before,
                length,
                more,
            } => self.poll_beginning(cx, &slices[..before], length, more),
            Collected::Segment {
                before,
                length,
                segment,
            } => self.poll_segment(cx, &slices[..before], &segment, length),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A body that was flattened and could not be read to its end must not look complete.
        let Collected::Memory = self.lane.collect(&[])? else {
            return Poll::Ready(Err(misplaced()));
        };
        // What the response still brings fills the last packet up; its end does not wait.
        if !self.more {
            self.push()?;
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::TcpListener;

    use super::super::turns::DOWNLOAD_FROM;
    use super::*;

    /// A stream that takes its turns, and its other end.
    async fn stream() -> (ZeroCopyStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (stream, _) = listener.accept().await.unwrap();
        let stream = ZeroCopyStream::new(stream).taking_turns(Arc::default());
        (stream, other.unwrap())
    }

    impl ZeroCopyStream {
        fn spend(&mut self, sent: usize) {
            self.turn.as_mut().unwrap().spend(sent);
        }
    }

    /// The pieces of a response as hyper would hand them on, in one write.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_body_that_was_introduced_leaves_with_its_head() {
        use std::io::Write as _;

        use bytes::Buf as _;
        use http_body::Body as _;
        use tokio::io::AsyncReadExt as _;

        use crate::body::FileBody;
        use crate::respond::Piece;
        use crate::select::ByteRange;

        const LENGTH: usize = 64 * 1024;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![7; LENGTH]).unwrap();
        file.as_file()
            .set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
            .unwrap();
        let range = ByteRange {
            first: 0,
            last: u64::try_from(LENGTH).unwrap() - 1,
        };
        let (mut stream, mut other) = stream().await;
        let body = FileBody::of_file(file.reopen().unwrap(), [Piece::Stored(range)]).unwrap();
        let mut body = body.on_lane(stream.lane());
        body.introduce(&stream.lane().unwrap());
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let segment = frame.unwrap().unwrap().into_data().unwrap();
        let head = b"HTTP/1.1 206 Partial Content\r\n\r\n";
        let mut slices = [IoSlice::new(head), IoSlice::new(&[])];
        assert_eq!(segment.chunks_vectored(&mut slices[1..]), 1);
        let write = poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, &slices)).await;
        let sent = write.unwrap();
        assert!(sent > head.len(), "{sent}");
        // Only what is of the file counts against the turn.
        let turn = stream.turn.as_mut().unwrap();
        let allowance = poll_fn(|cx| Poll::Ready(turn.poll_allowance(cx))).await;
        assert_eq!(allowance, Poll::Ready(DOWNLOAD_FROM + head.len() - sent));
        let mut came = vec![0; sent];
        other.read_exact(&mut came).await.unwrap();
        assert_eq!(came[..head.len()], head[..]);
        assert!(came[head.len()..].iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn a_head_is_not_counted_against_its_turn() {
        let (mut stream, _other) = stream().await;
        let head = [IoSlice::new(b"HTTP/1.1 206 Partial Content\r\n\r\n")];
        let sent = poll_fn(|cx| stream.poll_beginning(cx, &head, DOWNLOAD_FROM, false)).await;
        assert_eq!(sent.unwrap(), head[0].len());
        let turn = stream.turn.as_mut().unwrap();
        let allowance = poll_fn(|cx| Poll::Ready(turn.poll_allowance(cx))).await;
        assert_eq!(allowance, Poll::Ready(DOWNLOAD_FROM));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_socket_of_a_download_that_is_taken_fast_is_deep_until_the_next_response() {
        let (mut stream, _other) = stream().await;
        let unsent = |stream: &ZeroCopyStream| {
            let socket = socket2::SockRef::from(&stream.stream);
            socket.tcp_notsent_lowat().unwrap()
        };
        set_unsent(&stream.stream, UNSENT).unwrap();
        let long_ago = instant().checked_sub(FAST_WITHIN).unwrap();
        for (began, expect) in [(None, UNSENT_OF_DOWNLOAD), (Some(long_ago), UNSENT)] {
            stream.spend(DOWNLOAD_FROM);
            stream.weigh().unwrap();
            if let Some(began) = began {
                stream.depth = Depth::Timed(began);
            }
            stream.spend(FAST - 1);
            stream.weigh().unwrap();
            assert_eq!(unsent(&stream), UNSENT);
            stream.spend(1);
            stream.weigh().unwrap();
            assert_eq!(unsent(&stream), expect, "{began:?}");
            stream.begin_turn().unwrap();
            assert_eq!(unsent(&stream), UNSENT);
        }
    }
}
