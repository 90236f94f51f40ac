//! `tonearm load`: what concurrent listeners ask of a server, measured honestly.
//!
//! Decides what is asked when, whether an answer is right, and what is counted. At a rate, time runs
//! from when a request was due, so that a server that stalls shows in every percentile. It never
//! retries in silence, never ends for what a server does, and sends only what its [`Plan`] says.
//!
//! HTTP/1.1 it speaks with a client of its own (`connection`), since a load generator that is slower
//! than the server measures itself; HTTP/2 with h2 (`stream`), and TLS with rustls (`wire`).

mod chunked;
mod connection;
mod engine;
mod exchange;
mod head;
pub mod page;
mod pipe;
mod scenario;
pub mod slo;
mod stream;
pub mod summary;
mod svg;
mod tally;
mod target;
mod watch;
mod wire;
pub mod words;

use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use self::engine::Worker;
pub use self::scenario::{Mix, SCENARIOS, Scenario, Shape};
pub use self::summary::{Outcome, Summary};
use self::tally::Tally;
pub use self::target::{Expected, Recording, TargetError};
pub use self::watch::{Live, Moments, Watch};
pub use self::wire::{Tls, TlsError, Trust};

/// How it names itself.
const USER: &str = concat!("tonearm-load/", env!("CARGO_PKG_VERSION"));

/// Longest time that the lengths of recordings are looked for before a run.
const LOOKING: Duration = Duration::from_secs(2);

/// Why a run cannot be.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel gives no poll.
    #[error("cannot wait for connections")]
    Poll(#[source] std::io::Error),
    /// Memory for the figures.
    #[error("cannot count")]
    Histogram(#[from] hdrhistogram::CreationError),
    /// Figures of two threads that do not fit together.
    #[error("cannot add up")]
    Addition(#[from] hdrhistogram::AdditionError),
    /// A thread ended before its time.
    #[error("a thread of the load ended before its time")]
    Thread,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each listener sends its next one when it has the answer to the last.
    Closed,
    /// So many visits a second, more than 0, whatever became of those before.
    Open(f64),
    /// Each listener sends one, and stays connected until all have had their answers.
    Once,
}

/// Listeners that do the same.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// What they do.
    pub mix: Mix,
    /// Sizes and times of that.
    pub shape: Shape,
    /// When requests are sent.
    pub pace: Pace,
    /// Most requests at once, at least 1.
    pub listeners: usize,
    /// Which of a side's recordings they ask for; none for all.
    pub recordings: Option<std::ops::Range<usize>>,
}

/// A server, or what else is compared.
#[derive(Debug)]
pub struct Side {
    /// What it is called.
    pub name: String,
    /// At least one.
    pub recordings: Vec<Recording>,
    /// HTTP/2, with streams of so many listeners on one connection; else HTTP/1.1.
    pub http2: Option<usize>,
}

impl Plan {
    fn has_players(&self) -> bool {
        let mut crowds = self.crowds.iter();
        crowds.any(|crowd| crowd.mix.has(Scenario::Player))
    }

    /// Most requests at once.
    fn listeners(&self) -> usize {
        self.crowds.iter().map(|crowd| crowd.listeners).sum()
    }
}

impl Side {
    /// Whether all of it is on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        !self.recordings.iter().any(Recording::is_remote)
    }
}

/// All that is to be done.
#[derive(Debug)]
pub struct Plan {
    /// At least one; the others are compared with the first.
    pub sides: Vec<Side>,
    /// At least one; all at the same time.
    pub crowds: Vec<Crowd>,
    /// For each side, all rounds together, without their warm-ups.
    pub duration: Duration,
    /// Time at the beginning of each round that is not counted.
    pub warm_up: Duration,
    /// Turns of each side, at least 1.
    pub rounds: u32,
    /// Time in which the load rises, at the beginning of each round.
    pub ramp: Duration,
    /// Longest silence of a server.
    pub timeout: Duration,
    /// The same seed asks for the same bytes.
    pub seed: u64,
    /// The bytes of one response in so many are compared; 0 for none.
    pub check_every: u64,
    /// At least 1, and at most one a listener.
    pub threads: usize,
    /// How TLS is spoken, where a URL asks for it.
    pub tls: Option<Tls>,
}

/// Does it. Blocks until it is over.
///
/// # Errors
/// [`LoadError`], of this machine; what servers do is counted.
pub fn run(plan: &Plan, watch: &Watch) -> Result<Outcome, LoadError> {
    allow_sockets(plan.listeners());
    for side in &plan.sides {
        look(plan, side, watch)?;
    }
    let mut rounds = Vec::new();
    let stopped = || watch.stop.load(std::sync::atomic::Ordering::Relaxed);
    for round in 0..plan.rounds {
        let mut tallies = Vec::new();
        for side in &plan.sides {
            watch.turn(&side.name);
            tallies.push(Tally::together(&drive(plan, side, round, watch)?)?);
        }
        rounds.push(tallies);
        if stopped() {
            break;
        }
    }
    Outcome::of(plan, &rounds)
}

/// Does it once to one side, whatever others the plan has; by crowd, what it got.
///
/// # Errors
/// As [`run`]
pub fn once(plan: &Plan, side: &Side, watch: &Watch) -> Result<Vec<Summary>, LoadError> {
    allow_sockets(plan.listeners());
    look(plan, side, watch)?;
    let tallies = drive(plan, side, 0, watch)?;
    let summary = |tally| Summary::of(plan, side, tally);
    Ok(tallies.iter().map(summary).collect())
}

/// One round of one side, with all threads; by crowd.
fn drive(plan: &Plan, side: &Side, round: u32, watch: &Watch) -> Result<Vec<Tally>, LoadError> {
    let length = plan.duration / plan.rounds;
    let seed = plan.seed.wrapping_add(u64::from(round));
    let work = |index| Worker::new(plan, side, index, seed, watch)?.run(length);
    let shares: Vec<_> = std::thread::scope(|scope| {
        let begin = |index| scope.spawn(move || work(index));
        let threads: Vec<_> = (0..plan.threads).map(begin).collect();
        let end = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join();
        threads.into_iter().map(end).collect()
    });
    let empty = plan.crowds.iter().map(|_| Tally::new());
    let mut sums = empty.collect::<Result<Vec<_>, _>>()?;
    for (index, share) in shares.into_iter().enumerate() {
        let share = share.map_err(|_| LoadError::Thread)??;
        for (sum, tally) in sums.iter_mut().zip(share) {
            sum.beside(&tally)?;
            sum.threads = u32::try_from(index + 1).unwrap_or(u32::MAX);
        }
    }
    Ok(sums)
}

/// Asks for one byte of each recording, so that its length is known to all listeners from their first
/// request on, and a seed repeats a run. What goes wrong will do so again, and is counted then.
fn look(plan: &Plan, side: &Side, watch: &Watch) -> Result<(), LoadError> {
    Worker::new(plan, side, 0, plan.seed, watch)?.look(LOOKING.min(plan.timeout))
}

/// A connection is a descriptor: as many as may be had. Where there are fewer, it is counted.
fn allow_sockets(listeners: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = wide(listeners) + 64;
    if limit.current.is_some_and(|current| current < wanted) {
        let current = limit.maximum.map_or(wanted, |most| most.min(wanted));
        let _ = setrlimit(
            Resource::Nofile,
            rustix::process::Rlimit {
                current: Some(current),
                ..limit
            },
        );
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is measured is the time between two requests"
)]
fn clock() -> Instant {
    Instant::now()
}

/// A number of bytes as an index; what is too much for one is the largest.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// To the nearest number of 53 binary digits.
fn float(number: u64) -> f64 {
    let half = |part: u64| u32::try_from(part & u64::from(u32::MAX)).map_or(0.0, f64::from);
    half(number >> 32) * 4_294_967_296.0 + half(number)
}

/// Rounded down, and at least 0; what is too much is the most.
fn whole(number: f64) -> u64 {
    Duration::try_from_secs_f64(number).map_or(u64::MAX, |seconds| seconds.as_secs())
}
