//! The token's grammar: text to claims and back, one spelling each.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use memchr::memchr;

use super::Refusal;
use crate::recording::UnixTime;

/// The bytes of an HMAC-SHA256.
pub type Mac256 = [u8; 32];

/// Characters of a MAC in base64url.
pub(super) const ENCODED_MAC: usize = 43;
pub(super) type EncodedMac = [u8; ENCODED_MAC];

/// Longest file name in a grant, in bytes of UTF-8.
pub const MAX_FILE_NAME: usize = 190;
/// Longest key id, in bytes.
pub(super) const MAX_KID: usize = 16;

/// How the browser is asked to treat the recording (RFC 6266).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Saved as a file, under this name or the recording's own. What HubSpot needs.
    Attachment(Option<String>),
    /// Played in place, under its own media type.
    Inline,
}

/// A token's own id: 12 random bytes, for audit and for revoking one URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId(pub [u8; 12]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL.encode(self.0))
    }
}

/// The text is not 16 characters of base64url.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token id is 16 characters of base64url")]
pub struct TokenIdError;

impl std::str::FromStr for TokenId {
    type Err = TokenIdError;

    fn from_str(text: &str) -> Result<Self, TokenIdError> {
        let mut bytes = [0; 12];
        match BASE64URL.decode_slice(text, &mut bytes) {
            Ok(12) => Ok(Self(bytes)),
            _ => Err(TokenIdError),
        }
    }
}

/// Everything a token says besides its key and its MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The first second at which the URL no longer opens a response.
    pub exp: UnixTime,
    /// `d`: `None` is an attachment under the recording's own name.
    pub disposition: Option<Disposition>,
    /// `g`: the recording's grant generation.
    pub generation: Option<u32>,
    /// `h`: bound to the host.
    pub host_bound: bool,
    /// `j`: the token's own id.
    pub token_id: Option<TokenId>,
    /// `n`: not before.
    pub not_before: Option<UnixTime>,
    /// `p`: the MAC covers the first so many bytes of the path.
    pub prefix: Option<u16>,
}

/// The file name cannot stand in a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a file name is 1 to {MAX_FILE_NAME} bytes of UTF-8 without control characters, \"/\" or \"\\\""
)]
pub struct MalformedName;

impl Claims {
    /// Claims that say nothing but when they end.
    #[must_use]
    pub const fn until(exp: UnixTime) -> Self {
        Self {
            exp,
            disposition: None,
            generation: None,
            host_bound: false,
            token_id: None,
            not_before: None,
            prefix: None,
        }
    }

    /// The part of `path` that the MAC covers; `None` where `p` does not end behind a `/` of it.
    pub(super) fn signed_path<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.prefix {
            None => Some(path),
            Some(bytes) => path
                .get(..usize::from(bytes))
                .filter(|prefix| prefix.ends_with('/')),
        }
    }

    /// The token up to its last `.`: version, key, expiry, and options in alphabetical order.
    pub(super) fn encode(&self, kid: &str) -> String {
        let mut text = format!("1.{kid}.{:010}", self.exp.0);
        let name = |name: &str| format!("-{}", BASE64URL.encode(name));
        self.write_options(&mut text, name);
        text
    }

    /// Appends the options for a log line: as in the token, without the file name.
    pub(super) fn push_loggable_options(&self, text: &mut String) {
        let begin = text.len();
        self.write_options(text, |_| String::new());
        // The dot that parts them from the expiry.
        if text.len() > begin {
            text.remove(begin);
        }
    }

    fn write_options(&self, text: &mut String, name: impl Fn(&str) -> String) {
        match &self.disposition {
            None => {}
            Some(Disposition::Inline) => text.push_str(".di"),
            Some(Disposition::Attachment(None)) => text.push_str(".da"),
            Some(Disposition::Attachment(Some(file))) => {
                text.push_str(".da");
                text.push_str(&name(file));
            }
        }
        // Writing to a String cannot fail.
        if let Some(generation) = self.generation {
            let _ = write!(text, ".g{generation}");
        }
        if self.host_bound {
            text.push_str(".h");
        }
        if let Some(id) = self.token_id {
            let _ = write!(text, ".j{id}");
        }
        if let Some(start) = self.not_before {
            let _ = write!(text, ".n{:010}", start.0);
        }
        if let Some(bytes) = self.prefix {
            let _ = write!(text, ".p{bytes}");
        }
    }

    /// Takes one option as sent, after `last`, the letter before it.
    fn take(&mut self, option: &str, last: char) -> Result<char, Refusal> {
        let letter = option.chars().next().ok_or(Refusal::Malformed)?;
        let value = &option[letter.len_utf8()..];
        match letter {
            'd' => self.disposition = Some(disposition(value)?),
            'g' => self.generation = Some(number(value, 1..=9)?),
            'h' if value.is_empty() => self.host_bound = true,
            'j' => self.token_id = Some(value.parse().map_err(|_| Refusal::Malformed)?),
            'n' => self.not_before = Some(UnixTime(number(value, 10..=10)?)),
            'p' => self.prefix = Some(number(value, 1..=3)?),
            'h' => return Err(Refusal::Malformed),
            // Refused, never skipped: an option may narrow what is granted.
            _ if letter.is_ascii_alphabetic() => return Err(Refusal::UnsupportedOption),
            _ => return Err(Refusal::Malformed),
        }
        // Each letter at most once, in alphabetical order.
        if letter > last {
            Ok(letter)
        } else {
            Err(Refusal::Malformed)
        }
    }
}

/// A file name that may be signed into a grant.
pub(super) fn check_name(name: &str) -> Result<(), MalformedName> {
    let fits = (1..=MAX_FILE_NAME).contains(&name.len());
    let plain = !name
        .chars()
        .any(|c| c.is_control() || matches!(c, '/' | '\\'));
    if fits && plain {
        Ok(())
    } else {
        Err(MalformedName)
    }
}

/// Whether the claims' numbers have the digits that the grammar wants.
pub(super) fn numbers_fit(claims: &Claims) -> bool {
    let ten_digits = 10_000_000_000;
    (1_000_000_000..ten_digits).contains(&claims.exp.0)
        && claims.not_before.is_none_or(|start| start.0 < ten_digits)
        && claims
            .generation
            .is_none_or(|number| number < 1_000_000_000)
}

fn disposition(value: &str) -> Result<Disposition, Refusal> {
    match value {
        "i" => Ok(Disposition::Inline),
        "a" => Ok(Disposition::Attachment(None)),
        _ => {
            let encoded = value.strip_prefix("a-").ok_or(Refusal::Malformed)?;
            let bytes = BASE64URL.decode(encoded).map_err(|_| Refusal::Malformed)?;
            let name = String::from_utf8(bytes).map_err(|_| Refusal::Malformed)?;
            if name.is_empty() || name.len() > MAX_FILE_NAME {
                return Err(Refusal::Malformed);
            }
            Ok(Disposition::Attachment(Some(name)))
        }
    }
}

/// A decimal number of so many digits. A sign or a blank is not a digit.
fn number<N: std::str::FromStr>(
    text: &str,
    digits: std::ops::RangeInclusive<usize>,
) -> Result<N, Refusal> {
    if !digits.contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::Malformed);
    }
    text.parse().map_err(|_| Refusal::Malformed)
}

/// A well-formed token whose MAC nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token<'a> {
    /// The key it names.
    pub kid: &'a str,
    /// What it says.
    pub claims: Claims,
    /// The text the MAC covers: everything before the last `.`.
    pub signed: &'a str,
    /// The MAC it carries.
    pub mac: Mac256,
}

impl<'a> Token<'a> {
    /// Reads a token.
    ///
    /// # Errors
    /// [`Refusal::Malformed`], or [`Refusal::UnsupportedOption`] for a letter of another version.
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        // The last dot has one place, since a MAC has one length.
        let dot = text.len().checked_sub(ENCODED_MAC + 1);
        let (signed, mac) = dot
            .and_then(|dot| text.split_at_checked(dot))
            .ok_or(Refusal::Malformed)?;
        let mac = mac.strip_prefix('.').ok_or(Refusal::Malformed)?;
        let mut parts = parts(signed);
        if parts.next() != Some("1") {
            return Err(Refusal::Malformed);
        }
        let kid = parts
            .next()
            .filter(|kid| is_kid(kid))
            .ok_or(Refusal::Malformed)?;
        let exp = parts.next().ok_or(Refusal::Malformed)?;
        if exp.starts_with('0') {
            return Err(Refusal::Malformed);
        }
        let mut claims = Claims::until(UnixTime(number(exp, 10..=10)?));
        let mut last = '\0';
        for option in parts {
            last = claims.take(option, last)?;
        }
        let mac = mac_bytes(mac)?;
        Ok(Self {
            kid,
            claims,
            signed,
            mac,
        })
    }
}

/// What stands between dots. This is on the way of every request, and so is quicker than a search for
/// any character.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(dot) = memchr(b'.', text.as_bytes()) else {
            return rest.take();
        };
        rest = Some(&text[dot + 1..]);
        Some(&text[..dot])
    })
}

/// `1*16( ALPHA / DIGIT / "-" / "_" )`.
pub(super) fn is_kid(text: &str) -> bool {
    (1..=MAX_KID).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// [`ENCODED_MAC`] characters that decode one way: the decoder refuses padding and stray low bits.
pub(super) fn mac_bytes(text: &str) -> Result<Mac256, Refusal> {
    let mut mac = [0; 32];
    match BASE64URL.decode_slice(text, &mut mac) {
        Ok(32) => Ok(mac),
        _ => Err(Refusal::Malformed),
    }
}

/// The MAC as it stands in a token.
pub(super) fn encode_mac(mac: &Mac256) -> String {
    BASE64URL.encode(mac)
}
