//! What a run has shown, for people and for programs.

use serde::Serialize;

use super::super::Failure;
use crate::load::slo::Verdict;
use crate::load::summary::{Outcome as Measured, Summary, Times};
use crate::load::words::{bytes_text, size_text, time_text};

/// What --json prints.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    outcome: &'a Measured,
    slo: Vec<Judged<'a>>,
    ok: bool,
}

#[derive(Serialize)]
struct Judged<'a> {
    clause: &'a str,
    measured: &'a str,
    met: bool,
}

pub(super) fn json(outcome: &Measured, verdicts: &[Verdict], ok: bool) -> Result<String, Failure> {
    let judged = verdicts.iter().map(|verdict| Judged {
        clause: &verdict.clause,
        measured: &verdict.measured,
        met: verdict.met,
    });
    let slo = judged.collect();
    serde_json::to_string(&Printed { outcome, slo, ok })
        .map_err(|error| Failure::new(Failure::IO, error))
}

pub(super) fn in_words(outcome: &Measured, verdicts: &[Verdict]) -> String {
    let mut lines = Vec::new();
    for side in &outcome.sides {
        lines.extend(side_in_words(side));
    }
    for ratio in &outcome.ratios {
        lines.push(format!(
            "{} over {}: {:.2} ({:.2}..{:.2})",
            ratio.figure, ratio.over, ratio.median, ratio.least, ratio.most
        ));
    }
    for verdict in verdicts {
        let word = if verdict.met { "met" } else { "MISSED" };
        lines.push(format!("{word}: {} ({})", verdict.clause, verdict.measured));
    }
    lines.join("\n")
}

fn side_in_words(side: &Summary) -> Vec<String> {
    let mut lines = vec![format!(
        "{}: {} requests in {:.1} s, {:.0}/s, {}/s",
        side.name,
        side.requests,
        side.seconds,
        side.requests_per_second,
        bytes_text(side.bytes_per_second)
    )];
    let mut row = |name: &str, times: &Option<Times>| {
        if let Some(times) = times {
            lines.push(times_in_words(name, times));
        }
    };
    row("first byte", &side.first_byte);
    row("whole", &side.whole);
    row("resolver", &side.resolver);
    lines.push(bytes_in_words(side));
    let statuses = side
        .statuses
        .iter()
        .map(|(status, count)| format!("{status}: {count}"));
    let statuses: Vec<_> = statuses.collect();
    if !statuses.is_empty() {
        lines.push(format!("  statuses    {}", statuses.join(", ")));
    }
    for (kind, fault) in &side.failures {
        lines.push(format!(
            "  WRONG       {kind}: {}, first: {}",
            fault.count, fault.example
        ));
    }
    if side.renewed > 0 {
        lines.push(format!("  renewed     {} expired URLs", side.renewed));
    }
    if side.longest_wait >= 1.0 {
        let longest = time_text(side.longest_wait);
        lines.push(format!(
            "  unanswered  {}, the longest for {longest}",
            side.unanswered
        ));
    }
    let own = format!("  own cost    busy {:.0} %", side.own.busy * 100.0);
    lines.push(match &side.own.limit {
        Some(limit) => format!("{own}; {limit}"),
        None => own,
    });
    lines
}

fn times_in_words(name: &str, times: &Times) -> String {
    let names = ["p50", "p90", "p99", "p99.9", "max"];
    let figures = names.iter().filter_map(|name| {
        let time = times.percentile(name)?;
        Some(format!("{name} {}", time_text(time)))
    });
    format!("  {name:<11} {}", figures.collect::<Vec<_>>().join("  "))
}

fn bytes_in_words(side: &Summary) -> String {
    let line = format!(
        "  bytes       {}, {} compared, {} connections",
        size_text(side.bytes),
        size_text(side.bytes_compared),
        side.connections
    );
    let unread = size_text(side.aborted_bytes);
    match side.aborted {
        0 => line,
        aborted if side.streams_reset > 0 => {
            let reset = side.streams_reset;
            format!("{line}, {aborted} broken off with {unread} unread, {reset} streams reset")
        }
        aborted => format!("{line}, {aborted} broken off with {unread} unread"),
    }
}
