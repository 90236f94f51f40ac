//! Whose request it is, where trusted proxies stand between.
//!
//! Goes back from the peer, hop by hop, as long as who tells is trusted: the first that is not is the
//! client (RFC 7239 §5.2). What a client writes into the field itself lies behind that. Scheme and host
//! are no matter of a proxy's word: those are `public_base_url`'s.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;

use crate::server::Proxies;

/// The proxies in front, and the field that they write. Only one is read: what they do not write, they
/// pass on as whoever sent it wished.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// Those whose word is taken.
    pub proxies: Proxies,
    /// Where their word is.
    pub field: Field,
}

/// A field in which proxies name those they speak for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Field {
    /// `X-Forwarded-For: client, proxy, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239).
    Forwarded,
}

impl FromStr for Field {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err("X-Forwarded-For or Forwarded is needed"),
        }
    }
}

impl Forwarding {
    /// Whose request it is that came from this address.
    pub(super) fn client(&self, peer: IpAddr, fields: &HeaderMap) -> IpAddr {
        if !self.proxies.trust(peer) {
            return peer.to_canonical();
        }
        let (name, address): (_, fn(&str) -> Option<IpAddr>) = match self.field {
            Field::XForwardedFor => ("x-forwarded-for", address),
            Field::Forwarded => ("forwarded", element),
        };
        let lines = fields.get_all(name).iter().rev();
        // A line that is no text is no hop either, and ends the way back.
        let hops = lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
        let mut client = peer;
        for hop in hops.map(str::trim) {
            let Some(before) = address(hop).filter(|_| self.proxies.trust(client)) else {
                break;
            };
            client = before;
        }
        client.to_canonical()
    }
}

/// An address, perhaps in brackets, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|found| found.ip());
    text.parse().ok().or_else(with_port).or_else(bare)
}

/// The `for` of one element.
fn element(text: &str) -> Option<IpAddr> {
    let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, value) = found.next()?;
    let value = value.trim();
    let quoted = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    address(quoted.unwrap_or(value)).filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(field: Field, peer: &str, lines: &[&str]) -> String {
        let proxies = "10.0.0.0/8,2001:db8::/32".parse().unwrap();
        let name = match field {
            Field::XForwardedFor => "x-forwarded-for",
            Field::Forwarded => "forwarded",
        };
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(name, line.parse().unwrap());
        }
        let forwarding = Forwarding { proxies, field };
        forwarding
            .client(peer.parse().unwrap(), &fields)
            .to_string()
    }

    #[test]
    fn the_right_most_hop_that_is_not_trusted() {
        for (peer, lines, expect) in [
            // Nobody's word but a proxy's.
            ("192.0.2.1", &["198.51.100.1"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            // What the client wrote lies further left.
            ("10.0.0.1", &["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
            (
                "10.0.0.1",
                &["10.0.0.9, 198.51.100.1, 10.0.0.2"],
                "198.51.100.1",
            ),
            (
                "10.0.0.1",
                &["203.0.113.9", "198.51.100.1,10.0.0.2"],
                "198.51.100.1",
            ),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // What is no address ends the way back.
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, x, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["198.51.100.1,"], "10.0.0.1"),
            // Ports and brackets.
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["[2001:db9::1]:4711"], "2001:db9::1"),
            ("10.0.0.1", &["[2001:db9::1]"], "2001:db9::1"),
            ("2001:db8::1", &["2001:db9::1"], "2001:db9::1"),
            ("10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
        ] {
            assert_eq!(
                client(Field::XForwardedFor, peer, lines),
                expect,
                "{peer} {lines:?}"
            );
        }
    }

    #[test]
    fn elements_of_forwarded() {
        for (line, expect) in [
            ("for=198.51.100.1", "198.51.100.1"),
            (
                "For=\"198.51.100.1:4711\";proto=https;by=10.0.0.1",
                "198.51.100.1",
            ),
            ("proto=http; for=\"[2001:db9::1]\"", "2001:db9::1"),
            (
                "for=203.0.113.9, for=198.51.100.1, for=10.0.0.2",
                "198.51.100.1",
            ),
            ("for=203.0.113.9;for=198.51.100.1", "10.0.0.1"),
            ("for=203.0.113.9, for=unknown", "10.0.0.1"),
            ("for=203.0.113.9, for=_hidden", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
            ("for=\"198.51.100.1", "10.0.0.1"),
        ] {
            assert_eq!(
                client(Field::Forwarded, "10.0.0.1", &[line]),
                expect,
                "{line}"
            );
        }
    }
}
