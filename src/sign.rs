//! The signed URL, version 1: what is signed, by which key, and whether it holds at `now`.
//!
//! ```text
//! url   = scheme "://" host path "?" [ other "&" ] "sig=" token [ "&" other ]
//! token = "1" "." kid "." exp *( "." opt ) "." mac
//!
//! string-to-sign = "tonearm-url-v1" LF "GET" LF ( host / "*" ) LF path LF ( token up to its last "." )
//! ```
//!
//! One query parameter, one MAC over the very bytes that are sent. Nothing is decoded, sorted or
//! rebuilt before the MAC is checked, so signer and verifier have nothing to disagree about.
//!
//! A [`Grant`] can only be had from [`verify`], or from [`pull`] by an edge that shows its secret, and
//! it is the only key to a recording. This module
//! knows nothing of files, sockets, or the clock.

mod key;
mod known;
mod mint;
mod path;
mod token;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use memchr::memchr;
use sha2::{Digest as _, Sha256};

pub use self::key::{Audience, Key, KeyError, Keyring, KeyringError, PULL_FIELD, Window};
pub use self::mint::{MIN_TTL, MintError, Minted, Policy, mint};
pub use self::path::{MAX_PATH, MAX_SEGMENT, PathError, check_path};
pub use self::token::{
    Claims, Disposition, MAX_FILE_NAME, Mac256, MalformedName, Token, TokenId, TokenIdError,
};

use crate::recording::UnixTime;

/// Longest request target, in bytes (path, `?` and query).
pub const MAX_TARGET: usize = 2048;

/// What of a request the signature is checked against.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The method as sent.
    pub method: &'a str,
    /// The effective host: the target's authority, else Host.
    pub host: &'a str,
    /// Path and query, as sent.
    pub target: &'a str,
}

/// Why a request is not granted, in the words of the log and of `tonearm explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Neither GET nor HEAD.
    Method,
    /// A target of more than [`MAX_TARGET`] bytes.
    TooLong,
    /// The path has a spelling the grammar does not know.
    BadPath,
    /// No `sig`.
    Missing,
    /// More than one `sig`.
    Duplicate,
    /// A `sig` outside the token's grammar.
    Malformed,
    /// An option letter this version does not know.
    UnsupportedOption,
    /// No key of that id, or one that is not the origin's.
    UnknownKey,
    /// The MAC does not hold.
    BadSignature,
    /// The key's `verify_until` has passed.
    KeyRetired,
    /// `exp` has come.
    Expired,
    /// `exp` is further away than this server ever signs.
    TtlTooLong,
    /// The not-before time is ahead by more than the allowed skew.
    NotYet,
    /// The recording's grants, or this one, have been revoked.
    Revoked,
}

impl Refusal {
    /// Every reason, in the order in which it is looked for.
    pub const ALL: [Self; 14] = [
        Self::Method,
        Self::TooLong,
        Self::BadPath,
        Self::Missing,
        Self::Duplicate,
        Self::Malformed,
        Self::UnsupportedOption,
        Self::UnknownKey,
        Self::BadSignature,
        Self::KeyRetired,
        Self::Expired,
        Self::TtlTooLong,
        Self::NotYet,
        Self::Revoked,
    ];

    /// The reason in one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::TooLong => "too_long",
            Self::BadPath => "bad_path",
            Self::Missing => "missing",
            Self::Duplicate => "duplicate",
            Self::Malformed => "malformed",
            Self::UnsupportedOption => "unsupported_option",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::KeyRetired => "key_retired",
            Self::Expired => "expired",
            Self::TtlTooLong => "ttl_too_long",
            Self::NotYet => "not_yet",
            Self::Revoked => "revoked",
        }
    }

    /// Whether the caller may be told: only behind a true MAC, since before it the answer would
    /// help whoever is guessing.
    #[must_use]
    pub const fn is_told(self) -> bool {
        matches!(
            self,
            Self::KeyRetired | Self::Expired | Self::TtlTooLong | Self::NotYet | Self::Revoked
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl std::error::Error for Refusal {}

/// Leave to read what lies at one path. Only [`verify`] and [`pull`] make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant(Arc<Authentic>);

/// A URL whose MAC holds. Whether it opens anything is a question of time.
#[derive(Debug, PartialEq, Eq)]
struct Authentic {
    path: Box<str>,
    claims: Claims,
    /// Of the key that signed it.
    window: Window,
}

impl Grant {
    /// The path that was asked for, which the MAC covers.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// What was signed beside the path.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.0.claims
    }

    /// Holds the grant against the recording's generation. A grant without one is of generation 0,
    /// so that a raised generation revokes every URL minted before it.
    ///
    /// # Errors
    /// [`Refusal::Revoked`] when the recording has moved on.
    pub fn check_generation(&self, current: u32) -> Result<(), Refusal> {
        if self.0.claims.generation.unwrap_or(0) < current {
            return Err(Refusal::Revoked);
        }
        Ok(())
    }
}

/// Decides whether `request` is signed and holds at `now`; cheap and silent checks come first.
///
/// # Errors
/// The first [`Refusal`] in the order of [`Refusal::ALL`].
pub fn verify(
    request: SignedRequest<'_>,
    keyring: &Keyring,
    policy: &Policy,
    now: UnixTime,
) -> Result<Grant, Refusal> {
    // GET and HEAD are one method class: a HEAD tells nothing that its GET would not.
    if !matches!(request.method, "GET" | "HEAD") {
        return Err(Refusal::Method);
    }
    if request.target.len() > MAX_TARGET {
        return Err(Refusal::TooLong);
    }
    let authentic = match keyring.known().recall(request.target) {
        Some(authentic) => authentic,
        None => authenticate(request, keyring)?,
    };
    let Authentic { claims, window, .. } = &*authentic;
    in_time(window, claims, policy, now)?;
    if claims.token_id.is_some_and(|id| keyring.has_revoked(id)) {
        return Err(Refusal::Revoked);
    }
    Ok(Grant(authentic))
}

/// What a URL says, if its MAC holds.
fn authenticate(request: SignedRequest<'_>, keyring: &Keyring) -> Result<Arc<Authentic>, Refusal> {
    let (path, query) = split_target(request.target);
    check_path(path).map_err(|_| Refusal::BadPath)?;
    let token = Token::parse(only_sig(query)?)?;
    let signed_path = token.claims.signed_path(path).ok_or(Refusal::Malformed)?;
    let key = keyring.for_origin(token.kid).ok_or(Refusal::UnknownKey)?;
    let host = if token.claims.host_bound {
        effective_host(request.host)
    } else {
        Cow::Borrowed("*")
    };
    if !key.holds(&host, signed_path, token.signed, &token.mac) {
        // `~` is the one byte of the path's set that encoders disagree on (RFC 1738 had it
        // escaped): a MAC that fails on such a path is reported as the path's spelling.
        let spelling = path.contains('~');
        return Err(if spelling {
            Refusal::BadPath
        } else {
            Refusal::BadSignature
        });
    }
    let signed = token.signed;
    let authentic = Arc::new(Authentic {
        path: path.into(),
        claims: token.claims,
        window: *key.window(),
    });
    keyring.known().keep(request.target, signed, &authentic);
    Ok(authentic)
}

/// Leave for an edge that shows its secret: it may read every path, since it answers for whom it
/// lets read. `None` is not a refusal; who shows nothing, or a wrong secret, is a viewer.
pub fn pull<'f, F: Iterator<Item = &'f [u8]>>(
    path: &str,
    field: impl Fn(&str) -> F,
    keyring: &Keyring,
    now: UnixTime,
) -> Option<Grant> {
    keyring.pulling(field, now)?;
    check_path(path).ok()?;
    Some(Grant(Arc::new(Authentic {
        path: path.into(),
        claims: Claims {
            // Revoked are URLs, not the recording.
            generation: Some(u32::MAX),
            ..Claims::until(UnixTime(u64::MAX))
        },
        window: Window::default(),
    })))
}

/// A request target's path, and its query without the `?`.
#[must_use]
pub fn split_target(target: &str) -> (&str, &str) {
    match memchr(b'?', target.as_bytes()) {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, ""),
    }
}

/// The value of the query's one `sig`. Names are compared as sent: `%73ig` is another parameter.
fn only_sig(query: &str) -> Result<&str, Refusal> {
    // As nearly all are.
    if let Some(value) = query.strip_prefix("sig=")
        && memchr(b'&', value.as_bytes()).is_none()
    {
        return Ok(value);
    }
    let mut values = query.split('&').filter_map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (name == "sig").then_some(value)
    });
    let value = values.next().ok_or(Refusal::Missing)?;
    match values.next() {
        Some(_) => Err(Refusal::Duplicate),
        None => Ok(value),
    }
}

/// Everything about a true token that time can change.
fn in_time(
    window: &Window,
    claims: &Claims,
    policy: &Policy,
    now: UnixTime,
) -> Result<(), Refusal> {
    if !window.verifies_at(now) {
        return Err(Refusal::KeyRetired);
    }
    if claims.exp <= now {
        return Err(Refusal::Expired);
    }
    if claims.exp > now.plus(policy.max_ttl + policy.bucket) {
        return Err(Refusal::TtlTooLong);
    }
    if claims
        .not_before
        .is_some_and(|start| start > now.plus(policy.nbf_skew))
    {
        return Err(Refusal::NotYet);
    }
    Ok(())
}

/// The host as it is signed: lower case, without a default port (RFC 9110 §4.2.3).
#[must_use]
pub fn effective_host(host: &str) -> Cow<'_, str> {
    let bare = [":443", ":80", ":"]
        .iter()
        .find_map(|port| host.strip_suffix(port))
        .unwrap_or(host);
    if bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(bare.to_ascii_lowercase())
    } else {
        Cow::Borrowed(bare)
    }
}

/// What the access log may say of a target's token: never the query, and of the MAC only a print
/// that finds this URL again without being of use to whoever reads the log.
pub struct TokenTrace<'a> {
    /// The key's id.
    pub kid: &'a str,
    /// Expiry.
    pub exp: UnixTime,
    claims: Claims,
    mac_print: u32,
}

impl<'a> TokenTrace<'a> {
    /// Reads the trace from a query; `None` where there is no one well-formed token.
    #[must_use]
    pub fn of_query(query: &'a str) -> Option<Self> {
        let token = Token::parse(only_sig(query).ok()?).ok()?;
        Some(Self {
            kid: token.kid,
            exp: token.claims.exp,
            mac_print: print(&token.mac),
            claims: token.claims,
        })
    }

    /// Appends the option letters with their values, without the file name.
    pub fn push_options(&self, text: &mut String) {
        self.claims.push_loggable_options(text);
    }

    /// Appends the first 8 hex digits of SHA-256 of the MAC's bytes.
    pub fn push_mac_print(&self, text: &mut String) {
        let digit = |shift: u32| char::from_digit(self.mac_print >> shift & 0xf, 16);
        text.extend((0..8).rev().filter_map(|place| digit(place * 4)));
    }
}

impl fmt::Debug for TokenTrace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenTrace")
            .field("kid", &self.kid)
            .field("exp", &self.exp)
            .finish_non_exhaustive()
    }
}

/// Replaces the value of every `sig` parameter in a text that could hold a target. A target that
/// was escaped on its way here, once or more, still holds a MAC.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    const NAME: &str = "sig";
    // Of each request's path, and quicker than a search for any text.
    let mut places = text.as_bytes().windows(NAME.len());
    if !places.any(|place| place == NAME.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(NAME) {
        let (head, tail) = rest.split_at(at + NAME.len());
        out.push_str(head);
        rest = tail;
        if let Some(value) = after_equals(tail) {
            out.push_str(&tail[..tail.len() - value.len()]);
            out.push_str("[redacted]");
            rest = value
                .trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "-_.~%+/=".contains(c));
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// What follows `=`, `%3D`, `%253D` and so on.
fn after_equals(text: &str) -> Option<&str> {
    if let Some(value) = text.strip_prefix('=') {
        return Some(value);
    }
    let escaped = text.strip_prefix('%')?.trim_start_matches("25");
    escaped
        .strip_prefix("3D")
        .or_else(|| escaped.strip_prefix("3d"))
}

/// First 8 hex digits of SHA-256 of `bytes`.
fn fingerprint(bytes: &[u8]) -> String {
    format!("{:08x}", print(bytes))
}

/// The same as a number.
fn print(bytes: &[u8]) -> u32 {
    let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(bytes).into();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
pub(crate) mod tests;
