//! `tonearm status`: one screen that says how a server is, from its admin listener.

mod exposition;

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use self::exposition::Exposition;
use super::{Failure, Outcome, now, print, reachable};
use crate::config::{Flags, Values};

/// Longest wait for the admin listener.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between the two looks that give rates.
const PAUSE: Duration = Duration::from_secs(1);
/// A certificate that ends within so many days is worth a word, as the alert has it.
const FEW_DAYS: f64 = 14.0;
/// A signing key that is older is worth a word.
const OLD_KEY: u64 = 90 * 24 * 3600;

/// Flags of `tonearm status`.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Address of the server's admin listener [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What the screen shows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Screen {
    admin: String,
    version: String,
    ready: String,
    up_seconds: u64,
    connections: u64,
    requests_per_second: u64,
    sent_bytes_per_second: u64,
    requests: u64,
    client_errors: u64,
    server_errors: u64,
    first_byte_median_seconds: Option<f64>,
    first_byte_p99_seconds: Option<f64>,
    bodies_complete: u64,
    bodies_aborted: u64,
    bodies_failed: u64,
    refusals: Vec<(String, u64)>,
    questions_answered: u64,
    questions_refused: u64,
    keys: u64,
    signing_keys: u64,
    signing_key_age_seconds: Option<u64>,
    certificate_days: Option<f64>,
    log_lines_dropped: u64,
    confined: String,
    findings: Vec<String>,
}

impl Status {
    pub(super) fn flags(&self) -> Flags {
        vec![("admin_listen", self.admin_listen.clone())]
    }

    pub(super) fn run(&self, values: &Values) -> Outcome {
        let admin = reachable(values.config()?.admin_listen).to_string();
        let unavailable = |error| Failure::new(Failure::UNAVAILABLE, error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unavailable(error.into()))?;
        let screen = runtime.block_on(look(admin)).map_err(unavailable)?;
        if self.json {
            let text = serde_json::to_string_pretty(&screen)
                .map_err(|error| Failure::new(Failure::IO, error))?;
            print(&text);
        } else {
            print(&screen.text());
        }
        Ok(if screen.findings.is_empty() {
            0
        } else {
            Failure::FINDINGS
        })
    }
}

async fn look(admin: String) -> anyhow::Result<Screen> {
    let http = reqwest::Client::builder()
        .no_proxy()
        // No TLS is spoken there, and a machine without certificates is none to be refused on.
        .tls_certs_only([])
        .timeout(TIMEOUT)
        .build()?;
    let ask = async |path: &str| {
        let answer = http.get(format!("http://{admin}{path}")).send().await;
        answer
            .with_context(|| format!("no server answers on http://{admin}"))?
            .text()
            .await
            .with_context(|| format!("http://{admin}{path} does not end"))
    };
    let before = Exposition::read(&ask("/metrics").await?);
    tokio::time::sleep(PAUSE).await;
    let after = Exposition::read(&ask("/metrics").await?);
    let ready = ask("/readyz").await?.trim().to_owned();
    Ok(Screen::of(admin, ready, &before, &after, now().0))
}

impl Screen {
    fn of(admin: String, ready: String, before: &Exposition, m: &Exposition, now: u64) -> Self {
        let rate = |name| m.sum(name, &[]).saturating_sub(before.sum(name, &[]));
        let bodies = |outcome| m.sum("tonearm_bodies_total", &[("outcome", outcome)]);
        let answers = |class| m.sum("tonearm_requests_total", &[("status", class)]);
        let questions = m.sum("tonearm_hubspot_questions_total", &[]);
        let answered = m.sum(
            "tonearm_hubspot_questions_total",
            &[("outcome", "answered")],
        );
        let since = m.sum("tonearm_signing_key_since_timestamp_seconds", &[]);
        let mut screen = Self {
            admin,
            version: m.label("tonearm_build_info", "version").unwrap_or_default(),
            ready,
            up_seconds: now.saturating_sub(m.sum("tonearm_start_timestamp_seconds", &[])),
            connections: m.sum("tonearm_connections", &[]),
            requests_per_second: rate("tonearm_requests_total"),
            sent_bytes_per_second: rate("tonearm_sent_bytes_total"),
            requests: m.sum("tonearm_requests_total", &[]),
            client_errors: answers("4"),
            server_errors: answers("5"),
            first_byte_median_seconds: m.quantile("tonearm_first_byte_seconds", "media", 50),
            first_byte_p99_seconds: m.quantile("tonearm_first_byte_seconds", "media", 99),
            bodies_complete: bodies("complete"),
            bodies_aborted: bodies("aborted"),
            bodies_failed: bodies("failed"),
            refusals: m.by_label("tonearm_refusals_total", "reason"),
            questions_answered: answered,
            questions_refused: questions.saturating_sub(answered),
            keys: m.sum("tonearm_keys", &[]),
            signing_keys: m.sum("tonearm_signing_keys", &[]),
            signing_key_age_seconds: (since > 0).then(|| now.saturating_sub(since)),
            certificate_days: m.real("tonearm_certificate_days"),
            log_lines_dropped: m.sum("tonearm_log_lines_dropped_total", &[]),
            confined: m
                .label("tonearm_confinement_info", "state")
                .unwrap_or_default(),
            findings: Vec::new(),
        };
        let failed_reloads = m.sum("tonearm_keyring_reloads_total", &[("outcome", "failed")]);
        screen.findings = screen.findings(failed_reloads);
        screen
    }

    /// What somebody should look at, worst first.
    fn findings(&self, failed_reloads: u64) -> Vec<String> {
        let old = self.signing_key_age_seconds.filter(|age| *age > OLD_KEY);
        let ends = self.certificate_days.filter(|days| *days < FEW_DAYS);
        let found = [
            ends.map(|days| format!("{}: is it being renewed?", days_left(days))),
            (self.ready != "ready").then(|| format!("it is not ready: {}", self.ready)),
            (self.signing_keys == 0).then(|| {
                "no key signs: HubSpot gets no URL; tonearm keys list, then rotate".to_owned()
            }),
            (self.server_errors > 0).then(|| {
                format!(
                    "{} answers were 5xx: the log says why at error",
                    self.server_errors
                )
            }),
            (self.bodies_failed > 0).then(|| {
                format!(
                    "{} recordings changed or failed while they were sent",
                    self.bodies_failed
                )
            }),
            (failed_reloads > 0)
                .then(|| format!("{failed_reloads} reloads failed: the old keyring is in place")),
            (self.log_lines_dropped > 0).then(|| {
                format!(
                    "{} log lines were lost: standard error is read too slowly",
                    self.log_lines_dropped
                )
            }),
            old.map(|age| format!("the signing key is {} old: tonearm keys rotate", span(age))),
        ];
        found.into_iter().flatten().collect()
    }

    fn text(&self) -> String {
        let rows = self.traffic().into_iter().chain(self.trust());
        let mut lines: Vec<_> = rows
            .map(|(name, text)| format!("{name:<11}{text}"))
            .collect();
        lines.push(String::new());
        match self.findings.as_slice() {
            [] => lines.push("all is well".to_owned()),
            found => lines.extend(found.iter().map(|finding| format!("look: {finding}"))),
        }
        lines.join("\n")
    }

    /// Whether it serves, and how well.
    fn traffic(&self) -> [Row; 5] {
        let server = format!(
            "tonearm {} on {}, {}, up {}",
            self.version,
            self.admin,
            self.ready,
            span(self.up_seconds)
        );
        let now = format!(
            "{} connections, {} requests/s, {}/s sent",
            self.connections,
            self.requests_per_second,
            size(self.sent_bytes_per_second)
        );
        let answers = format!(
            "{}; {} of them 4xx, {} 5xx",
            self.requests, self.client_errors, self.server_errors
        );
        let first_byte = format!(
            "half {}, 99 % {}",
            wait(self.first_byte_median_seconds),
            wait(self.first_byte_p99_seconds)
        );
        let bodies = format!(
            "{} complete, {} left by the client, {} failed",
            self.bodies_complete, self.bodies_aborted, self.bodies_failed
        );
        [
            ("server", server),
            ("now", now),
            ("answers", answers),
            ("first byte", first_byte),
            ("bodies", bodies),
        ]
    }

    /// Who is let in, and by what.
    fn trust(&self) -> [Row; 5] {
        let refusals: Vec<_> = self
            .refusals
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        let refused = if refusals.is_empty() {
            "nothing".to_owned()
        } else {
            refusals.join(", ")
        };
        let questions = format!(
            "{} questions answered, {} not",
            self.questions_answered, self.questions_refused
        );
        let mut keys = format!("{} of {} keys sign", self.signing_keys, self.keys);
        if let Some(age) = self.signing_key_age_seconds {
            keys.push_str(", the present one for ");
            keys.push_str(&span(age));
        }
        let confined = match self.confined.as_str() {
            "full" => "to its store and keys, by the kernel",
            "partial" => "to its store and keys, as far as this kernel goes",
            "off" => "not, as it is configured",
            _ => "not: the kernel does not",
        };
        [
            ("refused", refused),
            ("HubSpot", questions),
            ("keys", keys),
            (
                "TLS",
                self.certificate_days
                    .map_or_else(|| "not spoken here".to_owned(), days_left),
            ),
            ("confined", confined.to_owned()),
        ]
    }
}

/// A line of the screen: what it is about, and what is said.
type Row = (&'static str, String);

fn wait(seconds: Option<f64>) -> String {
    match seconds {
        None => "none yet".to_owned(),
        Some(time) if time.is_infinite() => "above 5 s".to_owned(),
        Some(time) => format!("within {} ms", time * 1000.0),
    }
}

/// How long a certificate holds.
fn days_left(days: f64) -> String {
    if days > 0.0 {
        format!("the certificate holds for {days:.1} days")
    } else {
        "no certificate that holds: clients cannot connect".to_owned()
    }
}

/// In the two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_700, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
        for (bytes, text) in [(9_999, "9999 B"), (10_000, "10 kB"), (25_000_000, "25 MB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
