//! Certificates made for a test, and a TLS client that offers what it is told.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::client::ClientConnection;
use rustls::pki_types::ServerName;
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
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(ENDS, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
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
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
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
