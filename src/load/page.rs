//! The report of a run: one HTML file that needs no script and nothing from elsewhere. Pure.

use std::fmt::Write as _;

use super::Outcome;
use super::slo::Verdict;
use super::summary::{Summary, Times};
use super::svg::{self, escape};
use super::words::{bytes_text, size_text, time_text};

const STYLE: &str = include_str!("page.css");

/// The page, with an earlier run beside this one where there is one.
#[must_use]
pub fn page(outcome: &Outcome, verdicts: &[Verdict], earlier: Option<&Outcome>) -> String {
    let sides: Vec<_> = outcome.sides.iter().collect();
    let before: Vec<_> = earlier.iter().flat_map(|earlier| &earlier.sides).collect();
    let right = outcome.is_right() && verdicts.iter().all(|verdict| verdict.met);
    let (class, word) = if right {
        ("met", "Every answer was right.")
    } else {
        ("missed", "It did not hold.")
    };
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>tonearm load</title><style>{STYLE}</style></head><body>\
         <h1>tonearm load</h1><p>{}; seed {}; tonearm {}.</p><p class=\"{class}\">{word}</p>",
        escape(&outcome.done),
        outcome.seed,
        escape(&outcome.version)
    );
    objectives(&mut html, verdicts);
    figures(&mut html, &sides, &before);
    ratios(&mut html, outcome);
    let note =
        "Both axes are logarithmic: each step to the right is a tenth of the requests before.";
    chart(
        &mut html,
        "Time to the first byte",
        note,
        svg::percentiles(&sides, &before),
    );
    chart(
        &mut html,
        "Requests a second",
        "",
        svg::throughput(&sides, &before),
    );
    if let Some(side) = sides.first() {
        let note =
            "The recording goes right, time goes down; a dot is a seek, orange was broken off.";
        chart(
            &mut html,
            "What one listener read",
            note,
            svg::bytes(&side.plays),
        );
    }
    for side in &sides {
        faults(&mut html, side);
    }
    html.push_str("</body></html>\n");
    html
}

fn chart(html: &mut String, title: &str, note: &str, svg: Option<String>) {
    if let Some(svg) = svg {
        let _ = write!(html, "<figure><h2>{title}</h2><p>{note}</p>{svg}</figure>");
    }
}

fn objectives(html: &mut String, verdicts: &[Verdict]) {
    for verdict in verdicts {
        let (class, word) = if verdict.met {
            ("met", "met")
        } else {
            ("missed", "missed")
        };
        let clause = escape(&verdict.clause);
        let _ = write!(
            html,
            "<p class=\"{class}\">{word}: {clause} ({})</p>",
            verdict.measured
        );
    }
}

/// A row a figure, a column a side.
fn figures(html: &mut String, sides: &[&Summary], before: &[&Summary]) {
    let columns: Vec<_> = sides.iter().chain(before).collect();
    let names = sides.iter().map(|side| escape(&side.name));
    let names = names.chain(
        before
            .iter()
            .map(|side| format!("{}, earlier", escape(&side.name))),
    );
    html.push_str("<table><tr><th></th>");
    for name in names {
        let _ = write!(html, "<th>{name}</th>");
    }
    html.push_str("</tr>");
    let mut row = |title: &str, value: &dyn Fn(&Summary) -> String| {
        let cells: String = columns.iter().fold(String::new(), |mut cells, side| {
            let _ = write!(cells, "<td>{}</td>", value(side));
            cells
        });
        let _ = write!(html, "<tr><th>{title}</th>{cells}</tr>");
    };
    row("requests a second", &|side| {
        format!("{:.0}", side.requests_per_second)
    });
    row("bytes a second", &|side| bytes_text(side.bytes_per_second));
    row("requests", &|side| side.requests.to_string());
    row("wrong", &|side| side.failed().to_string());
    for name in ["p50", "p90", "p99", "p99.9", "max"] {
        row(&format!("first byte, {name}"), &|side| {
            time(side.first_byte.as_ref(), name)
        });
    }
    for name in ["p50", "p99"] {
        row(&format!("whole, {name}"), &|side| {
            time(side.whole.as_ref(), name)
        });
    }
    row("bytes", &|side| size_text(side.bytes));
    row("of these compared", &|side| size_text(side.bytes_compared));
    row("broken off, unread", &|side| size_text(side.aborted_bytes));
    row("connections", &|side| side.connections.to_string());
    row("the load was busy", &|side| {
        format!("{:.0} %", side.own.busy * 100.0)
    });
    html.push_str("</table>");
}

fn time(times: Option<&Times>, name: &str) -> String {
    let time = times.and_then(|times| times.percentile(name));
    time.map_or_else(|| "-".to_owned(), time_text)
}

fn ratios(html: &mut String, outcome: &Outcome) {
    if outcome.ratios.is_empty() {
        return;
    }
    html.push_str("<table><tr><th></th><th>ratio</th><th>least</th><th>most</th></tr>");
    for ratio in &outcome.ratios {
        let _ = write!(
            html,
            "<tr><th>{} over {}</th><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td></tr>",
            ratio.figure,
            escape(&ratio.over),
            ratio.median,
            ratio.least,
            ratio.most
        );
    }
    html.push_str("</table>");
}

fn faults(html: &mut String, side: &Summary) {
    let name = escape(&side.name);
    for (kind, fault) in &side.failures {
        let example = escape(&fault.example);
        let _ = write!(
            html,
            "<p class=\"missed\">{name}: {kind}, {} times; the first: {example}</p>",
            fault.count
        );
    }
    if let Some(limit) = &side.own.limit {
        let _ = write!(html, "<p>{name}: {limit}.</p>");
    }
}
