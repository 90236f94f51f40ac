//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::pulse::{Finding, Pulse, Watch, tick};
use super::turns::Turns;
use super::wire::{Protocol, Seen, Wire, linger, reset};
use super::{Arrival, Handler, Settings, instant, now};
use crate::body::{FileBody, Lane};

/// Most bytes of an HTTP/1.1 head. Above what the handler lets pass, so that it is the handler who
/// answers a long target or long fields; hyper's own 431 stands behind.
const MAX_HEAD: usize = 128 * 1024;
/// Most fields of an HTTP/2 request, in bytes as RFC 9113 §6.5.2 counts them.
const MAX_FIELD_LIST: u32 = 20 * 1024;
/// Most bytes of a content that wait in memory for their reader, on one HTTP/2 stream.
const WINDOW: u32 = 256 * 1024;
/// Most requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    handler: Arc<H>,
    settings: Settings,
    turns: Arc<Turns>,
    shutdown: CancellationToken,
) {
    let _open = Open::new(Arc::clone(&handler));
    let mut wire = Wire::new(stream, turns);
    let mut first = true;
    loop {
        let protocol = tokio::select! {
            () = shutdown.cancelled() => return,
            sniffed = timeout(settings.header_timeout, wire.sniff()) => sniffed,
        };
        let parked = match protocol {
            // On the heap, so that a connection that asks for nothing takes no room for it.
            Ok(Ok(Some(Protocol::Http1))) => {
                Box::pin(http1(wire, peer, &handler, &settings, &shutdown)).await
            }
            Ok(Ok(Some(Protocol::Http2))) if first => {
                Box::pin(http2(wire, peer, handler, settings, shutdown)).await;
                return;
            }
            Ok(Ok(_)) => return,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "a connection failed before a request");
                return;
            }
            Err(_) => {
                tracing::debug!(%peer, "a connection asked for nothing in time");
                return;
            }
        };
        let Some(still) = parked else { return };
        wire = still;
        first = false;
        tokio::select! {
            () = shutdown.cancelled() => return,
            // Idle, or gone.
            readable = timeout(settings.idle_timeout, wire.readable()) => match readable {
                Ok(Ok(())) => {}
                _ => return,
            },
        }
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

/// hyper's view of the handler, on one connection.
struct PerConnection<H> {
    handler: Arc<H>,
    peer: SocketAddr,
    lane: Option<Lane>,
    seen: Arc<Seen>,
    pulse: Arc<Pulse>,
}

impl<H: Handler> Service<Request<Incoming>> for PerConnection<H> {
    type Response = Response<FileBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<FileBody>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let arrival = Arrival {
            peer: self.peer,
            now: now(),
            at: instant(),
            lane: self.lane.clone(),
            content_length_seen: self.seen.content_length.load(Ordering::Relaxed),
            fragment_seen: self.seen.fragment.load(Ordering::Relaxed),
        };
        let handler = Arc::clone(&self.handler);
        let presence = self.pulse.presence();
        Box::pin(async move {
            let response = handler.handle(request, arrival).await;
            Ok(response.map(|body| body.holding(presence)))
        })
    }
}

/// How the work on a connection ended.
enum End {
    /// hyper says so.
    Served(hyper::Result<()>),
    /// Nobody reads.
    Stuck,
}

/// Serves requests of HTTP/1.1. Gives the connection back where it has been idle for a while: what
/// waits for a request needs none of what serves one.
async fn http1<H: Handler>(
    mut wire: Wire,
    peer: SocketAddr,
    handler: &Arc<H>,
    settings: &Settings,
    shutdown: &CancellationToken,
) -> Option<Wire> {
    let pulse = wire.pulse();
    let service = PerConnection {
        handler: Arc::clone(handler),
        peer,
        lane: wire.lane(),
        seen: wire.watch(),
        pulse: Arc::clone(&pulse),
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .half_close(true)
        // Of fields, hyper takes a hundred; a limit of our own costs it a list on each request.
        .max_buf_size(MAX_HEAD)
        .writev(true)
        .serve_connection(TokioIo::new(wire), service);
    let mut watch = Watch::from(instant(), false);
    let tick = tick(settings);
    let mut looking = pin!(sleep(tick));
    let mut stopping = pin!(shutdown.cancelled());
    let (mut stopped, mut parked) = (false, false);
    let end = poll_fn(|cx| {
        if !stopped && stopping.as_mut().poll(cx).is_ready() {
            stopped = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        while looking.as_mut().poll(cx).is_ready() {
            let at = instant();
            looking.as_mut().reset((at + tick).into());
            match watch.look(&pulse, at, settings) {
                Finding::Lively => {}
                Finding::Idle(time) if time < tick => {}
                Finding::Idle(_) => {
                    parked = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                Finding::Stuck => return Poll::Ready(End::Stuck),
            }
        }
        connection.poll_without_shutdown(cx).map(End::Served)
    })
    .await;
    let parts = connection.into_parts();
    let mut wire = parts.io.into_inner();
    if parked && !stopped && matches!(end, End::Served(Ok(()))) && !wire.has_ended() {
        wire.put_back(&parts.read_buf);
        return Some(wire);
    }
    close(wire, end, peer).await;
    None
}

async fn close(wire: Wire, end: End, peer: SocketAddr) {
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
        End::Stuck => {
            tracing::info!(%peer, reason = "stuck", "a connection was cut: nobody reads");
            wire.reset();
        }
    }
}

async fn http2<H: Handler>(
    wire: Wire,
    peer: SocketAddr,
    handler: Arc<H>,
    settings: Settings,
    shutdown: CancellationToken,
) {
    // Clients acknowledge until the last byte: closing over that would reset the connection.
    let spare = wire.spare();
    let pulse = wire.pulse();
    let service = PerConnection {
        handler,
        peer,
        lane: None,
        seen: Arc::default(),
        pulse: Arc::clone(&pulse),
    };
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_FIELD_LIST)
            .initial_stream_window_size(WINDOW)
            .serve_connection(TokioIo::new(wire), service)
    );
    let mut watch = Watch::from(instant(), true);
    let tick = tick(&settings);
    let mut looking = pin!(sleep(tick));
    let mut stopping = pin!(shutdown.cancelled());
    let mut stopped = false;
    let end = poll_fn(|cx| {
        if !stopped && stopping.as_mut().poll(cx).is_ready() {
            stopped = true;
            connection.as_mut().graceful_shutdown();
        }
        while looking.as_mut().poll(cx).is_ready() {
            let at = instant();
            looking.as_mut().reset((at + tick).into());
            match watch.look(&pulse, at, &settings) {
                // One that was told to go, and stays.
                Finding::Idle(time) if time >= settings.idle_timeout + tick * 2 => {
                    return Poll::Ready(End::Stuck);
                }
                Finding::Idle(time) if time >= settings.idle_timeout => {
                    connection.as_mut().graceful_shutdown();
                }
                Finding::Idle(_) | Finding::Lively => {}
                Finding::Stuck => return Poll::Ready(End::Stuck),
            }
        }
        connection.as_mut().poll(cx).map(End::Served)
    })
    .await;
    let Ok(spare) = spare.and_then(TcpStream::from_std) else {
        return;
    };
    match end {
        End::Served(Ok(())) => linger(spare).await,
        End::Served(Err(error)) => {
            tracing::debug!(%peer, reason = %error, "a connection was cut");
            linger(spare).await;
        }
        End::Stuck => {
            tracing::info!(%peer, reason = "stuck", "a connection was cut: nobody reads");
            reset(&spare);
        }
    }
}
