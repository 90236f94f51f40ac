//! Whole requests, on a socket of a server that takes recordings in. Input: what a client sends
//! before it is silent; `{url}` stands for a signed target, `{token}` for a token that is known.
//!
//! * Whatever is sent, the connection ends, and nothing panics on any thread.
//! * An answer is one of HTTP's, and never the server's own failure.
#![no_main]

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tokio_util::sync::CancellationToken;
use tonearm::app::{App, Resolver};
use tonearm::ingest::{self, Ingest, Tokens};
use tonearm::metrics::Metrics;
use tonearm::recording::UnixTime;
use tonearm::server::{self, Settings, Share};
use tonearm::sign::{Audience, Claims, Key, Keyring, Policy, Window, mint};
use tonearm::store::{Local, Store};

const TOKEN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const TOKENS: &str = "pbx 3ba3f5f43b92602683c19aee62a20342b084dd5971ddd33808d81a328879a547\n";
/// Nothing that is asked for here takes so long: header and idle timers are shorter.
const PATIENCE: Duration = Duration::from_secs(20);

static PLACE: LazyLock<(SocketAddr, String)> = LazyLock::new(serve);

fuzz_target!(|data: &[u8]| {
    let (address, url) = &*PLACE;
    let bytes = replaced(&replaced(data, b"{url}", url), b"{token}", TOKEN);
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that has seen enough closes over the rest.
    let sent = client.write_all(&bytes);
    let _ = client.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let read = client.read_to_end(&mut answer);
    if let Err(error) = &read {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        assert!(sent.is_err() || bytes.len() > 1000, "a reset over little");
    }
    check(&answer);
    // By a reset, so that no port is kept for a while.
    let closing = rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO));
    closing.unwrap();
});

fn check(answer: &[u8]) {
    // Nothing, frames of HTTP/2, or a status line.
    let Some(rest) = answer.strip_prefix(b"HTTP/1.") else {
        assert!(answer.is_empty() || answer[0] == 0, "{:?}", answer.escape_ascii());
        return;
    };
    let status: u16 = std::str::from_utf8(&rest[2..5]).unwrap().parse().unwrap();
    assert!((100..500).contains(&status) || matches!(status, 501 | 505), "{status}");
}

fn replaced(bytes: &[u8], name: &[u8], value: &str) -> Vec<u8> {
    let Some(at) = bytes.windows(name.len()).position(|window| window == name) else {
        return bytes.to_owned();
    };
    [&bytes[..at], value.as_bytes(), &bytes[at + name.len()..]].concat()
}

fn serve() -> (SocketAddr, String) {
    // Goes with the directory of temporary files: a fuzzer ends without a word.
    let root = tempfile::tempdir().unwrap().keep();
    std::fs::create_dir_all(root.join("1/2")).unwrap();
    std::fs::write(root.join("1/2/call.wav"), [7; 1000]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let app = Arc::new(app(&root));
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let settings = Settings {
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(5),
            ..Settings::default()
        };
        let run = server::run(listener, app, settings, CancellationToken::new(), Share::alone());
        runtime.block_on(run).unwrap();
    });
    let now = server::now();
    let claims = Claims::until(UnixTime(now.0 + 3600));
    let path = "/media/1/2/call.wav";
    let minted = mint(path, &claims, "*", &ring(), &Policy::default(), now);
    (address, minted.unwrap().target)
}

fn ring() -> Keyring {
    let secret = b"tonearm-test-key-0123456789abcdef";
    let key = Key::new("k26a", secret, Window::default(), Audience::Origin).unwrap();
    Keyring::new(vec![key], HashSet::new(), &Policy::default()).unwrap()
}

fn app(root: &Path) -> App {
    let store = Store::Local(Arc::new(Local::open(root).unwrap()));
    let settings = ingest::Settings {
        max_size: 64 * 1024,
        stall_timeout: Duration::from_secs(5),
        ..ingest::Settings::default()
    };
    let ingest = Ingest::new(store.clone(), Tokens::parse(TOKENS).unwrap(), settings);
    let (policy, resolver) = (Policy::default(), Resolver::default());
    App::new(store, ring(), policy, resolver, Arc::new(Metrics::default())).with_ingest(ingest)
}
