//! Proxies in front: which are trusted, and what they say of whom they speak for.
//!
//! Reads the PROXY protocol, versions 1 and 2, as HAProxy's specification
//! (`doc/proxy-protocol.txt`) has it. Pure: never reads more than the header, and never
//! believes; who is believed is asked of [`Proxies`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

/// Networks whose word on a client's address is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Arc<[IpNet]>);

impl Proxies {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them; an IPv4 address is the same in either form.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for Proxies {
    type Err = String;

    /// Networks such as `10.0.0.0/8`, and addresses, between commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let network = |text: &str| {
            let address = text.parse::<IpAddr>().map(IpNet::from);
            text.parse::<IpNet>()
                .or(address)
                .map_err(|_| format!("{text:?} is no address and no network such as 10.0.0.0/8"))
        };
        let parts = text.split(',').map(str::trim);
        let networks: Result<_, _> = parts.filter(|part| !part.is_empty()).map(network).collect();
        networks.map(Self)
    }
}

/// What begins every header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Its fixed part.
const FIXED: usize = 16;
/// Bytes of the shortest header of version 1, `PROXY UNKNOWN` with its line end; of version 2, one
/// fewer than [`FIXED`].
const SHORTEST: usize = 15;
/// Most bytes of a line of version 1.
const LONGEST_LINE: usize = 107;
/// Most bytes behind the fixed part of version 2: the addresses, and what else balancers tell.
const MOST: usize = 2048;

/// What is known of a header by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// So many bytes more belong to it, at least.
    Need(usize),
    /// It is whole. Whom it speaks for; `None` for the proxy itself.
    Whole(Option<SocketAddr>),
    /// It is none.
    Malformed,
}

impl Decoded {
    fn of(client: Option<SocketAddr>) -> Self {
        client.map_or(Self::Malformed, |client| Self::Whole(Some(client)))
    }
}

/// Reads a header, of which `bytes` are there; never asks for a byte behind it.
#[must_use]
pub fn decode(bytes: &[u8]) -> Decoded {
    if bytes.len() < SHORTEST {
        return Decoded::Need(SHORTEST - bytes.len());
    }
    if bytes.starts_with(SIGNATURE) {
        binary(bytes)
    } else {
        line(bytes)
    }
}

/// §2.1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443` and a line end.
fn line(bytes: &[u8]) -> Decoded {
    let Some(rest) = bytes.strip_prefix(b"PROXY ") else {
        return Decoded::Malformed;
    };
    let Some(rest) = rest.strip_suffix(b"\r\n") else {
        // Looked at byte by byte, so that a line end can only be the last.
        return if bytes.len() < LONGEST_LINE {
            Decoded::Need(1)
        } else {
            Decoded::Malformed
        };
    };
    match std::str::from_utf8(rest) {
        // "The receiver must ignore anything presented before the CRLF" behind it.
        Ok(line) if line == "UNKNOWN" || line.starts_with("UNKNOWN ") => Decoded::Whole(None),
        Ok(line) => Decoded::of(source(line)),
        Err(_) => Decoded::Malformed,
    }
}

/// Whom a line speaks for.
fn source(line: &str) -> Option<SocketAddr> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let mut address = || -> Option<IpAddr> {
        let text = words.next()?;
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let (source, _) = (address()?, address()?);
    let (port, _) = (port(words.next()?)?, port(words.next()?)?);
    words
        .next()
        .is_none()
        .then_some(SocketAddr::new(source, port))
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// §2.2: signature, version and command, family and protocol, length; addresses and more.
fn binary(bytes: &[u8]) -> Decoded {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else {
        return Decoded::Need(FIXED - bytes.len());
    };
    let (command, family) = (fixed[12], fixed[13]);
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if !matches!(command, 0x20 | 0x21) || length > MOST {
        return Decoded::Malformed;
    }
    if rest.len() < length {
        return Decoded::Need(length - rest.len());
    }
    if rest.len() > length {
        return Decoded::Malformed;
    }
    match (command, family) {
        // LOCAL: the proxy's own, such as a look at its health. UNSPEC: it does not say.
        (0x20, _) | (_, 0x00) => Decoded::Whole(None),
        (_, 0x11) => Decoded::of(address::<4>(rest)),
        (_, 0x21) => Decoded::of(address::<16>(rest)),
        _ => Decoded::Malformed,
    }
}

/// Source, destination and their ports, of which the source's are taken.
fn address<const N: usize>(bytes: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; N]>,
{
    let ports = bytes.get(2 * N..2 * N + 4)?;
    let ip = IpAddr::from(*bytes.first_chunk::<N>()?);
    let port = u16::from_be_bytes([ports[0], ports[1]]);
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads as the server does: what is asked for, and no byte more.
    fn read(bytes: &[u8]) -> (Decoded, usize) {
        let mut read = 0;
        loop {
            match decode(&bytes[..read]) {
                Decoded::Need(more) if read + more <= bytes.len() => read += more,
                decoded => return (decoded, read),
            }
        }
    }

    fn whole(text: &str) -> Decoded {
        Decoded::Whole((!text.is_empty()).then(|| text.parse().unwrap()))
    }

    #[test]
    fn lines() {
        for (line, source) in [
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443",
                "192.0.2.1:56324",
            ),
            (
                "PROXY TCP4 255.255.255.255 0.0.0.0 65535 0",
                "255.255.255.255:65535",
            ),
            ("PROXY TCP6 2001:db8::1 ::1 1 2", "[2001:db8::1]:1"),
            ("PROXY UNKNOWN", ""),
            ("PROXY UNKNOWN ffff::1 ffff::1 1 2", ""),
        ] {
            let bytes = format!("{line}\r\nGET / HTTP/1.1\r\n");
            assert_eq!(
                read(bytes.as_bytes()),
                (whole(source), line.len() + 2),
                "{line}"
            );
        }
    }

    #[test]
    fn lines_that_are_none() {
        for line in [
            "GET / HTTP/1.1",
            "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2",
            "PROXY TCP4 2001:db8::1 ::1 1 2",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2",
            "PROXY TCP4 192.0.2.256 192.0.2.2 1 2",
            "proxy TCP4 192.0.2.1 192.0.2.2 1 2",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\nx",
            "PROXY UNKNOWNS",
        ] {
            let bytes = format!("{line}\r\n");
            assert_eq!(read(bytes.as_bytes()).0, Decoded::Malformed, "{line}");
        }
        // §2.1: 107 bytes are the most there can be.
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
        assert_eq!(read(endless.as_bytes()), (Decoded::Malformed, 107));
    }

    fn binary(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn binaries() {
        const FOUR: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];
        let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 28], &[0, 80, 1, 0xbb]].concat();
        let more = [FOUR, &[0x04, 0, 1, 0]].concat();
        for (command, family, length, rest, expect) in [
            (0x21, 0x11, 12, FOUR, whole("192.0.2.1:56324")),
            (0x21, 0x11, 16, &more, whole("192.0.2.1:56324")),
            (0x21, 0x21, 36, &six, whole("[2001:db8::]:80")),
            (0x20, 0x00, 0, &[], whole("")),
            (0x20, 0x11, 12, FOUR, whole("")),
            (0x21, 0x00, 4, &[9; 4], whole("")),
            // Version 1 and 3 in this form, another command, datagrams, a Unix socket.
            (0x11, 0x11, 12, FOUR, Decoded::Malformed),
            (0x31, 0x11, 12, FOUR, Decoded::Malformed),
            (0x22, 0x11, 12, FOUR, Decoded::Malformed),
            (0x21, 0x12, 12, FOUR, Decoded::Malformed),
            (0x21, 0x31, 216, &[0; 216], Decoded::Malformed),
            // Too short for its family, and longer than anybody needs.
            (0x21, 0x11, 11, &FOUR[..11], Decoded::Malformed),
            (0x21, 0x21, 12, FOUR, Decoded::Malformed),
            (0x21, 0x11, 2049, &[0; 2049], Decoded::Malformed),
            // Cut off.
            (0x21, 0x11, 12, &FOUR[..5], Decoded::Need(12)),
        ] {
            let mut bytes = binary(command, family, length, rest);
            let (decoded, _) = read(&bytes);
            assert_eq!(decoded, expect, "{command:x} {family:x} {length}");
            if let Decoded::Whole(_) = expect {
                let length = bytes.len();
                bytes.extend(b"GET / HTTP/1.1\r\n");
                assert_eq!(read(&bytes), (expect, length), "a byte behind it was read");
            }
        }
    }

    #[test]
    fn networks() {
        let proxies: Proxies = "10.0.0.0/8, 192.0.2.7,2001:db8::/32".parse().unwrap();
        for (address, trusted) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:1::", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(
                proxies.trust(address.parse().unwrap()),
                trusted,
                "{address}"
            );
        }
        assert!("".parse::<Proxies>().unwrap().is_empty());
        for text in ["10.0.0.0/33", "proxy.example", "10.0.0.0/8;10.0.0.1"] {
            assert!(text.parse::<Proxies>().is_err(), "{text}");
        }
    }
}
