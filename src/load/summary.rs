//! What was counted, as figures: for people, for programs, and for a later run to be compared with.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::tally::{Failure, Tally};
use super::{LoadError, Plan, Side, float};

/// Shares of requests whose times are given.
const SHARES: [(&str, f64); 6] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("max", 1.0),
];
/// Points of a curve for each factor of ten in the share that is slower.
const STEPS: i32 = 12;
/// Shares of a thread's time that are too much for it to keep up.
const BUSY: f64 = 0.9;
/// Lateness of due requests that spoils their times.
const LATE: Duration = Duration::from_millis(5);

/// What a run has shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Version of tonearm.
    pub version: String,
    /// What was done, in words.
    pub done: String,
    /// Repeats the requests.
    pub seed: u64,
    /// The target first.
    pub sides: Vec<Summary>,
    /// Of the first side over each of the others, round by round.
    pub ratios: Vec<Ratio>,
}

/// What one side has shown. Times are in seconds, sizes in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// What the side is called.
    pub name: String,
    /// Its recordings' URLs, without their queries.
    pub recordings: Vec<String>,
    /// How long it was driven.
    pub seconds: f64,
    /// Requests that got what they should have.
    pub requests: u64,
    /// The same a second.
    pub requests_per_second: f64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// The same a second.
    pub bytes_per_second: f64,
    /// Bytes that were compared with the file, or with what was sent before.
    pub bytes_compared: u64,
    /// Responses broken off on purpose.
    pub aborted: u64,
    /// What was promised in these and not read.
    pub aborted_bytes: u64,
    /// Those of them for which a stream of HTTP/2 was reset; else it is a connection.
    #[serde(default)]
    pub streams_reset: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// Expired URLs that were asked for again.
    pub renewed: u64,
    /// By status, how often.
    pub statuses: BTreeMap<u16, u64>,
    /// By kind, what went wrong.
    pub failures: BTreeMap<String, Fault>,
    /// Whether an answer was wrong, and not merely late or absent.
    pub lied: bool,
    /// Times to the first byte.
    pub first_byte: Option<Times>,
    /// Times to the last byte that was wanted, without what is read at a bitrate.
    pub whole: Option<Times>,
    /// Times of the resolver.
    pub resolver: Option<Times>,
    /// By second, without a last one that was not whole.
    pub timeline: Vec<Moment>,
    /// What one listener played.
    pub plays: Vec<Played>,
    /// Requests without an answer when time was up.
    pub unanswered: u64,
    /// The longest wait of these.
    pub longest_wait: f64,
    /// Requests that were due while no listener was free.
    pub queued: u64,
    /// The load's own cost.
    pub own: Own,
}

/// How often something went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// How often.
    pub count: u64,
    /// What the first one was like.
    pub example: String,
}

/// How long things took, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many were counted.
    pub count: u64,
    /// The mean of all.
    pub mean: f64,
    /// By name, such as `p99`.
    pub percentiles: BTreeMap<String, f64>,
    /// Shares, 0 to 1, and the time within which so many were done.
    pub curve: Vec<(f64, f64)>,
}

/// A second of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Requests that got what they should have.
    pub requests: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Requests that did not.
    pub failures: u64,
}

/// A response that one listener read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Played {
    /// When it was asked for, in seconds since the start.
    pub began: f64,
    /// When it was over.
    pub ended: f64,
    /// First byte of the recording.
    pub first: u64,
    /// The byte after the last one read.
    pub end: u64,
    /// Whether it was broken off.
    pub aborted: bool,
}

/// What the load itself cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Own {
    /// Share of its threads' time in which they had something to do, 0 to 1.
    pub busy: f64,
    /// Time from when 99 % of requests were due to when they were looked at; at a rate only.
    pub lag_p99: f64,
    /// Whether this, and not the server, was the limit, in words.
    pub limit: Option<String>,
}

/// Of two sides, the first over the other: median of the rounds, least and most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// What is compared.
    pub figure: String,
    /// With whom.
    pub over: String,
    /// Middle one.
    pub median: f64,
    /// Least one.
    pub least: f64,
    /// Largest one.
    pub most: f64,
}

impl Outcome {
    /// Sums up rounds, in each of which every side had its turn.
    pub(super) fn of(plan: &Plan, rounds: &[Vec<Tally>]) -> Result<Self, LoadError> {
        let mut sides = Vec::new();
        for (number, side) in plan.sides.iter().enumerate() {
            let mut sum = Tally::new()?;
            for round in rounds {
                sum.after(&round[number])?;
            }
            sides.push(Summary::of(plan, side, &sum));
        }
        let others = plan.sides.iter().enumerate().skip(1);
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            done: plan.in_words(),
            seed: plan.seed,
            sides,
            ratios: others
                .flat_map(|(number, side)| ratios(rounds, number, &side.name))
                .collect(),
        })
    }

    /// Whether every side answered something, and nothing wrong.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.sides
            .iter()
            .all(|side| side.requests > 0 && !side.lied)
    }
}

impl Summary {
    pub(super) fn of(plan: &Plan, side: &Side, tally: &Tally) -> Self {
        let seconds = tally.elapsed.as_secs_f64();
        let a_second = |count: u64| match seconds {
            0.0 => 0.0,
            seconds => float(count) / seconds,
        };
        let failures = tally.failures.iter().map(|(failure, seen)| {
            let fault = Fault {
                count: seen.count,
                example: seen.example.clone(),
            };
            (failure.to_string(), fault)
        });
        Self {
            name: side.name.clone(),
            recordings: side
                .recordings
                .iter()
                .map(|one| one.label().to_owned())
                .collect(),
            seconds,
            requests: tally.requests,
            requests_per_second: a_second(tally.requests),
            bytes: tally.bytes,
            bytes_per_second: a_second(tally.bytes),
            bytes_compared: tally.compared,
            aborted: tally.aborted,
            aborted_bytes: tally.aborted_bytes,
            streams_reset: tally.streams_reset,
            connections: tally.connections,
            renewed: tally.renewed,
            statuses: tally.statuses.clone(),
            failures: failures.collect(),
            lied: tally
                .failures
                .keys()
                .any(|failure: &Failure| failure.is_lie()),
            first_byte: Times::of(&tally.first),
            whole: Times::of(&tally.whole),
            resolver: Times::of(&tally.resolve),
            timeline: timeline(tally),
            plays: plays(tally),
            unanswered: tally.unanswered,
            longest_wait: tally.longest.as_secs_f64(),
            queued: tally.queued,
            own: Own::of(plan, tally),
        }
    }

    /// Requests that went wrong.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().map(|fault| fault.count).sum()
    }
}

fn timeline(tally: &Tally) -> Vec<Moment> {
    let moments = tally.timeline.iter().map(|second| Moment {
        requests: second.requests,
        bytes: second.bytes,
        failures: second.failures,
    });
    moments.collect()
}

fn plays(tally: &Tally) -> Vec<Played> {
    let plays = tally.plays.iter().map(|play| Played {
        began: play.began.as_secs_f64(),
        ended: play.ended.as_secs_f64(),
        first: play.first,
        end: play.end,
        aborted: play.aborted,
    });
    plays.collect()
}

impl Times {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |share| seconds(histogram.value_at_quantile(share));
        let percentile = |(name, share): (&str, f64)| (name.to_owned(), at(share));
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean: histogram.mean() / 1e9,
            percentiles: SHARES.map(percentile).into_iter().collect(),
            curve: shares(histogram.len())
                .map(|share| (share, at(share)))
                .collect(),
        })
    }

    /// The time of a percentile, one of those that are kept, in seconds.
    #[must_use]
    pub fn percentile(&self, name: &str) -> Option<f64> {
        self.percentiles.get(name).copied()
    }
}

/// Shares up to the last of `count`: 0, then ever closer to 1 by the same factor.
fn shares(count: u64) -> impl Iterator<Item = f64> {
    let slower = (0..).map(|step| 10_f64.powf(-f64::from(step) / f64::from(STEPS)));
    let least = 1.0 / float(count.max(1));
    slower
        .take_while(move |slower| *slower >= least)
        .map(|slower| 1.0 - slower)
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

impl Own {
    fn of(plan: &Plan, tally: &Tally) -> Self {
        let time = tally.elapsed.as_secs_f64() * f64::from(tally.threads);
        let busy = match time {
            0.0 => 0.0,
            time => (1.0 - tally.idle.as_secs_f64() / time).clamp(0.0, 1.0),
        };
        let lag_p99 = seconds(tally.lag.value_at_quantile(0.99));
        let limit = if busy > BUSY {
            let more =
                "a thread more (--threads) or another machine may get more out of the server";
            Some(format!(
                "the load's own threads were busy {:.0} % of the time: {more}",
                busy * 100.0
            ))
        } else if lag_p99 > LATE.as_secs_f64() {
            let late = "this machine is too busy, and what is measured is partly its own";
            Some(format!(
                "requests were sent up to {:.1} ms late: {late}",
                lag_p99 * 1e3
            ))
        } else if tally.queued > 0 {
            let share = "which counts as the server's time";
            Some(format!(
                "{} requests were due while all {} listeners waited, {share}; --listeners allows more at once",
                tally.queued,
                plan.listeners()
            ))
        } else {
            None
        };
        Self {
            busy,
            lag_p99,
            limit,
        }
    }
}

/// What of a side is compared, by name.
type Figure<'a> = (&'a str, &'a dyn Fn(&Tally) -> f64);

fn ratios(rounds: &[Vec<Tally>], number: usize, over: &str) -> Vec<Ratio> {
    let rate = |tally: &Tally| float(tally.requests) / tally.elapsed.as_secs_f64();
    let bytes = |tally: &Tally| float(tally.bytes) / tally.elapsed.as_secs_f64();
    let p50 = |tally: &Tally| float(tally.first.value_at_quantile(0.5));
    let p99 = |tally: &Tally| float(tally.first.value_at_quantile(0.99));
    let figures: [Figure<'_>; 4] = [
        ("requests a second", &rate),
        ("bytes a second", &bytes),
        ("p50 of the first byte", &p50),
        ("p99 of the first byte", &p99),
    ];
    let of = |(figure, value): Figure<'_>| {
        let pairs = rounds
            .iter()
            .map(|round| value(&round[0]) / value(&round[number]));
        let mut pairs: Vec<f64> = pairs.filter(|ratio| ratio.is_finite()).collect();
        pairs.sort_by(f64::total_cmp);
        Some(Ratio {
            figure: figure.to_owned(),
            over: over.to_owned(),
            median: middle(&pairs)?,
            least: *pairs.first()?,
            most: *pairs.last()?,
        })
    };
    figures.into_iter().filter_map(of).collect()
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    match sorted.len() % 2 {
        0 => Some(f64::midpoint(*sorted.get(half.checked_sub(1)?)?, upper)),
        _ => Some(upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tally::record;

    #[test]
    fn known_times_give_known_percentiles() {
        let mut tally = Tally::new().unwrap();
        for milliseconds in 1..=1000 {
            record(&mut tally.first, Duration::from_millis(milliseconds));
        }
        let times = Times::of(&tally.first).unwrap();
        for (name, expect) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
            let found = times.percentile(name).unwrap();
            assert!((found / expect - 1.0).abs() < 0.002, "{name}: {found}");
        }
        assert_eq!(times.count, 1000);
        let (last, slowest) = times.curve.last().unwrap();
        assert!((last - 0.999).abs() < 1e-9 && *slowest > 0.998);
        assert!(Times::of(&tally.whole).is_none());
    }

    #[test]
    fn a_ratio_is_the_middle_of_its_rounds() {
        let side = |requests| {
            let mut tally = Tally::new().unwrap();
            (tally.requests, tally.elapsed) = (requests, Duration::from_secs(1));
            tally
        };
        let rounds = [[20, 10], [30, 10], [90, 10], [40, 10]];
        let rounds: Vec<Vec<_>> = rounds.iter().map(|round| round.map(side).into()).collect();
        let ratios = ratios(&rounds, 1, "nginx");
        assert_eq!(ratios.len(), 1, "others have no figures: {ratios:?}");
        let found = (ratios[0].least, ratios[0].median, ratios[0].most);
        assert_eq!(found, (2.0, 3.5, 9.0));
    }

    #[test]
    fn it_says_when_it_was_the_limit() {
        let plan = Plan {
            sides: Vec::new(),
            crowds: Vec::new(),
            duration: Duration::ZERO,
            warm_up: Duration::ZERO,
            rounds: 1,
            ramp: Duration::ZERO,
            timeout: Duration::ZERO,
            seed: 1,
            check_every: 1,
            threads: 1,
            tls: None,
        };
        let found = |idle: u64, lag, queued| {
            let mut tally = Tally::new().unwrap();
            (tally.elapsed, tally.threads) = (Duration::from_secs(1), 2);
            (tally.idle, tally.queued) = (Duration::from_millis(idle), queued);
            record(&mut tally.lag, Duration::from_millis(lag));
            Own::of(&plan, &tally).limit.unwrap_or_default()
        };
        assert_eq!(found(300, 1, 0), "");
        assert!(found(100, 1, 0).contains("busy 95 %"));
        assert!(found(1000, 20, 0).contains("20.0 ms late"));
        assert!(found(1000, 1, 7).contains("7 requests were due while all"));
    }
}
