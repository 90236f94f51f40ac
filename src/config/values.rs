//! The text of every setting, where it came from, and what all of them together make.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use super::source::{self, ConfigError, Source, Value};
use super::text::{
    address, api_base, confine, duration, endpoint, filter, format, ids, log_format, max_ttl,
    optional, optional_path, parse, path, positive, requests, secret, size, storage, whole_seconds,
    workers,
};
use super::{Cdn, Config, DEFAULT_FILE, HubSpot, SETTINGS, Setting};
use crate::app::{BaseUrl, Forwarding, Guard, Mode, Resolver, Signatures};
use crate::ingest;
use crate::route::Template;
use crate::server::{self, Proxies};
use crate::sign::Policy;
use crate::store::Limits;

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
        let (tls, acme) = self.tls()?;
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
            tls,
            acme,
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

    pub(super) fn get<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let missing = Value::new("", Source::Default);
        let value = self.0.get(key).unwrap_or(&missing);
        read(&value.text).map_err(|problem| value.error(key, &problem))
    }
}
