//! An open file of a known version: what lies of it in the page cache, and whether it still is what
//! it was. Knows nothing of whose bytes they are.

use std::fs::File;
use std::io;
use std::iter::successors;
use std::num::NonZero;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{available_parallelism, yield_now};

use bytes::Bytes;
use rustix::fs::{Stat, fstat};

use super::Record;
use super::pool::Buffer;
use crate::recording::{EntityTag, UnixTime};
use crate::select::ByteRange;

/// What the disk is asked for at once.
const STEP: u64 = 256 * 1024;

/// An open recording of a known version.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) file: Arc<File>,
    pub(crate) version: Version,
    /// Nobody is likely to be writing to it any more.
    pub(crate) settled: bool,
    /// More is being written behind the bytes that are read: it has no version yet.
    pub(crate) grows: bool,
    pub(crate) warmth: Arc<Warmth>,
}

/// What is known of the page cache.
#[derive(Debug)]
pub(crate) struct Warmth {
    /// So many bytes lay there when they were asked for, since some did not.
    found: AtomicU64,
    /// So many have to, for more to be believed.
    needed: AtomicU64,
}

impl Default for Warmth {
    fn default() -> Self {
        let (found, needed) = (AtomicU64::new(0), AtomicU64::new(Self::LEAST));
        Self { found, needed }
    }
}

impl Warmth {
    /// Of a file of which nothing was missing yet.
    const LEAST: u64 = 2 * 1024 * 1024;
    /// Of one of which something was: so many times its length.
    const TIMES: u64 = 2;
    /// Of a file that is trusted, one range in so many is asked for.
    const SAMPLED: u64 = 16;

    /// Whether a range may be believed to be there, which counts as found until it is missed. Whether something is
    /// counted twice is no matter, and a locked addition is.
    fn trusts(&self, range: ByteRange) -> bool {
        let found = self.found.load(Ordering::Relaxed);
        self.found
            .store(found.wrapping_add(range.len()), Ordering::Relaxed);
        let is_sampled = (found / range.len().max(1)).is_multiple_of(Self::SAMPLED);
        found >= self.needed.load(Ordering::Relaxed) && !is_sampled
    }

    fn missed(&self, length: u64) {
        let needed = length.saturating_mul(Self::TIMES).max(Self::LEAST);
        self.needed.store(needed, Ordering::Relaxed);
        self.found.store(0, Ordering::Relaxed);
    }
}

/// What tells that an open file is still the one that was located.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// In bytes.
    pub(crate) length: u64,
    /// Nanoseconds since 1970.
    pub(crate) modified_ns: i128,
}

impl Version {
    pub(super) fn of(stat: &Stat) -> Self {
        let seconds = i128::from(stat.st_mtime) * 1_000_000_000;
        Self {
            length: u64::try_from(stat.st_size).unwrap_or_default(),
            modified_ns: seconds + i128::from(stat.st_mtime_nsec),
        }
    }

    pub(super) fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::of(&fstat(file)?))
    }

    /// In whole seconds; `None` before 1970.
    pub(super) fn modified(self) -> Option<UnixTime> {
        u64::try_from(self.modified_ns / 1_000_000_000)
            .ok()
            .map(UnixTime)
    }

    /// The tag of this version, by its digest where the record says it.
    pub(super) fn etag(self, record: &Record) -> EntityTag {
        record.sha256(self).as_ref().map_or_else(
            || EntityTag::from_file(self.length, self.modified_ns),
            EntityTag::from_sha256,
        )
    }
}

impl Handle {
    /// An open file, in the version it has now.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        Self::of_shared(Arc::new(file))
    }

    pub(super) fn of_shared(file: Arc<File>) -> io::Result<Self> {
        let version = Version::of_file(&file)?;
        Ok(Self {
            file,
            version,
            settled: true,
            grows: false,
            warmth: Arc::default(),
        })
    }

    /// Makes sure that the file is still of the version that was promised: one rewritten in place
    /// would splice two versions.
    ///
    /// # Errors
    /// The disk's, or that the file has changed.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.grows || Version::of_file(&self.file)? == self.version {
            Ok(())
        } else {
            Err(io::Error::other("the file changed while it was sent"))
        }
    }

    /// The bytes of a range, of the promised version.
    ///
    /// # Errors
    /// The disk's, or that the file has changed.
    pub(crate) fn read(&self, range: ByteRange) -> io::Result<Bytes> {
        let length = usize::try_from(range.len()).map_err(io::Error::other)?;
        Buffer::of(length).filled(|buffer| {
            self.file.read_exact_at(buffer, range.first)?;
            self.check()
        })
    }

    /// Brings a range into the page cache, and has the disk begin with `next`, which is not waited for.
    ///
    /// In steps, of which a core takes one at a time, and between which whoever serves connections on the same
    /// core has its turn: a reader that is left to the kernel's own reading ahead takes the core for milliseconds.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn warm(&self, range: ByteRange, next: Option<ByteRange>) -> io::Result<()> {
        self.ask_for(range);
        // What was asked for last comes last; to wait for each in turn would be to be woken for each.
        self.file.read_exact_at(&mut [0], range.last)?;
        for step in steps(range) {
            self.wait_for(step)?;
        }
        if let Some(next) = next {
            self.ask_for(next);
        }
        Ok(())
    }

    /// Waits for a step that was asked for, or reads it where asking did not help.
    fn wait_for(&self, step: ByteRange) -> io::Result<()> {
        self.file.read_exact_at(&mut [0], step.last)?;
        if !self.has_come(step) {
            let length = usize::try_from(step.len()).map_err(io::Error::other)?;
            self.file.read_exact_at(&mut vec![0; length], step.first)?;
            yield_now();
        }
        Ok(())
    }
}

/// A range in parts of [`STEP`].
fn steps(range: ByteRange) -> impl Iterator<Item = ByteRange> {
    let begins = successors(Some(range.first), |first| first.checked_add(STEP));
    begins
        .take_while(move |first| *first <= range.last)
        .map(move |first| ByteRange { first, ..range }.beginning(STEP))
}

#[cfg(target_os = "linux")]
impl Handle {
    /// The bytes of a range, if all of them lie in the page cache; reads nothing from the disk.
    pub(crate) fn read_cached(&self, range: ByteRange) -> Option<Bytes> {
        let length = usize::try_from(range.len()).ok()?;
        let fill = |buffer: &mut [u8]| match self.read_now(buffer, range.first) {
            Some(read) if read == length => Ok(()),
            _ => Err(()),
        };
        Buffer::of(length).filled(fill).ok()
    }

    /// Whether a range is likely to lie in the page cache: asks for its last byte, its first, and one in each
    /// megabyte, since the kernel reads and forgets in stretches. Of a file that always was there, one short range
    /// in a few is asked for; the first that is missing has all asked for until all were there, twice.
    pub(crate) fn is_cached(&self, range: ByteRange) -> bool {
        /// To ask for what is longer costs next to nothing of what it costs to send.
        const SHORT: u64 = 256 * 1024;
        /// Bytes between those that are asked for.
        const STRIDE: u64 = 1024 * 1024;
        if self.warmth.trusts(range) && range.len() <= SHORT {
            return true;
        }
        let cached = self.is_there(range, STRIDE);
        if !cached {
            self.warmth.missed(self.version.length);
        }
        cached
    }

    /// Whether a range lies in the page cache that was asked of the disk: asks four times in each step, and has
    /// nothing trusted for what it finds.
    pub(crate) fn has_come(&self, range: ByteRange) -> bool {
        self.is_there(range, STEP / 4)
    }

    /// Asks for the last byte of a range, its first, and one in every `stride`.
    fn is_there(&self, range: ByteRange, stride: u64) -> bool {
        let there = |offset| self.read_now(&mut [0], offset) == Some(1);
        let strides = successors(Some(range.first), |offset| offset.checked_add(stride));
        there(range.last) && strides.take_while(|offset| *offset < range.last).all(there)
    }

    /// Has the disk begin to read a range, without waiting for it.
    pub(crate) fn ask_for(&self, range: ByteRange) {
        use rustix::fs::{Advice, fadvise};

        for step in steps(range) {
            let turn = turn_of_this_core();
            // What cannot be had early is read when it is needed.
            let length = NonZero::new(step.len());
            let _ = fadvise(&self.file, step.first, length, Advice::WillNeed);
            drop(turn);
            yield_now();
        }
    }

    /// Reads what is in the page cache; `None` where the disk would have to be asked.
    fn read_now(&self, buffer: &mut [u8], offset: u64) -> Option<usize> {
        use rustix::io::ReadWriteFlags;

        let mut slices = [io::IoSliceMut::new(buffer)];
        rustix::io::preadv2(&self.file, &mut slices, offset, ReadWriteFlags::NOWAIT).ok()
    }
}

/// Waits until no other reader of cold files takes this core: whoever serves connections on it waits for each that
/// is ready to run. One that the disk keeps holds up those who are to ask it next.
#[cfg(target_os = "linux")]
fn turn_of_this_core() -> Option<MutexGuard<'static, ()>> {
    static CORES: LazyLock<Box<[Mutex<()>]>> = LazyLock::new(|| {
        let cores = available_parallelism().map_or(1, NonZero::get);
        (0..cores).map(|_| Mutex::default()).collect()
    });
    let core = rustix::thread::sched_getcpu() % CORES.len();
    // There is nothing in it that could be left half done.
    let turn = CORES.get(core)?.lock();
    Some(turn.unwrap_or_else(PoisonError::into_inner))
}

#[cfg(not(target_os = "linux"))]
impl Handle {
    pub(crate) fn read_cached(&self, _: ByteRange) -> Option<Bytes> {
        None
    }

    pub(crate) fn is_cached(&self, _: ByteRange) -> bool {
        false
    }

    pub(crate) fn has_come(&self, _: ByteRange) -> bool {
        false
    }

    pub(crate) fn ask_for(&self, _: ByteRange) {}
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_range_is_asked_for_in_steps() {
        for (first, last, expect) in [
            (0, 0, vec![(0, 0)]),
            (5, STEP + 4, vec![(5, STEP + 4)]),
            (5, STEP + 5, vec![(5, STEP + 4), (STEP + 5, STEP + 5)]),
            (u64::MAX - 1, u64::MAX, vec![(u64::MAX - 1, u64::MAX)]),
            (1, 0, vec![]),
        ] {
            let parts = steps(ByteRange { first, last }).map(|step| (step.first, step.last));
            assert_eq!(parts.collect::<Vec<_>>(), expect);
        }
    }

    #[test]
    fn a_handle_outlives_its_name_and_notices_a_rewrite() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file.wav");
        let open = || Handle::new(File::open(&file).unwrap()).unwrap();
        let beginning = ByteRange { first: 0, last: 3 };
        fs::write(&file, "RIFF").unwrap();
        let handle = open();
        fs::write(file.with_extension("new"), "NEWS").unwrap();
        fs::rename(file.with_extension("new"), &file).unwrap();
        assert_eq!(handle.read(beginning).unwrap(), "RIFF");

        let handle = open();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&file, "NEWER").unwrap();
        let error = handle.read(beginning).unwrap_err();
        assert_eq!(error.to_string(), "the file changed while it was sent");
        fs::write(&file, "N").unwrap();
        let error = handle.read(beginning).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    /// Of a file system that has a disk; in one that is memory everything always is there.
    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_warmed_is_there_then_and_what_is_next_soon() {
        use std::time::Duration;

        use rustix::fs::{Advice, fadvise, fsync};

        const MIB: u64 = 1 << 20;
        const PART: u64 = MIB / 64;
        let named = tempfile::NamedTempFile::new().unwrap();
        fs::write(named.path(), vec![1; 8 << 20]).unwrap();
        let handle = Handle::new(named.reopen().unwrap()).unwrap();
        fsync(&*handle.file).unwrap();
        // Nothing is read ahead but what is asked for.
        fadvise(&*handle.file, 0, None, Advice::Random).unwrap();
        fadvise(&*handle.file, 0, None, Advice::DontNeed).unwrap();
        let part = |first, length| ByteRange {
            first,
            last: first + length - 1,
        };
        if handle.is_cached(part(7 * MIB, MIB)) {
            eprintln!("skipped: what was written cannot be made cold here");
            return;
        }
        let first = part(0, MIB);
        assert!(!handle.is_cached(first));
        handle.warm(first, Some(part(MIB, MIB))).unwrap();
        assert!(handle.is_cached(first));
        // To ask for what is not there has the kernel read it: each part is asked for once.
        let mut parts = (64..128).map(|number| part(number * PART, PART));
        let soon = parts.any(|part| {
            std::thread::sleep(Duration::from_millis(20));
            handle.is_cached(part)
        });
        assert!(soon);
        // What comes because it was asked for says nothing of what was not.
        for _ in 0..100 {
            assert!(handle.has_come(first));
        }
        assert!(!handle.has_come(part(5 * MIB, MIB)));
        assert!(!handle.is_cached(part(6 * MIB, MIB)));
        // Nor does what is asked for more often than the rest, which was missing.
        let quarter = part(0, MIB / 4);
        for _ in 0..60 {
            assert!(handle.is_cached(quarter));
        }
        assert!(!handle.is_cached(part(4 * MIB, MIB / 4)));
        for _ in 0..65 {
            assert!(handle.is_cached(quarter));
        }
        assert!(
            handle.is_cached(part(3 * MIB, MIB / 4)),
            "trusted, and not asked"
        );
        assert!(!handle.is_cached(part(5 * MIB, MIB)), "long, and asked");
    }
}
