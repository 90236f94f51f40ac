//! The record beside a recording, `{externalId}.json`: what is known of it besides its bytes.

use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use super::Version;

/// The record. Every field may be absent, and fields this version does not know are left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Grants of a lower generation are revoked.
    pub generation: u32,
    /// The file this record was made for.
    pub file: Option<FileFacts>,
    /// When retention erased the recording, RFC 3339.
    pub erased_at: Option<String>,
}

/// What was true of the file when its digest was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// In bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i64,
    /// SHA-256 of the bytes, 64 hex digits.
    pub sha256: String,
}

impl Record {
    /// Reads a record's text.
    ///
    /// # Errors
    /// The text is no JSON object, or a field is not what it should be.
    pub(super) fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        // serde reads a struct from an array as well. A record that is none must not pass for one
        // that revokes nothing.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(serde_json::Error::custom("a record is a JSON object"));
        }
        serde_json::from_slice(text)
    }

    /// The digest, while the file is still the one it was taken of.
    #[must_use]
    pub(super) fn sha256(&self, version: Version) -> Option<[u8; 32]> {
        let facts = self.file.as_ref()?;
        let same =
            facts.size == version.length && i128::from(facts.modified_ns) == version.modified_ns;
        if same { unhex(&facts.sha256) } else { None }
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_holds_only_for_the_file_it_was_taken_of() {
        let text = format!(
            r#"{{"file":{{"size":3,"modified_ns":7,"sha256":"{}"}},"hubspot":{{"callId":"1"}}}}"#,
            "ab".repeat(32)
        );
        let record: Record = serde_json::from_str(&text).unwrap();
        let version = |length, modified_ns| Version {
            length,
            modified_ns,
        };
        assert_eq!(record.sha256(version(3, 7)), Some([0xab; 32]));
        assert_eq!(record.sha256(version(4, 7)), None);
        assert_eq!(record.sha256(version(3, 8)), None);
        assert_eq!(unhex(&"zz".repeat(32)), None);
        assert_eq!(unhex("ab"), None);
        assert_eq!(Record::default(), serde_json::from_str("{}").unwrap());
    }
}
