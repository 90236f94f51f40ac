//! One TCP connection's bytes, in TLS or not. Nothing here waits, and nothing knows of HTTP.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::net::{RecvFlags, recv, sockopt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// Most bytes of TLS that are received at once.
const STAGE: usize = 64 << 10;
/// A record with what goes around it (RFC 8446 §5.2), rounded up.
const RECORD: usize = 17 << 10;
/// What `read` needs to read into.
pub(super) const ROOM: usize = 2 * STAGE + RECORD;

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    /// Whom the certificate has to name; none without TLS.
    pub(super) server: Option<ServerName<'static>>,
}

/// Whose certificates are believed.
#[derive(Debug)]
pub enum Trust {
    /// Those that the system trusts.
    System,
    /// Those of these authorities and no others.
    These(Vec<CertificateDer<'static>>),
    /// All: what answers may be anybody.
    Anybody,
}

/// Why no TLS can be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Neither the system nor a file names an authority.
    #[error("there is no certificate authority to trust; --ca names one")]
    NobodyTrusted,
    /// A certificate that is none, or a provider without the usual algorithms.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// How TLS is spoken: with versions 1.2 and 1.3, and sessions that are resumed.
#[derive(Debug, Clone)]
pub struct Tls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    verified: bool,
}

impl Tls {
    /// TLS with those that `trust` names.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn new(trust: Trust) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let verified = !matches!(trust, Trust::Anybody);
        let builder = match roots(trust)? {
            Some(roots) => builder.with_root_certificates(roots),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(provider))),
        };
        let config = builder.with_no_client_auth();
        let speaking = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        Ok(Self {
            http1: speaking(b"http/1.1"),
            http2: speaking(b"h2"),
            verified,
        })
    }

    /// Whether certificates are looked at.
    #[must_use]
    pub const fn is_verified(&self) -> bool {
        self.verified
    }
}

fn roots(trust: Trust) -> Result<Option<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Anybody => return Ok(None),
        Trust::These(certificates) => {
            for certificate in certificates {
                roots.add(certificate)?;
            }
        }
        // Some of a system's certificates are often too old to be read: the others do.
        Trust::System => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(TlsError::NobodyTrusted);
    }
    Ok(Some(roots))
}

/// Takes any certificate; that its owner has the key is still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A server that was asked for HTTP/2 and has said nothing of it.
#[derive(Debug, thiserror::Error)]
#[error("the server does not choose HTTP/2 (ALPN)")]
pub(super) struct NoHttp2;

pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<Session>),
}

/// A connection in TLS. Between two calls it holds no plaintext, and at most one record that has
/// not come whole.
pub(super) struct Session {
    stream: TcpStream,
    tls: ClientConnection,
    http2: bool,
}

impl Wire {
    /// Begins to connect.
    pub(super) fn open(
        origin: &Origin,
        tls: Option<&Tls>,
        http2: bool,
        registry: &Registry,
        token: usize,
    ) -> io::Result<Self> {
        let session = match (&origin.server, tls) {
            (None, _) => None,
            (Some(_), None) => return Err(io::Error::other("TLS is not set up")),
            (Some(server), Some(tls)) => {
                let config = if http2 { &tls.http2 } else { &tls.http1 };
                let session = ClientConnection::new(Arc::clone(config), server.clone());
                Some(session.map_err(io::Error::other)?)
            }
        };
        let mut stream = TcpStream::connect(origin.address)?;
        // A request is one write, and nothing is gained by waiting for more.
        stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(token), interest)?;
        Ok(match session {
            None => Self::Plain(stream),
            Some(tls) => Self::Tls(Box::new(Session { stream, tls, http2 })),
        })
    }

    const fn stream(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(session) => &session.stream,
        }
    }

    /// Sends, or keeps to send with `flush`, some of `bytes`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => (&*stream).write(bytes),
            Self::Tls(session) => match session.tls.writer().write(bytes)? {
                // It holds as much as it may.
                0 if !bytes.is_empty() => Err(ErrorKind::WouldBlock.into()),
                count => Ok(count),
            },
        }
    }

    /// Sends what was kept; whether nothing is left.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(session) => session.send(),
        }
    }

    /// Reads to the beginning of `scratch`, which has at least [`ROOM`]: at most `most` bytes, in
    /// TLS up to a record more. 0 is the end.
    #[inline]
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        most: usize,
        flags: RecvFlags,
    ) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => Ok(recv(&*stream, &mut scratch[..most], flags)?.1),
            Self::Tls(session) => session.read(scratch, most),
        }
    }

    /// Looks for a close while nothing is asked.
    pub(super) fn is_closed(&mut self, scratch: &mut [u8]) -> bool {
        let read = match self {
            Self::Plain(stream) => recv(&*stream, &mut [0; 1], RecvFlags::PEEK)
                .map(drop)
                .map_err(io::Error::from),
            // What comes may be tickets only.
            Self::Tls(session) => session.read(scratch, RECORD).map(drop),
        };
        !matches!(read, Err(error) if is_early(&error))
    }

    /// Closes with a reset, as a player does that throws the rest away.
    pub(super) fn abort(self) {
        // Where it fails the connection is closed all the same.
        let _ = sockopt::set_socket_linger(self.stream(), Some(Duration::ZERO));
    }
}

impl Session {
    fn send(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut &self.stream) {
                Ok(_) => {}
                Err(error) if is_early(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn read(&mut self, scratch: &mut [u8], most: usize) -> io::Result<usize> {
        let (plain, stage) = scratch.split_at_mut(STAGE + RECORD);
        let stage = &mut stage[..most.clamp(RECORD, STAGE)];
        loop {
            let (_, count) = recv(&self.stream, &mut *stage, RecvFlags::empty())?;
            if count == 0 {
                return Ok(0);
            }
            let count = self.open(&stage[..count], plain)?;
            // The other's turn of a handshake, or an answer to an update of keys.
            self.send()?;
            if let Some(count) = count {
                return Ok(count);
            }
        }
    }

    /// Decrypts all of `sealed`; none if no byte for the reader was in it, 0 after the last.
    fn open(&mut self, mut sealed: &[u8], plain: &mut [u8]) -> io::Result<Option<usize>> {
        let mut at = 0;
        while !sealed.is_empty() {
            if self.tls.read_tls(&mut sealed)? == 0 {
                return Ok(Some(at));
            }
            let state = self.tls.process_new_packets().map_err(|error| {
                // The alert that says so; whether it arrives is the other's affair.
                let _ = self.send();
                io::Error::new(ErrorKind::InvalidData, error)
            })?;
            if self.http2 && !self.tls.is_handshaking() && self.tls.alpn_protocol() != Some(b"h2") {
                return Err(io::Error::new(ErrorKind::InvalidData, NoHttp2));
            }
            while state.plaintext_bytes_to_read() > 0 {
                match self.tls.reader().read(&mut plain[at..]) {
                    Ok(0) => break,
                    Ok(count) => at += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            if state.peer_has_closed() {
                return Ok(Some(at));
            }
        }
        Ok((at > 0).then_some(at))
    }
}

/// Not yet: the socket is not ready, or not yet connected.
pub(super) fn is_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted
    )
}
