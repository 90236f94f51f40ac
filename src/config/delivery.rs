//! How a bucket's bytes reach listeners.

use std::time::Duration;

use super::Values;
use super::source::ConfigError;
use super::text::{path, positive, size, whole_seconds};
use crate::store::CacheSettings;

/// The way of a bucket's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Through this server.
    Proxy,
    /// By slices on local disk. While the bucket cannot be asked, what it said of a recording is
    /// believed for so many seconds.
    Cache(CacheSettings, u64),
    /// By the bucket itself. A URL signed in a session lives no longer than this.
    Presign(Duration),
}

impl Values {
    pub(super) fn delivery(&self) -> Result<Delivery, ConfigError> {
        let cache = CacheSettings {
            directory: self.get("cache.directory", path)?,
            slice: self.get("cache.slice", slice)?,
            size: self.get("cache.size", size)?,
            keep: self.get("cache.keep", positive)?,
        };
        let trust = self.get("cache.trust", whole_seconds)?;
        let session = self.get("object.session_ttl", positive)?;
        let native = self.get("url.format", |text| Ok(text == "native"))?;
        self.get("cache.size", |_| match cache.slice.checked_mul(16) {
            Some(least) if least <= cache.size => Ok(()),
            _ => Err("at least 16 of cache.slice are needed".to_owned()),
        })?;
        self.get("object.delivery", |text| match text {
            "proxy" => Ok(Delivery::Proxy),
            "cache" => Ok(Delivery::Cache(cache.clone(), trust)),
            "presign" if !native => {
                Err("url.format has to be native where the bucket gives the URLs".to_owned())
            }
            "presign" => Ok(Delivery::Presign(session)),
            _ => Err("proxy, cache or presign is needed".to_owned()),
        })
    }
}

fn slice(text: &str) -> Result<u64, String> {
    match size(text) {
        Ok(bytes @ 65_536..=67_108_864) => Ok(bytes),
        _ => Err("a size from 64KiB to 64MiB is needed".to_owned()),
    }
}
