//! Keys: their strength, their windows, and the one place where a MAC is made or compared.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ctutils::CtEq as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::known::Known;
use super::token::{EncodedMac, Mac256, TokenId, is_kid};
use super::{Policy, fingerprint};
use crate::recording::UnixTime;

/// Shortest secret, in bytes.
const MIN_SECRET: usize = 32;
/// Fewest different byte values in a secret: what a random one never misses.
const MIN_DISTINCT: usize = 16;
/// The field that an edge shows its secret in, where its key names no other.
pub const PULL_FIELD: &str = "x-tonearm-pull";
/// Longest secret that is looked at, in bytes.
const MAX_PULL: usize = 256;
/// What a pull secret is compared by.
const PULL_LABEL: &[u8] = b"tonearm-pull-v1";

/// When a key signs and when it verifies. Each bound may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Signs from this second on.
    pub mint_from: Option<UnixTime>,
    /// Signs no more from this second on.
    pub mint_until: Option<UnixTime>,
    /// Verifies no more from this second on.
    pub verify_until: Option<UnixTime>,
}

impl Window {
    /// Whether the key may sign at `now`.
    #[must_use]
    pub fn mints_at(&self, now: UnixTime) -> bool {
        self.mint_from.is_none_or(|from| from <= now)
            && self.mint_until.is_none_or(|until| now < until)
            && self.verifies_at(now)
    }

    /// Whether the key may verify at `now`. A key verifies before it signs, so that it can be
    /// everywhere before the first URL made with it is.
    #[must_use]
    pub fn verifies_at(&self, now: UnixTime) -> bool {
        self.verify_until.is_none_or(|until| now < until)
    }
}

/// Whom a key's URLs are for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Audience {
    /// This server.
    #[default]
    Origin,
    /// An edge, by name: it shows the secret when it pulls. No URL is signed or verified with it.
    Edge(String),
}

/// A signing key. Holds the keyed MAC, not the secret, and is wiped when dropped.
#[derive(Clone)]
pub struct Key {
    kid: Box<str>,
    mac: Hmac<Sha256>,
    print: String,
    window: Window,
    audience: Audience,
    pull_field: Box<str>,
    pull: Mac256,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("fingerprint", &self.print)
            .field("window", &self.window)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// Why a key is refused. No text of these holds any part of the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 1 to 16 of `A-Za-z0-9_-`.
    #[error("a key id is 1 to 16 of A-Z a-z 0-9 - _")]
    Kid,
    /// Too few bytes.
    #[error("the secret has {0} bytes; it needs at least {MIN_SECRET}")]
    Short(usize),
    /// Too few different bytes to be random.
    #[error("the secret has {0} different byte values; a random one has at least {MIN_DISTINCT}")]
    Weak(usize),
    /// `mint_until` is not after `mint_from`.
    #[error("mint_until is not after mint_from")]
    EmptyWindow,
}

impl Key {
    /// Makes a key of `secret`.
    ///
    /// # Errors
    /// [`KeyError`] where the id, the secret or the window will not do.
    pub fn new(
        kid: &str,
        secret: &[u8],
        window: Window,
        audience: Audience,
    ) -> Result<Self, KeyError> {
        if !is_kid(kid) {
            return Err(KeyError::Kid);
        }
        if secret.len() < MIN_SECRET {
            return Err(KeyError::Short(secret.len()));
        }
        let distinct = secret.iter().collect::<HashSet<_>>().len();
        if distinct < MIN_DISTINCT {
            return Err(KeyError::Weak(distinct));
        }
        if window
            .mint_from
            .zip(window.mint_until)
            .is_some_and(|(from, until)| until <= from)
        {
            return Err(KeyError::EmptyWindow);
        }
        // HMAC takes a key of any length; the error exists for other constructions.
        let mac = Hmac::new_from_slice(secret).map_err(|_| KeyError::Short(secret.len()))?;
        Ok(Self {
            kid: kid.into(),
            pull: pulled(&mac, secret).finalize().into_bytes().into(),
            mac,
            print: fingerprint(secret),
            window,
            audience,
            pull_field: PULL_FIELD.into(),
        })
    }

    /// Has an edge show this key in another field, by its lower-case name.
    #[must_use]
    pub fn shown_in(mut self, field: &str) -> Self {
        self.pull_field = field.into();
        self
    }

    /// The key's id.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// First 8 hex digits of SHA-256 of the secret: tells two keys apart, gives neither away.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.print
    }

    /// When it signs and verifies.
    #[must_use]
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// Whom it is for.
    #[must_use]
    pub const fn audience(&self) -> &Audience {
        &self.audience
    }

    fn keyed(&self, host: &str, path: &str, signed: &str) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        // Line 1 keeps this use of a key apart from any other; no line can hold an LF.
        mac.update(b"tonearm-url-v1\nGET\n");
        mac.update(host.as_bytes());
        mac.update(b"\n");
        mac.update(path.as_bytes());
        mac.update(b"\n");
        mac.update(signed.as_bytes());
        mac
    }

    pub(super) fn sign(&self, host: &str, path: &str, signed: &str) -> Mac256 {
        self.keyed(host, path, signed)
            .finalize()
            .into_bytes()
            .into()
    }

    /// Whether `mac` is this key's over the four; the one comparison of MACs, in constant time.
    pub(super) fn holds(&self, host: &str, path: &str, signed: &str, mac: &Mac256) -> bool {
        self.keyed(host, path, signed).verify_slice(mac).is_ok()
    }

    /// Whether `shown` is this key's secret in base64url, padded or not; compared in constant time.
    fn is(&self, shown: &[u8]) -> bool {
        let shown = shown.strip_suffix(b"=").unwrap_or(shown);
        let mut secret = Zeroizing::new([0; MAX_PULL]);
        let Ok(length) = BASE64URL.decode_slice(shown, &mut *secret) else {
            return false;
        };
        // HMAC fills a short key up with zeros, and so takes two texts for one key; as a message,
        // each is another.
        pulled(&self.mac, &secret[..length])
            .verify_slice(&self.pull)
            .is_ok()
    }
}

/// Whether two MACs are one, in constant time. Each has one spelling, so that they are compared as they are written.
pub(super) fn same(one: &EncodedMac, other: &EncodedMac) -> bool {
    one.ct_eq(other).to_bool()
}

/// The key's own MAC over a secret that was shown.
fn pulled(mac: &Hmac<Sha256>, secret: &[u8]) -> Hmac<Sha256> {
    mac.clone().chain_update(PULL_LABEL).chain_update(secret)
}

/// The keys of one server, and the single URLs it has revoked.
#[derive(Debug, Clone)]
pub struct Keyring {
    keys: Vec<Key>,
    revoked: HashSet<TokenId>,
    /// What its keys were found to have signed.
    known: Arc<Known>,
}

/// Why keys do not make a ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No keys.
    #[error("the keyring has no key")]
    Empty,
    /// One id twice.
    #[error("the keyring has two keys {0:?}")]
    DuplicateKid(String),
    /// A key would be retired while URLs it signed still hold.
    #[error(
        "key {kid:?} is retired before the last URL it signs: verify_until must be at least {least}, which is mint_until + max_ttl + bucket"
    )]
    RetiredTooSoon {
        /// Which key.
        kid: String,
        /// The earliest `verify_until` that would do.
        least: UnixTime,
    },
}

impl Keyring {
    /// Makes a ring, and sees to it that no key leaves before the URLs it signed under `policy`:
    /// one that only says when it verifies no more stops signing early enough.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn new(
        mut keys: Vec<Key>,
        revoked: HashSet<TokenId>,
        policy: &Policy,
    ) -> Result<Self, KeyringError> {
        let lives = policy.max_ttl + policy.bucket;
        for Window {
            mint_until,
            verify_until,
            ..
        } in keys.iter_mut().map(|key| &mut key.window)
        {
            let last = verify_until.map(|until| UnixTime(until.0.saturating_sub(lives)));
            *mint_until = mint_until.or(last);
        }
        if keys.is_empty() {
            return Err(KeyringError::Empty);
        }
        let mut kids = HashSet::new();
        for key in &keys {
            if !kids.insert(key.kid()) {
                return Err(KeyringError::DuplicateKid(key.kid().to_owned()));
            }
            if let (Some(mint), Some(verify)) = (key.window.mint_until, key.window.verify_until)
                && verify < mint.plus(lives)
            {
                return Err(KeyringError::RetiredTooSoon {
                    kid: key.kid().to_owned(),
                    least: mint.plus(lives),
                });
            }
        }
        let known = Arc::default();
        Ok(Self {
            keys,
            revoked,
            known,
        })
    }

    /// Every key, in the file's order.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key to sign with at `now`: the origin's whose `mint_from` came last.
    #[must_use]
    pub fn minting(&self, now: UnixTime) -> Option<&Key> {
        self.keys
            .iter()
            .filter(|key| key.audience == Audience::Origin && key.window.mints_at(now))
            .max_by_key(|key| key.window.mint_from)
    }

    pub(super) fn for_origin(&self, kid: &str) -> Option<&Key> {
        self.keys
            .iter()
            .find(|key| key.kid() == kid && key.audience == Audience::Origin)
    }

    /// The edge that shows its secret at `now`, by name. `field` gives the values of a field;
    /// one that stands twice shows nothing.
    pub(super) fn pulling<'f, F: Iterator<Item = &'f [u8]>>(
        &self,
        field: impl Fn(&str) -> F,
        now: UnixTime,
    ) -> Option<&str> {
        self.keys.iter().find_map(|key| {
            let Audience::Edge(name) = &key.audience else {
                return None;
            };
            let mut values = field(&key.pull_field);
            let shown = values.next()?;
            let alone = values.next().is_none();
            (alone && key.window.verifies_at(now) && key.is(shown)).then_some(&**name)
        })
    }

    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    pub(super) fn has_revoked(&self, id: TokenId) -> bool {
        self.revoked.contains(&id)
    }
}
