//! One thread's share of the load: many listeners, one poll, and the times at which requests are due.

mod exchange;
mod links;
mod schedule;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use self::links::Links;
use super::connection::{Connection, SCRATCH};
use super::exchange::{Exchange, Wrong};
use super::scenario::{Ask, Range, Script};
use super::stream::{Bell, Stream};
use super::tally::{Failure, Tally};
use super::target::Request;
use super::watch::{Moments, Report, Told, Watch};
use super::{Crowd, LoadError, Plan, Side, clock, wide};

/// How often time-outs are looked for.
const SWEEP: Duration = Duration::from_millis(100);
/// How often a player reads on.
const SIP: Duration = Duration::from_millis(100);
/// Audio that a player takes at once when it begins, as a time at its bitrate.
const BUFFER: Duration = Duration::from_secs(1);
/// The waits of a poll are in milliseconds: a shorter one is spent looking.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// It looks for more to do without waiting for so long after there was something.
const AWAKE: Duration = Duration::from_micros(500);
/// Steps of rest after a look in vain.
const PAUSE: u32 = 32;

/// A listener: a course, at most one connection or stream, at most one request under way.
struct Listener {
    /// The crowd it is of.
    part: usize,
    script: Script,
    /// Of HTTP/1.1.
    connection: Option<Connection>,
    /// Of HTTP/2.
    stream: Option<Stream>,
    /// How h2 calls for it.
    bell: Option<(Arc<Bell>, Waker)>,
    /// Whether it stands in line to be looked after.
    queued: bool,
    exchange: Option<Exchange>,
    /// What is asked for once the resolver has answered, and since when it is due.
    pending: Option<(Ask, Instant)>,
    /// The URL that the resolver gave for a recording.
    resolved: Option<(usize, Arc<Request>)>,
    renewals: u8,
    requests: u64,
    failures_in_a_row: u32,
    /// Told by a timer, so that one set for an earlier request wakes nobody.
    turn: u64,
}

impl Listener {
    fn new(part: usize, script: Script) -> Self {
        Self {
            part,
            script,
            connection: None,
            stream: None,
            bell: None,
            queued: false,
            exchange: None,
            pending: None,
            resolved: None,
            renewals: 0,
            requests: 0,
            failures_in_a_row: 0,
            turn: 0,
        }
    }
}

/// This thread's share of a crowd.
struct Part<'a> {
    crowd: &'a Crowd,
    seed: u64,
    /// At a rate: listeners with nothing to do, and visits for which there was none.
    idle: Vec<usize>,
    backlog: VecDeque<(u64, Instant)>,
    /// The next visit that is this thread's.
    next: u64,
    tally: Tally,
}

pub(super) struct Worker<'a> {
    plan: &'a Plan,
    side: &'a Side,
    /// This thread's number.
    index: usize,
    poll: Poll,
    listeners: Vec<Listener>,
    parts: Vec<Part<'a>>,
    /// When, which listener, and its turn.
    timers: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    again: Vec<usize>,
    links: Links,
    /// Listeners that could not even get a connection.
    unsent: Vec<(usize, Wrong)>,
    swept: Instant,
    /// When there was last something to do.
    worked: Instant,
    scratch: Vec<u8>,
    /// By URL that a resolver gave: the same one is looked up once.
    requests: HashMap<String, Arc<Request>>,
    began: Instant,
    /// Since when it is counted: after the warm-up.
    since: Instant,
    /// Without anything to do since then.
    rested: Duration,
    /// Listeners that have had all they want.
    content: usize,
    /// Recordings whose length is to be found out, where this is all that is done.
    looking: Option<Vec<usize>>,
    report: Report,
    watch: &'a Watch,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        side: &'a Side,
        index: usize,
        seed: u64,
        watch: &'a Watch,
    ) -> Result<Self, LoadError> {
        let (mut listeners, mut parts) = (Vec::new(), Vec::new());
        for (place, crowd) in plan.crowds.iter().enumerate() {
            let seed = seed.wrapping_add(wide(place) << 32);
            let course = |number: usize| {
                let number = wide(number);
                Listener::new(place, Script::new(crowd.mix.of(number), seed, number))
            };
            let mine = (index..crowd.listeners).step_by(plan.threads);
            listeners.extend(mine.map(course));
            parts.push(Part {
                crowd,
                seed,
                idle: Vec::new(),
                backlog: VecDeque::new(),
                next: wide(index),
                tally: Tally::new()?,
            });
        }
        let began = clock();
        Ok(Self {
            plan,
            side,
            index,
            poll: Poll::new().map_err(LoadError::Poll)?,
            parts,
            timers: BinaryHeap::new(),
            again: Vec::new(),
            links: Links::new(listeners.len(), plan.has_players()),
            unsent: Vec::new(),
            swept: began,
            worked: began,
            scratch: vec![0; SCRATCH],
            requests: HashMap::new(),
            began,
            since: began,
            rested: Duration::ZERO,
            content: 0,
            looking: None,
            report: Report::new(watch)?,
            watch,
            listeners,
        })
    }

    /// Drives the load for as long as it is to last, or until it is to stop; by crowd, what it got.
    pub(super) fn run(mut self, length: Duration) -> Result<Vec<Tally>, LoadError> {
        self.began = clock();
        self.since = self.began;
        let warm = self.began + self.plan.warm_up;
        let end = warm + length;
        let mut counts = self.plan.warm_up.is_zero();
        if counts {
            self.at_a_moment(|moments| moments.begins());
        }
        self.join();
        let mut events = Events::with_capacity(1024);
        let mut now = self.began;
        while now < end && !self.is_over() {
            if !counts && now >= warm {
                counts = true;
                self.count_anew(now)?;
            }
            self.release(now);
            self.fire(now);
            self.sweep(now);
            self.at_a_moment(|moments| moments.passes());
            if self.report.is_due(now) {
                self.tell();
            }
            self.turn(&mut events, now, end)?;
            now = clock();
        }
        self.at_a_moment(|moments| moments.ends());
        self.close_books(now);
        self.tell();
        Ok(self.parts.into_iter().map(|part| part.tally).collect())
    }

    fn is_over(&self) -> bool {
        self.watch.stop.load(Ordering::Relaxed) || self.content == self.listeners.len()
    }

    /// One thread speaks for all.
    fn at_a_moment(&self, tell: impl FnOnce(&dyn Moments)) {
        if let Some(moments) = self.watch.moments.as_deref().filter(|_| self.index == 0) {
            tell(moments);
        }
    }

    fn tell(&mut self) {
        let mut told = Told::default();
        for part in &self.parts {
            told.requests += part.tally.requests;
            told.bytes += part.tally.bytes;
            told.failures += part.tally.failed();
        }
        self.report.tell(told, self.watch);
    }

    /// The warm-up is over: what it brought is forgotten, and what was due in it.
    fn count_anew(&mut self, now: Instant) -> Result<(), LoadError> {
        for part in &mut self.parts {
            part.tally = Tally::new()?;
            part.backlog.clear();
        }
        self.report.forget();
        (self.since, self.rested) = (now, Duration::ZERO);
        self.at_a_moment(|moments| moments.begins());
        Ok(())
    }

    /// Asks each recording for one byte, unless its length is known.
    pub(super) fn look(mut self, length: Duration) -> Result<(), LoadError> {
        let recordings = self.side.recordings.iter().enumerate();
        let unknown = recordings.filter(|(_, recording)| recording.length().is_none());
        self.looking = Some(unknown.map(|(number, _)| number).collect());
        let mut events = Events::with_capacity(1024);
        let mut now = clock();
        let end = now + length;
        for index in 0..self.listeners.len() {
            self.go_on(index, now);
        }
        while now < end && !self.is_over() {
            self.turn(&mut events, now, end)?;
            now = clock();
        }
        Ok(())
    }

    fn look_at(&mut self, index: usize, recording: usize) {
        let ask = Ask {
            recording,
            range: Range::Closed(0, 0),
            enough: u64::MAX,
            dwell: None,
            anew: false,
        };
        self.ask(index, ask, clock());
    }

    /// Wakes listeners whose time has come.
    fn fire(&mut self, now: Instant) {
        while let Some(Reverse((at, index, turn))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let listener = &self.listeners[index];
            match listener.exchange {
                _ if listener.turn != turn => {}
                None => self.begin(index, now),
                Some(_) => self.sip(index, now),
            }
        }
    }

    /// A player reads on, or stops.
    fn sip(&mut self, index: usize, now: Instant) {
        let listener = &mut self.listeners[index];
        let Some(exchange) = &mut listener.exchange else {
            return;
        };
        let Some(dwell) = exchange.ask.dwell else {
            return;
        };
        let first = exchange.first.unwrap_or(now);
        let played = now - first;
        if played >= dwell {
            return self.done(index, false);
        }
        let bitrate = self.parts[listener.part].crowd.shape.bitrate;
        let audio = (played + BUFFER).as_secs_f64() * super::float(bitrate);
        exchange.allowed = super::whole(audio);
        self.wake((now + SIP).min(first + dwell), index);
        self.advance(index);
    }

    fn sweep(&mut self, now: Instant) {
        if now - self.swept < SWEEP {
            return;
        }
        self.swept = now;
        for index in 0..self.listeners.len() {
            let exchange = self.listeners[index].exchange.as_ref();
            let quiet = exchange.map(|exchange| now.saturating_duration_since(exchange.heard));
            if quiet.is_some_and(|quiet| quiet > self.plan.timeout) {
                let text = format!("nothing for {:?}", self.plan.timeout);
                self.failed(index, (Failure::TimedOut, text));
            }
        }
    }

    /// Looks after every connection that is ready, or waits for one.
    fn turn(&mut self, events: &mut Events, now: Instant, end: Instant) -> Result<(), LoadError> {
        let wait = self.wait(now, end);
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(LoadError::Poll(error));
            }
            _ => {}
        }
        let worked = !events.is_empty() || !self.nothing_waits();
        if worked {
            self.worked = clock();
        } else {
            // So that the kernel's queue is not fought for.
            (0..PAUSE).for_each(|_| std::hint::spin_loop());
        }
        if !worked || !wait.is_zero() {
            self.rested += clock() - now;
        }
        let again = std::mem::take(&mut self.again);
        for event in &*events {
            self.look_after(event.token().0);
        }
        for index in again {
            self.listeners[index].queued = false;
            self.advance(index);
        }
        if self.side.http2.is_some() {
            self.answer();
        }
        for (index, wrong) in std::mem::take(&mut self.unsent) {
            self.failed(index, wrong);
        }
        Ok(())
    }

    fn nothing_waits(&self) -> bool {
        self.again.is_empty() && self.unsent.is_empty() && self.links.nothing_waits()
    }

    /// How long to wait for connections at most. For a while it looks without waiting: to wake it
    /// would cost a server on the same machine more than the request itself.
    fn wait(&self, now: Instant, end: Instant) -> Duration {
        if !self.nothing_waits() || now - self.worked < AWAKE {
            return Duration::ZERO;
        }
        let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
        let due = (0..self.parts.len()).filter_map(|place| self.next_due(place));
        let next = [timer, due.min(), Some(now + SWEEP), Some(end)];
        let next = next.into_iter().flatten().min().unwrap_or(end);
        // Rounded up by the poll, so that a whole one must be left.
        let wait = next.saturating_duration_since(now);
        wait.checked_sub(SHORTEST_WAIT).unwrap_or_default()
    }
}
