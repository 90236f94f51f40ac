//! TLS on a listener: one certificate, which may be replaced while connections go on.
//!
//! Decides which versions, protocols and keys are taken, and which certificate is shown: the one, or the
//! answer to who looks by ACME whether a name is ours (RFC 8737). What is spoken inside is no matter of
//! its own, and files it knows none.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_cert::der::{self, Decode as _};

use super::front::{Cut, Failed};
use crate::recording::UnixTime;

/// Protocols by their ALPN names (RFC 7301), ours first.
const PROTOCOLS: [&[u8]; 3] = [H2, b"http/1.1", ACME];
const H2: &[u8] = b"h2";
/// What a directory names alone that looks by tls-alpn-01 (RFC 8737 §6.2).
const ACME: &[u8] = b"acme-tls/1";

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
    answers: Arc<Answers>,
}

/// Certificates that answer ACME, by the names that are asked for.
type Answers = ArcSwap<HashMap<String, Arc<CertifiedKey>>>;

struct Current {
    config: Arc<ServerConfig>,
    /// `None` where there is no certificate yet.
    ends: Option<UnixTime>,
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
        let tls = Self::without_certificate()?;
        tls.replace(chain, key)?;
        Ok(tls)
    }

    /// Has no certificate yet: every handshake fails but those that [`answer`](Self::answer) answers,
    /// until [`replace`](Self::replace) brings one.
    ///
    /// # Errors
    /// [`TlsError`] where there is nothing random.
    pub fn without_certificate() -> Result<Self, TlsError> {
        let tickets = Ticketer::new().map_err(TlsError::Pair)?;
        let answers = Arc::default();
        let current = Current::new(None, &tickets, &answers)?;
        Ok(Self(Arc::new(Inner {
            current: ArcSwap::from_pointee(current),
            tickets,
            answers,
        })))
    }

    /// Takes another pair for connections to come; those there are keep what they began with.
    ///
    /// # Errors
    /// [`TlsError`]; the old pair stays.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let pair = certified(chain, key)?;
        let current = Current::new(Some(pair), &self.0.tickets, &self.0.answers)?;
        self.0.current.store(Arc::new(current));
        Ok(())
    }

    /// When the certificate ends; `None` where there is none yet.
    #[must_use]
    pub fn ends(&self) -> Option<UnixTime> {
        self.0.current.load().ends
    }

    /// Shows this certificate to who asks for `name` and names `acme-tls/1` alone, and then ends the
    /// connection (RFC 8737 §3).
    ///
    /// # Errors
    /// [`TlsError`] where it is none, or the key is none.
    pub fn answer(&self, name: &str, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let (chain, key) = parsed(chain, key)?;
        let provider = default_provider().key_provider;
        let key = provider.load_private_key(key).map_err(TlsError::Pair)?;
        // Not held against each other: that wants to know every critical extension, and this one is ACME's.
        let answer = CertifiedKey::new(chain, key);
        let mut answers = HashMap::clone(&self.0.answers.load());
        answers.insert(name.to_ascii_lowercase(), Arc::new(answer));
        self.0.answers.store(Arc::new(answers));
        Ok(())
    }

    /// Answers nobody any more.
    pub fn forget_answers(&self) {
        self.0.answers.store(Arc::default());
    }

    pub(super) async fn accept<S>(&self, stream: S) -> Result<TlsStream<S>, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.current.load().config);
        let mut stream = TlsAcceptor::from(config)
            .accept_with(stream, |session| session.set_buffer_limit(Some(UNSENT)))
            .await
            .map_err(refused)?;
        if stream.get_ref().1.alpn_protocol() == Some(ACME) {
            // Whoever looked has seen what there is.
            let _ = stream.shutdown().await;
            return Err(Failed::Gone(io::Error::other(
                "it was an ACME directory's look",
            )));
        }
        Ok(stream)
    }
}

impl Current {
    fn new(
        pair: Option<(CertifiedKey, UnixTime)>,
        tickets: &Arc<dyn ProducesTickets>,
        answers: &Arc<Answers>,
    ) -> Result<Self, TlsError> {
        let (own, ends) = pair.unzip();
        let shown = Shown {
            own: own.map(Arc::new),
            answers: Arc::clone(answers),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.ticketer = Arc::clone(tickets);
        let config = Arc::new(config);
        Ok(Self { config, ends })
    }
}

/// Which certificate is shown.
struct Shown {
    own: Option<Arc<CertifiedKey>>,
    answers: Arc<Answers>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if !hello
            .alpn()
            .is_some_and(|mut names| names.all(|name| name == ACME))
        {
            return self.own.clone();
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        self.answers.load().get(&name).cloned()
    }
}

/// A chain and its key, which are each other's, and when its first certificate ends.
fn certified(chain: &[u8], key: &[u8]) -> Result<(CertifiedKey, UnixTime), TlsError> {
    let (chain, key) = parsed(chain, key)?;
    let own = chain.first().ok_or(TlsError::NoCertificate)?;
    let ends = end(own).map_err(TlsError::Malformed)?;
    let pair = CertifiedKey::from_der(chain, key, &default_provider()).map_err(TlsError::Pair)?;
    Ok((pair, ends))
}

type Parsed = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn parsed(chain: &[u8], key: &[u8]) -> Result<Parsed, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(TlsError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
    Ok((chain, key))
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
