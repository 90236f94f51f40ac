//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::turns::Turns;
use super::wire::{Protocol, Seen, Wire, linger};
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
    let mut wire = Wire::new(stream, turns);
    let protocol = tokio::select! {
        () = shutdown.cancelled() => return,
        sniffed = tokio::time::timeout(settings.header_timeout, wire.sniff()) => sniffed,
    };
    match protocol {
        // On the heap, so that a connection that has asked for nothing yet takes no room for it.
        Ok(Ok(Some(Protocol::Http1))) => {
            Box::pin(http1(wire, peer, handler, settings, shutdown)).await;
        }
        Ok(Ok(Some(Protocol::Http2))) => Box::pin(http2(wire, peer, handler, shutdown)).await,
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection failed before a request"),
        Err(_) => tracing::debug!(%peer, "a connection asked for nothing in time"),
    }
}

/// hyper's view of the handler, on one connection.
struct PerConnection<H> {
    handler: Arc<H>,
    peer: SocketAddr,
    lane: Option<Lane>,
    seen: Arc<Seen>,
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
        Box::pin(async move { Ok(handler.handle(request, arrival).await) })
    }
}

async fn http1<H: Handler>(
    mut wire: Wire,
    peer: SocketAddr,
    handler: Arc<H>,
    settings: Settings,
    shutdown: CancellationToken,
) {
    let seen = wire.watch();
    let service = PerConnection {
        handler,
        peer,
        lane: wire.lane(),
        seen,
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .half_close(true)
        // Of fields, hyper takes a hundred; a limit of our own costs it a list on each request.
        .max_buf_size(MAX_HEAD)
        .writev(true)
        .serve_connection(TokioIo::new(wire), service);
    let mut stopping = pin!(shutdown.cancelled());
    let mut stopped = false;
    let result = poll_fn(|cx| {
        if !stopped && stopping.as_mut().poll(cx).is_ready() {
            stopped = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        connection.poll_without_shutdown(cx)
    })
    .await;
    let wire = connection.into_parts().io.into_inner();
    match result {
        Ok(()) => wire.linger().await,
        Err(error) if error.is_parse() => {
            // hyper has answered: 400, 414 or 431.
            tracing::info!(%peer, reason = %error, "a request that cannot be parsed");
            wire.linger().await;
        }
        Err(error) => {
            tracing::debug!(%peer, reason = %error, "a connection was cut");
            wire.close();
        }
    }
}

async fn http2<H: Handler>(
    wire: Wire,
    peer: SocketAddr,
    handler: Arc<H>,
    shutdown: CancellationToken,
) {
    // Clients acknowledge until the last byte: closing over that would reset the connection.
    let spare = wire.spare();
    let service = PerConnection {
        handler,
        peer,
        lane: None,
        seen: Arc::default(),
    };
    let mut connection = Box::pin(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_FIELD_LIST)
            .initial_stream_window_size(WINDOW)
            .serve_connection(TokioIo::new(wire), service),
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    drop(connection);
    if let Err(error) = result {
        tracing::debug!(%peer, reason = %error, "a connection was cut");
    }
    if let Ok(stream) = spare.and_then(TcpStream::from_std) {
        linger(stream).await;
    }
}
