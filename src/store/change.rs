//! Changes of the store: a recording put into its place, held, or erased.
//!
//! A recording changes whole or not at all: what is new is written elsewhere, brought to the disk,
//! and renamed into place. Whoever changes one holds the lock of its directory, so that what was
//! found there still holds when it is acted upon, in this process and in others.
//!
//! An id has one recording in one format: a put of another format replaces the former, or is
//! refused like other bytes are. Files that were placed by other means may stand side by side; then
//! the first format is served, as ever.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::beneath::failure;
use super::firsts::Firsts;
use super::incoming::{Incoming, Temporary, Way};
use super::place::{Place, facts};
use super::{Local, Record, StoreError, Version};
use crate::recording::{EntityTag, Id, MediaPath, RecordingId, UnixTime, hex};

/// What may be lost to a recording that is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replace {
    /// Nothing.
    Never,
    /// The recording of this tag, and no other.
    Version(EntityTag),
    /// Whatever is there.
    Always,
}

/// What became of a recording that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// There was none of this id.
    Created,
    /// The same bytes were there; nothing was done to them.
    Same,
    /// Other bytes, or the same in another format, are gone.
    Replaced,
}

/// A recording that is in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// How it came to be there.
    pub done: Done,
    /// Its tag, the digest of its bytes.
    pub etag: EntityTag,
    /// Its record.
    pub record: Record,
}

/// A recording as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Where.
    pub path: MediaPath,
    /// In bytes.
    pub length: u64,
    /// When it was last modified; `None` before 1970.
    pub modified: Option<UnixTime>,
    /// Its tag.
    pub etag: EntityTag,
}

/// A file that was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// Where it lay.
    pub path: MediaPath,
    /// In bytes.
    pub length: u64,
    /// SHA-256 of its bytes, in hex digits.
    pub sha256: String,
}

/// Why the store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Another recording has this id.
    #[error("another recording has this id")]
    Taken,
    /// Its record says that it must stay.
    #[error("the recording is under legal hold")]
    Held,
    /// It is younger than what was to be erased.
    #[error("the recording is not that old")]
    Young,
    /// More bytes than this.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// Somebody else is bringing or changing it.
    #[error("somebody else is bringing or changing it")]
    Busy,
    /// The disk is full, or the quota used up, or a file may not be that large here.
    #[error("the disk is full")]
    Full(#[source] io::Error),
    /// The bucket puts where it was asked not to: two who put at once would lose what one of them
    /// was told is there.
    #[error(
        "the bucket does not keep to If-None-Match and If-Match of a put, and is not written to"
    )]
    Unguarded,
    /// It was erased, it is not there, or the store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<io::Error> for ChangeError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Self::Full(error),
            _ => Self::Store(failure(error)),
        }
    }
}

impl From<Errno> for ChangeError {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl Incoming {
    /// Gives it its place, with what is known of its sound, once its bytes are safe on the disk.
    /// When this returns, it is served.
    ///
    /// # Errors
    /// [`ChangeError`]; the store is then as it was, and no byte of this one is kept. (Where the disk
    /// fails in the very last step, the recording may be there; putting it again completes it.)
    pub fn put(
        self,
        path: &MediaPath,
        replace: &Replace,
        audio: Option<serde_json::Value>,
    ) -> Result<Put, ChangeError> {
        let sha256 = self.sha256();
        match &self.way {
            Way::Local(local, file) => place(local, file, sha256, path, replace, audio),
            #[cfg(feature = "object")]
            Way::Bucket(object, file) => object.put(file, sha256, path, replace, audio),
        }
    }
}

/// Gives a file that holds a recording its place, and takes none of its names away.
pub(super) fn place(
    local: &Local,
    file: &Temporary,
    sha256: [u8; 32],
    path: &MediaPath,
    replace: &Replace,
    audio: Option<serde_json::Value>,
) -> Result<Put, ChangeError> {
    // The longest wait, and nobody else has to wait for it.
    file.file.sync_all()?;
    let place = Place::make(local, &path.recording)?;
    let old = place.record()?;
    if old.erased_at.is_some() {
        return Err(StoreError::Erased.into());
    }
    let there = place.present(&old)?;
    let same = there.iter().find(|present| present.path == *path);
    let others = there.iter().filter(|present| present.path != *path);
    if let Some(same) = same
        && place.sha256(same, &old)? == sha256
    {
        let may_replace = check(&there, replace, &old).is_ok();
        let put = place.complete(same, &old, audio)?;
        // A put that was cut off may have left the former format.
        if may_replace {
            place.remove(others)?;
        }
        return Ok(put);
    }
    check(&there, replace, &old)?;
    let record = Record {
        file: Some(facts(Version::of_file(&file.file)?, sha256)?),
        damaged: None,
        audio,
        ..old
    };
    let written = Temporary::holding(local, &record.text()?)?;
    let name = path.file_name();
    if same.is_some() {
        file.rename(&place.directory, &name)?;
    } else {
        file.link(&place.directory, &name)
            .map_err(|errno| match errno {
                // Something that is no recording, or that came by other means just now.
                Errno::EXIST => ChangeError::Taken,
                errno => errno.into(),
            })?;
    }
    place.take(&written)?;
    place.remove(others)?;
    Ok(Put {
        done: if there.is_empty() {
            Done::Created
        } else {
            Done::Replaced
        },
        etag: EntityTag::from_sha256(&sha256),
        record,
    })
}

/// Whether what is there may be lost.
pub(super) fn check(
    there: &[Present],
    replace: &Replace,
    record: &Record,
) -> Result<(), ChangeError> {
    let may = match replace {
        Replace::Never => there.is_empty(),
        // What was to be replaced is gone, or still there.
        Replace::Version(tag) => there.iter().any(|present| present.etag == *tag),
        Replace::Always => true,
    };
    match may {
        false => Err(ChangeError::Taken),
        true if record.legal_hold && !there.is_empty() => Err(ChangeError::Held),
        true => Ok(()),
    }
}

impl Local {
    /// Every file of this id there is, and its record.
    pub(super) fn present(&self, id: &RecordingId) -> Result<(Vec<Present>, Record), ChangeError> {
        let place = Place::find(self, id)?;
        let record = place.record()?;
        Ok((place.present(&record)?, record))
    }

    /// Visits every recording by its first file, one account at a time.
    pub(super) fn each(&self, mut visit: impl FnMut(MediaPath)) -> io::Result<()> {
        self.each_account(|mut files| {
            files.sort_by_cached_key(MediaPath::store_path);
            let mut firsts = Firsts::default();
            files.retain(|file| firsts.is_first(file));
            files.into_iter().for_each(&mut visit);
        })
    }

    /// Visits the files of one account after the other.
    fn each_account(&self, mut visit: impl FnMut(Vec<MediaPath>)) -> io::Result<()> {
        let sorted = |path: &Path| {
            let mut names = names(path)?;
            names.sort_by_cached_key(|name| format!("{name}/"));
            Ok::<_, io::Error>(names)
        };
        for app in sorted(self.path())? {
            // Other directories may be none of ours to read.
            if Id::new(&app).is_err() {
                continue;
            }
            for account in sorted(&self.path().join(&app))? {
                let files = names(&self.path().join(&app).join(&account))?;
                let path = |file| format!("{}{app}/{account}/{file}", MediaPath::PREFIX);
                let found = files
                    .iter()
                    .filter_map(|file| MediaPath::parse(&path(file)));
                visit(found.collect());
            }
        }
        Ok(())
    }

    /// Erases a recording and what its record knows, except that it was erased; `before` spares
    /// what was modified then or later.
    pub(super) fn erase(
        &self,
        id: &RecordingId,
        before: Option<UnixTime>,
        now: &str,
        audit: impl FnMut(&Erased),
    ) -> Result<Vec<Erased>, ChangeError> {
        let place = Place::find(self, id)?;
        let record = place.record()?;
        let there = place.present_files(&record)?;
        if there.is_empty() && record == Record::default() {
            return Err(StoreError::NotFound("nothing to erase").into());
        }
        if record.legal_hold {
            return Err(ChangeError::Held);
        }
        let young = |present: &Present| before.is_some_and(|time| present.modified >= Some(time));
        if there.iter().any(young) {
            return Err(ChangeError::Young);
        }
        let mut erased = Vec::new();
        for present in &there {
            erased.push(Erased {
                path: present.path.clone(),
                length: present.length,
                sha256: hex(&place.sha256(present, &record)?),
            });
        }
        // First what makes the URL answer that it is gone: it stays so, whatever comes between.
        if record.erased_at.is_none() {
            let text = record.erased(now).text()?;
            place.take(&Temporary::holding(self, &text)?)?;
        }
        erased.iter().for_each(audit);
        place.remove(&there)?;
        Ok(erased)
    }

    /// Puts a recording under legal hold, or ends that.
    pub(super) fn hold(&self, id: &RecordingId, legal_hold: bool) -> Result<(), ChangeError> {
        let place = Place::find(self, id)?;
        let record = place.record()?;
        if record.erased_at.is_some() {
            return Err(StoreError::Erased.into());
        }
        if place.present(&record)?.is_empty() {
            return Err(StoreError::NotFound("nothing to hold").into());
        }
        if record.legal_hold != legal_hold {
            let text = Record {
                legal_hold,
                ..record
            }
            .text()?;
            place.take(&Temporary::holding(self, &text)?)?;
        }
        Ok(())
    }
}

impl Local {
    /// Puts what HubSpot knows of a recording into its record, if what it knew is still `was`.
    pub(super) fn remember(
        &self,
        id: &RecordingId,
        was: Option<&serde_json::Value>,
        hubspot: &serde_json::Value,
    ) -> Result<(), ChangeError> {
        let place = Place::find(self, id)?;
        let record = place.record()?;
        if record.erased_at.is_some() {
            return Err(StoreError::Erased.into());
        }
        if record.hubspot.as_ref() != was {
            return Err(ChangeError::Busy);
        }
        let text = Record {
            hubspot: Some(hubspot.clone()),
            ..record
        }
        .text()?;
        place.take(&Temporary::holding(self, &text)?)
    }

    /// Keeps other processes from publishing the recording at `path` for as long as the file is
    /// held; `None` where another one does.
    pub(super) fn claim(&self, path: &MediaPath) -> Result<Option<File>, ChangeError> {
        let (file, _) = self.open_file(&path.store_path())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Every recording there is, in the order of their ids.
    pub(super) fn all(&self) -> io::Result<Vec<MediaPath>> {
        let mut found = Vec::new();
        self.each_account(|files| found.extend(files))?;
        found.sort_unstable_by_key(MediaPath::store_path);
        Ok(found)
    }
}

/// The names in a directory; what is no directory holds none.
fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is no text is none of ours.
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
