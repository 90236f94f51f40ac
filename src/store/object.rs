//! A bucket: recordings and their records as objects, under the names they have in a directory.
//!
//! What a request may have is decided elsewhere; of the store is asked what a name stands for, and
//! then for absolute ranges of that very version (`If-Match`). How a bucket is changed is `write`'s to
//! say. Nothing of an object is kept but what was said of it, for two seconds.

mod connect;
mod fetch;
mod journal;
mod list;
mod parts;
mod ranged;
mod records;
mod send;
mod write;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{join, join_all};
use object_store::path::Path;
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt as _};
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub use self::connect::{Bucket, BucketError};
use self::fetch::Fetch;
pub use self::fetch::Reading;
pub(crate) use self::fetch::Stream;
pub(super) use self::journal::Published;
pub(super) use self::parts::Parts;
use super::{Found, Record, StoreError};
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

/// What a bucket is asked, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest wait for an answer, and for more of one.
    pub timeout: Duration,
    /// Most requests under way at a time; a stream counts for as long as it lasts.
    pub requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            requests: 1024,
        }
    }
}

/// A store in a bucket, laid out as `{prefix}/{appId}/{externalAccountId}/{externalId}.{ext}`.
pub struct Object {
    client: Arc<Client>,
    prefix: Path,
    cache: Cache<String, Arc<Located>>,
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

/// The way to the bucket.
#[derive(Debug)]
struct Client {
    store: Arc<dyn ObjectStore>,
    under_way: Arc<Semaphore>,
    timeout: Duration,
}

/// An object described, and what pins it.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) described: Described,
    generation: u32,
    looked_up: UnixTime,
    /// The store has shown that it is not so any more.
    stale: AtomicBool,
    object: Arc<Pinned>,
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
            conditions: OnceLock::new(),
            copies: OnceLock::new(),
        }
    }

    /// The object of a grant. Many who ask for one at a time are answered by one look.
    pub(super) async fn locate(
        &self,
        grant: &Grant,
        now: UnixTime,
    ) -> Result<Arc<Located>, StoreError> {
        self.cache
            .remove_if(grant.path(), |located| !located.is_current(now));
        let look_up = self
            .cache
            .get_or_insert_async(grant.path(), self.look_up(grant, now));
        // Who waits for another one's look that fails looks again; not for ever.
        let located = timeout(self.client.timeout.saturating_mul(2), look_up).await;
        let located = located.map_err(|_| StoreError::TimedOut)??;
        grant.check_generation(located.generation)?;
        Ok(located)
    }

    async fn look_up(&self, grant: &Grant, now: UnixTime) -> Result<Arc<Located>, StoreError> {
        let path = MediaPath::parse(grant.path())
            .ok_or(StoreError::NotFound("the grant is not for a recording"))?;
        let (record, meta) = join(
            self.record(&path.recording),
            self.client.head(self.key(&path.store_path())?),
        )
        .await;
        let record = record?;
        grant.check_generation(record.generation)?;
        if record.erased_at.is_some() {
            return Err(StoreError::Erased);
        }
        let meta = meta?;
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
        Ok(Arc::new(Located {
            described: representation.into(),
            generation: record.generation,
            looked_up: now,
            stale: AtomicBool::new(false),
            object: Arc::new(Pinned {
                client: Arc::clone(&self.client),
                meta,
            }),
        }))
    }

    pub(super) fn tidy(&self, now: UnixTime) {
        self.cache.retain(|_, located| located.is_current(now));
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
    fn is_current(&self, now: UnixTime) -> bool {
        self.looked_up <= now
            && self.looked_up.until(now) < MOST
            && !self.stale.load(Ordering::Relaxed)
    }

    /// Begins to read the first range that is to be sent, so that what fails fails before the
    /// response begins.
    pub(super) async fn open(&self, first: Option<ByteRange>) -> Result<Reading, StoreError> {
        let mut reading = Reading::new(Arc::clone(&self.object));
        if let Some(range) = first {
            let fetch = Fetch::begin(Arc::clone(&self.object), range).await;
            let fetch = fetch.inspect_err(|_| self.stale.store(true, Ordering::Relaxed));
            reading.begun(range, fetch?);
        }
        Ok(reading)
    }
}

impl Client {
    async fn head(&self, key: Path) -> Result<ObjectMeta, StoreError> {
        let _permit = self.permit().await?;
        let head = timeout(self.timeout, self.store.head(&key)).await;
        head.map_err(|_| StoreError::TimedOut)?.map_err(failure)
    }

    async fn ask(
        &self,
        key: &Path,
        options: GetOptions,
    ) -> Result<(GetResult, OwnedSemaphorePermit), StoreError> {
        let permit = self.permit().await?;
        let result = timeout(self.timeout, self.store.get_opts(key, options)).await;
        let result = result.map_err(|_| StoreError::TimedOut)?;
        Ok((result.map_err(failure)?, permit))
    }

    /// A place among the requests under way, if one becomes free soon.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        /// A listener waits so long for a first byte without going away.
        const SOON: Duration = Duration::from_secs(2);
        match timeout(SOON, Arc::clone(&self.under_way).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(StoreError::Busy),
        }
    }
}

/// SHA-256 of the object, where its record was made for this version: it names the store's own tag.
fn digest(record: &Record, meta: &ObjectMeta) -> Option<[u8; 32]> {
    let facts = record.file.as_ref()?;
    let same = facts.size == meta.size && facts.etag.is_some() && facts.etag == meta.e_tag;
    if same {
        crate::recording::unhex(&facts.sha256)
    } else {
        None
    }
}

/// A tag of our own spelling for the store's version: the same on every replica, and strong, since
/// a weak one of the store is not used.
fn tag(meta: &ObjectMeta) -> EntityTag {
    let mut hash = Sha256::new();
    hash.update(meta.size.to_be_bytes());
    match strong(meta) {
        Some(etag) => hash.update(etag),
        None => hash.update(meta.last_modified.timestamp_millis().to_be_bytes()),
    }
    EntityTag::from_store(&hash.finalize().into())
}

/// The store's tag, if it is one that can pin a version.
fn strong(meta: &ObjectMeta) -> Option<&str> {
    let etag = meta.e_tag.as_deref()?;
    (!etag.starts_with("W/")).then_some(etag)
}

fn modified(meta: &ObjectMeta) -> Option<UnixTime> {
    u64::try_from(meta.last_modified.timestamp())
        .ok()
        .map(UnixTime)
}

/// What a failure of the store says of the recording.
fn failure(error: object_store::Error) -> StoreError {
    use object_store::Error as E;

    match error {
        E::NotFound { .. } => StoreError::NotFound("no such object"),
        E::Precondition { .. } | E::NotModified { .. } => StoreError::Replaced,
        error if is_timeout(&error) => StoreError::TimedOut,
        E::Generic { source, .. } if is_refusal(&*source) => StoreError::Unreachable(source),
        error => StoreError::Upstream(error.into()),
    }
}

/// Whether the request failed, or was answered with a failure; else the answer made no sense.
fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    // The type is private to object_store; this is how all of its values begin.
    error.to_string().starts_with("Error performing") || http_kind(error).is_some()
}

fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    http_kind(error) == Some(object_store::client::HttpErrorKind::Timeout)
}

fn http_kind(
    error: &(dyn std::error::Error + 'static),
) -> Option<object_store::client::HttpErrorKind> {
    let mut chain = std::iter::successors(Some(error), |error| error.source());
    chain.find_map(|error| {
        Some(
            error
                .downcast_ref::<object_store::client::HttpError>()?
                .kind(),
        )
    })
}
