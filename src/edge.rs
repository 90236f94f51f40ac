//! Edges: the verdict for one that asks, and the tokens of those that check by themselves.
//!
//! An edge is a cache between viewers and this server: one's own (nginx, Varnish), which asks
//! `/edge/verify` before it opens its cache, or a bought CDN, which checks a token of its own
//! format. Decides what either is told, from the same claims as the native URL. Never serves a
//! byte, and never judges a native token itself: that is [`verify`]'s.

#[cfg(feature = "cdn")]
pub mod cdn;
#[cfg(any(feature = "cdn", feature = "object"))]
pub(crate) mod sas;

use crate::recording::UnixTime;
use crate::sign::{Grant, Keyring, Policy, Refusal, SignedRequest, verify};

/// Where an edge asks.
pub const VERIFY_PATH: &str = "/edge/verify";
/// The field that names the target a viewer asked the edge for, as sent.
pub const ORIGINAL_URI: &str = "x-original-uri";
/// The field that names the method a viewer used.
pub const ORIGINAL_METHOD: &str = "x-original-method";

/// Longest time an edge may keep a verdict, in seconds: so late can it learn of a revocation.
const MOST: u64 = 60;

/// What a viewer asked an edge for, where the edge says so once and legibly.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method `/edge/verify` itself was called with.
    pub by: &'a str,
    /// The viewer's method.
    pub method: Option<&'a str>,
    /// The viewer's target.
    pub target: Option<&'a str>,
    /// The host, for URLs bound to one.
    pub host: &'a str,
}

/// Whether the viewer may have what it asked the edge for.
///
/// # Errors
/// The [`Refusal`]; an edge that does not say what was asked for gets one too.
pub fn judge(
    asked: Asked<'_>,
    keyring: &Keyring,
    policy: &Policy,
    now: UnixTime,
) -> Result<Grant, Refusal> {
    // The answer to HEAD is that to GET, as everywhere.
    if !matches!(asked.by, "GET" | "HEAD") {
        return Err(Refusal::Method);
    }
    let request = SignedRequest {
        method: asked.method.ok_or(Refusal::Method)?,
        host: asked.host,
        target: asked.target.ok_or(Refusal::Malformed)?,
    };
    verify(request, keyring, policy, now)
}

/// Until when an edge may hold a yes: never past the URL's end.
#[must_use]
pub fn fresh_until(exp: UnixTime, now: UnixTime) -> UnixTime {
    exp.min(now.plus(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_ends_with_its_url() {
        let now = UnixTime(1_767_225_600);
        for (left, fresh) in [(1, 1), (59, 59), (60, 60), (61, 60), (43_200, 60)] {
            assert_eq!(fresh_until(now.plus(left), now), now.plus(fresh), "{left}");
        }
    }
}
