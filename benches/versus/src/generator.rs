//! The load: one thread, one epoll, many connections.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::ops::Range as Span;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mio::{Events, Poll};

use crate::connection::{Connection, Exchange, Progress, Range, SCRATCH, Target};
use crate::pattern::{FILE_LENGTH, Pattern, Random};
use crate::store::ColdFiles;

/// One response in so many is compared byte by byte.
const CHECKED: u64 = 16;
/// Connections opened at once.
const BURST: usize = 64;
/// After so many failures a measurement is given up.
const MOST_FAILURES: u64 = 100;
/// Steps of rest after a turn without work, so that the kernel's queue is not fought for.
const PAUSE: usize = 32;
/// A seek that takes longer is reported.
const STALL: Duration = Duration::from_secs(1);

/// Connections that do the same.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) connections: usize,
    pub(crate) ask: Ask,
    pub(crate) pace: Pace,
    pub(crate) files: Span<usize>,
}

/// What a connection asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// So many bytes, anywhere.
    Range(u64),
    Whole,
    /// Open-ended; after 64 to 256 KiB the connection is reset, and the next seek has a new one.
    Seek,
    /// So many bytes, or a whole file, of two files to a connection in turn, each dropped from the
    /// page cache in between.
    Cold(u64),
}

/// When it asks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    AtOnce,
    /// So many times a second over all connections of the group, whatever became of those before.
    Rate(u32),
    /// Once, and stays connected.
    Once,
}

/// Time of a drive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Driven {
    pub(crate) elapsed: Duration,
    /// Without anything to do.
    pub(crate) idle: Duration,
}

/// What a group got.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) done: u64,
    pub(crate) bytes: u64,
    pub(crate) latencies: Vec<u64>,
}

/// Requests that are due at their times.
struct Arrivals {
    period: Duration,
    next: Instant,
    idle: Vec<usize>,
    backlog: VecDeque<Instant>,
}

impl Arrivals {
    fn new(rate: u32) -> Self {
        Self {
            period: Duration::from_secs(1) / rate.max(1),
            next: Instant::now(),
            idle: Vec::new(),
            backlog: VecDeque::new(),
        }
    }
}

pub(crate) struct Generator<'a> {
    target: &'a Target,
    pattern: &'a Pattern,
    cold: Option<ColdFiles>,
    poll: Poll,
    events: Events,
    groups: Vec<Group>,
    pub(crate) tallies: Vec<Tally>,
    connections: Vec<Connection>,
    /// By group; none where a pace is not a rate.
    arrivals: Vec<Option<Arrivals>>,
    again: Vec<usize>,
    scratch: Vec<u8>,
    random: Random,
    failures: u64,
    /// The first failure, and stalls.
    pub(crate) problems: Vec<String>,
}

impl<'a> Generator<'a> {
    pub(crate) fn new(
        target: &'a Target,
        pattern: &'a Pattern,
        cold: Option<ColdFiles>,
    ) -> io::Result<Self> {
        Ok(Self {
            target,
            pattern,
            cold,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            groups: Vec::new(),
            tallies: Vec::new(),
            connections: Vec::new(),
            arrivals: Vec::new(),
            again: Vec::new(),
            scratch: vec![0; SCRATCH],
            random: Random::new(1),
            failures: 0,
            problems: Vec::new(),
        })
    }

    /// Opens a group's connections, a burst at a time.
    pub(crate) fn add(&mut self, group: Group) -> anyhow::Result<()> {
        let number = self.groups.len();
        let (count, pace) = (group.connections, group.pace);
        self.arrivals.push(match pace {
            Pace::Rate(rate) => Some(Arrivals::new(rate)),
            Pace::AtOnce | Pace::Once => None,
        });
        self.groups.push(group);
        self.tallies.push(Tally::default());
        for opened in 1..=count {
            let index = self.connections.len();
            let connection = self.connect(number, index)?;
            self.connections.push(connection);
            match &mut self.arrivals[number] {
                Some(arrivals) => arrivals.idle.push(index),
                None => self.begin(index, Instant::now())?,
            }
            if opened % BURST == 0 {
                self.run(Duration::from_millis(2))?;
            }
        }
        Ok(())
    }

    /// Waits until every connection has been answered.
    pub(crate) fn settle(&mut self, limit: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        while self.waiting() > 0 {
            ensure!(
                Instant::now() < end,
                "{} of {} connections have no answer after {limit:?}",
                self.waiting(),
                self.connections.len()
            );
            self.run(Duration::from_millis(20))?;
        }
        Ok(())
    }

    fn waiting(&self) -> usize {
        let waits = |connection: &&Connection| connection.waits_since().is_some();
        self.connections.iter().filter(waits).count()
    }

    /// Forgets what was counted, so that a measurement begins in full course.
    pub(crate) fn reset(&mut self) {
        self.tallies.fill(Tally::default());
        for arrivals in self.arrivals.iter_mut().flatten() {
            arrivals.backlog.clear();
            arrivals.next = arrivals.next.max(Instant::now());
        }
    }

    /// Drives all groups; how long it really took. It never sleeps: to wake it would cost the
    /// server, which sends from the other core, more than the request itself.
    pub(crate) fn run(&mut self, window: Duration) -> anyhow::Result<Driven> {
        let began = Instant::now();
        let end = began + window;
        let (mut now, mut idle) = (began, Duration::ZERO);
        while now < end {
            self.release(now)?;
            if let Some(cold) = &mut self.cold {
                cold.step()?;
            }
            let worked = self.turn()?;
            let then = Instant::now();
            if !worked {
                idle += then - now;
            }
            now = then;
        }
        Ok(Driven {
            elapsed: now - began,
            idle,
        })
    }

    /// Looks after every connection that is ready; whether there was one.
    fn turn(&mut self) -> anyhow::Result<bool> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(Duration::ZERO)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        let mut again = std::mem::take(&mut self.again);
        let worked = !events.is_empty() || !again.is_empty();
        for event in &events {
            self.advance(event.token().0)?;
        }
        for index in again.drain(..) {
            self.connections[index].queued = false;
            self.advance(index)?;
        }
        self.events = events;
        again.append(&mut self.again);
        self.again = again;
        if !worked {
            (0..PAUSE).for_each(|_| std::hint::spin_loop());
        }
        Ok(worked)
    }

    /// Sends what is due by now.
    fn release(&mut self, now: Instant) -> anyhow::Result<()> {
        for group in 0..self.groups.len() {
            while let Some(arrivals) = &mut self.arrivals[group] {
                let due = arrivals.next;
                if due > now {
                    break;
                }
                arrivals.next += arrivals.period;
                match arrivals.idle.pop() {
                    Some(index) => self.begin(index, due)?,
                    None => arrivals.backlog.push_back(due),
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, index: usize) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        let received = &mut self.tallies[connection.group].bytes;
        match connection.advance(&mut self.scratch, self.pattern, received) {
            Progress::Waiting => Ok(()),
            Progress::More => {
                if !std::mem::replace(&mut connection.queued, true) {
                    self.again.push(index);
                }
                Ok(())
            }
            Progress::Done(exchange) => self.done(index, &exchange),
            Progress::Closed(owed) => {
                self.reconnect(index)?;
                match owed {
                    Some(exchange) => self.ask(index, exchange),
                    None => Ok(()),
                }
            }
            Progress::Failed(problem) => {
                self.failed(&problem)?;
                self.reconnect(index)?;
                self.begin(index, Instant::now())
            }
        }
    }

    fn done(&mut self, index: usize, exchange: &Exchange) -> anyhow::Result<()> {
        let number = self.connections[index].group;
        let now = Instant::now();
        let tally = &mut self.tallies[number];
        tally.done += 1;
        tally
            .latencies
            .push((now - exchange.begun).as_nanos() as u64);
        let group = &self.groups[number];
        let pace = group.pace;
        if group.ask == Ask::Seek {
            self.reconnect(index)?;
        }
        let due = match (pace, &mut self.arrivals[number]) {
            (Pace::AtOnce, _) => Some(now),
            (Pace::Rate(_), Some(arrivals)) => {
                let due = arrivals.backlog.pop_front();
                if due.is_none() {
                    arrivals.idle.push(index);
                }
                due
            }
            _ => None,
        };
        due.map_or(Ok(()), |due| self.begin(index, due))
    }

    /// The next request of a connection.
    fn begin(&mut self, index: usize, due: Instant) -> anyhow::Result<()> {
        let connection = &self.connections[index];
        let group = &self.groups[connection.group];
        let file = group.files.start + self.random.below(group.files.len() as u64) as usize;
        let mut somewhere = |length: u64| {
            let first = self.random.below(FILE_LENGTH - length + 1);
            Range::Closed(first, first + length - 1)
        };
        let (file, range, enough) = match group.ask {
            Ask::Range(length) => (file, somewhere(length), length),
            Ask::Whole => (file, Range::Whole, FILE_LENGTH),
            Ask::Seek => {
                let enough = (64 << 10) + self.random.below(192 << 10);
                let first = self.random.below(FILE_LENGTH - enough);
                (file, Range::From(first), enough)
            }
            Ask::Cold(length) => {
                let pair = group.files.start + 2 * (index % (group.files.len() / 2));
                let turn = connection.count % 2;
                if let Some(cold) = &mut self.cold {
                    cold.want(pair + 1 - turn);
                }
                let range = match length {
                    FILE_LENGTH => Range::Whole,
                    _ => somewhere(length),
                };
                (pair + turn, range, length)
            }
        };
        let exchange = Exchange {
            file,
            range,
            enough,
            begun: due,
            checked: self.random.below(CHECKED) == 0,
        };
        self.ask(index, exchange)
    }

    fn ask(&mut self, index: usize, exchange: Exchange) -> anyhow::Result<()> {
        let owed = exchange.clone();
        match self.connections[index].ask(self.target, exchange) {
            Ok(()) => Ok(()),
            // The server closed it just now, as it may between two requests.
            Err(error) => {
                self.failed(&format!("a request could not be sent: {error}"))?;
                self.reconnect(index)?;
                Ok(self.connections[index].ask(self.target, owed)?)
            }
        }
    }

    fn connect(&self, group: usize, index: usize) -> anyhow::Result<Connection> {
        let address = self.target.address;
        Connection::open(group, address, self.poll.registry(), index)
            .with_context(|| format!("connection {index} to {address}"))
    }

    fn reconnect(&mut self, index: usize) -> anyhow::Result<()> {
        let mut new = self.connect(self.connections[index].group, index)?;
        new.count = self.connections[index].count;
        self.connections[index] = new;
        Ok(())
    }

    fn failed(&mut self, problem: &str) -> anyhow::Result<()> {
        self.failures += 1;
        if self.failures == 1 {
            self.problems.push(problem.to_owned());
        }
        ensure!(
            self.failures < MOST_FAILURES,
            "{MOST_FAILURES} failures; the first: {problem}"
        );
        Ok(())
    }

    /// Adds what is still unanswered: to the latencies at a rate, and to the problems where a seek
    /// has waited for long.
    pub(crate) fn close_books(&mut self) {
        let now = Instant::now();
        let mut stalled = 0;
        for connection in &self.connections {
            let Some(begun) = connection.waits_since() else {
                continue;
            };
            let group = &self.groups[connection.group];
            if matches!(group.ask, Ask::Range(_) | Ask::Seek) && now - begun > STALL {
                stalled += 1;
            }
            if matches!(group.pace, Pace::Rate(_)) {
                let waited = (now - begun).as_nanos() as u64;
                self.tallies[connection.group].latencies.push(waited);
            }
        }
        for (arrivals, tally) in self.arrivals.iter().zip(&mut self.tallies) {
            let waited = |due: &Instant| (now - *due).as_nanos() as u64;
            let backlog = arrivals.iter().flat_map(|arrivals| &arrivals.backlog);
            tally.latencies.extend(backlog.map(waited));
        }
        if stalled > 0 {
            self.problems
                .push(format!("{stalled} seeks unanswered for more than 1 s"));
        }
        if self.failures > 1 {
            self.problems.push(format!("{} failures", self.failures));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    const LENGTH: u64 = 64 << 10;

    /// Answers one request after the other with the bytes of `pattern` that `spoil` leaves.
    fn answer(mut stream: TcpStream, pattern: &Pattern, spoil: fn(&mut Vec<u8>)) -> io::Result<()> {
        let mut piece = [0; 1024];
        loop {
            let count = stream.read(&mut piece)?;
            let text = String::from_utf8_lossy(&piece[..count]).into_owned();
            let Some((_, rest)) = text.split_once("bytes=") else {
                return Ok(());
            };
            let (first, rest) = rest.split_once('-').unwrap();
            let (first, last): (usize, &str) = (first.parse().unwrap(), rest.trim());
            let mut file = Vec::new();
            pattern.write(0, &mut file)?;
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Length: {LENGTH}\r\n\
                Content-Range: bytes {first}-{last}/{FILE_LENGTH}\r\n\r\n"
            );
            let mut response = head.into_bytes();
            response.extend_from_slice(&file[first..first + LENGTH as usize]);
            spoil(&mut response);
            stream.write_all(&response)?;
            if response.len() < LENGTH as usize {
                return Ok(());
            }
        }
    }

    /// What the generator finds wrong with such a server.
    fn problems(spoil: fn(&mut Vec<u8>)) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::new(listener.local_addr().unwrap(), 1, |_| "/".to_owned());
        thread::spawn(move || {
            let pattern = Pattern::new();
            for stream in listener.incoming() {
                // A client that has seen enough resets.
                let _ = answer(stream.unwrap(), &pattern, spoil);
            }
        });
        let pattern = Pattern::new();
        let mut generator = Generator::new(&target, &pattern, None).unwrap();
        let group = Group {
            connections: 1,
            ask: Ask::Range(LENGTH),
            pace: Pace::AtOnce,
            files: 0..1,
        };
        generator.add(group).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while generator.tallies[0].done < 64 && generator.problems.is_empty() {
            assert!(Instant::now() < end, "no answers");
            generator.run(Duration::from_millis(5)).unwrap();
        }
        generator.problems
    }

    #[test]
    fn right_bytes_pass() {
        assert_eq!(problems(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn a_wrong_byte_is_found() {
        let found = problems(|response| {
            let middle = response.len() - 1000;
            response[middle] ^= 1;
        });
        assert!(found[0].starts_with("wrong byte at "), "{found:?}");
    }

    #[test]
    fn a_run_of_zeros_is_found() {
        let found = problems(|response| {
            let end = response.len();
            response[end - 4096..].fill(0);
        });
        assert!(found[0].starts_with("wrong byte at "), "{found:?}");
    }

    #[test]
    fn a_cut_body_is_found() {
        let found = problems(|response| response.truncate(10_000));
        assert!(found[0].starts_with("cut after "), "{found:?}");
    }

    #[test]
    fn a_wrong_status_is_found() {
        let found = problems(|response| response[9..12].copy_from_slice(b"200"));
        assert!(found[0].contains("was answered 200"), "{found:?}");
    }
}
