//! Slices as files: written beside, renamed into place, and believed only when they are whole.
//!
//! A file is its slice's bytes and behind them SHA-256 over its name and them. So what a power cut
//! or a bad disk left of it is told from what was written, and a file under another's name too.

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, renameat, unlinkat};
use sha2::{Digest as _, Sha256};

use super::index::{ObjectId, SliceId};
use crate::recording::UnixTime;
use crate::store::{Handle, Version};

/// Bytes behind a slice's own.
pub(super) const TRAILER: u64 = 32;
/// What the name of a file begins with that is being written. No slice's does.
const UNFINISHED: char = '+';
/// Held by the process whose directory it is.
const LOCK: &str = "lock";

/// The cache's directory, which is this process's alone.
#[derive(Debug)]
pub(super) struct Disk {
    root: File,
    _lock: File,
}

/// A slice found at the start, whose bytes nobody has looked at.
#[derive(Debug)]
pub(super) struct Lying {
    pub(super) id: SliceId,
    pub(super) length: u64,
    pub(super) written: UnixTime,
}

/// Why a slice's file is not to be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damage {
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// It is longer or shorter than its slice.
    #[error("it has {0} bytes and not {1}")]
    Length(u64, u64),
    /// Its bytes are not those that were written.
    #[error("its bytes are not those that were written")]
    Digest,
}

impl Disk {
    /// Takes a directory, which is made if need be, sweeps away what was never finished, and tells
    /// what lies there, oldest first.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Lying>)> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::other("another process uses it"))?;
        let mut lying = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(UNFINISHED) {
                std::fs::remove_file(entry.path())?;
            } else if let Some(id) = id_of(&name) {
                let found = entry.metadata()?;
                let written = found.modified()?.duration_since(UNIX_EPOCH);
                lying.push(Lying {
                    id,
                    length: found.len(),
                    written: UnixTime(written.map_or(0, |since| since.as_secs())),
                });
            }
        }
        lying.sort_unstable_by_key(|slice| slice.written);
        let root = File::open(path)?;
        Ok((Self { root, _lock: lock }, lying))
    }

    /// Whether the directory is still the one at `path`.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let place = |found: io::Result<Metadata>| found.map(|found| (found.dev(), found.ino()));
        let (here, there) = (self.root.metadata(), std::fs::metadata(path));
        matches!((place(here), place(there)), (Ok(here), Ok(there)) if here == there)
    }

    /// Begins a slice, which has no name of its own until it is [`Writing::finish`]ed.
    pub(super) fn begin(self: &Arc<Self>, id: SliceId) -> io::Result<Writing> {
        let name = name_of(id);
        let unfinished = format!("{UNFINISHED}{name}");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = openat(&self.root, &unfinished, flags | OFlags::NOFOLLOW, mode)?;
        Ok(Writing {
            disk: Arc::clone(self),
            file: Arc::new(File::from(file)),
            hash: Sha256::new_with_prefix(&name),
            unfinished: Some(unfinished),
            name,
        })
    }

    /// Opens a slice of `length` bytes. Its bytes are looked at unless the file is still what it was
    /// when they were right.
    pub(super) fn open_slice(
        &self,
        id: SliceId,
        length: u64,
        known: Option<Version>,
    ) -> Result<Handle, Damage> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let name = name_of(id);
        let file = openat(&self.root, &name, flags, Mode::empty()).map_err(io::Error::from)?;
        let handle = Handle::new(File::from(file))?;
        let is = handle.version.length;
        if is != length + TRAILER {
            return Err(Damage::Length(is, length + TRAILER));
        }
        if known != Some(handle.version) {
            check(&handle.file, &name, length)?;
        }
        Ok(handle)
    }

    pub(super) fn remove(&self, id: SliceId) -> io::Result<()> {
        Ok(unlinkat(&self.root, name_of(id), AtFlags::empty())?)
    }
}

fn check(file: &File, name: &str, length: u64) -> Result<(), Damage> {
    let mut hash = Sha256::new_with_prefix(name);
    let mut buffer = vec![0; 64 * 1024];
    let mut content = file.take(length);
    loop {
        match content.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let mut trailer = [0; 32];
    file.read_exact_at(&mut trailer, length)?;
    if <[u8; 32]>::from(hash.finalize()) == trailer {
        Ok(())
    } else {
        Err(Damage::Digest)
    }
}

/// A slice that is being written. What is dropped leaves nothing behind.
pub(super) struct Writing {
    disk: Arc<Disk>,
    file: Arc<File>,
    hash: Sha256,
    name: String,
    unfinished: Option<String>,
}

impl Writing {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes)?;
        self.hash.update(bytes);
        Ok(())
    }

    /// The file so far, of which nothing is written twice.
    pub(super) fn so_far(&self) -> io::Result<Handle> {
        let mut handle = Handle::of_shared(Arc::clone(&self.file))?;
        handle.grows = true;
        Ok(handle)
    }

    /// Gives it its name. It need not be on the disk by then: what is not, is found out by its
    /// digest.
    pub(super) fn finish(mut self) -> io::Result<Handle> {
        let trailer: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
        (&*self.file).write_all(&trailer)?;
        if let Some(unfinished) = self.unfinished.take() {
            let root = &self.disk.root;
            let renamed = renameat(root, &unfinished, root, &self.name);
            renamed.inspect_err(|_| self.unfinished = Some(unfinished))?;
        }
        Handle::of_shared(Arc::clone(&self.file))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            // What stays is swept away at the next start, and never taken for a slice.
            let _ = unlinkat(&self.disk.root, unfinished, AtFlags::empty());
        }
    }
}

/// `{place}-{version}-{at}`, in 16 hex digits each.
fn name_of(id: SliceId) -> String {
    let ObjectId { place, version } = id.object;
    format!("{place:016x}-{version:016x}-{:016x}", id.at)
}

fn id_of(name: &str) -> Option<SliceId> {
    let mut numbers = name.splitn(3, '-');
    let mut number = || u64::from_str_radix(numbers.next()?, 16).ok();
    let (place, version, at) = (number()?, number()?, number()?);
    let object = ObjectId { place, version };
    let id = SliceId { object, at };
    // There is one spelling.
    (name_of(id) == name).then_some(id)
}
