//! Who may bring and erase recordings: bearer tokens (RFC 6750), known by their digests.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};

use crate::recording::unhex;

/// Fewest characters of a token. What is written in the file is a digest, so that it is at its use
/// that a token is found too short to be random.
const MIN_TOKEN: usize = 32;

/// The tokens of one server.
#[derive(Debug, Clone, Default)]
pub struct Tokens(Vec<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    name: String,
    digest: [u8; 32],
}

/// Why a text is no list of tokens. Holds nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// A line is not a name and a digest.
    #[error("line {0} is not NAME and the 64 hex digits of a token's SHA-256")]
    Line(usize),
    /// Nobody could use it.
    #[error("there is no token in it")]
    Empty,
}

impl Tokens {
    /// Reads a list: in each line a name and the SHA-256 of a token in hex digits. Empty lines and
    /// those that begin with `#` say nothing.
    ///
    /// # Errors
    /// [`TokensError`]; a list is taken whole or not at all.
    pub fn parse(text: &str) -> Result<Self, TokensError> {
        let mut entries = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            entries.push(Entry::of(line).ok_or(TokensError::Line(at + 1))?);
        }
        if entries.is_empty() {
            return Err(TokensError::Empty);
        }
        Ok(Self(entries))
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// The name of the token that the fields of a request show.
    #[must_use]
    pub fn holder(&self, fields: &HeaderMap) -> Option<&str> {
        let mut lines = fields.get_all(header::AUTHORIZATION).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return None;
        };
        let token = bearer(line).filter(|token| token.len() >= MIN_TOKEN)?;
        let digest = Sha256::digest(token).into();
        let holds = |entry: &&Entry| same(&entry.digest, &digest);
        Some(&self.0.iter().find(holds)?.name)
    }
}

impl Entry {
    fn of(line: &str) -> Option<Self> {
        let (name, hex) = line.split_once(char::is_whitespace)?;
        Some(Self {
            name: name.to_owned(),
            digest: unhex(hex.trim_start())?,
        })
    }
}

/// RFC 9110 §11.1: the scheme in any case, blanks, the token.
fn bearer(line: &HeaderValue) -> Option<&str> {
    let (scheme, token) = line.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start_matches(' '))
}

/// The one comparison of tokens: of their digests, in constant time, by hmac's own.
fn same(ours: &[u8; 32], theirs: &[u8; 32]) -> bool {
    // A MAC whose key is what is compared is the same for the same key alone.
    let mac = |key: &[u8; 32]| Hmac::<Sha256>::new_from_slice(key).ok();
    match (mac(ours), mac(theirs)) {
        (Some(ours), Some(theirs)) => ours.verify(&theirs.finalize().into_bytes()).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::hex;

    /// SHA-256 of 32 times "a", and of 32 times "b".
    const A: &str = "3ba3f5f43b92602683c19aee62a20342b084dd5971ddd33808d81a328879a547";
    const B: &str = "bdb339768bc5e4fecbe55a442056919b2b325907d49bcbf3bf8de13781996a83";

    fn holder(tokens: &Tokens, lines: &[&str]) -> Option<String> {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(header::AUTHORIZATION, line.parse().unwrap());
        }
        tokens.holder(&fields).map(str::to_owned)
    }

    #[test]
    fn a_token_is_known_by_its_digest() {
        let text = format!("# ours\n\npbx {A}\r\n  carrier\t{} \n", B.to_uppercase());
        let tokens = Tokens::parse(&text).unwrap();
        assert_eq!(tokens.count(), 2);
        let (a, b) = ("a".repeat(32), "b".repeat(32));
        for (lines, expect) in [
            (vec![format!("Bearer {a}")], Some("pbx")),
            (vec![format!("bEARER   {b}")], Some("carrier")),
            (vec![format!("Bearer {}", "c".repeat(32))], None),
            (vec![format!("Bearer {a}b")], None),
            (vec![format!("Bearer {A}")], None),
            (vec![format!("Basic {a}")], None),
            (vec![a.clone()], None),
            (vec!["Bearer ".to_owned()], None),
            (vec![format!("Bearer {a}"), format!("Bearer {a}")], None),
            (vec![], None),
        ] {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            assert_eq!(holder(&tokens, &lines).as_deref(), expect, "{lines:?}");
        }
    }

    #[test]
    fn a_short_token_never_holds() {
        let digest: [u8; 32] = Sha256::digest("hunter2").into();
        let tokens = Tokens::parse(&format!("pbx {}", hex(&digest))).unwrap();
        assert_eq!(holder(&tokens, &["Bearer hunter2"]), None);
    }

    #[test]
    fn a_wrong_list_is_refused_whole_and_not_shown() {
        for (text, error) in [
            ("", TokensError::Empty),
            ("# nothing\n", TokensError::Empty),
            (A, TokensError::Line(1)),
            (&format!("pbx {A}\ncarrier {B}0"), TokensError::Line(2)),
            ("pbx secret", TokensError::Line(1)),
            (&format!("pbx {}", "é".repeat(32)), TokensError::Line(1)),
        ] {
            assert_eq!(Tokens::parse(text).map(drop), Err(error), "{text}");
        }
    }
}
