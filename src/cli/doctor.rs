//! `tonearm doctor`: what HubSpot would meet, point by point.

use std::path::Path;
use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use super::{Failure, Outcome, now, print};
use crate::config::{Config, Values, secret};
use crate::doctor::{
    Broken, Check, Grade, Named, Probe, Question, Signer, check_file, check_ids, check_record,
    worst,
};
use crate::recording::{Id, MediaPath, RecordingId};
use crate::store::{ChangeError, Local, Store};

/// Flags of `tonearm doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The registered URL (with %s), the URL of a question or of a recording, a file, or a directory of recordings
    target: String,
    #[command(flatten)]
    ids: Ids,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The recording that is asked for where a URL has `%s`.
#[derive(Debug, Args)]
pub(super) struct Ids {
    /// The app's id
    #[arg(long, value_name = "ID")]
    app: Option<Id>,
    /// The external account id
    #[arg(long, value_name = "ID")]
    account: Option<Id>,
    /// The recording's externalId
    #[arg(long, value_name = "ID")]
    id: Option<Id>,
}

/// What was looked at, and how it stands.
#[derive(Serialize)]
struct Report {
    target: String,
    verdict: Grade,
    checks: Vec<Check>,
}

impl Report {
    fn new(target: &str, checks: Vec<Check>) -> Self {
        Self {
            target: target.to_owned(),
            verdict: worst(&checks),
            checks,
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("{}: {}", self.target, self.verdict.word())];
        for check in &self.checks {
            lines.push(format!(
                "  {}  {:<15} {}",
                check.grade.word(),
                check.check,
                check.saw
            ));
            lines.extend(
                check
                    .fix
                    .iter()
                    .map(|fix| format!("        {:<15} {fix}", "fix:")),
            );
        }
        lines.join("\n")
    }
}

impl Doctor {
    pub(super) fn run(&self, values: &Values) -> Outcome {
        if self.target.contains("://") {
            return call(&self.target, &self.ids, &values.config()?, self.json);
        }
        let path = Path::new(&self.target);
        let facts = path.metadata().map_err(Failure::at(path))?;
        if !facts.is_dir() {
            return end(&[file(path, path)?], self.json);
        }
        let mut reports = Vec::new();
        walk(path, path, &mut reports)?;
        if reports.is_empty() {
            let error = anyhow!("{}: there is no recording in it", path.display());
            return Err(Failure::new(Failure::FINDINGS, error));
        }
        end(&reports, self.json)
    }
}

/// Asks an endpoint as HubSpot does.
pub(super) fn call(url: &str, ids: &Ids, config: &Config, as_json: bool) -> Outcome {
    let question = question(url, ids)?;
    let file = config.hubspot.client_secret_file.as_deref();
    let signer = file.map(secret::line).transpose()?.map(Signer);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::new(Failure::UNAVAILABLE, error))?;
    let checks =
        runtime.block_on(async { Probe::new()?.check(&question, signer.as_ref(), now()).await })?;
    // A query may hold a signature.
    let shown = url.split('?').next().unwrap_or_default();
    end(&[Report::new(shown, checks)], as_json)
}

fn question(url: &str, ids: &Ids) -> Result<Question, Failure> {
    if !url.contains("%s") {
        return Ok(Question::Whole(url.to_owned()));
    }
    let (Some(app), Some(account), Some(external)) = (&ids.app, &ids.account, &ids.id) else {
        let error =
            anyhow!("--app, --account and --id are needed with %s: a recording that is there");
        return Err(Failure::new(Failure::USAGE, error));
    };
    let id = RecordingId {
        app: app.clone(),
        account: account.clone(),
        external: external.clone(),
    };
    Ok(Question::Registered(url.to_owned(), id))
}

/// A file, and its ids where it lies in the store that `root` is.
fn file(path: &Path, root: &Path) -> Result<Report, Failure> {
    let below = path.strip_prefix(root).ok().and_then(Path::to_str);
    let placed = below.and_then(|below| MediaPath::parse(&format!("{}{below}", MediaPath::PREFIX)));
    let recording = placed.map(|placed| placed.recording);
    let storage = root.display().to_string();
    let named = match &recording {
        Some(recording) => Named::stored(path, recording, &storage),
        None => Named::file(path),
    };
    let heard = check_file(&named).map_err(Failure::at(path))?;
    let mut checks = recording.as_ref().map(check_ids).unwrap_or_default();
    if let Some(recording) = &recording {
        let store = Local::open(root).map_err(Failure::at(root))?;
        if let Err(ChangeError::Store(refused)) = Store::Local(Arc::new(store)).found(recording) {
            checks.extend(check_record(&refused, &named));
        }
    }
    checks.extend(heard.checks);
    Ok(Report::new(&path.display().to_string(), checks))
}

/// Every file that is not a record or hidden.
fn walk(root: &Path, directory: &Path, reports: &mut Vec<Report>) -> Result<(), Failure> {
    let entries = std::fs::read_dir(directory).map_err(Failure::at(directory))?;
    let paths: Result<Vec<_>, _> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut paths = paths.map_err(Failure::at(directory))?;
    paths.sort();
    for path in paths {
        let is_hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        if is_hidden {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, reports)?;
        } else if AUDIO.contains(&extension.to_ascii_lowercase().as_str()) {
            reports.push(file(&path, root)?);
        }
    }
    Ok(())
}

/// Endings of recordings, right and wrong ones.
const AUDIO: [&str; 16] = [
    "wav", "flac", "mp3", "mp4", "m4a", "ogg", "opus", "oga", "aac", "wma", "amr", "gsm", "au",
    "aif", "aiff", "webm",
];

fn end(reports: &[Report], as_json: bool) -> Outcome {
    match reports {
        all if !as_json => all.iter().for_each(|report| print(&report.text())),
        [one] => print(&json(one)?),
        all => print(&json(
            &serde_json::json!({ "verdict": verdict(all), "targets": all }),
        )?),
    }
    Ok(if verdict(reports) == Grade::Fail {
        Failure::FINDINGS
    } else {
        0
    })
}

fn verdict(reports: &[Report]) -> Grade {
    reports
        .iter()
        .map(|report| report.verdict)
        .max()
        .unwrap_or(Grade::Pass)
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::new(Failure::IO, error))
}

impl From<Broken> for Failure {
    fn from(error: Broken) -> Self {
        let code = match error {
            Broken::Url(_) => Self::USAGE,
            Broken::Io(_) => Self::IO,
            Broken::Unreachable(..) | Broken::Client(_) => Self::UNAVAILABLE,
        };
        Self::new(code, error)
    }
}
