//! The keyring's file: read whole or refused whole, and changed by replacing it.
//!
//! No error of this module shows a line of the file, since any could hold a secret.

mod change;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::Deserialize;
use zeroize::Zeroizing;

pub use self::change::{Change, Steps, create};
use crate::edge::cdn::SignerError;
use crate::ingest::Tokens;
use crate::recording::UnixTime;
use crate::sign::{
    Audience, Key, KeyError, Keyring, KeyringError, PULL_FIELD, Policy, TokenId, Window,
};

/// Why a keyring's file will not do.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("{}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner and group could read or change it.
    #[error("{}: mode {mode:04o} lets others at the secrets; run: chmod 600 {}", .path.display(), .path.display())]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not the TOML it should be.
    #[error("{}:{line}: {problem}", .path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// What is wrong, without any of the file's text.
        problem: String,
    },
    /// A value will not do.
    #[error("{}: {problem}", .path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// What is wrong, without the value.
        problem: String,
    },
    /// A key will not do.
    #[error("{}: key {kid:?}", .path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Which key.
        kid: String,
        /// Why.
        source: KeyError,
    },
    /// The keys are no ring.
    #[error("{}", .path.display())]
    Ring {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: KeyringError,
    },
    /// A CDN's key will not do.
    #[error("{}", .path.display())]
    Cdn {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: SignerError,
    },
    /// Random bytes cannot be had.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The change asked for makes no sense.
    #[error("{0}")]
    Change(String),
}

impl FileError {
    /// Whether the disk is to blame, and not what stands in the file.
    #[must_use]
    pub const fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Random(_))
    }

    /// Whether there is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RingFile {
    #[serde(default)]
    revoked: Vec<String>,
    #[serde(default)]
    key: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    kid: String,
    secret: Zeroizing<String>,
    mint_from: Option<Moment>,
    mint_until: Option<Moment>,
    verify_until: Option<Moment>,
    audience: Option<String>,
    header: Option<String>,
}

/// A time as Unix seconds, as a TOML date-time with an offset, or as such a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    Seconds(u64),
    DateTime(toml::value::Datetime),
    Text(String),
}

impl Moment {
    fn time(&self) -> Option<UnixTime> {
        let text = match self {
            Self::Seconds(seconds) => return Some(UnixTime(*seconds)),
            Self::DateTime(date) => date.to_string(),
            Self::Text(text) => text.clone(),
        };
        let timestamp: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(timestamp.as_second()).ok().map(UnixTime)
    }
}

/// Reads and checks a keyring.
///
/// # Errors
/// [`FileError`]; a ring is taken whole or not at all.
pub fn load(path: &Path, policy: &Policy) -> Result<Keyring, FileError> {
    parse(path, &read(path)?, policy)
}

/// Reads the tokens of those who may bring recordings.
///
/// # Errors
/// [`FileError`]; they are taken whole or not at all.
pub fn load_tokens(path: &Path) -> Result<Tokens, FileError> {
    Tokens::parse(&read(path)?).map_err(|error| FileError::Value {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

/// Reads the file, if it is its owner's alone.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let io_error = |source| FileError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(io_error)?;
    let metadata = file.metadata().map_err(io_error)?;
    if metadata.is_dir() {
        // Before its mode is complained of: closing a directory would not make it a file.
        return Err(io_error(io::ErrorKind::IsADirectory.into()));
    }
    let mode = metadata.mode() & 0o7777;
    // 0600 and 0640, and what is stricter: the group may read, nobody else may do anything.
    if mode & 0o037 != 0 {
        return Err(FileError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(io_error)?;
    Ok(text)
}

fn parse(path: &Path, text: &str, policy: &Policy) -> Result<Keyring, FileError> {
    let file: RingFile = toml::from_str(text).map_err(|error| syntax(path, text, &error))?;
    let mut keys = Vec::with_capacity(file.key.len());
    for entry in &file.key {
        keys.push(key(path, entry)?);
    }
    let mut revoked = HashSet::new();
    for id in &file.revoked {
        let id: TokenId = id.parse().map_err(|error| FileError::Value {
            path: path.to_owned(),
            problem: format!("revoked: {error}"),
        })?;
        revoked.insert(id);
    }
    Keyring::new(keys, revoked, policy).map_err(|source| FileError::Ring {
        path: path.to_owned(),
        source,
    })
}

/// Longest name of somebody's choice that is shown, in bytes: as long as a key id can be, and far
/// shorter than a secret that stands in the wrong place.
const MAX_SHOWN: usize = 16;

fn shown(kid: &str) -> &str {
    if kid.len() <= MAX_SHOWN {
        kid
    } else {
        "(a long one)"
    }
}

/// A parser's complaint without the text it complains of.
fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> FileError {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text[..at].matches('\n').count() + 1;
    let shown = text.lines().nth(line - 1).unwrap_or_default();
    let field = |prefix: &str| error.message().strip_prefix(prefix)?.split('`').next();
    let names_a_field = field("missing field `").is_some()
        || field("unknown field `").is_some_and(|name| name.len() <= MAX_SHOWN);
    let problem = if shown.trim_start().starts_with("secret") || !names_a_field {
        "this is not a keyring's TOML; `tonearm keys init` makes one to compare with".to_owned()
    } else {
        error.message().to_owned()
    };
    FileError::Syntax {
        path: path.to_owned(),
        line,
        problem,
    }
}

fn key(path: &Path, entry: &KeyEntry) -> Result<Key, FileError> {
    let wrong = |field: &str, problem: &str| FileError::Value {
        path: path.to_owned(),
        problem: format!("key {:?}: {field}: {problem}", shown(&entry.kid)),
    };
    let secret = BASE64URL
        .decode(entry.secret.trim_end_matches('='))
        .map(Zeroizing::new)
        .map_err(|_| wrong("secret", "it is not base64url"))?;
    let time = |field: &str, moment: &Option<Moment>| match moment {
        None => Ok(None),
        Some(moment) => moment
            .time()
            .map(Some)
            .ok_or_else(|| wrong(field, "write it as 2026-01-31T12:00:00Z")),
    };
    let window = Window {
        mint_from: time("mint_from", &entry.mint_from)?,
        mint_until: time("mint_until", &entry.mint_until)?,
        verify_until: time("verify_until", &entry.verify_until)?,
    };
    let audience = match entry.audience.as_deref() {
        None | Some("origin") => Audience::Origin,
        Some(other) => match other.strip_prefix("edge:").filter(|name| !name.is_empty()) {
            Some(name) => Audience::Edge(name.to_owned()),
            None => return Err(wrong("audience", "it is origin, or edge:NAME")),
        },
    };
    let field = match (&entry.header, &audience) {
        (None, _) => PULL_FIELD.to_owned(),
        (Some(_), Audience::Origin) => return Err(wrong("header", "only an edge shows its key")),
        (Some(name), Audience::Edge(_)) => http::HeaderName::try_from(name)
            .map_err(|_| wrong("header", "it is the name of a header"))?
            .as_str()
            .to_owned(),
    };
    Key::new(&entry.kid, &secret, window, audience)
        .map(|key| key.shown_in(&field))
        .map_err(|source| FileError::Key {
            path: path.to_owned(),
            kid: shown(&entry.kid).to_owned(),
            source,
        })
}

/// RFC 3339, in UTC.
#[must_use]
pub fn date(time: UnixTime) -> String {
    time.rfc3339()
}

#[cfg(test)]
mod tests;
