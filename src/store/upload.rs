//! A recording that comes in parts: what has come stays, across connections and restarts, until it
//! is whole, given up, or too old.
//!
//! Two files stand for one: `{name}.part` holds the bytes, `{name}.upload` says for which recording
//! and how many. The length of the first is the offset at which the next part begins, except behind
//! a mark: bytes from there on count only once they have been checked. Where the second stands alone,
//! the bytes have got their place in the store. In a bucket the bytes are objects (`object/parts.rs`),
//! so that any replica goes on with them.

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
use super::{ChangeError, Local, Put, Replace, Store, StoreError, Version};
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
    /// Said in a bucket of bytes that have got their place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    placed: bool,
}

/// Where the bytes lie.
#[derive(Debug)]
enum Ground {
    Local {
        local: Arc<Local>,
        directory: Arc<OwnedFd>,
        /// `None` when they have got their place.
        bytes: Option<Temporary>,
    },
    #[cfg(feature = "object")]
    Bucket(super::object::Parts),
}

/// An upload, locked against others who would go on with it.
#[derive(Debug)]
pub struct Upload {
    ground: Ground,
    name: String,
    recording: RecordingId,
    state: State,
    offset: u64,
    modified: Option<UnixTime>,
}

impl Upload {
    /// Begins one of `length` bytes, which are said to be of this format.
    pub(super) fn begin(
        store: &Store,
        recording: RecordingId,
        length: u64,
        media: Option<MediaType>,
    ) -> Result<Self, ChangeError> {
        let name = random_name()?;
        let state = State {
            app: recording.app.to_string(),
            account: recording.account.to_string(),
            external: recording.external.to_string(),
            length,
            format: media.map(|media| media.extension().to_owned()),
            unchecked_from: None,
            placed: false,
        };
        let mut upload = Self {
            ground: match store {
                Store::Local(local) => {
                    let directory = directory(local)?;
                    let mut bytes = Temporary::named(&directory, part(&name))?;
                    bytes.keep = true;
                    Ground::Local {
                        local: Arc::clone(local),
                        directory,
                        bytes: Some(bytes),
                    }
                }
                #[cfg(feature = "object")]
                Store::Object(object) => {
                    Ground::Bucket(super::object::Parts::begin(object, &name)?)
                }
            },
            name,
            recording,
            state,
            offset: 0,
            modified: None,
        };
        upload.modified = upload.save()?;
        Ok(upload)
    }

    /// Goes on with the one of this name.
    pub(super) fn resume(store: &Store, name: &str) -> Result<Self, ChangeError> {
        let Found {
            ground,
            text,
            offset,
            modified,
        } = match store {
            Store::Local(local) => find_local(local, name)?,
            #[cfg(feature = "object")]
            Store::Object(object) => {
                let (parts, text, modified) = super::object::Parts::resume(object, name)?;
                Found {
                    offset: Some(parts.length()),
                    ground: Ground::Bucket(parts),
                    text,
                    modified,
                }
            }
        };
        let state: State = serde_json::from_slice(&text).map_err(StoreError::Record)?;
        let recording = RecordingId::new(&state.app, &state.account, &state.external);
        let mut upload = Self {
            ground,
            name: name.to_owned(),
            recording: recording.map_err(|_| MISSING)?,
            offset: offset.filter(|_| !state.placed).unwrap_or(state.length),
            state,
            modified,
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

    /// Its bytes, if all of them have come and have no place yet.
    ///
    /// # Errors
    /// They cannot be had.
    pub fn whole(&self) -> Result<Option<File>, ChangeError> {
        if self.offset != self.state.length || self.state.placed {
            return Ok(None);
        }
        match &self.ground {
            Ground::Local { bytes, .. } => {
                let bytes = bytes.as_ref().map(|bytes| bytes.file.try_clone());
                Ok(bytes.transpose()?)
            }
            #[cfg(feature = "object")]
            Ground::Bucket(parts) => Ok(Some(parts.gathered()?)),
        }
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
        if after > self.state.length {
            return Err(ChangeError::TooLarge(self.state.length));
        }
        match &mut self.ground {
            Ground::Local {
                bytes: Some(part), ..
            } => {
                (&part.file).seek(SeekFrom::Start(self.offset))?;
                (&part.file).write_all(bytes)?;
            }
            Ground::Local { bytes: None, .. } => {
                return Err(ChangeError::TooLarge(self.state.length));
            }
            #[cfg(feature = "object")]
            Ground::Bucket(parts) => parts.write(bytes)?,
        }
        self.offset = after;
        Ok(())
    }

    /// From here on bytes are to be checked before they count.
    ///
    /// # Errors
    /// The disk's.
    pub fn mark(&mut self) -> Result<(), ChangeError> {
        match &mut self.ground {
            Ground::Local { .. } => {
                self.state.unchecked_from = Some(self.offset);
                self.save().map(drop)
            }
            // They go no further than this machine before.
            #[cfg(feature = "object")]
            Ground::Bucket(parts) => {
                parts.mark();
                Ok(())
            }
        }
    }

    /// Ends a part: brings it to the disk, and counts what was to be checked if it held.
    ///
    /// # Errors
    /// The disk's.
    pub fn end_part(&mut self, holds: bool) -> Result<(), ChangeError> {
        match &mut self.ground {
            _ if !holds => return self.forget_unchecked(),
            Ground::Local { bytes, .. } => {
                if let Some(bytes) = bytes {
                    bytes.file.sync_all()?;
                }
            }
            #[cfg(feature = "object")]
            Ground::Bucket(parts) => parts.end()?,
        }
        if self.state.unchecked_from.take().is_some() {
            self.save()?;
        }
        Ok(())
    }

    fn forget_unchecked(&mut self) -> Result<(), ChangeError> {
        let offset = self.state.unchecked_from.take();
        let bytes = match &mut self.ground {
            Ground::Local { bytes, .. } => bytes.as_ref(),
            #[cfg(feature = "object")]
            Ground::Bucket(_) if self.state.placed => return Ok(()),
            #[cfg(feature = "object")]
            Ground::Bucket(parts) => {
                self.offset = parts.forget()?;
                return Ok(());
            }
        };
        let Some(offset) = offset else {
            return Ok(());
        };
        if let Some(bytes) = bytes {
            bytes.file.set_len(offset)?;
            self.offset = offset;
        }
        self.save().map(drop)
    }

    /// Gives its `whole` bytes their place, as [`Incoming::put`](super::Incoming::put) does.
    ///
    /// # Errors
    /// [`ChangeError`]; it can be tried again.
    pub fn put(
        &mut self,
        whole: &File,
        path: &MediaPath,
        audio: Option<serde_json::Value>,
    ) -> Result<Put, ChangeError> {
        let sha256 = digest(whole)?;
        match &self.ground {
            Ground::Local {
                local,
                directory,
                bytes,
            } => {
                let bytes = bytes.as_ref();
                let bytes = bytes.ok_or(StoreError::NotFound("it has its place already"))?;
                let put = place(local, bytes, sha256, path, &Replace::Never, audio)?;
                remove(directory, &part(&self.name))?;
                Ok(put)
            }
            #[cfg(feature = "object")]
            Ground::Bucket(parts) => {
                let put = parts
                    .object
                    .put(whole, sha256, path, &Replace::Never, audio)?;
                self.state.placed = true;
                self.save()?;
                parts.remove()?;
                Ok(put)
            }
        }
    }

    /// Gives it up.
    ///
    /// # Errors
    /// The disk's.
    pub fn give_up(self) -> Result<(), ChangeError> {
        match &self.ground {
            Ground::Local { directory, .. } => {
                // In this order: bytes alone are nothing, a state alone is an upload that was put.
                remove(directory, &state(&self.name))?;
                remove(directory, &part(&self.name))?;
                Ok(())
            }
            #[cfg(feature = "object")]
            Ground::Bucket(parts) => parts.give_up(),
        }
    }

    /// Writes down its state, and says when that was.
    fn save(&self) -> Result<Option<UnixTime>, ChangeError> {
        let text = serde_json::to_vec(&self.state).map_err(StoreError::Record)?;
        match &self.ground {
            Ground::Local {
                local, directory, ..
            } => {
                let written = Temporary::holding(local, &text)?;
                written.rename(&**directory, &state(&self.name))?;
                fsync(&**directory)?;
                Ok(Version::of_file(&written.file)?.modified())
            }
            #[cfg(feature = "object")]
            Ground::Bucket(parts) => parts.save(text),
        }
    }
}

const MISSING: StoreError = StoreError::NotFound("no such upload");

/// What there is of an upload.
struct Found {
    ground: Ground,
    /// Its state, as it was saved.
    text: Vec<u8>,
    /// Bytes so far; `None` when they have got their place.
    offset: Option<u64>,
    modified: Option<UnixTime>,
}

fn find_local(local: &Arc<Local>, name: &str) -> Result<Found, ChangeError> {
    let directory = directory(local)?;
    let bytes = match Temporary::open(&directory, part(name)) {
        Err(ChangeError::Store(StoreError::NotFound(_))) => None,
        opened => Some(opened?),
    };
    let mut text = Vec::new();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file: File = match openat(&*directory, state(name), flags, Mode::empty()) {
        Err(Errno::NOENT) => return Err(MISSING.into()),
        opened => opened?.into(),
    };
    file.read_to_end(&mut text)?;
    let last = bytes.as_ref().map_or(&file, |bytes| &bytes.file);
    let version = Version::of_file(last)?;
    Ok(Found {
        offset: bytes.as_ref().map(|_| version.length),
        ground: Ground::Local {
            local: Arc::clone(local),
            directory,
            bytes,
        },
        text,
        modified: version.modified(),
    })
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
