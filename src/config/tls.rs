//! The files of a certificate and its key, and how ACME is to fill them.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::secret::{self, SecretError};
use super::text::{address, optional_path, path};
use super::{ConfigError, Values};
use crate::acme;

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

impl Values {
    /// Where the public listener's certificate is, and what it is asked for with, if by ACME.
    pub(super) fn tls(&self) -> Result<(Option<Files>, Option<acme::Settings>), ConfigError> {
        let certificate = self.get("tls.certificate", optional_path)?;
        let key = self.get("tls.key", |text| match optional_path(text)? {
            None if certificate.is_some() => Err("tls.certificate has no key without it".into()),
            Some(_) if certificate.is_none() => Err("tls.certificate is needed with it".to_owned()),
            key => Ok(key),
        })?;
        let given = certificate.zip(key);
        let given = given.map(|(certificate, key)| Files { certificate, key });
        let acme = self.acme(given.is_some())?;
        let made = acme.as_ref().map(|settings| Files {
            certificate: settings.file(),
            key: settings.file(),
        });
        Ok((given.or(made), acme))
    }

    fn acme(&self, given: bool) -> Result<Option<acme::Settings>, ConfigError> {
        let domains: Vec<_> = self.get("tls.acme.domains", |text| match list(text) {
            names if names.is_empty() => Ok(Vec::new()),
            _ if given => Err("it and tls.certificate are two certificates; leave one out".into()),
            names => names.into_iter().map(domain).collect(),
        })?;
        if domains.is_empty() {
            return Ok(None);
        }
        let listen = self.get("tls.acme.http_listen", address)?;
        Ok(Some(acme::Settings {
            directory: self.get("tls.acme.directory", directory)?,
            contact: self.get("tls.acme.contact", |text| {
                list(text).into_iter().map(contact).collect()
            })?,
            domains,
            cache: self.get("tls.acme.cache", path)?,
            challenge: self.get("tls.acme.challenge", |text| match text {
                "tls-alpn-01" => Ok(acme::Challenge::TlsAlpn),
                "http-01" => Ok(acme::Challenge::Http(listen)),
                _ => Err("tls-alpn-01 or http-01 is needed".to_owned()),
            })?,
            ca_file: self.get("tls.acme.ca_file", optional_path)?,
            binding: self.binding()?,
        }))
    }

    fn binding(&self) -> Result<Option<acme::Binding>, ConfigError> {
        let key_file = self.get("tls.acme.eab_key_file", optional_path)?;
        let key_id = self.get("tls.acme.eab_key_id", |text| match text {
            "" if key_file.is_some() => Err("tls.acme.eab_key_file has no name without it".into()),
            "" => Ok(None),
            _ if key_file.is_none() => Err("tls.acme.eab_key_file is needed with it".to_owned()),
            text => Ok(Some(text.to_owned())),
        })?;
        let both = key_id.zip(key_file);
        Ok(both.map(|(key_id, key_file)| acme::Binding { key_id, key_file }))
    }
}

fn list(text: &str) -> Vec<&str> {
    let members = text.split(',').map(str::trim);
    members.filter(|member| !member.is_empty()).collect()
}

/// A host's name. Names with `*` want a challenge by DNS, which is not ours to answer.
fn domain(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(part)
    };
    let is_address = text.parse::<std::net::Ipv4Addr>().is_ok();
    if text.len() <= 253 && text.split('.').all(is_label) && !is_address {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!(
        "{text:?} is no name of a host, such as rec.example.com; names with * are not to be had"
    ))
}

/// RFC 8555 §6.1: HTTPS, always.
fn directory(text: &str) -> Result<String, String> {
    match text.parse::<http::Uri>() {
        Ok(url) if url.scheme_str() == Some("https") && url.host().is_some() => Ok(text.to_owned()),
        _ => Err("an https:// URL is needed".to_owned()),
    }
}

fn contact(text: &str) -> Result<String, String> {
    match text.strip_prefix("mailto:").unwrap_or(text) {
        address if address.contains('@') => Ok(format!("mailto:{address}")),
        _ => Err("addresses of mail are needed, such as ops@example.com".to_owned()),
    }
}
