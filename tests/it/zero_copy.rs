//! The public file body and writer, under each way in which hyper could look at a segment.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Buf as _, Bytes, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tonearm::body::{FileBody, Lane, Segment};
use tonearm::respond::Piece;
use tonearm::select::ByteRange;
use tonearm::server::ZeroCopyStream;

use crate::harness::raw::Client;
use crate::harness::{MODIFIED, Server, pattern, seconds_of};

#[path = "../../examples/embed_server.rs"]
#[allow(dead_code, reason = "its main is a program's")]
mod embed_server;

/// Several windows, of which the last is not whole.
const LENGTH: usize = (5 << 20) + 212_345;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(LENGTH));

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn call() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &*PATTERN).unwrap();
    file
}

fn stored(first: usize, length: usize) -> Piece {
    let first = u64::try_from(first).unwrap();
    Piece::Stored(ByteRange {
        first,
        last: first + u64::try_from(length).unwrap() - 1,
    })
}

fn whole(path: &Path) -> FileBody {
    FileBody::of_file(File::open(path).unwrap(), vec![stored(0, LENGTH)]).unwrap()
}

/// What has gone by a writer.
#[derive(Default)]
struct Seen {
    /// Bytes of files that were read into memory.
    copied: AtomicU64,
    /// Bytes that went by a placeholder.
    uncopied: AtomicUsize,
}

/// A writer that is looked at: no 64 bytes of a recording are zeros, all of a placeholder are. It may hide
/// that it writes vectored.
struct Watched(ZeroCopyStream, Arc<Seen>, bool);

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write_vectored(cx, slices);
        let zeros = |slice: &IoSlice<'_>| slice.get(..64) == Some(&[0; 64]);
        if let (Poll::Ready(Ok(count)), Some(at)) = (&written, slices.iter().position(zeros)) {
            let before: usize = slices[..at].iter().map(|slice| slice.len()).sum();
            let uncopied = count.saturating_sub(before);
            self.1.uncopied.fetch_add(uncopied, Ordering::SeqCst);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.2 && self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// How hyper is made to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As it is meant to be.
    Lane,
    /// The body has no lane.
    NoLane,
    /// hyper copies everything into one buffer.
    PipelineFlush,
    /// The I/O object says it cannot write vectored.
    NotVectored,
    /// HTTP/2, whose frames cut segments, and a lane all the same.
    Http2,
}

/// A body whose file is cut when its first frame has been taken, to so many bytes.
struct Cut {
    body: FileBody,
    file: PathBuf,
    to: Option<u64>,
}

impl Body for Cut {
    type Data = Segment;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Segment>>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Ready(Some(Ok(_))), Some(to)) = (&frame, self.to) {
            let file = File::options().write(true).open(&self.file).unwrap();
            file.set_len(to).unwrap();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// One connection of a hyper server that is not tonearm's, answering every request with the file,
/// which is cut meanwhile to so many bytes.
async fn serve(stream: TcpStream, file: PathBuf, way: Way, cut: Option<u64>, seen: Arc<Seen>) {
    let stream = ZeroCopyStream::new(stream);
    let lane = stream.lane().unwrap();
    let kept = lane.clone();
    let service = service_fn(move |_: Request<Incoming>| {
        let lane = (way != Way::NoLane).then(|| lane.clone());
        let body = whole(&file).on_lane(lane);
        let (file, to) = (file.clone(), cut);
        async move { Ok::<_, Infallible>(Response::new(Cut { body, file, to })) }
    });
    let mut http1 = hyper::server::conn::http1::Builder::new();
    http1.writev(true);
    let vectored = way != Way::NotVectored;
    let watched = |stream| TokioIo::new(Watched(stream, Arc::clone(&seen), vectored));
    // A client that has what it wants goes away.
    let _ = match way {
        Way::Lane | Way::NoLane => http1.serve_connection(watched(stream), service).await,
        Way::PipelineFlush => {
            http1.pipeline_flush(true);
            http1.serve_connection(watched(stream), service).await
        }
        Way::NotVectored => {
            let http1 = hyper::server::conn::http1::Builder::new();
            http1.serve_connection(watched(stream), service).await
        }
        Way::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(watched(stream), service)
                .await
        }
    };
    seen.copied.store(kept.copied(), Ordering::SeqCst);
}

/// The bytes that came, and whether they are the whole response.
async fn fetch(addr: SocketAddr, way: Way) -> (Vec<u8>, bool) {
    let stream = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let request = Request::get("http://localhost/").header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let response = if way == Way::Http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    let mut bytes = Vec::new();
    let Ok(mut response) = response else {
        return (bytes, false);
    };
    while let Some(frame) = response.frame().await {
        let Ok(frame) = frame else {
            return (bytes, false);
        };
        bytes.extend(frame.into_data().unwrap());
    }
    (bytes, true)
}

/// One request and its answer.
fn exchange(file: &Path, way: Way, cut: Option<u64>) -> (Vec<u8>, bool, Arc<Seen>) {
    let seen = Arc::<Seen>::default();
    let served = Arc::clone(&seen);
    let file = file.to_owned();
    let (bytes, is_whole) = runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tokio::spawn(fetch(listener.local_addr().unwrap(), way));
        let (stream, _) = listener.accept().await.unwrap();
        let serving = tokio::spawn(serve(stream, file, way, cut, served));
        let fetched = client.await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), serving)
            .await
            .unwrap()
            .unwrap();
        fetched
    });
    (bytes, is_whole, seen)
}

#[test]
fn whichever_way_hyper_writes_the_bytes_are_the_files() {
    let file = call();
    for (way, copies) in [
        (Way::Lane, false),
        (Way::NoLane, false),
        (Way::PipelineFlush, true),
        (Way::NotVectored, true),
        (Way::Http2, true),
    ] {
        let (bytes, is_whole, seen) = exchange(file.path(), way, None);
        assert!(is_whole && bytes == *PATTERN, "{way:?}");
        let length = u64::try_from(LENGTH).unwrap();
        let copied = seen.copied.load(Ordering::SeqCst);
        assert_eq!(copied >= length, copies, "{way:?} copied {copied} bytes");
        if !copies {
            assert_eq!(copied, 0, "{way:?}");
        }
        let uncopied = seen.uncopied.load(Ordering::SeqCst);
        let expect = if way == Way::Lane { LENGTH } else { 0 };
        assert_eq!(uncopied, expect, "{way:?}");
    }
}

#[test]
fn whichever_way_hyper_writes_a_file_that_is_cut_cuts_the_connection() {
    for way in [
        Way::Lane,
        Way::NoLane,
        Way::PipelineFlush,
        Way::NotVectored,
        Way::Http2,
    ] {
        // Within a window and at its end; within and between what is read at once.
        for to in [0, 100, 65_536, 100_000, 262_144, 300_000] {
            let file = call();
            let (bytes, is_whole, _) = exchange(file.path(), way, Some(to));
            assert!(!is_whole, "{way:?} {to}");
            assert!(PATTERN.starts_with(&bytes), "{way:?} {to}");
        }
    }
}

/// Serves one connection over a writer that knows nothing of lanes, and gives what came, head and
/// body.
async fn over_a_bare_stream(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    listening: (TcpListener, JoinHandle<Vec<u8>>),
    body: impl Fn() -> FileBody,
) -> (hyper::Result<()>, Vec<u8>, Vec<u8>) {
    let service = service_fn(|_: Request<Incoming>| {
        let body = body();
        async move { Ok::<_, Infallible>(Response::new(body)) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .writev(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    drop(listening.0);
    let mut received = listening.1.join().unwrap();
    let end = received.windows(4).position(|four| four == b"\r\n\r\n");
    let body = received.split_off(end.unwrap() + 4);
    (served, received, body)
}

/// A listener, and a client of it who asks once and reads to the end.
async fn listening() -> (TcpListener, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut client = Client::connect(addr);
        client.ask("GET", "/", &["Connection: close"]);
        client.rest()
    });
    (listener, client)
}

#[test]
fn a_lane_whose_stream_is_taken_apart_gives_the_files_bytes() {
    let file = call();
    let (served, _, body) = runtime().block_on(async {
        let listening = listening().await;
        let (stream, _) = listening.0.accept().await.unwrap();
        let stream = ZeroCopyStream::new(stream);
        let lane = stream.lane();
        let body = || whole(file.path()).on_lane(lane.clone());
        over_a_bare_stream(stream.into_inner(), listening, body).await
    });
    served.unwrap();
    assert!(body == *PATTERN);
}

/// It was there when the body was made.
#[test]
fn a_lane_whose_stream_is_dropped_gives_the_files_bytes() {
    let file = call();
    let (served, _, body) = runtime().block_on(async {
        let listening = listening().await;
        let (stream, _) = listening.0.accept().await.unwrap();
        let addr = listening.0.local_addr().unwrap();
        let other = ZeroCopyStream::new(TcpStream::connect(addr).await.unwrap());
        let other = std::sync::Mutex::new(Some(other));
        let body = || {
            let other = other.lock().unwrap().take().unwrap();
            whole(file.path()).on_lane(other.lane())
        };
        over_a_bare_stream(stream, listening, body).await
    });
    served.unwrap();
    assert!(body == *PATTERN);
}

#[test]
fn a_bare_stream_gets_no_byte_of_a_body_on_the_lane_of_a_live_one() {
    let file = call();
    for known in [false, true] {
        let (served, head, body) = runtime().block_on(async {
            let listening = listening().await;
            let (stream, _) = listening.0.accept().await.unwrap();
            let (mut far, near) = pair().await;
            let mut other = ZeroCopyStream::new(near);
            let lane = other.lane();
            if known {
                // What its writer knows of another body is nothing to this one.
                let body = whole(file.path()).on_lane(lane.clone());
                let (segments, sent) = (
                    first_segment(body).await,
                    tokio::spawn(async move {
                        let mut sink = [0; 4096];
                        tokio::io::AsyncReadExt::read(&mut far, &mut sink).await
                    }),
                );
                let mut buffer = Bytes::from_static(b"head").chain(segments);
                for _ in 0..2 {
                    tokio::io::AsyncWriteExt::write_buf(&mut other, &mut buffer)
                        .await
                        .unwrap();
                }
                sent.await.unwrap().unwrap();
            }
            let body = || whole(file.path()).on_lane(lane.clone());
            let served = over_a_bare_stream(stream, listening, body).await;
            drop(other);
            served
        });
        assert!(served.is_err(), "{known}");
        let length = format!("content-length: {LENGTH}\r\n");
        assert!(String::from_utf8(head).unwrap().contains(&length));
        assert!(body.is_empty(), "{} bytes", body.len());
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap());
    let (far, near) = tokio::join!(far, listener.accept());
    (far.unwrap(), near.unwrap().0)
}

async fn first_segment(mut body: FileBody) -> Segment {
    let frame = body.frame().await.unwrap().unwrap();
    frame.into_data().unwrap()
}

/// What is played is often not played to its end, and nobody wants the rest of a window.
#[test]
fn a_range_without_an_end_begins_with_a_small_window_and_grows() {
    const KIB: usize = 1024;
    let file = call();
    let windows = |piece, lane| {
        runtime().block_on(async {
            let (_far, near) = pair().await;
            let stream = ZeroCopyStream::new(near);
            let lane = stream.lane().filter(|_| lane);
            let file = File::open(file.path()).unwrap();
            let mut body = FileBody::of_file(file, vec![piece]).unwrap().on_lane(lane);
            let mut windows = Vec::new();
            while let Some(frame) = body.frame().await {
                windows.push(frame.unwrap().into_data().unwrap().remaining());
            }
            windows
        })
    };
    let begins = |windows: &[usize], with: &[usize]| {
        let with: Vec<_> = with.iter().map(|kib| kib * KIB).collect();
        assert!(windows.starts_with(&with), "{windows:?}");
    };
    let to_its_end = windows(stored(0, LENGTH), true);
    begins(&to_its_end, &[256, 512, 1024, 2048]);
    assert_eq!(to_its_end.iter().sum::<usize>(), LENGTH);
    begins(&windows(stored(1, LENGTH - 1), true), &[256, 512, 1024]);
    begins(&windows(stored(0, LENGTH - 1), true), &[1024, 2048]);
    begins(&windows(stored(0, LENGTH), false), &[128, 128]);
}

#[test]
fn a_placeholder_on_another_lane_than_its_writers_ends_the_connection() {
    let file = call();
    let received = runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut client = Client::connect(addr);
            client.ask("GET", "/", &[]);
            client.rest()
        });
        let (stream, _) = listener.accept().await.unwrap();
        let other_stream = ZeroCopyStream::new(TcpStream::connect(addr).await.unwrap());
        let other = other_stream.lane().unwrap();
        let service = service_fn(|_: Request<Incoming>| {
            let body = whole(file.path()).on_lane(Some(other.clone()));
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let io = TokioIo::new(ZeroCopyStream::new(stream));
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .await;
        assert!(served.is_err());
        drop(listener);
        client.join().unwrap()
    });
    assert!(received.is_empty(), "{} bytes", received.len());
}

/// The example's server, looked at.
struct Embedded {
    addr: SocketAddr,
    seen: Arc<Seen>,
    /// How many threads the blocking pool has begun.
    #[cfg_attr(
        not(feature = "cli"),
        expect(dead_code, reason = "for the file that is cold")
    )]
    threads: Arc<AtomicUsize>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// With send buffers of these sizes, one connection after the other; 0 is what the system
    /// thinks best.
    fn start(file: &Path, send_buffers: &'static [usize]) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (seen, threads) = (Arc::<Seen>::default(), Arc::<AtomicUsize>::default());
        let stop = CancellationToken::new();
        let (file, watch, stopped) = (file.to_owned(), Arc::clone(&seen), stop.clone());
        let begun = Arc::clone(&threads);
        let thread = std::thread::spawn(move || {
            let mut runtime = Builder::new_current_thread();
            runtime.enable_all().on_thread_start(move || {
                begun.fetch_add(1, Ordering::SeqCst);
            });
            runtime.build().unwrap().block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let accept = async move {
                    for size in send_buffers.iter().cycle() {
                        let (stream, _) = listener.accept().await.unwrap();
                        stream.set_nodelay(true).unwrap();
                        if *size > 0 {
                            set_socket_send_buffer_size(&stream, *size).unwrap();
                        }
                        tokio::spawn(serve_watched(stream, file.clone(), Arc::clone(&watch)));
                    }
                };
                tokio::select! {
                    () = accept => {}
                    () = stopped.cancelled() => {}
                }
            });
        });
        Self {
            addr,
            seen,
            threads,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A failed test is already telling.
            let _ = thread.join();
        }
    }
}

/// Adds what a connection has copied, however it ends.
struct Copied(Lane, Arc<Seen>);

impl Drop for Copied {
    fn drop(&mut self) {
        self.1.copied.fetch_add(self.0.copied(), Ordering::SeqCst);
    }
}

async fn serve_watched(stream: TcpStream, file: PathBuf, seen: Arc<Seen>) {
    let stream = ZeroCopyStream::new(stream);
    let lane = stream.lane().unwrap();
    let _copied = Copied(lane.clone(), Arc::clone(&seen));
    let service = service_fn(move |request| {
        let response = embed_server::answer(&file, &request, Some(lane.clone()));
        async move { Ok::<_, Infallible>(response.unwrap()) }
    });
    // A client that has what it wants goes away.
    let _ = hyper::server::conn::http1::Builder::new()
        .writev(true)
        .serve_connection(TokioIo::new(Watched(stream, seen, true)), service)
        .await;
}

#[test]
fn the_example_serves() {
    let file = call();
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = tokio::spawn(embed_server::serve(listener, file.path().to_owned()));
        let asking = tokio::task::spawn_blocking(move || {
            let mut client = Client::connect(addr);
            for (range, first, last) in [
                ("bytes=0-99", 0, 99),
                ("bytes=1000000-2999999", 1_000_000, 2_999_999),
                ("bytes=-300000", LENGTH - 300_000, LENGTH - 1),
            ] {
                client.ask("GET", "/", &[&format!("Range: {range}")]);
                assert_eq!(client.head().status, 206, "{range}");
                let body = client.exactly(last - first + 1);
                assert!(body == PATTERN[first..=last], "{range}");
            }
        });
        asking.await.unwrap();
        serving.abort();
    });
}

/// What is asked for in one request.
#[derive(Debug, Clone)]
enum Wanted {
    Whole,
    Closed(usize, usize),
    From(usize),
    Last(usize),
    Several(Vec<(usize, usize)>),
}

impl Wanted {
    fn field(&self) -> String {
        match self {
            Self::Whole => "X: y".into(),
            Self::Closed(first, last) => format!("Range: bytes={first}-{last}"),
            Self::From(first) => format!("Range: bytes={first}-"),
            Self::Last(length) => format!("Range: bytes=-{length}"),
            Self::Several(ranges) => {
                let ranges = ranges.iter().map(|(first, last)| format!("{first}-{last}"));
                format!("Range: bytes={}", ranges.collect::<Vec<_>>().join(","))
            }
        }
    }

    /// Where the bytes lie that come alone.
    fn expect(&self) -> Option<&'static [u8]> {
        match self {
            Self::Whole => Some(&PATTERN),
            Self::Closed(first, last) => Some(&PATTERN[*first..=*last]),
            Self::From(first) => Some(&PATTERN[*first..]),
            Self::Last(length) => Some(&PATTERN[LENGTH - length..]),
            Self::Several(_) => None,
        }
    }
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let sorted = |a: usize, b: usize| (a.min(b), a.max(b));
    let any = (0..LENGTH, 0..LENGTH).prop_map(move |(a, b)| {
        let (first, last) = sorted(a, b);
        Wanted::Closed(first, last)
    });
    let small = (0..LENGTH - 200_000, 0..200_000_usize).prop_map(|(a, n)| Wanted::Closed(a, a + n));
    // About the end of a window and of what is sent at once.
    let edge = (1..5_usize, 0..3_usize, 0..LENGTH).prop_map(|(windows, beyond, first)| {
        let last = (windows << 20) + beyond - 1;
        Wanted::Closed(first.min(last), last)
    });
    let several =
        (0..500_000_usize, 1..400_000_usize, 1..100_000_usize).prop_map(|(at, n, gap)| {
            let second = at + n + 1000 + gap;
            Wanted::Several(vec![
                (at, at + n),
                (second, second + gap),
                (LENGTH - 70_001, LENGTH - 1),
            ])
        });
    prop_oneof![
        1 => Just(Wanted::Whole),
        2 => any,
        3 => small,
        2 => edge,
        2 => (0..LENGTH).prop_map(Wanted::From),
        2 => (1..2_000_000_usize).prop_map(Wanted::Last),
        2 => several,
    ]
}

/// What a client does with one connection.
#[derive(Debug, Clone)]
struct Visit {
    /// Pipelined.
    wanted: Vec<Wanted>,
    /// Bytes taken at a time, with a pause after so many of them.
    gulp: usize,
    pause_every: usize,
    pause: Duration,
    /// Leaves after so much of the last response, in percent.
    until: usize,
    receive_buffer: usize,
}

fn visit() -> impl Strategy<Value = Visit> {
    let pause = prop_oneof![Just(300_u64), Just(3_000)].prop_map(Duration::from_micros);
    (
        proptest::collection::vec(wanted(), 1..4),
        prop_oneof![3_000..9_000_usize, 60_000..900_000_usize],
        (8..60_usize, pause),
        prop_oneof![3 => Just(100_usize), 2 => 1..100_usize],
        prop_oneof![16_384..65_536_usize, 65_536..4_000_000_usize],
    )
        .prop_map(
            |(wanted, gulp, (pause_every, pause), until, receive_buffer)| Visit {
                wanted,
                gulp,
                pause_every,
                pause,
                until,
                receive_buffer,
            },
        )
}

/// Takes so many bytes in the visit's manner.
fn take(client: &mut Client, length: usize, visit: &Visit) -> Vec<u8> {
    let mut taken = Vec::with_capacity(length);
    let mut gulps = 0;
    while taken.len() < length {
        taken.extend(client.exactly(visit.gulp.min(length - taken.len())));
        gulps += 1;
        if gulps % visit.pause_every == 0 {
            // A listener's player, which reads in bursts; nothing is waited for.
            std::thread::sleep(visit.pause);
        }
    }
    taken
}

/// Each part's bytes are those that its Content-Range names, up to where the body was left.
fn check_parts(ranges: &[(usize, usize)], mut body: &[u8], is_whole: bool) {
    for (first, last) in ranges {
        let Some(end) = body.windows(4).position(|four| four == b"\r\n\r\n") else {
            assert!(!is_whole, "a part is missing");
            return;
        };
        let head = String::from_utf8(body[..end].to_vec()).unwrap();
        let expect = format!("bytes {first}-{last}/{LENGTH}");
        assert!(head.contains(&expect), "{expect} in {head}");
        body = &body[end + 4..];
        let length = (last - first + 1).min(body.len());
        assert!(body[..length] == PATTERN[*first..][..length]);
        body = &body[length..];
    }
    if is_whole {
        assert!(body.starts_with(b"\r\n--") && body.len() < 80, "{body:?}");
    }
}

fn pay(addr: SocketAddr, target: &str, visit: &Visit) {
    let mut client = Client::connect(addr);
    client.set_receive_buffer(visit.receive_buffer);
    for wanted in &visit.wanted {
        client.ask("GET", target, &[&wanted.field()]);
    }
    for (place, wanted) in visit.wanted.iter().enumerate() {
        let head = client.head();
        let length: usize = head.field("content-length").unwrap().parse().unwrap();
        let is_last = place + 1 == visit.wanted.len();
        let until = if is_last { visit.until } else { 100 };
        let body = take(&mut client, length * until / 100, visit);
        let is_whole = body.len() == length;
        match wanted {
            Wanted::Several(ranges) => check_parts(ranges, &body, is_whole),
            wanted => {
                let expect = wanted.expect().unwrap();
                assert_eq!(length, expect.len(), "{visit:?}");
                assert!(body == expect[..body.len()], "{visit:?}");
            }
        }
    }
}

/// From little more than the largest packet, which loopback has with 64 KiB.
const SEND_BUFFERS: [usize; 7] = [0, 65_536, 1 << 20, 80_000, 200_000, 100_000, 4 << 20];

#[test]
fn any_reader_gets_the_bytes_that_were_asked_for() {
    let server = Server::start();
    server.put_bytes("call.wav", &PATTERN);
    server.put_bytes("young.wav", &PATTERN);
    // Changed later than now: it stays young.
    let later = UNIX_EPOCH + Duration::from_secs(tonearm::server::now().0 + 3600);
    server.date("young.wav", later);
    assert!(tonearm::server::now().0 > MODIFIED);
    let targets = ["call.wav", "young.wav"].map(|name| server.sign(name));
    let file = call();
    let embedded = Embedded::start(file.path(), &SEND_BUFFERS);
    let places = [
        (embedded.addr, "/"),
        (server.addr, targets[0].as_str()),
        (server.addr, targets[1].as_str()),
    ];
    let config = ProptestConfig {
        cases: 32,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(visits in proptest::collection::vec((visit(), 0..4_usize), 2..5))| {
        std::thread::scope(|scope| {
            for (visit, place) in &visits {
                let (addr, target) = places[place % 3];
                scope.spawn(move || {
                    pay(addr, target, visit);
                    if visit.until < 100 {
                        // One who has left in the midst comes again, and stays.
                        let until = 100;
                        pay(addr, target, &Visit { until, ..visit.clone() });
                    }
                });
            }
        });
    });
    assert!(embedded.seen.uncopied.load(Ordering::SeqCst) > LENGTH);
    let seen = Arc::clone(&embedded.seen);
    drop(embedded);
    assert_eq!(seen.copied.load(Ordering::SeqCst), 0);
}

/// A cork that is forgotten costs 200 ms.
#[test]
fn the_last_byte_of_a_response_leaves_at_once_whatever_went_before_it() {
    const KINDS: [(&str, &str); 6] = [
        ("GET", "Range: bytes=1-700001"),
        ("GET", "Range: bytes=-300001"),
        ("GET", "Range: bytes=5-70004"),
        ("GET", "Range: bytes=5-104"),
        ("GET", "Range: bytes=0-300000,400001-700003"),
        ("HEAD", "X: y"),
    ];
    let server = Server::start();
    server.put_bytes("call.wav", &PATTERN);
    let target = server.sign("call.wav");
    let file = call();
    let embedded = Embedded::start(file.path(), &[0]);
    for (addr, target) in [(embedded.addr, "/"), (server.addr, target.as_str())] {
        for first in KINDS {
            for second in KINDS {
                let mut client = Client::connect(addr);
                let mut seconds = || {
                    [first, second].map(|(method, field)| {
                        seconds_of(|| {
                            client.ask(method, target, &[field]);
                            let head = client.head();
                            if method == "GET" {
                                let length = head.field("content-length").unwrap();
                                client.exactly(length.parse().unwrap());
                            }
                        })
                    })
                };
                // A machine may stand still now and then, and a forgotten cork never does not.
                let is_prompt = (0..8).any(|_| seconds().iter().all(|took| *took < 0.15));
                assert!(is_prompt, "{first:?}, {second:?}");
            }
        }
    }
}

/// Whether none of a file lies in the page cache any more; waits for the disk to have it.
#[cfg(all(target_os = "linux", feature = "cli"))]
fn evict(file: &File) -> bool {
    use rustix::fs::{Advice, fadvise};
    use rustix::io::{ReadWriteFlags, preadv2};

    let is_there = |at| {
        let mut byte = [0];
        let mut slices = [io::IoSliceMut::new(&mut byte)];
        preadv2(file, &mut slices, at, ReadWriteFlags::NOWAIT).is_ok()
    };
    file.sync_all().unwrap();
    // What the kernel still holds elsewhere it forgets only when it is told again.
    (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        fadvise(file, 0, None, Advice::DontNeed).unwrap();
        !(0..5).any(|mib| is_there(mib << 20))
    })
}

#[cfg(all(target_os = "linux", feature = "cli"))]
#[test]
fn what_is_not_in_the_page_cache_is_read_by_the_blocking_pool() {
    let file = call();
    let embedded = Embedded::start(file.path(), &[0]);
    let whole = || {
        let mut client = Client::connect(embedded.addr);
        client.ask("GET", "/", &[]);
        client.head();
        assert!(client.exactly(LENGTH) == *PATTERN);
        embedded.threads.load(Ordering::SeqCst)
    };
    assert_eq!(whole(), 0);
    if !evict(file.as_file()) {
        let hint = "have TMPDIR name a directory on a disk";
        crate::harness::skips("a file system that evicts", hint);
        return;
    }
    assert!(whole() > 0);
    assert_eq!(embedded.seen.copied.load(Ordering::SeqCst), 0);
}
