//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::front::{Cut, Failed, Front};
use super::http2::http2;
use super::lines::Seen;
use super::pulse::Pulse;
use super::share::Place;
use super::turns::Turns;
use super::vigil::{Call, Stop, Vigil};
use super::wire::{Protocol, Wire};
use super::{Arrival, Handler, Settings, date, instant, now};
use crate::body::{FileBody, Lane};
use crate::recording::UnixTime;

/// Most bytes of an HTTP/1.1 head. Above what the handler lets pass, so that it is the handler who
/// answers a long target or long fields; hyper's own 431 stands behind.
const MAX_HEAD: usize = 128 * 1024;
/// The same inside TLS, where it is as well what waits in memory for a slow reader; in the clear, files
/// wait where they are.
const MAX_HEAD_OF_TLS: usize = 32 * 1024;
/// Most of a body that is read at once inside TLS. Half of it, here and of what waits unsent, saves 6 KiB of a
/// reader who does not read, and made a seek cost a third more (16 listeners, before copies into records were as fast as they are).
const READ_OF_TLS: u64 = 32 * 1024;

/// How long a connection that was accepted just before a stop gets to say what it wants: one who
/// asks is answered, so that who is handed another server's socket loses nobody.
const LAST_CALL: Duration = Duration::from_millis(500);

/// What the connections of a listener have in common.
pub(super) struct Common<H> {
    pub(super) handler: Arc<H>,
    pub(super) settings: Settings,
    pub(super) front: Front,
    pub(super) turns: Arc<Turns>,
    pub(super) stop: Stop,
}

impl<H: Handler> Common<H> {
    pub(super) fn cut(&self, peer: SocketAddr, reason: Cut) {
        let reason_word = reason.word();
        if matches!(reason, Cut::Stuck | Cut::Flood) {
            tracing::info!(%peer, reason = reason_word, "a connection was cut");
        } else {
            tracing::debug!(%peer, reason = reason_word, "a connection was cut");
        }
        self.handler.cut(reason);
    }

    async fn last_call(&self) {
        self.stop.come().await;
        sleep(LAST_CALL).await;
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    mut place: Place,
    all: Arc<Common<H>>,
) {
    let _open = Open::new(Arc::clone(&all.handler));
    let settings = &all.settings;
    let mut deadline = Instant::from(instant()) + settings.header_timeout;
    let begun = tokio::select! {
        begun = timeout_at(deadline, Box::pin(begin(stream, peer, &mut place, &all))) => begun,
        () = all.last_call() => return,
    };
    let (mut wire, peer) = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(Failed::Cut(reason))) => return all.cut(peer, reason),
        Ok(Err(Failed::Gone(error))) => {
            tracing::debug!(%peer, %error, "a connection failed before a request");
            return;
        }
        Err(_) => return all.cut(peer, Cut::Late),
    };
    let mut first = true;
    loop {
        let protocol = tokio::select! {
            sniffed = timeout_at(deadline, wire.sniff()) => sniffed,
            () = all.last_call() => return,
        };
        let parked = match protocol {
            // On the heap, as all that comes and goes, so that an idle connection takes no room for it.
            Ok(Ok(Some(Protocol::Http1))) => Box::pin(http1(wire, peer, &all, deadline)).await,
            Ok(Ok(Some(Protocol::Http2))) if first => {
                Box::pin(http2(wire, peer, &all)).await;
                return;
            }
            Ok(Ok(_)) => return Box::pin(wire.linger()).await,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "a connection failed before a request");
                return;
            }
            Err(_) => return all.cut(peer, Cut::Late),
        };
        let Some(still) = parked else { return };
        wire = still;
        first = false;
        tokio::select! {
            biased;
            // Idle, or gone.
            readable = timeout(settings.idle_timeout, wire.readable()) => match readable {
                Ok(Ok(())) => {}
                _ => return,
            },
            () = all.stop.come() => return,
        }
        deadline = Instant::from(instant()) + settings.header_timeout;
    }
}

/// Tells the handler of a connection's beginning and end, however that comes.
struct Open<H: Handler>(Arc<H>);

impl<H: Handler> Open<H> {
    fn new(handler: Arc<H>) -> Self {
        handler.opened();
        Self(handler)
    }
}

impl<H: Handler> Drop for Open<H> {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// What comes before HTTP, and whose connection it turns out to be.
async fn begin<H: Handler>(
    mut stream: TcpStream,
    peer: SocketAddr,
    place: &mut Place,
    all: &Common<H>,
) -> Result<(Box<Wire>, SocketAddr), Failed> {
    let client = all.front.client(&mut stream, peer).await?;
    let most = all.settings.connections_per_address;
    // A proxy's connections are those of many.
    if !all.front.is_proxy(client.ip()) && !place.claim(client.ip(), most) {
        return Err(Cut::TooMany.into());
    }
    let pulse = Arc::<Pulse>::default();
    let turns = Arc::clone(&all.turns);
    let stream = all.front.stream(stream, turns, Arc::clone(&pulse)).await?;
    let wire = Box::new(Wire::new(stream, pulse));
    if let Some((version, kind)) = wire.agreed() {
        all.handler.shook_hands(version, kind);
    }
    Ok((wire, client))
}

/// hyper's view of the handler, on one connection.
pub(super) struct PerConnection<H> {
    all: Arc<Common<H>>,
    peer: SocketAddr,
    lane: Option<Lane>,
    seen: Arc<Seen>,
    pulse: Arc<Pulse>,
    /// Most of a body that is read at once.
    pub(super) window: Option<u64>,
}

impl<H> PerConnection<H> {
    pub(super) fn of(all: &Arc<Common<H>>, peer: SocketAddr, pulse: Arc<Pulse>) -> Self {
        Self {
            all: Arc::clone(all),
            peer,
            lane: None,
            seen: Arc::default(),
            pulse,
            window: None,
        }
    }
}

impl<H: Handler> PerConnection<H> {
    /// The answer to one request.
    pub(super) fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<FileBody>, Infallible>> + Send + Unpin + use<H> {
        let now = now();
        let arrival = Arrival {
            peer: self.peer,
            client: self.peer.ip(),
            is_secure: self.all.front.is_secure(),
            now,
            at: instant(),
            lane: self.lane.clone(),
            content_length_seen: self.seen.content_length.load(Ordering::Relaxed),
            fragment_seen: self.seen.fragment.load(Ordering::Relaxed),
        };
        let response = Arc::clone(&self.all.handler).handle(request, arrival);
        let (connection, presence) = (Arc::clone(self), self.pulse.presence());
        // An async block would have room for the whole future twice.
        response.map(move |response| Ok(connection.answered(response, presence, now)))
    }

    fn answered(
        &self,
        mut response: Response<FileBody>,
        presence: Arc<()>,
        now: UnixTime,
    ) -> Response<FileBody> {
        if let Some(date) = date(now) {
            response.headers_mut().insert(http::header::DATE, date);
        }
        let body = response.body_mut();
        body.attach(presence, self.window);
        // The lane is that of the wire that hyper answers on.
        if let Some(lane) = &self.lane {
            body.introduce(lane);
        }
        let turns = &self.all.turns;
        turns.answered(body.size_hint().lower(), body.is_sought());
        response
    }
}

/// How the work on a connection ended.
pub(super) enum End {
    /// hyper says so.
    Served(hyper::Result<()>),
    /// For a reason of our own.
    Cut(Cut),
}

/// Serves requests of HTTP/1.1. Gives the connection back where it has been idle for a while: what
/// waits for a request needs none of what serves one.
async fn http1<H: Handler>(
    mut wire: Box<Wire>,
    peer: SocketAddr,
    all: &Arc<Common<H>>,
    deadline: Instant,
) -> Option<Box<Wire>> {
    let settings = &all.settings;
    let pulse = wire.pulse();
    pulse.await_request();
    let mut service = PerConnection::of(all, peer, Arc::clone(&pulse));
    (service.lane, service.seen) = (wire.lane(), wire.watch());
    let max_head = if all.front.is_secure() {
        wire.take_turns(&all.turns);
        service.window = Some(READ_OF_TLS);
        MAX_HEAD_OF_TLS
    } else {
        MAX_HEAD
    };
    let service = Arc::new(service);
    let mut connection = http1::Builder::new()
        // A timer of hyper's is made and taken down with each request; the vigil waits for heads.
        .header_read_timeout(None)
        .half_close(true)
        // Of fields, hyper takes a hundred; a limit of our own costs it a list on each request.
        .max_buf_size(max_head)
        .writev(true)
        .serve_connection(
            TokioIo::new(wire),
            service_fn(move |request| service.answer(request)),
        );
    let stopping = pin!(all.stop.come());
    let looking = pin!(sleep_until(deadline));
    let late = pin!(sleep_until(deadline));
    let mut vigil = Vigil::new(settings, &pulse, &all.stop, stopping, looking, late);
    let mut parked = false;
    let end = poll_fn(|cx| {
        loop {
            if let Poll::Ready(served) = connection.poll_without_shutdown(cx) {
                return Poll::Ready(End::Served(served));
            }
            match ready!(vigil.poll(cx)) {
                Call::Cut(reason) => return Poll::Ready(End::Cut(reason)),
                call => {
                    parked |= call == Call::Park;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    })
    .await;
    let stopped = vigil.has_stopped();
    let parts = connection.into_parts();
    let mut wire = parts.io.into_inner();
    if parked && !stopped && matches!(end, End::Served(Ok(()))) && !wire.has_ended() {
        wire.put_back(&parts.read_buf);
        return Some(wire);
    }
    close(wire, end, peer, all).await;
    None
}

async fn close<H: Handler>(wire: Box<Wire>, end: End, peer: SocketAddr, all: &Common<H>) {
    match end {
        End::Served(Ok(())) => wire.linger().await,
        End::Served(Err(error)) if error.is_parse() => {
            // hyper has answered: 400, 414 or 431.
            tracing::info!(%peer, reason = %error, "a request that cannot be parsed");
            wire.linger().await;
        }
        End::Served(Err(error)) => {
            tracing::debug!(%peer, reason = %error, "a connection was cut");
            wire.close();
        }
        End::Cut(Cut::Late) => {
            all.cut(peer, Cut::Late);
            wire.close();
        }
        End::Cut(reason) => {
            all.cut(peer, reason);
            wire.reset();
        }
    }
}
