//! A bucket: recordings and their records as objects, under the names they have in a directory.
//!
//! What a request may have is decided elsewhere; of the store is asked what a name stands for, and
//! then for absolute ranges of that very version (`If-Match`). How a bucket is changed is `write`'s to
//! say. Nothing of an object is kept but what was said of it, for two seconds.

mod client;
mod connect;
mod fetch;
mod http;
mod journal;
mod list;
mod parts;
mod presign;
mod put;
mod ranged;
mod records;
mod scrub;
mod send;
mod sliced;
mod slices;
mod version;
mod write;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{join, join_all};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub use self::client::Limits;
use self::client::{Client, failure};
pub use self::connect::{Bucket, BucketError};
use self::fetch::Fetch;
pub use self::fetch::Reading;
pub(crate) use self::fetch::Stream;
pub use self::http::Lean;
pub(super) use self::journal::Published;
pub(super) use self::parts::Parts;
pub use self::presign::{Presigned, Presigner, UrlTerms};
pub use self::sliced::Sliced;
use self::slices::ObjectId;
pub use self::slices::{CacheOutcome, CacheSettings, Slices};
use self::version::{are_of, digest, is_damaged, modified, strong, tag};
use super::{Found, Record, Source, StoreError};
use crate::recording::{EntityTag, MediaPath, MediaType, RecordingId, Representation, UnixTime};
use crate::respond::Described;
use crate::select::ByteRange;
use crate::sign::Grant;

/// Longest time that what the store said of an object is believed, in seconds. A revocation or an
/// erasure shows within it.
const MOST: u64 = 2;
/// Objects of which that is kept.
const HELD: usize = 16 * 1024;
/// Largest record that is read, in bytes.
const MAX_RECORD: u64 = 1 << 20;

/// A store in a bucket, laid out as `{prefix}/{appId}/{externalAccountId}/{externalId}.{ext}`.
pub struct Object {
    client: Arc<Client>,
    prefix: Path,
    cache: Cache<String, Arc<Located>>,
    /// What was in the cache, while nothing newer is known.
    former: Cache<String, Arc<Located>>,
    slices: Option<Arc<Slices>>,
    trust: u64,
    presigner: Option<Presigner>,
    /// The store keeps to conditions, of puts and of copies.
    conditions: OnceLock<()>,
    copies: OnceLock<()>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("store", &self.client.store)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// An object described, and what pins it.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) described: Described,
    generation: u32,
    looked_up: UnixTime,
    /// When the store was last asked for news and gave no answer, in Unix seconds; 0 is never.
    in_vain: AtomicU64,
    /// The store has shown that it is not so any more.
    stale: AtomicBool,
    object: Arc<Pinned>,
    /// The cache, and what the object's slices are called there.
    slices: Option<(Arc<Slices>, ObjectId)>,
}

/// One version of an object.
#[derive(Debug)]
struct Pinned {
    client: Arc<Client>,
    meta: ObjectMeta,
}

impl Object {
    /// Takes any store; nothing is asked of it yet.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, limits: Limits) -> Self {
        Self {
            client: Arc::new(Client {
                store,
                under_way: Arc::new(Semaphore::new(limits.requests)),
                timeout: limits.timeout,
            }),
            prefix,
            cache: Cache::new(HELD),
            former: Cache::new(HELD),
            slices: None,
            trust: MOST,
            presigner: None,
            conditions: OnceLock::new(),
            copies: OnceLock::new(),
        }
    }

    /// Gives the bucket's own URLs.
    #[must_use]
    pub fn with_presigner(mut self, presigner: Presigner) -> Self {
        self.presigner = Some(presigner);
        self
    }

    /// The bucket's own URL of a recording that was found, where such are given.
    pub(super) async fn presigned(
        &self,
        path: &MediaPath,
        terms: UrlTerms<'_>,
    ) -> Result<Option<Presigned>, StoreError> {
        let Some(presigner) = &self.presigner else {
            return Ok(None);
        };
        let key = self.key(&path.store_path())?;
        let url = presigner.url(&key, path, terms);
        let url = timeout(self.client.timeout, url).await;
        url.map_err(|_| StoreError::TimedOut)?.map(Some)
    }

    /// Keeps what is read in slices. While the bucket cannot be asked, what it said of an object is
    /// believed for `trust` seconds, and no revocation or erasure shows for so long.
    #[must_use]
    pub fn with_slices(mut self, slices: Arc<Slices>, trust: u64) -> Self {
        self.slices = Some(slices);
        self.trust = trust.max(MOST);
        self
    }

    /// The cache, where there is one.
    #[must_use]
    pub const fn slices(&self) -> Option<&Arc<Slices>> {
        self.slices.as_ref()
    }

    /// The object of a grant. Many who ask for one at a time are answered by one look.
    pub(super) async fn locate(
        &self,
        grant: &Grant,
        now: UnixTime,
    ) -> Result<Arc<Located>, StoreError> {
        /// Who could have what was known a while ago waits no longer for news.
        const PATIENCE: Duration = Duration::from_secs(1);
        let is_current = |located: &Arc<Located>| located.is_current(now, self.trust);
        if let Some(known) = self.cache.get(grant.path()) {
            if is_current(&known) {
                grant.check_generation(known.generation)?;
                return Ok(known);
            }
            // In this order: who asks meanwhile finds it in the one or in the other.
            self.former.insert(grant.path().to_owned(), known);
            self.cache.remove_if(grant.path(), |it| !is_current(it));
        }
        let former = self.former.get(grant.path());
        let trusted = former.as_ref();
        let trusted = trusted.filter(|former| former.is_trusted(now, self.trust));
        let look_up = self
            .cache
            .get_or_insert_async(grant.path(), self.look_up(grant, now));
        // Who waits for another one's look that fails looks again; not for ever.
        let longest = trusted.map_or(self.client.timeout.saturating_mul(2), |_| PATIENCE);
        let located = timeout(longest, look_up).await;
        let located = match (located.unwrap_or(Err(StoreError::TimedOut)), trusted) {
            (Err(error), Some(trusted)) if error.is_outage() => {
                tracing::debug!(%error, "the bucket cannot be asked; what it said before is believed");
                trusted.in_vain.store(now.0, Ordering::Relaxed);
                let path = grant.path().to_owned();
                self.cache.insert(path, Arc::clone(trusted));
                Ok(Arc::clone(trusted))
            }
            (located, _) => {
                self.former.remove(grant.path());
                located
            }
        }?;
        grant.check_generation(located.generation)?;
        Ok(located)
    }

    async fn look_up(&self, grant: &Grant, now: UnixTime) -> Result<Arc<Located>, StoreError> {
        let path = MediaPath::parse(grant.path())
            .ok_or(StoreError::NotFound("the grant is not for a recording"))?;
        let key = self.key(&path.store_path())?;
        let (record, meta) =
            join(self.record(&path.recording), self.client.head(key.clone())).await;
        let record = record?;
        grant.check_generation(record.generation)?;
        let meta = match (record.erased_at.is_some(), meta) {
            (true, _) => Err(StoreError::Erased),
            (false, meta) => meta,
        };
        if let (Some(slices), Err(StoreError::Erased | StoreError::NotFound(_))) =
            (&self.slices, &meta)
        {
            slices.forget(&key, None);
        }
        let meta = meta?;
        if is_damaged(&record, &meta) {
            return Err(StoreError::Damaged);
        }
        let sha256 = digest(&record, &meta);
        let representation = Representation {
            length: meta.size,
            etag: sha256
                .as_ref()
                .map_or_else(|| tag(&meta), EntityTag::from_sha256),
            last_modified: modified(&meta),
            media: path.media,
            file_name: path.file_name(),
            sha256,
        };
        let object = Arc::new(Pinned {
            client: Arc::clone(&self.client),
            meta,
        });
        let slices = self.slices.as_ref().and_then(|slices| {
            let id = slices.object_id(&object);
            slices.forget(&key, id);
            Some((Arc::clone(slices), id?))
        });
        Ok(Arc::new(Located {
            described: representation.into(),
            generation: record.generation,
            looked_up: now,
            in_vain: AtomicU64::new(0),
            stale: AtomicBool::new(false),
            slices,
            object,
        }))
    }

    pub(super) fn tidy(&self, now: UnixTime) {
        for cache in [&self.cache, &self.former] {
            cache.retain(|_, located| located.is_trusted(now, self.trust));
        }
        if let Some(slices) = &self.slices {
            slices.tidy(now);
        }
    }

    pub(super) async fn find(&self, id: &RecordingId) -> Result<Found, StoreError> {
        let head = async |media| {
            let recording = id.clone();
            let path = MediaPath { recording, media };
            let meta = self.client.head(self.key(&path.store_path())?).await?;
            Ok((path, meta))
        };
        let (record, heads) = join(
            self.record(id),
            join_all(MediaType::ALL.into_iter().map(head)),
        )
        .await;
        let record = record?;
        if record.erased_at.is_some() {
            return Err(StoreError::Erased);
        }
        for head in heads {
            let (path, meta) = match head {
                Err(StoreError::NotFound(_)) => continue,
                head => head?,
            };
            if is_damaged(&record, &meta) {
                return Err(StoreError::Damaged);
            }
            let object = Pinned {
                client: Arc::clone(&self.client),
                meta,
            };
            return Ok(Found {
                duration: ranged::duration(object).await?,
                path,
                generation: record.generation,
            });
        }
        Err(StoreError::NotFound("no object of a known format"))
    }

    /// Whether the bucket can be listed. Without that right it does not tell what is missing from
    /// what is forbidden, and so no record from one that revokes.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let _permit = self.client.permit().await?;
        let listing = self.client.store.list_with_delimiter(Some(&self.prefix));
        let listed = timeout(self.client.timeout, listing).await;
        listed.map_err(|_| StoreError::TimedOut)?.map_err(failure)?;
        Ok(())
    }

    /// The record beside a recording; one that is not there says nothing.
    async fn record(&self, id: &RecordingId) -> Result<Record, StoreError> {
        Ok(self.kept(id).await?.record)
    }

    /// Ids are taken as they are: their charset needs no escapes, and one `~` stays one.
    fn key(&self, name: &str) -> Result<Path, StoreError> {
        let key = match self.prefix.as_ref() {
            "" => Path::parse(name),
            prefix => Path::parse(format!("{prefix}/{name}")),
        };
        key.map_err(|error| StoreError::Upstream(error.into()))
    }
}

impl Located {
    /// Whether it need not be asked about: said a moment ago, or asked about a moment ago in vain.
    fn is_current(&self, now: UnixTime, trust: u64) -> bool {
        let in_vain = UnixTime(self.in_vain.load(Ordering::Relaxed));
        self.is_trusted(now, trust)
            && (self.looked_up.until(now) < MOST || in_vain.until(now) < MOST)
    }

    /// Whether it may be believed while nothing newer is to be had.
    fn is_trusted(&self, now: UnixTime, trust: u64) -> bool {
        self.looked_up <= now
            && self.looked_up.until(now) < trust
            && !self.stale.load(Ordering::Relaxed)
    }

    /// Begins to read the first range that is to be sent, so that what fails fails before the
    /// response begins.
    pub(super) async fn open(&self, first: Option<ByteRange>) -> Result<Source, StoreError> {
        let opened = self.begin(first).await;
        opened.inspect_err(|error| {
            if !error.is_outage() {
                self.stale.store(true, Ordering::Relaxed);
            }
        })
    }

    async fn begin(&self, first: Option<ByteRange>) -> Result<Source, StoreError> {
        let mut reading = Reading::new(Arc::clone(&self.object));
        let Some(range) = first else {
            return Ok(Source::Object(Box::new(reading)));
        };
        if let Some((slices, id)) = &self.slices {
            let mut sliced = Sliced::new(slices, &self.object, *id);
            if sliced.begin(range).await? {
                return Ok(Source::Sliced(Box::new(sliced)));
            }
        }
        reading.begun(range, Fetch::begin(Arc::clone(&self.object), range).await?);
        Ok(Source::Object(Box::new(reading)))
    }
}
