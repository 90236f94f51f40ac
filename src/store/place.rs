//! The place of a recording: its directory, locked, and what lies there.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fsync};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::beneath::open_beneath;
use super::change::{ChangeError, Done, Present, Put};
use super::incoming::{Temporary, size};
use super::record::FileFacts;
use super::{Local, Record, StoreError, Version};
use crate::recording::{EntityTag, Id, MediaPath, MediaType, RecordingId, hex};

/// Where a recording lies or will lie, locked against other changes.
pub(super) struct Place<'a> {
    local: &'a Local,
    id: &'a RecordingId,
    pub(super) directory: OwnedFd,
}

/// Whatever was changed here is looked up anew by whoever asks next.
impl Drop for Place<'_> {
    fn drop(&mut self) {
        for media in MediaType::ALL {
            let recording = self.id.clone();
            self.local.forget(&MediaPath { recording, media });
        }
    }
}

const OPENING: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl<'a> Place<'a> {
    /// A place that is there.
    pub(super) fn find(local: &'a Local, id: &'a RecordingId) -> Result<Self, ChangeError> {
        match open_beneath(local.root(), &id.directory(), OPENING) {
            Err(Errno::NOENT | Errno::NOTDIR) => Err(StoreError::NotFound("no such place").into()),
            opened => Self::lock(local, id, opened?),
        }
    }

    /// A place, made if it is not there.
    pub(super) fn make(local: &'a Local, id: &'a RecordingId) -> Result<Self, ChangeError> {
        let open = || open_beneath(local.root(), &id.directory(), OPENING);
        let opened = match open() {
            Err(Errno::NOENT) => {
                make_directory(local.root(), &id.app)?;
                let app = open_beneath(local.root(), id.app.as_str(), OPENING)?;
                make_directory(&app, &id.account)?;
                open()
            }
            opened => opened,
        };
        Self::lock(local, id, opened?)
    }

    fn lock(
        local: &'a Local,
        id: &'a RecordingId,
        directory: OwnedFd,
    ) -> Result<Self, ChangeError> {
        flock(&directory, FlockOperation::LockExclusive)?;
        Ok(Self {
            local,
            id,
            directory,
        })
    }

    pub(super) fn record(&self) -> Result<Record, StoreError> {
        self.local.record(self.id)
    }

    /// The recording in every format it has; an erased one has none.
    pub(super) fn present(&self, record: &Record) -> Result<Vec<Present>, StoreError> {
        if record.erased_at.is_some() {
            return Ok(Vec::new());
        }
        self.present_files(record)
    }

    pub(super) fn present_files(&self, record: &Record) -> Result<Vec<Present>, StoreError> {
        let mut found = Vec::new();
        for media in MediaType::ALL {
            let path = MediaPath {
                recording: self.id.clone(),
                media,
            };
            match self.local.open_file(&path.store_path()) {
                Ok((_, version)) => found.push(Present {
                    path,
                    length: version.length,
                    modified: version.modified(),
                    etag: version.etag(record),
                }),
                Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The digest of a file's bytes, by the record or by the bytes.
    pub(super) fn sha256(
        &self,
        present: &Present,
        record: &Record,
    ) -> Result<[u8; 32], ChangeError> {
        let (file, version) = self.local.open_file(&present.path.store_path())?;
        match record.sha256(version) {
            Some(digest) => Ok(digest),
            None => Ok(digest(&file)?),
        }
    }

    /// Adds to the record of a recording that was there already what it does not say yet.
    pub(super) fn complete(
        &self,
        same: &Present,
        old: &Record,
        audio: Option<serde_json::Value>,
    ) -> Result<Put, ChangeError> {
        let (_, version) = self.local.open_file(&same.path.store_path())?;
        let sha256 = self.sha256(same, old)?;
        let record = Record {
            file: Some(facts(version, sha256)?),
            damaged: None,
            audio: old.audio.clone().or(audio),
            ..old.clone()
        };
        if record != *old {
            self.take(&Temporary::holding(self.local, &record.text()?)?)?;
        }
        Ok(Put {
            done: Done::Same,
            etag: EntityTag::from_sha256(&sha256),
            record,
        })
    }

    /// Puts a record into its place, and brings all names of the place to the disk.
    pub(super) fn take(&self, record: &Temporary) -> Result<(), ChangeError> {
        record.rename(&self.directory, &format!("{}.json", self.id.external))?;
        fsync(&self.directory)?;
        Ok(())
    }

    pub(super) fn remove<'b>(
        &self,
        files: impl IntoIterator<Item = &'b Present>,
    ) -> Result<(), ChangeError> {
        let mut removed = false;
        for present in files {
            let name = present.path.file_name();
            rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())?;
            removed = true;
        }
        if removed {
            fsync(&self.directory)?;
        }
        Ok(())
    }
}

/// Makes a directory that outlasts a crash.
fn make_directory(parent: &OwnedFd, name: &Id) -> Result<(), Errno> {
    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP;
    match rustix::fs::mkdirat(parent, name.as_str(), mode) {
        Ok(()) => fsync(parent),
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

pub(super) fn facts(version: Version, sha256: [u8; 32]) -> Result<FileFacts, ChangeError> {
    let modified_ns = i64::try_from(version.modified_ns).map_err(io::Error::other)?;
    Ok(FileFacts {
        size: version.length,
        modified_ns,
        sha256: hex(&sha256),
        etag: None,
    })
}

/// SHA-256 of a whole file.
pub(super) fn digest(file: &File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset)? {
            0 => return Ok(hash.finalize().into()),
            count => {
                hash.update(&buffer[..count]);
                offset += size(&buffer[..count]);
            }
        }
    }
}
