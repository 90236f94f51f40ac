//! A recording's record in a bucket, which is the lock of the recording as well.
//!
//! A bucket has no locks; what it has is a put that holds only for the version that was read. So a
//! record is changed by such a put and no other way, and who is about to touch a recording's bytes
//! first writes a [`Claim`] into its record: while one stands, everybody else waits, or goes away
//! and comes again. The claim of a process that was killed falls after [`LEASE`], by the store's own
//! clock, since those of replicas may differ. It need not be waited for by who brings the same bytes,
//! where nothing can be overwritten: a sender that got no answer sends again at once.
//!
//! A store that does not keep to conditions would lose what it acknowledged. So each is tried out
//! before the first change, and one that will not do is not written to.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use object_store::{CopyMode, GetOptions, ObjectMeta, PutMode, UpdateVersion};
use tokio::time::timeout;

use super::send::wait;
use super::{MAX_RECORD, Object, digest, failure, modified, tag};
use crate::recording::{EntityTag, MediaPath, MediaType, RecordingId};
use crate::store::record::Claim;
use crate::store::{ChangeError, Present, Record, StoreError};

/// How long a claim stands, by the store's clock: far longer than what is done under one may take.
const LEASE: Duration = Duration::from_mins(10);
/// How often another one's change is waited for, and how long first, as a part of the longest wait for an
/// answer; it doubles. Of ten seconds that is 50 ms, and 1.55 s in all.
const LOOKS: u32 = 5;
const PART_OF_TIMEOUT: u32 = 200;

/// A record as it was read, and what only this version of it can be changed by.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) record: Record,
    version: Option<UpdateVersion>,
    /// When it was written, by the store's clock, in milliseconds since 1970.
    written_ms: i64,
}

/// A recording in the bucket, in one of its formats.
pub(super) struct At {
    pub(super) present: Present,
    pub(super) meta: ObjectMeta,
}

/// All that there is of an id.
pub(super) struct Seen {
    pub(super) kept: Kept,
    pub(super) there: Vec<At>,
}

impl Seen {
    /// What there is that is no leftover: an erased recording has none.
    pub(super) fn present(&self) -> Vec<Present> {
        let there = self
            .there
            .iter()
            .filter(|_| self.kept.record.erased_at.is_none());
        there.map(|at| at.present.clone()).collect()
    }
}

impl Object {
    /// The record beside a recording; one that is not there says nothing.
    pub(super) async fn kept(&self, id: &RecordingId) -> Result<Kept, StoreError> {
        let key = self.key(&id.with_extension("json"))?;
        let (result, _permit) = match self.client.ask(&key, GetOptions::default()).await {
            Err(StoreError::NotFound(_)) => return Ok(Kept::default()),
            asked => asked?,
        };
        let meta = result.meta.clone();
        if meta.size > MAX_RECORD {
            return Err(StoreError::Upstream("a record of more than 1 MiB".into()));
        }
        let text = timeout(self.client.timeout, result.bytes()).await;
        let text = text.map_err(|_| StoreError::TimedOut)?.map_err(failure)?;
        Ok(Kept {
            record: Record::read(&text).map_err(StoreError::Record)?,
            version: Some(UpdateVersion {
                e_tag: meta.e_tag,
                version: meta.version,
            }),
            written_ms: meta.last_modified.timestamp_millis(),
        })
    }

    /// All there is of an id. The record comes first: while it has not changed, nobody who keeps to
    /// claims has touched what was seen after it.
    async fn seen(&self, id: &RecordingId) -> Result<Seen, StoreError> {
        let head = async |media| {
            let path = MediaPath {
                recording: id.clone(),
                media,
            };
            let meta = self.client.head(self.key(&path.store_path())?).await;
            Ok::<_, StoreError>((path, meta))
        };
        let heads = join_all(MediaType::ALL.into_iter().map(head));
        let kept = self.kept(id).await?;
        let heads = heads.await;
        let mut there = Vec::new();
        for head in heads {
            let (path, meta) = match head? {
                (_, Err(StoreError::NotFound(_))) => continue,
                (path, meta) => (path, meta?),
            };
            let etag = digest(&kept.record, &meta)
                .as_ref()
                .map_or_else(|| tag(&meta), EntityTag::from_sha256);
            let present = Present {
                path,
                length: meta.size,
                modified: modified(&meta),
                etag,
            };
            there.push(At { present, meta });
        }
        Ok(Seen { kept, there })
    }

    /// All there is of an id, once nobody else is changing it. What `mine` need not wait for may
    /// still be claimed.
    ///
    /// # Errors
    /// [`ChangeError::Busy`] while somebody is.
    pub(super) fn look(
        self: &Arc<Self>,
        id: &RecordingId,
        mine: Option<&Claim>,
    ) -> Result<Seen, ChangeError> {
        for look in 0..LOOKS {
            let seen = self.glance(id)?;
            let claim = seen.kept.record.incoming.as_ref();
            if claim.is_none_or(|claim| mine.is_some_and(|mine| claim.lets_in(mine))) {
                return Ok(seen);
            }
            let first = self.client.timeout / PART_OF_TIMEOUT;
            sleep(first.saturating_mul(1 << look));
        }
        let seen = self.glance(id)?;
        if seen.kept.record.incoming.is_none() || self.has_fallen(&seen.kept)? {
            return Ok(seen);
        }
        Err(ChangeError::Busy)
    }

    /// All there is of an id, whoever may be changing it.
    pub(super) fn glance(self: &Arc<Self>, id: &RecordingId) -> Result<Seen, ChangeError> {
        let (object, id) = (Arc::clone(self), id.clone());
        wait(async move { object.seen(&id).await })
    }

    /// Whether a record's claim is so old that whoever made it is gone. What the time is the store
    /// alone can say: it dates an object that is made to be asked for.
    pub(super) fn has_fallen(self: &Arc<Self>, kept: &Kept) -> Result<bool, ChangeError> {
        let (object, key) = (Arc::clone(self), self.parking()?);
        let now_ms = wait(async move {
            let client = &object.client;
            client.put(&key, Bytes::new(), PutMode::Overwrite).await?;
            let made = client.head(key.clone()).await;
            client.delete(&key).await?;
            Ok::<_, StoreError>(made?.last_modified.timestamp_millis())
        })?;
        let age = u64::try_from(now_ms.saturating_sub(kept.written_ms)).unwrap_or_default();
        Ok(Duration::from_millis(age) >= LEASE)
    }

    /// Puts a record into the place of the one that was read; `None` where there is another now.
    pub(super) fn swap(
        self: &Arc<Self>,
        id: &RecordingId,
        kept: &Kept,
        record: Record,
    ) -> Result<Option<Kept>, ChangeError> {
        self.keeps_conditions()?;
        let mode = match &kept.version {
            None => PutMode::Create,
            Some(version) => PutMode::Update(version.clone()),
        };
        let (object, text) = (Arc::clone(self), record.text()?);
        let key = self.key(&id.with_extension("json"))?;
        let swapped = wait(async move { object.client.put(&key, text.into(), mode).await })?;
        Ok(swapped.map(|version| Kept {
            record,
            version: Some(version),
            written_ms: 0,
        }))
    }

    /// Tries out, once, whether the store keeps to conditions of a put.
    fn keeps_conditions(self: &Arc<Self>) -> Result<(), ChangeError> {
        if self.conditions.get().is_some() {
            return Ok(());
        }
        let (object, key) = (Arc::clone(self), self.parking()?);
        let keeps = wait(async move {
            let put = async |text: &'static str, mode| {
                let put = object
                    .client
                    .put(&key, Bytes::from_static(text.as_bytes()), mode);
                put.await
            };
            let tried = async {
                let Some(first) = put("first", PutMode::Create).await? else {
                    return Ok(false);
                };
                let update = PutMode::Update(first);
                Ok::<_, StoreError>(
                    put("no second", PutMode::Create).await?.is_none()
                        && put("second", update.clone()).await?.is_some()
                        && put("no third", update).await?.is_none(),
                )
            };
            let tried = tried.await;
            object.client.delete(&key).await?;
            tried
        })?;
        if !keeps {
            return Err(ChangeError::Unguarded);
        }
        // Another thread may have found the same.
        let _ = self.conditions.set(());
        Ok(())
    }

    /// Tries out, once, whether the store keeps to the condition of a copy.
    pub(super) fn keeps_copies(self: &Arc<Self>) -> Result<(), ChangeError> {
        if self.copies.get().is_some() {
            return Ok(());
        }
        let (object, from, to) = (Arc::clone(self), self.parking()?, self.parking()?);
        let keeps = wait(async move {
            let client = &object.client;
            for key in [&from, &to] {
                client
                    .put(key, Bytes::from_static(b"here"), PutMode::Overwrite)
                    .await?;
            }
            let copied = client.copy(&from, &to, CopyMode::Create).await;
            client.delete(&from).await?;
            client.delete(&to).await?;
            Ok::<_, StoreError>(copied?.is_none())
        })?;
        if !keeps {
            return Err(ChangeError::Unguarded);
        }
        let _ = self.copies.set(());
        Ok(())
    }
}
