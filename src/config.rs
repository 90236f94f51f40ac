//! What was typed, set and written, and what the program needs.
//!
//! Every setting is a row of [`SETTINGS`]: its key in the file, from which its environment variable
//! follows, its default and what it means. A value comes from the first of flag, environment, file
//! and default that has one, and knows where it came from. The files are read here and nowhere
//! else; what the values mean is decided by the modules they are for.

mod delivery;
pub mod keyring;
pub mod secret;
mod setting;
mod source;
mod text;
pub mod tls;
mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::delivery::Delivery;
use self::keyring::FileError;
pub use self::setting::{SETTINGS, Setting};
pub use self::source::{ConfigError, Source, Value};
pub use self::text::duration;
pub use self::values::{Flags, Values};
use crate::acme;
use crate::app::{BaseUrl, Forwarding, Resolver};
use crate::edge::cdn::{Format, Signer};
use crate::hubspot::path::ApiVersion;
use crate::ingest;
use crate::server;
use crate::sign::Policy;
use crate::store::{Bucket, Limits};

/// The file that is read when none is named, if it is there.
pub const DEFAULT_FILE: &str = "tonearm.toml";

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// Whether the kernel is to keep the server to its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confine {
    /// Where it can.
    Auto,
    /// Not at all.
    Off,
    /// Or there is no start.
    Required,
}

/// How HubSpot is called. Secrets are read from their files when they are needed.
#[derive(Debug, Clone)]
pub struct HubSpot {
    /// Scheme and host of its API.
    pub base: String,
    /// Which paths.
    pub version: ApiVersion,
    /// File with a bearer token.
    pub token_file: Option<PathBuf>,
    /// File with what gives access tokens.
    pub oauth_file: Option<PathBuf>,
    /// File with a developer API key.
    pub developer_key_file: Option<PathBuf>,
    /// File with the client secret that its signatures are made with.
    pub client_secret_file: Option<PathBuf>,
    /// How long its index may lag.
    pub index_wait: Duration,
}

/// A CDN that checks URLs of its own format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cdn {
    /// Which format.
    pub format: Format,
    /// Where it is.
    pub base: BaseUrl,
    /// The file with its key.
    pub key_file: PathBuf,
    /// The key's name.
    pub key_id: String,
}

impl Cdn {
    /// Reads the key. No URL lives longer than `policy` lets any.
    ///
    /// # Errors
    /// [`FileError`] where the file or the key will not do.
    pub fn signer(&self, policy: &Policy) -> Result<Signer, FileError> {
        let key = keyring::read(&self.key_file)?;
        let lifetime = policy.max_ttl + policy.bucket;
        let base = self.base.to_string();
        Signer::new(self.format, &base, &self.key_id, &key, lifetime).map_err(|source| {
            FileError::Cdn {
                path: self.key_file.clone(),
                source,
            }
        })
    }
}

/// Where recordings lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In a directory of this machine.
    Directory(PathBuf),
    /// In a bucket.
    Bucket(Bucket),
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

/// What the program needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where recordings lie.
    pub storage: Storage,
    /// Where the bucket is, if not at its cloud.
    pub endpoint: Option<String>,
    /// What a bucket is asked.
    pub bucket_limits: Limits,
    /// How its bytes reach listeners.
    pub delivery: Delivery,
    /// The public listener.
    pub listen: SocketAddr,
    /// The admin listener.
    pub admin_listen: SocketAddr,
    /// The certificate of the public listener, if it speaks TLS.
    pub tls: Option<tls::Files>,
    /// How it is had, if by ACME.
    pub acme: Option<acme::Settings>,
    /// Whose word on a client's address is taken.
    pub forwarding: Forwarding,
    /// Whether each connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// The file of signing keys.
    pub keyring: PathBuf,
    /// Threads that serve connections; at least 1.
    pub workers: usize,
    /// Whether the kernel keeps the server to its files.
    pub confine: Confine,
    /// How long URLs live.
    pub policy: Policy,
    /// Whose URLs the resolver gives, where not our own.
    pub cdn: Option<Cdn>,
    /// What HubSpot calls.
    pub resolver: Resolver,
    /// The file of tokens that may bring recordings.
    pub ingest_tokens: Option<PathBuf>,
    /// What may be brought.
    pub ingest: ingest::Settings,
    /// How HubSpot is called.
    pub hubspot: HubSpot,
    /// What a listener allows.
    pub server: server::Settings,
    /// Most responses under way; 0 is any number.
    pub responses: usize,
    /// How long is served on after a stop was asked for.
    pub shutdown_delay: Duration,
    /// What is logged.
    pub log_filter: String,
    /// In which shape.
    pub log_format: LogFormat,
}

impl Config {
    /// What the public listener's URLs begin with.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

#[cfg(test)]
mod tests;
