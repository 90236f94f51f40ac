//! Recordings that were asked for lately, held open.
//!
//! Opening a file, reading its record and describing both costs more than sending a small range. A
//! recording is held open with what was known of it, and with witnesses that are asked at each use, or once in
//! some milliseconds where that will do: the open file and its record, or its directory where a record could
//! still come. While none of them has changed, nothing has been replaced, removed, rewritten or revoked; and
//! after two seconds everything is looked up anew, whatever they say.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache as QuickCache;
use rustix::fs::{Stat, fstat};
use rustix::process::{Resource, getrlimit};

use super::Handle;
use crate::recording::UnixTime;
use crate::respond::Described;

/// Longest time a recording is held without being looked up again, in seconds.
const MOST: u64 = 2;
/// After so long it is looked up again beside the request, so that no request has to wait for it.
const EARLY: u64 = 1;
/// A held recording has two descriptors, seldom three; this part of those allowed may hold recordings.
const SHARE: u64 = 8;
/// Most directories that are held open.
const DIRECTORIES: usize = 256;

/// A recording held open.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) described: Described,
    pub(super) handle: Handle,
    pub(super) generation: u32,
    pub(super) witnesses: Vec<Witness>,
    pub(super) located: UnixTime,
    pub(super) renewing: AtomicBool,
    /// When the witnesses were last asked, and agreed: microseconds of the cache's own clock; 0 is never.
    pub(super) agreed: AtomicU64,
}

impl Held {
    /// Whether it is time to look it up again; true for one caller.
    pub(super) fn is_to_be_renewed(&self, now: UnixTime) -> bool {
        self.located.until(now) >= EARLY && !self.renewing.swap(true, Ordering::Relaxed)
    }

    /// Asks the witnesses, and remembers that they agree.
    fn agrees(&self, at: u64) -> bool {
        let agrees = self.witnesses.iter().all(Witness::agrees);
        if agrees {
            self.agreed.store(at, Ordering::Relaxed);
        }
        agrees
    }

    fn agreed_within(&self, trust: u64, at: u64) -> bool {
        let agreed = self.agreed.load(Ordering::Relaxed);
        agreed > 0 && at >= agreed && at - agreed < trust
    }

    fn is_young(&self, now: UnixTime) -> bool {
        is_young(self.located, now)
    }
}

/// What was located in the future was located before the clock was set back.
fn is_young(located: UnixTime, now: UnixTime) -> bool {
    located <= now && located.until(now) < MOST
}

/// An open file or directory, as it was.
#[derive(Debug, Clone)]
pub(super) struct Witness {
    file: Arc<File>,
    stamp: Stamp,
}

impl Witness {
    pub(super) fn of(file: Arc<File>) -> std::io::Result<Self> {
        let stat = fstat(&*file)?;
        Ok(Self::as_it_was(file, &stat))
    }

    /// Of what was just asked how it is.
    pub(super) fn as_it_was(file: Arc<File>, stat: &Stat) -> Self {
        let stamp = Stamp::of(stat);
        Self { file, stamp }
    }

    pub(super) const fn file(&self) -> &Arc<File> {
        &self.file
    }

    pub(super) fn agrees(&self) -> bool {
        fstat(&*self.file).is_ok_and(|stat| Stamp::of(&stat) == self.stamp)
    }
}

/// What changes when an inode does: its bytes and its length, and by the time of its last change
/// its names too. A file replaced by a rename has lost a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: i128,
    modified: (i128, i128),
    changed: (i128, i128),
    links: i128,
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            size: stat.st_size.into(),
            modified: (stat.st_mtime.into(), stat.st_mtime_nsec.into()),
            changed: (stat.st_ctime.into(), stat.st_ctime_nsec.into()),
            links: stat.st_nlink.into(),
        }
    }
}

/// As many as the descriptors of this process allow to be held open.
pub(super) fn capacity() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let capacity = (descriptors / SHARE).clamp(16, 4096);
    usize::try_from(capacity).unwrap_or(16)
}

/// The recordings held open, by their path on the media route.
#[derive(Debug)]
pub(super) struct Cache {
    held: QuickCache<Box<str>, Arc<Held>>,
    /// The directories of accounts, and when each was opened.
    directories: QuickCache<Box<str>, (Witness, UnixTime)>,
    /// For so long witnesses that agreed are not asked again.
    pub(super) trust: Duration,
    /// Where its clock begins.
    since: OnceLock<Instant>,
}

impl Cache {
    /// A cache as large as the descriptors of this process allow.
    pub(super) fn new() -> Self {
        Self {
            held: QuickCache::new(capacity()),
            directories: QuickCache::new(DIRECTORIES),
            trust: Duration::ZERO,
            since: OnceLock::new(),
        }
    }

    /// The recording at `path`, if it is held and nothing has changed since it was located. Who does not
    /// say `at` which moment has the witnesses asked.
    pub(super) fn current(
        &self,
        path: &str,
        now: UnixTime,
        at: Option<Instant>,
    ) -> Option<Arc<Held>> {
        let held = self.held.get(path)?;
        let (trust, at) = (micros(self.trust), at.map_or(0, |at| self.clock(at)));
        if held.is_young(now) && (held.agreed_within(trust, at) || held.agrees(at)) {
            return Some(held);
        }
        self.held.remove(path);
        None
    }

    fn clock(&self, at: Instant) -> u64 {
        let since = self.since.get_or_init(|| at);
        micros(at.saturating_duration_since(*since)).saturating_add(1)
    }

    /// The directory at `path`, if it was opened lately and nothing has changed in it, or of it: one that
    /// is moved away has changed as well.
    pub(super) fn directory(&self, path: &str, now: UnixTime) -> Option<Witness> {
        let (directory, opened) = self.directories.get(path)?;
        (is_young(opened, now) && directory.agrees()).then_some(directory)
    }

    pub(super) fn hold_directory(&self, path: &str, directory: &Witness, now: UnixTime) {
        self.directories
            .insert(path.into(), (directory.clone(), now));
    }

    /// What was known of the page cache goes on where the version does.
    pub(super) fn go_on(&self, path: &str, handle: &mut Handle) {
        let former = self.held.peek(path).map(|held| held.handle.clone());
        if let Some(former) = former.filter(|former| former.version == handle.version) {
            handle.warmth = former.warmth;
        }
    }

    pub(super) fn hold(&self, path: &str, held: &Arc<Held>) {
        self.held.insert(path.into(), Arc::clone(held));
    }

    pub(super) fn release(&self, path: &str) {
        self.held.remove(path);
    }

    /// Lets go of what was not located lately.
    pub(super) fn tidy(&self, now: UnixTime) {
        self.held.retain(|_, held| held.is_young(now));
        self.directories
            .retain(|_, (_, opened)| is_young(*opened, now));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
