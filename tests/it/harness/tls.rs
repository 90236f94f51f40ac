//! Certificates made for a test, and a TLS client that offers what it is told.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::client::ClientConnection;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tonearm::server::Tls;

use super::raw::Client;

/// A certificate for localhost and 127.0.0.1, and its key.
pub struct Made {
    pub chain: String,
    pub key: String,
    der: rustls::pki_types::CertificateDer<'static>,
}

/// The year in which every certificate of [`Made`] ends, on its first day.
pub const ENDS: i32 = 2040;

impl Made {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params(&["localhost", "127.0.0.1"], ENDS)
            .self_signed(&key)
            .unwrap();
        Self::of(&certificate, &key)
    }

    fn of(certificate: &Certificate, key: &KeyPair) -> Self {
        Self {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }

    /// Puts both files into place, as `cert.pem` and `key.pem`.
    #[cfg(feature = "cli")]
    pub fn write(&self, place: &super::program::Place) {
        place.write("cert.pem", &self.chain, 0o644);
        place.write("key.pem", &self.key, 0o600);
    }

    #[cfg(feature = "cli")]
    pub fn server(&self) -> Arc<rustls::ServerConfig> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], key);
        Arc::new(config.unwrap())
    }

    pub fn tls(&self) -> Tls {
        Tls::new(self.chain.as_bytes(), self.key.as_bytes()).unwrap()
    }

    /// A client that trusts this certificate and no other.
    pub fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Arc<ClientConfig> {
        trusting(&[self], versions, protocols)
    }
}

fn params(names: &[&str], ends: i32) -> CertificateParams {
    let names: Vec<_> = names.iter().copied().map(str::to_owned).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_after = date_time_ymd(ends, 1, 1);
    params
}

/// An authority that nobody trusts unasked.
#[cfg(feature = "cli")]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

#[cfg(feature = "cli")]
impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// What those trust who trust it.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this name that it signed, which ends with this year's first day.
    pub fn made(&self, name: &str, ends: i32) -> Made {
        let key = KeyPair::generate().unwrap();
        let certificate = params(&[name], ends).signed_by(&key, &self.0).unwrap();
        Made::of(&certificate, &key)
    }
}

/// A client that trusts these certificates.
pub fn trusting(
    made: &[&Made],
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for made in made {
        roots.add(made.der.clone()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().into())
        .collect();
    Arc::new(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

pub fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// A session that has said nothing yet.
pub fn session(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), name()).unwrap()
}

/// Connects and shakes hands.
pub fn connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> Client {
    try_connect(addr, config).unwrap()
}

/// What a session says first.
pub fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut bytes = Vec::new();
    session(config).write_tls(&mut bytes).unwrap();
    bytes
}

/// Connects and shakes hands, if the certificate is one of those trusted.
pub fn try_connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Client> {
    let mut client = Client::connect(addr);
    client.begin_tls(session(config))?;
    Ok(client)
}
