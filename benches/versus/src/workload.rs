//! The workloads, and one measurement of one of them against one server.

use std::time::Duration;

use crate::generator::{Ask, Generator, Group, Pace, Tally};
use crate::launch::{Cores, pin};
use crate::measure::{Cpu, Measure, permille, resident};
use crate::pattern::{FILE_LENGTH, Pattern};
use crate::peers::{Peer, Running};
use crate::store::{COLD, ColdFiles, Store, WARM};

const KIB: u64 = 1 << 10;
/// Listeners and downloads of the mixed workload, and readers of cold files.
const FEW: usize = 8;
/// Warm seeks a second beside cold readers.
const COLD_RATE: u32 = 2000;

/// Share of a core that other processes may take before a measurement counts as disturbed.
const QUIET: f64 = 0.15;

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// So many connections, each asking again as soon as it was answered.
    Closed(Ask, usize),
    /// Requests for 64 KiB, so many a second over 64 connections.
    Rate(u32),
    /// Seeks beside downloads.
    Mixed,
    /// Warm seeks beside readers of so many bytes of cold files.
    Cold(u64, Pace),
    Memory,
    Workers,
}

#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// For `--workloads`.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    plan: Plan,
}

const fn workload(key: &'static str, title: &'static str, plan: Plan) -> Workload {
    Workload { key, title, plan }
}

const fn range(kib: u64, connections: usize) -> Plan {
    Plan::Closed(Ask::Range(kib * KIB), connections)
}

impl Workload {
    pub(crate) const ALL: &[Self] = &[
        workload("1k-2", "1 KiB ranges, 2", range(1, 2)),
        workload("1k-64", "1 KiB ranges, 64", range(1, 64)),
        workload("1k-512", "1 KiB ranges, 512", range(1, 512)),
        workload("64k-2", "64 KiB ranges, 2", range(64, 2)),
        workload("64k-64", "64 KiB ranges, 64", range(64, 64)),
        workload("64k-512", "64 KiB ranges, 512", range(64, 512)),
        workload("256k-2", "256 KiB ranges, 2", range(256, 2)),
        workload("256k-64", "256 KiB ranges, 64", range(256, 64)),
        workload("256k-512", "256 KiB ranges, 512", range(256, 512)),
        workload("1m-2", "1 MiB ranges, 2", range(1024, 2)),
        workload("1m-64", "1 MiB ranges, 64", range(1024, 64)),
        workload("1m-512", "1 MiB ranges, 512", range(1024, 512)),
        workload("whole-64", "16 MiB whole, 64", Plan::Closed(Ask::Whole, 64)),
        workload(
            "storm-64",
            "seek storm, 64 listeners",
            Plan::Closed(Ask::Seek, 64),
        ),
        workload(
            "mixed",
            "64 KiB seeks of 8 beside 8 bulk downloads",
            Plan::Mixed,
        ),
        workload("rate-4000", "64 KiB at 4,000 a second", Plan::Rate(4000)),
        workload(
            "rate-20000",
            "64 KiB at 20,000 a second",
            Plan::Rate(20_000),
        ),
        workload(
            "cold-paced",
            "64 KiB at 2,000 a second, warm, beside 100 MiB/s to 8 readers of cold files",
            Plan::Cold(1024 * KIB, Pace::Rate(100)),
        ),
        workload(
            "cold-bulk",
            "64 KiB at 2,000 a second, warm, beside 8 bulk downloads of cold files",
            Plan::Cold(FILE_LENGTH, Pace::AtOnce),
        ),
        workload("memory", "resident memory, idle connections", Plan::Memory),
        workload(
            "workers",
            "64 KiB ranges, 64, two workers on two cores that the generator shares",
            Plan::Workers,
        ),
    ];

    /// Those whose keys begin with one of `names`; all without names.
    pub(crate) fn select(names: &[String]) -> anyhow::Result<Vec<Self>> {
        let fits = |workload: &Self, name: &String| workload.key.starts_with(name.as_str());
        for name in names {
            anyhow::ensure!(
                Self::ALL.iter().any(|workload| fits(workload, name)),
                "no workload {name}; there are {}",
                Self::ALL
                    .iter()
                    .map(|one| one.key)
                    .collect::<Vec<_>>()
                    .join(" ")
            );
        }
        let wanted = |one: &&Self| names.is_empty() || names.iter().any(|name| fits(one, name));
        Ok(Self::ALL.iter().filter(wanted).cloned().collect())
    }

    /// Whether it says anything of `peer`.
    pub(crate) fn is_for(&self, peer: &Peer) -> bool {
        self.plan != Plan::Workers || peer.kind.is_tonearm()
    }

    /// Whether it is worth measuring again: memory does not wobble.
    pub(crate) fn is_repeated(&self) -> bool {
        self.plan != Plan::Memory
    }

    pub(crate) fn needs_disk(&self) -> bool {
        matches!(self.plan, Plan::Cold(..))
    }
}

/// Shares of a core; the generator's is what it does not spend looking for work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    pub(crate) server: f64,
    pub(crate) generator: f64,
    /// Of whatever else ran on this machine.
    pub(crate) others: f64,
}

/// One measurement.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leg {
    pub(crate) figures: Vec<(Measure, f64)>,
    pub(crate) shares: Option<Shares>,
    pub(crate) problems: Vec<String>,
}

impl Leg {
    fn disturbance(&self) -> f64 {
        self.shares.map_or(0.0, |shares| shares.others)
    }
}

/// What one drive gave.
struct Driven {
    tallies: Vec<Tally>,
    elapsed: f64,
    /// Share of the generator's time.
    busy: f64,
    cpu: Cpu,
    problems: Vec<String>,
}

impl Driven {
    fn shares(&self) -> Shares {
        let share = |time: Duration| time.as_secs_f64() / self.elapsed;
        let ours = self.cpu.server + self.cpu.generator;
        Shares {
            server: share(self.cpu.server),
            generator: self.busy,
            others: share(self.cpu.everyone.saturating_sub(ours)),
        }
    }

    fn per_second(&self, group: usize) -> f64 {
        self.tallies[group].done as f64 / self.elapsed
    }

    fn bytes_per_second(&self, group: usize) -> f64 {
        self.tallies[group].bytes as f64 / self.elapsed
    }

    fn cpu_per(&self, requests: f64) -> f64 {
        self.cpu.server.as_secs_f64() / requests
    }

    /// In seconds; not a number where nothing came.
    fn latency(&mut self, group: usize, part: usize) -> f64 {
        let latency = permille(&mut self.tallies[group].latencies, part);
        latency.map_or(f64::NAN, |nanoseconds| nanoseconds as f64 / 1e9)
    }
}

/// Everything that a measurement needs and no server changes.
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) pattern: Pattern,
    pub(crate) cores: Cores,
    pub(crate) window: Duration,
    /// How often a disturbed measurement is taken again.
    pub(crate) patience: usize,
}

impl Bench {
    pub(crate) fn start(&self, peer: &Peer) -> anyhow::Result<Running> {
        peer.start(&self.store, &self.pattern, &[self.cores.server])
    }

    /// The first measurement that nobody disturbed, or that which was disturbed least.
    pub(crate) fn measure_in_quiet(
        &self,
        workload: &Workload,
        peer: &Peer,
        server: &Running,
    ) -> anyhow::Result<Leg> {
        let mut best = self.measure(workload, peer, server)?;
        for _ in 0..self.patience {
            if best.disturbance() <= QUIET {
                break;
            }
            std::thread::sleep(self.window);
            let mut next = self.measure(workload, peer, server)?;
            // No problem is lost with the measurement that met it.
            if next.disturbance() < best.disturbance() {
                std::mem::swap(&mut next, &mut best);
            }
            best.problems.append(&mut next.problems);
        }
        Ok(best)
    }

    fn measure(&self, workload: &Workload, peer: &Peer, server: &Running) -> anyhow::Result<Leg> {
        match workload.plan {
            Plan::Closed(ask, connections) => self.closed(server, ask, connections),
            Plan::Rate(rate) => self.rate(server, rate),
            Plan::Mixed => self.mixed(server),
            Plan::Cold(length, pace) => self.cold(server, length, pace),
            Plan::Memory => self.memory(peer),
            Plan::Workers => self.workers(peer, server),
        }
    }

    fn drive(
        &self,
        server: &Running,
        groups: &[Group],
        cold: Option<ColdFiles>,
    ) -> anyhow::Result<Driven> {
        let mut generator = Generator::new(&server.target, &self.pattern, cold)?;
        for group in groups {
            generator.add(group.clone())?;
        }
        generator.run((self.window / 4).min(Duration::from_millis(300)))?;
        generator.reset();
        let before = Cpu::now(&server.processes)?;
        let time = generator.run(self.window)?;
        let cpu = Cpu::now(&server.processes)?.since(before);
        generator.close_books();
        Ok(Driven {
            tallies: generator.tallies,
            elapsed: time.elapsed.as_secs_f64(),
            busy: 1.0 - time.idle.as_secs_f64() / time.elapsed.as_secs_f64(),
            cpu,
            problems: generator.problems,
        })
    }

    fn closed(&self, server: &Running, ask: Ask, connections: usize) -> anyhow::Result<Leg> {
        let mut driven = self.drive(server, &[group(connections, ask, Pace::AtOnce)], None)?;
        let bytes = driven.bytes_per_second(0);
        let figures = if ask == Ask::Whole {
            // Whole files that were begun count as far as they came.
            let files = driven.tallies[0].bytes as f64 / FILE_LENGTH as f64;
            vec![
                (Measure::Bytes, bytes),
                (Measure::Cpu, driven.cpu_per(files)),
            ]
        } else {
            let rate = match ask {
                Ask::Seek => Measure::Seeks,
                _ => Measure::Requests,
            };
            let done = driven.tallies[0].done as f64;
            vec![
                (rate, driven.per_second(0)),
                (Measure::Cpu, driven.cpu_per(done)),
                (Measure::P99, driven.latency(0, 990)),
            ]
        };
        Ok(Leg {
            figures,
            shares: Some(driven.shares()),
            problems: driven.problems,
        })
    }

    fn rate(&self, server: &Running, rate: u32) -> anyhow::Result<Leg> {
        let mut driven = self.drive(server, &[seeks(64, Pace::Rate(rate))], None)?;
        let done = driven.tallies[0].done as f64;
        let mut figures = vec![
            (Measure::P99, driven.latency(0, 990)),
            (Measure::P50, driven.latency(0, 500)),
        ];
        // The kernel tells CPU time in hundredths of a second: a few requests do not show in it.
        if rate >= 10_000 {
            figures.push((Measure::Cpu, driven.cpu_per(done)));
        }
        Ok(Leg {
            figures,
            shares: Some(driven.shares()),
            problems: driven.problems,
        })
    }

    fn mixed(&self, server: &Running) -> anyhow::Result<Leg> {
        let bulk = group(FEW, Ask::Whole, Pace::AtOnce);
        let mut alone = self.drive(server, std::slice::from_ref(&bulk), None)?;
        let mut both = self.drive(server, &[seeks(FEW, Pace::AtOnce), bulk], None)?;
        let (kept, full) = (both.bytes_per_second(1), alone.bytes_per_second(0));
        alone.problems.append(&mut both.problems);
        Ok(Leg {
            figures: vec![
                (Measure::Seeks, both.per_second(0)),
                (Measure::P50, both.latency(0, 500)),
                (Measure::P99, both.latency(0, 990)),
                (Measure::BulkBytes, kept),
                (Measure::BulkAlone, full),
                (Measure::BulkKept, kept / full),
            ],
            shares: Some(both.shares()),
            problems: alone.problems,
        })
    }

    fn cold(&self, server: &Running, length: u64, pace: Pace) -> anyhow::Result<Leg> {
        let warm = seeks(64, Pace::Rate(COLD_RATE));
        let mut alone = self.drive(server, std::slice::from_ref(&warm), None)?;
        let readers = Group {
            files: WARM..WARM + COLD,
            ..group(FEW, Ask::Cold(length), pace)
        };
        let cold = self.store.cold()?;
        let mut beside = self.drive(server, &[warm, readers], Some(cold))?;
        let (before, after) = (alone.latency(0, 990), beside.latency(0, 990));
        alone.problems.append(&mut beside.problems);
        Ok(Leg {
            figures: vec![
                (Measure::P99Beside, after),
                (Measure::P99Alone, before),
                (Measure::ColdRatio, after / before),
                (Measure::ColdBytes, beside.bytes_per_second(1)),
            ],
            shares: Some(beside.shares()),
            problems: alone.problems,
        })
    }

    /// Of a server of its own, which has served nothing yet but a few ranges.
    fn memory(&self, peer: &Peer) -> anyhow::Result<Leg> {
        let server = self.start(peer)?;
        let rest = resident(&server.processes)? as f64;
        let mut generator = Generator::new(&server.target, &self.pattern, None)?;
        let mut figures = vec![(Measure::RestMemory, rest)];
        let mut open = 0;
        for (count, measure) in [(512, Measure::Memory512), (10_000, Measure::Memory10000)] {
            generator.add(seeks(count - open, Pace::Once))?;
            generator.settle(Duration::from_secs(20))?;
            open = count;
            figures.push((measure, resident(&server.processes)? as f64 - rest));
        }
        Ok(Leg {
            figures,
            shares: None,
            problems: generator.problems,
        })
    }

    fn workers(&self, peer: &Peer, one: &Running) -> anyhow::Result<Leg> {
        let load = [seeks(64, Pace::AtOnce)];
        let single = self.drive(one, &load, None)?;
        let cores = self.cores;
        let two = peer.start(&self.store, &self.pattern, &[cores.server, cores.second])?;
        pin(&[cores.server, cores.second, cores.generator])?;
        let double = self.drive(&two, &load, None);
        pin(&[cores.generator])?;
        let double = double?;
        let cpu = |driven: &Driven| driven.cpu_per(driven.tallies[0].done as f64);
        Ok(Leg {
            figures: vec![
                (
                    Measure::TwoWorkers,
                    double.per_second(0) / single.per_second(0),
                ),
                (Measure::TwoWorkersCpu, cpu(&double) / cpu(&single)),
            ],
            shares: Some(double.shares()),
            problems: [single.problems, double.problems].concat(),
        })
    }
}

fn group(connections: usize, ask: Ask, pace: Pace) -> Group {
    Group {
        connections,
        ask,
        pace,
        files: 0..WARM,
    }
}

fn seeks(connections: usize, pace: Pace) -> Group {
    group(connections, Ask::Range(64 * KIB), pace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_chosen_by_the_beginning_of_their_keys() {
        let keys = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            Workload::select(&names)
                .map(|chosen| chosen.iter().map(|one| one.key).collect::<Vec<_>>())
        };
        assert_eq!(
            keys(&["64k", "memory"]).unwrap(),
            ["64k-2", "64k-64", "64k-512", "memory"]
        );
        assert_eq!(keys(&[]).unwrap().len(), Workload::ALL.len());
        assert!(keys(&["nothing"]).is_err());
    }

    #[test]
    fn what_others_take_is_the_disturbance() {
        assert_eq!(Leg::default().disturbance(), 0.0);
        let shares = Some(Shares {
            server: 1.0,
            generator: 0.5,
            others: 0.25,
        });
        let leg = Leg {
            shares,
            ..Leg::default()
        };
        assert_eq!(leg.disturbance(), 0.25);
    }

    #[test]
    fn shares_are_of_one_core() {
        let driven = Driven {
            tallies: vec![Tally {
                done: 10,
                bytes: 100,
                latencies: vec![3_000_000_000, 1_000_000_000],
            }],
            elapsed: 2.0,
            busy: 0.75,
            cpu: Cpu {
                server: Duration::from_secs(1),
                generator: Duration::from_secs(2),
                everyone: Duration::from_secs(4),
            },
            problems: Vec::new(),
        };
        let shares = driven.shares();
        assert_eq!(
            (shares.server, shares.generator, shares.others),
            (0.5, 0.75, 0.5)
        );
        assert_eq!(driven.per_second(0), 5.0);
        assert_eq!(driven.bytes_per_second(0), 50.0);
        assert_eq!(driven.cpu_per(10.0), 0.1);
    }
}
