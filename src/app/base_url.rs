//! Where clients reach the server: `https://recordings.example.com`.

use std::fmt;
use std::str::FromStr;

use http::uri::Authority;

/// A scheme and an authority, without a `/` at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

/// Why a text is no base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// Neither `http://` nor `https://`.
    #[error("a base URL begins with https:// (or http:// for tests)")]
    Scheme,
    /// No valid host, or one with a user name.
    #[error("a base URL has a host name and perhaps a port, such as https://rec.example.com")]
    Host,
    /// More than scheme and host.
    #[error("a base URL ends behind the host: recordings lie under /media/ of it")]
    Path,
}

impl BaseUrl {
    /// The host and port, as Host would name them.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.0
            .split_once("://")
            .map_or("", |(_, authority)| authority)
    }

    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// Whether it names this very machine.
    #[must_use]
    pub fn is_of_this_machine(&self) -> bool {
        let authority = Authority::from_str(self.authority());
        authority.is_ok_and(|authority| {
            let host = authority.host().trim_matches(['[', ']']);
            let ip = host.parse::<std::net::IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let authority = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .ok_or(BaseUrlError::Scheme)?;
        if authority.contains(['/', '?', '#']) {
            return Err(BaseUrlError::Path);
        }
        if !is_host(authority) {
            return Err(BaseUrlError::Host);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Whether a text is `uri-host [ ":" port ]` with a host (RFC 9110 §7.2, §4.2.1).
pub(super) fn is_host(text: &str) -> bool {
    is_plain_host(text) || is_any_host(text)
}

/// A name or an IPv4 address, as nearly all are.
fn is_plain_host(text: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let end = text.bytes().position(|byte| !plain(&byte));
    let (host, rest) = text.split_at(end.unwrap_or(text.len()));
    !host.is_empty() && is_port(rest)
}

fn is_any_host(text: &str) -> bool {
    !text.contains('@')
        && Authority::from_str(text).is_ok_and(|authority| {
            let host = authority.host();
            !host.is_empty() && text.strip_prefix(host).is_some_and(is_port)
        })
}

/// Nothing, or `":" *DIGIT` (RFC 3986 §3.2.3), which `Authority` does not look at.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').map_or(text.is_empty(), |digits| {
        digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls() {
        let parsed = |text: &str| text.parse::<BaseUrl>().map(|base| base.to_string());
        assert_eq!(parsed("https://a.example/"), Ok("https://a.example".into()));
        assert_eq!(
            parsed("http://127.0.0.1:8080"),
            Ok("http://127.0.0.1:8080".into())
        );
        assert_eq!(
            parsed("https://[::1]:8443"),
            Ok("https://[::1]:8443".into())
        );
        for (text, error) in [
            ("", BaseUrlError::Scheme),
            ("a.example", BaseUrlError::Scheme),
            ("ftp://a.example", BaseUrlError::Scheme),
            ("https://", BaseUrlError::Scheme),
            ("https://a b", BaseUrlError::Host),
            ("https://u@a.example", BaseUrlError::Host),
            ("https://a.example:b", BaseUrlError::Host),
            ("https://[::1]443", BaseUrlError::Host),
            ("https://a.example/x", BaseUrlError::Path),
            ("https://a.example?x", BaseUrlError::Path),
        ] {
            assert_eq!(parsed(text), Err(error), "{text}");
        }
    }
}
