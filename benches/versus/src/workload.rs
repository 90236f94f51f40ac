//! The workloads, and one measurement of one of them against one server, by the engine of `tonearm load`.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::scope;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use tonearm::load::{self, Crowd, Moments, Pace, Scenario, Shape, Summary, Watch};

use crate::arrival::{Listeners, percentile, stamped};
use crate::gauge::{Gauge, is_full};
use crate::launch::{Cores, pin};
use crate::measure::{Cpu, Measure, evenness, resident, threads};
use crate::over::Over;
use crate::pattern::{FILE_LENGTH, Pattern};
use crate::peers::{Peer, Running};
use crate::store::{COLD, Dropper, LARGE, NAMES, Store, WARM};

const KIB: u64 = 1 << 10;
/// Listeners and downloads of the mixed workload, and readers of cold files.
const FEW: usize = 8;
/// What a whole file takes, a few at once; the slowest servers take ten times as long.
const A_FILE: Duration = Duration::from_millis(4);
/// Warm seeks a second beside cold readers.
const COLD_RATE: f64 = 2000.0;
/// Seeks without an end a second, beside downloads.
const SOUGHT_RATE: f64 = 500.0;
/// Of a percentile of so few a second, less time tells nothing.
const LEAST_WINDOW: Duration = Duration::from_secs(1);
/// One response in so many is compared byte by byte.
const CHECKED: u64 = 16;
/// Connections opened at once, and the time until the next.
const BURST: usize = 64;
const BETWEEN: Duration = Duration::from_millis(2);
/// A seek that takes longer is reported.
const STALL: f64 = 1.0;

/// Share of a core that other processes may take before a measurement counts as disturbed.
const QUIET: f64 = 0.15;
/// How long a measurement waits for cores that do not go at their full pace.
const SLOW: Duration = Duration::from_secs(5);

/// What is asked of a server.
#[derive(Debug, Clone, PartialEq)]
enum Plan {
    /// So many connections of those who do this, each asking again as soon as it was answered.
    Closed(Scenario, u64, usize),
    /// Requests for 64 KiB, so many a second over 64 connections.
    Rate(u32),
    /// Seeks beside downloads.
    Mixed,
    /// Seeks without an end, broken off soon, beside downloads.
    Sought,
    /// Warm seeks beside readers of cold files.
    Cold(Scenario, Pace),
    Memory,
    /// Seeks of 64 connections in these recordings, over the same in the warm ones.
    Flat(Range<usize>),
    Workers,
    /// As many requests a second to two workers as to one.
    WorkersAtRate(u32),
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
    Plan::Closed(Scenario::Seek, kib * KIB, connections)
}

const fn whole(connections: usize) -> Plan {
    Plan::Closed(Scenario::Download, 64 * KIB, connections)
}

const fn storm(listeners: usize) -> Plan {
    Plan::Closed(Scenario::Storm, 64 * KIB, listeners)
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
        workload("whole-2", "16 MiB whole, 2", whole(2)),
        workload("whole-64", "16 MiB whole, 64", whole(64)),
        workload("whole-512", "16 MiB whole, 512", whole(512)),
        workload("storm-2", "seek storm, 2 listeners", storm(2)),
        workload("storm-64", "seek storm, 64 listeners", storm(64)),
        workload("storm-512", "seek storm, 512 listeners", storm(512)),
        workload(
            "mixed",
            "64 KiB seeks of 8 beside 8 bulk downloads",
            Plan::Mixed,
        ),
        workload(
            "sought",
            "first 64 KiB of open-ended ranges, 500 a second, beside 8 bulk downloads",
            Plan::Sought,
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
            Plan::Cold(Scenario::Seek, Pace::Open(100.0)),
        ),
        workload(
            "cold-bulk",
            "64 KiB at 2,000 a second, warm, beside 8 bulk downloads of cold files",
            Plan::Cold(Scenario::Download, Pace::Closed),
        ),
        workload("memory", "resident memory, idle connections", Plan::Memory),
        workload(
            "files",
            "64 KiB ranges, 64, of 1,000,000 recordings",
            Plan::Flat(NAMES),
        ),
        workload(
            "large",
            "64 KiB ranges, 64, of one recording of 8 GiB",
            Plan::Flat(LARGE..LARGE + 1),
        ),
        workload(
            "workers",
            "64 KiB ranges, 64, two workers on two cores that the generator shares",
            Plan::Workers,
        ),
        workload(
            "workers-rate",
            "64 KiB at 20,000 a second, 64, two workers on two cores that the generator shares: what the \
            second one costs, not what it brings",
            Plan::WorkersAtRate(20_000),
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
        match self.plan {
            Plan::Workers | Plan::WorkersAtRate(_) => peer.kind.is_tonearm(),
            Plan::Flat(_) => peer.kind.has_more(),
            _ => true,
        }
    }

    /// Whether it is worth measuring again: memory does not wobble, and is the same at any pace.
    pub(crate) fn is_repeated(&self) -> bool {
        self.plan != Plan::Memory
    }

    pub(crate) fn needs_disk(&self) -> bool {
        matches!(self.plan, Plan::Cold(..))
    }

    /// Whether its listeners are those of `arrival`, who speak HTTP/1.1 over TCP.
    pub(crate) fn needs_tcp(&self) -> bool {
        matches!(self.plan, Plan::Sought | Plan::Cold(..))
    }

    pub(crate) fn needs_large(&self) -> bool {
        self.plan == Plan::Flat(LARGE..LARGE + 1)
    }

    /// Has in the page cache what it reads from there.
    fn warm(&self, store: &Store) -> anyhow::Result<()> {
        let large = self.needs_large().then_some(LARGE);
        (0..WARM).chain(large).try_for_each(|file| store.warm(file))
    }

    /// The recordings that there have to be.
    pub(crate) fn recordings(&self) -> usize {
        match &self.plan {
            Plan::Flat(recordings) => recordings.end,
            _ => WARM + COLD,
        }
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
    /// Of the slower core, before or behind it, of its full pace.
    pub(crate) pace: Option<f64>,
    pub(crate) problems: Vec<String>,
}

impl Leg {
    fn others(&self) -> f64 {
        self.shares.map_or(0.0, |shares| shares.others)
    }

    fn was_disturbed(&self) -> bool {
        self.others() > QUIET || self.pace.is_some_and(|pace| !is_full(pace))
    }

    /// What of a core was not there for it.
    fn disturbance(&self) -> f64 {
        self.others() + self.pace.map_or(0.0, |pace| 1.0 - pace)
    }
}

/// What is noted at the edges of a measurement, while its connections are open.
#[derive(Debug)]
struct Notes {
    processes: Vec<u32>,
    /// CPU time at both edges.
    cpu: Mutex<Vec<anyhow::Result<Cpu>>>,
    /// Resident bytes at the end.
    resident: Mutex<Option<anyhow::Result<u64>>>,
    dropper: Option<Dropper>,
}

impl Notes {
    fn cpu(&self) {
        let cpu = Cpu::now(&self.processes);
        let mut all = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(cpu);
    }

    /// What the CPUs did in between.
    fn spent(&self) -> anyhow::Result<Cpu> {
        let mut all = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        let (end, begin) = (all.pop(), all.pop());
        let end = end.context("it has no end")??;
        Ok(end.since(begin.context("it has no beginning")??))
    }

    fn resident(&self) -> anyhow::Result<u64> {
        let mut found = self.resident.lock().unwrap_or_else(PoisonError::into_inner);
        found.take().context("it has no end")?
    }
}

impl Moments for Notes {
    fn begins(&self) {
        self.cpu();
    }

    fn ends(&self) {
        self.cpu();
        let found = resident(&self.processes);
        *self.resident.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }

    fn answered(&self, recording: usize) {
        if let Some(dropper) = &self.dropper {
            dropper.want(recording);
        }
    }

    fn passes(&self) {
        if let Some(dropper) = &self.dropper {
            // A few at once where it falls behind. Where it fails, cold reads are too fast, and shown
            // as such.
            for _ in 0..=dropper.behind() / 64 {
                let _ = dropper.step();
            }
        }
    }
}

/// What one drive gave.
pub(crate) struct Driven {
    crowds: Vec<Summary>,
    cpu: Cpu,
    resident: u64,
    pub(crate) problems: Vec<String>,
}

impl Driven {
    fn shares(&self) -> Shares {
        let elapsed = self.crowds[0].seconds;
        let share = |time: Duration| time.as_secs_f64() / elapsed;
        let ours = self.cpu.server + self.cpu.generator;
        Shares {
            server: share(self.cpu.server),
            generator: self.crowds[0].own.busy,
            others: share(self.cpu.everyone.saturating_sub(ours)),
        }
    }

    fn done(&self, crowd: usize) -> f64 {
        self.crowds[crowd].requests as f64
    }

    fn per_second(&self, crowd: usize) -> f64 {
        self.crowds[crowd].requests_per_second
    }

    fn bytes_per_second(&self, crowd: usize) -> f64 {
        self.crowds[crowd].bytes_per_second
    }

    fn cpu_per(&self, requests: f64) -> f64 {
        self.cpu.server.as_secs_f64() / requests
    }

    /// To the last byte, in seconds; not a number where nothing came.
    fn latency(&self, crowd: usize, name: &str) -> f64 {
        let whole = self.crowds[crowd].whole.as_ref();
        let time = whole.and_then(|times| times.percentile(name));
        time.unwrap_or(f64::NAN)
    }
}

/// What went wrong, and seeks that waited for long.
fn problems(crowds: &[Crowd], summaries: &[Summary]) -> Vec<String> {
    let mut problems = Vec::new();
    for (crowd, summary) in crowds.iter().zip(summaries) {
        for (kind, fault) in &summary.failures {
            problems.push(format!("{kind}: {}, first: {}", fault.count, fault.example));
        }
        if summary.longest_wait > STALL && !crowd.mix.has(Scenario::Download) {
            let wait = summary.longest_wait;
            problems.push(format!("a seek unanswered for {wait:.1} s at the end"));
        }
    }
    problems
}

/// Everything that a measurement needs and no server changes.
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) pattern: Pattern,
    pub(crate) over: Over,
    pub(crate) cores: Cores,
    pub(crate) gauge: Gauge,
    pub(crate) window: Duration,
    /// How often a disturbed measurement is taken again.
    pub(crate) patience: usize,
}

impl Bench {
    pub(crate) fn start(&self, peer: &Peer) -> anyhow::Result<Running> {
        self.start_on(peer, &[self.cores.server])
    }

    fn start_on(&self, peer: &Peer, cores: &[usize]) -> anyhow::Result<Running> {
        peer.start(&self.store, &self.pattern, &self.over, cores)
    }

    /// The first measurement that nobody disturbed, or that which was disturbed least.
    pub(crate) fn measure_in_quiet(
        &self,
        workload: &Workload,
        peer: &Peer,
        server: &Running,
    ) -> anyhow::Result<Leg> {
        workload.warm(&self.store)?;
        let mut best = self.measure_at_pace(workload, peer, server)?;
        for _ in 0..self.patience {
            if !best.was_disturbed() {
                break;
            }
            let mut next = self.measure_at_pace(workload, peer, server)?;
            // No problem is lost with the measurement that met it.
            if next.disturbance() < best.disturbance() {
                std::mem::swap(&mut next, &mut best);
            }
            best.problems.append(&mut next.problems);
        }
        Ok(best)
    }

    /// How long to wait for the full pace: who has no patience takes many short rounds instead, slow ones and all.
    fn wait(&self) -> Duration {
        match self.patience {
            0 => Duration::ZERO,
            _ => SLOW,
        }
    }

    /// Once the cores go at their full pace, with how they went then and behind it, where that matters.
    fn measure_at_pace(
        &self,
        workload: &Workload,
        peer: &Peer,
        server: &Running,
    ) -> anyhow::Result<Leg> {
        if !workload.is_repeated() {
            return self.measure(workload, peer, server);
        }
        let before = self.gauge.wait(self.wait())?;
        let mut leg = self.measure(workload, peer, server)?;
        leg.pace = Some(self.gauge.pace()?.min(before));
        Ok(leg)
    }

    fn measure(&self, workload: &Workload, peer: &Peer, server: &Running) -> anyhow::Result<Leg> {
        match &workload.plan {
            Plan::Closed(scenario, size, connections) => {
                self.closed(server, *scenario, *size, *connections)
            }
            Plan::Rate(rate) => self.rate(server, *rate),
            Plan::Mixed => self.mixed(server),
            Plan::Sought => self.sought(server),
            Plan::Cold(scenario, pace) => self.cold(server, *scenario, *pace),
            Plan::Memory => self.memory(peer),
            Plan::Flat(recordings) => self.flat(server, recordings.clone()),
            Plan::Workers => self.workers(peer, server),
            Plan::WorkersAtRate(rate) => self.workers_at_rate(peer, server, *rate),
        }
    }

    fn drive(
        &self,
        server: &Running,
        crowds: &[Crowd],
        dropper: Option<Dropper>,
    ) -> anyhow::Result<Driven> {
        let (warm_up, window) = (self.warm_up(), self.window);
        drive(server, crowds, warm_up, window, dropper)
    }

    fn warm_up(&self) -> Duration {
        (self.window / 4).min(Duration::from_millis(300))
    }

    /// Downloads that begin together fill their sockets together, which tells nothing of the pace behind it:
    /// this waits until each has had a file or two, of a slow server a part of one, and measures for twice as long.
    fn drive_downloads(&self, server: &Running, downloads: Crowd) -> anyhow::Result<Driven> {
        let begun = A_FILE * u32::try_from(downloads.listeners)?;
        let (warm_up, window) = (self.warm_up().max(begun), self.window.max(begun * 2));
        drive(server, &[downloads], warm_up, window, None)
    }

    fn closed(
        &self,
        server: &Running,
        scenario: Scenario,
        size: u64,
        connections: usize,
    ) -> anyhow::Result<Leg> {
        let load = crowd(connections, scenario, size, Pace::Closed);
        let driven = match scenario {
            Scenario::Download => self.drive_downloads(server, load)?,
            _ => self.drive(server, &[load], None)?,
        };
        let bytes = driven.bytes_per_second(0);
        let figures = if scenario == Scenario::Download {
            // Whole files that were begun count as far as they came.
            let files = driven.crowds[0].bytes as f64 / FILE_LENGTH as f64;
            vec![
                (Measure::Bytes, bytes),
                (Measure::Cpu, driven.cpu_per(files)),
            ]
        } else {
            let rate = match scenario {
                Scenario::Storm => Measure::Seeks,
                _ => Measure::Requests,
            };
            vec![
                (rate, driven.per_second(0)),
                (Measure::Cpu, driven.cpu_per(driven.done(0))),
                (Measure::P99, driven.latency(0, "p99")),
            ]
        };
        Ok(Leg {
            figures,
            shares: Some(driven.shares()),
            problems: driven.problems,
            ..Leg::default()
        })
    }

    fn rate(&self, server: &Running, rate: u32) -> anyhow::Result<Leg> {
        let load = seeks(64, Pace::Open(rate.into()));
        let driven = self.drive(server, &[load], None)?;
        let mut figures = vec![
            (Measure::P99, driven.latency(0, "p99")),
            (Measure::P50, driven.latency(0, "p50")),
        ];
        // The kernel tells CPU time in hundredths of a second: a few requests do not show in it.
        if rate >= 10_000 {
            figures.push((Measure::Cpu, driven.cpu_per(driven.done(0))));
        }
        Ok(Leg {
            figures,
            shares: Some(driven.shares()),
            problems: driven.problems,
            ..Leg::default()
        })
    }

    fn mixed(&self, server: &Running) -> anyhow::Result<Leg> {
        let bulk = crowd(FEW, Scenario::Download, 64 * KIB, Pace::Closed);
        let mut alone = self.drive(server, std::slice::from_ref(&bulk), None)?;
        let mut both = self.drive(server, &[seeks(FEW, Pace::Closed), bulk], None)?;
        let (kept, full) = (both.bytes_per_second(1), alone.bytes_per_second(0));
        alone.problems.append(&mut both.problems);
        Ok(Leg {
            figures: vec![
                (Measure::Seeks, both.per_second(0)),
                (Measure::P50, both.latency(0, "p50")),
                (Measure::P99, both.latency(0, "p99")),
                (Measure::BulkBytes, kept),
                (Measure::BulkAlone, full),
                (Measure::BulkKept, kept / full),
            ],
            shares: Some(both.shares()),
            problems: alone.problems,
            ..Leg::default()
        })
    }

    fn sought(&self, server: &Running) -> anyhow::Result<Leg> {
        let downloads = crowd(FEW, Scenario::Download, 64 * KIB, Pace::Closed);
        let mut listeners = self.listeners(server, SOUGHT_RATE)?;
        listeners.open_ended = true;
        self.beside(server, &listeners, downloads, None)
    }

    fn cold(&self, server: &Running, scenario: Scenario, pace: Pace) -> anyhow::Result<Leg> {
        let mut readers = crowd(FEW, scenario, 1024 * KIB, pace);
        // Of two files each in turn, the other is dropped meanwhile.
        readers.shape.stride = Some(FEW as u64);
        readers.recordings = Some(WARM..WARM + COLD);
        let dropper = self.store.dropper()?;
        let listeners = self.listeners(server, COLD_RATE)?;
        self.beside(server, &listeners, readers, Some(dropper))
    }

    fn listeners<'a>(&'a self, server: &'a Running, rate: f64) -> anyhow::Result<Listeners<'a>> {
        Ok(Listeners {
            address: server.address,
            targets: &server.targets,
            pattern: &self.pattern,
            count: 64,
            rate,
            open_ended: false,
            stamped: stamped()?,
        })
    }

    /// How long listeners wait alone, and beside others.
    fn beside(
        &self,
        server: &Running,
        listeners: &Listeners<'_>,
        others: Crowd,
        dropper: Option<Dropper>,
    ) -> anyhow::Result<Leg> {
        let (warm_up, window) = (self.warm_up(), self.window.max(LEAST_WINDOW));
        let mut alone = listeners.listen(warm_up, window)?;
        let (times, driven) = scope(|scope| {
            let listening = scope.spawn(|| listeners.listen(warm_up, window));
            let driven = drive(server, &[others], warm_up, window, dropper);
            (listening.join(), driven)
        });
        let (mut times, beside) = (times.map_err(|_| anyhow!("listeners panicked"))??, driven?);
        let (before, after) = (percentile(&mut alone, 99), percentile(&mut times, 99));
        Ok(Leg {
            figures: vec![
                (Measure::P99Beside, after),
                (Measure::P99Alone, before),
                (Measure::BesideRatio, after / before),
                (Measure::BesideBytes, beside.bytes_per_second(0)),
            ],
            shares: Some(beside.shares()),
            problems: beside.problems,
            ..Leg::default()
        })
    }

    /// Of a server of its own, which has served nothing yet but a few ranges.
    fn memory(&self, peer: &Peer) -> anyhow::Result<Leg> {
        let server = self.start(peer)?;
        let rest = resident(&server.processes)? as f64;
        let mut figures = vec![(Measure::RestMemory, rest)];
        let mut problems = Vec::new();
        for (count, measure) in [(512, Measure::Memory512), (10_000, Measure::Memory10000)] {
            let driven = ask_once(&server, count)?;
            figures.push((measure, driven.resident as f64 - rest));
            problems.extend(driven.problems);
        }
        Ok(Leg {
            figures,
            shares: None,
            problems,
            ..Leg::default()
        })
    }

    fn flat(&self, server: &Running, recordings: Range<usize>) -> anyhow::Result<Leg> {
        let few = seeks(64, Pace::Closed);
        let mut load = few.clone();
        load.recordings = Some(recordings);
        let few = self.drive(server, &[few], None)?;
        let driven = self.drive(server, &[load], None)?;
        let cpu = |driven: &Driven| driven.cpu_per(driven.done(0));
        Ok(Leg {
            figures: vec![
                (Measure::Requests, driven.per_second(0)),
                (Measure::Flat, driven.per_second(0) / few.per_second(0)),
                (Measure::Cpu, cpu(&driven)),
                (Measure::FlatCpu, cpu(&driven) / cpu(&few)),
                (Measure::P99, driven.latency(0, "p99")),
            ],
            shares: Some(driven.shares()),
            problems: [few.problems, driven.problems].concat(),
            ..Leg::default()
        })
    }

    fn workers(&self, peer: &Peer, one: &Running) -> anyhow::Result<Leg> {
        let load = seeks(64, Pace::Closed);
        let single = self.drive(one, std::slice::from_ref(&load), None)?;
        let (double, _) = self.two_workers(peer, load)?;
        let cpu = |driven: &Driven| driven.cpu_per(driven.done(0));
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
            ..Leg::default()
        })
    }

    fn workers_at_rate(&self, peer: &Peer, one: &Running, rate: u32) -> anyhow::Result<Leg> {
        let load = seeks(64, Pace::Open(rate.into()));
        let single = self.drive(one, std::slice::from_ref(&load), None)?;
        let (double, even) = self.two_workers(peer, load)?;
        let cpu = |driven: &Driven| driven.cpu_per(driven.done(0));
        Ok(Leg {
            figures: vec![
                (Measure::TwoWorkersCpu, cpu(&double) / cpu(&single)),
                (Measure::TwoWorkersEven, even),
            ],
            shares: Some(double.shares()),
            problems: [single.problems, double.problems].concat(),
            ..Leg::default()
        })
    }

    /// What two workers on two cores gave, and how evenly they shared it.
    fn two_workers(&self, peer: &Peer, load: Crowd) -> anyhow::Result<(Driven, f64)> {
        let cores = self.cores;
        let two = self.start_on(peer, &[cores.server, cores.second])?;
        let before = threads(&two.processes)?;
        pin(&[cores.server, cores.second, cores.generator])?;
        let driven = self.drive(&two, &[load], None);
        pin(&[cores.generator])?;
        Ok((driven?, evenness(&before, &threads(&two.processes)?)))
    }
}

/// One run of the load, on one thread.
fn drive(
    server: &Running,
    crowds: &[Crowd],
    warm_up: Duration,
    window: Duration,
    dropper: Option<Dropper>,
) -> anyhow::Result<Driven> {
    let connections: usize = crowds.iter().map(|crowd| crowd.listeners).sum();
    let ramp = BETWEEN * u32::try_from(connections / BURST)?;
    let plan = load::Plan {
        sides: Vec::new(),
        crowds: crowds.to_vec(),
        duration: window,
        warm_up: if warm_up.is_zero() {
            warm_up
        } else {
            warm_up + ramp
        },
        rounds: 1,
        ramp,
        timeout: Duration::from_secs(10),
        seed: 1,
        check_every: CHECKED,
        threads: 1,
        tls: server.tls.clone(),
    };
    let notes = Arc::new(Notes {
        processes: server.processes.clone(),
        cpu: Mutex::default(),
        resident: Mutex::default(),
        dropper,
    });
    let mut watch = Watch::unseen();
    watch.moments = Some(Arc::<Notes>::clone(&notes));
    let summaries = load::once(&plan, &server.side, &watch)?;
    Ok(Driven {
        cpu: notes.spent()?,
        resident: notes.resident()?,
        problems: problems(crowds, &summaries),
        crowds: summaries,
    })
}

/// Has so many connections answered once, and looks while they are open.
pub(crate) fn ask_once(server: &Running, count: usize) -> anyhow::Result<Driven> {
    let limit = Duration::from_secs(20);
    let load = [seeks(count, Pace::Once)];
    let driven = drive(server, &load, Duration::ZERO, limit, None)?;
    let answered = driven.crowds[0].requests;
    ensure!(
        answered == count as u64,
        "{answered} of {count} connections were answered within {limit:?}: {}",
        driven.problems.join("; ")
    );
    Ok(driven)
}

fn crowd(listeners: usize, scenario: Scenario, range_size: u64, pace: Pace) -> Crowd {
    Crowd {
        mix: scenario.into(),
        shape: Shape {
            range_size,
            bitrate: 1,
            dwell: Duration::ZERO,
            stride: None,
        },
        pace,
        listeners,
        recordings: Some(0..WARM),
    }
}

fn seeks(listeners: usize, pace: Pace) -> Crowd {
    crowd(listeners, Scenario::Seek, 64 * KIB, pace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::relative;

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
        assert_eq!(
            keys(&["whole", "storm"]).unwrap(),
            [
                "whole-2",
                "whole-64",
                "whole-512",
                "storm-2",
                "storm-64",
                "storm-512"
            ]
        );
        assert_eq!(keys(&[]).unwrap().len(), Workload::ALL.len());
        assert!(keys(&["nothing"]).is_err());
    }

    #[test]
    fn only_those_who_are_asked_for_them_need_more_recordings() {
        let needed = |key: &str| Workload::select(&[key.to_owned()]).unwrap()[0].recordings();
        assert_eq!(needed("64k-64"), WARM + COLD);
        assert_eq!(needed("large"), WARM + COLD + 1);
        assert_eq!(needed("files"), WARM + COLD + 1 + 1_000_000);
    }

    #[test]
    fn only_those_timed_by_the_kernel_need_tcp() {
        let needing = Workload::ALL.iter().filter(|one| one.needs_tcp());
        let keys: Vec<_> = needing.map(|one| one.key).collect();
        assert_eq!(keys, ["sought", "cold-paced", "cold-bulk"]);
    }

    #[test]
    fn only_what_a_workload_reads_is_warmed() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().to_owned();
        let store = Store {
            root,
            recordings: WARM,
        };
        let warm = |key: &str| Workload::select(&[key.to_owned()]).unwrap()[0].warm(&store);
        assert!(warm("1k-2").is_err(), "there is none yet");
        for file in 0..WARM {
            let path = place.path().join(relative(file));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "a").unwrap();
        }
        assert!(warm("1k-2").is_ok() && warm("files").is_ok());
        assert!(warm("large").is_err(), "it reads another");
    }

    #[test]
    fn what_others_take_and_a_slow_core_lacks_is_the_disturbance() {
        assert_eq!(Leg::default().disturbance(), 0.0);
        let leg = |others, pace| Leg {
            shares: Some(Shares {
                server: 1.0,
                generator: 0.5,
                others,
            }),
            pace,
            ..Leg::default()
        };
        for (others, pace, disturbance, was_disturbed) in [
            (0.25, None, 0.25, true),
            (0.125, Some(1.0), 0.125, false),
            (0.125, Some(0.75), 0.375, false),
            (0.125, Some(0.5), 0.625, true),
            (0.25, Some(1.0), 0.25, true),
        ] {
            let leg = leg(others, pace);
            assert_eq!(leg.disturbance(), disturbance);
            assert_eq!(leg.was_disturbed(), was_disturbed, "{leg:?}");
        }
    }
}
