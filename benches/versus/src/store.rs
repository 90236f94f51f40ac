//! The recordings that every peer serves, laid out as tonearm's store.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::path::PathBuf;
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
            pattern.write(file, &mut handle)?;
            handle.flush()?;
            // Only what is on the disk can be dropped from the page cache.
            handle.sync_all()?;
            // Recordings are seldom listened to in the seconds after they were written.
            handle.set_modified(SystemTime::now() - Duration::from_secs(3600))?;
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
    pub(crate) fn cold(&self) -> anyhow::Result<ColdFiles> {
        let open = |file| File::open(self.root.join(relative(file)));
        let handles = (WARM..WARM + COLD).map(open).collect::<Result<_, _>>()?;
        let mut cold = ColdFiles {
            handles,
            line: VecDeque::new(),
        };
        (WARM..WARM + COLD).for_each(|file| cold.want(file));
        while cold.step()? {}
        Ok(cold)
    }
}

/// Drops files from the page cache, a slice at a time, so that the load is not held up.
pub(crate) struct ColdFiles {
    handles: Vec<File>,
    /// Files and offsets that are to be dropped.
    line: VecDeque<(usize, u64)>,
}

impl ColdFiles {
    /// `file` is to be cold again.
    pub(crate) fn want(&mut self, file: usize) {
        let slices = (0..FILE_LENGTH).step_by(SLICE.get() as usize);
        self.line.extend(slices.map(|offset| (file - WARM, offset)));
    }

    /// Drops one slice; whether there was one to drop.
    pub(crate) fn step(&mut self) -> io::Result<bool> {
        let Some((file, offset)) = self.line.pop_front() else {
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
        let handles = vec![tempfile::tempfile().unwrap()];
        let line = VecDeque::new();
        let mut cold = ColdFiles { handles, line };
        cold.want(WARM);
        let mut slices = 0;
        while cold.step().unwrap() {
            slices += 1;
        }
        assert_eq!(slices, FILE_LENGTH >> 20);
    }

    #[test]
    fn a_file_lies_where_tonearm_looks_for_it() {
        assert_eq!(relative(7), "app-101/test-account-01/call-07.wav");
    }
}
