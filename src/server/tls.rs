//! TLS on a listener: one certificate, which may be replaced while connections go on.
//!
//! Decides which versions, protocols and keys are taken. What is spoken inside is no matter of its
//! own, and files it knows none.

use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ProducesTickets;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_cert::der::{self, Decode as _};

use super::front::{Cut, Failed};
use crate::recording::UnixTime;

/// Protocols by their ALPN names (RFC 7301), ours first.
const PROTOCOLS: [&[u8]; 2] = [H2, b"http/1.1"];
const H2: &[u8] = b"h2";

/// Most bytes inside TLS that wait for the socket, on one connection.
const UNSENT: usize = 32 * 1024;

/// What of a certificate and a key will not do. No text of either is told.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificates' file is no PEM.
    #[error("the certificate is not PEM")]
    Certificate(#[source] pem::Error),
    /// There is no certificate in it.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// The first certificate is none of X.509.
    #[error("the certificate cannot be read")]
    Malformed(#[source] der::Error),
    /// The key's file is no PEM with one.
    #[error("the key is not PEM, or has another kind of key than PKCS #8, PKCS #1 or SEC 1")]
    Key(#[source] pem::Error),
    /// One of them is not taken, or they are not each other's.
    #[error("certificate and key are no pair that can be used")]
    Pair(#[source] rustls::Error),
}

/// A certificate with its key, and sessions to be gone on with.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    current: ArcSwap<Current>,
    /// Outlives a certificate: who was here before need not begin anew.
    tickets: Arc<dyn ProducesTickets>,
}

struct Current {
    config: Arc<ServerConfig>,
    ends: UnixTime,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ends", &self.ends())
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Takes a chain of certificates, the server's own first, and its key, both in PEM.
    ///
    /// # Errors
    /// [`TlsError`] where they are not, or are no pair.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let tickets = Ticketer::new().map_err(TlsError::Pair)?;
        let current = ArcSwap::from_pointee(Current::new(chain, key, &tickets)?);
        Ok(Self(Arc::new(Inner { current, tickets })))
    }

    /// Takes another pair for connections to come; those there are keep what they began with.
    ///
    /// # Errors
    /// [`TlsError`]; the old pair stays.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let current = Current::new(chain, key, &self.0.tickets)?;
        self.0.current.store(Arc::new(current));
        Ok(())
    }

    /// When the certificate ends.
    #[must_use]
    pub fn ends(&self) -> UnixTime {
        self.0.current.load().ends
    }

    pub(super) async fn accept<S>(&self, stream: S) -> Result<TlsStream<S>, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.current.load().config);
        TlsAcceptor::from(config)
            .accept_with(stream, |session| session.set_buffer_limit(Some(UNSENT)))
            .await
            .map_err(refused)
    }
}

impl Current {
    fn new(chain: &[u8], key: &[u8], tickets: &Arc<dyn ProducesTickets>) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(TlsError::Certificate)?;
        let own = chain.first().ok_or(TlsError::NoCertificate)?;
        let ends = end(own).map_err(TlsError::Malformed)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::Pair)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.ticketer = Arc::clone(tickets);
        let config = Arc::new(config);
        Ok(Self { config, ends })
    }
}

/// The last second in which a certificate holds (RFC 5280 §4.1.2.5).
fn end(certificate: &[u8]) -> Result<UnixTime, der::Error> {
    let certificate = x509_cert::Certificate::from_der(certificate)?;
    let validity = certificate.tbs_certificate().validity();
    Ok(UnixTime(validity.not_after.to_unix_duration().as_secs()))
}

/// What was agreed on, in one word each.
pub(super) fn agreed<S>(stream: &TlsStream<S>) -> (&'static str, &'static str) {
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        _ => "1.2",
    };
    let kind = match session.handshake_kind() {
        Some(rustls::HandshakeKind::Resumed) => "resumed",
        _ => "full",
    };
    (version, kind)
}

/// Whether HTTP/2 was agreed on; `None` where the client named no protocols.
pub(super) fn is_http2<S>(stream: &TlsStream<S>) -> Option<bool> {
    let (_, session) = stream.get_ref();
    session.alpn_protocol().map(|name| name == H2)
}

/// What of a failed handshake is worth counting.
fn refused(error: io::Error) -> Failed {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            Cut::NotTls.into()
        }
        Some(reason) => {
            tracing::debug!(%reason, "a TLS handshake failed");
            Cut::Handshake.into()
        }
        None => error.into(),
    }
}
