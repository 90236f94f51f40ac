//! Cores: which there are, and how a program is held to one.

use std::fs;
use std::hint::black_box;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, set_parent_process_death_signal, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Niceness of servers and generator.
const HURRIED: i32 = -10;

/// Where a session is a scheduling group, only the group's niceness counts against other sessions.
const AUTOGROUP: &str = "/proc/self/autogroup";

/// The cores of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    /// The second one of a server with two workers.
    pub(crate) second: usize,
    pub(crate) generator: usize,
}

impl Cores {
    /// The first two and the last that this process may use.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let set = sched_getaffinity(None)?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|core| set.is_set(*core))
            .collect();
        ensure!(
            cores.len() >= 2,
            "it takes two cores: one for a server, one for the load"
        );
        Ok(Self {
            server: cores[0],
            second: cores[1],
            generator: cores[cores.len() - 1],
        })
    }

    /// How many times as long a loop takes on the server's core while the generator's runs it as well: 1 where they
    /// have nothing in common but memory, nearly 2 where they are two threads of one core, whatever the system calls
    /// them. A virtual machine does not say.
    pub(crate) fn slowdown(self) -> anyhow::Result<f64> {
        let alone = loops(self.server)?;
        let beside = thread::scope(|scope| {
            let other = scope.spawn(|| loops(self.generator));
            let own = scope.spawn(|| loops(self.server));
            other.join().ok().context("the generator's core")??;
            own.join().ok().context("the server's core")?
        })?;
        Ok(alone as f64 / beside as f64)
    }
}

/// How often a loop that leaves a core nothing to wait for runs on this one in a moment.
fn loops(core: usize) -> anyhow::Result<u64> {
    const MOMENT: Duration = Duration::from_millis(300);
    pin(&[core])?;
    let end = Instant::now() + MOMENT;
    let (mut count, mut chains) = (0, [1_u64; 8]);
    while Instant::now() < end {
        for _ in 0..10_000 {
            for chain in &mut chains {
                *chain = chain.wrapping_mul(5).rotate_left(7);
            }
        }
        black_box(&mut chains);
        count += 1;
    }
    Ok(count)
}

/// Holds this thread, and what it starts, to `cores`.
pub(crate) fn pin(cores: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None::<Pid>, &set).with_context(|| format!("cannot run on cores {cores:?}"))
}

/// While it is kept, servers and generator go before what else runs here, as far as this user may.
pub(crate) struct Hurry {
    /// Niceness of the session's scheduling group, where sessions have one.
    before: Option<String>,
}

impl Hurry {
    pub(crate) fn begin() -> Self {
        let group = fs::read_to_string(AUTOGROUP).unwrap_or_default();
        let before = group.split_whitespace().last().map(str::to_owned);
        if setpriority_process(None, HURRIED).is_err() {
            eprintln!("not allowed to go before other processes");
            return Self { before: None };
        }
        let _ = fs::write(AUTOGROUP, HURRIED.to_string());
        Self { before }
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = fs::write(AUTOGROUP, before);
        }
    }
}

/// Becomes `command`, held to `cores`; ended with the process that asked for it.
pub(crate) fn become_pinned(cores: &[usize], command: &[String]) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    pin(cores)?;
    let (program, arguments) = command.split_first().context("no program is named")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}
