//! Decoders of fields as a fuzzer reaches them; nobody else does.

use sha2::{Digest as _, Sha256};

use super::digest::Digests;
use super::{HeaderMap, MediaType, Refused, uploads};

/// Whether a body is what `Content-Digest` and `Repr-Digest` say.
///
/// # Errors
/// [`Refused`].
pub fn check_digests(fields: &HeaderMap, body: &[u8]) -> Result<(), Refused> {
    let digests = Digests::of(fields)?;
    let also = digests.hasher().map(|mut hasher| {
        hasher.update(body);
        hasher
    });
    digests.check(&Sha256::digest(body), also)
}

/// The type that `Upload-Metadata` says.
///
/// # Errors
/// [`Refused`].
pub fn upload_type(fields: &HeaderMap) -> Result<Option<MediaType>, Refused> {
    Ok(uploads::claim(fields)?.0)
}

/// What `Upload-Checksum` says.
///
/// # Errors
/// [`Refused`].
pub fn upload_checksum(fields: &HeaderMap) -> Result<Option<Vec<u8>>, Refused> {
    Ok(uploads::checksum(fields)?.map(|(_, said)| said))
}
