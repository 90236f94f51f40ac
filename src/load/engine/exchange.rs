//! A request's way: begun, its URL asked for where a resolver has it, sent, read, counted; and what
//! its listener does then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Worker;
use crate::load::connection::{Connection, Progress};
use crate::load::exchange::{Exchange, Wrong};
use crate::load::scenario::{Ask, Range};
use crate::load::tally::{Failure, Play, record};
use crate::load::target::{Checker, Request};
use crate::load::{Pace, clock};

/// First and longest rest of a listener after failures that follow each other.
const REST: Duration = Duration::from_millis(10);
const LONGEST_REST: Duration = Duration::from_secs(1);
/// Times that a URL is asked for anew for one request.
const RENEWALS: u8 = 1;

/// What a resolver answers.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "authenticatedUrl")]
    url: String,
}

impl Worker<'_> {
    /// A listener's next request.
    pub(super) fn begin(&mut self, index: usize, due: Instant) {
        let recordings = &self.side.recordings;
        let listener = &mut self.listeners[index];
        let crowd = self.parts[listener.part].crowd;
        let theirs = crowd.recordings.clone().unwrap_or(0..recordings.len());
        let mut ask = listener.script.next(&crowd.shape, theirs.len(), |number| {
            recordings[theirs.start + number].length()
        });
        ask.recording += theirs.start;
        if ask.anew {
            listener.resolved = None;
        }
        listener.renewals = 0;
        self.ask(index, ask, due);
    }

    /// Sends a request, or the question for its URL first.
    pub(super) fn ask(&mut self, index: usize, ask: Ask, due: Instant) {
        let recording = &self.side.recordings[ask.recording];
        let listener = &mut self.listeners[index];
        let known = listener.resolved.as_ref();
        let known = known.filter(|(which, _)| *which == ask.recording);
        let (request, question) = match known {
            Some((_, request)) if recording.resolved => (request, false),
            _ => (&recording.request, recording.resolved),
        };
        listener.pending = question.then_some((ask, due));
        let now = clock();
        let nth = listener.requests;
        let every = self.plan.check_every;
        let checked = !question && every > 0 && nth.is_multiple_of(every);
        let whole = ask.range == Range::Whole;
        let paced = !question && ask.dwell.is_some();
        let exchange = Exchange {
            request: Arc::clone(request),
            ask,
            due,
            begun: now,
            first: None,
            heard: now,
            status: 0,
            at: 0,
            length: 0,
            allowed: if paced { 1 } else { u64::MAX },
            checker: checked.then(|| Checker::new(recording, ask.range.first(), whole)),
            answer: question.then(Vec::new),
        };
        listener.requests += u64::from(!question);
        listener.turn += 1;
        self.send(index, exchange);
    }

    fn send(&mut self, index: usize, exchange: Exchange) {
        if let Some(streams) = self.side.http2 {
            return self.send_on_link(index, exchange, streams);
        }
        let listener = &mut self.listeners[index];
        let origin = &exchange.request.origin;
        if listener
            .connection
            .as_ref()
            .is_some_and(|kept| kept.origin != *origin)
        {
            listener.connection = None;
        }
        if listener.connection.is_none() {
            self.parts[listener.part].tally.connections += 1;
            let tls = self.plan.tls.as_ref();
            match Connection::open(origin, tls, self.poll.registry(), index) {
                Ok(connection) => listener.connection = Some(connection),
                Err(error) => {
                    listener.exchange = Some(exchange);
                    let wrong = (Failure::of(&error), error.to_string());
                    return self.unsent.push((index, wrong));
                }
            }
        }
        let connection = listener.connection.as_mut();
        let broken = connection.is_some_and(|connection| connection.ask(&exchange));
        listener.exchange = Some(exchange);
        if broken {
            self.queue(index);
        }
    }

    /// Has a connection looked at in the next turn: it never recurses.
    pub(super) fn queue(&mut self, index: usize) {
        if !std::mem::replace(&mut self.listeners[index].queued, true) {
            self.again.push(index);
        }
    }

    pub(super) fn advance(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        let Some(exchange) = &mut listener.exchange else {
            let kept = listener.connection.as_mut();
            if kept.is_some_and(|kept| kept.is_closed(&mut self.scratch)) {
                listener.connection = None;
            }
            return;
        };
        let recording = &self.side.recordings[exchange.ask.recording];
        let tally = &mut self.parts[listener.part].tally;
        let (before, had_first) = (exchange.at, exchange.first.is_some());
        let progress = match (&mut listener.connection, &mut listener.stream) {
            (Some(connection), _) => {
                connection.advance(exchange, recording, &mut self.scratch, clock)
            }
            (None, Some(stream)) => match (self.links.at(stream.link), &listener.bell) {
                (Some(link), Some((bell, waker))) => {
                    bell.answer();
                    stream.advance(link, exchange, recording, waker, clock)
                }
                _ => Progress::Waiting,
            },
            (None, None) => return,
        };
        let came = exchange.at - before;
        let paced = exchange.ask.dwell.is_some() && exchange.answer.is_none();
        if came > 0 {
            let now = clock();
            exchange.heard = now;
            tally.bytes += came;
            tally.second(now - self.since).bytes += came;
        }
        let starts = !had_first && exchange.first.is_some() && paced;
        match progress {
            Progress::Waiting => {}
            Progress::More => self.queue(index),
            Progress::Enough => exchange.heard = clock(),
            Progress::Done(kept) => return self.done(index, kept),
            Progress::Closed => return self.reopen(index),
            Progress::Failed(wrong) => return self.failed(index, wrong),
        }
        if starts {
            self.wake(clock(), index);
        }
    }

    /// Asks the same again on a new connection, since the server closed the old one between two.
    fn reopen(&mut self, index: usize) {
        self.listeners[index].connection = None;
        self.listeners[index].stream = None;
        if let Some(exchange) = self.listeners[index].exchange.take() {
            self.send(index, exchange);
        }
    }

    /// An exchange is over, and the answer was right.
    pub(super) fn done(&mut self, index: usize, kept: bool) {
        let listener = &mut self.listeners[index];
        let Some(exchange) = listener.exchange.take() else {
            return;
        };
        if !kept
            && let Some(connection) = listener.connection.take()
            && exchange.at < exchange.length
        {
            connection.abort();
        }
        let stream = listener.stream.take();
        if exchange.answer.is_none() && stream.is_some_and(|stream| stream.is_under_way()) {
            self.parts[listener.part].tally.streams_reset += 1;
        }
        listener.failures_in_a_row = 0;
        if exchange.answer.is_some() {
            return self.resolved(index, exchange);
        }
        let now = clock();
        listener.script.leave(exchange.end());
        self.count(index, &exchange, now);
        self.go_on(index, now);
    }

    fn count(&mut self, index: usize, exchange: &Exchange, now: Instant) {
        let tally = &mut self.parts[self.listeners[index].part].tally;
        tally.requests += 1;
        tally.second(now - self.since).requests += 1;
        *tally.statuses.entry(exchange.status).or_default() += 1;
        tally.compared += exchange
            .checker
            .as_ref()
            .map_or(0, |checker| checker.compared);
        let aborted = exchange.at < exchange.length;
        tally.aborted += u64::from(aborted);
        tally.aborted_bytes += exchange.left();
        let first = exchange.first.unwrap_or(now);
        record(&mut tally.first, first - exchange.due);
        self.report.first(first - exchange.due);
        if exchange.ask.dwell.is_none() {
            record(&mut tally.whole, now - exchange.due);
        }
        // One listener is followed, so that one can see what it did.
        if index == 0 && self.index == 0 {
            tally.played(Play {
                began: exchange.begun.saturating_duration_since(self.since),
                ended: now - self.since,
                first: exchange.ask.range.first(),
                end: exchange.end(),
                aborted,
            });
        }
        if let Some(moments) = &self.watch.moments
            && self.looking.is_none()
        {
            moments.answered(exchange.ask.recording);
        }
    }

    /// What a listener does after a request that is over.
    pub(super) fn go_on(&mut self, index: usize, now: Instant) {
        if let Some(unknown) = &mut self.looking {
            return match unknown.pop() {
                Some(recording) => self.look_at(index, recording),
                None => self.content += 1,
            };
        }
        let listener = &self.listeners[index];
        let part = &mut self.parts[listener.part];
        match part.crowd.pace {
            Pace::Once => self.content += 1,
            Pace::Open(_) if listener.script.is_over() => match part.backlog.pop_front() {
                Some((number, due)) => self.visit(index, number, due),
                None => part.idle.push(index),
            },
            _ => self.begin(index, now),
        }
    }

    /// The resolver has answered: the request follows that was waiting for it.
    fn resolved(&mut self, index: usize, exchange: Exchange) {
        let now = clock();
        let tally = &mut self.parts[self.listeners[index].part].tally;
        record(&mut tally.resolve, now - exchange.begun);
        let answer = exchange.answer.as_deref().unwrap_or_default();
        let parsed: Result<Answer, _> = serde_json::from_slice(answer);
        let request = match parsed {
            Ok(answer) => self.request(answer.url),
            Err(_) => Err("the answer is no JSON with an authenticatedUrl".to_owned()),
        };
        let listener = &mut self.listeners[index];
        match (request, listener.pending.take()) {
            (Ok(request), Some((ask, due))) => {
                listener.resolved = Some((ask.recording, request));
                self.ask(index, ask, due);
            }
            (Err(problem), _) => {
                listener.exchange = Some(exchange);
                self.failed(index, (Failure::NoUrl, problem));
            }
            (Ok(_), None) => self.go_on(index, now),
        }
    }

    fn request(&mut self, url: String) -> Result<Arc<Request>, String> {
        if let Some(known) = self.requests.get(&url) {
            return Ok(Arc::clone(known));
        }
        // URLs change as they expire; what was is not needed.
        if self.requests.len() > self.side.recordings.len() {
            self.requests.clear();
        }
        let request = Request::new(&url).map_err(|error| error.to_string())?;
        if self.side.is_local() && !request.origin.address.ip().is_loopback() {
            return Err("the resolver's URL leaves this machine".to_owned());
        }
        let request = Arc::new(request);
        self.requests.insert(url, Arc::clone(&request));
        Ok(request)
    }

    /// Counts what went wrong. The run goes on.
    pub(super) fn failed(&mut self, index: usize, (failure, example): Wrong) {
        let listener = &mut self.listeners[index];
        if let Some(connection) = listener.connection.take() {
            connection.abort();
        }
        if let Some(stream) = listener.stream.take()
            && failure == Failure::TimedOut
        {
            self.links.give_up(stream.link);
        }
        let Some(exchange) = listener.exchange.take() else {
            return;
        };
        let part = &mut self.parts[listener.part];
        let resolves = self.side.recordings[exchange.ask.recording].resolved;
        let expired = matches!(failure, Failure::Status(403 | 410)) && exchange.answer.is_none();
        if expired && resolves && listener.renewals < RENEWALS {
            listener.renewals += 1;
            listener.resolved = None;
            part.tally.renewed += 1;
            return self.ask(index, exchange.ask, exchange.due);
        }
        let now = clock();
        listener.turn += 1;
        listener.script.give_up();
        if exchange.status > 0 {
            *part.tally.statuses.entry(exchange.status).or_default() += 1;
        }
        part.tally.fail(now - self.since, failure, || example);
        if !matches!(part.crowd.pace, Pace::Open(_)) && self.looking.is_none() {
            // Or a server that refuses would be asked as fast as a processor can.
            let rest = REST * 2_u32.saturating_pow(listener.failures_in_a_row.min(16));
            listener.failures_in_a_row += 1;
            let rest = rest.min(LONGEST_REST);
            self.wake(now + rest, index);
        } else {
            self.go_on(index, now);
        }
    }
}
