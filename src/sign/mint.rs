//! Minting: how long a URL lives, and the text of it.

use std::time::Duration;

use super::key::Keyring;
use super::path::{PathError, check_path};
use super::token::{Claims, Disposition, MalformedName, check_name, encode_mac, numbers_fit};
use super::{MAX_TARGET, effective_host};
use crate::recording::UnixTime;

/// Shortest life of a URL that is not asked for by the second.
pub const MIN_TTL: u64 = 300;

/// How long URLs live, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What every URL gets; the recording's duration comes on top.
    pub base: u64,
    /// The longest life.
    pub max_ttl: u64,
    /// Expiries are rounded up to multiples of this, so that one window gives one URL and caches
    /// keyed by URL can hit. At least 1.
    pub bucket: u64,
    /// How far ahead a not-before may be and still pass, for clocks that differ.
    pub nbf_skew: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            base: 15 * 60,
            max_ttl: 12 * 3600,
            bucket: 300,
            nbf_skew: 30,
        }
    }
}

impl Policy {
    /// `clamp(base + duration, 300, max_ttl)`.
    ///
    /// `listened` is the recording's duration where it is known and somebody will listen to it:
    /// a player asks again at each seek, while a download asks once.
    #[must_use]
    pub fn ttl(&self, listened: Option<Duration>) -> u64 {
        let seconds = listened.map_or(0, |duration| {
            duration
                .as_secs()
                .saturating_add(u64::from(duration.subsec_nanos() > 0))
        });
        self.base
            .saturating_add(seconds)
            .max(MIN_TTL)
            .min(self.max_ttl)
    }

    /// `ceil((now + ttl) / bucket) * bucket`.
    #[must_use]
    pub const fn expiry(&self, now: UnixTime, ttl: u64) -> UnixTime {
        let bucket = if self.bucket == 0 { 1 } else { self.bucket };
        UnixTime(now.plus(ttl).0.div_ceil(bucket).saturating_mul(bucket))
    }
}

/// A signed target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minted {
    /// Path and query, to stand behind a scheme and a host.
    pub target: String,
    /// When it ends.
    pub exp: UnixTime,
    /// Which key signed it.
    pub kid: String,
}

/// Why no URL can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The path has no signable spelling.
    #[error("this path cannot be signed")]
    Path(#[from] PathError),
    /// No key signs at this time.
    #[error("no key of the keyring signs now; `tonearm keys list` shows their windows")]
    NoKey,
    /// The expiry is out of bounds.
    #[error("the URL would end at {exp}; it must end after {now} and at most {most} s later")]
    Expiry {
        /// The expiry asked for.
        exp: UnixTime,
        /// The time of signing.
        now: UnixTime,
        /// The longest life allowed.
        most: u64,
    },
    /// The file name cannot stand in a token.
    #[error(transparent)]
    Name(#[from] MalformedName),
    /// A number has more digits than a token has room for, or fewer.
    #[error("an expiry has 10 digits, a not-before at most 10, a generation at most 9")]
    Digits,
    /// `p` does not end behind a `/` of the path.
    #[error("a prefix grant must end behind a \"/\" of the path")]
    Prefix,
    /// The whole would pass the longest target.
    #[error("the signed target has {0} bytes, more than {MAX_TARGET}")]
    TooLong(usize),
}

/// Signs `path` with `claims` for `host` (used only where the claims are host-bound).
///
/// # Errors
/// [`MintError`]; what would not verify is never minted.
pub fn mint(
    path: &str,
    claims: &Claims,
    host: &str,
    keyring: &Keyring,
    policy: &Policy,
    now: UnixTime,
) -> Result<Minted, MintError> {
    check_path(path)?;
    if let Some(Disposition::Attachment(Some(name))) = &claims.disposition {
        check_name(name)?;
    }
    let most = policy.max_ttl + policy.bucket;
    if claims.exp <= now || claims.exp > now.plus(most) {
        return Err(MintError::Expiry {
            exp: claims.exp,
            now,
            most,
        });
    }
    if !numbers_fit(claims) {
        return Err(MintError::Digits);
    }
    let signed_path = claims.signed_path(path).ok_or(MintError::Prefix)?;
    let key = keyring.minting(now).ok_or(MintError::NoKey)?;
    let signed = claims.encode(key.kid());
    let host = if claims.host_bound {
        effective_host(host)
    } else {
        "*".into()
    };
    let mac = key.sign(&host, signed_path, &signed);
    let target = format!("{path}?sig={signed}.{}", encode_mac(&mac));
    if target.len() > MAX_TARGET {
        return Err(MintError::TooLong(target.len()));
    }
    Ok(Minted {
        target,
        exp: claims.exp,
        kid: key.kid().to_owned(),
    })
}
