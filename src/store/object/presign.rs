//! The bucket's own URLs: whoever has one reads from the bucket, past this server.
//!
//! Decides how long one lives and what its answer is called. The signatures of AWS and of Google, both
//! version 4 in the query, are object_store's; Azure's SAS is [`edge::sas`](crate::edge)'s. Whether there
//! may be a URL at all is decided before.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use object_store::aws::AmazonS3;
use object_store::azure::MicrosoftAzure;
use object_store::gcp::GoogleCloudStorage;
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::failure;
use crate::edge::sas::Sas;
use crate::recording::{MediaPath, UnixTime};
use crate::respond::presented;
use crate::sign::Disposition;
use crate::store::StoreError;

/// Longest life of a presigned URL, which is AWS's own rule, and Google's.
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

/// What a URL of the bucket's own is to say.
#[derive(Debug, Clone, Copy)]
pub struct UrlTerms<'a> {
    /// What the answer is called, and whether it plays in place.
    pub disposition: Option<&'a Disposition>,
    /// How long it should live.
    pub life: Duration,
    /// The time.
    pub now: UnixTime,
}

/// What signs URLs of a bucket.
#[derive(Debug)]
pub struct Presigner {
    way: Way,
    session: Duration,
}

#[derive(Debug)]
pub(super) enum Way {
    S3(AmazonS3),
    Google(GoogleCloudStorage),
    Azure(Account),
}

/// An Azure account's blobs, and the key that signs for them.
pub(super) struct Account {
    pub(super) store: MicrosoftAzure,
    /// `/blob/{account}/{container}`, to which a blob's name is put.
    pub(super) container: String,
    pub(super) key: Zeroizing<Vec<u8>>,
    /// It is reached without TLS.
    pub(super) plain: bool,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let container = &self.container;
        f.debug_struct("Account")
            .field("container", container)
            .finish_non_exhaustive()
    }
}

impl Presigner {
    /// Where the credentials are of a session, whose end nobody tells, no URL is said to live longer
    /// than `session`.
    pub(super) const fn new(way: Way, session: Duration) -> Self {
        Self { way, session }
    }

    /// A URL that opens `key` as `path`'s recording for that long, or for as long as there can be one.
    pub(super) async fn url(
        &self,
        key: &Path,
        path: &MediaPath,
        terms: UrlTerms<'_>,
    ) -> Result<Presigned, StoreError> {
        let life = terms.life.min(self.longest().await?);
        let presented = presented(path.media, &path.file_name(), terms.disposition);
        let [media_type, disposition] =
            presented.map(|value| value.to_str().unwrap_or_default().to_owned());
        let signer: &dyn Signer = match &self.way {
            Way::S3(s3) => s3,
            Way::Google(google) => google,
            Way::Azure(account) => {
                let sas = Sas {
                    end: terms.now.plus(life.as_secs()).rfc3339(),
                    protocols: if account.plain { "https,http" } else { "https" },
                    disposition: &disposition,
                    media_type: &media_type,
                    ..Sas::default()
                };
                let url = account.url(key, &sas).await?;
                return Ok(Presigned { url, life });
            }
        };
        // Both call them so.
        let options = SignedUrlOptions::default().with_query([
            ("response-content-type", media_type),
            ("response-content-disposition", disposition),
        ]);
        let url = signer.signed_url_opts(Method::GET, key, life, &options);
        let url = url.await.map_err(failure)?.into();
        Ok(Presigned { url, life })
    }

    /// Longest life of a URL that these credentials sign.
    async fn longest(&self) -> Result<Duration, StoreError> {
        let lasts = match &self.way {
            Way::S3(s3) => {
                let credential = s3.credentials().get_credential().await;
                credential.map_err(failure)?.token.is_none()
            }
            // Without a key of its own, Google signs with one that it changes when it likes.
            Way::Google(google) => {
                let credential = google.signing_credentials().get_credential().await;
                credential.map_err(failure)?.private_key.is_some()
            }
            Way::Azure(_) => true,
        };
        Ok(if lasts {
            LONGEST
        } else {
            self.session.min(LONGEST)
        })
    }
}

impl Account {
    /// object_store's SAS says nothing of the answer's type and disposition: what is taken of its URL is
    /// the place.
    async fn url(&self, key: &Path, sas: &Sas<'_>) -> Result<String, StoreError> {
        let place = self.store.signed_url(Method::GET, key, LONGEST).await;
        let mut url = place.map_err(failure)?;
        let message = sas.message(&format!("{}/{key}", self.container));
        let mac = Hmac::<Sha256>::new_from_slice(&self.key);
        let mac = mac.map_err(|error| StoreError::Upstream(error.into()))?;
        let tag = mac.chain_update(message).finalize().into_bytes();
        url.set_query(Some(&sas.query(&BASE64.encode(tag))));
        Ok(url.into())
    }
}
