//! From `s3://bucket/prefix`, `gs://` or `az://` to a store.
//!
//! Credentials come from where each cloud's own tools take them: the environment, files it names,
//! and the machine's metadata. None is ever a part of the URL.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3CopyIfNotExists};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};
use zeroize::Zeroizing;

use super::http::Lean;
use super::presign::{Account, Presigner, Way};
use super::{Limits, Object};

/// Whose bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    S3,
    Google,
    Azure,
}

impl Kind {
    const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }
}

/// A bucket, and the prefix under which recordings lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    kind: Kind,
    name: String,
    prefix: Path,
}

/// Why a text names no bucket, or the bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// Another scheme.
    #[error("a directory, or s3://, gs:// or az:// with a bucket and a prefix, is needed")]
    Scheme,
    /// No name, or one that could be read as something else.
    #[error("a bucket's name is letters, digits, - _ and .")]
    Name,
    /// A prefix that is no path.
    #[error("a prefix is made of letters, digits and . _ ~ - between single slashes")]
    Prefix,
    /// Its own URLs are not to be had.
    #[error(
        "an az:// bucket's own URLs are signed with the account's key, in base64 (AZURE_STORAGE_ACCOUNT_KEY)"
    )]
    AccountKey,
    /// Endpoint, region or credentials will not do.
    #[error("the bucket cannot be used")]
    Settings(#[source] object_store::Error),
}

impl FromStr for Bucket {
    type Err = BucketError;

    fn from_str(text: &str) -> Result<Self, BucketError> {
        let (scheme, rest) = text.split_once("://").ok_or(BucketError::Scheme)?;
        let kinds = [Kind::S3, Kind::Google, Kind::Azure];
        let kind = kinds.into_iter().find(|kind| kind.scheme() == scheme);
        let kind = kind.ok_or(BucketError::Scheme)?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(BucketError::Name);
        }
        let is_path = |byte: u8| crate::recording::is_unreserved(byte) || byte == b'/';
        if !prefix.bytes().all(is_path) {
            return Err(BucketError::Prefix);
        }
        Ok(Self {
            kind,
            name: name.to_owned(),
            prefix: Path::parse(prefix).map_err(|_| BucketError::Prefix)?,
        })
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, name) = (self.kind.scheme(), &self.name);
        match self.prefix.as_ref() {
            "" => write!(f, "{scheme}://{name}"),
            prefix => write!(f, "{scheme}://{name}/{prefix}"),
        }
    }
}

impl Bucket {
    /// A store over this bucket, at its cloud's own endpoint or at another that speaks the same.
    /// Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`BucketError::Settings`].
    pub fn open(&self, endpoint: Option<&str>, limits: Limits) -> Result<Object, BucketError> {
        let store = self
            .store(endpoint, limits)
            .map_err(BucketError::Settings)?;
        Ok(Object::new(store, self.prefix.clone(), limits))
    }

    /// What signs URLs of this bucket.
    ///
    /// # Errors
    /// [`BucketError::AccountKey`] of an Azure account whose key is not known, or
    /// [`BucketError::Settings`].
    pub fn presigner(
        &self,
        endpoint: Option<&str>,
        limits: Limits,
        session: Duration,
    ) -> Result<Presigner, BucketError> {
        let way = match self.kind {
            Kind::S3 => self.s3(endpoint, limits).map(Way::S3),
            Kind::Google => self.google(endpoint, limits).map(Way::Google),
            Kind::Azure => return Ok(Presigner::new(self.account(endpoint, limits)?, session)),
        };
        Ok(Presigner::new(way.map_err(BucketError::Settings)?, session))
    }

    /// An account whose key is known. object_store does not hand out what else signs.
    fn account(&self, endpoint: Option<&str>, limits: Limits) -> Result<Way, BucketError> {
        let builder = self.azure(endpoint, limits);
        let value = |key| builder.get_config_value(&key);
        let account = value(AzureConfigKey::AccountName);
        let key = value(AzureConfigKey::AccessKey).map(Zeroizing::new);
        let (Some(account), Some(key)) = (account, key) else {
            return Err(BucketError::AccountKey);
        };
        let key = BASE64.decode(key.as_bytes());
        let plain = value(AzureConfigKey::Endpoint).is_some_and(|url| url.starts_with("http://"));
        Ok(Way::Azure(Account {
            container: format!("/blob/{account}/{}", self.name),
            key: key.map_err(|_| BucketError::AccountKey)?.into(),
            plain,
            store: builder.build().map_err(BucketError::Settings)?,
        }))
    }

    fn s3(&self, endpoint: Option<&str>, limits: Limits) -> object_store::Result<AmazonS3> {
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&self.name)
            .with_retry(retries(limits))
            .with_http_connector(Lean);
        let copies = AmazonS3ConfigKey::CopyIfNotExists;
        if builder.get_config_value(&copies).is_none() {
            // S3's own way of a copy on condition; some that speak S3 have another.
            builder = builder.with_copy_if_not_exists(S3CopyIfNotExists::Multipart);
        }
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let set = |builder: AmazonS3Builder, (key, value)| {
            builder.with_config(AmazonS3ConfigKey::Client(key), value)
        };
        let client = client(limits, endpoint).into_iter();
        client.fold(builder, set).build()
    }

    fn google(
        &self,
        endpoint: Option<&str>,
        limits: Limits,
    ) -> object_store::Result<GoogleCloudStorage> {
        let mut builder = GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(&self.name)
            .with_retry(retries(limits))
            .with_http_connector(Lean);
        if let Some(endpoint) = endpoint {
            builder = builder.with_base_url(endpoint);
        }
        let set = |builder: GoogleCloudStorageBuilder, (key, value)| {
            builder.with_config(GoogleConfigKey::Client(key), value)
        };
        let client = client(limits, endpoint).into_iter();
        client.fold(builder, set).build()
    }

    fn azure(&self, endpoint: Option<&str>, limits: Limits) -> MicrosoftAzureBuilder {
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_container_name(&self.name)
            .with_retry(retries(limits))
            .with_http_connector(Lean);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint.to_owned());
        }
        let set = |builder: MicrosoftAzureBuilder, (key, value)| {
            builder.with_config(AzureConfigKey::Client(key), value)
        };
        let client = client(limits, endpoint).into_iter();
        client.fold(builder, set)
    }

    fn store(
        &self,
        endpoint: Option<&str>,
        limits: Limits,
    ) -> object_store::Result<Arc<dyn ObjectStore>> {
        Ok(match self.kind {
            Kind::S3 => Arc::new(self.s3(endpoint, limits)?),
            Kind::Google => Arc::new(self.google(endpoint, limits)?),
            Kind::Azure => Arc::new(self.azure(endpoint, limits).build()?),
        })
    }
}

/// A whole answer may take as long as its listener listens; what has to come soon is its beginning
/// and each part, which `fetch` sees to. Other options of the client are the environment's.
fn client(limits: Limits, endpoint: Option<&str>) -> Vec<(ClientConfigKey, String)> {
    let connect = limits.timeout.min(Duration::from_secs(5));
    let mut options = vec![
        (ClientConfigKey::Timeout, "1 day".to_owned()),
        (
            ClientConfigKey::ConnectTimeout,
            format!("{} ms", connect.as_millis()),
        ),
    ];
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        options.push((ClientConfigKey::AllowHttp, "true".to_owned()));
    }
    options
}

/// Tries before an answer has begun. They end within the time an answer may take.
fn retries(limits: Limits) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            base: 2.,
        },
        max_retries: 3,
        retry_timeout: limits.timeout / 2,
    }
}
