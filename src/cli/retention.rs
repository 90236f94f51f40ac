//! `tonearm expire` and `tonearm hold`: which recordings go, and which must stay.

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use super::{Failure, Outcome, now, print, storage};
use crate::config::{Flags, Values, duration};
use crate::ingest::audit;
use crate::recording::{Id, MediaPath, RecordingId, UnixTime};
use crate::store::{ChangeError, Erased, Store};

/// Flags of `tonearm expire`.
#[derive(Debug, Args)]
pub(super) struct Expire {
    /// Age that a recording must have passed, by its file's modification time, such as 90d or 36h
    #[arg(long, value_name = "AGE")]
    older_than: String,
    /// Say what would be erased, and erase nothing
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
    /// Directory of recordings, or s3://, gs:// or az:// with bucket and prefix [default: storage]
    #[arg(long, value_name = "DIR")]
    storage: Option<String>,
}

/// Flags of `tonearm hold`.
#[derive(Debug, Args)]
pub(super) struct Hold {
    /// The recordings' externalIds
    #[arg(value_name = "ID", required = true)]
    external: Vec<Id>,
    /// The app's id
    #[arg(long, value_name = "ID")]
    app: Id,
    /// The external account id
    #[arg(long, value_name = "ID")]
    account: Id,
    /// End the hold
    #[arg(long)]
    release: bool,
    /// Directory of recordings, or s3://, gs:// or az:// with bucket and prefix [default: storage]
    #[arg(long, value_name = "DIR")]
    storage: Option<String>,
}

/// What became of a file.
#[derive(Serialize)]
struct Row<'a> {
    outcome: &'static str,
    recording: String,
    format: &'static str,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
}

impl Expire {
    pub(super) fn flags(&self) -> Flags {
        vec![("storage", self.storage.clone())]
    }

    pub(super) fn run(&self, values: &Values) -> Outcome {
        let config = values.config()?;
        let age = age(&self.older_than)
            .map_err(|problem| Failure::new(Failure::USAGE, anyhow!("--older-than: {problem}")))?;
        let before = UnixTime(now().0.saturating_sub(age));
        // The audit lines go to the log.
        super::log::begin(&config);
        let store = storage::open_store(&config)?;
        let mut failed = 0;
        let each = |path: MediaPath| {
            let id = path.recording;
            if let Err(error) = self.expire(&store, &id, before) {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(recording = %id, error, "a recording stays");
                failed += 1;
            }
        };
        store
            .each(each)
            .map_err(|error| Failure::from(error).context(config.storage.to_string()))?;
        if failed > 0 {
            let error = anyhow!("{failed} recordings could not be looked at or erased");
            return Err(Failure::new(Failure::IO, error));
        }
        Ok(0)
    }

    fn expire(&self, store: &Store, id: &RecordingId, before: UnixTime) -> Result<(), ChangeError> {
        let (there, record) = store.present(id)?;
        let old = there.iter().all(|present| present.modified < Some(before));
        if there.is_empty() || !old {
            return Ok(());
        }
        if self.dry_run || record.legal_hold {
            let outcome = if record.legal_hold {
                "held"
            } else {
                "would erase"
            };
            for present in &there {
                self.print(&Row {
                    outcome,
                    recording: id.to_string(),
                    format: present.path.media.extension(),
                    bytes: present.length,
                    modified: present.modified.map(UnixTime::rfc3339),
                    sha256: None,
                });
            }
            return Ok(());
        }
        let why = format!("older than {}", self.older_than);
        let audit = |file: &Erased| audit::erased(file, "tonearm expire", &why);
        let erased = match store.erase(id, Some(before), &now().rfc3339(), audit) {
            // Another one came, or a hold, since it was looked at.
            Err(ChangeError::Young | ChangeError::Held) => return Ok(()),
            erased => erased?,
        };
        for file in &erased {
            self.print(&Row {
                outcome: "erased",
                recording: id.to_string(),
                format: file.path.media.extension(),
                bytes: file.length,
                modified: None,
                sha256: Some(&file.sha256),
            });
        }
        Ok(())
    }

    fn print(&self, row: &Row<'_>) {
        if self.json {
            // Texts and numbers always serialise.
            print(&serde_json::to_string(row).unwrap_or_default());
            return;
        }
        let Row {
            outcome,
            recording,
            format,
            bytes,
            ..
        } = row;
        print(&format!("{outcome} {recording}.{format}, {bytes} bytes"));
    }
}

impl Hold {
    pub(super) fn flags(&self) -> Flags {
        vec![("storage", self.storage.clone())]
    }

    pub(super) fn run(&self, values: &Values) -> Outcome {
        let config = values.config()?;
        // The audit lines go to the log.
        super::log::begin(&config);
        let store = storage::open_store(&config)?;
        for external in &self.external {
            let id = RecordingId {
                app: self.app.clone(),
                account: self.account.clone(),
                external: external.clone(),
            };
            store
                .hold(&id, !self.release)
                .map_err(|error| Failure::from(error).context(id.to_string()))?;
            audit::held(&id, !self.release, "tonearm hold");
            let done = if self.release { "released" } else { "held" };
            print(&format!("{done} {id}"));
        }
        Ok(0)
    }
}

/// Seconds of `90d`, or of any span that other durations are written as.
fn age(text: &str) -> Result<u64, String> {
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<u64>().ok());
    match days {
        Some(days) => Ok(days.saturating_mul(86_400)),
        None => Ok(duration(text)?.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        assert_eq!(age("90d"), Ok(7_776_000));
        assert_eq!(age("36h"), Ok(129_600));
        assert_eq!(age("0s"), Ok(0));
        for wrong in ["", "d", "-1d", "90", "1.5d", "soon"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
