//! When requests are due, who sends them, and what is still owed when time is up.

use std::cmp::Reverse;
use std::time::Instant;

use super::Worker;
use crate::load::scenario::{Script, due, joins};
use crate::load::tally::record;
use crate::load::{Pace, wide};

impl Worker<'_> {
    /// Listeners begin one after the other; at a rate they wait for visits.
    pub(super) fn join(&mut self) {
        let mut joined = vec![0; self.parts.len()];
        for index in 0..self.listeners.len() {
            let place = self.listeners[index].part;
            let part = &mut self.parts[place];
            if matches!(part.crowd.pace, Pace::Open(_)) {
                part.idle.push(index);
                continue;
            }
            let number = joined[place] * self.plan.threads + self.index;
            joined[place] += 1;
            let after = joins(number, part.crowd.listeners, self.plan.ramp);
            self.wake(self.began + after, index);
        }
        // So that the first of them is the first to be called.
        self.parts.iter_mut().for_each(|part| part.idle.reverse());
    }

    pub(super) fn wake(&mut self, at: Instant, index: usize) {
        let turn = self.listeners[index].turn;
        self.timers.push(Reverse((at, index, turn)));
    }

    pub(super) fn next_due(&self, place: usize) -> Option<Instant> {
        let part = &self.parts[place];
        match part.crowd.pace {
            _ if self.looking.is_some() => None,
            Pace::Closed | Pace::Once => None,
            Pace::Open(rate) => self.began.checked_add(due(part.next, rate, self.plan.ramp)),
        }
    }

    /// Gives the visits that are due by now to listeners that are free.
    pub(super) fn release(&mut self, now: Instant) {
        for place in 0..self.parts.len() {
            while let Some(due) = self.next_due(place).filter(|due| *due <= now) {
                let part = &mut self.parts[place];
                let number = part.next;
                part.next += wide(self.plan.threads);
                record(&mut part.tally.lag, now - due);
                match part.idle.pop() {
                    Some(index) => self.visit(index, number, due),
                    None => {
                        part.tally.queued += 1;
                        part.backlog.push_back((number, due));
                    }
                }
            }
        }
    }

    pub(super) fn visit(&mut self, index: usize, number: u64, due: Instant) {
        let part = &self.parts[self.listeners[index].part];
        let script = Script::new(part.crowd.mix.of(number), part.seed, number);
        self.listeners[index].script = script;
        self.begin(index, due);
    }

    /// Adds what is still unanswered. At a rate it counts as answered now, which it would have been
    /// at the earliest.
    pub(super) fn close_books(&mut self, now: Instant) {
        for (place, part) in self.parts.iter_mut().enumerate() {
            let under_way = self.listeners.iter().filter_map(|listener| {
                let exchange = listener.exchange.as_ref()?;
                let waits = listener.part == place && exchange.first.is_none();
                waits.then_some(exchange.due)
            });
            let waiting = under_way.chain(part.backlog.iter().map(|(_, due)| *due));
            let tally = &mut part.tally;
            for due in waiting {
                let waited = now.saturating_duration_since(due);
                tally.unanswered += 1;
                tally.longest = tally.longest.max(waited);
                if matches!(part.crowd.pace, Pace::Open(_)) {
                    record(&mut tally.first, waited);
                    record(&mut tally.whole, waited);
                }
            }
            (tally.elapsed, tally.idle, tally.threads) = (now - self.since, self.rested, 1);
        }
    }
}
