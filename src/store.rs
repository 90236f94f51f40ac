//! Where recordings lie: `locate` what a grant opens, `open` it, `find` what a question asks for,
//! and put, hold and erase them.
//!
//! The store decides whether a recording is there. It never decides who may have it: a [`Grant`]
//! is the only way to a recording's bytes, and carries the path. Nor does it decide who may change
//! it: that is asked before.

mod beneath;
mod cache;
mod change;
mod error;
mod firsts;
mod handle;
mod incoming;
mod local;
#[cfg(feature = "object")]
mod object;
mod opened;
mod pace;
mod place;
mod pool;
mod record;
mod scrub;
mod stored;
mod upload;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::change::{ChangeError, Done, Erased, Present, Put, Replace};
pub use self::error::StoreError;
pub use self::handle::{Handle, Version};
pub use self::incoming::Incoming;
pub use self::local::Local;
#[cfg(feature = "object")]
pub(crate) use self::object::Stream;
#[cfg(feature = "object")]
pub use self::object::{
    Bucket, BucketError, CacheOutcome, CacheSettings, Lean, Limits, Object, Presigned, Presigner,
    Reading, Sliced, Slices, UrlTerms,
};
pub use self::opened::Opened;
pub(crate) use self::pool::{LARGEST_READ, SMALL_READ};
pub use self::record::{Claim, FileFacts, Record};
pub use self::scrub::{Scrubbed, Verdict};
pub use self::stored::{Source, Stored};
pub use self::upload::Upload;

use crate::recording::{MediaPath, MediaType, RecordingId, UnixTime};
use crate::sign::Grant;

/// A place where recordings lie.
#[derive(Debug, Clone)]
pub enum Store {
    /// A directory of this machine.
    Local(Arc<Local>),
    /// A bucket.
    #[cfg(feature = "object")]
    Object(Arc<Object>),
}

/// A recording that others do not publish meanwhile.
#[derive(Debug)]
#[expect(dead_code, reason = "it is held")]
pub struct Publishing(Lock);

#[derive(Debug)]
#[expect(dead_code, reason = "they are held")]
enum Lock {
    File(File),
    #[cfg(feature = "object")]
    Record(object::Published),
}

/// What a resolver has to know of a recording in order to sign for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub path: MediaPath,
    /// How long it plays, where its header says.
    pub duration: Option<Duration>,
    /// Its grant generation.
    pub generation: u32,
}

impl Store {
    /// The recording that `grant` opens and what its bytes are read from, if it is held open, or can be
    /// opened, without waiting for a disk. `at` is the request's moment, for a store that [trusts](Local::trusting) what it
    /// saw a moment ago.
    ///
    /// # Errors
    /// [`StoreError`], as far as it is known.
    pub fn at_hand(
        &self,
        grant: &Grant,
        now: UnixTime,
        at: Option<Instant>,
    ) -> Result<Option<(Stored, Source)>, StoreError> {
        let local = match self {
            Self::Local(local) => local,
            #[cfg(feature = "object")]
            Self::Object(_) => return Ok(None),
        };
        let held = local.at_hand(grant, now, at)?;
        Ok(held.map(|held| {
            let source = held.source();
            (held.into(), source)
        }))
    }

    /// Locates the recording that `grant` opens, and holds the grant against its record.
    ///
    /// # Errors
    /// [`StoreError`]; a file that is there and is no regular file is not there.
    pub async fn locate(&self, grant: &Grant, now: UnixTime) -> Result<Stored, StoreError> {
        if let Some((stored, _)) = self.at_hand(grant, now, None)? {
            return Ok(stored);
        }
        match self {
            Self::Local(local) => {
                let (local, grant) = (Arc::clone(local), grant.clone());
                let held = off_reactor(move || local.locate_timed(&grant, now)).await?;
                Ok(held.into())
            }
            #[cfg(feature = "object")]
            Self::Object(object) => {
                let located = object.locate(grant, now).await?;
                Ok(located.into())
            }
        }
    }

    /// Lets go of recordings that are held open and were not located lately: a file that was
    /// erased frees its space when its last descriptor is closed. To be called now and then.
    pub fn tidy(&self, now: UnixTime) {
        match self {
            Self::Local(local) => {
                pool::tidy();
                local.tidy(now);
            }
            #[cfg(feature = "object")]
            Self::Object(object) => object.tidy(now),
        }
    }

    /// Finds the recording of this id, in the first format there is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find(&self, id: &RecordingId) -> Result<Found, StoreError> {
        match self {
            Self::Local(local) => {
                let (local, id) = (Arc::clone(local), id.clone());
                off_reactor(move || local.find(&id)).await
            }
            #[cfg(feature = "object")]
            Self::Object(object) => object.find(id).await,
        }
    }

    /// The bucket's own URL of a recording that was found, for as long as the terms say or less; `None`
    /// where none is given out.
    ///
    /// # Errors
    /// [`StoreError`], where there are no credentials to sign with.
    #[cfg(feature = "object")]
    pub async fn presigned(
        &self,
        path: &MediaPath,
        terms: UrlTerms<'_>,
    ) -> Result<Option<Presigned>, StoreError> {
        match self {
            Self::Local(_) => Ok(None),
            Self::Object(object) => object.presigned(path, terms).await,
        }
    }

    /// [`Store::find`] for one who has no runtime, or must not leave a connection to one that other
    /// changes then wait on. Waits for the disk.
    ///
    /// # Errors
    /// [`ChangeError::Store`].
    pub fn found(&self, id: &RecordingId) -> Result<Found, ChangeError> {
        match self {
            Self::Local(local) => Ok(local.find(id)?),
            #[cfg(feature = "object")]
            Self::Object(object) => object.found(id),
        }
    }

    /// Some recording of this store, for an example to print; looks at few entries only, and into
    /// no bucket.
    #[must_use]
    pub fn example(&self) -> Option<MediaPath> {
        match self {
            Self::Local(local) => local.example(),
            #[cfg(feature = "object")]
            Self::Object(_) => None,
        }
    }

    /// Begins a recording of at most `limit` bytes that is to be put. Waits for the disk, as do
    /// all changes: to be called where waiting is no harm.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn begin(&self, limit: u64) -> Result<Incoming, ChangeError> {
        Incoming::begin(self, limit)
    }

    /// Calls `visit` with every recording, where its first file is in the order of
    /// `{appId}/{externalAccountId}/{externalId}.{ext}`, bytewise. Of a directory the names of one account
    /// are held meanwhile, of a bucket nothing. A bucket that lists in no order may have a recording of
    /// several formats visited for each. Waits for the disk.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn each(&self, visit: impl FnMut(MediaPath)) -> Result<(), ChangeError> {
        match self {
            Self::Local(local) => Ok(local.each(visit)?),
            #[cfg(feature = "object")]
            Self::Object(object) => object.each(visit),
        }
    }

    /// Whether so many bytes would find room now. Waits for the disk.
    ///
    /// # Errors
    /// [`ChangeError::Full`].
    pub fn room_for(&self, length: u64) -> Result<(), ChangeError> {
        incoming::room_for(self, length)
    }

    /// The recording of this id in every format it has, and its record. Waits for the disk.
    ///
    /// # Errors
    /// [`ChangeError::Store`].
    pub fn present(&self, id: &RecordingId) -> Result<(Vec<Present>, Record), ChangeError> {
        match self {
            Self::Local(local) => local.present(id),
            #[cfg(feature = "object")]
            Self::Object(object) => object.present(id),
        }
    }

    /// Reads a recording in every format it has, and holds it against its record's digest. Changes
    /// nothing. Waits for the disk.
    ///
    /// # Errors
    /// [`ChangeError::Store`], or [`ChangeError::Busy`] where it was changed again and again meanwhile.
    pub fn scrub(&self, id: &RecordingId) -> Result<Vec<Scrubbed>, ChangeError> {
        match self {
            Self::Local(local) => local.scrub(id),
            #[cfg(feature = "object")]
            Self::Object(object) => object.scrub(id),
        }
    }

    /// Notes in a recording's record what was found of it, where that is news: from then on a bad version
    /// is served to nobody ([`StoreError::Damaged`]), and a good one that was marked is served again.
    /// Waits for the disk.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn mark(&self, scrubbed: &Scrubbed) -> Result<(), ChangeError> {
        let (id, Some(read)) = (&scrubbed.path.recording, &scrubbed.news) else {
            return Ok(());
        };
        match self {
            Self::Local(local) => local.mark(id, read),
            #[cfg(feature = "object")]
            Self::Object(object) => object.mark(id, read),
        }
    }

    /// Erases a recording at `now`, RFC 3339, and of its record all but that it was erased. Gives
    /// what was erased: nothing where that was done before. `before` spares a recording that was
    /// modified then or later. `audit` is told of each file before it goes: of one that a crash
    /// keeps, it is told again. Waits for the disk.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing was erased where it is [`ChangeError::Held`] or
    /// [`ChangeError::Young`].
    pub fn erase(
        &self,
        id: &RecordingId,
        before: Option<UnixTime>,
        now: &str,
        audit: impl FnMut(&Erased),
    ) -> Result<Vec<Erased>, ChangeError> {
        match self {
            Self::Local(local) => local.erase(id, before, now, audit),
            #[cfg(feature = "object")]
            Self::Object(object) => object.erase(id, before, now, audit),
        }
    }

    /// Puts a recording under legal hold, or ends that. Waits for the disk.
    ///
    /// # Errors
    /// [`ChangeError::Store`].
    pub fn hold(&self, id: &RecordingId, legal_hold: bool) -> Result<(), ChangeError> {
        match self {
            Self::Local(local) => local.hold(id, legal_hold),
            #[cfg(feature = "object")]
            Self::Object(object) => object.hold(id, legal_hold),
        }
    }

    /// Puts what HubSpot knows of a recording into its record, which is safe then, if what the record
    /// knew of that is still `was`. Waits for the disk.
    ///
    /// # Errors
    /// [`ChangeError::Busy`] where somebody else has changed it.
    pub fn remember(
        &self,
        id: &RecordingId,
        was: Option<&serde_json::Value>,
        hubspot: &serde_json::Value,
    ) -> Result<(), ChangeError> {
        match self {
            Self::Local(local) => local.remember(id, was, hubspot),
            #[cfg(feature = "object")]
            Self::Object(object) => object.remember(id, was, hubspot),
        }
    }

    /// Keeps other processes from publishing a recording for as long as what this gives is held;
    /// `None` where another one is at it. A process that is killed lets go: at once of a directory,
    /// after ten minutes of a bucket.
    ///
    /// # Errors
    /// [`ChangeError::Store`].
    pub fn claim(&self, path: &MediaPath) -> Result<Option<Publishing>, ChangeError> {
        let lock = match self {
            Self::Local(local) => local.claim(path)?.map(Lock::File),
            #[cfg(feature = "object")]
            Self::Object(object) => object.publish(&path.recording)?.map(Lock::Record),
        };
        Ok(lock.map(Publishing))
    }

    /// A recording's bytes as a file of this machine: the very one, or a copy without a name. Waits
    /// for the disk.
    ///
    /// # Errors
    /// [`ChangeError::Store`].
    pub fn file(&self, path: &MediaPath) -> Result<File, ChangeError> {
        match self {
            Self::Local(local) => Ok(local.open_file(&path.store_path())?.0),
            #[cfg(feature = "object")]
            Self::Object(object) => object.fetched(path),
        }
    }

    /// Every recording there is. Waits for the disk.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn all(&self) -> Result<Vec<MediaPath>, ChangeError> {
        match self {
            Self::Local(local) => Ok(local.all()?),
            #[cfg(feature = "object")]
            Self::Object(object) => object.all(),
        }
    }

    /// Begins a recording of `length` bytes that comes in parts. Waits for the disk, as its calls do.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn begin_upload(
        &self,
        recording: RecordingId,
        length: u64,
        media: Option<MediaType>,
    ) -> Result<Upload, ChangeError> {
        Upload::begin(self, recording, length, media)
    }

    /// Goes on with one that was begun. Waits for the disk, and for nobody else.
    ///
    /// # Errors
    /// [`ChangeError::Busy`] while somebody else brings it.
    pub fn resume_upload(&self, name: &str) -> Result<Upload, ChangeError> {
        Upload::resume(self, name)
    }

    /// Takes away what killed processes left unfinished, and uploads in parts that have not changed
    /// since `before`; how many files that were. Waits for the disk.
    ///
    /// # Errors
    /// [`ChangeError::Store`].
    pub fn sweep(&self, before: UnixTime) -> Result<usize, ChangeError> {
        match self {
            Self::Local(local) => incoming::sweep(local, before),
            #[cfg(feature = "object")]
            Self::Object(object) => object.sweep(before),
        }
    }

    /// Whether the store answers at all.
    ///
    /// # Errors
    /// The reason why it does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Local(local) => {
                let local = Arc::clone(local);
                off_reactor(move || local.check()).await
            }
            #[cfg(feature = "object")]
            Self::Object(object) => object.check().await,
        }
    }
}

/// No call of the file system is made on a thread that serves connections.
async fn off_reactor<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Io(io::Error::other(error))),
    }
}
