//! What a request allocates, counted: a ranged GET of a signed URL whose recording is held open, by the
//! whole server, on a connection that is kept. A binary of its own, since all of it is counted: no other
//! test may run beside.

#![cfg(test)]

use std::alloc::System;
use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloc_tracker::{Allocator, Session};
use tokio_util::sync::CancellationToken;
use tonearm::app::{App, Resolver};
use tonearm::metrics::Metrics;
use tonearm::recording::UnixTime;
use tonearm::server::{self, Listener, Settings, Share};
use tonearm::sign::{Audience, Claims, Key, Keyring, Policy, Window, mint};
use tonearm::store::{Local, Store};

#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator::system();

/// Most allocations of one request, its response and what is counted and logged of it.
const MOST: u64 = 6;
/// Requests that are counted together, so that what is looked up anew once a second is lost in them.
const REQUESTS: u64 = 2000;

const MEDIA: &str = "/media/app-101/test-account-01/test-call-01.wav";
const LENGTH: usize = 1 << 20;
const RANGE: usize = 64 << 10;

#[test]
fn a_warm_request_allocates_little() {
    let root = tempfile::tempdir().unwrap();
    put_recording(root.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stop = CancellationToken::new();
    let server = start(root.path(), listener, stop.clone());
    let target = sign();
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: calls.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
        Accept: */*\r\nOrigin: null\r\nRange: bytes=262144-327679\r\n\r\n"
    );
    let mut buffer = vec![0; 2 * RANGE];
    let mut ask = |times| {
        for _ in 0..times {
            client.write_all(request.as_bytes()).unwrap();
            read_response(&mut client, &mut buffer);
        }
    };
    // What is opened and filled once.
    ask(10);
    let session = Session::new().no_file().no_stdout();
    let operation = session.operation("a request");
    let span = operation.measure_process().iterations(REQUESTS);
    ask(REQUESTS);
    drop(span);
    let total = session.to_report();
    let total: u64 = total
        .operations()
        .map(|(_, one)| one.total_allocations_count())
        .sum();
    let each = total / REQUESTS;
    println!("{each} allocations a request ({total} of {REQUESTS} requests)");
    assert!(
        each <= MOST,
        "{each} allocations a request, more than {MOST}"
    );
    // One that counts nothing would hold any bound.
    assert!(total > 0);
    drop(client);
    stop.cancel();
    server.join().unwrap();
}

/// Dated well in the past: a fresh file may still be written to, and is copied.
fn put_recording(root: &Path) {
    let directory = root.join("app-101/test-account-01");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("test-call-01.wav");
    std::fs::write(&path, vec![1; LENGTH]).unwrap();
    let modified = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(modified).unwrap();
}

fn keyring() -> Keyring {
    let secret = b"tonearm-test-key-0123456789abcdef";
    let key = Key::new("k1", secret, Window::default(), Audience::Origin).unwrap();
    Keyring::new(vec![key], HashSet::new(), &Policy::default()).unwrap()
}

fn sign() -> String {
    let now = server::now();
    let claims = Claims::until(UnixTime(now.0 + 3600));
    let minted = mint(
        MEDIA,
        &claims,
        "calls.example",
        &keyring(),
        &Policy::default(),
        now,
    );
    minted.unwrap().target
}

/// The server as one worker runs it.
fn start(
    root: &Path,
    listener: TcpListener,
    stop: CancellationToken,
) -> std::thread::JoinHandle<()> {
    let app = Arc::new(App::new(
        Store::Local(Arc::new(Local::open(root).unwrap())),
        keyring(),
        Policy::default(),
        Resolver::default(),
        Arc::new(Metrics::default()),
    ));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = Listener::from(listener);
        let run = server::run(listener, app, Settings::default(), stop, Share::alone());
        runtime.block_on(run).unwrap();
    })
}

/// Takes one response, a range, without allocating anything.
fn read_response(client: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    loop {
        let count = client.read(&mut buffer[filled..]).unwrap();
        assert!(count > 0, "the connection has ended");
        filled += count;
        let head = buffer[..filled].windows(4).position(|at| at == b"\r\n\r\n");
        if head.is_some_and(|at| at + 4 + RANGE == filled) {
            break;
        }
    }
    assert!(buffer.starts_with(b"HTTP/1.1 206 "));
}
