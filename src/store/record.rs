//! The record beside a recording, `{externalId}.json`: what is known of it besides its bytes.

use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{StoreError, Version};
use crate::recording::unhex;

/// The record. Every field may be absent, and fields this version does not know are kept as they
/// are when the others change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Grants of a lower generation are revoked.
    pub generation: u32,
    /// The file this record was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileFacts>,
    /// The file as a scrub found it: other bytes than those that were put. Nobody is given them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged: Option<FileFacts>,
    /// What is known of its sound: format, channels, duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<Value>,
    /// What HubSpot knows of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hubspot: Option<Value>,
    /// What is being put into a bucket, and by whom: nobody else may touch the recording meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incoming: Option<Claim>,
    /// Who publishes it out of a bucket: nobody else may meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publishing: Option<String>,
    /// It must not be erased or replaced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub legal_hold: bool,
    /// When the recording was erased, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<String>,
    /// Fields of other versions and programs.
    #[serde(flatten)]
    pub others: Map<String, Value>,
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
    /// The tag that a bucket gave this version; absent for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// A put that is under way in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who puts it: a name that nothing else has.
    pub by: String,
    /// The ending of its name.
    pub format: String,
    /// SHA-256 of the bytes, 64 hex digits.
    pub sha256: String,
    /// Nothing but this claim keeps it from overwriting or deleting what comes meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwrites: bool,
}

#[cfg(feature = "object")]
impl Claim {
    /// Whether another one may put while this one stands: the same bytes, where neither can undo
    /// what the other has done.
    pub(super) fn lets_in(&self, other: &Self) -> bool {
        let same = self.format == other.format && self.sha256 == other.sha256;
        self.by == other.by || (same && !self.overwrites)
    }
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

    /// The record as it is written.
    pub(super) fn text(&self) -> Result<Vec<u8>, StoreError> {
        let mut text = serde_json::to_vec_pretty(self).map_err(StoreError::Record)?;
        text.push(b'\n');
        Ok(text)
    }

    /// What is left of a record when its recording is erased at `now`, RFC 3339: that it was, and
    /// which grants were revoked before.
    pub(super) fn erased(&self, now: &str) -> Self {
        Self {
            generation: self.generation,
            erased_at: Some(now.to_owned()),
            ..Self::default()
        }
    }

    /// The digest, while the file is still the one it was taken of.
    #[must_use]
    pub(super) fn sha256(&self, version: Version) -> Option<[u8; 32]> {
        let facts = self.file.as_ref().filter(|facts| facts.are_of(version))?;
        if self.is_damaged(version) {
            return None;
        }
        unhex(&facts.sha256)
    }

    /// Whether a scrub has found this version of the file to be other bytes than were put.
    pub(super) fn is_damaged(&self, version: Version) -> bool {
        let damaged = self.damaged.as_ref();
        damaged.is_some_and(|facts| facts.are_of(version))
    }
}

impl FileFacts {
    fn are_of(&self, version: Version) -> bool {
        self.size == version.length && i128::from(self.modified_ns) == version.modified_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::hex;

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
        assert_eq!(unhex(&hex(&[0xab; 32])), Some([0xab; 32]));
        assert_eq!(Record::default(), serde_json::from_str("{}").unwrap());
    }

    /// Found by the fuzzer: a number too large for an integer came back with another last digit.
    #[test]
    fn what_others_keep_in_it_stays_as_it_was() {
        let theirs = br#"{"a":555555555555555555555555555551,"b":[0.1,1e-7],"c":{"d":-1}}"#;
        let record = Record::read(theirs).unwrap();
        assert_eq!(Record::read(&record.text().unwrap()).unwrap(), record);
    }
}
