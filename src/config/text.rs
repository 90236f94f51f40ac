//! What the text of one value means, or what to write instead. What several values mean together is
//! [`Values`](super::Values)' to say.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Confine, LogFormat, Storage, secret};
use crate::app::BaseUrl;
use crate::edge::cdn::Format;
use crate::recording::Id;
use crate::sign::MIN_TTL;

pub(super) fn parse<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

pub(super) fn format(text: &str) -> Result<Option<Format>, String> {
    if text == "native" {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

pub(super) fn optional<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<Option<T>, String> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("a path is needed".to_owned());
    }
    if text.contains("://") {
        return Err("a path of this machine is needed".to_owned());
    }
    Ok(text.into())
}

pub(super) fn storage(text: &str) -> Result<Storage, String> {
    if text.contains("://") {
        return parse(text).map(Storage::Bucket);
    }
    path(text).map(Storage::Directory)
}

/// Scheme and authority, and perhaps a path: what a bucket's name is put behind.
pub(super) fn endpoint(text: &str) -> Result<Option<String>, String> {
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

pub(super) fn requests(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=65536) => Ok(count),
        _ => Err("a number from 1 to 65536 is needed".to_owned()),
    }
}

pub(super) fn secret(file: &Path) -> Result<Zeroizing<String>, String> {
    secret::line(file).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

pub(super) fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    path(text).map(Some)
}

/// A token must not cross a network in the clear.
pub(super) fn api_base(text: &str) -> Result<String, String> {
    let base: BaseUrl = parse(text)?;
    if base.is_https() || base.is_of_this_machine() {
        return Ok(base.to_string());
    }
    Err("https:// is needed, since a token is sent; http:// only to this machine".to_owned())
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address and a port are needed, such as 127.0.0.1:8080 or [::]:8080".into())
}

pub(super) fn workers(text: &str) -> Result<usize, String> {
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
pub(super) fn size(text: &str) -> Result<u64, String> {
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

pub(super) fn positive(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("more than 0s is needed".to_owned()),
        span => Ok(span),
    }
}

pub(super) fn whole_seconds(text: &str) -> Result<u64, String> {
    match duration(text)?.as_secs() {
        0 => Err("at least 1s is needed".to_owned()),
        seconds => Ok(seconds),
    }
}

pub(super) fn max_ttl(text: &str) -> Result<u64, String> {
    let seconds = whole_seconds(text)?;
    // Ten digits are what a token's expiry has; a century is far within.
    if (MIN_TTL..=3_153_600_000).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("at least 5m is needed".to_owned())
    }
}

pub(super) fn ids(text: &str) -> Result<Option<Vec<Id>>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let ids: Result<Vec<Id>, String> = text.split(',').map(|id| parse(id.trim())).collect();
    ids.map(Some)
}

pub(super) fn filter(text: &str) -> Result<String, String> {
    text.parse::<tracing_subscriber::EnvFilter>()
        .map(|_| text.to_owned())
        .map_err(|error| {
            format!("{error}; write a level (error, warn, info, debug, trace) or target=level")
        })
}

pub(super) fn confine(text: &str) -> Result<Confine, String> {
    match text {
        "auto" => Ok(Confine::Auto),
        "off" => Ok(Confine::Off),
        "required" => Ok(Confine::Required),
        _ => Err("auto, off or required is needed".to_owned()),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json is needed".to_owned()),
    }
}
