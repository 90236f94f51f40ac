//! Files held against the digests of their records.

use std::fs::File;
use std::io::Read as _;

use sha2::{Digest as _, Sha256};

use super::{ChangeError, Local, StoreError};
use crate::recording::{MediaPath, RecordingId, unhex};

/// Read at a time, in bytes.
const CHUNK: usize = 256 * 1024;

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
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where it lies.
    pub path: MediaPath,
    /// What it is.
    pub verdict: Verdict,
}

impl Local {
    pub(super) fn scrub(&self, id: &RecordingId) -> Result<Vec<Scrubbed>, ChangeError> {
        let (there, record) = self.present(id)?;
        // Beside the one that was put, another format may have been placed by hand; the digest is
        // of one file, and which one that is only the file itself can say.
        let only = there.len() == 1;
        let mut scrubbed = Vec::new();
        for present in there {
            let put = record
                .file
                .as_ref()
                .filter(|facts| only || facts.size == present.length);
            let verdict = match put.and_then(|facts| unhex(&facts.sha256)) {
                None => Verdict::WithoutDigest,
                Some(digest) => {
                    let (file, version) = match self.open_file(&present.path.store_path()) {
                        Ok(opened) => opened,
                        // Erased while we looked.
                        Err(StoreError::NotFound(_)) => continue,
                        Err(error) => return Err(error.into()),
                    };
                    if sha256(file)? == digest {
                        Verdict::Good
                    } else if record.sha256(version).is_some() {
                        Verdict::Rotten
                    } else {
                        Verdict::Changed
                    }
                }
            };
            scrubbed.push(Scrubbed {
                path: present.path,
                verdict,
            });
        }
        Ok(scrubbed)
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
