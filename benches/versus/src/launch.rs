//! Cores: which there are, and how a program is held to one.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

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
