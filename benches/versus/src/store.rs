//! The recordings that every peer serves, laid out as tonearm's store.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::{Advice, fadvise, fstatfs};

use crate::launch;
use crate::pattern::{FILE_LENGTH, Pattern};

/// Files that stay in the page cache.
pub(crate) const WARM: usize = 64;
/// Files behind them that are dropped from it again and again.
pub(crate) const COLD: usize = 16;

const TMPFS: i64 = 0x0102_1994;
/// Dropped at once, so that the generator's core is not held for long.
const SLICE: u64 = 1 << 20;

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

    /// Makes all cold files cold, and gives a line by which to name those to be so again.
    pub(crate) fn dropper(&self, core: usize) -> anyhow::Result<Sender<usize>> {
        for file in WARM..WARM + COLD {
            drop_from_cache(&self.root, file, Duration::ZERO)?;
        }
        let (sender, receiver) = mpsc::channel();
        let root = self.root.clone();
        thread::spawn(move || -> anyhow::Result<()> {
            launch::pin(&[core])?;
            for file in receiver {
                drop_from_cache(&root, file, Duration::from_micros(100))?;
            }
            Ok(())
        });
        Ok(sender)
    }
}

fn drop_from_cache(root: &Path, file: usize, pause: Duration) -> anyhow::Result<()> {
    let handle = File::open(root.join(relative(file)))?;
    for offset in (0..FILE_LENGTH).step_by(SLICE as usize) {
        fadvise(
            &handle,
            offset,
            std::num::NonZeroU64::new(SLICE),
            Advice::DontNeed,
        )?;
        thread::sleep(pause);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_lies_where_tonearm_looks_for_it() {
        assert_eq!(relative(7), "app-101/test-account-01/call-07.wav");
    }
}
