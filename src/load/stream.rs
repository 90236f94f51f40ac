//! HTTP/2: connections that several listeners share, and one stream for each request.
//!
//! h2 does the framing and the windows, and is polled by the load's own loop: no runtime, and times are
//! taken where those of HTTP/1.1 are. A stream that is broken off is reset (RFC 9113 §8.7 and §5.4.2,
//! CANCEL), and its connection stays.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::header::{ACCEPT, HeaderValue, RANGE, USER_AGENT};
use mio::Registry;

use super::USER;
use super::connection::Progress;
use super::exchange::{Exchange, Wrong};
use super::head::Head;
use super::pipe::{Buffers, Pipe};
use super::scenario;
use super::tally::Failure;
use super::target::Recording;
use super::wire::{Origin, Tls, Wire};

/// Bytes of one stream that a server may send ahead of its reader, and of one that plays.
const WINDOW: u32 = 256 << 10;
const PLAYED: u32 = 64 << 10;
/// The same of a connection, at most.
const MOST_WINDOW: u32 = 1 << 30;
/// Frames of one stream before others have their turn.
const FRAMES: usize = 64;
/// Streams that were reset, whose late frames are thrown away, and for how long.
const RESETS: usize = 1 << 16;
const LATE: Duration = Duration::from_secs(10);

/// Listeners and links that h2 has something for, by number.
#[derive(Debug, Default)]
pub(super) struct Ready(Mutex<Vec<usize>>);

impl Ready {
    pub(super) fn take(&self) -> Vec<usize> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }
}

/// How h2 calls for somebody, once until it is answered.
#[derive(Debug)]
pub(super) struct Bell {
    number: usize,
    rung: AtomicBool,
    ready: Arc<Ready>,
}

impl Bell {
    pub(super) fn new(number: usize, ready: &Arc<Ready>) -> Arc<Self> {
        Arc::new(Self {
            number,
            rung: AtomicBool::new(false),
            ready: Arc::clone(ready),
        })
    }

    /// Before whoever is called looks.
    pub(super) fn answer(&self) {
        self.rung.store(false, Ordering::Relaxed);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::Relaxed) {
            let mut ready = self.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
            ready.push(self.number);
        }
    }
}

type Opening = dyn Future<Output = Result<(SendRequest<Bytes>, Connection<Pipe>), h2::Error>>;

enum State {
    Opening(Pin<Box<Opening>>),
    Open(SendRequest<Bytes>, Box<Connection<Pipe>>),
    Over(Wrong),
}

/// A connection of HTTP/2.
pub(super) struct Link {
    pub(super) origin: Origin,
    /// The listeners that may use it.
    pub(super) members: Range<usize>,
    /// Whether no new stream is to begin here.
    pub(super) retired: bool,
    /// Whether a stream has ended well here.
    finished: bool,
    state: State,
    bell: Arc<Bell>,
    waker: Waker,
}

impl Link {
    /// Begins to connect, for streams of `members`.
    pub(super) fn open(
        origin: &Origin,
        tls: Option<&Tls>,
        registry: &Registry,
        bell: Arc<Bell>,
        members: Range<usize>,
        buffers: &Buffers,
    ) -> io::Result<Self> {
        let wire = Wire::open(origin, tls, true, registry, bell.number)?;
        let streams = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let window = if buffers.small_windows {
            PLAYED
        } else {
            WINDOW
        };
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(window)
            .initial_connection_window_size(window.saturating_mul(streams).min(MOST_WINDOW))
            // Frames that come for what was broken off are no fault of the server's.
            .max_concurrent_reset_streams(RESETS)
            .max_local_error_reset_streams(None)
            .reset_stream_duration(LATE);
        let pipe = Pipe::over(wire, buffers.clone());
        Ok(Self {
            origin: origin.clone(),
            members,
            retired: false,
            finished: false,
            state: State::Opening(Box::pin(builder.handshake(pipe))),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        })
    }

    /// Sends and receives what can be; whether those who wait for it have to look.
    pub(super) fn advance(&mut self) -> bool {
        self.bell.answer();
        let mut context = Context::from_waker(&self.waker);
        let mut changed = false;
        loop {
            let next = match &mut self.state {
                State::Opening(opening) => match opening.as_mut().poll(&mut context) {
                    Poll::Pending => return changed,
                    Poll::Ready(Ok((sender, connection))) => {
                        State::Open(sender, Box::new(connection))
                    }
                    Poll::Ready(Err(error)) => State::Over(wrong(&error)),
                },
                State::Open(_, connection) => match Pin::new(connection).poll(&mut context) {
                    Poll::Pending => return changed,
                    Poll::Ready(Ok(())) => State::Over(gone()),
                    Poll::Ready(Err(error)) => State::Over(wrong(&error)),
                },
                State::Over(_) => return changed,
            };
            changed = true;
            self.state = next;
        }
    }

    /// Whether streams can begin here, now or when it is open.
    pub(super) const fn is_usable(&self) -> bool {
        !self.retired && !matches!(self.state, State::Over(_))
    }

    /// Whether it has never been open.
    pub(super) const fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening(_))
    }
}

fn gone() -> Wrong {
    (Failure::Reset, "the connection was closed".to_owned())
}

/// What an error of h2 says of the server.
fn wrong(error: &h2::Error) -> Wrong {
    let failure = match error.get_io() {
        Some(error) => Failure::of(error),
        None if error.is_library() => Failure::Malformed,
        None => Failure::Reset,
    };
    (failure, error.to_string())
}

enum Stage {
    /// For the connection.
    Waiting,
    Asked(ResponseFuture),
    Body(RecvStream),
}

/// A request on a link.
pub(super) struct Stream {
    pub(super) link: usize,
    stage: Stage,
}

impl Stream {
    pub(super) const fn new(link: usize) -> Self {
        Self {
            link,
            stage: Stage::Waiting,
        }
    }

    /// Whether to let go of it resets it.
    pub(super) fn is_under_way(&self) -> bool {
        match &self.stage {
            Stage::Waiting => false,
            Stage::Asked(_) => true,
            Stage::Body(body) => !body.is_end_stream(),
        }
    }

    /// Asks and reads what can be.
    pub(super) fn advance(
        &mut self,
        link: &mut Link,
        exchange: &mut Exchange,
        recording: &Recording,
        waker: &Waker,
        clock: fn() -> Instant,
    ) -> Progress {
        let mut context = Context::from_waker(waker);
        if matches!(self.stage, Stage::Waiting) {
            let sender = match &link.state {
                State::Opening(_) => return Progress::Waiting,
                State::Open(sender, _) => sender,
                State::Over(wrong) => return unsent(link, wrong.clone()),
            };
            // A handle of its own: one waits at most for one stream that a server does not take yet.
            match sender.clone().send_request(request(exchange), true) {
                Ok((response, _)) => self.stage = Stage::Asked(response),
                Err(error) => return broken(link, exchange, &error),
            }
        }
        if let Stage::Asked(response) = &mut self.stage {
            let response = match Pin::new(response).poll(&mut context) {
                Poll::Pending => return Progress::Waiting,
                Poll::Ready(Ok(response)) => response,
                Poll::Ready(Err(error)) => return broken(link, exchange, &error),
            };
            exchange.heard = clock();
            exchange.first.get_or_insert(exchange.heard);
            let (parts, body) = response.into_parts();
            self.stage = Stage::Body(body);
            exchange.status = parts.status.as_u16();
            let head = match Head::of(&parts) {
                Ok(head) => head,
                Err(text) => return Progress::Failed((Failure::Malformed, text)),
            };
            if let Err(wrong) = exchange.check_head(&head, recording) {
                return Progress::Failed(wrong);
            }
        }
        self.read(link, exchange, recording, &mut context)
    }

    fn read(
        &mut self,
        link: &mut Link,
        exchange: &mut Exchange,
        recording: &Recording,
        context: &mut Context<'_>,
    ) -> Progress {
        let Stage::Body(body) = &mut self.stage else {
            return Progress::Waiting;
        };
        for _ in 0..FRAMES {
            if exchange.goal() < exchange.length && exchange.at >= exchange.goal() {
                link.finished = true;
                return Progress::Done(false);
            }
            if exchange.at >= exchange.allowed {
                return Progress::Enough;
            }
            let data = match body.poll_data(context) {
                Poll::Pending => return Progress::Waiting,
                Poll::Ready(Some(Ok(data))) => data,
                Poll::Ready(Some(Err(error))) => return broken(link, exchange, &error),
                Poll::Ready(None) => {
                    if let Err(wrong) = exchange.ends(recording) {
                        return Progress::Failed(wrong);
                    }
                    link.finished = true;
                    return Progress::Done(true);
                }
            };
            // Only of a stream that is over, and then nothing has to be released.
            let _ = body.flow_control().release_capacity(data.len());
            if let Err(wrong) = exchange.take(&data, recording) {
                return Progress::Failed(wrong);
            }
        }
        Progress::More
    }
}

fn request(exchange: &Exchange) -> http::Request<()> {
    let mut request = http::Request::new(());
    *request.uri_mut() = exchange.request.uri.clone();
    *request.version_mut() = http::Version::HTTP_2;
    let fields = request.headers_mut();
    fields.insert(USER_AGENT, HeaderValue::from_static(USER));
    fields.insert(ACCEPT, HeaderValue::from_static("*/*"));
    let range = match exchange.ask.range {
        _ if exchange.answer.is_some() => None,
        scenario::Range::Whole => None,
        scenario::Range::Closed(first, last) => Some(format!("bytes={first}-{last}")),
        scenario::Range::From(first) => Some(format!("bytes={first}-")),
    };
    if let Some(range) = range.and_then(|range| HeaderValue::try_from(range).ok()) {
        fields.insert(RANGE, range);
    }
    request
}

/// A request that was not sent, since its connection is no more.
fn unsent(link: &Link, wrong: Wrong) -> Progress {
    match wrong.0 {
        Failure::Reset if link.finished => Progress::Closed,
        _ => Progress::Failed(wrong),
    }
}

fn broken(link: &mut Link, exchange: &Exchange, error: &h2::Error) -> Progress {
    let wrong = wrong(error);
    if !error.is_reset() {
        // Of the whole connection.
        link.retired = true;
    }
    let graceful = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    let untouched = exchange.first.is_none() && exchange.answer.as_ref().is_none_or(Vec::is_empty);
    let closed = wrong.0 == Failure::Reset && !error.is_reset() && link.finished;
    // RFC 9113 §6.8: what the server has not looked at is asked again elsewhere.
    if untouched && (graceful || closed) {
        Progress::Closed
    } else {
        Progress::Failed(wrong)
    }
}
