//! `tonearm scrub`: whether recordings are still the bytes that were put.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::thread::{ScopedJoinHandle, scope};

use clap::Args;
use serde::Serialize;

use super::{Failure, Outcome, print, storage};
use crate::config::{Flags, Storage, Values};
use crate::recording::{MediaPath, RecordingId};
use crate::store::{ChangeError, Scrubbed, Store, StoreError, Verdict};

/// Recordings of a bucket that are read at a time; a disk is read best one after the other.
const ABREAST: usize = 4;

/// Flags of `tonearm scrub`.
#[derive(Debug, Args)]
pub(super) struct Scrub {
    /// Print a JSON object a recording that was looked at
    #[arg(long)]
    json: bool,
    /// Mark none: what is not as it was put goes on being served
    #[arg(long)]
    dry_run: bool,
    /// Go on behind this recording, such as the last one that --json named
    #[arg(long, value_name = "APP/ACCOUNT/FILE", value_parser = place)]
    after: Option<MediaPath>,
    /// Directory of recordings, or s3://, gs:// or az:// with bucket and prefix [default: storage]
    #[arg(long, value_name = "DIR-OR-URL")]
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
    /// Why the first of them did.
    failure: Option<Failure>,
}

/// What was found of a recording, and whether it could be marked.
type Found = Result<(Vec<Scrubbed>, Result<(), ChangeError>), ChangeError>;

impl Scrub {
    pub(super) fn flags(&self) -> Flags {
        vec![("storage", self.storage.clone())]
    }

    pub(super) fn run(&self, values: &Values) -> Outcome {
        let config = values.config()?;
        super::log::begin(&config);
        let store = storage::open_store(&config)?;
        let abreast = match config.storage {
            Storage::Directory(_) => 1,
            Storage::Bucket(_) => ABREAST,
        };
        let mut tally = Tally::default();
        self.scrub(&store, abreast, &mut tally)
            .map_err(|error| Failure::from(error).context(config.storage.to_string()))?;
        if !self.json {
            print(&format!(
                "{} as they were put, {} without a digest, {} not as they were put",
                tally.good, tally.without, tally.bad
            ));
        }
        match tally.failure {
            Some(Failure { code, error }) => {
                let first = "recordings could not be read or marked; the first";
                let error = error.context(format!("{} {first}", tally.failed));
                Err(Failure { code, error })
            }
            None if tally.bad > 0 => Ok(Failure::FINDINGS),
            None => Ok(0),
        }
    }

    /// Looks at a few recordings at a time, and tells of them in their order.
    fn scrub(&self, store: &Store, abreast: usize, tally: &mut Tally) -> Result<(), ChangeError> {
        scope(|scope| {
            let mut under_way: VecDeque<(_, ScopedJoinHandle<'_, Found>)> = VecDeque::new();
            let listed = store.each(|path| {
                if self.is_passed(&path) {
                    return;
                }
                let id = path.recording;
                if under_way.len() == abreast
                    && let Some((id, first)) = under_way.pop_front()
                {
                    self.tell(&id, joined(first), tally);
                }
                let of = id.clone();
                under_way.push_back((id, scope.spawn(move || self.look(store, &of))));
            });
            for (id, found) in under_way {
                self.tell(&id, joined(found), tally);
            }
            listed
        })
    }

    /// Whether it was looked at before the one that the scrub goes on behind: that may have been told
    /// by any of its files, and all of them begin with its id and a dot.
    fn is_passed(&self, path: &MediaPath) -> bool {
        self.after.as_ref().is_some_and(|after| {
            let after = &after.recording;
            path.recording == *after || path.store_path() < format!("{after}.")
        })
    }

    fn look(&self, store: &Store, id: &RecordingId) -> Found {
        let scrubbed = store.scrub(id)?;
        let marked = if self.dry_run {
            Ok(())
        } else {
            scrubbed.iter().try_for_each(|found| store.mark(found))
        };
        Ok((scrubbed, marked))
    }

    fn tell(&self, id: &RecordingId, found: Found, tally: &mut Tally) {
        let marked = match found {
            // Erased since it was listed.
            Err(ChangeError::Store(StoreError::NotFound(_) | StoreError::Erased)) => Ok(()),
            Err(error) => Err(error),
            Ok((scrubbed, marked)) => {
                for found in &scrubbed {
                    self.tell_of(found, tally);
                }
                marked
            }
        };
        if let Err(error) = marked {
            let failure = Failure::from(error).context(id.to_string());
            let error = format!("{:#}", failure.error);
            tracing::error!(recording = %id, error, "a recording cannot be read or marked");
            tally.failed += 1;
            tally.failure.get_or_insert(failure);
        }
    }

    fn tell_of(&self, scrubbed: &Scrubbed, tally: &mut Tally) {
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
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

fn place(text: &str) -> Result<MediaPath, &'static str> {
    MediaPath::parse(&format!("{}{text}", MediaPath::PREFIX))
        .ok_or("a recording is {appId}/{externalAccountId}/{externalId}.{ext}")
}
