//! Recordings held against the digests of their records.
//!
//! A scrub reads and says what it found; marking is another step. A record that is marked names the
//! version that was read: that one is served to nobody, and a good one in its place again.

use std::fs::File;
use std::io::Read as _;

use sha2::{Digest as _, Sha256};

use super::incoming::Temporary;
use super::place::{Place, facts};
use super::{ChangeError, FileFacts, Local, Present, Record, StoreError};
use crate::recording::{MediaPath, RecordingId};

/// Read at a time, in bytes.
const CHUNK: usize = 256 * 1024;
/// How often a recording is read anew that was changed while it was read.
pub(super) const ROUNDS: u32 = 4;

/// What a file is, by its record's digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes are those that were put.
    Good,
    /// Its record has no digest: it came by other means, or is in another format than was put.
    WithoutDigest,
    /// Other bytes, though nobody has written to the file.
    Rotten,
    /// Other bytes, written after it was put.
    Changed,
}

impl Verdict {
    /// In one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::WithoutDigest => "without_digest",
            Self::Rotten => "rotten",
            Self::Changed => "changed",
        }
    }

    /// Whether they are other bytes than were put.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Rotten | Self::Changed)
    }
}

/// A file that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where it lies.
    pub path: MediaPath,
    /// What it is.
    pub verdict: Verdict,
    /// What was read, where the record does not say yet what that comes to.
    pub news: Option<FileFacts>,
}

impl Scrubbed {
    pub(super) const fn without_digest(path: MediaPath) -> Self {
        Self {
            path,
            verdict: Verdict::WithoutDigest,
            news: None,
        }
    }

    /// `same_version`: what was read is the very version that was put.
    pub(super) fn of(
        path: MediaPath,
        record: &Record,
        put: &FileFacts,
        read: FileFacts,
        same_version: bool,
    ) -> Self {
        let verdict = match (put.sha256 == read.sha256, same_version) {
            (true, _) => Verdict::Good,
            (false, true) => Verdict::Rotten,
            (false, false) => Verdict::Changed,
        };
        let news = marked(record, &read).is_some().then_some(read);
        Self {
            path,
            verdict,
            news,
        }
    }
}

/// What a file was when it was put, as far as its record says so. Beside the one that was put, another
/// format may have been placed by hand; the digest is of one file, and which one that is only the file
/// itself can say.
pub(super) fn put_as<'a>(
    record: &'a Record,
    there: usize,
    present: &Present,
) -> Option<&'a FileFacts> {
    let put = record.file.as_ref()?;
    (there == 1 || put.size == present.length).then_some(put)
}

/// The record as it has to be after this was read; `None` where it is so already.
pub(super) fn marked(record: &Record, read: &FileFacts) -> Option<Record> {
    let put = record.file.as_ref()?;
    let damaged = (put.sha256 != read.sha256).then(|| read.clone());
    (record.damaged != damaged).then(|| Record {
        damaged,
        ..record.clone()
    })
}

impl Local {
    pub(super) fn scrub(&self, id: &RecordingId) -> Result<Vec<Scrubbed>, ChangeError> {
        for _ in 0..ROUNDS {
            let (there, record) = self.present(id)?;
            let scrub = |present: &Present| self.scrub_file(present, &record, there.len());
            let scrubbed = there.iter().map(scrub).filter_map(Result::transpose);
            let scrubbed = scrubbed.collect::<Result<Vec<_>, _>>()?;
            let is_bad = |scrubbed: &Scrubbed| scrubbed.verdict.is_bad();
            // Put anew between its record and its bytes, it is not held against the right digest.
            if !scrubbed.iter().any(is_bad) || self.record(id)? == record {
                return Ok(scrubbed);
            }
        }
        Err(ChangeError::Busy)
    }

    /// `None` where it is gone meanwhile.
    fn scrub_file(
        &self,
        present: &Present,
        record: &Record,
        there: usize,
    ) -> Result<Option<Scrubbed>, ChangeError> {
        let path = present.path.clone();
        let Some(put) = put_as(record, there, present) else {
            return Ok(Some(Scrubbed::without_digest(path)));
        };
        let (file, version) = match self.open_file(&path.store_path()) {
            Err(StoreError::NotFound(_)) => return Ok(None),
            opened => opened?,
        };
        let read = facts(version, sha256(file)?)?;
        let same_version = (read.size, read.modified_ns) == (put.size, put.modified_ns);
        Ok(Some(Scrubbed::of(path, record, put, read, same_version)))
    }

    pub(super) fn mark(&self, id: &RecordingId, read: &FileFacts) -> Result<(), ChangeError> {
        let place = Place::find(self, id)?;
        match marked(&place.record()?, read) {
            Some(record) => place.take(&Temporary::holding(self, &record.text()?)?),
            None => Ok(()),
        }
    }
}

/// Of the bytes as whoever is served gets them: what lies in the page cache is not read from the disk.
fn sha256(mut file: File) -> Result<[u8; 32], ChangeError> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
    }
    Ok(digest.finalize().into())
}
