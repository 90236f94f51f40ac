//! Whether a call to HubSpot is made again, and when.
//!
//! Pure: what happened and how long it has been going on come in, a wait or an end comes out. Never
//! decides what is to be done about a creation that may have happened: [`What::Unclear`] ends the
//! attempts, and the caller looks before it sends anything again.

use std::time::Duration;

use http::HeaderMap;

/// How an attempt went.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    /// HubSpot answered with this status.
    Answered(u16, &'a HeaderMap),
    /// HubSpot answered with 429 and says in the body that it is the day's limit.
    DaysLimit,
    /// The request was never sent: no connection could be had.
    NotSent,
    /// The request was sent, or a part of it, and no answer came.
    Unclear,
}

/// Whether doing it twice is as good as doing it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Reading, and writing that overwrites.
    Safe,
    /// Creating.
    Unsafe,
}

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is final, good or bad.
    Final,
    /// Try again after this wait.
    Wait(Duration),
    /// A wait of this length is asked for, and would go over the bound.
    TooLong(Duration),
    /// It may have happened. Look before you send it again.
    Look,
}

/// A call's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Attempts in all.
    pub attempts: u32,
    /// The longest time from the first attempt to the beginning of the last.
    pub total: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts: 8,
            total: Duration::from_mins(2),
        }
    }
}

/// What a limit without a header is waited for.
const LIMIT: Duration = Duration::from_secs(1);
/// HubSpot's own advice for 423.
const LOCKED: Duration = Duration::from_secs(2);
/// An account is moving to another data centre, and the answer does not say for how long.
const MOVING: Duration = Duration::from_mins(1);

impl Policy {
    /// What to do after attempt number `attempt` (the first is 1), `elapsed` after the first one
    /// began. `backoff` is what would be waited where the answer does not say, its jitter included.
    #[must_use]
    pub fn verdict(
        self,
        attempt: u32,
        what: What<'_>,
        repeat: Repeat,
        elapsed: Duration,
        backoff: Duration,
    ) -> Verdict {
        let wait = match what {
            What::Unclear | What::Answered(500..=599, _) if repeat == Repeat::Unsafe => {
                return Verdict::Look;
            }
            What::NotSent | What::Unclear => backoff,
            What::DaysLimit => return Verdict::TooLong(DAY),
            What::Answered(429, fields) if daily(fields) => return Verdict::TooLong(DAY),
            What::Answered(429, fields) => interval(fields)
                .or_else(|| retry_after(fields))
                .unwrap_or(LIMIT.max(backoff)),
            // The request was not carried out: the record is locked, or the account is moving.
            What::Answered(423, fields) => retry_after(fields).unwrap_or_default().max(LOCKED),
            What::Answered(477, fields) => retry_after(fields).unwrap_or(MOVING),
            What::Answered(500 | 502 | 503 | 504 | 521 | 522 | 523 | 524, fields) => {
                retry_after(fields).unwrap_or(backoff)
            }
            What::Answered(..) => return Verdict::Final,
        };
        if attempt >= self.attempts {
            return Verdict::Final;
        }
        if elapsed.saturating_add(wait) > self.total {
            return Verdict::TooLong(wait);
        }
        Verdict::Wait(wait)
    }
}

/// A day's limit ends with the day.
const DAY: Duration = Duration::from_hours(24);

fn number(fields: &HeaderMap, name: &str) -> Option<u64> {
    fields.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Whether it is the day's limit that is used up; OAuth apps have none.
fn daily(fields: &HeaderMap) -> bool {
    number(fields, "x-hubspot-ratelimit-daily-remaining") == Some(0)
}

/// The rolling limit's length, which is the wait that surely does.
fn interval(fields: &HeaderMap) -> Option<Duration> {
    number(fields, "x-hubspot-ratelimit-interval-milliseconds").map(Duration::from_millis)
}

/// In seconds; HubSpot does not use the field's other form, a date.
fn retry_after(fields: &HeaderMap) -> Option<Duration> {
    number(fields, "retry-after").map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Repeat::{Safe, Unsafe};
    use Verdict::{Final, Look, TooLong, Wait};

    fn fields(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn verdicts() {
        const S: fn(u64) -> Duration = Duration::from_secs;
        let none = fields(&[]);
        let interval = fields(&[("x-hubspot-ratelimit-interval-milliseconds", "10000")]);
        let daily = fields(&[
            ("x-hubspot-ratelimit-interval-milliseconds", "10000"),
            ("x-hubspot-ratelimit-daily-remaining", "0"),
        ]);
        let plenty = fields(&[("x-hubspot-ratelimit-daily-remaining", "9")]);
        let after = fields(&[("retry-after", "7")]);
        let moving = fields(&[("retry-after", "86400")]);
        let junk = fields(&[
            ("retry-after", "soon"),
            ("x-hubspot-ratelimit-interval-milliseconds", "-1"),
        ]);
        let answered = |status, fields| What::Answered(status, fields);
        let policy = Policy {
            attempts: 4,
            total: S(60),
        };
        for (attempt, what, repeat, elapsed, expect) in [
            (1, answered(200, &none), Safe, 0, Final),
            (1, answered(400, &none), Safe, 0, Final),
            (1, answered(401, &none), Safe, 0, Final),
            (1, answered(404, &none), Unsafe, 0, Final),
            // The limit's own words.
            (1, answered(429, &interval), Safe, 0, Wait(S(10))),
            (1, answered(429, &interval), Unsafe, 0, Wait(S(10))),
            (1, answered(429, &after), Safe, 0, Wait(S(7))),
            (1, answered(429, &none), Safe, 0, Wait(S(3))),
            (1, answered(429, &junk), Safe, 0, Wait(S(3))),
            (1, answered(429, &plenty), Safe, 0, Wait(S(3))),
            (1, answered(429, &daily), Safe, 0, TooLong(S(86_400))),
            (1, What::DaysLimit, Safe, 0, TooLong(S(86_400))),
            (1, What::DaysLimit, Unsafe, 0, TooLong(S(86_400))),
            (4, answered(429, &interval), Safe, 0, Final),
            (2, answered(429, &interval), Safe, 50, Wait(S(10))),
            (2, answered(429, &interval), Safe, 51, TooLong(S(10))),
            // Locked, moving.
            (1, answered(423, &none), Unsafe, 0, Wait(S(2))),
            (1, answered(423, &after), Unsafe, 0, Wait(S(7))),
            (1, answered(477, &after), Unsafe, 0, Wait(S(7))),
            (1, answered(477, &none), Unsafe, 0, Wait(S(60))),
            (1, answered(477, &moving), Safe, 0, TooLong(S(86_400))),
            // Broken.
            (1, answered(502, &none), Safe, 0, Wait(S(3))),
            (1, answered(503, &after), Safe, 0, Wait(S(7))),
            (1, answered(504, &none), Safe, 0, Wait(S(3))),
            (1, answered(521, &none), Safe, 0, Wait(S(3))),
            (1, answered(523, &none), Safe, 0, Wait(S(3))),
            (1, answered(524, &none), Safe, 0, Wait(S(3))),
            (1, answered(501, &none), Safe, 0, Final),
            (1, answered(502, &none), Unsafe, 0, Look),
            (1, answered(501, &none), Unsafe, 0, Look),
            (4, answered(502, &none), Unsafe, 0, Look),
            (4, answered(502, &none), Safe, 0, Final),
            // No answer.
            (1, What::NotSent, Unsafe, 0, Wait(S(3))),
            (4, What::NotSent, Unsafe, 0, Final),
            (1, What::Unclear, Safe, 0, Wait(S(3))),
            (1, What::Unclear, Unsafe, 0, Look),
        ] {
            let verdict = policy.verdict(attempt, what, repeat, S(elapsed), S(3));
            assert_eq!(verdict, expect, "{attempt} {what:?} {repeat:?} {elapsed}");
        }
    }
}
