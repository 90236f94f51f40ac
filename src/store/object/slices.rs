//! A read-through cache of aligned slices on local disk.
//!
//! Decides which slices are kept, fetched and let go. A slice is of one version of one object, so
//! that two are never spliced; many who ask for one cause one fetch, which belongs to none of them.
//! What the disk cannot do, the bucket does: whoever asks is then told to stream past the cache.
//! Never knows what a recording is, or who may have it.

mod disk;
mod flight;
mod index;
mod outcome;
mod pieces;
mod room;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use object_store::path::Path;
use quick_cache::sync::Cache as QuickCache;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use self::disk::{Disk, Lying, TRAILER};
use self::flight::{Flight, Flying};
use self::index::Index;
pub(super) use self::index::{ObjectId, SliceId};
pub use self::outcome::CacheOutcome;
use super::{Pinned, strong};
use crate::recording::UnixTime;
use crate::select::ByteRange;
use crate::store::{Handle, StoreError, cache};

/// Where slices lie, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// The directory, which no other process may use.
    pub directory: PathBuf,
    /// Most bytes of all files together.
    pub size: u64,
    /// Bytes of a slice.
    pub slice: u64,
    /// After so long without use a slice goes, whatever room there is.
    pub keep: Duration,
}

/// The cache.
pub struct Slices {
    settings: CacheSettings,
    /// What the bucket is called, so that two in one directory are told apart.
    bucket: String,
    state: Mutex<State>,
    /// Whoever renames or removes files holds it, so that files and index agree.
    changing: Mutex<()>,
    open: QuickCache<SliceId, Handle>,
    /// A write failed; nothing is written until the disk is looked at again.
    paused: AtomicBool,
    /// What time it was when somebody said so last.
    now: AtomicU64,
    outcomes: [AtomicU64; CacheOutcome::ALL.len()],
}

#[derive(Default)]
struct State {
    disk: Option<Arc<Disk>>,
    index: Index,
    flights: HashMap<SliceId, watch::Receiver<Flight>>,
    /// Bytes that flights will need.
    reserved: u64,
}

/// What there is of a slice: so many bytes from its first on.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) handle: Handle,
    pub(super) length: u64,
    /// What is to be counted, where it was not when the fetch began.
    pub(super) outcome: Option<CacheOutcome>,
}

impl fmt::Debug for Slices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slices")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Slices {
    /// A cache for what lies in `bucket`. A directory that cannot be used is logged and tried again
    /// by [`Slices::tidy`]; until then nothing is kept.
    #[must_use]
    pub fn open(settings: CacheSettings, bucket: String, now: UnixTime) -> Arc<Self> {
        let slices = Self {
            settings,
            bucket,
            state: Mutex::default(),
            changing: Mutex::default(),
            open: QuickCache::new(cache::capacity()),
            paused: AtomicBool::new(false),
            now: AtomicU64::new(now.0),
            outcomes: Default::default(),
        };
        slices.take_directory();
        Arc::new(slices)
    }

    /// How often there was such an outcome.
    #[must_use]
    pub fn count(&self, outcome: CacheOutcome) -> u64 {
        self.outcomes[outcome.place()].load(Ordering::Relaxed)
    }

    /// Bytes on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state().index.bytes()
    }

    /// Slices that are being fetched, or looked at on the disk.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.state().flights.len()
    }

    pub(super) fn counted(&self, outcome: CacheOutcome) {
        self.outcomes[outcome.place()].fetch_add(1, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> UnixTime {
        UnixTime(self.now.load(Ordering::Relaxed))
    }

    /// Takes the directory, with what lies there. Waits for the disk.
    fn take_directory(&self) {
        let directory = self.settings.directory.display();
        match Disk::open(&self.settings.directory) {
            Ok((disk, lying)) => {
                let mut state = self.state();
                for slice in lying {
                    let Lying {
                        id,
                        length,
                        written,
                    } = slice;
                    state.index.insert(id, length, None, written);
                }
                let (slices, bytes) = (state.index.count(), state.index.bytes());
                state.disk = Some(Arc::new(disk));
                drop(state);
                tracing::info!(%directory, slices, bytes, "the cache is taken up");
                self.make_room();
            }
            Err(error) => {
                self.counted(CacheOutcome::Error);
                tracing::error!(%directory, %error, "the cache cannot be used; what is asked for comes from the bucket");
            }
        }
    }
}

/// Who asks for a slice.
impl Slices {
    /// What tells the slices of this version from all others; `None` where the store gives it no tag
    /// that could.
    pub(super) fn object_id(&self, object: &Pinned) -> Option<ObjectId> {
        let [size, slice] = [object.meta.size, self.settings.slice].map(u64::to_be_bytes);
        let version = strong(&object.meta)?.as_bytes();
        Some(ObjectId {
            place: self.place_of(&object.meta.location),
            version: digest([&size, &slice, version]),
        })
    }

    fn place_of(&self, key: &Path) -> u64 {
        digest([self.bucket.as_bytes(), b" ", key.as_ref().as_bytes()])
    }

    /// The slice that a byte lies in, and which bytes of the object it holds.
    pub(super) fn slice_of(&self, object: &Pinned, byte: u64) -> (u64, ByteRange) {
        let at = byte / self.settings.slice;
        let first = at * self.settings.slice;
        let end = object
            .meta
            .size
            .min(first.saturating_add(self.settings.slice));
        let last = end.saturating_sub(1);
        (at, ByteRange { first, last })
    }

    /// A slice as far as it is there, at least with its byte `from`; `None` where the bucket is to be
    /// asked past the cache.
    pub(super) async fn obtain(
        self: &Arc<Self>,
        object: &Arc<Pinned>,
        id: SliceId,
        from: u64,
    ) -> Result<Option<Part>, StoreError> {
        /// A flight ends with the thread that began it, when a server stops.
        const FLIGHTS: usize = 3;
        for _ in 0..FLIGHTS {
            if let Some(part) = self.held(&id) {
                return Ok(Some(part));
            }
            let Some((mut flight, begun)) = self.flight(object, id) else {
                break;
            };
            let suffices = |flight: &Flight| match flight {
                Flight::Under => false,
                Flight::Coming(_, length) => *length > from,
                _ => true,
            };
            let flight = flight.wait_for(suffices).await;
            let flight = flight.map(|flight| flight.clone());
            // Who began a fetch was counted then.
            let joined = (!begun).then_some(CacheOutcome::Joined);
            match flight {
                Ok(Flight::Coming(handle, length)) => {
                    let outcome = joined;
                    return Ok(Some(Part {
                        handle,
                        length,
                        outcome,
                    }));
                }
                Ok(Flight::Landed(handle, fetched)) => {
                    let outcome = if fetched {
                        joined
                    } else {
                        Some(CacheOutcome::Hit)
                    };
                    return Ok(Some(Part::whole(handle, outcome)));
                }
                Ok(Flight::Failed(error)) => {
                    self.counted(CacheOutcome::Error);
                    return Err(same(&error));
                }
                Ok(Flight::Bypass) => break,
                Ok(Flight::Under) | Err(_) => {}
            }
        }
        self.counted(CacheOutcome::Bypass);
        Ok(None)
    }

    /// Has a slice fetched that will be asked for next.
    pub(super) fn expect(self: &Arc<Self>, object: &Arc<Pinned>, id: SliceId) {
        if self.open.get(&id).is_none() {
            drop(self.flight(object, id));
        }
    }

    /// An open slice, unless its file was changed.
    pub(super) fn held(&self, id: &SliceId) -> Option<Part> {
        let handle = self.open.get(id)?;
        if self.state().index.touch(id, self.now()).is_some() && handle.check().is_ok() {
            return Some(Part::whole(handle, Some(CacheOutcome::Hit)));
        }
        self.open.remove(id);
        None
    }

    /// The flight of this slice, and whether it was begun here; `None` where there can be none.
    fn flight(
        self: &Arc<Self>,
        object: &Arc<Pinned>,
        id: SliceId,
    ) -> Option<(watch::Receiver<Flight>, bool)> {
        let mut state = self.state();
        if let Some(flight) = state.flights.get(&id) {
            return Some((flight.clone(), false));
        }
        let disk = Arc::clone(state.disk.as_ref()?);
        let known = state.index.touch(&id, self.now());
        let (_, range) = self.slice_of(object, id.at * self.settings.slice);
        let need = range.len() + TRAILER;
        let full = state.reserved + need > self.settings.size;
        if known.is_none() && (full || self.paused.load(Ordering::Relaxed)) {
            return None;
        }
        state.reserved += need;
        let (landing, flight) = watch::channel(Flight::Under);
        state.flights.insert(id, flight.clone());
        drop(state);
        let flying = Flying {
            slices: Arc::clone(self),
            disk,
            object: Arc::clone(object),
            id,
            range,
            need,
            landing,
        };
        tokio::spawn(flying.fly(known));
        Some((flight, true))
    }
}

impl Part {
    const fn whole(handle: Handle, outcome: Option<CacheOutcome>) -> Self {
        Self {
            length: handle.version.length.saturating_sub(TRAILER),
            handle,
            outcome,
        }
    }
}

/// The first eight bytes of SHA-256 over parts of which only the last may be of any length.
fn digest(parts: [&[u8]; 3]) -> u64 {
    let hash = parts.into_iter().fold(Sha256::new(), Sha256::chain_update);
    let hash: [u8; 32] = hash.finalize().into();
    hash.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// The same failure, for another one who waited for it.
fn same(error: &Arc<StoreError>) -> StoreError {
    match &**error {
        StoreError::NotFound(why) => StoreError::NotFound(why),
        StoreError::Replaced => StoreError::Replaced,
        StoreError::Busy => StoreError::Busy,
        StoreError::TimedOut => StoreError::TimedOut,
        StoreError::Unreachable(_) => StoreError::Unreachable(Box::new(Arc::clone(error))),
        _ => StoreError::Upstream(Box::new(Arc::clone(error))),
    }
}
