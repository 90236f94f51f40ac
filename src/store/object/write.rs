//! Changes of a bucket besides a put (`put`): a recording held, remembered of, or erased.
//!
//! An erasure puts the tombstone into the record first, on condition that nobody holds a claim, and
//! then deletes: from the tombstone on the URL answers 410 whatever lies there, and nothing can be
//! placed. A hold, and what HubSpot knows, are one conditional put of the record.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use object_store::ObjectMeta;
use sha2::{Digest as _, Sha256};

use super::records::At;
use super::send::{PART, wait};
use super::{Object, Pinned, digest};
use crate::recording::{MediaPath, MediaType, RecordingId, UnixTime, hex};
use crate::select::ByteRange;
use crate::store::record::FileFacts;
use crate::store::{ChangeError, Erased, Found, Present, Record, StoreError};

/// How often a change begins anew because somebody else was there first.
pub(super) const ROUNDS: u32 = 8;

impl Object {
    /// What was said of a recording before it was changed is not believed any more.
    pub(super) fn forget(&self, id: &RecordingId) {
        for media in MediaType::ALL {
            let recording = id.clone();
            self.cache
                .remove(&*MediaPath { recording, media }.url_path());
        }
    }

    /// The recording of this id in the first format there is, and what a resolver has to know of it.
    pub(in crate::store) fn found(
        self: &Arc<Self>,
        id: &RecordingId,
    ) -> Result<Found, ChangeError> {
        let (object, id) = (Arc::clone(self), id.clone());
        wait(async move { object.find(&id).await })
    }

    /// Every file of this id there is, and its record.
    pub(in crate::store) fn present(
        self: &Arc<Self>,
        id: &RecordingId,
    ) -> Result<(Vec<Present>, Record), ChangeError> {
        let seen = self.glance(id)?;
        let present = seen.present();
        Ok((present, seen.kept.record))
    }

    /// Erases a recording and what its record knows, except that it was erased; `before` spares
    /// what was modified then or later.
    pub(in crate::store) fn erase(
        self: &Arc<Self>,
        id: &RecordingId,
        before: Option<UnixTime>,
        now: &str,
        mut audit: impl FnMut(&Erased),
    ) -> Result<Vec<Erased>, ChangeError> {
        for _ in 0..ROUNDS {
            let seen = self.look(id, None)?;
            let record = &seen.kept.record;
            if seen.there.is_empty() && *record == Record::default() {
                return Err(StoreError::NotFound("nothing to erase").into());
            }
            if record.legal_hold {
                return Err(ChangeError::Held);
            }
            let young = |at: &At| before.is_some_and(|time| at.present.modified >= Some(time));
            if seen.there.iter().any(young) {
                return Err(ChangeError::Young);
            }
            let mut erased = Vec::new();
            for at in &seen.there {
                erased.push(Erased {
                    path: at.present.path.clone(),
                    length: at.present.length,
                    sha256: hex(&self.sha256(at, record)?),
                });
            }
            if record.erased_at.is_none()
                && self.swap(id, &seen.kept, record.erased(now))?.is_none()
            {
                continue;
            }
            self.forget(id);
            for file in &erased {
                audit(file);
                self.remove(&file.path)?;
            }
            return Ok(erased);
        }
        Err(ChangeError::Busy)
    }

    /// Puts a recording under legal hold, or ends that.
    pub(in crate::store) fn hold(
        self: &Arc<Self>,
        id: &RecordingId,
        legal_hold: bool,
    ) -> Result<(), ChangeError> {
        for _ in 0..ROUNDS {
            let seen = self.look(id, None)?;
            let old = &seen.kept.record;
            if old.erased_at.is_some() {
                return Err(StoreError::Erased.into());
            }
            if seen.there.is_empty() {
                return Err(StoreError::NotFound("nothing to hold").into());
            }
            let record = Record {
                legal_hold,
                incoming: None,
                ..old.clone()
            };
            if record == *old || self.swap(id, &seen.kept, record)?.is_some() {
                return Ok(());
            }
        }
        Err(ChangeError::Busy)
    }

    /// A recording's bytes, in a file without a name.
    pub(in crate::store) fn fetched(
        self: &Arc<Self>,
        path: &MediaPath,
    ) -> Result<File, ChangeError> {
        let (object, key) = (Arc::clone(self), self.key(&path.store_path())?);
        let meta = wait(async move { object.client.head(key).await })?;
        let mut file = tempfile::tempfile()?;
        self.read(meta, |bytes| file.write_all(bytes))?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// The digest of an object's bytes, by the record or by the bytes.
    pub(super) fn sha256(
        self: &Arc<Self>,
        at: &At,
        record: &Record,
    ) -> Result<[u8; 32], ChangeError> {
        if let Some(digest) = digest(record, &at.meta) {
            return Ok(digest);
        }
        let mut hash = Sha256::new();
        self.read(at.meta.clone(), |bytes| {
            hash.update(bytes);
            Ok(())
        })?;
        Ok(hash.finalize().into())
    }

    /// Hands over the bytes of a version of an object, one piece after the other.
    pub(super) fn read(
        self: &Arc<Self>,
        meta: ObjectMeta,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ChangeError> {
        let (size, client) = (meta.size, Arc::clone(&self.client));
        let pinned = Arc::new(Pinned { client, meta });
        let mut first = 0;
        while first < size {
            let last = size.min(first.saturating_add(PART)) - 1;
            let pinned = Arc::clone(&pinned);
            let read = wait(async move { pinned.read(ByteRange { first, last }).await });
            take(&read?)?;
            first = last + 1;
        }
        Ok(())
    }

    pub(super) fn remove(self: &Arc<Self>, path: &MediaPath) -> Result<(), ChangeError> {
        let (object, key) = (Arc::clone(self), self.key(&path.store_path())?);
        wait(async move { object.client.delete(&key).await })
    }
}

pub(super) fn facts(meta: &ObjectMeta, sha256: [u8; 32]) -> Result<FileFacts, ChangeError> {
    let modified_ns = meta.last_modified.timestamp_nanos_opt();
    let modified_ns = modified_ns.ok_or_else(|| io::Error::other("a time out of all bounds"))?;
    Ok(FileFacts {
        size: meta.size,
        modified_ns,
        sha256: hex(&sha256),
        etag: meta.e_tag.clone(),
    })
}
