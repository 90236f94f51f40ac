//! The table: ratios to the better nginx of each workload.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::measure::{Kind, Measure, Spread, ratio_text};
use crate::over::Protocol;
use crate::peers::{Kind as PeerKind, Peer};
use crate::workload::{Leg, Workload};

/// Busier than this, the generator may be the limit,
const GENERATOR_FULL: f64 = 0.95;
/// unless the server is as busy as this.
const SERVER_FULL: f64 = 0.90;

/// What a marker of any protocol begins with.
const MARKED: &str = "<!-- versus ";

/// Between these, in a file, is the report; what stands around them is others'.
fn markers(protocol: Protocol) -> [String; 2] {
    ["begins", "ends"].map(|edge| format!("<!-- {} {edge} -->\n", protocol.mark()))
}

/// What `file` is to hold, with `report` in the place of the one before.
///
/// # Errors
/// A file that cannot be read, or a place that begins and does not end.
pub(crate) fn placed(file: &Path, protocol: Protocol, report: &str) -> anyhow::Result<String> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read.with_context(|| file.display().to_string())?,
    };
    into_place(&text, protocol, report).with_context(|| file.display().to_string())
}

/// `text` with `report` between its markers; where it has those of another protocol, behind it all, and where it has
/// none, the report alone.
fn into_place(text: &str, protocol: Protocol, report: &str) -> anyhow::Result<String> {
    let [begins, ends] = markers(protocol);
    let (before, after) = match (text.split_once(&begins), text.contains(&ends)) {
        (None, false) if text.contains(MARKED) => (text, ""),
        (None, false) => ("", ""),
        (Some((before, rest)), true) => {
            let (_, after) = rest.split_once(&ends).context("its markers are reversed")?;
            (before, after)
        }
        // Written over, it would lose what is not the report's.
        _ => bail!(
            "it has one of the two markers {}{}",
            begins.trim(),
            ends.trim()
        ),
    };
    Ok(format!("{before}{begins}{report}{ends}{after}"))
}

pub(crate) struct Results {
    pub(crate) peers: Vec<Peer>,
    pub(crate) workloads: Vec<Workload>,
    /// By workload, peer and round.
    pub(crate) legs: Vec<Vec<Vec<Option<Leg>>>>,
    /// Peers that are not there, and how to get them; what else was left out.
    pub(crate) missing: Vec<String>,
    pub(crate) protocol: Protocol,
    /// Of TCP on the loopback.
    pub(crate) congestion: String,
    pub(crate) command: String,
}

impl Results {
    pub(crate) fn markdown(&self) -> String {
        let mut text = self.heading();
        let tables = [
            (
                Kind::Rate,
                "Requests, seeks or bytes a second (more is better)",
            ),
            (
                Kind::Cpu,
                "CPU time of the server a request (less is better)",
            ),
            (Kind::Latency, "Latency (less is better)"),
            (Kind::Memory, "Resident memory (less is better)"),
        ];
        for (kind, title) in tables {
            let rows = self.rows(kind);
            if !rows.is_empty() {
                let _ = write!(text, "\n### {title}\n\n{}{rows}", self.header());
            }
        }
        text.push_str(&self.notes());
        text
    }

    fn heading(&self) -> String {
        let now = jiff::Timestamp::now().to_string();
        let mut text = format!(
            "## Measured beside others{}\n\nOn {}, {}.\n\n```sh\n{}\n```\n\n\
            Each server on one core of its own, the load generator on another, loopback with {} TCP; servers take \
            turns in rounds. A cell is the median of the ratios of pairs, with the least and the most \
            of them, to the better nginx of that workload, which is named with its own median. Every \
            response's status, range and length are checked, and all bytes of one in 16 (but of the 8 GiB, \
            which are a hole).\n\n",
            self.protocol.title(),
            now.get(..10).unwrap_or_default(),
            machine(),
            self.command,
            self.congestion,
        );
        for peer in &self.peers {
            let _ = writeln!(text, "- {}", peer.describe());
        }
        for missing in &self.missing {
            let _ = writeln!(text, "- missing: {missing}");
        }
        text
    }

    fn header(&self) -> String {
        let names: Vec<&str> = self.peers.iter().map(|peer| peer.kind.name()).collect();
        let mut header = format!("| workload | figure | 1 is | {} |", names.join(" | "));
        if self.tonearms().is_some() {
            header.push_str(" other / tonearm |");
        }
        let columns = header.matches('|').count() - 1;
        format!("{header}\n|{}\n", "---|".repeat(columns))
    }

    fn rows(&self, kind: Kind) -> String {
        let mut rows = String::new();
        for (number, workload) in self.workloads.iter().enumerate() {
            for measure in self.measures(number) {
                if measure.kind() == kind {
                    let row = self.row(number, measure);
                    let _ = writeln!(rows, "| {} | {} | {row} |", workload.title, measure.label());
                }
            }
        }
        rows
    }

    fn row(&self, workload: usize, measure: Measure) -> String {
        let absolute = measure.is_ratio() || measure.kind() == Kind::Memory;
        let reference = self.reference(workload).filter(|_| !absolute);
        let figures = |peer| self.figures(workload, peer, measure);
        let mut cells = vec![reference.map_or_else(String::new, |peer| {
            let name = self.peers[peer].kind.name();
            let median = Spread::of(figures(peer).into_iter().flatten());
            median.map_or_else(String::new, |one| {
                format!("{name}: {}", measure.show(one.median))
            })
        })];
        for peer in 0..self.peers.len() {
            let cell = match reference {
                Some(reference) => {
                    let spread = Spread::of_pairs(&figures(peer), &figures(reference));
                    spread.map(|spread| self.ratio_cell(spread, workload, peer, measure))
                }
                None => Spread::of(figures(peer).into_iter().flatten())
                    .map(|spread| show(spread, |value| measure.show(value))),
            };
            cells.push(cell.unwrap_or_default());
        }
        if let Some((one, other)) = self.tonearms() {
            let spread = Spread::of_pairs(&figures(other), &figures(one));
            cells.push(spread.map_or_else(String::new, |spread| show(spread, ratio_text)));
        }
        cells.join(" | ")
    }

    fn ratio_cell(&self, spread: Spread, workload: usize, peer: usize, measure: Measure) -> String {
        let mut cell = show(spread, ratio_text);
        if measure.kind() == Kind::Latency {
            let own = self.figures(workload, peer, measure);
            if let Some(own) = Spread::of(own.into_iter().flatten()) {
                let _ = write!(cell, ", {}", measure.show(own.median));
            }
        }
        if measure.kind() == Kind::Rate && self.generator_was_limit(workload, peer) {
            cell.push_str(" \u{2020}");
        }
        cell
    }

    /// Which peer is 1: the nginx that is better at the workload's first figure, else the first peer.
    fn reference(&self, workload: usize) -> Option<usize> {
        let measure = *self.measures(workload).first()?;
        let median = |peer: usize| {
            let figures = self.figures(workload, peer, measure);
            Spread::of(figures.into_iter().flatten()).map(|spread| spread.median)
        };
        let goodness = |value: f64| match measure.higher_is_better() {
            true => value,
            false => -value,
        };
        let kind = |peer: usize| self.peers[peer].kind;
        let best = |logged: bool| {
            let nginxes = (0..self.peers.len())
                .filter(|peer| kind(*peer).is_nginx() && kind(*peer).is_logged() == logged);
            let known = nginxes.filter_map(|peer| Some((peer, goodness(median(peer)?))));
            known.max_by(|(_, one), (_, other)| one.total_cmp(other))
        };
        let best = best(false).or_else(|| best(true));
        best.map_or_else(|| median(0).map(|_| 0), |(peer, _)| Some(peer))
    }

    /// Places of the two tonearms, if both are there.
    fn tonearms(&self) -> Option<(usize, usize)> {
        let place = |kind| self.peers.iter().position(|peer| peer.kind == kind);
        Some((place(PeerKind::Tonearm)?, place(PeerKind::TonearmOther)?))
    }

    /// Figures of a workload, in the order in which they were told.
    fn measures(&self, workload: usize) -> Vec<Measure> {
        let legs = self.legs[workload].iter().flatten().flatten();
        let first = legs.max_by_key(|leg| leg.figures.len());
        first.map_or_else(Vec::new, |leg| {
            leg.figures.iter().map(|(measure, _)| *measure).collect()
        })
    }

    /// Round by round.
    fn figures(&self, workload: usize, peer: usize, measure: Measure) -> Vec<Option<f64>> {
        let figure = |leg: &Leg| {
            let mut figures = leg.figures.iter();
            figures
                .find(|(one, _)| *one == measure)
                .map(|(_, value)| *value)
        };
        let legs = &self.legs[workload][peer];
        legs.iter()
            .map(|leg| leg.as_ref().and_then(figure))
            .collect()
    }

    fn generator_was_limit(&self, workload: usize, peer: usize) -> bool {
        let shares = || {
            self.legs[workload][peer]
                .iter()
                .flatten()
                .filter_map(|leg| leg.shares)
        };
        let generator = Spread::of(shares().map(|share| share.generator));
        let server = Spread::of(shares().map(|share| share.server));
        generator.is_some_and(|share| share.median > GENERATOR_FULL)
            && server.is_some_and(|share| share.median < SERVER_FULL)
    }

    fn notes(&self) -> String {
        let mut text = String::from("\n### Notes\n\n");
        let legs = || self.legs.iter().flatten().flatten().flatten();
        let percent = |pick: fn(&Leg) -> Option<f64>| {
            Spread::of(legs().filter_map(pick)).map_or_else(
                || "-".to_owned(),
                |spread| show(spread, |share| format!("{:.0} %", share * 100.0)),
            )
        };
        let _ = writeln!(
            text,
            "- Of a core, over all measurements: servers {}, generator {}, other processes {}. The slower core's pace \
            before or behind a measurement, of the fastest pace seen: {}.",
            percent(|leg| leg.shares.map(|shares| shares.server)),
            percent(|leg| leg.shares.map(|shares| shares.generator)),
            percent(|leg| leg.shares.map(|shares| shares.others)),
            percent(|leg| leg.pace),
        );
        text.push_str(
            "- \u{2020} The generator had work for more than 95 % of its time, and the server's core less than 90 %: \
            the generator may be the limit.\n\
            - Latency at a rate counts from when a request was due. Elsewhere it counts from when it was sent.\n",
        );
        for line in self.problems() {
            let _ = writeln!(text, "- {line}");
        }
        text
    }

    /// Each once, with how often it was met.
    fn problems(&self) -> Vec<String> {
        let mut lines: Vec<(String, usize)> = Vec::new();
        for (number, workload) in self.workloads.iter().enumerate() {
            for (peer, legs) in self.peers.iter().zip(&self.legs[number]) {
                for problem in legs.iter().flatten().flat_map(|leg| &leg.problems) {
                    let name = peer.kind.name();
                    let line = format!("**{name}, {}**: {problem}", workload.title);
                    match lines.iter_mut().find(|(known, _)| *known == line) {
                        Some((_, count)) => *count += 1,
                        None => lines.push((line, 1)),
                    }
                }
            }
        }
        let times = |(line, count)| match count {
            1 => line,
            _ => format!("{line} ({count} times)"),
        };
        lines.into_iter().map(times).collect()
    }
}

fn show(spread: Spread, text: impl Fn(f64) -> String) -> String {
    let Spread {
        median,
        least,
        most,
    } = spread;
    match least.total_cmp(&most) {
        std::cmp::Ordering::Equal => text(median),
        _ => format!("{} ({}..{})", text(median), text(least), text(most)),
    }
}

/// CPU, cores and kernel.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("an unnamed CPU", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let system = rustix::system::uname();
    let kernel = system.release().to_string_lossy().into_owned();
    format!("{model}, {cores} cores, Linux {kernel}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Shares;

    fn leg(rate: f64, server: f64) -> Leg {
        Leg {
            figures: vec![(Measure::Requests, rate), (Measure::P99, 0.001)],
            shares: Some(Shares {
                server,
                generator: 0.99,
                others: 0.0,
            }),
            pace: Some(1.0),
            problems: Vec::new(),
        }
    }

    fn results() -> Results {
        let kinds = [
            PeerKind::Tonearm,
            PeerKind::NginxNopush,
            PeerKind::NginxPlain,
        ];
        Results {
            peers: kinds.map(Peer::for_test).to_vec(),
            workloads: Workload::select(&["64k-64".to_owned()]).unwrap(),
            legs: vec![vec![
                vec![Some(leg(300.0, 0.5)), Some(leg(200.0, 0.5))],
                vec![Some(leg(10.0, 0.95)), Some(leg(10.0, 0.95))],
                vec![Some(leg(100.0, 0.95)), None],
            ]],
            missing: vec!["caddy (apt-get install caddy)".to_owned()],
            protocol: Protocol::Tcp,
            congestion: "cubic".to_owned(),
            command: "command".to_owned(),
        }
    }

    #[test]
    fn ratios_are_to_the_better_nginx() {
        let results = results();
        assert_eq!(results.reference(0), Some(2));
        let row = results.row(0, Measure::Requests);
        assert_eq!(row, "nginx-plain: 100/s | 3.00 \u{2020} | 0.10 | 1.00");
        let row = results.row(0, Measure::P99);
        assert_eq!(
            row,
            "nginx-plain: 1.00 ms | 1.00, 1.00 ms | 1.00, 1.00 ms | 1.00, 1.00 ms"
        );
    }

    #[test]
    fn a_logged_nginx_is_one_only_where_there_is_no_other() {
        let mut results = results();
        results.peers[2].kind = PeerKind::NginxPlainLogged;
        assert_eq!(results.reference(0), Some(1));
        results.peers[1].kind = PeerKind::NginxLogged;
        assert_eq!(results.reference(0), Some(2));
    }

    #[test]
    fn two_tonearms_are_compared_if_the_second_is_the_other_one() {
        let mut results = results();
        results.peers[1].kind = PeerKind::TonearmLogged;
        assert_eq!(results.tonearms(), None);
        results.peers[2].kind = PeerKind::TonearmOther;
        assert_eq!(results.tonearms(), Some((0, 2)));
    }

    #[test]
    fn a_report_takes_the_place_of_the_one_before_and_of_nothing_else() {
        let [begins, ends] = markers(Protocol::Tcp);
        let put = |text: &str, report| into_place(text, Protocol::Tcp, report).unwrap();
        let first = put("whatever was here", "one\n");
        assert_eq!(first, format!("{begins}one\n{ends}"));
        let second = put(&format!("# Prose\n\n{first}\nMore.\n"), "two\n");
        assert_eq!(second, format!("# Prose\n\n{begins}two\n{ends}\nMore.\n"));
        assert_eq!(put(&second, "two\n"), second);
    }

    #[test]
    fn each_protocol_has_a_place_of_its_own() {
        let mut text = String::new();
        let all = [Protocol::Tcp, Protocol::Tls, Protocol::Http2];
        for (protocol, report) in all.into_iter().zip(["one\n", "two\n", "three\n"]) {
            text = into_place(&text, protocol, report).unwrap();
        }
        let text = into_place(&text, Protocol::Tls, "four\n").unwrap();
        let places = all.map(markers).into_iter();
        let expect: String = places
            .zip(["one\n", "four\n", "three\n"])
            .map(|([begins, ends], report)| format!("{begins}{report}{ends}"))
            .collect();
        assert_eq!(text, expect);
    }

    #[test]
    fn a_file_with_half_a_place_is_left_alone() {
        let [begins, ends] = &markers(Protocol::Tls);
        for text in [begins, ends, &format!("{ends}{begins}")] {
            assert!(into_place(text, Protocol::Tls, "report").is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_the_report_alone() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("report.md");
        let [begins, ends] = markers(Protocol::Tcp);
        assert_eq!(
            placed(&file, Protocol::Tcp, "one\n").unwrap(),
            format!("{begins}one\n{ends}")
        );
        assert!(placed(place.path(), Protocol::Tcp, "one\n").is_err());
    }

    #[test]
    fn without_an_nginx_the_first_peer_is_one() {
        let mut results = results();
        results.peers.truncate(1);
        assert_eq!(results.reference(0), Some(0));
    }

    #[test]
    fn a_missing_peer_and_a_problem_are_named() {
        let mut results = results();
        if let Some(leg) = &mut results.legs[0][1][0] {
            leg.problems.push("wrong byte".to_owned());
        }
        let text = results.markdown();
        assert!(text.contains("- missing: caddy (apt-get install caddy)"));
        assert!(text.contains("- **nginx-nopush, 64 KiB ranges, 64**: wrong byte"));
        assert!(text.contains("| workload | figure | 1 is | tonearm | nginx-nopush | nginx-plain |\n|---|---|---|---|---|---|\n"));
    }
}
