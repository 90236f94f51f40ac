//! `tonearm add --watch`: finished files of a phone system's spool, added one after the other.
//!
//! Decides what becomes of each file: removed, moved, or left and remembered once it is in the
//! store; set aside where it will not do; tried again where the store or the disk will not. A file
//! loses its place in the spool only after its recording has one in the store, so that a kill at
//! any moment loses nothing; brought again, it is the same recording, and nothing is done.

mod ledger;
mod pattern;
mod spool;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use rustix::fs::{FlockOperation, RenameFlags, flock};
use rustix::io::Errno;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::ledger::Ledger;
use self::pattern::{Pattern, Unread};
use self::spool::{Spool, Stamp};
use super::add::{Add, Brought};
use super::{Failure, Outcome, now, print};
use crate::config::{Config, duration};
use crate::recording::{Id, RecordingId};

/// Seconds until a file is tried again that failed by no fault of its own.
const RETRY: u64 = 30;

/// The flags of `tonearm add` that are about a spool.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Watch {
    /// Add what a phone system finishes writing in DIR, and what is there already
    #[arg(long = "watch", id = "watch", value_name = "DIR", requires = "pattern")]
    directory: Option<PathBuf>,
    /// Which part of a file's name is its id, such as '{id}-{caller}.wav'; {app} and {account} may
    /// be in it, other fields are passed over, {id:36} has so many bytes
    #[arg(long, value_name = "PATTERN", requires = "watch")]
    pattern: Option<Pattern>,
    /// Where files go that will not do, each with its reason [default: DIR/quarantine]
    #[arg(long, value_name = "DIR", requires = "watch")]
    quarantine: Option<PathBuf>,
    /// Remove what was added [default: leave it, and add it no second time]
    #[arg(long, requires = "watch", conflicts_with = "move_to")]
    remove: bool,
    /// Move what was added to this directory
    #[arg(long, value_name = "DIR", requires = "watch")]
    move_to: Option<PathBuf>,
    /// How long a file found at the start must not have changed to count as finished
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    settle: String,
}

/// What becomes of a file that was added.
enum Then {
    Leave(Ledger),
    Remove,
    Move(PathBuf),
}

/// A spool that is watched.
pub(super) struct Watching<'a> {
    add: &'a Add,
    pattern: &'a Pattern,
    root: PathBuf,
    quarantine: PathBuf,
    settle: u64,
    then: Then,
    /// Held, so that nobody else takes from the same spool.
    _lock: File,
}

/// What became of a file.
enum Fate {
    Added(Box<Brought>),
    PassedOver(Unread),
    Quarantined(String),
    Stays(String),
}

impl Watch {
    /// The spool that is to be watched, if one is.
    pub(super) fn of<'a>(&'a self, add: &'a Add) -> Result<Option<Watching<'a>>, Failure> {
        let (Some(root), Some(pattern)) = (&self.directory, &self.pattern) else {
            return Ok(None);
        };
        for (field, flag) in [("app", &add.app), ("account", &add.account)] {
            if pattern.has(field) == flag.is_some() {
                let problem = anyhow!("either --{field} says it or {{{field}}} in --pattern");
                return Err(Failure::new(Failure::USAGE, problem));
            }
        }
        let settle = duration(&self.settle)
            .map_err(|problem| Failure::new(Failure::USAGE, anyhow!("--settle: {problem}")))?;
        let root = root.canonicalize().map_err(at(root))?;
        let lock = lock(&root)?;
        let quarantine = self.quarantine.clone();
        let quarantine = quarantine.unwrap_or_else(|| root.join("quarantine"));
        let then = match &self.move_to {
            _ if self.remove => Then::Remove,
            Some(directory) => Then::Move(beside(&root, directory, add.dry_run)?),
            None => Then::Leave(Ledger::open(&root, add.dry_run).map_err(at(&root))?),
        };
        Ok(Some(Watching {
            add,
            pattern,
            quarantine: beside(&root, &quarantine, add.dry_run)?,
            root,
            settle: if add.dry_run { 0 } else { settle.as_secs() },
            then,
            _lock: lock,
        }))
    }
}

/// Two that took from one spool would set aside what the other one has moved.
fn lock(root: &Path) -> Result<File, Failure> {
    let directory = File::open(root).map_err(at(root))?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(Errno::WOULDBLOCK) => {
            let problem = anyhow!("{} is being watched already", root.display());
            Err(Failure::new(Failure::UNAVAILABLE, problem))
        }
        Err(errno) => Err(at(root)(errno.into())),
    }
}

/// A directory that files of the spool can be renamed into, made where it is missing.
fn beside(root: &Path, directory: &Path, dry_run: bool) -> Result<PathBuf, Failure> {
    use std::os::unix::fs::MetadataExt as _;

    if dry_run {
        return Ok(directory.to_owned());
    }
    std::fs::create_dir_all(directory).map_err(at(directory))?;
    let device = |path: &Path| path.metadata().map(|found| found.dev()).map_err(at(path));
    if device(root)? != device(directory)? {
        let problem = anyhow!(
            "{} is on another file system than {}, and files cannot be moved there whole",
            directory.display(),
            root.display()
        );
        return Err(Failure::new(Failure::USAGE, problem));
    }
    directory.canonicalize().map_err(at(directory))
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| {
        let error = anyhow::Error::new(error).context(path.display().to_string());
        Failure::new(Failure::IO, error)
    }
}

impl Watching<'_> {
    /// Adds files until a signal asks for the end; in a dry run, what is there now.
    pub(super) fn watch(mut self, config: &Config) -> Outcome {
        super::log::begin(config);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Failure::UNAVAILABLE, error))?;
        runtime.block_on(self.until_stopped(config))?;
        Ok(0)
    }

    async fn until_stopped(&mut self, config: &Config) -> Result<(), Failure> {
        let root = self.root.clone();
        let failed = at(&root);
        // Before anything is touched: a signal must not find its default, which is to kill.
        let mut stop = Stop::new().map_err(&failed)?;
        let mut aside = vec![self.quarantine.clone()];
        if let Then::Move(directory) = &self.then {
            aside.push(directory.clone());
        }
        let mut spool = Spool::open(&root, aside, self.settle, now()).map_err(&failed)?;
        let directory = root.display();
        tracing::info!(%directory, "watching");
        loop {
            for path in spool.finished(now()).map_err(&failed)? {
                if stop.was_asked().await {
                    return Ok(());
                }
                self.take(&mut spool, &path, config).map_err(&failed)?;
            }
            spool.hear(now()).map_err(&failed)?;
            let wait = spool.wait(now());
            if wait == Some(0) {
                continue;
            }
            if self.add.dry_run {
                return Ok(());
            }
            let due = Duration::from_secs(wait.unwrap_or(u64::from(u32::MAX)));
            tokio::select! {
                () = stop.asked() => return Ok(()),
                news = spool.stir() => {
                    let learnt = news.and_then(|news| spool.learn(news, now()));
                    learnt.map_err(&failed)?;
                }
                () = tokio::time::sleep(due) => {}
            }
            spool.hear(now()).map_err(&failed)?;
        }
    }

    /// Deals with one file that is finished, as far as is known.
    fn take(&mut self, spool: &mut Spool, path: &Path, config: &Config) -> io::Result<()> {
        // What is no file any more was somebody else's to move.
        let Ok(Some(stamp)) = Stamp::at(path) else {
            return Ok(());
        };
        let name = path.strip_prefix(&self.root).unwrap_or(path);
        if matches!(&self.then, Then::Leave(ledger) if ledger.has(name, &stamp)) {
            return Ok(());
        }
        // Its last writer may have come and gone while writers were looked for.
        if stamp.is_being_written() || Stamp::at(path)? != Some(stamp) {
            return spool.later(path.to_owned(), now());
        }
        let fate = self.fate(path, name, &stamp, config);
        if matches!(fate, Fate::Stays(_)) {
            spool.again(path.to_owned(), now(), RETRY);
        }
        self.tell(name, &fate);
        Ok(())
    }

    fn fate(&mut self, path: &Path, name: &Path, stamp: &Stamp, config: &Config) -> Fate {
        let failure = match self.recording(name) {
            Ok(Ok(recording)) => match self.add.bring(path, recording, config) {
                Ok(brought) => match self.dispose(path, name, stamp) {
                    Ok(()) => return Fate::Added(Box::new(brought)),
                    Err(error) => Failure::new(Failure::IO, error),
                },
                Err(failure) => failure,
            },
            Ok(Err(unread)) => return Fate::PassedOver(unread),
            Err(failure) => failure,
        };
        let reason = format!("{:#}", failure.error);
        match failure.code {
            Failure::FINDINGS | Failure::USAGE => match self.set_aside(path, stamp, &reason) {
                Ok(()) => Fate::Quarantined(reason),
                Err(error) => Fate::Stays(format!("{reason}; {error:#}")),
            },
            _ => Fate::Stays(reason),
        }
    }

    /// Whose recording a file is, by its name.
    fn recording(&self, name: &Path) -> Result<Result<RecordingId, Unread>, Failure> {
        let Some(name) = name.to_str() else {
            return Ok(Err(Unread::Unfit));
        };
        let findings = |error: anyhow::Error| Failure::new(Failure::FINDINGS, error);
        let named = match self.pattern.read(name) {
            Ok(named) => named,
            Err(Unread::Unfit) => return Ok(Err(Unread::Unfit)),
            Err(Unread::Ambiguous) => return Err(findings(Unread::Ambiguous.into())),
        };
        let id = |text: Option<&str>, flag: &Option<Id>| match text {
            Some(text) => Id::new(text)
                .with_context(|| format!("its name says {text:?}"))
                .map_err(findings),
            // That one of the two is there was asked for at the start.
            None => flag
                .clone()
                .ok_or_else(|| findings(anyhow!("its name does not say whose it is"))),
        };
        Ok(Ok(RecordingId {
            app: id(named.app, &self.add.app)?,
            account: id(named.account, &self.add.account)?,
            external: id(Some(named.id), &None)?,
        }))
    }

    /// What was added leaves the spool, or is remembered.
    fn dispose(&mut self, path: &Path, name: &Path, stamp: &Stamp) -> anyhow::Result<()> {
        if self.add.dry_run {
            return Ok(());
        }
        match &mut self.then {
            Then::Leave(ledger) => ledger
                .add(name, stamp)
                .context("it is in the store, but that cannot be remembered"),
            Then::Remove => unchanged(path, stamp)
                .and_then(|()| std::fs::remove_file(path))
                .context("it is in the store, but cannot be removed"),
            Then::Move(directory) => move_into(path, stamp, directory, |_| Ok(()))
                .context("it is in the store, but cannot be moved"),
        }
    }

    fn set_aside(&self, path: &Path, stamp: &Stamp, reason: &str) -> anyhow::Result<()> {
        if self.add.dry_run {
            return Ok(());
        }
        let text = format!("{}\n{}\n{reason}\n", now().rfc3339(), path.display());
        // The reason goes first: no file lies there without one, whenever we are killed.
        move_into(path, stamp, &self.quarantine, |to| {
            let mut beside = to.as_os_str().to_owned();
            beside.push(".reason.txt");
            std::fs::write(beside, &text)
        })
        .context("and it cannot be set aside")
    }

    /// The one line of a file.
    fn tell(&self, name: &Path, fate: &Fate) {
        let file = name.display();
        let dry = self.add.dry_run;
        match fate {
            Fate::Added(brought) => {
                let (recording, done) = (brought.path.store_path(), brought.done());
                tracing::info!(%file, recording, "{done}");
            }
            Fate::PassedOver(unread) => tracing::info!(%file, "passed over: {unread}"),
            Fate::Quarantined(why) if dry => tracing::warn!(%file, why, "would be quarantined"),
            Fate::Quarantined(why) => tracing::warn!(%file, why, "quarantined"),
            Fate::Stays(why) => tracing::error!(%file, why, "stays, and is tried again"),
        }
        if self.add.json {
            print(&fate.as_json(name, dry).to_string());
        }
    }
}

impl Fate {
    fn as_json(&self, name: &Path, dry_run: bool) -> Value {
        let (done, why) = match self {
            Self::Added(brought) => {
                let mut value = brought.as_json();
                value["file"] = json!(name.to_string_lossy());
                return value;
            }
            Self::PassedOver(unread) => ("passed over", unread.to_string()),
            Self::Quarantined(why) if dry_run => ("would be quarantined", why.clone()),
            Self::Quarantined(why) => ("quarantined", why.clone()),
            Self::Stays(why) => ("stays", why.clone()),
        };
        json!({"file": name.to_string_lossy(), "done": done, "why": why})
    }
}

/// What is at `path` is still what was looked at, and not a newer file of its name.
fn unchanged(path: &Path, stamp: &Stamp) -> io::Result<()> {
    if Stamp::at(path)?.as_ref() == Some(stamp) {
        return Ok(());
    }
    Err(io::Error::other("it has changed meanwhile"))
}

/// Moves a file to a name of a directory that nothing has, its own if it can be; `before` is told
/// the name.
fn move_into(
    path: &Path,
    stamp: &Stamp,
    directory: &Path,
    before: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    for number in 0_u32.. {
        let mut free = OsString::from(name);
        if number > 0 {
            free.push(format!(".{number}"));
        }
        let to = directory.join(free);
        if to.symlink_metadata().is_ok() {
            continue;
        }
        before(&to)?;
        unchanged(path, stamp)?;
        let cwd = rustix::fs::CWD;
        match rustix::fs::renameat_with(cwd, path, cwd, &to, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            renamed => return Ok(renamed?),
        }
    }
    Err(Errno::EXIST.into())
}

/// The signals that ask for the end.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Whether one has come.
    async fn was_asked(&mut self) -> bool {
        // Only when this task waits does the runtime look at what the kernel has for it.
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            () = self.asked() => true,
            () = std::future::ready(()) => false,
        }
    }
}
