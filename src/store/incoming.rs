//! A recording on its way into the store: bytes that are hashed as they come and lie where no
//! request can find them, until [`Incoming::put`] gives them their place.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::beneath::failure;
use super::upload::is_to_stay;
use super::{ChangeError, Local, Store, StoreError, Version};
use crate::recording::{UnixTime, hex};

/// The directory of files that are no recordings yet, beneath the store's root and so on its file
/// system. No id holds a `+`: no path of the media route leads here.
const DIRECTORY: &str = "+incoming";

/// A recording on its way into the store. What is dropped leaves nothing behind, and what a killed
/// process leaves behind, [`sweep`](super::Store::sweep) takes away.
///
/// All of its calls wait for the disk.
pub struct Incoming {
    pub(super) way: Way,
    hash: Sha256,
    length: u64,
    limit: u64,
}

/// Where the bytes lie until they have a place.
pub(super) enum Way {
    /// On the store's own disk, where a rename gives them their place.
    Local(Arc<Local>, Temporary),
    /// In a file of this machine without a name, since a sound is judged before it is sent.
    #[cfg(feature = "object")]
    Bucket(Arc<super::Object>, File),
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Incoming {
    /// An empty one, that takes no more than `limit` bytes.
    pub(super) fn begin(store: &Store, limit: u64) -> Result<Self, ChangeError> {
        let way = match store {
            Store::Local(local) => {
                let file = Temporary::create(&directory(local)?)?;
                Way::Local(Arc::clone(local), file)
            }
            #[cfg(feature = "object")]
            Store::Object(object) => Way::Bucket(Arc::clone(object), tempfile::tempfile()?),
        };
        Ok(Self {
            way,
            hash: Sha256::new(),
            length: 0,
            limit,
        })
    }

    /// Takes further bytes.
    ///
    /// # Errors
    /// [`ChangeError::TooLarge`] past the limit, [`ChangeError::Full`], or the disk's.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ChangeError> {
        let length = self.length.saturating_add(size(bytes));
        if length > self.limit {
            return Err(ChangeError::TooLarge(self.limit));
        }
        self.file().write_all(bytes)?;
        self.hash.update(bytes);
        self.length = length;
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// SHA-256 of the bytes so far.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// The bytes so far, to be looked at; its position is where the next bytes are written, so that
    /// it is to be read by offsets.
    #[must_use]
    pub const fn file(&self) -> &File {
        match &self.way {
            Way::Local(_, temporary) => &temporary.file,
            #[cfg(feature = "object")]
            Way::Bucket(_, file) => file,
        }
    }
}

/// A file that loses its temporary name when it is dropped. While it lives it is locked, which is
/// how a sweep tells it from what a killed process left behind.
#[derive(Debug)]
pub(super) struct Temporary {
    directory: Arc<OwnedFd>,
    name: String,
    pub(super) file: File,
    /// The name stays when this is dropped.
    pub(super) keep: bool,
}

impl Temporary {
    fn create(directory: &Arc<OwnedFd>) -> Result<Self, ChangeError> {
        Self::named(directory, random_name()?)
    }

    /// A new one of this name.
    pub(super) fn named(directory: &Arc<OwnedFd>, name: String) -> Result<Self, ChangeError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        loop {
            let file = rustix::fs::openat(&**directory, &*name, flags | OFlags::CLOEXEC, mode)?;
            flock(&file, FlockOperation::LockExclusive)?;
            // A sweep may have come between the two.
            if fstat(&file)?.st_nlink > 0 {
                return Ok(Self {
                    directory: Arc::clone(directory),
                    name,
                    file: file.into(),
                    keep: false,
                });
            }
        }
    }

    /// One that is there, and stays.
    pub(super) fn open(directory: &Arc<OwnedFd>, name: String) -> Result<Self, ChangeError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let missing = StoreError::NotFound("no such upload");
        let file = match rustix::fs::openat(&**directory, &*name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(missing.into()),
            opened => opened?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(ChangeError::Busy),
            locked => locked?,
        }
        if fstat(&file)?.st_nlink == 0 {
            return Err(missing.into());
        }
        Ok(Self {
            directory: Arc::clone(directory),
            name,
            file: file.into(),
            keep: true,
        })
    }

    /// One that holds these bytes, safe on the disk.
    pub(super) fn holding(local: &Local, bytes: &[u8]) -> Result<Self, ChangeError> {
        let temporary = Self::create(&directory(local)?)?;
        (&temporary.file).write_all(bytes)?;
        temporary.file.sync_all()?;
        Ok(temporary)
    }

    /// Gives it a further name, if nothing has that name.
    pub(super) fn link(&self, directory: impl AsFd, name: &str) -> Result<(), Errno> {
        let from = &*self.directory;
        rustix::fs::linkat(from, &*self.name, directory, name, AtFlags::empty())
    }

    /// Gives it another name, which what had it loses.
    pub(super) fn rename(&self, directory: impl AsFd, name: &str) -> Result<(), Errno> {
        rustix::fs::renameat(&*self.directory, &*self.name, directory, name)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // Gone already when it was renamed; else a sweep comes by.
        let _ = rustix::fs::unlinkat(&*self.directory, &*self.name, AtFlags::empty());
    }
}

/// The directory of what is on its way, made where it is missing.
pub(super) fn directory(local: &Local) -> Result<Arc<OwnedFd>, ChangeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(local.root(), DIRECTORY, flags, Mode::empty());
    let opened = match open() {
        Err(Errno::NOENT) => match rustix::fs::mkdirat(local.root(), DIRECTORY, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => open(),
            Err(errno) => Err(errno),
        },
        opened => opened,
    };
    Ok(Arc::new(opened?))
}

/// Whether the file system has room for so many bytes: the store's, or that of what is on its way
/// into a bucket.
pub(super) fn room_for(store: &Store, length: u64) -> Result<(), ChangeError> {
    let free = match store {
        Store::Local(local) => rustix::fs::fstatvfs(local.root())?,
        #[cfg(feature = "object")]
        Store::Object(_) => rustix::fs::statvfs(tempfile::env::temp_dir())?,
    };
    if free.f_bavail.saturating_mul(free.f_frsize) < length {
        return Err(Errno::NOSPC.into());
    }
    Ok(())
}

/// Takes away what nobody is writing, of uploads in parts what has not changed since `before`; how
/// many files that were.
pub(super) fn sweep(local: &Local, before: UnixTime) -> Result<usize, ChangeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(local.root(), DIRECTORY, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(0),
        opened => opened?,
    };
    let mut swept = 0;
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(&directory, entry.file_name(), flags, Mode::empty())
        else {
            continue;
        };
        let stat = fstat(&file)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let name = entry.file_name().to_string_lossy();
        let modified = Version::of(&stat).modified();
        let stays = !is_file || is_to_stay(&directory, &name, modified, before);
        if !stays && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            rustix::fs::unlinkat(&directory, entry.file_name(), AtFlags::empty())?;
            swept += 1;
        }
    }
    Ok(swept)
}

pub(super) fn random_name() -> Result<String, ChangeError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| failure(io::Error::other(error)))?;
    Ok(hex(&bytes))
}

pub(super) fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
