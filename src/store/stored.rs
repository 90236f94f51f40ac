//! What was located: a version, and the one thing its bytes are read from.

use std::sync::Arc;

use super::cache::Held;
#[cfg(feature = "object")]
use super::object::{self, Reading, Sliced};
use super::{Handle, StoreError};
use crate::respond::Described;
use crate::select::ByteRange;

/// A recording's version, and what its bytes are read from.
///
/// Fields and bytes come from one open file, or from one version of an object, so that they cannot
/// be of two.
#[derive(Debug)]
pub struct Stored(Kept);

#[derive(Debug)]
enum Kept {
    Local(Arc<Held>),
    #[cfg(feature = "object")]
    Object(Arc<object::Located>),
}

impl From<Arc<Held>> for Stored {
    fn from(held: Arc<Held>) -> Self {
        Self(Kept::Local(held))
    }
}

#[cfg(feature = "object")]
impl From<Arc<object::Located>> for Stored {
    fn from(located: Arc<object::Located>) -> Self {
        Self(Kept::Object(located))
    }
}

impl Held {
    /// What its bytes are read from.
    pub(super) fn source(&self) -> Source {
        Source::File(self.handle.clone())
    }
}

impl Stored {
    /// Length, validators, type, and the fields that say so.
    #[must_use]
    pub fn described(&self) -> &Described {
        match &self.0 {
            Kept::Local(held) => &held.described,
            #[cfg(feature = "object")]
            Kept::Object(located) => &located.described,
        }
    }

    /// Gives the bytes up for sending. `first` is the range that is sent first, if any: of a bucket
    /// it is asked for here, so that what fails does so while the answer can still say it.
    ///
    /// # Errors
    /// [`StoreError`], of a bucket only.
    #[cfg_attr(
        not(feature = "object"),
        expect(
            clippy::unused_async,
            unused_variables,
            reason = "a bucket is waited for, with the feature"
        )
    )]
    pub async fn open(self, first: Option<ByteRange>) -> Result<Source, StoreError> {
        match self.0 {
            Kept::Local(held) => Ok(held.source()),
            #[cfg(feature = "object")]
            Kept::Object(located) => Box::pin(located.open(first)).await,
        }
    }
}

/// What a body's stored pieces are read from.
#[derive(Debug)]
pub enum Source {
    /// An open file.
    File(Handle),
    /// An object, of which a range may be on its way.
    #[cfg(feature = "object")]
    Object(Box<Reading>),
    /// An object by slices that lie on the disk.
    #[cfg(feature = "object")]
    Sliced(Box<Sliced>),
}
