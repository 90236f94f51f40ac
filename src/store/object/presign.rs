//! The bucket's own URLs: whoever has one reads from the bucket, past this server.
//!
//! Decides how long one lives and what its answer is called. The signature is AWS's version 4 in the
//! query, which object_store makes. Whether there may be a URL at all is decided before.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AwsCredentialProvider};
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer};

use super::failure;
use crate::recording::MediaPath;
use crate::respond::presented;
use crate::sign::Disposition;
use crate::store::StoreError;

/// Longest life of a presigned URL, which is AWS's own rule.
const LONGEST: Duration = Duration::from_hours(7 * 24);

/// A URL of the bucket's own.
#[derive(Clone, PartialEq, Eq)]
pub struct Presigned {
    /// It opens the recording for whoever has it.
    pub url: String,
    /// How long, from now.
    pub life: Duration,
}

impl fmt::Debug for Presigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = &self.life;
        f.debug_struct("Presigned")
            .field("life", life)
            .finish_non_exhaustive()
    }
}

/// What signs URLs of an S3 bucket.
#[derive(Debug)]
pub struct Presigner {
    signer: Arc<AmazonS3>,
    session: Duration,
}

impl Presigner {
    /// Signs with the credentials of `signer`. Where they are of a session, whose end nobody tells, no
    /// URL is said to live longer than `session`.
    #[must_use]
    pub const fn new(signer: Arc<AmazonS3>, session: Duration) -> Self {
        Self { signer, session }
    }

    /// A URL that opens `key` as `path`'s recording for `life`, or for as long as there can be one.
    pub(super) async fn url(
        &self,
        key: &Path,
        path: &MediaPath,
        disposition: Option<&Disposition>,
        life: Duration,
    ) -> Result<Presigned, StoreError> {
        let credentials: &AwsCredentialProvider = self.signer.credentials();
        let credential = credentials.get_credential().await.map_err(failure)?;
        let longest = match credential.token {
            Some(_) => self.session.min(LONGEST),
            None => LONGEST,
        };
        let life = life.min(longest);
        let [media_type, disposition] = presented(path.media, &path.file_name(), disposition);
        let text = |value: http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let options = SignedUrlOptions::default().with_query([
            ("response-content-type", text(media_type)),
            ("response-content-disposition", text(disposition)),
        ]);
        let signed = self
            .signer
            .signed_url_opts(Method::GET, key, life, &options);
        let url = signed.await.map_err(failure)?.into();
        Ok(Presigned { url, life })
    }
}
