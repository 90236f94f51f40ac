//! The pulse of a connection: what moves on it, and what it means where nothing does.
//!
//! Whoever reads and writes tells the pulse; once a second somebody looks. Pure, but for the
//! counters: when is an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Settings;
use super::frames::Came;
use super::front::Cut;

/// Frames of no content that are taken between two looks, from one who takes nothing.
const MOST_CONTROL: u64 = 1000;
/// For so many bytes that a client takes, it may send one more: to say how far it is.
const PER_CONTROL: u64 = 256;
/// Bytes of the longest answer to one, a PING's.
const ANSWER: u64 = 17;

/// How often a connection is looked at.
pub(super) fn tick(settings: &Settings) -> Duration {
    Duration::from_secs(1).min(settings.header_timeout / 4)
}

/// What is known of a connection at any time.
#[derive(Debug)]
pub(super) struct Pulse {
    read: AtomicU64,
    written: AtomicU64,
    /// HTTP/2: bytes of contents that came, and frames that brought none and no request.
    data: AtomicU64,
    control: AtomicU64,
    /// The socket takes nothing more for now.
    stalled: AtomicBool,
    /// All that has been read are whole messages.
    between: AtomicBool,
    /// Requests that have been answered, or are being, since one was awaited.
    asked: AtomicU64,
    /// Something of a handler's answer may not have left yet.
    owes: AtomicBool,
    /// As many as there are requests under way, and this one.
    presence: Arc<()>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            data: AtomicU64::new(0),
            control: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            between: AtomicBool::new(true),
            asked: AtomicU64::new(0),
            owes: AtomicBool::new(false),
            presence: Arc::default(),
        }
    }
}

impl Pulse {
    /// So many bytes came; `between` when a head may begin behind them.
    pub(super) fn read(&self, bytes: usize, between: bool) {
        add(&self.read, bytes);
        self.between.store(between, Ordering::Relaxed);
    }

    /// HTTP/2: what the bytes were.
    pub(super) fn framed(&self, came: Came) {
        add(&self.data, came.data);
        add(&self.control, came.control);
    }

    /// So many bytes went, or the socket took none.
    pub(super) fn written(&self, bytes: usize, stalled: bool) {
        add(&self.written, bytes);
        self.stalled.store(stalled, Ordering::Relaxed);
    }

    /// Whether the last write waits for the socket.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// To be held while a request is under way.
    pub(super) fn presence(&self) -> Arc<()> {
        add(&self.asked, 1);
        self.owes.store(true, Ordering::Relaxed);
        Arc::clone(&self.presence)
    }

    /// Forgets the requests so far.
    pub(super) fn await_request(&self) {
        self.asked.store(0, Ordering::Relaxed);
    }

    /// Whether one has come since.
    pub(super) fn has_request(&self) -> bool {
        self.asked.load(Ordering::Relaxed) > 0
    }

    /// HTTP/1.1: how many requests there were before the one whose head has begun to come, if one has
    /// and none is under way.
    pub(super) fn half_a_head(&self) -> Option<u64> {
        let begun = !self.between.load(Ordering::Relaxed) && !self.is_busy();
        begun.then(|| self.asked.load(Ordering::Relaxed))
    }

    /// All that was to be sent so far has been.
    pub(super) fn flushed(&self) {
        if !self.is_busy() {
            self.owes.store(false, Ordering::Relaxed);
        }
    }

    /// Whether what is sent next may be a handler's.
    pub(super) fn owes(&self) -> bool {
        self.owes.load(Ordering::Relaxed)
    }

    /// Whether a request is under way.
    pub(super) fn is_busy(&self) -> bool {
        Arc::strong_count(&self.presence) > 1
    }
}

/// One writer at a time, so that no read-modify-write is needed.
fn add(count: &AtomicU64, bytes: usize) {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    count.store(
        count.load(Ordering::Relaxed).wrapping_add(bytes),
        Ordering::Relaxed,
    );
}

/// What a look finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Something goes on.
    Lively,
    /// No request is under way, and nothing has moved for so long.
    Idle(Duration),
    /// Whoever reads takes less than the least for as long as is allowed, or sends more frames of
    /// no content than anybody needs.
    Cut(Cut),
}

/// Looks at one pulse, again and again.
#[derive(Debug)]
pub(super) struct Watch {
    read: u64,
    written: u64,
    control: u64,
    /// When something was last going on.
    lively: Instant,
    /// Since when somebody has been waited for whenever it was looked at, and what had moved then.
    full: Option<(Instant, u64)>,
    /// HTTP/2: a response may wait for its stream as well as for the socket, and pings are no life.
    multiplexed: bool,
}

impl Watch {
    pub(super) fn from(at: Instant, multiplexed: bool) -> Self {
        Self {
            read: 0,
            written: 0,
            control: 0,
            lively: at,
            full: None,
            multiplexed,
        }
    }

    pub(super) fn look(&mut self, pulse: &Pulse, at: Instant, settings: &Settings) -> Finding {
        let read = pulse.read.load(Ordering::Relaxed);
        let written = pulse.written.load(Ordering::Relaxed);
        let moved = (read, written) != (self.read, self.written);
        let busy = pulse.is_busy();
        let stalled = pulse.is_stalled();
        let control = pulse.control.load(Ordering::Relaxed);
        let taken = written.wrapping_sub(self.written);
        if control.wrapping_sub(self.control) > MOST_CONTROL + taken / PER_CONTROL {
            return Finding::Cut(Cut::Flood);
        }
        (self.read, self.written, self.control) = (read, written, control);
        if stalled || (self.multiplexed && busy) {
            // Answers to pings are no progress.
            let progress = written
                .wrapping_add(pulse.data.load(Ordering::Relaxed))
                .wrapping_sub(control.wrapping_mul(ANSWER));
            if self.is_stuck(progress, at, settings) {
                return Finding::Cut(Cut::Stuck);
            }
        } else {
            self.full = None;
        }
        let idle = if self.multiplexed {
            !busy
        } else {
            !busy && !moved && !stalled && pulse.between.load(Ordering::Relaxed)
        };
        if !idle {
            self.lively = at;
            return Finding::Lively;
        }
        Finding::Idle(at.saturating_duration_since(self.lively))
    }

    /// Whether less than the least has moved since somebody was first waited for.
    fn is_stuck(&mut self, progress: u64, at: Instant, settings: &Settings) -> bool {
        let (since, before) = *self.full.get_or_insert((at, progress));
        let time = at.saturating_duration_since(since);
        if time < settings.write_timeout {
            return false;
        }
        let least = settings.least_pace.saturating_mul(time.as_secs()).max(1);
        self.full = Some((at, progress));
        // Behind where it was, where there were answers alone.
        let moved = progress.wrapping_sub(before);
        moved < least || moved > u64::MAX / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        write_timeout: Duration::from_secs(30),
        least_pace: 100,
        ..Settings::DEFAULT
    };

    /// What is found at each of so many seconds, after what `step` did before.
    fn findings(
        multiplexed: bool,
        seconds: u64,
        mut step: impl FnMut(u64, &Pulse),
    ) -> Vec<Finding> {
        #[expect(clippy::disallowed_methods, reason = "a beginning to count from")]
        let begin = Instant::now();
        let pulse = Pulse::default();
        let mut watch = Watch::from(begin, multiplexed);
        let mut look = |second| {
            step(second, &pulse);
            watch.look(&pulse, begin + Duration::from_secs(second), &SETTINGS)
        };
        (1..=seconds).map(&mut look).collect()
    }

    #[test]
    fn a_connection_is_idle_between_requests() {
        let mut request = None;
        let found = findings(false, 6, |second, pulse| match second {
            1 => pulse.read(10, false),
            2 => {
                pulse.read(10, true);
                request = Some(pulse.presence());
            }
            4 => request = None,
            _ => {}
        });
        let idle = |seconds| Finding::Idle(Duration::from_secs(seconds));
        let lively = Finding::Lively;
        assert_eq!(found, [lively, lively, lively, idle(1), idle(2), idle(3)]);
        drop(request);
    }

    #[test]
    fn half_a_head_is_not_idle() {
        let found = findings(false, 9, |second, pulse| {
            if second == 1 {
                pulse.read(1, false);
            }
        });
        assert_eq!(found, [Finding::Lively; 9]);
    }

    #[test]
    fn a_reader_below_the_least_is_stuck() {
        for (each, stuck) in [(0, true), (99, true), (100, false), (5000, false)] {
            let mut request = None;
            let found = findings(false, 100, |second, pulse| {
                request.get_or_insert_with(|| pulse.presence());
                pulse.written(if second == 1 { 0 } else { each }, true);
            });
            let first = found
                .iter()
                .position(|found| *found == Finding::Cut(Cut::Stuck));
            assert_eq!(first, stuck.then_some(30), "{each}");
        }
    }

    #[test]
    fn a_socket_that_takes_everything_is_never_stuck() {
        let found = findings(false, 100, |second, pulse| {
            pulse.written(0, second % 20 == 0);
        });
        assert!(!found.contains(&Finding::Cut(Cut::Stuck)));
    }

    #[test]
    fn a_stream_whose_window_is_shut_is_stuck() {
        let mut request = None;
        let found = findings(true, 40, |_, pulse| {
            request.get_or_insert_with(|| pulse.presence());
        });
        assert_eq!(
            found
                .iter()
                .position(|found| *found == Finding::Cut(Cut::Stuck)),
            Some(30)
        );
    }

    #[test]
    fn pings_open_no_window() {
        let mut request = None;
        let found = findings(true, 40, |_, pulse| {
            request.get_or_insert_with(|| pulse.presence());
            // Forty a second, each answered.
            pulse.read(40 * 17, true);
            pulse.written(40 * 17, false);
            pulse.framed(Came {
                control: 40,
                ..Came::default()
            });
        });
        let stuck = Finding::Cut(Cut::Stuck);
        assert_eq!(found.iter().position(|found| *found == stuck), Some(30));
    }

    #[test]
    fn who_takes_or_brings_something_is_not_stuck() {
        for (written, data) in [(5000, 0), (0, 5000)] {
            let mut request = None;
            let found = findings(true, 100, |_, pulse| {
                request.get_or_insert_with(|| pulse.presence());
                pulse.written(written, false);
                let control = 2;
                pulse.framed(Came {
                    data,
                    control,
                    ..Came::default()
                });
            });
            assert_eq!(found, [Finding::Lively; 100]);
        }
    }

    #[test]
    fn a_flood_is_frames_for_nothing() {
        for (control, written, flood) in [
            (1000, 0, false),
            (1001, 0, true),
            (5000, 0, true),
            (5000, 1_100_000, false),
        ] {
            let found = findings(true, 5, |_, pulse| {
                pulse.written(written, false);
                pulse.framed(Came {
                    control,
                    ..Came::default()
                });
            });
            let first = found.contains(&Finding::Cut(Cut::Flood));
            assert_eq!(first, flood, "{control} {written}");
        }
    }

    #[test]
    fn pings_keep_no_connection() {
        let found = findings(true, 3, |_, pulse| pulse.read(17, true));
        assert_eq!(found[2], Finding::Idle(Duration::from_secs(3)));
    }
}
