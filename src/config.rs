//! What was typed, set and written, and what the program needs.
//!
//! Every setting is a row of [`SETTINGS`]: its key in the file, from which its environment variable
//! follows, its default and what it means. A value comes from the first of flag, environment, file
//! and default that has one, and knows where it came from. The files are read here and nowhere
//! else; what the values mean is decided by the modules they are for.

mod delivery;
pub mod keyring;
pub mod secret;
mod source;
pub mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

pub use self::delivery::Delivery;
use self::keyring::FileError;
pub use self::source::{ConfigError, Source, Value};
use crate::app::{BaseUrl, Forwarding, Guard, Mode, Resolver, Signatures};
use crate::edge::cdn::{Format, Signer};
use crate::hubspot::path::ApiVersion;
use crate::ingest;
use crate::recording::Id;
use crate::route::Template;
use crate::server::{self, Proxies};
use crate::sign::{MIN_TTL, Policy};
use crate::store::{Bucket, Limits};

/// The file that is read when none is named, if it is there.
pub const DEFAULT_FILE: &str = "tonearm.toml";

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key in the file, with the section before the dot.
    pub key: &'static str,
    /// Its default as text; empty is none.
    pub default: &'static str,
    /// What it means, with unit and bounds.
    pub help: &'static str,
}

impl Setting {
    /// Its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!(
            "TONEARM_{}",
            self.key.replace('.', "_").to_ascii_uppercase()
        )
    }
}

/// Every setting there is.
pub const SETTINGS: &[Setting] = &[
    row(
        "storage",
        "storage",
        "directory, or s3://, gs:// or az:// with bucket and prefix, of recordings: {appId}/{externalAccountId}/{externalId}.{wav,flac,mp3,mp4,m4a}",
    ),
    row(
        "listen",
        "127.0.0.1:8080",
        "address and port of the public listener; port 0 takes a free one",
    ),
    row(
        "admin_listen",
        "127.0.0.1:9090",
        "address and port of health, readiness and metrics",
    ),
    row(
        "public_base_url",
        "",
        "where clients reach this server, such as https://rec.example.com; without it, what the request's Host says",
    ),
    row(
        "keyring",
        "keyring.toml",
        "file of signing keys, mode 0600; made on first start",
    ),
    row(
        "workers",
        "0",
        "threads that serve connections; 0 is one a core",
    ),
    row(
        "confine",
        "auto",
        "after the start, the kernel (Landlock) lets the server reach its store and keys alone: auto (where it can), off, required",
    ),
    row(
        "trusted_proxies",
        "",
        "list of addresses and networks such as 10.0.0.0/8 whose word on a client's address is taken",
    ),
    row(
        "forwarded_field",
        "X-Forwarded-For",
        "field in which trusted proxies name clients: X-Forwarded-For, or Forwarded",
    ),
    row(
        "proxy_protocol",
        "off",
        "off, or required: each connection is of a trusted proxy and begins with its PROXY header, version 1 or 2",
    ),
    row(
        "tls.certificate",
        "",
        "file of certificates in PEM, the server's own first; with it the public listener speaks TLS",
    ),
    row(
        "tls.key",
        "",
        "file with the certificate's key in PEM; read again at SIGHUP and when it changes, as the certificate is",
    ),
    row(
        "url.base_ttl",
        "15m",
        "life of a signed URL, to which the recording's duration is added",
    ),
    row(
        "url.max_ttl",
        "12h",
        "longest life of a signed URL, at least 5m",
    ),
    row(
        "url.bucket",
        "5m",
        "expiries are rounded up to multiples of this, so that caches can hit; at least 1s",
    ),
    row(
        "url.format",
        "native",
        "whose URLs the resolver gives: native, or a CDN's, of which docs/cdn.md has the list",
    ),
    row(
        "url.cdn_base_url",
        "",
        "where the CDN is, such as https://d111111abcdef8.cloudfront.net; for every format but native",
    ),
    row(
        "url.key_file",
        "",
        "file with the CDN's key as its console shows it, mode 0600; for every format but native",
    ),
    row(
        "url.key_id",
        "",
        "name of that key, where the format has one: CloudFront's Key-Pair-Id, Google's KeyName, Azure's account",
    ),
    row(
        "resolver.path",
        "/retrieve/authenticated/recordings/%s",
        "path HubSpot calls, with %s once where it puts the externalId; may hold a query",
    ),
    row(
        "resolver.allowed_app_ids",
        "",
        "list of app ids that are answered; without it, any",
    ),
    row(
        "resolver.allowed_account_ids",
        "",
        "list of external account ids that are answered; without it, any",
    ),
    row(
        "resolver.secret_file",
        "",
        "file whose text stands for {secret} in resolver.path: letters, digits, - and _, at least 16",
    ),
    row(
        "resolver.per_caller",
        "0",
        "questions that one address may ask a minute; 0 is any number",
    ),
    row(
        "resolver.per_recording",
        "0",
        "questions that may be asked for one recording a minute; 0 is any number",
    ),
    row(
        "hubspot.base_url",
        "https://api.hubapi.com",
        "where HubSpot's API is; http only on this machine, for a rehearsal",
    ),
    row(
        "hubspot.api_version",
        "v3",
        "version of HubSpot's API: v3, or a month such as 2026-03 or 2026-09",
    ),
    row(
        "hubspot.token_file",
        "",
        "file with the access token of a private app or a service key",
    ),
    row(
        "hubspot.oauth_file",
        "",
        "TOML file with client_id, client_secret and refresh_token of an installed app",
    ),
    row(
        "hubspot.developer_key_file",
        "",
        "file with the developer API key, for register and show where the token may not",
    ),
    row(
        "hubspot.index_wait",
        "45s",
        "how long a call that may have been logged is looked for before it is logged again; up to 30s of lag have been seen",
    ),
    row(
        "hubspot.signature",
        "off",
        "HubSpot's signature on questions: off, observe (log whether it holds), require",
    ),
    row(
        "hubspot.client_secret_file",
        "",
        "file with the app's client secret, for its signature",
    ),
    row(
        "ingest.tokens",
        "",
        "file of tokens that may bring and erase recordings, mode 0600; without it, nobody may",
    ),
    row(
        "ingest.max_size",
        "2GiB",
        "largest recording that is taken in",
    ),
    row(
        "ingest.stall_timeout",
        "30s",
        "longest wait for more of a recording that is being brought",
    ),
    row(
        "ingest.upload_ttl",
        "24h",
        "how long an upload in parts is kept when no part comes",
    ),
    row(
        "limits.header_timeout",
        "10s",
        "longest time from accept, or from the first byte of a later request, to the end of its head",
    ),
    row(
        "limits.idle_timeout",
        "60s",
        "longest time that a connection is kept between requests",
    ),
    row(
        "limits.write_timeout",
        "30s",
        "longest time that a reader may take less than limits.least_pace",
    ),
    row(
        "limits.least_pace",
        "256",
        "slowest reader, in bytes a second, such as 256 or 1KiB",
    ),
    row(
        "limits.connections",
        "0",
        "most connections at a time, more wait; 0 is what the open files allow",
    ),
    row(
        "limits.connections_per_address",
        "0",
        "most connections of one address, or one /64 of IPv6; 0 is any number, as behind a proxy",
    ),
    row(
        "limits.responses",
        "0",
        "most responses under way, more are told to come back; 0 is any number",
    ),
    row(
        "limits.shutdown_delay",
        "0s",
        "how long is served on, not ready, after a stop was asked for: until balancers know",
    ),
    row(
        "limits.drain",
        "30s",
        "longest time running responses get to finish after a stop was asked for",
    ),
    row(
        "object.endpoint",
        "",
        "where the bucket is, path style, if not at its cloud: such as http://127.0.0.1:9000",
    ),
    row(
        "object.timeout",
        "10s",
        "longest wait for an answer of the bucket, and for more of one",
    ),
    row(
        "object.max_requests",
        "1024",
        "requests to the bucket that may be under way, streams among them",
    ),
    row(
        "object.delivery",
        "proxy",
        "how a bucket's bytes reach listeners: proxy, cache (by slices on local disk) or presign (URLs of the bucket's own; S3 only)",
    ),
    row(
        "object.session_ttl",
        "5m",
        "longest life of a presigned URL where the bucket's credentials are of a session, whose end nobody tells",
    ),
    row(
        "cache.directory",
        "cache",
        "directory of slices, of one process alone; made if need be; for object.delivery = cache",
    ),
    row(
        "cache.size",
        "10GiB",
        "most bytes that slices take up, at least 16 slices",
    ),
    row(
        "cache.slice",
        "1MiB",
        "bytes that are fetched and kept together, from 64KiB to 64MiB",
    ),
    row(
        "cache.keep",
        "24h",
        "how long a slice is kept that nobody asks for, of an erased recording too",
    ),
    row(
        "cache.trust",
        "2s",
        "how long what the bucket said of a recording is believed while it cannot be asked; no revocation or erasure shows for so long then",
    ),
    row(
        "log.filter",
        "info",
        "what is logged: error, warn, info, debug, trace, or directives such as info,tonearm::access=off",
    ),
    row("log.format", "text", "text or json"),
];

const fn row(key: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, default, help }
}

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

/// The text of every setting, and where each comes from.
#[derive(Debug, Clone)]
pub struct Values(BTreeMap<&'static str, Value>);

/// Values given on the command line.
pub type Flags = Vec<(&'static str, Option<String>)>;

impl Values {
    /// Collects the values of every setting.
    ///
    /// `file` must exist when it is named; the default one need not.
    ///
    /// # Errors
    /// [`ConfigError`] where the file cannot be read, or a key in it or a variable is no setting.
    pub fn collect(
        flags: Flags,
        environment: &[(String, String)],
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            values.insert(setting.key, Value::new(setting.default, Source::Default));
        }
        let named = file.unwrap_or(Path::new(DEFAULT_FILE));
        if file.is_some() || named.exists() {
            values.extend(source::read_file(named)?);
        }
        for (variable, text) in environment {
            if let Some(setting) = source::setting_of(variable)? {
                let source = Source::Environment(variable.clone());
                values.insert(setting.key, Value::new(text.as_str(), source));
            }
        }
        for (key, text) in flags {
            if let Some(text) = text {
                values.insert(key, Value::new(text, Source::Flag(key)));
            }
        }
        Ok(Self(values))
    }

    /// Every setting with its value, in the table's order.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Setting, &Value)> {
        SETTINGS
            .iter()
            .filter_map(|setting| Some((setting, self.0.get(setting.key)?)))
    }

    /// Makes of the texts what the program needs.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that will not do, with its place.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let policy = self.policy()?;
        Ok(Config {
            storage: self.get("storage", storage)?,
            endpoint: self.get("object.endpoint", endpoint)?,
            bucket_limits: Limits {
                timeout: self.get("object.timeout", positive)?,
                requests: self.get("object.max_requests", requests)?,
            },
            delivery: self.delivery()?,
            listen: self.get("listen", address)?,
            admin_listen: self.get("admin_listen", address)?,
            tls: self.tls()?,
            proxy_protocol: self.proxy_protocol()?,
            forwarding: self.forwarding()?,
            keyring: self.get("keyring", path)?,
            workers: self.get("workers", workers)?,
            confine: self.get("confine", confine)?,
            policy,
            cdn: self.cdn()?,
            resolver: Resolver {
                template: self.template()?,
                guard: Arc::new(self.guard()?),
                allowed_apps: self.get("resolver.allowed_app_ids", ids)?,
                allowed_accounts: self.get("resolver.allowed_account_ids", ids)?,
                public_base_url: self.get("public_base_url", optional::<BaseUrl>)?,
            },
            ingest_tokens: self.get("ingest.tokens", optional_path)?,
            ingest: ingest::Settings {
                max_size: self.get("ingest.max_size", size)?,
                stall_timeout: self.get("ingest.stall_timeout", positive)?,
                upload_ttl: self.get("ingest.upload_ttl", positive)?,
            },
            hubspot: self.hubspot()?,
            server: server::Settings {
                header_timeout: self.get("limits.header_timeout", positive)?,
                idle_timeout: self.get("limits.idle_timeout", positive)?,
                write_timeout: self.get("limits.write_timeout", positive)?,
                least_pace: self.get("limits.least_pace", size)?,
                connections: self.get("limits.connections", parse)?,
                connections_per_address: self.get("limits.connections_per_address", parse)?,
                drain: self.get("limits.drain", duration)?,
                reserve: 0,
            },
            responses: self.get("limits.responses", parse)?,
            shutdown_delay: self.get("limits.shutdown_delay", duration)?,
            log_filter: self.get("log.filter", filter)?,
            log_format: self.get("log.format", log_format)?,
        })
    }

    fn tls(&self) -> Result<Option<tls::Files>, ConfigError> {
        let certificate = self.get("tls.certificate", optional_path)?;
        let key = self.get("tls.key", |text| match optional_path(text)? {
            None if certificate.is_some() => Err("tls.certificate has no key without it".into()),
            Some(_) if certificate.is_none() => Err("tls.certificate is needed with it".to_owned()),
            key => Ok(key),
        })?;
        Ok(certificate
            .zip(key)
            .map(|(certificate, key)| tls::Files { certificate, key }))
    }

    fn forwarding(&self) -> Result<Forwarding, ConfigError> {
        Ok(Forwarding {
            proxies: self.get("trusted_proxies", parse)?,
            field: self.get("forwarded_field", parse)?,
        })
    }

    fn proxy_protocol(&self) -> Result<bool, ConfigError> {
        let proxies: Proxies = self.get("trusted_proxies", parse)?;
        self.get("proxy_protocol", |text| match text {
            "off" => Ok(false),
            // Whoever else reached the port could claim any address.
            "required" if proxies.is_empty() => Err("trusted_proxies is needed with it".to_owned()),
            "required" => Ok(true),
            _ => Err("off or required is needed".to_owned()),
        })
    }

    fn template(&self) -> Result<Template, ConfigError> {
        let file = self.get("resolver.secret_file", optional_path)?;
        self.get("resolver.path", |text| match &file {
            Some(file) => {
                Template::with_secret(text, &secret(file)?).map_err(|error| error.to_string())
            }
            None => parse(text),
        })
    }

    fn guard(&self) -> Result<Guard, ConfigError> {
        let base = self.get("public_base_url", optional::<BaseUrl>)?;
        let file = self.get("hubspot.client_secret_file", optional_path)?;
        let signatures = self.get("hubspot.signature", |text| {
            let mode = match text {
                "off" => return Ok(None),
                "observe" => Mode::Observe,
                "require" => Mode::Require,
                _ => return Err("off, observe or require is needed".to_owned()),
            };
            let (Some(base), Some(file)) = (&base, &file) else {
                return Err(
                    "public_base_url and hubspot.client_secret_file are needed with it".to_owned(),
                );
            };
            Ok(Some(Signatures {
                mode,
                secret: secret(file)?,
                base: base.clone(),
            }))
        })?;
        let limit = |key| {
            self.get(key, |text| {
                text.parse()
                    .map(NonZeroU32::new)
                    .map_err(|_| "a number a minute is needed".to_owned())
            })
        };
        Ok(Guard::new(
            signatures,
            limit("resolver.per_caller")?,
            limit("resolver.per_recording")?,
        ))
    }

    fn hubspot(&self) -> Result<HubSpot, ConfigError> {
        Ok(HubSpot {
            base: self.get("hubspot.base_url", api_base)?,
            version: self.get("hubspot.api_version", parse)?,
            token_file: self.get("hubspot.token_file", optional_path)?,
            oauth_file: self.get("hubspot.oauth_file", optional_path)?,
            developer_key_file: self.get("hubspot.developer_key_file", optional_path)?,
            client_secret_file: self.get("hubspot.client_secret_file", optional_path)?,
            index_wait: self.get("hubspot.index_wait", duration)?,
        })
    }

    fn policy(&self) -> Result<Policy, ConfigError> {
        Ok(Policy {
            base: self.get("url.base_ttl", duration)?.as_secs(),
            max_ttl: self.get("url.max_ttl", max_ttl)?,
            bucket: self.get("url.bucket", whole_seconds)?,
            ..Policy::default()
        })
    }

    fn cdn(&self) -> Result<Option<Cdn>, ConfigError> {
        let Some(format) = self.get("url.format", format)? else {
            return Ok(None);
        };
        Ok(Some(Cdn {
            format,
            base: self.get("url.cdn_base_url", parse)?,
            key_file: self.get("url.key_file", path)?,
            key_id: self.get("url.key_id", |text| match format.key_id() {
                Some(needed) if text.is_empty() => Err(format!("{format} needs {needed}")),
                _ => Ok(text.to_owned()),
            })?,
        }))
    }

    fn get<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let missing = Value::new("", Source::Default);
        let value = self.0.get(key).unwrap_or(&missing);
        read(&value.text).map_err(|problem| value.error(key, &problem))
    }
}

fn parse<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn format(text: &str) -> Result<Option<Format>, String> {
    if text == "native" {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

fn optional<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<Option<T>, String> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("a path is needed".to_owned());
    }
    if text.contains("://") {
        return Err("a path of this machine is needed".to_owned());
    }
    Ok(text.into())
}

fn storage(text: &str) -> Result<Storage, String> {
    if text.contains("://") {
        return parse(text).map(Storage::Bucket);
    }
    path(text).map(Storage::Directory)
}

/// Scheme and authority, and perhaps a path: what a bucket's name is put behind.
fn endpoint(text: &str) -> Result<Option<String>, String> {
    let is_url = |text: &str| {
        let rest = text
            .strip_prefix("https://")
            .or(text.strip_prefix("http://"));
        // Credentials in a URL end in logs.
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', '?', '#']))
    };
    match text {
        "" => Ok(None),
        text if is_url(text) => Ok(Some(text.trim_end_matches('/').to_owned())),
        _ => Err("an http:// or https:// URL without credentials is needed".to_owned()),
    }
}

fn requests(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=65536) => Ok(count),
        _ => Err("a number from 1 to 65536 is needed".to_owned()),
    }
}

fn secret(file: &Path) -> Result<Zeroizing<String>, String> {
    secret::line(file).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    path(text).map(Some)
}

/// A token must not cross a network in the clear.
fn api_base(text: &str) -> Result<String, String> {
    let base: BaseUrl = parse(text)?;
    if base.is_https() || base.is_of_this_machine() {
        return Ok(base.to_string());
    }
    Err("https:// is needed, since a token is sent; http:// only to this machine".to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address and a port are needed, such as 127.0.0.1:8080 or [::]:8080".into())
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        Ok(count) if count <= 1024 => Ok(count),
        _ => Err("a number of threads from 0 to 1024 is needed".to_owned()),
    }
}

/// A span of time such as `90s`, `15m` or `1h30m`.
///
/// # Errors
/// What to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|span| Duration::try_from(span).ok())
        .ok_or_else(|| "a span of time is needed, such as 90s, 15m, 1h30m or 12h".to_owned())
}

/// A number of bytes such as `65536`, `64KiB` or `2GiB`.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let unit = UNITS
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (digits, shift) = unit.unwrap_or((text, 0));
    digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(1 << shift))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "a size is needed, such as 500MiB or 2GiB".to_owned())
}

fn positive(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("more than 0s is needed".to_owned()),
        span => Ok(span),
    }
}

fn whole_seconds(text: &str) -> Result<u64, String> {
    match duration(text)?.as_secs() {
        0 => Err("at least 1s is needed".to_owned()),
        seconds => Ok(seconds),
    }
}

fn max_ttl(text: &str) -> Result<u64, String> {
    let seconds = whole_seconds(text)?;
    // Ten digits are what a token's expiry has; a century is far within.
    if (MIN_TTL..=3_153_600_000).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("at least 5m is needed".to_owned())
    }
}

fn ids(text: &str) -> Result<Option<Vec<Id>>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let ids: Result<Vec<Id>, String> = text.split(',').map(|id| parse(id.trim())).collect();
    ids.map(Some)
}

fn filter(text: &str) -> Result<String, String> {
    text.parse::<tracing_subscriber::EnvFilter>()
        .map(|_| text.to_owned())
        .map_err(|error| {
            format!("{error}; write a level (error, warn, info, debug, trace) or target=level")
        })
}

fn confine(text: &str) -> Result<Confine, String> {
    match text {
        "auto" => Ok(Confine::Auto),
        "off" => Ok(Confine::Off),
        "required" => Ok(Confine::Required),
        _ => Err("auto, off or required is needed".to_owned()),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests;
