//! URLs that bought CDNs check by themselves.
//!
//! Each format says when a URL ends and covers its path; what else a claim could say, most cannot,
//! and a claim that a format cannot say is refused, not dropped. Nothing here is ever verified by
//! this server: a CDN's key opens nothing of it.

mod key;

use std::fmt::{self, Write as _};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{
    STANDARD as BASE64, URL_SAFE as BASE64URL_PADDED, URL_SAFE_NO_PAD as BASE64URL,
};

pub use self::key::KeyError;
use self::key::Secret;
use super::sas::Sas;
use crate::recording::{UnixTime, hex};
use crate::sign::{Claims, Disposition, PathError, check_path};

/// Whose token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Amazon CloudFront, canned policy; RSA or ECDSA with SHA-256.
    CloudFront,
    /// Amazon CloudFront, custom policy: knows a not-before.
    CloudFrontCustom,
    /// Cloudflare's `is_timed_hmac_valid_v0`, with the flag `s`.
    Cloudflare,
    /// Akamai EdgeAuth 2, as an ACL of one path.
    Akamai,
    /// Google Cloud CDN: HMAC-SHA1.
    GoogleCdn,
    /// Google Media CDN, signed request: Ed25519.
    GoogleMedia,
    /// Google Media CDN, token: HMAC-SHA256.
    GoogleMediaToken,
    /// Bunny, token authentication by HMAC-SHA256.
    Bunny,
    /// Bunny, version 2 before that: SHA-256 of key and path.
    BunnyV2,
    /// Fastly's token of its VCL examples: HMAC-SHA256.
    Fastly,
    /// KeyCDN secure token: MD5.
    KeyCdn,
    /// nginx's own secure_link module: MD5.
    NginxSecureLink,
    /// nginx's third-party HMAC secure link module.
    NginxHmac,
    /// Azure service SAS for one blob of a container called `media`.
    Azure,
}

impl Format {
    /// Every format with its name in the configuration.
    pub const ALL: [(Self, &str); 14] = [
        (Self::CloudFront, "cloudfront"),
        (Self::CloudFrontCustom, "cloudfront-custom"),
        (Self::Cloudflare, "cloudflare"),
        (Self::Akamai, "akamai"),
        (Self::GoogleCdn, "google-cdn"),
        (Self::GoogleMedia, "google-media"),
        (Self::GoogleMediaToken, "google-media-token"),
        (Self::Bunny, "bunny"),
        (Self::BunnyV2, "bunny-v2"),
        (Self::Fastly, "fastly"),
        (Self::KeyCdn, "keycdn"),
        (Self::NginxSecureLink, "nginx-secure-link"),
        (Self::NginxHmac, "nginx-hmac"),
        (Self::Azure, "azure"),
    ];

    /// What is weak about the format, where something is.
    #[must_use]
    pub const fn weakness(self) -> Option<&'static str> {
        match self {
            Self::KeyCdn | Self::NginxSecureLink => Some(
                "its token is an MD5 over the path and the secret, which is no MAC: take a long random secret, and another format where there is a choice",
            ),
            Self::BunnyV2 => Some(
                "its token is a bare SHA-256 over the secret and the path, which is no MAC: take bunny",
            ),
            _ => None,
        }
    }

    /// What `url.key_id` has to name, where the format names its key.
    #[must_use]
    pub const fn key_id(self) -> Option<&'static str> {
        match self {
            Self::CloudFront | Self::CloudFrontCustom => Some("the public key's id, Key-Pair-Id"),
            Self::GoogleCdn | Self::GoogleMedia => Some("the key's name, KeyName"),
            Self::Azure => Some("the storage account"),
            _ => None,
        }
    }

    const fn says_not_before(self) -> bool {
        matches!(self, Self::CloudFrontCustom | Self::Akamai | Self::Azure)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = Self::ALL.iter().find(|(format, _)| format == self);
        f.write_str(row.map_or("", |(_, name)| name))
    }
}

/// The text names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "native, or a CDN's: {}",
    Format::ALL.map(|(_, name)| name).join(", ")
)]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let row = Self::ALL.iter().find(|(_, name)| *name == text);
        row.map(|(format, _)| *format).ok_or(UnknownFormat)
    }
}

/// Why a signer cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// The format names its key, and no name is given, or a name that no URL can hold.
    #[error("{0} needs a key id of A-Z a-z 0-9 - _ : {1}")]
    KeyId(Format, &'static str),
    /// The key will not do.
    #[error("the key of {0}")]
    Key(Format, #[source] KeyError),
}

/// Why no URL can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The path has no signable spelling.
    #[error("this path cannot be signed")]
    Path(#[from] PathError),
    /// The URL would be dead from the start, or live longer than any.
    #[error("the URL would end at {0}, which is past or too far away")]
    Expiry(UnixTime),
    /// The format has no word for a claim.
    #[error("{0} cannot say {1}")]
    Unsayable(Format, &'static str),
    /// The key does not sign.
    #[error("the key does not sign")]
    Key,
}

/// Signs URLs of one CDN.
#[derive(Debug)]
pub struct Signer {
    format: Format,
    base: String,
    key_id: String,
    secret: Secret,
    lifetime: u64,
}

impl Signer {
    /// A signer of `format` for the CDN at `base`, a scheme and a host. `secret` is the text of the
    /// key's file, as the CDN's own console gives it. No URL lives longer than `lifetime` seconds,
    /// and of formats that part an expiry in a time and a lifetime, this is the lifetime.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn new(
        format: Format,
        base: &str,
        key_id: &str,
        secret: &str,
        lifetime: u64,
    ) -> Result<Self, SignerError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if let Some(needed) = format.key_id()
            && (key_id.is_empty() || !key_id.bytes().all(plain))
        {
            return Err(SignerError::KeyId(format, needed));
        }
        Ok(Self {
            format,
            base: base.to_owned(),
            key_id: key_id.to_owned(),
            secret: Secret::read(format, secret)
                .map_err(|source| SignerError::Key(format, source))?,
            lifetime,
        })
    }

    /// Whose tokens it makes.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// A URL of the CDN that opens `path` as `claims` say. The generation is left out: a CDN knows
    /// of no records, and what revokes here does not revoke there.
    ///
    /// # Errors
    /// [`UrlError`]; claims that the format cannot say are refused.
    pub fn url(&self, path: &str, claims: &Claims, now: UnixTime) -> Result<String, UrlError> {
        check_path(path)?;
        if claims.exp <= now || claims.exp > now.plus(self.lifetime) {
            return Err(UrlError::Expiry(claims.exp));
        }
        self.check_sayable(path, claims)?;
        let query = self.query(path, claims)?;
        Ok(format!("{}{path}?{query}", self.base))
    }

    fn check_sayable(&self, path: &str, claims: &Claims) -> Result<(), UrlError> {
        let format = self.format;
        let disposed = matches!(
            claims.disposition,
            Some(Disposition::Inline | Disposition::Attachment(Some(_)))
        );
        for (claimed, what) in [
            (disposed, "a disposition; the recording's own name is all"),
            (
                claims.not_before.is_some() && !format.says_not_before(),
                "a not-before",
            ),
            (claims.token_id.is_some(), "a token id"),
            (claims.prefix.is_some(), "a prefix"),
            // `~` parts the fields of its token.
            (
                format == Format::Akamai && path.contains('~'),
                "a path with ~",
            ),
        ] {
            if claimed {
                return Err(UrlError::Unsayable(format, what));
            }
        }
        Ok(())
    }

    fn query(&self, path: &str, claims: &Claims) -> Result<String, UrlError> {
        let exp = claims.exp.0;
        match self.format {
            Format::CloudFront => self.cloudfront(&format!("Expires={exp}"), path, claims),
            Format::CloudFrontCustom => {
                let policy = aws64(self.policy(path, claims).as_bytes());
                self.cloudfront(&format!("Policy={policy}"), path, claims)
            }
            Format::Cloudflare => self.cloudflare(path, exp.saturating_sub(self.lifetime)),
            Format::Akamai => self.akamai(path, claims),
            Format::GoogleCdn => self.google(path, exp, |message| self.secret.hmac_sha1(message)),
            Format::GoogleMedia => self.google(path, exp, |message| self.secret.signature(message)),
            Format::GoogleMediaToken => self.google_token(path, exp),
            Format::Bunny => {
                let tag = self.secret.hmac_sha256(format!("{path}{exp}").as_bytes())?;
                Ok(format!(
                    "token=HS256-{}&expires={exp}",
                    BASE64URL.encode(tag)
                ))
            }
            Format::BunnyV2 => {
                let hash = self.secret.sha256("", &format!("{path}{exp}"))?;
                Ok(format!("token={}&expires={exp}", BASE64URL.encode(hash)))
            }
            Format::Fastly => {
                let tag = self.secret.hmac_sha256(format!("{path}{exp}").as_bytes())?;
                Ok(format!("token={exp}_{}", hex(&tag)))
            }
            Format::KeyCdn => {
                let hash = self.secret.md5(path, &exp.to_string())?;
                Ok(format!("token={}&expire={exp}", BASE64URL.encode(hash)))
            }
            Format::NginxSecureLink => {
                let hash = self.secret.md5(&format!("{exp}{path} "), "")?;
                Ok(format!("md5={}&expires={exp}", BASE64URL.encode(hash)))
            }
            Format::NginxHmac => self.nginx_hmac(path, exp.saturating_sub(self.lifetime)),
            Format::Azure => self.azure(path, claims),
        }
    }

    /// The policy that CloudFront makes of a canned one's expiry, byte by byte, and what a custom
    /// one adds.
    fn policy(&self, path: &str, claims: &Claims) -> String {
        let not_before = match (self.format, claims.not_before) {
            (Format::CloudFrontCustom, Some(start)) => {
                format!(",\"DateGreaterThan\":{{\"AWS:EpochTime\":{start}}}")
            }
            _ => String::new(),
        };
        format!(
            "{{\"Statement\":[{{\"Resource\":\"{}{path}\",\"Condition\":{{\"DateLessThan\":{{\"AWS:EpochTime\":{}}}{not_before}}}}}]}}",
            self.base, claims.exp
        )
    }

    fn cloudfront(&self, until: &str, path: &str, claims: &Claims) -> Result<String, UrlError> {
        let signature = self
            .secret
            .signature(self.policy(path, claims).as_bytes())?;
        // Without the last parameter CloudFront takes the hash for SHA-1.
        Ok(format!(
            "{until}&Signature={}&Key-Pair-Id={}&Hash-Algorithm=SHA256",
            aws64(&signature),
            self.key_id
        ))
    }

    /// The rule holds the lifetime and adds it to the time in the token.
    fn cloudflare(&self, path: &str, from: u64) -> Result<String, UrlError> {
        let tag = self
            .secret
            .hmac_sha256(format!("{path}{from}").as_bytes())?;
        Ok(format!("verify={from}-{}", BASE64URL.encode(tag)))
    }

    fn akamai(&self, path: &str, claims: &Claims) -> Result<String, UrlError> {
        let mut token = String::new();
        if let Some(start) = claims.not_before {
            // Writing to a String cannot fail.
            let _ = write!(token, "st={start}~");
        }
        let _ = write!(token, "exp={}~acl={path}", claims.exp);
        let tag = self.secret.hmac_sha256(token.as_bytes())?;
        Ok(format!("__token__={token}~hmac={}", hex(&tag)))
    }

    fn google(
        &self,
        path: &str,
        exp: u64,
        sign: impl Fn(&[u8]) -> Result<Vec<u8>, UrlError>,
    ) -> Result<String, UrlError> {
        let query = format!("Expires={exp}&KeyName={}", self.key_id);
        let signature = sign(format!("{}{path}?{query}", self.base).as_bytes())?;
        let signature = BASE64URL_PADDED.encode(signature);
        Ok(format!("{query}&Signature={signature}"))
    }

    /// The path is signed and left out of the token: the CDN fills in the one that was asked for.
    fn google_token(&self, path: &str, exp: u64) -> Result<String, UrlError> {
        let message = format!("FullPath={path}~Expires={exp}");
        let tag = self.secret.hmac_sha256(message.as_bytes())?;
        Ok(format!(
            "edge-cache-token=FullPath~Expires={exp}~hmac={}",
            hex(&tag)
        ))
    }

    /// For `secure_link_hmac_message "$uri|$arg_ts|$arg_e"`.
    fn nginx_hmac(&self, path: &str, from: u64) -> Result<String, UrlError> {
        let lives = self.lifetime;
        let tag = self
            .secret
            .hmac_sha256(format!("{path}|{from}|{lives}").as_bytes())?;
        Ok(format!("st={}&ts={from}&e={lives}", BASE64URL.encode(tag)))
    }

    fn azure(&self, path: &str, claims: &Claims) -> Result<String, UrlError> {
        let sas = Sas {
            start: claims.not_before.map(UnixTime::rfc3339).unwrap_or_default(),
            end: claims.exp.rfc3339(),
            ..Sas::default()
        };
        let message = sas.message(&format!("/blob/{}{path}", self.key_id));
        let tag = self.secret.hmac_sha256(message.as_bytes())?;
        Ok(sas.query(&BASE64.encode(tag)))
    }
}

/// Base64 in CloudFront's own alphabet.
fn aws64(bytes: &[u8]) -> String {
    BASE64
        .encode(bytes)
        .replace('+', "-")
        .replace('=', "_")
        .replace('/', "~")
}

#[cfg(test)]
mod tests;
