//! What lies in a bucket: every recording, and what was left on the way to one.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::send::{INCOMING, wait};
use super::{Object, modified};
use crate::recording::{MediaPath, UnixTime};
use crate::store::firsts::Firsts;
use crate::store::{ChangeError, StoreError};

impl Object {
    /// Visits every object beneath a name, in the order the store lists them.
    pub(super) fn list(
        self: &Arc<Self>,
        beneath: Option<&str>,
        mut visit: impl FnMut(ObjectMeta) -> Result<(), ChangeError>,
    ) -> Result<(), ChangeError> {
        let prefix = match beneath {
            Some(name) => self.key(name)?,
            None => self.prefix.clone(),
        };
        let mut listing = self.client.store.list(Some(&prefix));
        loop {
            let object = Arc::clone(self);
            let (rest, next) = wait(async move {
                let next = object.client.within(object.client.timeout, async {
                    listing.next().await.transpose()
                });
                let next = next.await?;
                Ok::<_, StoreError>((listing, next))
            })?;
            listing = rest;
            match next {
                Some(meta) => visit(meta)?,
                None => return Ok(()),
            }
        }
    }

    /// Visits every recording there is.
    fn each_path(
        self: &Arc<Self>,
        mut visit: impl FnMut(MediaPath) -> Result<(), ChangeError>,
    ) -> Result<(), ChangeError> {
        self.list(None, |meta| {
            let name = meta.location.as_ref().strip_prefix(self.prefix.as_ref());
            let name = name.unwrap_or_default().trim_start_matches('/');
            match MediaPath::parse(&format!("{}{name}", MediaPath::PREFIX)) {
                Some(path) => visit(path),
                None => Ok(()),
            }
        })
    }

    /// Visits every recording by its first file, as they are listed.
    pub(in crate::store) fn each(
        self: &Arc<Self>,
        mut visit: impl FnMut(MediaPath),
    ) -> Result<(), ChangeError> {
        let mut firsts = Firsts::default();
        self.each_path(|path| {
            if firsts.is_first(&path) {
                visit(path);
            }
            Ok(())
        })
    }

    /// Every recording there is, in the order of their ids.
    pub(in crate::store) fn all(self: &Arc<Self>) -> Result<Vec<MediaPath>, ChangeError> {
        let mut found = Vec::new();
        self.each_path(|path| {
            found.push(path);
            Ok(())
        })?;
        found.sort_unstable_by_key(MediaPath::store_path);
        Ok(found)
    }

    /// Takes away what killed processes left on the way, if it is from before; how many objects.
    pub(in crate::store) fn sweep(
        self: &Arc<Self>,
        before: UnixTime,
    ) -> Result<usize, ChangeError> {
        // The pieces of an upload are as old as the youngest of them.
        let mut left: BTreeMap<String, (Option<UnixTime>, Vec<Path>)> = BTreeMap::new();
        let beneath = self.key(INCOMING)?;
        self.list(Some(INCOMING), |meta| {
            let name = meta.location.as_ref().strip_prefix(beneath.as_ref());
            let name = name.unwrap_or_default().trim_start_matches('/');
            let whose = name.split(['.', '/']).next().unwrap_or_default();
            let (youngest, keys) = left.entry(whose.to_owned()).or_default();
            *youngest = (*youngest).max(modified(&meta));
            keys.push(meta.location);
            Ok(())
        })?;
        let left = left.into_values();
        let old = left.filter(|(youngest, _)| *youngest < Some(before));
        let mut left: Vec<_> = old.flat_map(|(_, keys)| keys).collect();
        // States first: bytes without one are nothing.
        left.sort();
        for key in &left {
            let (object, key) = (Arc::clone(self), key.clone());
            wait(async move { object.client.delete(&key).await })?;
        }
        Ok(left.len())
    }
}
