//! Which version of an object there is: by the store's tag, by its record's digest, and whether a scrub
//! found it to be what was put.

use object_store::ObjectMeta;
use sha2::{Digest as _, Sha256};

use crate::recording::{EntityTag, UnixTime};
use crate::store::{FileFacts, Record};

/// SHA-256 of the object, where its record was made for this version: it names the store's own tag.
pub(super) fn digest(record: &Record, meta: &ObjectMeta) -> Option<[u8; 32]> {
    let facts = record.file.as_ref().filter(|facts| are_of(facts, meta))?;
    if is_damaged(record, meta) {
        return None;
    }
    crate::recording::unhex(&facts.sha256)
}

/// Whether a scrub has found this version of the object to be other bytes than were put.
pub(super) fn is_damaged(record: &Record, meta: &ObjectMeta) -> bool {
    let damaged = record.damaged.as_ref();
    damaged.is_some_and(|facts| are_of(facts, meta))
}

pub(super) fn are_of(facts: &FileFacts, meta: &ObjectMeta) -> bool {
    facts.size == meta.size && facts.etag.is_some() && facts.etag == meta.e_tag
}

/// A tag of our own spelling for the store's version: the same on every replica, and strong, since
/// a weak one of the store is not used.
pub(super) fn tag(meta: &ObjectMeta) -> EntityTag {
    let mut hash = Sha256::new();
    hash.update(meta.size.to_be_bytes());
    match strong(meta) {
        Some(etag) => hash.update(etag),
        None => hash.update(meta.last_modified.timestamp_millis().to_be_bytes()),
    }
    EntityTag::from_store(&hash.finalize().into())
}

/// The store's tag, if it is one that can pin a version.
pub(super) fn strong(meta: &ObjectMeta) -> Option<&str> {
    let etag = meta.e_tag.as_deref()?;
    (!etag.starts_with("W/")).then_some(etag)
}

pub(super) fn modified(meta: &ObjectMeta) -> Option<UnixTime> {
    u64::try_from(meta.last_modified.timestamp())
        .ok()
        .map(UnixTime)
}
