//! The public file body and writer, under each way in which hyper could look at a segment.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonearm::body::FileBody;
use tonearm::respond::Piece;
use tonearm::select::ByteRange;
use tonearm::server::ZeroCopyStream;

use crate::harness::raw::Client;
use crate::harness::{Server, pattern};

const LENGTH: usize = 1_000_000;

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

/// A writer that hides what the one below it can do.
struct Plain(ZeroCopyStream);

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// One connection of a hyper server that is not tonearm's, answering every request with the file.
async fn serve(
    stream: TcpStream,
    file: Arc<tempfile::NamedTempFile>,
    way: Way,
    copied: Arc<AtomicU64>,
) {
    let stream = ZeroCopyStream::new(stream);
    let lane = stream.lane().unwrap();
    let seen = lane.clone();
    let service = service_fn(move |_: Request<Incoming>| {
        let file = File::open(file.path()).unwrap();
        let whole = ByteRange {
            first: 0,
            last: u64::try_from(LENGTH - 1).unwrap(),
        };
        let lane = (way != Way::NoLane).then(|| lane.clone());
        let body = FileBody::of_file(file, vec![Piece::Stored(whole)])
            .unwrap()
            .on_lane(lane);
        async move { Ok::<_, Infallible>(Response::new(body)) }
    });
    let mut http1 = hyper::server::conn::http1::Builder::new();
    http1.writev(true);
    // A client that has what it wants goes away.
    let _ = match way {
        Way::Lane | Way::NoLane => http1.serve_connection(TokioIo::new(stream), service).await,
        Way::PipelineFlush => {
            http1.pipeline_flush(true);
            http1.serve_connection(TokioIo::new(stream), service).await
        }
        Way::NotVectored => {
            let http1 = hyper::server::conn::http1::Builder::new();
            http1
                .serve_connection(TokioIo::new(Plain(stream)), service)
                .await
        }
        Way::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await
        }
    };
    copied.store(seen.copied(), Ordering::SeqCst);
}

async fn get(addr: SocketAddr, way: Way) -> Vec<u8> {
    let stream = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let request = Request::get("http://localhost/").header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let response = if way == Way::Http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    response
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes()
        .to_vec()
}

#[test]
fn whichever_way_hyper_writes_the_bytes_are_the_files() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let file = Arc::new(tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), pattern(LENGTH)).unwrap();
    for (way, copies) in [
        (Way::Lane, false),
        (Way::NoLane, false),
        (Way::PipelineFlush, true),
        (Way::NotVectored, true),
        (Way::Http2, true),
    ] {
        let copied = Arc::new(AtomicU64::new(0));
        let bytes = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = tokio::spawn(get(listener.local_addr().unwrap(), way));
            let (stream, _) = listener.accept().await.unwrap();
            let served = tokio::spawn(serve(stream, Arc::clone(&file), way, Arc::clone(&copied)));
            let bytes = client.await.unwrap();
            tokio::time::timeout(Duration::from_secs(10), served)
                .await
                .unwrap()
                .unwrap();
            bytes
        });
        assert!(bytes == pattern(LENGTH), "{way:?}");
        let whole = u64::try_from(LENGTH).unwrap();
        let copied = copied.load(Ordering::SeqCst);
        assert_eq!(copied >= whole, copies, "{way:?} copied {copied} bytes");
    }
}

#[test]
fn a_placeholder_on_another_lane_than_its_writers_ends_the_connection() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pattern(LENGTH)).unwrap();
    let received = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut client = Client::connect(addr);
            client.ask("GET", "/", &[]);
            client.rest()
        });
        let (stream, _) = listener.accept().await.unwrap();
        let other = ZeroCopyStream::new(TcpStream::connect(addr).await.unwrap())
            .lane()
            .unwrap();
        let whole = ByteRange {
            first: 0,
            last: u64::try_from(LENGTH - 1).unwrap(),
        };
        let service = service_fn(|_: Request<Incoming>| {
            let body =
                FileBody::of_file(File::open(file.path()).unwrap(), vec![Piece::Stored(whole)])
                    .unwrap();
            let body = body.on_lane(Some(other.clone()));
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

/// What a client does with one connection.
#[derive(Debug, Clone)]
struct Visit {
    /// First and last byte of each pipelined request.
    ranges: Vec<(usize, usize)>,
    /// Bytes taken at a time, with a pause after so many of them.
    gulp: usize,
    pause_every: usize,
    /// Leaves after so much of all responses, in percent.
    until: usize,
    receive_buffer: usize,
}

fn visit() -> impl Strategy<Value = Visit> {
    let range = (0..LENGTH, 0..LENGTH).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let small = (0..LENGTH - 20_000, 0..20_000_usize).prop_map(|(a, n)| (a, a + n));
    (
        proptest::collection::vec(prop_oneof![range, small], 1..5),
        prop_oneof![1_000..5_000_usize, 60_000..400_000_usize],
        1..40_usize,
        prop_oneof![3 => Just(100_usize), 1 => 1..100_usize],
        prop_oneof![Just(16_384_usize), Just(262_144), Just(1 << 20)],
    )
        .prop_map(|(ranges, gulp, pause_every, until, receive_buffer)| Visit {
            ranges,
            gulp,
            pause_every,
            until,
            receive_buffer,
        })
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
            std::thread::sleep(Duration::from_micros(300));
        }
    }
    taken
}

fn pay(server: &Server, target: &str, visit: &Visit) {
    let mut client = server.connect();
    client.set_receive_buffer(visit.receive_buffer);
    for (first, last) in &visit.ranges {
        client.ask("GET", target, &[&format!("Range: bytes={first}-{last}")]);
    }
    let whole = pattern(LENGTH);
    let all: usize = visit
        .ranges
        .iter()
        .map(|(first, last)| last - first + 1)
        .sum();
    let mut left = all * visit.until / 100;
    for (first, last) in &visit.ranges {
        let head = client.head();
        assert_eq!(head.status, 206);
        let expect = &whole[*first..=*last];
        let length = expect.len().min(left);
        assert!(
            take(&mut client, length, visit) == expect[..length],
            "{visit:?}"
        );
        left -= length;
        if length < expect.len() {
            return;
        }
    }
}

#[test]
fn any_reader_gets_the_bytes_that_were_asked_for() {
    let server = Server::start();
    server.put("call.wav", LENGTH);
    let target = server.sign("call.wav");
    let config = ProptestConfig {
        cases: 60,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(visits in proptest::collection::vec(visit(), 1..4))| {
        std::thread::scope(|scope| {
            for visit in &visits {
                scope.spawn(|| pay(&server, &target, visit));
            }
        });
    });
}
