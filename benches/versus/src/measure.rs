//! What is measured, out of what the kernel counts and what the generator saw.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// One figure of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    Requests,
    Bytes,
    Seeks,
    BulkBytes,
    BulkAlone,
    BulkKept,
    Cpu,
    P50,
    P99,
    P99Alone,
    P99Beside,
    BesideRatio,
    BesideBytes,
    RestMemory,
    Memory512,
    Memory10000,
    Flat,
    FlatCpu,
    TwoWorkers,
    TwoWorkersCpu,
    TwoWorkersEven,
}

/// Which table a figure stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rate,
    Cpu,
    Latency,
    Memory,
}

impl Measure {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Requests => "req/s",
            Self::Bytes => "bytes/s",
            Self::Seeks => "seeks/s",
            Self::BulkBytes => "bulk bytes/s",
            Self::BulkAlone => "bulk bytes/s alone",
            Self::BulkKept => "bulk kept of what it has alone",
            Self::Cpu => "CPU per request",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P99Alone => "p99 alone, by the kernel's clock",
            Self::P99Beside => "p99 beside them, by the kernel's clock",
            Self::BesideRatio => "p99 beside them, over alone",
            Self::BesideBytes => "their bytes/s",
            Self::RestMemory => "at rest",
            Self::Memory512 => "512 connections, beyond rest",
            Self::Memory10000 => "10,000 connections, beyond rest",
            Self::Flat => "req/s, over those of 64 recordings of 16 MiB",
            Self::FlatCpu => "CPU per request, over that of 64 recordings of 16 MiB",
            Self::TwoWorkers => "req/s, over one worker",
            Self::TwoWorkersCpu => "CPU per request, over one worker on one core",
            Self::TwoWorkersEven => "CPU of the less busy worker, over the other's (1 is even)",
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Cpu | Self::FlatCpu | Self::TwoWorkersCpu | Self::TwoWorkersEven => Kind::Cpu,
            Self::P50 | Self::P99 | Self::P99Alone | Self::P99Beside | Self::BesideRatio => {
                Kind::Latency
            }
            Self::RestMemory | Self::Memory512 | Self::Memory10000 => Kind::Memory,
            _ => Kind::Rate,
        }
    }

    /// A figure that is a ratio by itself, and is shown as it is.
    pub(crate) const fn is_ratio(self) -> bool {
        matches!(
            self,
            Self::BulkKept
                | Self::BesideRatio
                | Self::Flat
                | Self::FlatCpu
                | Self::TwoWorkers
                | Self::TwoWorkersCpu
                | Self::TwoWorkersEven
        )
    }

    pub(crate) const fn higher_is_better(self) -> bool {
        matches!(self.kind(), Kind::Rate)
    }

    /// A value with its unit: rates a second, times in seconds, memory in bytes.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            _ if self.is_ratio() => ratio_text(value),
            Self::Requests | Self::Seeks => format!("{value:.0}/s"),
            Self::Bytes | Self::BulkBytes | Self::BulkAlone | Self::BesideBytes => {
                format!("{:.0} MiB/s", value / f64::from(1 << 20))
            }
            Self::RestMemory | Self::Memory512 | Self::Memory10000 => {
                format!("{:.1} MiB", value / f64::from(1 << 20))
            }
            _ if value < 1e-3 => format!("{:.1} us", value * 1e6),
            _ => format!("{:.2} ms", value * 1e3),
        }
    }
}

/// Two digits where they mean something.
pub(crate) fn ratio_text(ratio: f64) -> String {
    match ratio {
        10.0.. => format!("{ratio:.1}"),
        _ => format!("{ratio:.2}"),
    }
}

/// Middle, least and most of some ratios.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Self {
            median,
            least,
            most,
        })
    }

    /// Of `values` over `others`, round by round; a round that lacks one is left out.
    pub(crate) fn of_pairs(values: &[Option<f64>], others: &[Option<f64>]) -> Option<Self> {
        let pairs = values.iter().zip(others);
        Self::of(pairs.filter_map(|(value, other)| match (value, other) {
            (Some(value), Some(other)) if *other > 0.0 => Some(value / other),
            _ => None,
        }))
    }
}

/// CPU time at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) server: Duration,
    pub(crate) generator: Duration,
    /// Of all cores and all processes.
    pub(crate) everyone: Duration,
}

impl Cpu {
    pub(crate) fn now(server: &[u32]) -> anyhow::Result<Self> {
        let mut total = 0;
        for process in server {
            total += ticks_of(&process.to_string())?;
        }
        let stat = fs::read_to_string("/proc/stat")?;
        Ok(Self {
            server: from_ticks(total),
            generator: from_ticks(ticks_of("self")?),
            everyone: from_ticks(busy_ticks(&stat).context("/proc/stat")?),
        })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            generator: self.generator.saturating_sub(before.generator),
            everyone: self.everyone.saturating_sub(before.everyone),
        }
    }
}

fn ticks_of(process: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    Ok(stat_fields(&stat).context(path)?.1)
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Parent and `utime + stime`, of all threads, in `/proc/PID/stat`.
fn stat_fields(stat: &str) -> Option<(u32, u64)> {
    // The name may hold spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    Some((fields.get(1)?.parse().ok()?, ticks(11)? + ticks(12)?))
}

/// CPU time of each thread of some processes, in the kernel's ticks.
pub(crate) fn threads(processes: &[u32]) -> anyhow::Result<HashMap<u32, u64>> {
    let mut all = HashMap::new();
    for process in processes {
        for entry in fs::read_dir(format!("/proc/{process}/task"))? {
            let name = entry?.file_name();
            let name = name.to_str().context("a thread without a number")?;
            // One that has ended meanwhile was none of those that serve.
            if let Ok(ticks) = ticks_of(&format!("{process}/task/{name}")) {
                all.insert(name.parse()?, ticks);
            }
        }
    }
    Ok(all)
}

/// What the second busiest thread has done in between, over what the busiest has.
pub(crate) fn evenness(before: &HashMap<u32, u64>, after: &HashMap<u32, u64>) -> f64 {
    let of = |(thread, ticks): (&u32, &u64)| {
        ticks.saturating_sub(before.get(thread).copied().unwrap_or_default())
    };
    let mut done: Vec<u64> = after.iter().map(of).collect();
    done.sort_unstable();
    match done.as_slice() {
        [.., second, first] => *second as f64 / *first as f64,
        _ => 0.0,
    }
}

/// All but idle and waiting for a disk, on the first line of `/proc/stat`; guests are counted in it.
fn busy_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_ascii_whitespace();
    let mut next = || fields.next()?.parse::<u64>().ok();
    let (user, nice, system) = (next()?, next()?, next()?);
    let (_idle, _waiting) = (next()?, next()?);
    let (hard, soft, stolen) = (next()?, next()?, next()?);
    Some(user + nice + system + hard + soft + stolen)
}

/// `root` and all processes below it.
pub(crate) fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let process = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            Some((process, stat_fields(&stat)?.0))
        })
        .collect();
    let mut members = vec![root];
    let mut at = 0;
    while at < members.len() {
        let parent = members[at];
        let children = parents.iter().filter(|(_, of)| *of == parent);
        members.extend(children.map(|(child, _)| *child));
        at += 1;
    }
    members
}

/// Whether so many bytes of memory can be had, those of the page cache included.
pub(crate) fn has_available(bytes: u64) -> anyhow::Result<bool> {
    let text = fs::read_to_string("/proc/meminfo")?;
    Ok(kilobytes(&text, "MemAvailable:").context("/proc/meminfo")? >= bytes)
}

/// Resident bytes of some processes.
pub(crate) fn resident(processes: &[u32]) -> anyhow::Result<u64> {
    let mut total = 0;
    for process in processes {
        let path = format!("/proc/{process}/status");
        let status = fs::read_to_string(&path).with_context(|| path.clone())?;
        total += kilobytes(&status, "VmRSS:").context(path)?;
    }
    Ok(total)
}

/// A field in bytes, which the kernel tells in kilobytes.
fn kilobytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_pairs() {
        let spread = Spread::of_pairs(
            &[Some(2.0), Some(9.0), None, Some(4.0)],
            &[Some(1.0), Some(3.0), Some(5.0), Some(4.0)],
        );
        let expected = Spread {
            median: 2.0,
            least: 1.0,
            most: 3.0,
        };
        assert_eq!(spread, Some(expected));
        assert_eq!(Spread::of_pairs(&[Some(1.0)], &[Some(0.0)]), None);
        assert_eq!(Spread::of([1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_name_with_spaces_and_parentheses() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 9 8 7";
        assert_eq!(stat_fields(stat), Some((7, 200)));
        assert_eq!(stat_fields("42 (a) S"), None);
    }

    #[test]
    fn busy_is_all_but_idle_and_waiting() {
        let stat = "cpu  10 20 30 1000 500 1 2 3 4 5\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(66));
        assert_eq!(busy_ticks("intr 1"), None);
    }

    #[test]
    fn memory_is_told_in_kilobytes() {
        assert_eq!(
            kilobytes("Name:\tx\nVmRSS:\t    2048 kB\n", "VmRSS:"),
            Some(2 << 20)
        );
        assert_eq!(kilobytes("Name:\tx\n", "VmRSS:"), None);
        assert!(has_available(1 << 20).unwrap() && !has_available(1 << 60).unwrap());
    }

    #[test]
    fn this_process_is_of_its_own_family() {
        let own = std::process::id();
        assert_eq!(family(own).first(), Some(&own));
        assert!(resident(&[own]).unwrap() > 0);
        assert!(Cpu::now(&[own]).unwrap().everyone > Duration::ZERO);
    }

    #[test]
    fn two_workers_are_even_when_the_second_busiest_does_as_much_as_the_busiest() {
        let before = HashMap::from([(1, 1000), (2, 10), (3, 20)]);
        let after = HashMap::from([(1, 1001), (2, 110), (3, 95), (4, 7)]);
        assert_eq!(evenness(&before, &after), 0.75);
        assert_eq!(evenness(&before, &HashMap::from([(1, 2000)])), 0.0);
    }

    #[test]
    fn the_threads_of_this_process_are_found() {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let found = threads(&[std::process::id()]).unwrap();
        assert!(found.contains_key(&own.cast_unsigned()));
    }

    #[test]
    fn figures_have_units() {
        assert_eq!(Measure::Requests.show(1234.6), "1235/s");
        assert_eq!(Measure::P99.show(0.000_25), "250.0 us");
        assert_eq!(Measure::P99.show(0.25), "250.00 ms");
        assert_eq!(Measure::Memory512.show(3.0 * 1_048_576.0), "3.0 MiB");
        assert_eq!(Measure::BulkKept.show(0.125), "0.12");
    }
}
