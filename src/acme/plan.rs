//! When a certificate is renewed, and when what failed is tried again. `now` is the caller's.

use std::time::Duration;

use crate::recording::UnixTime;

/// The first pause after a failure; each further one is twice as long. Five failures an hour are what
/// Let's Encrypt lets an account have of one name.
const FIRST_PAUSE: Duration = Duration::from_mins(10);
const LONGEST_PAUSE: Duration = Duration::from_hours(6);
/// How often the directory may be asked when it would like a renewal (RFC 9773 §4.3.2).
const OFTENEST: Duration = Duration::from_mins(1);
const SELDOMEST: Duration = Duration::from_hours(24);

/// A certificate's first and last second, or a directory's window for its renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: UnixTime,
    pub(super) until: UnixTime,
}

impl Span {
    /// The second that lies so far in it, from 0 to 1.
    fn at(self, part: f64) -> UnixTime {
        let length = Duration::from_secs(self.from.until(self.until));
        self.from.plus(length.mul_f64(part).as_secs())
    }
}

/// When a certificate of this life is to be renewed: within the directory's window (RFC 9773 §4.2), or
/// else when two thirds of its life are over, give or take, so that not all who were here at one time
/// come back at one time. `lot` is drawn once for a certificate, from 0 to 1.
pub(super) fn due(life: Span, window: Option<Span>, lot: f64) -> UnixTime {
    let lot = lot.clamp(0.0, 1.0);
    match window {
        // One that begins only when the certificate has ended is no help.
        Some(window) if window.from <= window.until && window.until < life.until => window.at(lot),
        _ => life.at(19.0 / 30.0 + lot / 30.0),
    }
}

/// How long a failure is left alone. `failures` are those in a row, `lot` from 0 to 1.
pub(super) fn pause(failures: u32, lot: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled
        .min(LONGEST_PAUSE)
        .mul_f64(0.75 + lot.clamp(0.0, 1.0) / 4.0)
}

/// How long a success is left alone, whatever else is said: a tenth of the certificate's life.
pub(super) fn rest(life: Span) -> Duration {
    (Duration::from_secs(life.from.until(life.until)) / 10).clamp(Duration::from_secs(1), SELDOMEST)
}

/// When the directory is asked again, which would like to be so after `wanted`.
pub(super) fn asking(wanted: Duration) -> Duration {
    wanted.clamp(OFTENEST, SELDOMEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;

    fn span(from: u64, until: u64) -> Span {
        let (from, until) = (UnixTime(from), UnixTime(until));
        Span { from, until }
    }

    #[test]
    fn a_renewal_is_due_in_the_window_or_after_two_thirds() {
        let life = span(1000 * DAY, 1090 * DAY);
        for (window, lot, days) in [
            (None, 1.0, 1060),
            (None, 0.0, 1057),
            (Some(span(1030 * DAY, 1032 * DAY)), 0.0, 1030),
            (Some(span(1030 * DAY, 1032 * DAY)), 0.5, 1031),
            (Some(span(1030 * DAY, 1032 * DAY)), 1.0, 1032),
            // One that lies behind is how a directory that will revoke says now.
            (Some(span(990 * DAY, 991 * DAY)), 1.0, 991),
            // None that anything can be made of.
            (Some(span(1032 * DAY, 1030 * DAY)), 1.0, 1060),
            (Some(span(1080 * DAY, 1090 * DAY)), 1.0, 1060),
            (Some(span(2000 * DAY, 2010 * DAY)), 0.0, 1057),
        ] {
            assert_eq!(
                due(life, window, lot),
                UnixTime(days * DAY),
                "{window:?} {lot}"
            );
        }
    }

    #[test]
    fn pauses_grow_and_end_growing() {
        let minutes = |failures, lot| pause(failures, lot).as_secs() / 60;
        assert_eq!(
            [1, 2, 3, 6, 7, 40].map(|failures| minutes(failures, 1.0)),
            [10, 20, 40, 320, 360, 360]
        );
        assert_eq!(minutes(1, 0.0), 7);
        assert_eq!(pause(0, 1.0), FIRST_PAUSE);
        assert_eq!(pause(u32::MAX, 1.0), LONGEST_PAUSE);
    }

    proptest! {
        #[test]
        fn whatever_the_lot_and_the_window_it_is_before_the_end(
            from in 0..1_u64 << 40, life in 100..1_u64 << 32, lot in 0.0..=1.0,
            window in proptest::option::of((0..1_u64 << 41, 0..1_u64 << 41)),
        ) {
            let life = span(from, from + life);
            let window = window.map(|(from, until)| span(from, until));
            prop_assert!(due(life, window, lot) < life.until);
        }
    }
}
