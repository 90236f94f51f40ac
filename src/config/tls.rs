//! The files of a certificate and its key.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::secret::{self, SecretError};

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The chain of certificates, the server's own first.
    pub certificate: PathBuf,
    /// The key of the first.
    pub key: PathBuf,
}

/// What is in them. Whether it is of any use is not known here.
#[derive(PartialEq, Eq)]
pub struct Pair {
    /// The certificates, in PEM.
    pub chain: Zeroizing<Vec<u8>>,
    /// The key, in PEM.
    pub key: Zeroizing<Vec<u8>>,
}

impl Files {
    /// Reads both.
    ///
    /// # Errors
    /// [`SecretError`] where one cannot be read, or others may write to it.
    pub fn read(&self) -> Result<Pair, SecretError> {
        Ok(Pair {
            chain: secret::bytes(&self.certificate)?,
            key: secret::bytes(&self.key)?,
        })
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        write!(f, "{certificate} with {key}")
    }
}
