//! A bucket's recordings held against the digests of their records.
//!
//! Reads what lies there, a part at a time, and writes a record only to mark it, by a condition like
//! every change of one.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::records::{At, Seen};
use super::write::facts;
use super::{Object, are_of};
use crate::recording::RecordingId;
use crate::store::scrub::{ROUNDS, marked, put_as};
use crate::store::{ChangeError, FileFacts, Record, Scrubbed, StoreError};

impl Object {
    pub(in crate::store) fn scrub(
        self: &Arc<Self>,
        id: &RecordingId,
    ) -> Result<Vec<Scrubbed>, ChangeError> {
        for _ in 0..ROUNDS {
            let Seen { kept, there } = self.glance(id)?;
            let record = kept.record;
            if record.erased_at.is_some() {
                return Ok(Vec::new());
            }
            let scrub = |at: &At| self.scrub_object(at, &record, there.len());
            let scrubbed = match there.iter().map(scrub).collect::<Result<Vec<_>, _>>() {
                // Replaced or erased while it was read.
                Err(ChangeError::Store(StoreError::Replaced | StoreError::NotFound(_))) => continue,
                scrubbed => scrubbed?,
            };
            let is_bad = |scrubbed: &Scrubbed| scrubbed.verdict.is_bad();
            if !scrubbed.iter().any(is_bad) || self.glance(id)?.kept.record == record {
                return Ok(scrubbed);
            }
        }
        Err(ChangeError::Busy)
    }

    fn scrub_object(
        self: &Arc<Self>,
        at: &At,
        record: &Record,
        there: usize,
    ) -> Result<Scrubbed, ChangeError> {
        let path = at.present.path.clone();
        let put = put_as(record, there, &at.present);
        // While it is being put, its record does not say yet what it is.
        let says = |put: &&FileFacts| record.incoming.is_none() || are_of(put, &at.meta);
        let Some(put) = put.filter(says) else {
            return Ok(Scrubbed::without_digest(path));
        };
        let mut hash = Sha256::new();
        self.read(at.meta.clone(), |bytes| {
            hash.update(bytes);
            Ok(())
        })?;
        let read = facts(&at.meta, hash.finalize().into())?;
        let same_version = are_of(put, &at.meta);
        Ok(Scrubbed::of(path, record, put, read, same_version))
    }

    /// Marks a recording's record by what was read of it.
    pub(in crate::store) fn mark(
        self: &Arc<Self>,
        id: &RecordingId,
        read: &FileFacts,
    ) -> Result<(), ChangeError> {
        for _ in 0..ROUNDS {
            let kept = self.look(id, None)?.kept;
            let Some(record) = marked(&kept.record, read) else {
                return Ok(());
            };
            let record = Record {
                incoming: None,
                ..record
            };
            if self.swap(id, &kept, record)?.is_some() {
                return Ok(());
            }
        }
        Err(ChangeError::Busy)
    }
}
