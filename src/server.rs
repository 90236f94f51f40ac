//! Connections: accept, limits, timers, and an end that cuts nobody off.
//!
//! hyper without a framework: HTTP/1.1 and HTTP/2 with prior knowledge on one port. Decides when a
//! connection begins and ends; what is answered on it is the [`Handler`]'s.

mod connection;
mod frames;
mod front;
mod http2;
mod lines;
mod proxy;
mod pulse;
mod share;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod turns;
mod unparsed;
mod vigil;
mod wire;
mod zero_copy;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::connection::Common;
pub use self::front::{Cut, Listener};
pub use self::proxy::{Decoded, Proxies, decode};
pub use self::share::Share;
use self::share::{Door, Kept};
#[cfg(feature = "tls")]
pub use self::tls::{Tls, TlsError};
use self::turns::Turns;
use self::vigil::Stop;
pub use self::zero_copy::ZeroCopyStream;
use crate::body::{FileBody, Lane};
use crate::recording::UnixTime;
use crate::respond::http_date;

/// Longest pause after an accept that failed for want of something.
const MAX_PAUSE: Duration = Duration::from_millis(500);
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// Who has run out of descriptors accepts again when so many can be had at once. Taken one by one as
/// they come free, they would be those that the admin listener's connections give back, and those that
/// files are opened with.
const ROOM: usize = 16;
/// How often that is looked at.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(100);

/// What a listener allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Longest time from accept, or from the first byte of a later request, to the end of its head.
    pub header_timeout: Duration,
    /// Longest time that a connection is kept between requests.
    pub idle_timeout: Duration,
    /// Longest time that a reader may take less than [`least_pace`](Self::least_pace).
    pub write_timeout: Duration,
    /// Slowest reader, in bytes a second.
    pub least_pace: u64,
    /// Most connections at a time, more wait to be accepted; 0 is any number.
    pub connections: usize,
    /// Most of them from one address, or one /64 of IPv6; 0 is any number.
    pub connections_per_address: usize,
    /// Longest time that running responses get to finish after a stop was asked for.
    pub drain: Duration,
    /// Descriptors kept for connections of this listener, for when there are no others.
    pub reserve: usize,
}

impl Settings {
    /// Those of a server that knows nothing of its clients.
    pub const DEFAULT: Self = Self {
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_mins(1),
        write_timeout: Duration::from_secs(30),
        least_pace: 256,
        connections: 0,
        connections_per_address: 0,
        drain: Duration::from_secs(30),
        reserve: 0,
    };
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A request's circumstances.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The other end of the connection, or whom a trusted proxy's header named.
    pub peer: SocketAddr,
    /// Whose request it is, as far as the connection tells.
    pub client: IpAddr,
    /// Whether it came inside TLS.
    pub is_secure: bool,
    /// When the request was complete, by the calendar.
    pub now: UnixTime,
    /// The same by a clock that never steps.
    pub at: Instant,
    /// The lane of a connection that can send files without copying them.
    pub lane: Option<Lane>,
    /// A Content-Length has stood on this connection beside a Transfer-Encoding, or where it cannot
    /// be told what it belongs to (HTTP/1.1).
    pub content_length_seen: bool,
    /// A request target with a fragment has stood on this connection (HTTP/1.1).
    pub fragment_seen: bool,
}

/// Answers requests. Infallible: what goes wrong has an answer too.
pub trait Handler: Send + Sync + 'static {
    /// The response to `request`. What is known at once needs no room on the heap (`std::future::ready`); what
    /// waits for something is boxed here.
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        arrival: Arrival,
    ) -> impl Future<Output = Response<FileBody>> + Send + Unpin;

    /// A connection was accepted.
    fn opened(&self) {}

    /// It has ended.
    fn closed(&self) {}

    /// A TLS handshake came to its end, by version and kind.
    fn shook_hands(&self, _version: &'static str, _kind: &'static str) {}

    /// A connection was ended for a reason of its own.
    fn cut(&self, _reason: Cut) {}
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still busy at the deadline and were cut.
    pub cut: usize,
}

/// Serves this worker's share of `listener` until `shutdown`; then accepts no more, closes idle connections, lets running
/// responses finish until the drain deadline, and cuts what is left. Dropped before that, it cuts all of them.
///
/// # Errors
/// Only where the listener cannot be used at all.
pub async fn run<H: Handler>(
    listener: impl Into<Listener>,
    handler: Arc<H>,
    settings: Settings,
    shutdown: CancellationToken,
    share: Share,
) -> io::Result<Drained> {
    let Listener { socket, front } = listener.into();
    tune(&socket)?;
    socket.set_nonblocking(true)?;
    let reserve = Arc::new(Reserve::new(&socket, settings.reserve)?);
    let listener = TcpListener::from_std(socket)?;
    let (door, mut inbox) = share.open();
    let mut connections = JoinSet::new();
    let turns = Arc::new(Turns::default());
    let serving = Arc::clone(&turns);
    let _serving = AbortOnDropHandle::new(tokio::spawn(async move { serving.serve().await }));
    let all = Arc::new(Common {
        handler,
        settings,
        front,
        turns,
        stop: Stop::default(),
    });
    let serve = |kept| serve(kept, &all, &reserve);
    let (mut pause, mut exhausted) = (MIN_PAUSE, false);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            handed = inbox.handed() => handed.map(Some),
            accepted = accept(&listener, &door, &settings, exhausted) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(kept) => {
                (pause, exhausted) = (MIN_PAUSE, false);
                if let Some(kept) = kept {
                    connections.spawn(serve(kept));
                }
            }
            Err(error) if is_of_one_connection(&error) || reserve.give() => {}
            // Out of descriptors or memory: trying again at once would only spin.
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept");
                let _ = tokio::time::timeout(pause, shutdown.cancelled()).await;
                pause = (pause * 2).min(MAX_PAUSE);
                exhausted = settings.reserve == 0;
            }
        }
    }
    all.stop.now();
    drop(listener);
    reserve.held().clear();
    // What others accepted for this worker just before they heard of the stop.
    while let Some(handed) = inbox.last(&door).await {
        connections.spawn(serve(handed));
    }
    Ok(drain(connections, settings.drain).await)
}

/// Serves a connection to its end.
fn serve<H: Handler>(
    (stream, peer, place): Kept,
    all: &Arc<Common<H>>,
    reserve: &Arc<Reserve>,
) -> impl Future<Output = ()> + use<H> {
    // On the heap, since an async block has room for what it was given and for what it waits for.
    let connection = Box::pin(connection::serve(stream, peer, place, Arc::clone(all)));
    let reserve = Arc::clone(reserve);
    async move {
        connection.await;
        // At once, before others take what has become free.
        reserve.fill();
    }
}

/// Lets connections finish, cuts what is left at the deadline.
async fn drain(mut connections: JoinSet<()>, deadline: Duration) -> Drained {
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(deadline, all).await;
    // Who has ended meanwhile was not cut.
    while connections.try_join_next().is_some() {}
    let cut = connections.len();
    connections.shutdown().await;
    Drained { cut }
}

/// Descriptors that are held to be given up when there are no others.
struct Reserve {
    held: Mutex<Vec<std::net::TcpListener>>,
    most: usize,
}

impl Reserve {
    /// Any descriptor will do: these are the listener's own, once more. The first stays: it is what
    /// the others are made of again.
    fn new(listener: &std::net::TcpListener, most: usize) -> io::Result<Self> {
        let count = if most == 0 { 0 } else { most + 1 };
        let held = (0..count).map(|_| listener.try_clone());
        let held = Mutex::new(held.collect::<io::Result<_>>()?);
        Ok(Self { held, most })
    }

    /// Gives one up, if there is one, so that a connection can be accepted.
    fn give(&self) -> bool {
        let mut held = self.held();
        held.len() > 1 && held.pop().is_some()
    }

    /// Takes back what was given up, as far as it can be had.
    fn fill(&self) {
        if self.most == 0 {
            return;
        }
        let mut held = self.held();
        while held.len() <= self.most {
            match held.first().map(std::net::TcpListener::try_clone) {
                Some(Ok(again)) => held.push(again),
                _ => return,
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<std::net::TcpListener>> {
        // Nothing that holds the lock can panic half-way.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next connection that is to be served here; `None` for one that is not.
async fn accept(
    listener: &TcpListener,
    door: &Door,
    settings: &Settings,
    exhausted: bool,
) -> io::Result<Option<Kept>> {
    while door.is_full(settings.connections) {
        tokio::time::sleep(MIN_PAUSE).await;
    }
    // One who has no connection at all will not find more later.
    while exhausted && !has_room(listener) && door.is_full(1) {
        tokio::time::sleep(LOOK_FOR_ROOM).await;
    }
    let (stream, peer) = listener.accept().await?;
    Ok(door.keep(stream, peer))
}

fn has_room(listener: &TcpListener) -> bool {
    let more = (0..ROOM).map(|_| listener.as_fd().try_clone_to_owned());
    more.collect::<io::Result<Vec<_>>>().is_ok()
}

/// Most bytes that wait in the kernel for the network to take them. A player that seeks throws them
/// away, and a slow reader holds them for as long as it reads. Less than two of the largest packets,
/// which loopback has with 64 KiB, and a socket waits for itself.
const UNSENT: u32 = 128 * 1024;
/// The same of a download that is taken fast. What it takes shows when half of this is gone, so that one who
/// suddenly takes less than that in [`Settings::write_timeout`] is cut, and has to ask for the rest.
const UNSENT_OF_DOWNLOAD: u32 = 1024 * 1024;

/// Sets what a listener's connections inherit.
fn tune(listener: &std::net::TcpListener) -> io::Result<()> {
    // Without it, the last packet of a response waits for an acknowledgement.
    socket2::SockRef::from(listener).set_tcp_nodelay(true)?;
    set_unsent(listener, UNSENT)
}

#[cfg(target_os = "linux")]
fn set_unsent(socket: &impl AsFd, most: u32) -> io::Result<()> {
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(most)
}

#[cfg(not(target_os = "linux"))]
fn set_unsent(_: &impl AsFd, _: u32) -> io::Result<()> {
    Ok(())
}

/// Errors of accept that say something of one connection, not of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// The Date of an answer, where hyper would write a wrong one: it writes none that is earlier than
/// the last, and stands still for an hour when the clock is set back by one (RFC 9110 §6.6.1).
fn date(now: UnixTime) -> Option<HeaderValue> {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    let latest = LATEST.load(Ordering::Relaxed);
    if now.0 > latest {
        LATEST.store(now.0, Ordering::Relaxed);
    }
    // By a second of grace: two threads may read the clock on either side of one.
    if now.0 + 1 >= latest {
        return None;
    }
    HeaderValue::try_from(http_date(now)).ok()
}

/// The calendar's time.
#[must_use]
pub fn now() -> UnixTime {
    let since = calendar().duration_since(UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| since.as_secs()))
}

/// The same, as exact as it is told.
#[expect(
    clippy::disallowed_methods,
    reason = "the server is where time comes in"
)]
pub(crate) fn calendar() -> SystemTime {
    SystemTime::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the server is where time comes in"
)]
fn instant() -> Instant {
    Instant::now()
}
