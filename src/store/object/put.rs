//! A recording put into a bucket.
//!
//! The bytes lie in a file of this machine first: the verdict on a sound reads at both ends and
//! counts frames to the last one, and a part that the store drops has to be sent again. Then:
//!
//! 1. **Look**: the record with its version, and what lies there in every format. An erased id, a
//!    hold, other bytes: refused. The same bytes: the record is completed if it lacks anything, and
//!    that is success.
//! 2. **Stage**: more than a part's bytes go to a name beneath `+incoming`, as a multipart upload
//!    that is aborted when it fails. No id spells that name; nothing can be seen yet.
//! 3. **Claim**: the record is put with `incoming` in it, on condition that it is the version that
//!    was looked at (or that there is none). From here on nobody else touches this id (`records`).
//! 4. **Place**: one request makes the whole recording visible: a put on condition that nothing is
//!    there, or that the version there is the one that was looked at; or a copy of what was staged,
//!    on condition that nothing is there. Former formats are then deleted. (A copy that replaces, and
//!    a deletion, have no condition to give: the claim alone guards them, and so lets nobody in.)
//! 5. **Complete**: the record is put on condition that it is still the claimed one, with the digest
//!    beside the store's own tag of this version, and without `incoming`. Only now it is told.
//!
//! Killed before 4, or without an answer to it, there is a claim without a known effect; the same bytes pass it, others once it has
//! fallen. Killed after 4, the recording is there, served under the store's tag; the same put again
//! finds its own bytes and completes the record. A failed condition at any step means that somebody
//! else was there first, and begins the round again with what is there now: the same bytes are then
//! success, others are refused. Two who put different bytes, in one format or in two, meet at 3;
//! two of the same bytes at 3 or 4. What a tool that knows nothing of this puts in between is not
//! overwritten either, but where a copy replaces.

use std::fs::File;
use std::sync::Arc;

use object_store::{CopyMode, ObjectMeta, PutMode, UpdateVersion};
use serde_json::Value;

use super::Object;
use super::records::{At, Kept, Seen};
use super::send::{Staged, wait};
use super::write::{ROUNDS, facts};
use crate::recording::{EntityTag, MediaPath, hex};
use crate::store::change::check;
use crate::store::incoming::random_name;
use crate::store::record::Claim;
use crate::store::{ChangeError, Done, Put, Record, Replace, StoreError};

/// A put on its way.
struct Putting<'a> {
    object: &'a Arc<Object>,
    file: &'a File,
    sha256: [u8; 32],
    path: &'a MediaPath,
    replace: &'a Replace,
    audio: Option<Value>,
    claim: Claim,
    staged: Option<Staged>,
    /// What it has done so far.
    done: Done,
}

impl Object {
    /// Puts a file's bytes into their place, with what is known of their sound.
    pub(in crate::store) fn put(
        self: &Arc<Self>,
        file: &File,
        sha256: [u8; 32],
        path: &MediaPath,
        replace: &Replace,
        audio: Option<Value>,
    ) -> Result<Put, ChangeError> {
        let mut putting = Putting {
            object: self,
            file,
            sha256,
            path,
            replace,
            audio,
            claim: Claim {
                by: random_name()?,
                format: path.media.extension().to_owned(),
                sha256: hex(&sha256),
                overwrites: false,
            },
            staged: None,
            done: Done::Same,
        };
        for _ in 0..ROUNDS {
            if let Some(put) = putting.round()? {
                self.forget(&path.recording);
                return Ok(put);
            }
        }
        Err(ChangeError::Busy)
    }
}

impl Putting<'_> {
    /// Goes as far as nobody else is in the way; `None` where somebody was.
    fn round(&mut self) -> Result<Option<Put>, ChangeError> {
        let seen = self.object.look(&self.path.recording, Some(&self.claim))?;
        let record = &seen.kept.record;
        if record.erased_at.is_some() {
            // Placed while it was erased: nobody else places anything there now.
            if self.done != Done::Same {
                self.object.remove(self.path)?;
            }
            return Err(StoreError::Erased.into());
        }
        let (same, others): (Vec<_>, Vec<_>) = seen
            .there
            .iter()
            .partition(|at| at.present.path == *self.path);
        let there = same.first().copied();
        let may = check(&seen.present(), self.replace, record);
        let is_there = match there {
            Some(at) if at.present.length != self.file.metadata()?.len() => false,
            Some(at) => self.object.sha256(at, record)? == self.sha256,
            None => false,
        };
        match there.filter(|_| is_there) {
            Some(at) if others.is_empty() || may.is_err() => {
                return self.complete(&seen.kept, &at.meta);
            }
            Some(_) => {}
            None => may?,
        }
        let Some(claimed) = self.claimed(&seen, !is_there, !others.is_empty())? else {
            return Ok(None);
        };
        let changed = self.change(&seen, there, is_there, &others);
        match changed {
            Ok(Some(meta)) => {
                let completed = self.complete(&claimed, &meta);
                // Where it was completed all the same, there is no claim left to give up.
                completed.inspect_err(|_| self.release(&claimed))
            }
            Ok(None) => {
                self.release(&claimed);
                Ok(None)
            }
            // Nobody knows whether it is done, or will be yet: the claim stands until it falls.
            Err(ChangeError::Store(
                error @ (StoreError::TimedOut | StoreError::Unreachable(_)),
            )) => Err(error.into()),
            Err(error) => {
                self.release(&claimed);
                Err(error)
            }
        }
    }

    /// Makes this id ours.
    fn claimed(
        &mut self,
        seen: &Seen,
        places: bool,
        removes: bool,
    ) -> Result<Option<Kept>, ChangeError> {
        if places && self.staged.is_none() {
            let length = self.file.metadata()?.len();
            let staged = self.object.stage(self.file, length)?;
            if matches!(staged, Staged::Many(_)) {
                self.object.keeps_copies()?;
            }
            self.staged = Some(staged);
        }
        let staged_whole = matches!(self.staged, Some(Staged::Many(_)));
        let replaces = seen.there.iter().any(|at| at.present.path == *self.path);
        self.claim.overwrites = removes || (places && staged_whole && replaces);
        let record = Record {
            incoming: Some(self.claim.clone()),
            ..seen.kept.record.clone()
        };
        self.object.swap(&self.path.recording, &seen.kept, record)
    }

    /// What may be done under a claim only.
    fn change(
        &mut self,
        seen: &Seen,
        there: Option<&At>,
        is_there: bool,
        others: &[&At],
    ) -> Result<Option<ObjectMeta>, ChangeError> {
        let meta = match there.filter(|_| is_there) {
            Some(at) => at.meta.clone(),
            None => match self.place(there)? {
                Some(meta) => meta,
                None => return Ok(None),
            },
        };
        for other in others {
            self.object.remove(&other.present.path)?;
        }
        self.done = if seen.there.is_empty() {
            Done::Created
        } else if is_there {
            self.done
        } else {
            Done::Replaced
        };
        Ok(Some(meta))
    }

    /// Makes the recording visible, in the place of `there`; `None` where that has changed.
    fn place(&mut self, there: Option<&At>) -> Result<Option<ObjectMeta>, ChangeError> {
        let (object, key) = (
            Arc::clone(self.object),
            self.object.key(&self.path.store_path())?,
        );
        let version = there.map(|at| UpdateVersion {
            e_tag: at.meta.e_tag.clone(),
            version: at.meta.version.clone(),
        });
        let placed = match &self.staged {
            Some(Staged::Few(bytes)) => {
                let (bytes, key) = (bytes.clone(), key.clone());
                let mode = version.map_or(PutMode::Create, PutMode::Update);
                wait(async move { object.client.put(&key, bytes, mode).await })?.map(drop)
            }
            Some(Staged::Many(parked)) => {
                let (from, key) = (parked.key.clone(), key.clone());
                let mode = version.map_or(CopyMode::Create, |_| CopyMode::Overwrite);
                wait(async move { object.client.copy(&from, &key, mode).await })?
            }
            None => None,
        };
        if placed.is_none() {
            return Ok(None);
        }
        let object = Arc::clone(self.object);
        let meta = match wait(async move { object.client.head(key).await }) {
            // Taken away by other means.
            Err(ChangeError::Store(StoreError::NotFound(_))) => return Ok(None),
            meta => meta?,
        };
        if meta.size != self.file.metadata()?.len() {
            let why = "an object of another length than was put";
            return Err(StoreError::Upstream(why.into()).into());
        }
        Ok(Some(meta))
    }

    /// Says in the record what lies there, and ends a claim.
    fn complete(&self, kept: &Kept, meta: &ObjectMeta) -> Result<Option<Put>, ChangeError> {
        let old = &kept.record;
        let file = facts(meta, self.sha256)?;
        let known = old
            .file
            .as_ref()
            .is_some_and(|old| old.sha256 == file.sha256);
        let audio = match &self.audio {
            Some(audio) if !known => Some(audio.clone()),
            audio => old.audio.clone().or_else(|| audio.clone()),
        };
        let record = Record {
            file: Some(file),
            damaged: None,
            audio,
            incoming: None,
            ..old.clone()
        };
        if record != *old {
            let swapped = self
                .object
                .swap(&self.path.recording, kept, record.clone())?;
            if swapped.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Put {
            done: self.done,
            etag: EntityTag::from_sha256(&self.sha256),
            record,
        }))
    }

    /// Gives up a claim, as far as that can be done: it falls by itself.
    fn release(&self, claimed: &Kept) {
        let record = Record {
            incoming: None,
            ..claimed.record.clone()
        };
        if let Err(error) = self.object.swap(&self.path.recording, claimed, record) {
            tracing::warn!(%error, recording = %self.path.recording, "a claim stays until it falls");
        }
    }
}
