//! What servers are spoken to over, and the certificate they show where there is TLS.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tonearm::load::{Tls, Trust};

/// Listeners that share a connection of HTTP/2, as those behind a CDN do.
const STREAMS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// HTTP/1.1 over TCP
    Tcp,
    /// HTTP/1.1 over TLS
    Tls,
    /// HTTP/2 over TLS, 8 listeners a connection
    Http2,
}

impl Protocol {
    /// For the report; nothing for what goes without saying.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Tcp => "",
            Self::Tls => ", over TLS",
            Self::Http2 => ", over HTTP/2 and TLS, 8 listeners a connection",
        }
    }

    /// What the markers of its report are called.
    pub(crate) const fn mark(self) -> &'static str {
        match self {
            Self::Tcp => "versus",
            Self::Tls => "versus over TLS",
            Self::Http2 => "versus over HTTP/2",
        }
    }

    pub(crate) const fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "http",
            Self::Tls | Self::Http2 => "https",
        }
    }

    /// Listeners of one connection; none where each has its own.
    pub(crate) const fn streams(self) -> Option<usize> {
        match self {
            Self::Tcp | Self::Tls => None,
            Self::Http2 => Some(STREAMS),
        }
    }
}

/// A protocol, and what it takes.
pub(crate) struct Over {
    pub(crate) protocol: Protocol,
    pub(crate) identity: Option<Identity>,
}

/// Who the servers are, and how the load knows them.
pub(crate) struct Identity {
    /// PEM.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) tls: Tls,
    #[expect(dead_code, reason = "the files are in it")]
    place: TempDir,
}

impl Over {
    pub(crate) fn new(protocol: Protocol) -> anyhow::Result<Self> {
        let identity = match protocol {
            Protocol::Tcp => None,
            Protocol::Tls | Protocol::Http2 => Some(Identity::new().context("a certificate")?),
        };
        Ok(Self { protocol, identity })
    }
}

impl Identity {
    fn new() -> anyhow::Result<Self> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let place = tempfile::Builder::new().prefix("versus-").tempdir()?;
        let certificate = place.path().join("certificate.pem");
        let key = place.path().join("key.pem");
        fs::write(&certificate, cert.pem())?;
        fs::write(&key, signing_key.serialize_pem())?;
        fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        Ok(Self {
            certificate,
            key,
            tls: Tls::new(Trust::These(vec![cert.der().clone()]))?,
            place,
        })
    }
}
