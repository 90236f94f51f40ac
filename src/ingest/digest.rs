//! What a body's digest should be: `Content-Digest` and `Repr-Digest` (RFC 9530).
//!
//! A PUT brings a whole representation without a coding, so that both are of the same bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use sha2::digest::DynDigest;
use sha2::{Digest as _, Sha512};

use super::Refused;

const FIELDS: [&str; 2] = ["content-digest", "repr-digest"];

/// A hash besides SHA-256, which the store takes of everything.
pub(super) type Hasher = Box<dyn DynDigest + Send>;

/// Digests that a body should have, each with the field that says so.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Digests {
    sha256: Vec<(&'static str, Vec<u8>)>,
    sha512: Vec<(&'static str, Vec<u8>)>,
}

impl Digests {
    /// Those that the fields say; other algorithms than SHA-256 and SHA-512 say nothing (§2).
    pub(super) fn of(fields: &HeaderMap) -> Result<Self, Refused> {
        let mut digests = Self::default();
        for name in FIELDS {
            for line in fields.get_all(name) {
                let line = line.to_str().map_err(|_| MALFORMED)?;
                for member in line.split(',') {
                    digests.add(name, member.trim_matches([' ', '\t']))?;
                }
            }
        }
        Ok(digests)
    }

    /// A member of a dictionary of byte sequences (RFC 8941 §3.2): `sha-256=:BASE64:`.
    fn add(&mut self, name: &'static str, member: &str) -> Result<(), Refused> {
        let (algorithm, value) = member.split_once('=').unwrap_or((member, ""));
        let (list, length) = match algorithm {
            "sha-256" => (&mut self.sha256, 32),
            "sha-512" => (&mut self.sha512, 64),
            _ => return Ok(()),
        };
        let value = value.split(';').next().unwrap_or_default().trim_end();
        let digest = value
            .strip_prefix(':')
            .and_then(|value| value.strip_suffix(':'))
            .and_then(|value| BASE64.decode(value).ok())
            .filter(|digest| digest.len() == length)
            .ok_or(MALFORMED)?;
        list.push((name, digest));
        Ok(())
    }

    /// The hash that has to be taken besides SHA-256.
    pub(super) fn hasher(&self) -> Option<Hasher> {
        if self.sha512.is_empty() {
            return None;
        }
        Some(Box::new(Sha512::new()))
    }

    /// Holds the digests against those of the bytes that came.
    pub(super) fn check(&self, sha256: &[u8], also: Option<Hasher>) -> Result<(), Refused> {
        let sha512 = also.map(DynDigest::finalize).unwrap_or_default();
        let differs = |(_, digest): &&(_, Vec<u8>), is: &[u8]| **digest != *is;
        let wrong = self.sha256.iter().find(|said| differs(said, sha256));
        let wrong = wrong.or_else(|| self.sha512.iter().find(|said| differs(said, &sha512)));
        match wrong {
            Some((field, _)) => Err(Refused::Digest(field)),
            None => Ok(()),
        }
    }
}

const MALFORMED: Refused =
    Refused::Field("A digest is written sha-256=:BASE64: or sha-512=:BASE64:.");

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use sha2::Sha256;

    use super::*;

    fn check(lines: &[(&'static str, &str)], body: &str) -> Result<(), String> {
        let mut fields = HeaderMap::new();
        for (name, line) in lines {
            let name = HeaderName::from_static(name);
            fields.append(name, HeaderValue::from_str(line).unwrap());
        }
        let digests = Digests::of(&fields).map_err(|error| error.to_string())?;
        let also = digests.hasher().map(|mut hasher| {
            hasher.update(body.as_bytes());
            hasher
        });
        let checked = digests.check(&Sha256::digest(body), also);
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn digests_hold_or_do_not() {
        // Of RFC 9530, appendix D: {"hello": "world"} and a line feed.
        let body = "{\"hello\": \"world\"}\n";
        let sha256 = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        let sha512 = "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";
        let unknown = "md5=:AAAA:, unixsum=3, x";
        let empty = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        let wrong = Err("the body is not what content-digest says".to_owned());
        let repr_wrong = Err("the body is not what repr-digest says".to_owned());
        let malformed = Err(MALFORMED.to_string());
        for (lines, expect) in [
            (vec![], Ok(())),
            (vec![("content-digest", sha256)], Ok(())),
            (vec![("repr-digest", sha256)], Ok(())),
            (vec![("content-digest", sha512)], Ok(())),
            (
                vec![("content-digest", &format!("{sha256};x=1 , {sha512}"))],
                Ok(()),
            ),
            (vec![("content-digest", unknown)], Ok(())),
            (
                vec![("content-digest", ""), ("repr-digest", sha256)],
                Ok(()),
            ),
            (vec![("content-digest", empty)], wrong.clone()),
            (
                vec![("content-digest", sha256), ("content-digest", empty)],
                wrong.clone(),
            ),
            (
                vec![("content-digest", sha256), ("repr-digest", empty)],
                repr_wrong,
            ),
            (
                vec![("content-digest", &sha512.replace("YMA", "YMB"))],
                wrong,
            ),
            (
                vec![("content-digest", "sha-256=:AAAA:")],
                malformed.clone(),
            ),
            (vec![("content-digest", "sha-256=\"x\"")], malformed.clone()),
            (vec![("content-digest", "sha-256")], malformed.clone()),
            (vec![("content-digest", "sha-512=:é:")], malformed),
        ] {
            assert_eq!(check(&lines, body), expect, "{lines:?}");
        }
    }
}
