//! What others see of a run while it goes on, and how they end it.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::LoadError;
use super::tally::{Tally, histogram, record};

/// How often threads tell what they have done.
const OFTEN: Duration = Duration::from_millis(200);

/// A run that can be watched and stopped.
#[derive(Debug)]
pub struct Watch {
    /// Set to end the run; what was counted so far is its result.
    pub stop: AtomicBool,
    live: Option<Mutex<Live>>,
}

/// What happened since it was last looked at.
#[derive(Debug, Clone)]
pub struct Live {
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
            live: None,
        }
    }

    /// Somebody looks.
    ///
    /// # Errors
    /// [`LoadError::Histogram`]
    pub fn seen() -> Result<Self, LoadError> {
        let live = Live {
            requests: 0,
            bytes: 0,
            failures: 0,
            first: histogram()?,
        };
        Ok(Self {
            stop: AtomicBool::new(false),
            live: Some(Mutex::new(live)),
        })
    }

    fn live(&self) -> Option<MutexGuard<'_, Live>> {
        let live = self.live.as_ref()?;
        Some(live.lock().unwrap_or_else(PoisonError::into_inner))
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

/// What one thread has told so far.
pub(super) struct Report {
    first: Option<Histogram<u64>>,
    told: Option<Instant>,
    requests: u64,
    bytes: u64,
    failures: u64,
}

impl Report {
    pub(super) fn new(watch: &Watch) -> Result<Self, LoadError> {
        Ok(Self {
            first: watch.live.is_some().then(histogram).transpose()?,
            told: None,
            requests: 0,
            bytes: 0,
            failures: 0,
        })
    }

    pub(super) fn first(&mut self, time: Duration) {
        if let Some(first) = &mut self.first {
            record(first, time);
        }
    }

    /// Tells what is new, now and then.
    pub(super) fn pass(&mut self, now: Instant, tally: &Tally, watch: &Watch) {
        if self.told.is_none_or(|told| now - told >= OFTEN) {
            self.told = Some(now);
            self.pass_last(tally, watch);
        }
    }

    pub(super) fn pass_last(&mut self, tally: &Tally, watch: &Watch) {
        let (Some(mut live), Some(first)) = (watch.live(), &mut self.first) else {
            return;
        };
        let failures = tally.failed();
        live.requests += tally.requests - self.requests;
        live.bytes += tally.bytes - self.bytes;
        live.failures += failures - self.failures;
        (self.requests, self.bytes, self.failures) = (tally.requests, tally.bytes, failures);
        // Both have the same bounds, so that adding cannot fail.
        let _ = live.first.add(&*first);
        first.reset();
    }
}
