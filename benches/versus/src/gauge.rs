//! How fast the cores go at a moment. One that is a thread of a processor's core, whose other thread has work of
//! somebody else's, does half as much in as much CPU time: no account of CPU time tells.

use std::cell::Cell;
use std::hint::black_box;
use std::iter::repeat_with;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::launch::pin;

/// Additions, each through memory, timed at once: a third of a millisecond.
const STEPS: u64 = 1_000_000;
/// The fastest of so many is taken, since an interrupt may fall into one.
const TRIES: usize = 3;
/// Between two looks, while a core is waited for.
const BETWEEN: Duration = Duration::from_millis(50);
/// Of the fastest pace; a core whose clock is at its lowest has 0.8 of it, one whose other thread works 0.6 and less.
const FULL: f64 = 0.75;

/// Whether a core at this pace has its work to itself.
pub(crate) fn is_full(pace: f64) -> bool {
    pace >= FULL
}

pub(crate) struct Gauge {
    cores: Vec<usize>,
    /// What any of them was seen to take at least.
    fastest: Cell<Duration>,
}

impl Gauge {
    pub(crate) fn new(cores: &[usize]) -> Self {
        Self {
            cores: cores.to_vec(),
            fastest: Cell::new(Duration::MAX),
        }
    }

    /// The slowest core's pace, 1 being the fastest that was seen of any. They are timed one by one: whether two of
    /// them slow each other down is not asked, as it would be so for every server.
    pub(crate) fn pace(&self) -> anyhow::Result<f64> {
        let mut slowest = Duration::ZERO;
        for core in &self.cores {
            let took = scope(|scope| scope.spawn(|| time_on(*core)).join());
            let took = took.map_err(|_| anyhow!("the gauge panicked"))??;
            self.fastest.set(self.fastest.get().min(took));
            slowest = slowest.max(took);
        }
        Ok(self.fastest.get().div_duration_f64(slowest))
    }

    /// Waits until all cores go at their full pace, or for `limit`; the pace they have then.
    pub(crate) fn wait(&self, limit: Duration) -> anyhow::Result<f64> {
        let begun = Instant::now();
        loop {
            let pace = self.pace()?;
            if is_full(pace) || begun.elapsed() >= limit {
                return Ok(pace);
            }
            sleep(BETWEEN);
        }
    }
}

fn time_on(core: usize) -> anyhow::Result<Duration> {
    pin(&[core])?;
    Ok(repeat_with(time).take(TRIES).min().unwrap_or_default())
}

fn time() -> Duration {
    let begun = Instant::now();
    let mut sum = 0_u64;
    for step in 0..STEPS {
        sum = black_box(sum).wrapping_add(step);
    }
    black_box(sum);
    begun.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::Cores;

    fn gauge() -> Gauge {
        let cores = Cores::find().unwrap();
        Gauge::new(&[cores.server, cores.generator])
    }

    #[test]
    fn no_core_goes_faster_than_the_fastest() {
        let pace = gauge().pace().unwrap();
        assert!(pace > 0.0 && pace <= 1.0, "{pace}");
    }

    #[test]
    fn a_core_that_was_faster_before_is_told() {
        let gauge = gauge();
        gauge.fastest.set(Duration::from_nanos(1));
        assert!(!is_full(gauge.pace().unwrap()));
        let begun = Instant::now();
        gauge.wait(BETWEEN).unwrap();
        assert!(begun.elapsed() >= BETWEEN);
    }
}
