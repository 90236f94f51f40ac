//! What is waited for while hyper serves a connection of HTTP/1.1.
//!
//! Decides when a connection is put aside, cut, or told to end; never touches it.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::front::Cut;
use super::pulse::{Finding, Pulse, Watch, tick};
use super::{Settings, instant};

/// A connection that has been idle for so long is put aside. Soon: what serves a request takes ten
/// times the memory of what waits for one.
const PARKED_AFTER: Duration = Duration::from_millis(250);

/// What has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// The server stops.
    Stop,
    /// Nobody has asked for a while.
    Park,
    /// It is time to end the connection.
    Cut(Cut),
}

/// A worker's stop. Each of its connections asks at each turn whether it has come: a token alone would be locked for
/// that.
#[derive(Debug, Default)]
pub(super) struct Stop {
    has_come: AtomicBool,
    token: CancellationToken,
}

impl Stop {
    /// Tells all who wait for it.
    pub(super) fn now(&self) {
        self.has_come.store(true, Ordering::Release);
        self.token.cancel();
    }

    pub(super) fn come(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Acquire)
    }
}

/// What is waited for besides hyper. Each is asked again only when it has come: most of the time it
/// is hyper who is woken.
pub(super) struct Vigil<'a, 'p> {
    settings: &'a Settings,
    pulse: &'a Pulse,
    watch: Watch,
    stop: &'a Stop,
    stopping: Pin<&'p mut WaitForCancellationFuture<'a>>,
    stopped: bool,
    /// The next look at the pulse.
    looking: Pin<&'p mut Sleep>,
    /// Until when the head that has begun to come must be there.
    late: Pin<&'p mut Sleep>,
    /// The head that was last seen to have begun.
    half: Option<u64>,
    /// Who is woken by all of these.
    woken: Option<Waker>,
}

impl<'a, 'p> Vigil<'a, 'p> {
    /// `late` is for the first head; `looking` is set here.
    pub(super) fn new(
        settings: &'a Settings,
        pulse: &'a Pulse,
        stop: &'a Stop,
        stopping: Pin<&'p mut WaitForCancellationFuture<'a>>,
        mut looking: Pin<&'p mut Sleep>,
        late: Pin<&'p mut Sleep>,
    ) -> Self {
        looking.set(sleep(soon(settings)));
        Self {
            settings,
            pulse,
            watch: Watch::from(instant(), false),
            stop,
            stopping,
            stopped: false,
            looking,
            late,
            half: None,
            woken: None,
        }
    }

    /// Whether the server has stopped since.
    pub(super) const fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// To be asked behind hyper, so that nobody who has just asked is taken to be idle, and nothing
    /// that came before a stop is thrown away unread.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Call> {
        loop {
            let waits = self.waits(cx);
            if !self.stopped
                && (!waits || self.stop.has_come())
                && self.stopping.as_mut().poll(cx).is_ready()
            {
                self.stopped = true;
                return Poll::Ready(Call::Stop);
            }
            if self.poll_late(cx).is_ready() {
                return Poll::Ready(Call::Cut(Cut::Late));
            }
            if waits && !self.looking.is_elapsed() {
                return Poll::Pending;
            }
            self.woken = Some(cx.waker().clone());
            ready!(self.looking.as_mut().poll(cx));
            self.woken = None;
            let next = if self.pulse.is_busy() {
                tick(self.settings)
            } else {
                soon(self.settings)
            };
            self.looking.set(sleep(next));
            match self.watch.look(self.pulse, instant(), self.settings) {
                Finding::Idle(time) if time >= soon(self.settings) => {
                    return Poll::Ready(Call::Park);
                }
                Finding::Lively | Finding::Idle(_) => {}
                Finding::Cut(reason) => return Poll::Ready(Call::Cut(reason)),
            }
        }
    }

    /// Whether whoever polls is woken already.
    fn waits(&self, cx: &Context<'_>) -> bool {
        let woken = self.woken.as_ref();
        woken.is_some_and(|waker| waker.will_wake(cx.waker()))
    }

    /// Until a head comes late; each has its own time, the first since the connection began.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let half = self.pulse.half_a_head();
        if half != self.half {
            self.half = half;
            if half.is_some_and(|requests| requests > 0) {
                let until = Instant::from(instant()) + self.settings.header_timeout;
                self.late.as_mut().reset(until);
            }
        }
        if half.is_none() && self.pulse.has_request() {
            return Poll::Pending;
        }
        self.late.as_mut().poll(cx)
    }
}

fn soon(settings: &Settings) -> Duration {
    PARKED_AFTER.min(tick(settings))
}
