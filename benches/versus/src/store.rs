//! The recordings that every peer serves, laid out as tonearm's store.
//!
//! A million of them are names: hard links to the warm ones. Who finds a recording by its name cannot
//! tell, and what is read lies in the page cache, or to fill that would be all that is measured.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rustix::fs::{Advice, fadvise, fstatfs};

use crate::pattern::{FILE_LENGTH, Pattern};

/// Files that stay in the page cache.
pub(crate) const WARM: usize = 64;
/// Files behind them that are dropped from it again and again.
pub(crate) const COLD: usize = 16;

/// One behind them that is large: a hole, all of it zeros.
pub(crate) const LARGE: usize = WARM + COLD;
pub(crate) const LARGE_LENGTH: u64 = 8 << 30;
/// Names behind it, of the warm files in turn.
pub(crate) const NAMES: Range<usize> = LARGE + 1..LARGE + 1 + 1_000_000;
/// Recordings of one account of those.
const OF_ACCOUNT: usize = 10_000;

const TMPFS: i64 = 0x0102_1994;
/// Dropped at once, about 10 us of work.
const SLICE: NonZeroU64 = NonZeroU64::new(1 << 20).unwrap();

pub(crate) struct Store {
    pub(crate) root: PathBuf,
    /// How many there are: all, or without the names, or without the large one.
    pub(crate) recordings: usize,
}

/// `app/account/id.wav` of a file.
pub(crate) fn relative(file: usize) -> String {
    let Some(name) = file.checked_sub(NAMES.start) else {
        return format!("app-101/test-account-01/call-{file:02}.wav");
    };
    let (account, call) = (name / OF_ACCOUNT, name % OF_ACCOUNT);
    format!("app-102/test-account-{account:03}/call-{call:04}.wav")
}

/// The file whose bytes a file has, where they can be told.
pub(crate) fn original(file: usize) -> Option<usize> {
    match file.checked_sub(NAMES.start) {
        Some(name) => Some(name % WARM),
        None => Some(file).filter(|file| *file != LARGE),
    }
}

impl Store {
    /// At least the warm and the cold ones.
    pub(crate) fn create(
        root: PathBuf,
        pattern: &Pattern,
        recordings: usize,
    ) -> anyhow::Result<Self> {
        for file in 0..WARM + COLD {
            let mut handle = create_file(&root, file)?;
            handle.write_all(&pattern.file(file))?;
            // Only what is on the disk can be dropped from the page cache.
            handle.sync_all()?;
            date(&handle)?;
        }
        let store = Self { root, recordings };
        store.create_more()?;
        Ok(store)
    }

    /// What there is behind the warm and the cold ones.
    fn create_more(&self) -> anyhow::Result<()> {
        if self.recordings > LARGE {
            let handle = create_file(&self.root, LARGE)?;
            handle.set_len(LARGE_LENGTH)?;
            date(&handle)?;
        }
        for file in NAMES.start..self.recordings {
            let path = self.root.join(relative(file));
            if (file - NAMES.start).is_multiple_of(OF_ACCOUNT) {
                fs::create_dir_all(path.parent().context("no directory")?)?;
            }
            let original = original(file).context("no original")?;
            fs::hard_link(self.root.join(relative(original)), &path)
                .with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// Whether files here can be cold at all.
    pub(crate) fn has_disk(&self) -> anyhow::Result<bool> {
        let directory = File::open(&self.root)?;
        Ok(fstatfs(&directory)?.f_type != TMPFS)
    }

    /// Reads a file once, so that it is in the page cache. For how long is the system's affair: some take from it
    /// what nobody has asked for in a minute, however much memory is free.
    pub(crate) fn warm(&self, file: usize) -> anyhow::Result<()> {
        let mut file = File::open(self.root.join(relative(file)))?;
        // Read, not copied within the kernel, which takes no page of the cache.
        let mut buffer = vec![0; 1 << 20];
        while file.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// The cold files, and cold they are.
    pub(crate) fn dropper(&self) -> anyhow::Result<Dropper> {
        let open = |file| File::open(self.root.join(relative(file)));
        let dropper = Dropper {
            handles: (WARM..WARM + COLD).map(open).collect::<Result<_, _>>()?,
            line: Mutex::default(),
        };
        (WARM..WARM + COLD).for_each(|file| dropper.want(file));
        while dropper.step()? {}
        Ok(dropper)
    }
}

fn create_file(root: &Path, file: usize) -> anyhow::Result<File> {
    let path = root.join(relative(file));
    fs::create_dir_all(path.parent().context("no directory")?)?;
    Ok(File::create(&path)?)
}

/// Recordings are seldom listened to in the seconds after they were written.
fn date(file: &File) -> io::Result<()> {
    file.set_modified(SystemTime::now() - Duration::from_hours(1))
}

/// Drops files from the page cache, a slice at a time, so that the load is not held up.
#[derive(Debug)]
pub(crate) struct Dropper {
    handles: Vec<File>,
    /// Files and offsets that are to be dropped.
    line: Mutex<VecDeque<(usize, u64)>>,
}

impl Dropper {
    fn line(&self) -> MutexGuard<'_, VecDeque<(usize, u64)>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `file` is to be cold again, if it is one of those.
    pub(crate) fn want(&self, file: usize) {
        if let Some(file) = file.checked_sub(WARM) {
            let slices = (0..FILE_LENGTH).step_by(SLICE.get() as usize);
            self.line().extend(slices.map(|offset| (file, offset)));
        }
    }

    /// Slices that are still to be dropped.
    pub(crate) fn behind(&self) -> usize {
        self.line().len()
    }

    /// Drops one slice; whether there was one to drop.
    pub(crate) fn step(&self) -> io::Result<bool> {
        let Some((file, offset)) = self.line().pop_front() else {
            return Ok(false);
        };
        fadvise(&self.handles[file], offset, Some(SLICE), Advice::DontNeed)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn files_are_dropped_slice_by_slice() {
        let dropper = Dropper {
            handles: vec![tempfile::tempfile().unwrap()],
            line: Mutex::default(),
        };
        dropper.want(WARM);
        dropper.want(0);
        let mut slices = 0;
        while dropper.step().unwrap() {
            slices += 1;
        }
        assert_eq!(slices, FILE_LENGTH >> 20);
    }

    #[test]
    fn a_file_lies_where_tonearm_looks_for_it() {
        assert_eq!(relative(7), "app-101/test-account-01/call-07.wav");
        let last = relative(NAMES.end - 1);
        assert_eq!(last, "app-102/test-account-099/call-9999.wav");
    }

    #[test]
    fn names_lead_to_the_warm_files_and_the_large_one_is_a_hole() {
        let place = tempfile::tempdir().unwrap();
        let store = Store {
            root: place.path().to_owned(),
            recordings: NAMES.start + OF_ACCOUNT + 70,
        };
        for file in 0..WARM {
            let mut handle = create_file(&store.root, file).unwrap();
            write!(handle, "{file}").unwrap();
        }
        store.create_more().unwrap();
        let path = |file| store.root.join(relative(file));
        let read = |file| fs::read(path(file)).unwrap();
        assert_eq!(read(NAMES.start + 65), b"1");
        assert_eq!(read(NAMES.start + OF_ACCOUNT), b"16");
        assert_eq!(original(NAMES.start + 65), Some(1));
        assert!(!path(store.recordings).exists());
        let large = fs::metadata(path(LARGE)).unwrap();
        assert_eq!((large.len(), large.blocks()), (LARGE_LENGTH, 0));
        assert_eq!(original(LARGE), None);
    }
}
