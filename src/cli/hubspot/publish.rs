//! `tonearm hubspot publish`, `log` and `attach`: what is journalled in a recording's record.

use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::anyhow;
use clap::Args;

use super::call::{CallFlags, Whose};
use super::work::{FileFacts, Work, checked, plan, report, requests};
use super::{Manner, block_on, client, show_requests};
use crate::cli::{Failure, Outcome, print};
use crate::config::{self, Config, Flags};
use crate::hubspot::journal::Journal;
use crate::hubspot::publish::{Keeper as _, Until};
use crate::recording::{Id, MediaPath, MediaType, UnixTime};
use crate::store::{Replace, Store};

/// Largest recording that is stored, in bytes: what a WAV can be.
const LARGEST: u64 = 1 << 32;

/// Flags of `tonearm hubspot log`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Log {
    /// The recording's externalId
    #[arg(value_name = "ID")]
    external: Id,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    call: CallFlags,
    #[command(flatten)]
    storage: Storage,
    #[command(flatten)]
    manner: Manner,
}

/// Flags of `tonearm hubspot attach`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Attach {
    /// The call's id
    id: NonZeroU64,
    /// The recording's externalId
    #[arg(value_name = "ID")]
    external: Id,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    call: CallFlags,
    #[command(flatten)]
    storage: Storage,
    #[command(flatten)]
    manner: Manner,
}

/// Flags of `tonearm hubspot publish`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Publish {
    /// The recording's file; may be left out when it is in the store already
    #[arg(required_unless_present_any = ["id", "all_pending"], conflicts_with = "all_pending")]
    file: Option<PathBuf>,
    /// The recording's externalId [default: the file's name without its ending]
    #[arg(long, value_name = "ID", conflicts_with = "all_pending")]
    id: Option<Id>,
    /// Publish every recording of the store (of --app and --account, if given) that is not published
    #[arg(long)]
    all_pending: bool,
    /// Publish what HubSpot can play and not transcribe, such as one channel, too
    #[arg(long)]
    playback_only: bool,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    call: CallFlags,
    #[command(flatten)]
    storage: Storage,
    #[command(flatten)]
    manner: Manner,
}

#[derive(Debug, Args)]
struct Storage {
    /// Directory of recordings, or s3://, gs:// or az:// with bucket and prefix [default: storage]
    #[arg(long, value_name = "DIR")]
    storage: Option<String>,
}

impl Storage {
    fn flags(&self) -> Flags {
        vec![("storage", self.storage.clone())]
    }
}

impl Log {
    pub(super) fn flags(&self) -> Flags {
        self.storage.flags()
    }

    pub(super) fn run(&self, config: &Config) -> Outcome {
        let (app, recording) = self.whose.recording(&self.external)?;
        let work = Work::of(config, &self.call, Until::Logged)?;
        block_on(work.one(app, &recording, self.manner))
    }
}

impl Attach {
    pub(super) fn flags(&self) -> Flags {
        self.storage.flags()
    }

    pub(super) fn run(&self, config: &Config) -> Outcome {
        let (app, recording) = self.whose.recording(&self.external)?;
        let call = self.id.get();
        let work = Work::of(config, &self.call, Until::Logged)?;
        block_on(async {
            let found = work.find(&recording)?;
            let _claim = work.claim(&found.path, self.manner.dry_run)?;
            let (mut journal, mut keeper) = work.journal(&recording)?;
            if let Some(other) = journal.call_id.filter(|other| *other != call) {
                let error = anyhow!("{recording} is the recording of call {other} already");
                return Err(Failure::new(Failure::FINDINGS, error));
            }
            work.plan(&mut journal, app, &found)?;
            let request = config.hubspot.version.update(call, &journal.properties);
            if self.manner.dry_run {
                return Ok(show_requests(&config.hubspot, &[request], self.manner.json));
            }
            let client = client(&config.hubspot)?;
            client.send(&request).await?;
            journal.logged(call);
            keeper.keep(&journal)?;
            work.run(&client, app, &mut journal, keeper).await?;
            report(&recording, &journal, self.manner.json);
            Ok(0)
        })
    }
}

impl Publish {
    pub(super) fn flags(&self) -> Flags {
        self.storage.flags()
    }

    pub(super) fn run(&self, config: &Config) -> Outcome {
        if self.all_pending {
            let work = self.work(config)?;
            return block_on(work.all(&self.whose, self.manner));
        }
        let (app, recording) = self.whose.recording(&self.external()?)?;
        let Some(file) = &self.file else {
            let work = self.work(config)?;
            return block_on(work.one(app, &recording, self.manner));
        };
        let path = MediaPath {
            media: media(file)?,
            recording,
        };
        let modified = modified(file)?;
        let duration = checked(file, &path.recording, &config.storage, self.playback_only)?;
        if self.manner.dry_run {
            return self.would(config, file, &path, app, &FileFacts { modified, duration });
        }
        if let config::Storage::Directory(directory) = &config.storage {
            std::fs::create_dir_all(directory).map_err(|error| Failure::new(Failure::IO, error))?;
        }
        let work = Work {
            modified: Some(modified),
            ..self.work(config)?
        };
        // What lies there damaged is told so, and not taken for another recording of this id.
        if work.has(&path.recording) {
            work.find(&path.recording)?;
        }
        put(&work.store, file, &path)?;
        block_on(work.one(app, &path.recording, self.manner))
    }

    /// What publishing a file would do.
    fn would(
        &self,
        config: &Config,
        file: &Path,
        path: &MediaPath,
        app: u32,
        facts: &FileFacts,
    ) -> Outcome {
        let new = matches!(&config.storage, config::Storage::Directory(path) if !path.is_dir());
        if !new {
            let work = self.work(config)?;
            if work.has(&path.recording) {
                return block_on(work.one(app, &path.recording, self.manner));
            }
        }
        let mut journal = Journal::default();
        plan(&self.call, &mut journal, (app, &path.recording), facts)?;
        if !self.manner.json {
            print(&format!(
                "store {} as {}",
                file.display(),
                path.store_path()
            ));
        }
        let requests = requests(config, &journal, Until::Ready);
        Ok(show_requests(&config.hubspot, &requests, self.manner.json))
    }

    fn work<'a>(&'a self, config: &'a Config) -> Result<Work<'a>, Failure> {
        let check = Some(self.playback_only);
        Ok(Work {
            check,
            ..Work::of(config, &self.call, Until::Ready)?
        })
    }

    fn external(&self) -> Result<Id, Failure> {
        let stem = self
            .file
            .as_deref()
            .and_then(Path::file_stem)
            .and_then(|stem| stem.to_str());
        match &self.id {
            Some(id) => Ok(id.clone()),
            None => Id::new(stem.unwrap_or_default()).map_err(|error| {
                Failure::new(
                    Failure::USAGE,
                    anyhow!("the file's name will not do as an id, give one with --id: {error}"),
                )
            }),
        }
    }
}

fn media(file: &Path) -> Result<MediaType, Failure> {
    let extension = file
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    MediaType::from_extension(&extension.to_ascii_lowercase()).ok_or_else(|| {
        let error = anyhow!(
            "{}: a recording's name ends in .wav, .flac, .mp3, .mp4 or .m4a",
            file.display()
        );
        Failure::new(Failure::FINDINGS, error)
    })
}

fn modified(file: &Path) -> Result<UnixTime, Failure> {
    let modified = file
        .metadata()
        .and_then(|facts| facts.modified())
        .map_err(Failure::at(file))?;
    Ok(UnixTime(
        modified
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
    ))
}

/// Copies a file into the store. The same bytes under the same id are there already, and stay.
fn put(store: &Store, file: &Path, path: &MediaPath) -> Result<(), Failure> {
    let io = Failure::at(file);
    let mut from = File::open(file).map_err(&io)?;
    let mut incoming = store.begin(LARGEST)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut buffer).map_err(&io)?;
        if count == 0 {
            break;
        }
        incoming.write(&buffer[..count])?;
    }
    incoming.put(path, &Replace::Never, None)?;
    Ok(())
}
