//! Files that change while they are sent: never padded, never spliced. And a fault of the program's own.

use std::fs::File;
use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use tonearm::body::FileBody;
use tonearm::server::{self, Arrival, Drained, Handler, Settings, Share};

use crate::harness::raw::Client;
use crate::harness::{Server, pattern};

/// Larger than all the socket buffers between the two ends, so that most of it is read from the
/// file after the client has read the head.
const LARGE: usize = 64 << 20;

/// A client that has read the head and a little more of a response with so many bytes.
fn begin(server: &Server, fields: &[&str]) -> (Client, usize, Vec<u8>) {
    let target = server.sign("call.wav");
    let mut client = server.connect();
    client.ask("GET", &target, fields);
    let head = client.head();
    let length = head.field("content-length").unwrap().parse().unwrap();
    let begun = client.exactly(100_000);
    (client, length, begun)
}

fn large() -> Server {
    let server = Server::start();
    server.put("call.wav", LARGE);
    server
}

fn open(server: &Server) -> File {
    let mut options = File::options();
    options.write(true);
    options.open(server.file("call.wav")).unwrap()
}

/// Checks that what comes until the connection ends is the beginning of `whole`, and not all.
fn check_cut(server: &Server, mut client: Client, mut begun: Vec<u8>, whole: &[u8]) {
    begun.extend(client.rest());
    assert!(begun.len() < whole.len(), "nothing is missing");
    assert!(
        whole.starts_with(&begun),
        "other bytes among the first {}",
        begun.len()
    );
    server.wait_for_metric("tonearm_bodies_total{outcome=\"failed\"} 1");
}

#[test]
fn a_file_replaced_by_rename_is_sent_whole() {
    let server = large();
    let (mut client, length, begun) = begin(&server, &[]);
    let new = server.file("call.wav.new");
    std::fs::write(&new, vec![b'x'; LARGE]).unwrap();
    std::fs::rename(new, server.file("call.wav")).unwrap();
    let rest = client.exactly(length - begun.len());
    assert!([begun, rest].concat() == pattern(LARGE), "two versions");
    // The next request gets the new one, with a validator of its own.
    let target = server.sign("call.wav");
    let next = client.get(&target, &["Range: bytes=5-9"]);
    assert_eq!((next.status, next.text()), (206, "xxxxx".into()));
}

#[test]
fn a_range_of_the_old_file_is_not_joined_with_the_new() {
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    let first = server.get(&target, &["Range: bytes=0-499"]);
    let if_range = format!("If-Range: {}", first.field("etag").unwrap());
    std::fs::write(server.file("call.wav.new"), vec![b'x'; 1000]).unwrap();
    std::fs::rename(server.file("call.wav.new"), server.file("call.wav")).unwrap();
    let second = server.get(&target, &["Range: bytes=500-", &if_range]);
    assert_eq!((second.status, second.body), (200, vec![b'x'; 1000]));
}

#[test]
fn a_removed_file_is_sent_whole() {
    let server = large();
    let (mut client, length, begun) = begin(&server, &[]);
    std::fs::remove_file(server.file("call.wav")).unwrap();
    let rest = client.exactly(length - begun.len());
    assert!([begun, rest].concat() == pattern(LARGE), "other bytes");
    let target = server.sign("call.wav");
    assert_eq!(client.get(&target, &[]).status, 404);
}

#[test]
fn a_truncated_file_ends_the_connection() {
    for left in [0, LARGE / 2, LARGE - 4096] {
        let server = large();
        let (client, _, begun) = begin(&server, &[]);
        open(&server).set_len(u64::try_from(left).unwrap()).unwrap();
        check_cut(&server, client, begun, &pattern(LARGE));
    }
}

#[test]
fn a_file_truncated_within_a_page_ends_the_connection() {
    for left in [1, 1 << 20, LARGE - 1] {
        let server = large();
        let (mut client, length, begun) = begin(&server, &[]);
        open(&server).set_len(u64::try_from(left).unwrap()).unwrap();
        // The kernel clears what it cuts off of a folio, also where it is still to pass that folio
        // on: the cut is what tells the client.
        assert!(
            begun.len() + client.rest().len() < length,
            "nothing is missing"
        );
        server.wait_for_metric("tonearm_bodies_total{outcome=\"failed\"} 1");
    }
}

#[test]
fn a_file_rewritten_in_place_ends_the_connection() {
    let server = large();
    let (mut client, length, begun) = begin(&server, &[]);
    let other = vec![b'x'; 1 << 20];
    let file = open(&server);
    for at in 0..u64::try_from(LARGE >> 20).unwrap() {
        file.write_all_at(&other, at << 20).unwrap();
    }
    // What the kernel had not yet passed on is the page cache's, and so the new file's: the cut is
    // what tells the client.
    assert!(
        begun.len() + client.rest().len() < length,
        "nothing is missing"
    );
    server.wait_for_metric("tonearm_bodies_total{outcome=\"failed\"} 1");
}

#[test]
fn a_truncated_file_ends_a_multipart_too() {
    let server = large();
    let ranges = "Range: bytes=0-29999999,40000000-59999999";
    let whole = server.get(&server.sign("call.wav"), &[ranges]);
    assert_eq!(whole.status, 206);
    let (client, length, begun) = begin(&server, &[ranges]);
    assert_eq!(length, whole.body.len());
    open(&server).set_len(20_000_000).unwrap();
    check_cut(&server, client, begun, &whole.body);
}

#[test]
fn others_are_served_after_a_failed_body() {
    let server = large();
    server.put("other.wav", 1000);
    let (client, _, begun) = begin(&server, &[]);
    open(&server).set_len(0).unwrap();
    check_cut(&server, client, begun, &pattern(LARGE));
    let other = server.get(&server.sign("other.wav"), &[]);
    assert_eq!((other.status, other.body), (200, pattern(1000)));
    // And so is what is left of the file.
    let now_empty = server.get(&server.sign("call.wav"), &[]);
    assert_eq!((now_empty.status, now_empty.body.len()), (200, 0));
}

/// A recording that is still being written is copied, so that nothing its writer does can reach
/// what waits in the socket.
#[test]
fn a_young_file_truncated_within_a_page_is_exact_to_the_cut() {
    for left in [1, 100_001, 1 << 20, LARGE - 1] {
        let server = large();
        open(&server)
            .set_modified(std::time::SystemTime::now())
            .unwrap();
        let (client, _, begun) = begin(&server, &[]);
        open(&server).set_len(u64::try_from(left).unwrap()).unwrap();
        check_cut(&server, client, begun, &pattern(LARGE));
    }
}

#[test]
fn a_young_file_rewritten_in_place_is_exact_to_the_cut() {
    let server = large();
    open(&server)
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    let (client, _, begun) = begin(&server, &[]);
    let file = open(&server);
    for at in 0..u64::try_from(LARGE >> 20).unwrap() {
        file.write_all_at(&vec![b'x'; 1 << 20], at << 20).unwrap();
    }
    check_cut(&server, client, begun, &pattern(LARGE));
}

/// A fault of the program's own.
struct Panicking;

impl Handler for Panicking {
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _: Arrival,
    ) -> impl Future<Output = Response<FileBody>> + Send + Unpin {
        assert_ne!(request.uri().path(), "/panic", "on purpose");
        ready(Response::new(FileBody::new(Vec::new(), None)))
    }
}

impl Panicking {
    /// Serves at this address until it is stopped, or dropped.
    fn serve(
        shutdown: CancellationToken,
    ) -> (SocketAddr, impl Future<Output = io::Result<Drained>> + Send) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (handler, settings) = (Arc::new(Self), Settings::default());
        let serving = server::run(listener, handler, settings, shutdown, Share::alone());
        (addr, serving)
    }
}

#[test]
fn a_panic_ends_its_connection_alone() {
    let shutdown = CancellationToken::new();
    let (addr, serving) = Panicking::serve(shutdown.clone());
    let server = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(serving).unwrap()
    });
    let mut other = Client::connect(addr);
    let ask = |client: &mut Client| {
        client.ask("GET", "/", &[]);
        assert_eq!(client.head().status, 200);
    };
    ask(&mut other);
    for _ in 0..3 {
        let mut client = Client::connect(addr);
        client.ask("GET", "/panic", &[]);
        assert!(client.is_closed());
        ask(&mut other);
    }
    ask(&mut Client::connect(addr));
    drop(other);
    shutdown.cancel();
    assert_eq!(server.join().unwrap().cut, 0);
}

#[tokio::test]
async fn a_server_that_is_dropped_cuts_its_connections() {
    let (addr, serving) = Panicking::serve(CancellationToken::new());
    let mut client = tokio::net::TcpStream::connect(addr).await.unwrap();
    let asked = async {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(request).await.unwrap();
        assert!(client.read(&mut [0; 1024]).await.unwrap() > 0);
    };
    tokio::select! {
        _ = serving => panic!("nobody has stopped it"),
        () = asked => {}
    }
    let mut end = Vec::new();
    let ends = tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut end));
    ends.await.unwrap().unwrap();
    assert!(end.is_empty());
}
