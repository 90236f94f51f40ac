//! What a listener asks for next. Pure: the same seed gives the same requests.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;

use super::wide;

/// Bytes of a listener's first look into a recording, in multiples of the range size.
const LOOK: u64 = 4;
/// A viewer of a CDN goes on to the next slice so many times in eight.
const GOES_ON: u8 = 7;

/// What listeners do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Ranges of one size anywhere, on a connection that is kept.
    Seek,
    /// Open-ended, read at the bitrate; after a while broken off, and on from elsewhere or from there.
    Player,
    /// Open-ended, a little is read, reset; as fast as it can.
    Storm,
    /// The whole file.
    Download,
    /// Aligned slices, mostly one after the other.
    Cdn,
    /// A new URL from the resolver; a little from the start, a seek, and on from where that stopped.
    Chain,
}

/// Every scenario with its name.
pub const SCENARIOS: [(&str, Scenario); 6] = [
    ("seek", Scenario::Seek),
    ("player", Scenario::Player),
    ("storm", Scenario::Storm),
    ("download", Scenario::Download),
    ("cdn", Scenario::Cdn),
    ("chain", Scenario::Chain),
];

/// Scenarios by weight, such as `seek=8,download=2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix(Vec<(Scenario, u32)>);

impl Mix {
    /// The scenario of the listener or arrival of this number: each in turn, by its weight.
    #[must_use]
    pub fn of(&self, number: u64) -> Scenario {
        let total: u64 = self.0.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut place = number % total.max(1);
        for (scenario, weight) in &self.0 {
            match place.checked_sub(u64::from(*weight)) {
                Some(rest) => place = rest,
                None => return *scenario,
            }
        }
        Scenario::Seek
    }

    /// Whether somebody does this.
    #[must_use]
    pub fn has(&self, scenario: Scenario) -> bool {
        self.0.iter().any(|(one, _)| *one == scenario)
    }
}

impl From<Scenario> for Mix {
    fn from(scenario: Scenario) -> Self {
        Self(vec![(scenario, 1)])
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (scenario, weight)) in self.0.iter().enumerate() {
            let name = SCENARIOS.iter().find(|(_, one)| one == scenario);
            let name = name.map_or("", |(name, _)| name);
            let comma = if number == 0 { "" } else { "," };
            match self.0.len() {
                1 => write!(f, "{name}")?,
                _ => write!(f, "{comma}{name}={weight}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |member: &str| {
            let (name, weight) = member.split_once('=').unwrap_or((member, "1"));
            let known = SCENARIOS.iter().find(|(known, _)| *known == name.trim());
            let names = SCENARIOS.map(|(name, _)| name).join(", ");
            let (_, scenario) = known.ok_or_else(|| format!("{name:?} is none of {names}"))?;
            match weight.trim().parse() {
                Ok(weight @ 1..=1_000_000) => Ok((*scenario, weight)),
                _ => Err(format!("{weight:?} is no weight from 1 to 1000000")),
            }
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(Self)
    }
}

/// Sizes and times of scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a range or slice, at least 1.
    pub range_size: u64,
    /// Bytes a second that a player reads, at least 1.
    pub bitrate: u64,
    /// Mean time that a player plays before it seeks.
    pub dwell: Duration,
    /// A listener goes through the recordings in this stride, from that of its number on; without
    /// one it takes any.
    pub stride: Option<u64>,
}

/// A range, as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    Whole,
    Closed(u64, u64),
    From(u64),
}

impl Range {
    pub(super) const fn first(self) -> u64 {
        match self {
            Self::Whole => 0,
            Self::Closed(first, _) | Self::From(first) => first,
        }
    }

    /// First and last byte of the answer, of a recording that has `length` bytes.
    pub(super) const fn of(self, length: u64) -> (u64, u64) {
        let end = length.saturating_sub(1);
        match self {
            Self::Closed(first, last) if last < end => (first, last),
            _ => (self.first(), end),
        }
    }
}

/// One request of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) recording: usize,
    pub(super) range: Range,
    /// Bytes after which it is broken off.
    pub(super) enough: u64,
    /// Read at the bitrate, and broken off after this time.
    pub(super) dwell: Option<Duration>,
    /// Whether the recording's URL is asked for anew before.
    pub(super) anew: bool,
}

/// A listener's course, request by request.
#[derive(Debug, Clone)]
pub(super) struct Script {
    scenario: Scenario,
    random: Rng,
    /// Its own.
    number: u64,
    /// Requests so far.
    count: u64,
    recording: usize,
    /// Where the last response was left.
    left_at: u64,
}

impl Script {
    /// The course of the listener, or of the arrival, of this number.
    pub(super) fn new(scenario: Scenario, seed: u64, number: u64) -> Self {
        // Numbers that follow each other must not give courses that do.
        let mut mixer = Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self {
            scenario,
            random: Rng::with_seed(mixer.u64(..)),
            number,
            count: 0,
            recording: 0,
            left_at: 0,
        }
    }

    /// Whether a visit is over: what is due at a rate are visits.
    pub(super) const fn is_over(&self) -> bool {
        match self.scenario {
            Scenario::Chain => self.count.is_multiple_of(3),
            _ => true,
        }
    }

    /// The rest of a visit is left out.
    pub(super) const fn give_up(&mut self) {
        if matches!(self.scenario, Scenario::Chain) {
            self.count = self.count.next_multiple_of(3);
        }
    }

    /// Where the listener stopped reading.
    pub(super) const fn leave(&mut self, at: u64) {
        self.left_at = at;
    }

    /// The next request; `length` tells how long a recording is, where that is known.
    pub(super) fn next(
        &mut self,
        shape: &Shape,
        recordings: usize,
        length: impl Fn(usize) -> Option<u64>,
    ) -> Ask {
        let step = self.count;
        self.count += 1;
        // A chain stays with its recording for three requests, a CDN for as long as it goes on.
        let stays = match self.scenario {
            Scenario::Chain => !step.is_multiple_of(3),
            Scenario::Cdn => step > 0 && self.random.u8(..8) < GOES_ON,
            Scenario::Player => step > 0 && self.random.u8(..4) == 0,
            _ => false,
        };
        if !stays {
            let recordings = recordings.max(1);
            self.recording = match shape.stride {
                None => self.random.usize(..recordings),
                Some(stride) => {
                    let walked = stride.wrapping_mul(step).wrapping_add(self.number);
                    super::size(walked % wide(recordings))
                }
            };
        }
        let ask = Ask {
            recording: self.recording,
            range: Range::Closed(0, shape.range_size - 1),
            enough: u64::MAX,
            dwell: None,
            anew: self.scenario == Scenario::Chain && step.is_multiple_of(3),
        };
        match (self.scenario, length(self.recording)) {
            (Scenario::Download, _) => Ask {
                range: Range::Whole,
                ..ask
            },
            // Its answer tells the length.
            (_, None) => ask,
            (_, Some(length)) => self.within(ask, shape, length.max(1), step, stays),
        }
    }

    fn within(&mut self, ask: Ask, shape: &Shape, length: u64, step: u64, stays: bool) -> Ask {
        let size = shape.range_size.min(length);
        let anywhere = self.random.u64(..=length - size);
        let look = self.random.u64(size..=size.saturating_mul(LOOK));
        let left_at = if self.left_at < length {
            self.left_at
        } else {
            0
        };
        let open = |first| Ask {
            range: Range::From(first),
            enough: look,
            ..ask
        };
        let closed = |first: u64| Ask {
            range: Range::Closed(first, (first + size - 1).min(length - 1)),
            ..ask
        };
        match self.scenario {
            Scenario::Seek | Scenario::Download => closed(anywhere),
            Scenario::Storm => open(anywhere),
            Scenario::Cdn if stays => closed(left_at / size * size),
            Scenario::Cdn => closed(anywhere / size * size),
            Scenario::Chain => open(match step % 3 {
                0 => 0,
                1 => anywhere,
                _ => left_at,
            }),
            Scenario::Player => Ask {
                enough: u64::MAX,
                dwell: Some(self.dwell(shape.dwell)),
                ..open(if stays { left_at } else { anywhere })
            },
        }
    }

    /// Exponentially distributed around the mean, at least a tenth and at most ten times as long.
    fn dwell(&mut self, mean: Duration) -> Duration {
        let drawn = -(1.0 - self.random.f64()).ln();
        mean.mul_f64(drawn.clamp(0.1, 10.0))
    }
}

/// When visit `number` is due since the start: `rate` a second, from none linearly over `ramp`.
pub(super) fn due(number: u64, rate: f64, ramp: Duration) -> Duration {
    let number = super::float(number);
    let ramp = ramp.as_secs_f64();
    // While it rises, rate * t^2 / (2 * ramp) visits are due by t.
    let rising = rate * ramp / 2.0;
    let seconds = if number < rising {
        (2.0 * number * ramp / rate).sqrt()
    } else {
        ramp + (number - rising) / rate
    };
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// When the listener of this number begins.
pub(super) fn joins(number: usize, listeners: usize, ramp: Duration) -> Duration {
    let share = super::float(wide(number)) / super::float(wide(listeners.max(1)));
    ramp.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHAPE: Shape = Shape {
        range_size: 65_536,
        bitrate: 32_000,
        dwell: Duration::from_secs(5),
        stride: None,
    };

    fn course(scenario: Scenario, seed: u64, length: Option<u64>) -> Vec<Ask> {
        let mut script = Script::new(scenario, seed, 3);
        let mut asks = Vec::new();
        for _ in 0..60 {
            let ask = script.next(&SHAPE, 4, |_| length);
            script.leave(ask.range.first() + 70_000);
            asks.push(ask);
        }
        asks
    }

    #[test]
    fn a_mix_takes_each_by_its_weight() {
        let mix: Mix = "seek=8,download=2".parse().unwrap();
        let seeks = (0..100).filter(|number| mix.of(*number) == Scenario::Seek);
        assert_eq!(seeks.count(), 80);
        assert_eq!("storm".parse::<Mix>().unwrap().of(7), Scenario::Storm);
        for bad in [
            "",
            "seek=",
            "seek=0",
            "seek=-1",
            "walk",
            "seek,,cdn",
            "seek=9999999",
        ] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_seed_repeats_a_course_and_another_does_not() {
        for (_, scenario) in SCENARIOS {
            let again = course(scenario, 7, Some(1 << 24));
            assert_eq!(course(scenario, 7, Some(1 << 24)), again);
            assert_ne!(course(scenario, 8, Some(1 << 24)), again, "{scenario:?}");
        }
    }

    #[test]
    fn slices_are_aligned_and_mostly_follow_each_other() {
        let asks = course(Scenario::Cdn, 1, Some((1 << 24) + 5));
        assert!(asks.iter().all(|ask| ask.range.first() % 65_536 == 0));
        let follows = |pair: &[Ask]| pair[1].range.first() == pair[0].range.first() + 65_536;
        assert!(asks.windows(2).filter(|pair| follows(pair)).count() > 40);
    }

    #[test]
    fn a_chain_resolves_begins_seeks_and_resumes() {
        let asks = course(Scenario::Chain, 1, Some(1 << 24));
        for visit in asks.chunks(3) {
            assert_eq!(
                [0, 1, 2].map(|step: usize| visit[step].anew),
                [true, false, false]
            );
            assert_eq!(visit[0].range, Range::From(0));
            assert_eq!(visit[2].range.first(), visit[1].range.first() + 70_000);
            assert!(visit.iter().all(|ask| ask.recording == visit[0].recording));
        }
    }

    #[test]
    fn players_seek_at_times_drawn_around_the_mean() {
        let mut script = Script::new(Scenario::Player, 1, 0);
        let mut drawn: Vec<_> = (0..10_000).map(|_| script.dwell(SHAPE.dwell)).collect();
        drawn.sort_unstable();
        let mean = drawn.iter().sum::<Duration>() / 10_000;
        assert!((4900..5200).contains(&mean.as_millis()), "{mean:?}");
        // Half of an exponential distribution is below ln 2 of its mean.
        let middle = drawn[5000].as_millis();
        assert!((3300..3650).contains(&middle), "{middle}");
        assert!(drawn[0] >= SHAPE.dwell / 10 && drawn[9999] <= SHAPE.dwell * 10);
    }

    #[test]
    fn a_stride_leads_through_the_recordings() {
        let shape = Shape {
            stride: Some(2),
            ..SHAPE
        };
        let mut script = Script::new(Scenario::Download, 1, 5);
        let walked = (0..4).map(|_| script.next(&shape, 4, |_| None).recording);
        assert_eq!(walked.collect::<Vec<_>>(), [1, 3, 1, 3]);
    }

    #[test]
    fn a_ramp_rises_linearly() {
        let ramp = Duration::from_secs(10);
        let by = |seconds: f64| {
            let due = |number: &u64| due(*number, 100.0, ramp).as_secs_f64() < seconds;
            (0..5000_u64).filter(due).count()
        };
        assert_eq!(by(10.0), 500);
        assert_eq!(by(5.0), 125);
        assert_eq!(by(20.0), 1500);
        assert_eq!(due(250, 100.0, Duration::ZERO), Duration::from_millis(2500));
        assert_eq!(joins(5, 10, ramp), Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_there(seed: u64, length in 1_u64..1 << 40, which in 0_usize..6) {
            for ask in course(SCENARIOS[which].1, seed, Some(length)) {
                let (first, last) = ask.range.of(length);
                prop_assert!(first <= last && last < length);
                if let Range::Closed(asked, to) = ask.range {
                    prop_assert!((asked, to) == (first, last) && to - asked < 65_536);
                }
                prop_assert!(ask.recording < 4 && ask.enough > 0);
            }
        }
    }
}
