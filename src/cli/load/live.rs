//! A run while it goes on: the line on a terminal, and the signals that end it.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::load::summary::Outcome;
use crate::load::words::time_text;
use crate::load::{self, Live, Plan, Watch};

/// How often the line is drawn anew.
const LIVE: Duration = Duration::from_millis(500);

/// Runs the plan; Ctrl-C ends it early, and a terminal sees how it goes.
pub(super) fn watched(plan: Plan) -> anyhow::Result<Outcome> {
    let terminal = std::io::stderr().is_terminal();
    let watch = Arc::new(if terminal {
        Watch::seen()?
    } else {
        Watch::unseen()
    });
    let line = Line::of(&plan);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let shared = Arc::clone(&watch);
        let mut running = tokio::task::spawn_blocking(move || load::run(&plan, &shared));
        let began = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval_at(began + LIVE, LIVE);
        let outcome = loop {
            tokio::select! {
                outcome = &mut running => break outcome,
                _ = interrupt.recv() => watch.stop.store(true, Ordering::Relaxed),
                _ = terminate.recv() => watch.stop.store(true, Ordering::Relaxed),
                _ = ticks.tick() => line.draw(&watch, began.elapsed()),
            }
        };
        if terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        Ok(outcome??)
    })
}

/// What of a plan the line tells.
struct Line {
    total: Duration,
    /// Whether sides take turns.
    turns: bool,
}

impl Line {
    fn of(plan: &Plan) -> Self {
        let sides = u32::try_from(plan.sides.len()).unwrap_or(u32::MAX);
        let warm_ups = plan.warm_up.saturating_mul(plan.rounds);
        Self {
            total: (plan.duration + warm_ups).saturating_mul(sides),
            turns: sides > 1,
        }
    }

    /// What happened since the last one.
    fn text(&self, live: &Live, passed: Duration) -> String {
        let a_second = |count: u64| {
            let count = u32::try_from(count).map_or(f64::MAX, f64::from);
            count / LIVE.as_secs_f64()
        };
        let side = if self.turns { &live.side } else { "" };
        format!(
            "{:.0}/{:.0} s  {side}{}{:>6.0} req/s {:>6.0} MiB/s  p50 {:>8}  p99 {:>8}  {} wrong",
            passed.as_secs_f64().floor(),
            self.total.as_secs_f64().ceil(),
            if self.turns { " " } else { "" },
            a_second(live.requests),
            a_second(live.bytes >> 10) / 1024.0,
            time_text(live.within(0.5).as_secs_f64()),
            time_text(live.within(0.99).as_secs_f64()),
            live.failures
        )
    }

    /// In the place of the last one; what is too long for the terminal is not wrapped.
    fn draw(&self, watch: &Watch, passed: Duration) {
        if let Some(live) = watch.take() {
            let text = self.text(&live, passed);
            let _ = write!(std::io::stderr(), "\r\x1b[K\x1b[?7l{text}\x1b[?7h");
        }
    }
}
