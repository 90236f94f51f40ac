//! A phone system's spool: which of its files are finished, and when.
//!
//! A file is finished when its writer closes it or moves it into place, which the kernel tells. Of
//! what was there before anybody listened it cannot be known: such a file is taken once it has not
//! changed for a while. Opens no recording.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::recording::UnixTime;

/// Which file it is, and in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    /// In bytes.
    pub(super) size: u64,
    pub(super) modified_ns: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
        }
    }

    /// That of the regular file at `path`; `None` where there is none.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) => Ok(metadata.is_file().then(|| Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn modified(&self) -> UnixTime {
        UnixTime(u64::try_from(self.modified_ns / 1_000_000_000).unwrap_or(0))
    }

    /// Whether a process that we may look at has the file open for writing. Of others' processes
    /// only root learns.
    pub(super) fn is_being_written(&self) -> bool {
        let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
        entries(Path::new("/proc"))
            .filter(|entry| entry.file_name().as_bytes()[0].is_ascii_digit())
            .any(|process| {
                entries(&process.path().join("fd")).any(|descriptor| {
                    let same = std::fs::metadata(descriptor.path()).is_ok_and(|metadata| {
                        (metadata.dev(), metadata.ino()) == (self.device, self.inode)
                    });
                    same && writes(&process.path(), &descriptor.file_name())
                })
            })
    }
}

/// Whether a descriptor of a process is open for writing (proc_pid_fdinfo(5): the flags are octal,
/// and their last digit is the way it was opened).
fn writes(process: &Path, descriptor: &OsStr) -> bool {
    let info = std::fs::read_to_string(process.join("fdinfo").join(descriptor));
    let info = info.unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.is_some_and(|flags| flags.trim().ends_with(['1', '2']))
}

/// When a file is looked at again; it is finished if it still has this stamp then.
struct Waiting {
    due: UnixTime,
    stamp: Option<Stamp>,
}

/// What the kernel tells of a directory.
pub(super) struct News {
    watch: i32,
    events: ReadFlags,
    name: Option<OsString>,
}

pub(super) struct Spool {
    root: PathBuf,
    /// Directories in it that are none of the phone system's.
    aside: Vec<PathBuf>,
    /// Seconds without a change after which a file counts as finished.
    settle: u64,
    inotify: Arc<OwnedFd>,
    news: UnboundedReceiver<io::Result<News>>,
    directories: HashMap<i32, PathBuf>,
    waiting: BTreeMap<PathBuf, Waiting>,
}

impl Spool {
    /// Listens to `root` and all directories in it, hidden ones and those of `aside` excepted.
    pub(super) fn open(
        root: &Path,
        aside: Vec<PathBuf>,
        settle: u64,
        now: UnixTime,
    ) -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let (teller, news) = mpsc::unbounded_channel();
        let ear = Arc::clone(&inotify);
        // It waits in the kernel until the process ends.
        std::thread::Builder::new().spawn(move || listen(&ear, &teller))?;
        let mut spool = Self {
            root: root.to_owned(),
            aside,
            settle,
            inotify,
            news,
            directories: HashMap::new(),
            waiting: BTreeMap::new(),
        };
        spool.enter(root, now)?;
        Ok(spool)
    }

    /// Waits for something to be heard. May be dropped at any time, and loses nothing.
    ///
    /// # Errors
    /// The kernel tells no more.
    pub(super) async fn stir(&mut self) -> io::Result<News> {
        self.news
            .recv()
            .await
            .unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// Takes in what the kernel has told since.
    ///
    /// # Errors
    /// The spool is gone, or cannot be read.
    pub(super) fn hear(&mut self, now: UnixTime) -> io::Result<()> {
        while let Ok(news) = self.news.try_recv() {
            self.learn(news?, now)?;
        }
        Ok(())
    }

    /// Takes in a piece of news.
    ///
    /// # Errors
    /// As [`hear`](Self::hear).
    pub(super) fn learn(&mut self, news: News, now: UnixTime) -> io::Result<()> {
        let News {
            watch,
            events,
            name,
        } = news;
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            // The kernel has told less than there was.
            return self.enter(&self.root.clone(), now);
        }
        if events.contains(ReadFlags::IGNORED) {
            let gone = self.directories.remove(&watch);
            return match gone {
                Some(gone) if gone == self.root => Err(io::ErrorKind::NotFound.into()),
                _ => Ok(()),
            };
        }
        let (Some(directory), Some(name)) = (self.directories.get(&watch), name) else {
            return Ok(());
        };
        let path = directory.join(&name);
        if events.contains(ReadFlags::ISDIR) {
            return self.enter(&path, now);
        }
        if events.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) && !is_hidden(&name) {
            let finished = Waiting {
                due: now,
                stamp: None,
            };
            self.waiting.insert(path, finished);
        }
        Ok(())
    }

    /// Listens to a directory first, and looks at what is there then: nothing comes between.
    fn enter(&mut self, directory: &Path, now: UnixTime) -> io::Result<()> {
        let name = directory.file_name().unwrap_or_default();
        if self.aside.iter().any(|aside| aside == directory)
            || (is_hidden(name) && directory != self.root)
        {
            return Ok(());
        }
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::CREATE
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW;
        match self.look(directory, flags, now) {
            // It went as it came; or it is a link.
            Err(error) if directory != self.root && is_no_directory(&error) => Ok(()),
            looked => looked,
        }
    }

    fn look(&mut self, directory: &Path, flags: WatchFlags, now: UnixTime) -> io::Result<()> {
        let watch = inotify::add_watch(&*self.inotify, directory, flags)?;
        self.directories.insert(watch, directory.to_owned());
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.enter(&entry.path(), now)?;
            } else if kind.is_file() && !is_hidden(&entry.file_name()) {
                self.see(entry.path(), now)?;
            }
        }
        Ok(())
    }

    /// A file that may be finished, or not.
    fn see(&mut self, path: PathBuf, now: UnixTime) -> io::Result<()> {
        if let Some(stamp) = Stamp::at(&path)? {
            let due = stamp.modified().min(now).plus(self.settle);
            let stamp = Some(stamp);
            self.waiting.entry(path).or_insert(Waiting { due, stamp });
        }
        Ok(())
    }

    /// Looks at a file again in so many seconds, whatever it is like then.
    pub(super) fn again(&mut self, path: PathBuf, now: UnixTime, seconds: u64) {
        let due = now.plus(seconds);
        let stamp = None;
        self.waiting.insert(path, Waiting { due, stamp });
    }

    /// As [`see`](Self::see), of a file that somebody is still writing.
    pub(super) fn later(&mut self, path: PathBuf, now: UnixTime) -> io::Result<()> {
        let due = now.plus(self.settle.max(1));
        let stamp = Stamp::at(&path)?;
        self.waiting.insert(path, Waiting { due, stamp });
        Ok(())
    }

    /// The files that are finished now.
    pub(super) fn finished(&mut self, now: UnixTime) -> io::Result<Vec<PathBuf>> {
        let due: Vec<_> = self
            .waiting
            .extract_if(.., |_, waiting| waiting.due <= now)
            .collect();
        let mut finished = Vec::new();
        for (path, waiting) in due {
            if waiting.stamp.is_none() || Stamp::at(&path)? == waiting.stamp {
                finished.push(path);
            } else {
                self.later(path, now)?;
            }
        }
        Ok(finished)
    }

    /// Seconds until the next file is due.
    pub(super) fn wait(&self, now: UnixTime) -> Option<u64> {
        let due = self.waiting.values().map(|waiting| waiting.due).min()?;
        Some(now.until(due))
    }
}

/// Passes on what the kernel tells, until nobody wants to hear it.
fn listen(inotify: &OwnedFd, teller: &UnboundedSender<io::Result<News>>) {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    loop {
        let news = match reader.next() {
            Ok(event) => Ok(News {
                watch: event.wd(),
                events: event.events(),
                name: event
                    .file_name()
                    .map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()),
            }),
            Err(Errno::INTR) => continue,
            Err(errno) => Err(errno.into()),
        };
        let failed = news.is_err();
        if teller.send(news).is_err() || failed {
            return;
        }
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

fn is_no_directory(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}
