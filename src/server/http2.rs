//! One connection of HTTP/2, and what it may cost.
//!
//! h2 ends a connection by GOAWAY with ENHANCE_YOUR_CALM for requests that are taken back before they
//! are looked at, for fields without an end and for bodies in crumbs. What it lets pass, frames that
//! bring nothing and windows that never open, the [`Watch`] ends.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::connection::{Common, End, PerConnection};
use super::front::Cut;
use super::pulse::{Finding, Watch, tick};
use super::wire::{Wire, linger, reset};
use super::{Handler, instant};
use crate::body::SMALL_READ;

/// Most fields of a request, in bytes as RFC 9113 §6.5.2 counts them. h2 takes five CONTINUATION
/// frames of it, and no sixth.
const MAX_FIELD_LIST: u32 = 20 * 1024;
/// Most requests at a time.
const MAX_STREAMS: u32 = 128;
/// Most requests that are taken back before anybody has looked at them: a few may be on their way.
const MAX_TAKEN_BACK: usize = 20;
/// Most streams that are reset for what is wrong with them.
const MAX_WRONG: usize = 128;
/// Most bytes of a content that wait in memory for their reader, on one stream and on all.
const WINDOW: u32 = 256 * 1024;
const WINDOW_OF_ALL: u32 = 1024 * 1024;
/// Most bytes of a body that wait for a stream's window to open, before what is read of it next.
const MAX_SEND_BUFFER: usize = 32 * 1024;
/// Most of a body that is read at once: a frame's payload. Each stream of one who never reads may hold
/// so much more than the buffer.
const READ: u64 = SMALL_READ;
// With its head it fits a record of TLS (RFC 8446 §5.1).
const _: () = assert!(READ + 9 <= 16 * 1024);

pub(super) async fn http2<H: Handler>(mut wire: Box<Wire>, peer: SocketAddr, all: &Arc<Common<H>>) {
    let settings = &all.settings;
    // Clients acknowledge until the last byte: closing over that would reset the connection.
    let spare = wire.spare();
    let pulse = wire.pulse();
    wire.count_frames();
    wire.take_turns(&all.turns);
    let mut service = PerConnection::of(all, peer, Arc::clone(&pulse));
    service.window = Some(READ);
    let service = Arc::new(service);
    let mut connection = pin!(
        Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_TAKEN_BACK)
            .max_local_error_reset_streams(MAX_WRONG)
            .max_header_list_size(MAX_FIELD_LIST)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW_OF_ALL)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .serve_connection(
                TokioIo::new(wire),
                service_fn(move |request| service.answer(request)),
            )
    );
    let mut watch = Watch::from(instant(), true);
    let tick = tick(settings);
    let mut looking = pin!(sleep(tick));
    let mut stopping = pin!(all.stop.come());
    let mut stopped = false;
    let end = poll_fn(|cx| {
        if !stopped && stopping.as_mut().poll(cx).is_ready() {
            stopped = true;
            connection.as_mut().graceful_shutdown();
        }
        while looking.as_mut().poll(cx).is_ready() {
            let at = instant();
            looking.as_mut().reset((at + tick).into());
            match watch.look(&pulse, at, settings) {
                // One that was told to go, and stays.
                Finding::Idle(time) if time >= settings.idle_timeout + tick * 2 => {
                    return Poll::Ready(End::Cut(Cut::Stuck));
                }
                Finding::Idle(time) if time >= settings.idle_timeout => {
                    connection.as_mut().graceful_shutdown();
                }
                Finding::Idle(_) | Finding::Lively => {}
                Finding::Cut(reason) => return Poll::Ready(End::Cut(reason)),
            }
        }
        connection.as_mut().poll(cx).map(End::Served)
    })
    .await;
    if let Ok(spare) = spare.and_then(TcpStream::from_std) {
        close(spare, end, peer, all).await;
    }
}

async fn close<H: Handler>(spare: TcpStream, end: End, peer: SocketAddr, all: &Common<H>) {
    match end {
        End::Served(Ok(())) => linger(spare).await,
        End::Served(Err(error)) => {
            if is_calming(&error) {
                all.cut(peer, Cut::Flood);
            }
            tracing::debug!(%peer, reason = %error, "a connection was cut");
            linger(spare).await;
        }
        End::Cut(reason) => {
            all.cut(peer, reason);
            reset(&spare);
        }
    }
}

/// Whether h2 has told the client to calm down.
fn is_calming(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return h2.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
        }
        source = cause.source();
    }
    false
}
