//! Recordings that were asked for lately, held open.
//!
//! Opening a file, reading its record and describing both costs more than sending a small range. A
//! recording is held open with what was known of it, and with witnesses that are asked at each use:
//! the open file and its record, or its directory where a record could still come. While none of them has changed, nothing has been
//! replaced, removed, rewritten or revoked; and after two seconds everything is looked up anew,
//! whatever they say.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// A recording held open.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) described: Described,
    pub(super) handle: Handle,
    pub(super) generation: u32,
    pub(super) witnesses: Vec<Witness>,
    pub(super) located: UnixTime,
    pub(super) renewing: AtomicBool,
}

impl Held {
    /// Whether it is time to look it up again; true for one caller.
    pub(super) fn is_to_be_renewed(&self, now: UnixTime) -> bool {
        self.located.until(now) >= EARLY && !self.renewing.swap(true, Ordering::Relaxed)
    }

    fn is_current(&self, now: UnixTime) -> bool {
        self.is_young(now) && self.witnesses.iter().all(Witness::agrees)
    }

    /// What was located in the future was located before the clock was set back.
    fn is_young(&self, now: UnixTime) -> bool {
        self.located <= now && self.located.until(now) < MOST
    }
}

/// An open file or directory, as it was.
#[derive(Debug)]
pub(super) struct Witness {
    file: Arc<File>,
    stamp: Stamp,
}

impl Witness {
    pub(super) fn of(file: Arc<File>) -> std::io::Result<Self> {
        let stamp = Stamp::of(&fstat(&*file)?);
        Ok(Self { file, stamp })
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
pub(super) struct Cache(QuickCache<Box<str>, Arc<Held>>);

impl Cache {
    /// A cache as large as the descriptors of this process allow.
    pub(super) fn new() -> Self {
        Self(QuickCache::new(capacity()))
    }

    /// The recording at `path`, if it is held and nothing has changed since it was located.
    pub(super) fn current(&self, path: &str, now: UnixTime) -> Option<Arc<Held>> {
        let held = self.0.get(path)?;
        if held.is_current(now) {
            return Some(held);
        }
        self.0.remove(path);
        None
    }

    pub(super) fn hold(&self, path: &str, held: &Arc<Held>) {
        self.0.insert(path.into(), Arc::clone(held));
    }

    pub(super) fn release(&self, path: &str) {
        self.0.remove(path);
    }

    /// Lets go of what was not located lately.
    pub(super) fn tidy(&self, now: UnixTime) {
        self.0.retain(|_, held| held.is_young(now));
    }
}
