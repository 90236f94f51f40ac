//! How long a directory takes to say what lies in it.
//!
//! The kernel tells whether it knows a name, not whether it would have to ask the disk for one that it
//! does not know: most directories that are asked much lie in memory, and looking there takes a hundredth
//! of the time that a thread of the blocking pool takes to be woken. So it is tried out.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A look that takes longer has waited for a disk, or has had to wait behind others.
const QUICK: Duration = Duration::from_micros(500);
/// After so many quick looks in a row the next is taken to be one too.
const TRUSTED: u32 = 32;

/// What was seen of late.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Quick looks in a row.
    quick: AtomicU32,
}

impl Pace {
    /// Whether the next look is likely to be quick. Where it is not, that is the last for a while: one look
    /// in more than [`TRUSTED`] can make those wait who are served by the same thread.
    pub(super) fn is_quick(&self) -> bool {
        self.quick.load(Ordering::Relaxed) >= TRUSTED
    }

    /// Looks, and notes how long it took.
    #[expect(
        clippy::disallowed_methods,
        reason = "the time a disk takes is nobody's argument"
    )]
    pub(super) fn timed<T>(&self, look: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let seen = look();
        self.took(began.elapsed());
        seen
    }

    fn took(&self, time: Duration) {
        let quick = if time < QUICK {
            self.quick.load(Ordering::Relaxed).saturating_add(1)
        } else {
            0
        };
        self.quick.store(quick, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_trusted_until_it_is_slow_once() {
        let pace = Pace::default();
        for _ in 0..TRUSTED {
            assert!(!pace.is_quick());
            pace.took(Duration::from_micros(499));
        }
        assert!(pace.is_quick());
        pace.took(QUICK);
        assert!(!pace.is_quick());
        for _ in 0..TRUSTED {
            assert_eq!(pace.timed(|| 7), 7);
        }
    }
}
