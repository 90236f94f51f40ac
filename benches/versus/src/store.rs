//! The recordings that every peer serves, laid out as tonearm's store.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rustix::fs::{Advice, fadvise, fstatfs};

use crate::pattern::{FILE_LENGTH, Pattern};

/// Files that stay in the page cache.
pub(crate) const WARM: usize = 64;
/// Files behind them that are dropped from it again and again.
pub(crate) const COLD: usize = 16;

const TMPFS: i64 = 0x0102_1994;
/// Dropped at once, about 10 us of work.
const SLICE: NonZeroU64 = NonZeroU64::new(1 << 20).unwrap();

pub(crate) struct Store {
    pub(crate) root: PathBuf,
}

/// `app/account/id.wav` of a file.
pub(crate) fn relative(file: usize) -> String {
    format!("app-101/test-account-01/call-{file:02}.wav")
}

impl Store {
    pub(crate) fn create(root: PathBuf, pattern: &Pattern) -> anyhow::Result<Self> {
        for file in 0..WARM + COLD {
            let path = root.join(relative(file));
            fs::create_dir_all(path.parent().context("no directory")?)?;
            let mut handle = File::create(&path)?;
            handle.write_all(&pattern.file(file))?;
            // Only what is on the disk can be dropped from the page cache.
            handle.sync_all()?;
            // Recordings are seldom listened to in the seconds after they were written.
            handle.set_modified(SystemTime::now() - Duration::from_hours(1))?;
        }
        Ok(Self { root })
    }

    /// Whether files here can be cold at all.
    pub(crate) fn has_disk(&self) -> anyhow::Result<bool> {
        let directory = File::open(&self.root)?;
        Ok(fstatfs(&directory)?.f_type != TMPFS)
    }

    /// Reads the warm files once, so that they are.
    pub(crate) fn warm(&self) -> anyhow::Result<()> {
        for file in 0..WARM {
            fs::read(self.root.join(relative(file)))?;
        }
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
    }
}
