//! What others see of a run while it goes on, and how they end it.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::LoadError;
use super::tally::{histogram, record};

/// How often threads tell what they have done.
const OFTEN: Duration = Duration::from_millis(200);

/// What somebody does at moments of a run. It is waited for.
pub trait Moments: fmt::Debug + Send + Sync {
    /// Counting begins, after the warm-up.
    fn begins(&self) {}
    /// Time is up; connections are still open.
    fn ends(&self) {}
    /// The recording of this number was answered rightly.
    fn answered(&self, _recording: usize) {}
    /// Before each look at the connections.
    fn passes(&self) {}
}

/// A run that can be watched and stopped.
#[derive(Debug)]
pub struct Watch {
    /// Set to end the run; what was counted so far is its result.
    pub stop: AtomicBool,
    /// Called by the threads of the load.
    pub moments: Option<Arc<dyn Moments>>,
    live: Option<Mutex<Live>>,
}

/// What happened since it was last looked at.
#[derive(Debug, Clone)]
pub struct Live {
    /// Whose turn it is.
    pub side: String,
    /// Requests that got what they should have.
    pub requests: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Requests that did not.
    pub failures: u64,
    /// Nanoseconds to the first byte.
    first: Histogram<u64>,
}

impl Live {
    /// The time within which this share of requests, 0 to 1, had their first byte.
    #[must_use]
    pub fn within(&self, share: f64) -> Duration {
        Duration::from_nanos(self.first.value_at_quantile(share))
    }
}

impl Watch {
    /// Nobody looks; the run can be stopped.
    #[must_use]
    pub const fn unseen() -> Self {
        Self {
            stop: AtomicBool::new(false),
            moments: None,
            live: None,
        }
    }

    /// Somebody looks.
    ///
    /// # Errors
    /// [`LoadError::Histogram`]
    pub fn seen() -> Result<Self, LoadError> {
        let live = Live {
            side: String::new(),
            requests: 0,
            bytes: 0,
            failures: 0,
            first: histogram()?,
        };
        Ok(Self {
            stop: AtomicBool::new(false),
            moments: None,
            live: Some(Mutex::new(live)),
        })
    }

    fn live(&self) -> Option<MutexGuard<'_, Live>> {
        let live = self.live.as_ref()?;
        Some(live.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next turn is this side's.
    pub(super) fn turn(&self, side: &str) {
        if let Some(mut live) = self.live() {
            side.clone_into(&mut live.side);
        }
    }

    /// What happened since the last call.
    pub fn take(&self) -> Option<Live> {
        let mut live = self.live()?;
        let taken = live.clone();
        (live.requests, live.bytes, live.failures) = (0, 0, 0);
        live.first.reset();
        Some(taken)
    }
}

/// What one thread has counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) failures: u64,
}

/// What one thread has told so far, and when.
pub(super) struct Report {
    first: Option<Histogram<u64>>,
    at: Option<Instant>,
    told: Told,
}

impl Report {
    pub(super) fn new(watch: &Watch) -> Result<Self, LoadError> {
        Ok(Self {
            first: watch.live.is_some().then(histogram).transpose()?,
            at: None,
            told: Told::default(),
        })
    }

    pub(super) fn first(&mut self, time: Duration) {
        if let Some(first) = &mut self.first {
            record(first, time);
        }
    }

    /// Whether it is time to tell what is new.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.first.is_some() && self.at.is_none_or(|at| now - at >= OFTEN);
        if due {
            self.at = Some(now);
        }
        due
    }

    /// It is counted from nothing again.
    pub(super) fn forget(&mut self) {
        self.told = Told::default();
    }

    pub(super) fn tell(&mut self, now: Told, watch: &Watch) {
        let (Some(mut live), Some(first)) = (watch.live(), &mut self.first) else {
            return;
        };
        live.requests += now.requests - self.told.requests;
        live.bytes += now.bytes - self.told.bytes;
        live.failures += now.failures - self.told.failures;
        self.told = now;
        // Both have the same bounds, so that adding cannot fail.
        let _ = live.first.add(&*first);
        first.reset();
    }
}
