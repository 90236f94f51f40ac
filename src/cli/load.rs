//! `tonearm load`: from flags to a plan, from its outcome to what is printed and the exit code.

mod live;
mod values;
mod words;

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use self::live::watched;
use self::values::{digest, rate, size, span};
use self::words::{in_words, json};
use super::{Failure, Outcome, print};
use crate::config::duration;
use crate::load::slo::Slo;
use crate::load::summary::Outcome as Measured;
use crate::load::{
    self, Crowd, Expected, Mix, Pace, Plan, Recording, Scenario, Shape, Side, Tls, Trust,
};

/// Rounds where sides take turns.
const ROUNDS: u32 = 5;
/// Duration where none is given, of a server on this machine.
const DURATION: Duration = Duration::from_secs(10);
/// Listeners where none are given, and where they come and go at a rate.
const LISTENERS: usize = 8;
const AT_A_RATE: usize = 256;

/// Flags of `tonearm load`.
#[derive(Debug, Args)]
#[command(after_help = "\
Scenarios: seek (ranges of one size anywhere), player (open-ended, read at the bitrate, broken off to
seek or to resume), storm (open-ended, a little is read, reset; as fast as can be), download (whole
files), cdn (aligned slices), chain (the resolver is asked for a URL; then begin, seek, resume).

Exit codes: 0 done; 1 an answer was wrong, nothing was answered, or an objective of --slo was missed;
2 usage; 69 an address cannot be found; 74 a file cannot be read or written.")]
pub(super) struct Load {
    /// URLs of recordings, http or https; - reads them from standard input, one a line
    #[arg(value_name = "URL")]
    urls: Vec<String>,
    /// Ask this resolver for the URLs: its own, with %s where each --id goes
    #[arg(long, value_name = "URL", requires = "ids", conflicts_with = "urls")]
    resolver: Option<String>,
    /// The externalId of a recording behind the resolver; may be repeated
    #[arg(long = "id", value_name = "ID", requires = "resolver")]
    ids: Vec<String>,
    /// What the target is called in the results
    #[arg(long, value_name = "NAME", default_value = "target")]
    name: String,
    /// Compare with the same recordings elsewhere, in turns; repeated under one name, more URLs of it
    #[arg(long, value_name = "NAME=URL")]
    versus: Vec<String>,
    /// What listeners do, by weight, such as seek=8,download=2
    #[arg(long, value_name = "MIX", default_value = "seek")]
    scenario: Mix,
    /// Most requests at once [default: 8, with --rate 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    listeners: Option<u32>,
    /// Visits a second, whatever became of those before; times run from when a visit was due
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// How long each side is loaded [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = span)]
    duration: Option<Duration>,
    /// Time in which the load rises [default: none]
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s", hide_default_value = true)]
    ramp: Duration,
    /// Time at the beginning of each turn that is not counted [default: none]
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s", hide_default_value = true)]
    warm_up: Duration,
    /// Turns of each side [default: 1, with --versus 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Bytes of a range or slice; storm and chain read 1 to 4 times as much
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64KiB")]
    range_size: u64,
    /// Bytes a second that a player reads
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "32KiB")]
    bitrate: u64,
    /// Mean time for which a player plays before it seeks
    #[arg(long, value_name = "DURATION", value_parser = span, default_value = "5s")]
    dwell: Duration,
    /// Longest silence of a server
    #[arg(long, value_name = "DURATION", value_parser = span, default_value = "10s")]
    timeout: Duration,
    /// The same seed asks for the same bytes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Speak HTTP/2 to all sides, or to those named: over TLS by ALPN, else with prior knowledge [default: HTTP/1.1]
    #[arg(long, value_name = "NAMES", num_args = 0.., require_equals = true, value_delimiter = ',')]
    http2: Option<Vec<String>>,
    /// Listeners that share a connection of HTTP/2, a stream for each request
    #[arg(long, value_name = "N", requires = "http2", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    streams: u32,
    /// Certificate authorities to trust instead of the system's, a PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Take any certificate: what answers may be anybody, and the results say so
    #[arg(long)]
    insecure: bool,
    /// Threads of the load
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// The recording's own file, to compare with; one for all URLs, or one for each in their order
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// SHA-256 of the recording in hex, to compare downloads with
    #[arg(long, value_name = "HEX", value_parser = digest)]
    sha256: Option<[u8; 32]>,
    /// Compare the bytes of one response in so many; 0 for none. Lengths and ranges always are
    #[arg(long, value_name = "N", default_value_t = 1)]
    check_every: u64,
    /// Objectives, such as p99<50ms,whole.p99.9<1s,errors<0.1%,rate>1000; exit 1 if one is missed
    #[arg(long, value_name = "CLAUSES")]
    slo: Option<Slo>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write a report, one HTML file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// An earlier run's JSON, drawn beside this one in the report
    #[arg(long, value_name = "FILE", requires = "report")]
    compare: Option<PathBuf>,
}

impl Load {
    pub(super) fn run(&self) -> Outcome {
        let plan = self.plan()?;
        let earlier = self.compare.as_deref().map(earlier).transpose()?;
        let _ = writeln!(std::io::stderr(), "{}", announcement(&plan));
        let outcome = watched(plan).map_err(|error| Failure::new(Failure::IO, error))?;
        let verdicts = self
            .slo
            .as_ref()
            .map(|slo| slo.judge(&outcome))
            .unwrap_or_default();
        let ok = outcome.is_right() && verdicts.iter().all(|verdict| verdict.met);
        if let Some(path) = &self.report {
            let page = load::page::page(&outcome, &verdicts, earlier.as_ref());
            std::fs::write(path, page).map_err(Failure::at(path))?;
        }
        if self.json {
            print(&json(&outcome, &verdicts, ok)?);
        } else {
            print(&in_words(&outcome, &verdicts));
        }
        Ok(if ok { 0 } else { Failure::FINDINGS })
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let sides = self.sides()?;
        self.is_considerate(&sides)?;
        if self.scenario.has(Scenario::Chain) && self.resolver.is_none() {
            return Err(usage("chain asks a resolver: --resolver and --id"));
        }
        let listeners = self.listeners.map_or(
            if self.rate.is_some() {
                AT_A_RATE
            } else {
                LISTENERS
            },
            |count| usize::try_from(count).unwrap_or(usize::MAX),
        );
        let threads = usize::try_from(self.threads).unwrap_or(1);
        let turns = if sides.len() > 1 { ROUNDS } else { 1 };
        Ok(Plan {
            crowds: vec![Crowd {
                mix: self.scenario.clone(),
                shape: Shape {
                    range_size: self.range_size,
                    bitrate: self.bitrate,
                    dwell: self.dwell,
                    stride: None,
                },
                pace: self.rate.map_or(Pace::Closed, Pace::Open),
                listeners,
                recordings: None,
            }],
            warm_up: self.warm_up,
            duration: self.duration.unwrap_or(DURATION),
            rounds: self.rounds.unwrap_or(turns),
            ramp: self.ramp,
            timeout: self.timeout,
            seed: self.seed,
            check_every: self.check_every,
            threads: threads.min(listeners),
            tls: self.tls(&sides)?,
            sides,
        })
    }

    /// Set up where it may be needed: a resolver may give any URL.
    fn tls(&self, sides: &[Side]) -> Result<Option<Tls>, Failure> {
        let mut recordings = sides.iter().flat_map(|side| &side.recordings);
        if self.resolver.is_none() && !recordings.any(Recording::is_sealed) {
            return Ok(None);
        }
        let trust = match &self.ca {
            _ if self.insecure => Trust::Anybody,
            None => Trust::System,
            Some(file) => Trust::These(authorities(file)?),
        };
        match Tls::new(trust) {
            Ok(tls) => Ok(Some(tls)),
            // It was not asked for, and where it is after all, that is counted.
            Err(_) if self.resolver.is_some() && self.ca.is_none() => Ok(None),
            Err(error) => Err(Failure::new(Failure::CONFIGURATION, error)),
        }
    }

    /// Another machine is loaded only by somebody who has said how long and how much.
    fn is_considerate(&self, sides: &[Side]) -> Result<(), Failure> {
        let said = self.duration.is_some() && (self.rate.is_some() || self.listeners.is_some());
        match sides.iter().find(|side| !side.is_local()) {
            Some(side) if !said => Err(usage(&format!(
                "{} is not on this machine: say how long and how much, with --duration and --rate \
                (or --listeners), and load only what is yours",
                side.name
            ))),
            _ => Ok(()),
        }
    }

    fn sides(&self) -> Result<Vec<Side>, Failure> {
        let files = self.files()?;
        let recording = |(number, url): (usize, &String), behind: bool| {
            let file = files.get(number).or_else(|| files.first()).cloned();
            let expected = Expected {
                file,
                sha256: self.sha256,
            };
            let made = if behind {
                Recording::behind(url, expected)
            } else {
                Recording::at(url, expected)
            };
            made.map_err(|error| {
                let code = match error {
                    load::TargetError::Malformed(_) | load::TargetError::Scheme(_) => {
                        Failure::USAGE
                    }
                    _ => Failure::UNAVAILABLE,
                };
                Failure::new(code, error)
            })
        };
        let (urls, behind) = self.targets()?;
        let of = |urls: &[String], behind| -> Result<Vec<_>, Failure> {
            urls.iter()
                .enumerate()
                .map(|one| recording(one, behind))
                .collect()
        };
        let mut sides = vec![Side {
            name: self.name.clone(),
            recordings: of(&urls, behind)?,
            http2: self.http2_to(&self.name),
        }];
        for (name, urls) in self.others()? {
            sides.push(Side {
                recordings: of(&urls, false)?,
                http2: self.http2_to(&name),
                name,
            });
        }
        let mut named = self.http2.iter().flatten();
        if let Some(unknown) = named.find(|name| sides.iter().all(|side| side.name != **name)) {
            return Err(usage(&format!("--http2 names no side: {unknown}")));
        }
        if files.len() > 1 && files.len() != sides[0].recordings.len() {
            return Err(usage("--file is given once, or once for each recording"));
        }
        Ok(sides)
    }

    /// Listeners that share a connection of HTTP/2 to this side, if it is spoken to it.
    fn http2_to(&self, side: &str) -> Option<usize> {
        let names = self.http2.as_ref()?;
        let spoken = names.is_empty() || names.iter().any(|name| name == side);
        spoken.then(|| usize::try_from(self.streams).unwrap_or(1))
    }

    /// The target's URLs, or its resolver's.
    fn targets(&self) -> Result<(Vec<String>, bool), Failure> {
        if let Some(resolver) = &self.resolver {
            if resolver.matches("%s").count() != 1 {
                return Err(usage("--resolver needs %s once, where the id goes"));
            }
            let urls = self
                .ids
                .iter()
                .map(|id| resolver.replace("%s", id))
                .collect();
            return Ok((urls, true));
        }
        let mut urls = self.urls.clone();
        if urls == ["-"] {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::new(Failure::IO, error))?;
            urls = text.split_whitespace().map(str::to_owned).collect();
        }
        if urls.is_empty() {
            return Err(usage("a URL is needed, or --resolver and --id"));
        }
        Ok((urls, false))
    }

    /// Sides of --versus, in the order in which they were first named.
    fn others(&self) -> Result<Vec<(String, Vec<String>)>, Failure> {
        let mut others: Vec<(String, Vec<String>)> = Vec::new();
        for text in &self.versus {
            let split = text.split_once('=').filter(|(name, _)| !name.contains('/'));
            let (name, url) = split.ok_or_else(|| usage("--versus needs NAME=URL"))?;
            if name == self.name {
                return Err(usage("--versus needs another name than the target's"));
            }
            match others.iter_mut().find(|(known, _)| known == name) {
                Some((_, urls)) => urls.push(url.to_owned()),
                None => others.push((name.to_owned(), vec![url.to_owned()])),
            }
        }
        Ok(others)
    }

    fn files(&self) -> Result<Vec<Bytes>, Failure> {
        let mut read: HashMap<&Path, Bytes> = HashMap::new();
        let mut files = Vec::new();
        for path in &self.file {
            if !read.contains_key(path.as_path()) {
                let bytes = std::fs::read(path).map_err(Failure::at(path))?;
                read.insert(path, bytes.into());
            }
            files.extend(read.get(path.as_path()).cloned());
        }
        Ok(files)
    }
}

fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let text = std::fs::read(file).map_err(Failure::at(file))?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} holds no certificates in PEM", file.display()))
        .map_err(|error| Failure::new(Failure::CONFIGURATION, error))
}

fn usage(problem: &str) -> Failure {
    Failure::new(Failure::USAGE, anyhow!(problem.to_owned()))
}

fn announcement(plan: &Plan) -> String {
    let hosts: Vec<_> = plan
        .sides
        .iter()
        .filter_map(|side| side.recordings.first())
        .map(Recording::label)
        .collect();
    format!("{}: {}", plan.in_words(), hosts.join(", "))
}

fn earlier(path: &Path) -> Result<Measured, Failure> {
    let text = std::fs::read(path).map_err(Failure::at(path))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is no JSON of tonearm load", path.display()))
        .map_err(|error| Failure::new(Failure::IO, error))
}
