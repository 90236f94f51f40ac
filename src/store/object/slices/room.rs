//! Which slices go, and when what the disk refused is tried again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use object_store::path::Path;
use tokio::runtime;

use super::disk::Disk;
use super::index::{Entry, Index, ObjectId, SliceId};
use super::outcome::CacheOutcome;
use super::{Slices, State};
use crate::recording::UnixTime;

impl Slices {
    /// Lets go of slices that were not used for long, and tries again what the disk would not do.
    /// To be called now and then, within a runtime.
    pub fn tidy(self: &Arc<Self>, now: UnixTime) {
        self.now.store(now.0, Ordering::Relaxed);
        let slices = Arc::clone(self);
        if let Ok(runtime) = runtime::Handle::try_current() {
            drop(runtime.spawn_blocking(move || slices.look_after()));
        }
    }

    fn look_after(&self) {
        if self.paused.swap(false, Ordering::Relaxed) {
            let mut state = self.state();
            let here = |disk: &Arc<Disk>| disk.is_at(&self.settings.directory);
            if !state.disk.as_ref().is_some_and(here) {
                state.disk = None;
                state.index = Index::default();
                self.open.clear();
            }
        }
        if self.state().disk.is_none() {
            self.take_directory();
        }
        let now = self.now();
        self.remove_while(|_, entry| entry.used.until(now) >= self.settings.keep.as_secs());
    }

    /// Makes room for what the flights will need.
    pub(super) fn make_room(&self) {
        self.remove_while(|state, _| state.index.bytes() + state.reserved > self.settings.size);
    }

    /// Removes what was used least recently, as long as that is so.
    fn remove_while(&self, goes: impl Fn(&State, &Entry) -> bool) {
        let _changing = self.changing();
        loop {
            let state = self.state();
            match state.index.oldest() {
                Some((id, entry)) if goes(&state, &entry) => {
                    drop(state);
                    self.remove_file(id);
                }
                _ => return,
            }
        }
    }

    /// Removes every slice of an object but of the version that is there now.
    pub(in super::super) fn forget(self: &Arc<Self>, key: &Path, but: Option<ObjectId>) {
        let mut ids = self.state().index.of_place(self.place_of(key));
        ids.retain(|id| Some(id.object) != but);
        if !ids.is_empty() {
            let slices = Arc::clone(self);
            drop(tokio::task::spawn_blocking(move || slices.remove(ids)));
        }
    }

    pub(super) fn remove(&self, ids: impl IntoIterator<Item = SliceId>) {
        let _changing = self.changing();
        for id in ids {
            self.remove_file(id);
        }
    }

    /// To be called by whoever is `changing`.
    fn remove_file(&self, id: SliceId) {
        let disk = {
            let mut state = self.state();
            state.index.remove(&id);
            state.disk.clone()
        };
        self.open.remove(&id);
        match disk.map_or(Ok(()), |disk| disk.remove(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "a slice of the cache cannot be removed");
            }
            _ => {}
        }
    }

    /// Writes nothing until the disk was looked at again.
    pub(super) fn pause(&self, error: &io::Error) {
        self.counted(CacheOutcome::Error);
        if !self.paused.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the cache cannot be written; what it does not hold comes from the bucket");
        }
    }
}
