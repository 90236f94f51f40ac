//! A server of this process on a port of its own, over a store of its own.

#[cfg(feature = "cli")]
pub mod acme;
#[cfg(feature = "object")]
pub mod bucket;
pub mod frames;
pub mod http2;
pub mod multipart;
#[cfg(feature = "cli")]
pub mod program;
pub mod raw;
#[cfg(feature = "cli")]
pub mod rehearsal;
pub mod signer;
#[cfg(feature = "tls")]
pub mod tls;

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;
use tonearm::app::{App, Forwarding, Resolver};
use tonearm::ingest::{self, Ingest, Tokens};
use tonearm::metrics::Metrics;
use tonearm::recording::UnixTime;
use tonearm::server::{self, Drained, Listener, Settings, Share};
use tonearm::sign::{Audience, Claims, Key, Keyring, Policy, Window, mint};
use tonearm::store::{Local, Store};

use self::raw::{Client, Response};

/// When every recording of [`Server::put`] was last modified, in Unix seconds.
pub const MODIFIED: u64 = 1_700_000_000;
/// The same as an HTTP-date.
pub const MODIFIED_DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

/// App and account that every recording of [`Server::put`] lies under.
pub const OWNER: &str = "app-101/test-account-01";

/// Longest wait for anything that should happen soon.
#[cfg(any(feature = "cli", feature = "object"))]
pub const PATIENCE: Duration = Duration::from_secs(20);
#[cfg(any(feature = "cli", feature = "object"))]
const PAUSE: Duration = Duration::from_millis(5);

/// Asks again and again until there is something; the test fails when there never is.
#[cfg(any(feature = "cli", feature = "object"))]
pub fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if let Some(found) = ask() {
            return found;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("not within {PATIENCE:?}: {what}");
}

#[expect(clippy::disallowed_methods, reason = "a test's own deadline")]
fn instant() -> Instant {
    Instant::now()
}

/// How long something takes.
pub fn seconds_of(work: impl FnOnce()) -> f64 {
    let begin = instant();
    work();
    begin.elapsed().as_secs_f64()
}

pub struct Server {
    pub addr: SocketAddr,
    pub metrics: Arc<Metrics>,
    root: tempfile::TempDir,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<Drained>>,
}

/// What a test may want otherwise.
#[derive(Default)]
pub struct Setup {
    pub resolver: Resolver,
    pub settings: Settings,
    /// The server's keys, where they are not [`keyring`].
    pub keyring: Option<Keyring>,
    /// Most responses under way; 0 is any number.
    pub most_responses: usize,
    /// What may be brought, by who shows [`TOKEN`].
    pub ingest: Option<ingest::Settings>,
    /// What is spoken before HTTP.
    pub front: Option<Box<dyn FnOnce(Listener) -> Listener + Send>>,
    /// Whose word on a client's address is taken.
    pub forwarding: Forwarding,
    /// The server's store, where it is not a directory of its own.
    pub store: Option<Store>,
}

/// The field that lets recordings be brought.
pub const TOKEN: &str = "Authorization: Bearer aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The line of its tokens' file.
pub const TOKEN_LINE: &str =
    "pbx 3ba3f5f43b92602683c19aee62a20342b084dd5971ddd33808d81a328879a547\n";

pub fn keyring() -> Keyring {
    let secret: Vec<u8> = (0..32).collect();
    let key = Key::new("k1", &secret, Window::default(), Audience::Origin).unwrap();
    Keyring::new(vec![key], HashSet::new(), &Policy::default()).unwrap()
}

/// The bytes of a recording made by [`Server::put`]: 0 to 250, again and again. A prime, so that no
/// two blocks of a power of two are alike.
pub fn pattern(length: usize) -> Vec<u8> {
    let period: Vec<u8> = (0..251).collect();
    let mut bytes = period.repeat(length.div_ceil(251));
    bytes.truncate(length);
    bytes
}

impl Server {
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join(OWNER)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::default());
        let local = || Store::Local(Arc::new(Local::open(root.path()).unwrap()));
        let store = setup.store.unwrap_or_else(local);
        let mut app = App::new(
            store.clone(),
            setup.keyring.unwrap_or_else(keyring),
            Policy::default(),
            setup.resolver,
            Arc::clone(&metrics),
        )
        .with_most_responses(setup.most_responses)
        .with_forwarding(setup.forwarding);
        if let Some(settings) = setup.ingest {
            let tokens = Tokens::parse(TOKEN_LINE).unwrap();
            app = app.with_ingest(Ingest::new(store, tokens, settings));
        }
        let app = Arc::new(app);
        let mut listener = Listener::from(listener);
        if let Some(front) = setup.front {
            listener = front(listener);
        }
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let run = server::run(listener, app, setup.settings, stop, Share::alone());
            runtime.block_on(run).unwrap()
        });
        Self {
            addr,
            metrics,
            root,
            shutdown,
            thread: Some(thread),
        }
    }

    /// A server that takes recordings in.
    pub fn taking_in() -> Self {
        Self::with(Setup {
            ingest: Some(ingest::Settings::default()),
            ..Setup::default()
        })
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Where a file of [`OWNER`] lies.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.path().join(OWNER).join(name)
    }

    /// Puts a recording of `length` patterned bytes into the store, dated well in the past.
    pub fn put(&self, name: &str, length: usize) {
        self.put_bytes(name, &pattern(length));
    }

    pub fn put_bytes(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.file(name), bytes).unwrap();
        self.date(name, UNIX_EPOCH + Duration::from_secs(MODIFIED));
    }

    /// Sets a recording's modification time.
    pub fn date(&self, name: &str, modified: SystemTime) {
        let file = std::fs::File::options()
            .write(true)
            .open(self.file(name))
            .unwrap();
        file.set_modified(modified).unwrap();
    }

    /// A signed target for a file of [`OWNER`], an hour long: so long that max-age stands still.
    pub fn sign(&self, name: &str) -> String {
        self.sign_with(name, |claims| claims)
    }

    pub fn sign_with(&self, name: &str, change: impl FnOnce(Claims) -> Claims) -> String {
        let now = server::now();
        let claims = change(Claims::until(UnixTime(now.0 + 3600)));
        let path = format!("/media/{OWNER}/{name}");
        let host = self.addr.to_string();
        let minted = mint(&path, &claims, &host, &keyring(), &Policy::default(), now);
        minted.unwrap().target
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    /// `GET target` with further field lines, on a connection of its own.
    pub fn get(&self, target: &str, fields: &[&str]) -> Response {
        self.ask("GET", target, fields)
    }

    pub fn ask(&self, method: &str, target: &str, fields: &[&str]) -> Response {
        let mut client = self.connect();
        client.ask(method, target, fields);
        client.response(method)
    }

    /// Waits until the metrics have this line.
    pub fn wait_for_metric(&self, line: &str) {
        let deadline = instant() + Duration::from_secs(10);
        while !self.metrics.exposition().lines().any(|found| found == line) {
            assert!(
                instant() < deadline,
                "no {line:?} in\n{}",
                self.metrics.exposition()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Asks the server to stop, and waits until it has.
    pub fn stop(mut self) -> Drained {
        self.shutdown.cancel();
        self.thread.take().unwrap().join().unwrap()
    }

    /// Asks the server to stop, and goes on.
    pub fn begin_stop(&self) {
        self.shutdown.cancel();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            // A failed test is already telling; its server is not to tell over it.
            let _ = thread.join();
        }
    }
}

/// Whether a program of the system is there, or [`skips`] aloud.
#[cfg(feature = "cli")]
pub fn has_peer(program: &str, install: &str) -> bool {
    let found = std::process::Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    found || skips(program, install)
}

/// Says what a test has to go without, and the command that brings it. Under
/// `TONEARM_REQUIRE_PEERS=1` the test fails instead.
#[cfg(feature = "cli")]
pub fn skips(missing: &str, install: &str) -> bool {
    use std::io::Write as _;

    let required = std::env::var("TONEARM_REQUIRE_PEERS").is_ok_and(|value| value == "1");
    assert!(!required, "{missing} is required and missing: {install}");
    // Not by eprintln!, whose output is shown of failed tests only.
    let line = format!("SKIPPED: {missing} is missing: {install}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    false
}
