//! What is counted while a run goes on.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::LoadError;

/// Plays of one listener that are kept for the map of bytes.
const MOST_PLAYS: usize = 200;
/// Longest time that is told apart from a longer one.
const LONGEST: u64 = 3_600_000_000_000;

/// Why a request did not get what it should have, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// Nobody listens there.
    Refused,
    /// The connection cannot be made for another reason.
    Unreachable,
    /// The server broke the connection off.
    Reset,
    /// Its certificate or its TLS will not do.
    Tls,
    /// Nothing came for too long.
    TimedOut,
    /// The connection ended before the body did.
    ShortBody,
    /// The connection ended before the head did, or was not kept open as promised.
    ShortHead,
    /// No response whose length can be checked.
    Malformed,
    /// Another status than the one due.
    Status(u16),
    /// A range was asked for and the whole was sent.
    WholeForRange,
    /// Content-Range or Content-Length are not of what was asked.
    WrongRange,
    /// More bytes came than were promised.
    LongBody,
    /// Other bytes than the recording's, or than those sent before.
    WrongBytes,
    /// A whole recording of another digest.
    WrongDigest,
    /// The entity tag is not what it was.
    TagChanged,
    /// A resolver's answer without a URL that can be asked.
    NoUrl,
}

impl Failure {
    /// Whether an answer was wrong, and not merely late or absent.
    pub(super) const fn is_lie(self) -> bool {
        matches!(
            self,
            Self::WholeForRange
                | Self::WrongRange
                | Self::LongBody
                | Self::ShortBody
                | Self::WrongBytes
                | Self::WrongDigest
                | Self::TagChanged
                | Self::Malformed
                | Self::NoUrl
        )
    }

    /// Of an operating system's error, in mid-body or not.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::TimedOut => Self::TimedOut,
            // No socket says so.
            io::ErrorKind::InvalidData => Self::Tls,
            _ => Self::Unreachable,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::Tls => "TLS failed",
            Self::TimedOut => "timed out",
            Self::ShortBody => "short body",
            Self::ShortHead => "closed before an answer",
            Self::Malformed => "malformed answer",
            Self::Status(status) => return write!(f, "status {status}"),
            Self::WholeForRange => "200 for a range",
            Self::WrongRange => "wrong range",
            Self::LongBody => "long body",
            Self::WrongBytes => "wrong bytes",
            Self::WrongDigest => "wrong digest",
            Self::TagChanged => "ETag changed",
            Self::NoUrl => "no URL from the resolver",
        })
    }
}

/// How often a failure was seen, and what the first was like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) count: u64,
    pub(super) example: String,
}

/// What one second brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Second {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) failures: u64,
}

/// One response of the listener that is followed: times since the start, bytes of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Play {
    pub(super) began: Duration,
    pub(super) ended: Duration,
    pub(super) first: u64,
    /// One after the last byte read.
    pub(super) end: u64,
    pub(super) aborted: bool,
}

/// A second that lacks so much is taken as a whole one.
const ALMOST: Duration = Duration::from_millis(20);

/// Everything that was counted.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Requests that got what they should have.
    pub(super) requests: u64,
    /// Bytes of bodies.
    pub(super) bytes: u64,
    /// Bytes that were compared with something.
    pub(super) compared: u64,
    /// Responses that were broken off on purpose, and what was not read of them.
    pub(super) aborted: u64,
    pub(super) aborted_bytes: u64,
    /// Those of them for which a stream was reset, and not a connection.
    pub(super) streams_reset: u64,
    pub(super) connections: u64,
    /// URLs that had expired and were asked for again.
    pub(super) renewed: u64,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) failures: BTreeMap<Failure, Seen>,
    /// Nanoseconds from when a request was due to the first byte of its answer.
    pub(super) first: Histogram<u64>,
    /// The same to the last byte that was wanted; not of what is read at a bitrate.
    pub(super) whole: Histogram<u64>,
    /// To the whole answer of the resolver.
    pub(super) resolve: Histogram<u64>,
    /// Nanoseconds from when a request was due to when it was looked at.
    pub(super) lag: Histogram<u64>,
    pub(super) timeline: Vec<Second>,
    pub(super) plays: Vec<Play>,
    pub(super) elapsed: Duration,
    /// Without anything to do, all threads together.
    pub(super) idle: Duration,
    pub(super) threads: u32,
    /// Requests that were due while no listener was free.
    pub(super) queued: u64,
    /// Requests without an answer when time was up, and the longest wait of these.
    pub(super) unanswered: u64,
    pub(super) longest: Duration,
}

impl Tally {
    pub(super) fn new() -> Result<Self, LoadError> {
        Ok(Self {
            requests: 0,
            bytes: 0,
            compared: 0,
            aborted: 0,
            aborted_bytes: 0,
            streams_reset: 0,
            connections: 0,
            renewed: 0,
            statuses: BTreeMap::new(),
            failures: BTreeMap::new(),
            first: histogram()?,
            whole: histogram()?,
            resolve: histogram()?,
            lag: histogram()?,
            timeline: Vec::new(),
            plays: Vec::new(),
            elapsed: Duration::ZERO,
            idle: Duration::ZERO,
            threads: 0,
            queued: 0,
            unanswered: 0,
            longest: Duration::ZERO,
        })
    }

    pub(super) fn second(&mut self, at: Duration) -> &mut Second {
        let index = usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
        if self.timeline.len() <= index {
            self.timeline.resize(index + 1, Second::default());
        }
        &mut self.timeline[index]
    }

    pub(super) fn fail(
        &mut self,
        at: Duration,
        failure: Failure,
        example: impl FnOnce() -> String,
    ) {
        self.second(at).failures += 1;
        let seen = self.failures.entry(failure).or_insert_with(|| Seen {
            count: 0,
            example: example(),
        });
        seen.count += 1;
    }

    pub(super) fn played(&mut self, play: Play) {
        if self.plays.len() < MOST_PLAYS {
            self.plays.push(play);
        }
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.values().map(|seen| seen.count).sum()
    }

    /// What crowds got that were served by the same threads at the same time.
    pub(super) fn together(crowds: &[Self]) -> Result<Self, LoadError> {
        let mut sum = Self::new()?;
        for crowd in crowds {
            sum.beside(crowd)?;
            sum.idle = crowd.idle;
        }
        Ok(sum)
    }

    /// Takes in what another thread counted at the same time.
    pub(super) fn beside(&mut self, other: &Self) -> Result<(), LoadError> {
        let seconds = other.timeline.iter().enumerate();
        for (at, second) in seconds {
            let mine = self.second(Duration::from_secs(super::wide(at)));
            mine.requests += second.requests;
            mine.bytes += second.bytes;
            mine.failures += second.failures;
        }
        self.elapsed = self.elapsed.max(other.elapsed);
        self.plays.extend(&other.plays);
        self.add(other)
    }

    /// Takes in what was counted in the next round.
    pub(super) fn after(&mut self, other: &Self) -> Result<(), LoadError> {
        let began = self.elapsed;
        // The last second of a round is hardly ever a whole one.
        let whole = (other.elapsed + ALMOST).as_secs().max(1);
        let seconds = other.timeline.iter().take(super::size(whole));
        self.timeline.extend(seconds);
        for play in &other.plays {
            self.played(Play {
                began: play.began + began,
                ended: play.ended + began,
                ..*play
            });
        }
        self.elapsed += other.elapsed;
        self.add(other)
    }

    fn add(&mut self, other: &Self) -> Result<(), LoadError> {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.compared += other.compared;
        self.aborted += other.aborted;
        self.aborted_bytes += other.aborted_bytes;
        self.streams_reset += other.streams_reset;
        self.connections += other.connections;
        self.renewed += other.renewed;
        self.queued += other.queued;
        self.unanswered += other.unanswered;
        self.longest = self.longest.max(other.longest);
        self.idle += other.idle;
        self.threads = self.threads.max(other.threads);
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (failure, seen) in &other.failures {
            let mine = self.failures.entry(*failure).or_insert_with(|| Seen {
                count: 0,
                example: seen.example.clone(),
            });
            mine.count += seen.count;
        }
        self.first.add(&other.first)?;
        self.whole.add(&other.whole)?;
        self.resolve.add(&other.resolve)?;
        self.lag.add(&other.lag)?;
        Ok(())
    }
}

pub(super) fn histogram() -> Result<Histogram<u64>, LoadError> {
    Ok(Histogram::new_with_bounds(1, LONGEST, 3)?)
}

pub(super) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST));
}
