//! What stands before HTTP on a listener: the word of a proxy, and TLS.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::proxy::{Decoded, Proxies, decode};
use super::pulse::Pulse;
use super::stream::Stream;
#[cfg(feature = "tls")]
use super::tls::Tls;
use super::turns::Turns;

/// Where connections come in, and what is spoken on them before HTTP: nothing, unless it is said.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    pub(super) front: Front,
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        let front = Front::default();
        Self { socket, front }
    }
}

impl Listener {
    /// Speaks TLS, and nothing else.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.front.tls = Some(tls);
        self
    }

    /// Knows these proxies, whose connections are those of many. With `protocol`, each connection is
    /// one of theirs, and begins with a header of the PROXY protocol.
    #[must_use]
    pub fn with_proxies(mut self, proxies: Proxies, protocol: bool) -> Self {
        self.front.proxies = proxies;
        self.front.protocol = protocol;
        self
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Front {
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    proxies: Proxies,
    protocol: bool,
}

/// Why a connection got no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Its first head was not complete in time, or a later one.
    Late,
    /// Whoever read took less than the least.
    Stuck,
    /// Its address has too many.
    TooMany,
    /// It did not begin with a trusted proxy's word.
    Proxy,
    /// It did not begin with TLS.
    NotTls,
    /// The handshake came to nothing.
    Handshake,
    /// More was asked of HTTP/2 than any client needs.
    Flood,
}

impl Cut {
    /// The reason in one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Stuck => "stuck",
            Self::TooMany => "too_many",
            Self::Proxy => "proxy",
            Self::NotTls => "not_tls",
            Self::Handshake => "handshake",
            Self::Flood => "flood",
        }
    }
}

/// What a beginning failed for.
#[derive(Debug)]
pub(super) enum Failed {
    Cut(Cut),
    /// The client went away.
    Gone(io::Error),
}

impl From<Cut> for Failed {
    fn from(cut: Cut) -> Self {
        Self::Cut(cut)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl Front {
    /// Whether connections of this address are others'.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.trust(address)
    }

    /// Whether TLS is spoken.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unused_self, reason = "for TLS"))]
    pub(super) fn is_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }

    /// Whom a connection is of: its peer, unless a proxy says otherwise.
    pub(super) async fn client(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
    ) -> Result<SocketAddr, Failed> {
        if !self.protocol {
            return Ok(peer);
        }
        if !self.proxies.trust(peer.ip()) {
            return Err(Cut::Proxy.into());
        }
        let mut header = Vec::new();
        loop {
            match decode(&header) {
                Decoded::Need(more) => {
                    let read = header.len();
                    header.resize(read + more, 0);
                    stream.read_exact(&mut header[read..]).await?;
                }
                Decoded::Whole(client) => return Ok(client.unwrap_or(peer)),
                Decoded::Malformed => return Err(Cut::Proxy.into()),
            }
        }
    }

    /// What HTTP is spoken on.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unused_async, reason = "for TLS"))]
    pub(super) async fn stream(
        &self,
        stream: TcpStream,
        turns: Arc<Turns>,
        pulse: Arc<Pulse>,
    ) -> Result<Stream, Failed> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Stream::tls(stream, tls, pulse).await;
        }
        Ok(Stream::plain(stream, turns, pulse))
    }
}
