//! `tonearm add`: a recording checked, mended as asked, and put into the store. What comes from a
//! spool is brought by the same [`Add::bring`].

mod repair;

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::inspect::{Looked, content, open};
use super::storage::open_store;
use super::watch::Watch;
use super::{Failure, Outcome, print};
use crate::audio::{Container, Content, Direction, Facts, Party, Source, Use, Verdict};
use crate::config::{Config, Flags, Values};
use crate::recording::{Id, MediaPath, MediaType, RecordingId, UnixTime};
use crate::store::{ChangeError, Done, Put, Replace, StoreError};

/// Flags of `tonearm add`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags are what they are")]
#[command(after_help = "\
FILE is stored as it is, unless a repair is asked for. Its channels are for HubSpot: the caller on 1,
the recipient on 2. The same bytes under the same id again are success, and nothing is done.
Exit code 1: HubSpot could not use it, or another recording has the id.

With --watch it runs until SIGTERM or Ctrl-C: finished files of DIR and the directories in it are
added, one log line each; one that will not do goes to the quarantine with its reason beside it.
docs/audio.md has patterns for the spools of Asterisk, FreePBX and FreeSWITCH.")]
pub(super) struct Add {
    /// The recording; with --join, the caller's leg
    #[arg(
        value_name = "FILE",
        required_unless_present = "watch",
        conflicts_with = "watch"
    )]
    file: Option<PathBuf>,
    /// The app's id
    #[arg(long, value_name = "ID", required_unless_present = "watch")]
    pub(super) app: Option<Id>,
    /// The external account id
    #[arg(long, value_name = "ID", required_unless_present = "watch")]
    pub(super) account: Option<Id>,
    /// The recording's externalId
    #[arg(
        long,
        value_name = "ID",
        required_unless_present = "watch",
        conflicts_with = "watch"
    )]
    id: Option<Id>,
    /// The recipient's leg: two recordings of one channel become one of two
    #[arg(long, value_name = "OTHER", conflicts_with = "watch")]
    join: Option<PathBuf>,
    /// How much later OTHER began, such as 1.5s; with a minus, how much earlier
    #[arg(
        long,
        value_name = "DURATION",
        requires = "join",
        allow_hyphen_values = true
    )]
    offset: Option<String>,
    /// Put channels 1 and 2 in each other's place
    #[arg(long, conflicts_with = "source")]
    swap: bool,
    /// Format to write: PCM WAV or FLAC, both lossless [default for repairs: FILE's, else wav]
    #[arg(long, value_name = "FORMAT")]
    to: Option<Format>,
    /// Phone system the recording comes from, which decides the swap: docs/audio.md lists them
    #[arg(long, value_name = "NAME", requires = "direction")]
    source: Option<Source>,
    /// Which way the call went: inbound or outbound
    #[arg(long, value_name = "WAY")]
    direction: Option<Direction>,
    /// Whose leg came first, where the source orders channels by leg: caller or recipient
    #[arg(long, value_name = "PARTY", requires = "source")]
    first_leg: Option<Party>,
    /// Take the place of another recording of this id
    #[arg(long)]
    replace: bool,
    /// Check and mend, and say what would be stored; store nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print JSON; with --watch, an object a line
    #[arg(long)]
    pub(super) json: bool,
    /// Directory of recordings, or s3://, gs:// or az:// with bucket and prefix [default: storage]
    #[arg(long, value_name = "DIR")]
    storage: Option<String>,
    #[command(flatten)]
    spool: Watch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Wav,
    Flac,
}

/// What is to be stored, in which format.
struct Ready {
    file: Arc<File>,
    media: MediaType,
    looked: Looked,
}

/// A recording that is in the store, or would be.
pub(super) struct Brought {
    pub(super) path: MediaPath,
    pub(super) looked: Looked,
    /// `None` of a dry run.
    put: Option<Put>,
}

impl Add {
    pub(super) fn flags(&self) -> Flags {
        vec![("storage", self.storage.clone())]
    }

    pub(super) fn run(&self, values: &Values) -> Outcome {
        let config = values.config()?;
        if let Some(spool) = self.spool.of(self)? {
            return spool.watch(&config);
        }
        let (Some(file), Some(app), Some(account), Some(external)) =
            (&self.file, &self.app, &self.account, &self.id)
        else {
            let problem = anyhow!("FILE, --app, --account and --id are needed");
            return Err(Failure::new(Failure::USAGE, problem));
        };
        let recording = RecordingId {
            app: app.clone(),
            account: account.clone(),
            external: external.clone(),
        };
        let brought = self.bring(file, recording, &config)?;
        self.tell(&brought);
        Ok(0)
    }

    /// Checks a file, mends it as asked, and stores it unless this is a dry run.
    ///
    /// # Errors
    /// [`Failure::FINDINGS`] and [`Failure::USAGE`] are the file's; others may pass.
    pub(super) fn bring(
        &self,
        path: &Path,
        recording: RecordingId,
        config: &Config,
    ) -> Result<Brought, Failure> {
        let swap = self.swaps()?;
        let file = open(path)?;
        let facts = facts_of(&file, path)?;
        let version = version(&file)?;
        let ready = if self.join.is_some() || swap || self.converts(&facts) {
            self.mended(path, &file, &facts, swap, config)?
        } else {
            let media = media(path, &facts)?;
            let looked = Looked::at(&file, facts, false, 1)?;
            Ready {
                file: Arc::clone(&file),
                media,
                looked,
            }
        };
        check(path, &ready.looked.verdict)?;
        let whole = || {
            if version == self::version(&file)? {
                return Ok(());
            }
            let problem = anyhow!("{} changed while it was read", path.display());
            Err(Failure::new(Failure::TRY_AGAIN, problem))
        };
        let path = MediaPath {
            recording,
            media: ready.media,
        };
        let put = if self.dry_run {
            None
        } else {
            Some(self.put(&path, &ready, config, whole)?)
        };
        Ok(Brought {
            path,
            looked: ready.looked,
            put,
        })
    }

    /// Stores it, if it is `whole` after all of it was read.
    fn put(
        &self,
        path: &MediaPath,
        ready: &Ready,
        config: &Config,
        whole: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Put, Failure> {
        let io = |error: anyhow::Error| Failure::new(Failure::IO, error);
        let store = open_store(config)?;
        // What an earlier one left that was killed; it is in nobody's way if it stays.
        let _ = store.sweep(UnixTime(0));
        let mut incoming = store.begin(u64::MAX).map_err(changing)?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match ready.file.read_at(&mut buffer, incoming.length()) {
                Ok(0) => break,
                Ok(count) => incoming.write(&buffer[..count]).map_err(changing)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io(error.into())),
            }
        }
        whole()?;
        let replace = if self.replace {
            Replace::Always
        } else {
            Replace::Never
        };
        let facts = serde_json::to_value(&ready.looked.facts).map_err(|error| io(error.into()))?;
        incoming
            .put(path, &replace, Some(facts))
            .map_err(|error| match error {
                ChangeError::Taken => {
                    let problem = anyhow!(
                        "another recording has the id {}: --replace lets this one take its place",
                        path.recording
                    );
                    Failure::new(Failure::FINDINGS, problem)
                }
                error => changing(error),
            })
    }

    fn tell(&self, brought: &Brought) {
        let verdict = &brought.looked.verdict;
        if self.json {
            print(&brought.as_json().to_string());
            return;
        }
        let mut lines = vec![format!(
            "{}: {}: {}",
            brought.path.store_path(),
            brought.done(),
            brought.looked.summary()
        )];
        lines.push(super::inspect::headline(verdict).to_owned());
        let concerns = verdict.concerns.iter();
        lines.extend(concerns.map(|concern| format!("  - {concern}")));
        print(&lines.join("\n"));
    }
}

impl Brought {
    pub(super) fn done(&self) -> &'static str {
        match self.put.as_ref().map(|put| put.done) {
            None => "would be stored",
            Some(Done::Created) => "stored",
            Some(Done::Same) => "already there, unchanged",
            Some(Done::Replaced) => "replaced",
        }
    }

    pub(super) fn as_json(&self) -> serde_json::Value {
        json!({
            "path": self.path.store_path(),
            "done": self.done(),
            "facts": self.looked.facts,
            "verdict": self.looked.verdict,
        })
    }
}

/// The format in which bytes are stored as they are.
fn media(path: &Path, facts: &Facts) -> Result<MediaType, Failure> {
    let is_m4a = path.extension().is_some_and(|ending| ending == "m4a");
    Ok(match facts.container {
        Container::Wav => MediaType::Wav,
        Container::Flac => MediaType::Flac,
        Container::Mp3 => MediaType::Mp3,
        Container::Mp4 if is_m4a => MediaType::M4a,
        Container::Mp4 => MediaType::Mp4,
        Container::Rf64 | Container::W64 => {
            let hint = anyhow!(
                "{}: {} is no format HubSpot takes; add --to wav or --to flac",
                path.display(),
                facts.container
            );
            return Err(Failure::new(Failure::FINDINGS, hint));
        }
    })
}

/// What HubSpot can make nothing of is not stored.
fn check(path: &Path, verdict: &Verdict) -> Result<(), Failure> {
    if verdict.good_for > Use::Nothing {
        return Ok(());
    }
    let reasons: Vec<_> = verdict.concerns.iter().map(ToString::to_string).collect();
    let remedies = verdict.remedies();
    let remedy = match remedies[..] {
        [] => String::new(),
        _ => format!("; add {}", remedies.join(" ")),
    };
    let problem = anyhow!(
        "{}: HubSpot cannot use it: {}{remedy}",
        path.display(),
        reasons.join("; ")
    );
    Err(Failure::new(Failure::FINDINGS, problem))
}

/// Size and modification time.
fn version(file: &File) -> Result<(u64, i64, i64), Failure> {
    let metadata = file
        .metadata()
        .map_err(|error| Failure::new(Failure::IO, error))?;
    Ok((metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

fn facts_of(file: &File, path: &Path) -> Result<Facts, Failure> {
    match content(file, path)? {
        Content::Recording(facts) => Ok(facts),
        Content::Other(other) => {
            let problem = anyhow!("{}: {other}", path.display());
            Err(Failure::new(Failure::FINDINGS, problem))
        }
    }
}

/// What cannot be found of the store itself is no finding about the file.
fn changing(error: ChangeError) -> Failure {
    match error {
        ChangeError::Store(StoreError::NotFound(_)) => Failure::new(Failure::IO, error),
        error => error.into(),
    }
}
