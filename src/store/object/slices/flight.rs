//! How a slice is had for all who ask for it: from the disk if it lies there whole, else from the
//! bucket, and then onto the disk.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::Slices;
use super::disk::Disk;
use super::index::{Entry, SliceId};
use super::outcome::CacheOutcome;
use super::pieces::Pieces;
use crate::select::ByteRange;
use crate::store::object::Pinned;
use crate::store::object::fetch::Fetch;
use crate::store::{Handle, StoreError};

/// A slice that is being had for all who ask for it.
#[derive(Clone)]
pub(super) enum Flight {
    Under,
    /// So many of its bytes are in the file.
    Coming(Handle, u64),
    /// From the bucket, if so it says.
    Landed(Handle, bool),
    /// The disk would not have it.
    Bypass,
    Failed(Arc<StoreError>),
}

/// What a slice is had by: a task of its own, so that it outlives whoever asked first.
pub(super) struct Flying {
    pub(super) slices: Arc<Slices>,
    pub(super) disk: Arc<Disk>,
    pub(super) object: Arc<Pinned>,
    pub(super) id: SliceId,
    pub(super) range: ByteRange,
    pub(super) need: u64,
    pub(super) landing: watch::Sender<Flight>,
}

/// What kept a slice from being fetched.
enum Trouble {
    Store(StoreError),
    Disk(io::Error),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        let mut state = self.slices.state();
        state.flights.remove(&self.id);
        state.reserved -= self.need;
    }
}

impl Flying {
    pub(super) async fn fly(self, known: Option<Entry>) {
        let there = match known {
            Some(entry) => self.on_disk(entry).await,
            None => None,
        };
        let landed = match there {
            Some(handle) => Flight::Landed(handle, false),
            None => self.fetched().await,
        };
        if let Flight::Landed(handle, _) = &landed {
            self.slices.open.insert(self.id, handle.clone());
        }
        self.landing.send_replace(landed);
    }

    /// The slice as it lies on the disk; a damaged one is dropped.
    async fn on_disk(&self, entry: Entry) -> Option<Handle> {
        let (slices, disk, id) = (Arc::clone(&self.slices), Arc::clone(&self.disk), self.id);
        let length = self.range.len();
        let opened = off_reactor(move || {
            Ok(match disk.open_slice(id, length, entry.version) {
                Ok(handle) => {
                    slices.state().index.checked(&id, handle.version);
                    Some(handle)
                }
                Err(damage) => {
                    tracing::warn!(%damage, "a slice of the cache is dropped and fetched again");
                    slices.counted(CacheOutcome::Error);
                    slices.remove([id]);
                    None
                }
            })
        });
        opened.await.ok().flatten()
    }

    async fn fetched(&self) -> Flight {
        self.slices.counted(CacheOutcome::Miss);
        match self.fetch().await {
            Ok(handle) => Flight::Landed(handle, true),
            Err(Trouble::Store(error)) => Flight::Failed(Arc::new(error)),
            Err(Trouble::Disk(error)) => {
                self.slices.pause(&error);
                Flight::Bypass
            }
        }
    }

    async fn fetch(&self) -> Result<Handle, Trouble> {
        // What fails here has not touched the disk.
        let fetch = Fetch::begin(Arc::clone(&self.object), self.range).await?;
        let (slices, disk, id) = (Arc::clone(&self.slices), Arc::clone(&self.disk), self.id);
        let mut writing = off_reactor(move || {
            slices.make_room();
            disk.begin(id)
        })
        .await?;
        let (so_far, mut length) = (writing.so_far()?, 0);
        let mut pieces = Pieces::of(fetch.parts());
        while let Some(piece) = pieces.next().await? {
            length += u64::try_from(piece.len()).map_err(io::Error::other)?;
            writing = off_reactor(move || writing.write(&piece).map(|()| writing)).await?;
            // Whoever waits for these bytes need not wait for the others.
            let coming = Flight::Coming(so_far.clone(), length);
            self.landing.send_replace(coming);
        }
        let slices = Arc::clone(&self.slices);
        let published = off_reactor(move || {
            let _changing = slices.changing();
            let handle = writing.finish()?;
            let (version, now) = (handle.version, slices.now());
            let index = &mut slices.state().index;
            index.insert(id, version.length, Some(version), now);
            Ok(handle)
        });
        Ok(published.await?)
    }
}

/// No call of the file system is made on a thread that serves connections.
async fn off_reactor<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}
