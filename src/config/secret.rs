//! Secrets out of files, which are never shown.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// Most bytes of a file of secrets.
const MAX: u64 = 64 << 10;

/// A file that gives no secret. Nothing of its text is told.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than its owner may change it.
    #[error("{0}: others may write to it; chmod 600")]
    Writable(PathBuf),
    /// There is nothing in it, or too much.
    #[error("{path}: {problem}")]
    Text {
        /// Which.
        path: PathBuf,
        /// What is needed.
        problem: &'static str,
    },
}

/// Reads a file as it is, at most 64 KiB.
///
/// # Errors
/// [`SecretError`].
pub fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let io = |source| SecretError::Io {
        path: path.to_owned(),
        source,
    };
    let facts = std::fs::metadata(path).map_err(io)?;
    if facts.permissions().mode() & 0o022 != 0 {
        return Err(SecretError::Writable(path.to_owned()));
    }
    if facts.len() > MAX {
        return Err(SecretError::Text {
            path: path.to_owned(),
            problem: "larger than any secret",
        });
    }
    std::fs::read(path).map(Zeroizing::new).map_err(io)
}

fn read(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let bytes = bytes(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::Text {
        path: path.to_owned(),
        problem: "it is not UTF-8",
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads a file that holds one secret and perhaps white space around it.
///
/// # Errors
/// [`SecretError`].
pub fn line(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let text = read(path)?;
    let secret = text.trim();
    if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = "one line of visible ASCII is needed";
        return Err(SecretError::Text {
            path: path.to_owned(),
            problem,
        });
    }
    Ok(Zeroizing::new(secret.to_owned()))
}

/// Reads a TOML file of secrets.
///
/// # Errors
/// [`SecretError`].
pub fn table<T: DeserializeOwned>(path: &Path, problem: &'static str) -> Result<T, SecretError> {
    // toml's own error shows the line that is wrong, and the line holds a secret.
    toml::from_str(&read(path)?).map_err(|_| SecretError::Text {
        path: path.to_owned(),
        problem,
    })
}
