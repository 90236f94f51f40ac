//! `tonearm scrub`: whether the bytes on the disk are still those that were put there.

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde::Serialize;

use super::{Failure, Outcome, print, storage};
use crate::config::{Flags, Values};
use crate::recording::RecordingId;
use crate::store::{ChangeError, Scrubbed, Store, Verdict};

/// Flags of `tonearm scrub`.
#[derive(Debug, Args)]
pub(super) struct Scrub {
    /// Print a JSON object a recording that was looked at
    #[arg(long)]
    json: bool,
    /// Directory of recordings [default: storage]
    #[arg(long, value_name = "DIR")]
    storage: Option<String>,
}

#[derive(Serialize)]
struct Row {
    verdict: &'static str,
    recording: String,
}

/// How many recordings there were of each kind.
#[derive(Default)]
struct Tally {
    good: usize,
    without: usize,
    bad: usize,
    failed: usize,
}

impl Scrub {
    pub(super) fn flags(&self) -> Flags {
        vec![("storage", self.storage.clone())]
    }

    pub(super) fn run(&self, values: &Values) -> Outcome {
        let config = values.config()?;
        super::log::begin(&config);
        let (store, directory) = storage::open_files(&config)?;
        let mut tally = Tally::default();
        store
            .each(|id| self.scrub(&store, &id, &mut tally))
            .with_context(|| directory.display().to_string())
            .map_err(|error| Failure::new(Failure::IO, error))?;
        if !self.json {
            print(&format!(
                "{} as they were put, {} without a digest, {} not as they were put",
                tally.good, tally.without, tally.bad
            ));
        }
        match tally {
            Tally { failed: 1.., .. } => {
                let error = anyhow!("{} recordings could not be read", tally.failed);
                Err(Failure::new(Failure::IO, error))
            }
            Tally { bad: 1.., .. } => Ok(Failure::FINDINGS),
            _ => Ok(0),
        }
    }

    fn scrub(&self, store: &Store, id: &RecordingId, tally: &mut Tally) {
        match store.scrub(id) {
            Ok(scrubbed) => scrubbed
                .iter()
                .for_each(|scrubbed| self.tell(scrubbed, tally)),
            Err(error) => Self::complain(id, error, tally),
        }
    }

    fn tell(&self, scrubbed: &Scrubbed, tally: &mut Tally) {
        let verdict = scrubbed.verdict;
        match verdict {
            Verdict::Good => tally.good += 1,
            Verdict::WithoutDigest => tally.without += 1,
            Verdict::Rotten | Verdict::Changed => {
                tally.bad += 1;
                let recording = scrubbed.path.store_path();
                tracing::error!(target: "tonearm::alarm", recording, verdict = verdict.word(), "a recording is not as it was put");
            }
        }
        if self.json {
            let row = Row {
                verdict: verdict.word(),
                recording: scrubbed.path.store_path(),
            };
            // Two strings always serialise.
            print(&serde_json::to_string(&row).unwrap_or_default());
        }
    }

    fn complain(id: &RecordingId, error: ChangeError, tally: &mut Tally) {
        tally.failed += 1;
        let error = format!("{:#}", anyhow::Error::from(error));
        tracing::error!(recording = %id, error, "a recording cannot be read");
    }
}
