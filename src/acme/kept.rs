//! What is kept in the directory: one account per ACME directory, one certificate with its key per
//! ACME directory and list of names. So a change of either takes nothing for what it is not.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use instant_acme::{AccountCredentials, CertificateIdentifier};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, Der};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::AuthorityKeyIdentifier;
use zeroize::Zeroizing;

use super::Settings;
use super::plan::Span;
use crate::recording::UnixTime;

/// Where a server's account and certificate are.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    directory: PathBuf,
    account: PathBuf,
    certificate: PathBuf,
}

/// What is to be known of a certificate to renew it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) life: Span,
    /// Its name to the directory (RFC 9773 §4.1), where it has one.
    pub(super) id: Option<CertificateIdentifier<'static>>,
}

impl Kept {
    pub(super) fn of(settings: &Settings) -> Self {
        let mut names = settings.domains.clone();
        names.sort();
        let file = |what: &str, of: &str| {
            let digest = Sha256::digest(of);
            let digest = URL_SAFE_NO_PAD.encode(&digest[..9]);
            settings.cache.join(format!("{what}-{digest}"))
        };
        let certificate = file("certificate", &format!("{}\n{names:?}", settings.directory));
        Self {
            directory: settings.cache.clone(),
            account: file("account", &settings.directory).with_extension("json"),
            certificate: certificate.with_extension("pem"),
        }
    }

    /// The file with chain and key.
    pub(super) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Makes the directory, if need be.
    pub(super) fn make(&self) -> io::Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.directory)
    }

    /// The account; `None` where there is none yet.
    pub(super) fn account(&self) -> io::Result<Option<AccountCredentials>> {
        let Some(text) = read(&self.account)? else {
            return Ok(None);
        };
        // serde_json's own error may show what it stumbled over, which is of a key.
        let unreadable = |_| io::Error::new(io::ErrorKind::InvalidData, "no account is in it");
        serde_json::from_slice(&text).map(Some).map_err(unreadable)
    }

    pub(super) fn put_account(&self, account: &AccountCredentials) -> io::Result<()> {
        let text = Zeroizing::new(serde_json::to_vec_pretty(account)?);
        self.put(&self.account, &text)
    }

    /// Takes the account away.
    pub(super) fn forget_account(&self) {
        if let Err(error) = std::fs::remove_file(&self.account) {
            tracing::warn!(%error, "an account that the directory does not know stays");
        }
    }

    /// The certificate; `None` where there is none, or nothing that will do for one.
    pub(super) fn held(&self) -> Option<Held> {
        let text = read(&self.certificate).ok().flatten()?;
        let own = CertificateDer::from_pem_slice(&text).ok()?;
        let certificate = x509_cert::Certificate::from_der(&own).ok()?;
        let facts = certificate.tbs_certificate();
        let second = |time: x509_cert::time::Time| UnixTime(time.to_unix_duration().as_secs());
        let validity = facts.validity();
        let id = || {
            let (_, issuer) = facts.get_extension::<AuthorityKeyIdentifier>().ok()??;
            let issuer = issuer.key_identifier?;
            let serial = facts.serial_number().as_bytes();
            let (issuer, serial) = (Der::from_slice(issuer.as_bytes()), Der::from_slice(serial));
            Some(CertificateIdentifier::new(issuer, serial).into_owned())
        };
        Some(Held {
            life: Span {
                from: second(validity.not_before),
                until: second(validity.not_after),
            },
            id: id(),
        })
    }

    /// Puts a certificate into place, its key first.
    pub(super) fn put_certificate(&self, chain: &str, key: &str) -> io::Result<()> {
        let both = Zeroizing::new(format!("{}\n{}\n", key.trim_end(), chain.trim_end()));
        self.put(&self.certificate, both.as_bytes())
    }

    /// Whole, or not at all; mode 0600.
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(&self.directory)?;
        file.as_file()
            .set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        std::fs::File::open(&self.directory)?.sync_all()
    }
}

fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, IsCa, Issuer, KeyIdMethod, KeyPair, SerialNumber,
    };

    use super::*;
    use crate::acme::Challenge;

    fn settings(cache: &Path) -> Settings {
        Settings {
            directory: "https://acme.example.com/directory".to_owned(),
            contact: Vec::new(),
            domains: vec!["b.example.com".to_owned(), "a.example.com".to_owned()],
            cache: cache.to_owned(),
            challenge: Challenge::TlsAlpn,
            ca_file: None,
            binding: None,
        }
    }

    /// Its name is that of RFC 9773 §4.1, of the same key's digest and serial number.
    #[test]
    fn a_certificate_that_is_kept_has_its_life_and_its_name() {
        const ISSUER: [u8; 20] = [
            0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0,
            0xae, 0x2c, 0xde, 0x01, 0xc8, 0xd4,
        ];
        let tmp = tempfile::tempdir().unwrap();
        let kept = Kept::of(&settings(&tmp.path().join("cache")));
        kept.make().unwrap();
        assert!(kept.held().is_none());
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_identifier_method = KeyIdMethod::PreSpecified(ISSUER.to_vec());
        let issuer = Issuer::new(ca, KeyPair::generate().unwrap());
        let mut own = CertificateParams::new(["a.example.com".to_owned()]).unwrap();
        own.serial_number = Some(SerialNumber::from_slice(&[0x87, 0x65, 0x43, 0x21]));
        own.use_authority_key_identifier_extension = true;
        own.not_before = rcgen::date_time_ymd(2026, 1, 1);
        own.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let key = KeyPair::generate().unwrap();
        let chain = own.signed_by(&key, &issuer).unwrap().pem();
        kept.put_certificate(&chain, &key.serialize_pem()).unwrap();
        let held = kept.held().unwrap();
        assert_eq!(held.life.from.rfc3339(), "2026-01-01T00:00:00Z");
        assert_eq!(held.life.until.rfc3339(), "2026-04-01T00:00:00Z");
        let id = held.id.unwrap().to_string();
        assert_eq!(id, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        // Whatever is half there is none.
        std::fs::write(kept.certificate(), &chain[..chain.len() / 2]).unwrap();
        assert!(kept.held().is_none());
    }

    #[test]
    fn other_names_and_other_directories_have_other_files() {
        let one = settings(Path::new("cache"));
        let mut turned = one.clone();
        turned.domains.reverse();
        assert_eq!(one.file(), turned.file());
        let mut fewer = one.clone();
        fewer.domains.pop();
        let mut staging = one.clone();
        staging.directory.push_str("-staging");
        assert!(one.file() != fewer.file() && one.file() != staging.file());
        let account = |settings| Kept::of(settings).account;
        assert_eq!(account(&one), account(&fewer));
        assert_ne!(account(&one), account(&staging));
    }
}
