//! What a panic is to a server: the end of one connection, a line in the log, and a count.
//!
//! Says where it was and not what it said, which may be of a request.

use std::panic::{PanicHookInfo, set_hook};
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// From now on panics are logged as all else is.
pub(super) fn watch() {
    set_hook(Box::new(told));
}

fn told(panic: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let place = panic.location().map(ToString::to_string);
    tracing::error!(place, "a panic; what it was about has ended");
}

/// How many there have been.
pub(super) fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted_and_ends_its_thread_alone() {
        let usual = std::panic::take_hook();
        watch();
        let ended = std::thread::spawn(|| panic!("of a request")).join();
        set_hook(usual);
        assert!(ended.is_err());
        assert!(count() > 0);
    }
}
