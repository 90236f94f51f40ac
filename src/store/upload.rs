//! A recording that comes in parts: what has come stays, across connections and restarts, until it
//! is whole, given up, or too old.
//!
//! Two files stand for one: `{name}.part` holds the bytes, `{name}.upload` says for which recording
//! and how many. The length of the first is the offset at which the next part begins, except behind
//! a mark: bytes from there on count only once they have been checked. Where the second stands alone,
//! the bytes have got their place in the store.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, fsync, openat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::change::place;
use super::incoming::{Temporary, directory, random_name, size};
use super::place::digest;
use super::{ChangeError, Local, Put, Replace, StoreError, Version};
use crate::recording::{MediaPath, MediaType, RecordingId, UnixTime};

/// What is known of an upload besides its bytes.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    app: String,
    account: String,
    external: String,
    length: u64,
    format: Option<String>,
    /// Bytes from here on have not been checked.
    unchecked_from: Option<u64>,
}

/// An upload, locked against others who would go on with it.
#[derive(Debug)]
pub struct Upload {
    local: Arc<Local>,
    directory: Arc<OwnedFd>,
    name: String,
    recording: RecordingId,
    state: State,
    /// `None` when they have got their place.
    bytes: Option<Temporary>,
    offset: u64,
    modified: Option<UnixTime>,
}

impl Upload {
    /// Begins one of `length` bytes, which are said to be of this format.
    pub(super) fn begin(
        local: Arc<Local>,
        recording: RecordingId,
        length: u64,
        media: Option<MediaType>,
    ) -> Result<Self, ChangeError> {
        let directory = directory(&local)?;
        let name = random_name()?;
        let mut bytes = Temporary::named(&directory, part(&name))?;
        let state = State {
            app: recording.app.to_string(),
            account: recording.account.to_string(),
            external: recording.external.to_string(),
            length,
            format: media.map(|media| media.extension().to_owned()),
            unchecked_from: None,
        };
        bytes.keep = true;
        let modified = Version::of_file(&bytes.file)?.modified();
        let upload = Self {
            local,
            directory,
            name,
            recording,
            state,
            bytes: Some(bytes),
            offset: 0,
            modified,
        };
        upload.save()?;
        Ok(upload)
    }

    /// Goes on with the one of this name.
    pub(super) fn resume(local: Arc<Local>, name: &str) -> Result<Self, ChangeError> {
        let missing = || StoreError::NotFound("no such upload");
        let directory = directory(&local)?;
        let bytes = match Temporary::open(&directory, part(name)) {
            Err(ChangeError::Store(StoreError::NotFound(_))) => None,
            opened => Some(opened?),
        };
        let mut text = Vec::new();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file: File = match openat(&*directory, state(name), flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(missing().into()),
            opened => opened?.into(),
        };
        file.read_to_end(&mut text)?;
        let state: State = serde_json::from_slice(&text).map_err(StoreError::Record)?;
        let recording =
            RecordingId::new(&state.app, &state.account, &state.external).map_err(|_| missing())?;
        let last = bytes.as_ref().map_or(&file, |bytes| &bytes.file);
        let version = Version::of_file(last)?;
        let mut upload = Self {
            local,
            directory,
            name: name.to_owned(),
            recording,
            offset: match bytes {
                Some(_) => version.length,
                None => state.length,
            },
            state,
            bytes,
            modified: version.modified(),
        };
        // Whoever was to check them was cut off.
        upload.forget_unchecked()?;
        Ok(upload)
    }

    /// By which it is found again.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which recording it is to be.
    #[must_use]
    pub const fn recording(&self) -> &RecordingId {
        &self.recording
    }

    /// What its bytes are said to be.
    #[must_use]
    pub fn media(&self) -> Option<MediaType> {
        MediaType::from_extension(self.state.format.as_deref()?)
    }

    /// Bytes in all.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.state.length
    }

    /// Bytes so far.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// When the last of them came.
    #[must_use]
    pub const fn modified(&self) -> Option<UnixTime> {
        self.modified
    }

    /// Its bytes, all of which have come and have no place yet.
    #[must_use]
    pub fn whole(&self) -> Option<&File> {
        let bytes = self.bytes.as_ref()?;
        (self.offset == self.state.length).then_some(&bytes.file)
    }

    /// Takes the next bytes. Waits for the disk.
    ///
    /// # Errors
    /// [`ChangeError::TooLarge`] past its length, [`ChangeError::Full`], or the disk's; what was
    /// written of the bytes counts all the same.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ChangeError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let after = self.offset.saturating_add(size(bytes));
        let (Some(part), true) = (&self.bytes, after <= self.state.length) else {
            return Err(ChangeError::TooLarge(self.state.length));
        };
        (&part.file).seek(SeekFrom::Start(self.offset))?;
        (&part.file).write_all(bytes)?;
        self.offset = after;
        Ok(())
    }

    /// From here on bytes are to be checked before they count.
    ///
    /// # Errors
    /// The disk's.
    pub fn mark(&mut self) -> Result<(), ChangeError> {
        self.state.unchecked_from = Some(self.offset);
        self.save()
    }

    /// Ends a part: brings it to the disk, and counts what was to be checked if it held.
    ///
    /// # Errors
    /// The disk's.
    pub fn end_part(&mut self, holds: bool) -> Result<(), ChangeError> {
        if !holds {
            return self.forget_unchecked();
        }
        if let Some(bytes) = &self.bytes {
            bytes.file.sync_all()?;
        }
        if self.state.unchecked_from.take().is_some() {
            self.save()?;
        }
        Ok(())
    }

    fn forget_unchecked(&mut self) -> Result<(), ChangeError> {
        let Some(offset) = self.state.unchecked_from else {
            return Ok(());
        };
        if let Some(bytes) = &self.bytes {
            bytes.file.set_len(offset)?;
            self.offset = offset;
        }
        self.state.unchecked_from = None;
        self.save()
    }

    /// Gives it its place, as [`Incoming::put`](super::Incoming::put) does.
    ///
    /// # Errors
    /// [`ChangeError`]; it can be tried again.
    pub fn put(
        &self,
        path: &MediaPath,
        audio: Option<serde_json::Value>,
    ) -> Result<Put, ChangeError> {
        let bytes = self.bytes.as_ref();
        let bytes = bytes.ok_or(StoreError::NotFound("it has its place already"))?;
        let sha256 = digest(&bytes.file)?;
        let put = place(&self.local, bytes, sha256, path, &Replace::Never, audio)?;
        remove(&self.directory, &part(&self.name))?;
        Ok(put)
    }

    /// Gives it up.
    ///
    /// # Errors
    /// The disk's.
    pub fn give_up(self) -> Result<(), ChangeError> {
        // In this order: bytes alone are nothing, a state alone is an upload that was put.
        remove(&self.directory, &state(&self.name))?;
        remove(&self.directory, &part(&self.name))?;
        Ok(())
    }

    fn save(&self) -> Result<(), ChangeError> {
        let text = serde_json::to_vec(&self.state).map_err(StoreError::Record)?;
        let written = Temporary::holding(&self.local, &text)?;
        written.rename(&*self.directory, &state(&self.name))?;
        fsync(&*self.directory)?;
        Ok(())
    }
}

const PART: &str = "part";
const STATE: &str = "upload";

fn part(name: &str) -> String {
    format!("{name}.{PART}")
}

fn state(name: &str) -> String {
    format!("{name}.{STATE}")
}

fn remove(directory: &OwnedFd, name: &str) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

/// Whether a file, last modified then, is of an upload that may still go on.
pub(super) fn is_to_stay(
    directory: &OwnedFd,
    name: &str,
    modified: Option<UnixTime>,
    before: UnixTime,
) -> bool {
    let there = |name: String| {
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| Version::of(&stat).modified() >= Some(before))
    };
    let young = modified >= Some(before);
    match name.rsplit_once('.') {
        // Both are as old as the younger of them; bytes without a state are nothing.
        Some((name, PART)) => {
            let stated = rustix::fs::accessat(
                directory,
                state(name),
                rustix::fs::Access::EXISTS,
                AtFlags::empty(),
            );
            stated.is_ok() && (young || there(state(name)))
        }
        Some((name, STATE)) => young || there(part(name)),
        _ => false,
    }
}
