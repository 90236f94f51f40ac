//! Which MAC a URL has to have, for those that were lately found to have theirs.
//!
//! A listener asks with one URL at every seek, and its MAC does not change: it is computed once.
//! It is compared each time as it is written, in constant time, with what the request shows. What is looked up
//! is the rest of the target, which is no secret; and only what was true is kept, so that nobody
//! without a key can have anything kept. Belongs to one keyring, and goes with it.

use std::fmt;
use std::sync::Arc;

use quick_cache::sync::Cache;

use super::Authentic;
use super::key::same;
use super::token::{ENCODED_MAC, EncodedMac};

/// Most URLs that are kept.
const MOST: usize = 4096;
/// Longest target that is, so that all of them are at most 2 MiB, and what they say a few more.
const LONGEST: usize = 512;

/// What is kept of a URL.
type Entry = (EncodedMac, Arc<Authentic>);

pub(super) struct Known(Cache<Box<str>, Entry>);

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}

impl Default for Known {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl Known {
    /// What a target says, if it was found to be true and shows the MAC it had then.
    pub(super) fn recall(&self, target: &str) -> Option<Arc<Authentic>> {
        let (signed, mac) = split(target)?;
        let (expected, authentic) = self.0.get(signed)?;
        same(&expected, mac).then_some(authentic)
    }

    /// Keeps what was found to be true of a target that ends with its token; not what is true on one
    /// host alone.
    pub(super) fn keep(&self, target: &str, token: &str, authentic: &Arc<Authentic>) {
        if let Some((signed, mac)) = split(target)
            && signed.ends_with(token)
            && !authentic.claims.host_bound
            && target.len() <= LONGEST
        {
            let entry = (*mac, Arc::clone(authentic));
            self.0.insert(signed.into(), entry);
        }
    }
}

/// A target that ends with its token, before its last `.` and behind it.
fn split(target: &str) -> Option<(&str, &EncodedMac)> {
    let (signed, mac) = target.split_at_checked(target.len().checked_sub(ENCODED_MAC)?)?;
    Some((signed.strip_suffix('.')?, mac.as_bytes().try_into().ok()?))
}
