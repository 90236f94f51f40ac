//! What a recording is: whose it is, which bytes stand for it, and when.
//!
//! Decides which ids exist (a charset and a length), which file formats a recording may have, and
//! where one lies in a store and on the media route. Never opens, signs or sends anything.

use std::fmt;

/// Whole seconds since 1970-01-01T00:00:00Z.
///
/// Every clock reading in the pure layers arrives as an argument of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// This time and `seconds` more, or the end of time.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Seconds from `self` until `later`; zero when `later` is not later.
    #[must_use]
    pub const fn until(self, later: Self) -> u64 {
        later.0.saturating_sub(self.0)
    }

    /// In UTC, as RFC 3339 writes it; empty for a time past the year 9999.
    #[must_use]
    pub fn rfc3339(self) -> String {
        i64::try_from(self.0)
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
            .map_or_else(String::new, |timestamp| timestamp.to_string())
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Longest id, in bytes.
pub const MAX_ID: usize = 128;

/// One id: 1 to 128 of `A-Za-z0-9._~-`, and not `.` or `..`.
///
/// Since every id is one plain path segment by its charset, none is ever decoded, mapped or
/// sanitised on its way to a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Box<str>);

impl Id {
    /// Takes `text` as an id.
    ///
    /// # Errors
    /// [`IdError`] says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, IdError> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    fn check(text: &str) -> Result<(), IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > MAX_ID {
            return Err(IdError::TooLong(text.len()));
        }
        if let Some(at) = text.bytes().position(|byte| !is_unreserved(byte)) {
            return Err(IdError::Charset(at));
        }
        if text == "." || text == ".." {
            return Err(IdError::DotSegment);
        }
        Ok(())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

/// `unreserved` of RFC 3986 §2.3: the bytes no part of the web needs to escape.
pub(crate) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
}

/// Why a text is not an [`Id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No bytes at all.
    #[error("an id is empty; it takes 1 to {MAX_ID} of A-Z a-z 0-9 . _ ~ -")]
    Empty,
    /// More than [`MAX_ID`] bytes.
    #[error("an id has {0} bytes; it takes 1 to {MAX_ID}")]
    TooLong(usize),
    /// A byte outside the set, at this offset.
    #[error("an id has a byte at offset {0} that is none of A-Z a-z 0-9 . _ ~ -")]
    Charset(usize),
    /// `.` or `..`.
    #[error("an id cannot be \".\" or \"..\"")]
    DotSegment,
}

/// Which recording: the vendor's app, the HubSpot account, and the call's id.
///
/// HubSpot's names for the three are `appId`, `externalAccountId` and `externalId`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordingId {
    /// HubSpot's `appId`.
    pub app: Id,
    /// HubSpot's `externalAccountId`.
    pub account: Id,
    /// HubSpot's `externalId`.
    pub external: Id,
}

impl RecordingId {
    /// Takes three texts as a recording's id.
    ///
    /// # Errors
    /// The first of the three that is not an [`Id`].
    pub fn new(app: &str, account: &str, external: &str) -> Result<Self, IdError> {
        Ok(Self {
            app: Id::new(app)?,
            account: Id::new(account)?,
            external: Id::new(external)?,
        })
    }

    /// The directory below the store's root in which it lies.
    pub(crate) fn directory(&self) -> String {
        [self.app.as_str(), "/", self.account.as_str()].concat()
    }

    /// Its place there with this ending: of its record, say.
    pub(crate) fn with_extension(&self, extension: &str) -> String {
        let [app, account, external] = [&self.app, &self.account, &self.external].map(Id::as_str);
        [app, "/", account, "/", external, ".", extension].concat()
    }
}

impl fmt::Display for RecordingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.app, self.account, self.external)
    }
}

/// The file formats a recording may have, in the order in which they are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaType {
    /// RIFF WAVE.
    Wav,
    /// FLAC.
    Flac,
    /// MPEG-1 audio layer III.
    Mp3,
    /// ISO base media, whatever is in it.
    Mp4,
    /// ISO base media with audio alone.
    M4a,
}

impl MediaType {
    /// Every format, first choice first.
    pub const ALL: [Self; 5] = [Self::Wav, Self::Flac, Self::Mp3, Self::Mp4, Self::M4a];

    /// The file name's ending, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Flac => "flac",
            Self::Mp3 => "mp3",
            Self::Mp4 => "mp4",
            Self::M4a => "m4a",
        }
    }

    /// The format with this ending; endings are lower case.
    #[must_use]
    pub fn from_extension(extension: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|media| media.extension() == extension)
    }
}

/// A recording in one format: a place in the store and on the media route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaPath {
    /// Which recording.
    pub recording: RecordingId,
    /// In which format.
    pub media: MediaType,
}

impl MediaPath {
    /// What every path of the media route begins with.
    pub const PREFIX: &'static str = "/media/";

    /// Reads `/media/{appId}/{externalAccountId}/{externalId}.{ext}`, which has one spelling.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let ([app, account, external], media) = Self::parts(path)?;
        Some(Self {
            recording: RecordingId::new(app, account, external).ok()?,
            media,
        })
    }

    /// Whether [`MediaPath::parse`] would read this path.
    #[must_use]
    pub fn is_one(path: &str) -> bool {
        Self::parts(path).is_some_and(|(ids, _)| ids.iter().all(|id| Id::check(id).is_ok()))
    }

    fn parts(path: &str) -> Option<([&str; 3], MediaType)> {
        // Byte by byte: ids are too short for a search by vectors to be worth its beginning.
        let cut = |text: &'_ str| text.bytes().position(|byte| byte == b'/');
        let ids = path.strip_prefix(Self::PREFIX)?;
        let slash = cut(ids)?;
        let (app, rest) = (&ids[..slash], &ids[slash + 1..]);
        let slash = cut(rest)?;
        let (account, file) = (&rest[..slash], &rest[slash + 1..]);
        if cut(file).is_some() {
            return None;
        }
        let dot = file.bytes().rposition(|byte| byte == b'.')?;
        let (external, extension) = (&file[..dot], &file[dot + 1..]);
        let media = MediaType::from_extension(extension)?;
        Some(([app, account, external], media))
    }

    /// The path on the media route.
    #[must_use]
    pub fn url_path(&self) -> String {
        [Self::PREFIX, &self.store_path()].concat()
    }

    /// The path below the store's root, with `/` between its parts.
    #[must_use]
    pub fn store_path(&self) -> String {
        self.recording.with_extension(self.media.extension())
    }

    /// The file's own name.
    #[must_use]
    pub fn file_name(&self) -> String {
        [
            self.recording.external.as_str(),
            ".",
            self.media.extension(),
        ]
        .concat()
    }
}

/// A strong entity tag with its quotes (RFC 9110 §8.8.3).
///
/// Made from content where its digest is known, else from length and modification time in
/// nanoseconds, so that all replicas of one store agree. Never weak, never an inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag(Box<str>);

impl EntityTag {
    /// The tag of content with this SHA-256.
    #[must_use]
    pub fn from_sha256(digest: &[u8; 32]) -> Self {
        Self(format!("\"{}\"", hex(digest)).into())
    }

    /// The tag of a file of `length` bytes last modified `modified_ns` nanoseconds after 1970.
    #[must_use]
    pub fn from_file(length: u64, modified_ns: i128) -> Self {
        use fmt::Write as _;
        // As long as it can be: it does not grow as it is written.
        let mut text = String::with_capacity(2 * 32 + 3);
        // Writing to a String cannot fail.
        let _ = write!(text, "\"{length:x}-{modified_ns:x}\"");
        Self(text.as_str().into())
    }

    /// The tag of an object, by a digest of what its store calls this version.
    #[must_use]
    #[cfg(feature = "object")]
    pub(crate) fn from_store(digest: &[u8; 32]) -> Self {
        Self(format!("\"v-{}\"", hex(&digest[..16])).into())
    }

    /// The tag as it stands in a field, with its quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag without its quotes.
    #[must_use]
    pub fn opaque(&self) -> &str {
        self.0.trim_matches('"')
    }
}

/// Bytes as hex digits in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
    text
}

/// A SHA-256 of 64 hex digits.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(digest)
}

/// A recording's bytes as they are to be sent: everything a response says of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Representation {
    /// In bytes.
    pub length: u64,
    /// The strong validator.
    pub etag: EntityTag,
    /// The weak one; `None` for a file from before 1970.
    pub last_modified: Option<UnixTime>,
    /// The format.
    pub media: MediaType,
    /// The name a download is saved under.
    pub file_name: String,
    /// SHA-256 of all the bytes, where a record says it and still matches the file.
    pub sha256: Option<[u8; 32]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let long = "a".repeat(128);
        for good in [
            "a",
            "test-call-01",
            "...",
            ".hidden",
            "A.b_c~d-9",
            long.as_str(),
        ] {
            assert_eq!(Id::new(good).map(|id| id.to_string()), Ok(good.to_owned()));
        }
        let too_long = "a".repeat(129);
        for (bad, why) in [
            ("", IdError::Empty),
            (too_long.as_str(), IdError::TooLong(129)),
            (".", IdError::DotSegment),
            ("..", IdError::DotSegment),
            ("a/b", IdError::Charset(1)),
            ("a\\b", IdError::Charset(1)),
            ("a%2e", IdError::Charset(1)),
            ("a\0", IdError::Charset(1)),
            ("ä", IdError::Charset(0)),
            ("a b", IdError::Charset(1)),
        ] {
            assert_eq!(Id::new(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn media_paths_have_one_spelling() {
        for path in [
            "/media/app-101/test-account-01/test-call-01.wav",
            "/media/a/b/c.d.flac",
            "/media/a/b/.wav.mp3",
        ] {
            assert_eq!(MediaPath::parse(path).unwrap().url_path(), path);
            assert!(MediaPath::is_one(path), "{path}");
        }
        for path in [
            "/media/a/b/c",
            "/media/a/b/c.txt",
            "/media/a/b/c.WAV",
            "/media/a/b/.wav",
            "/media/a/b/c.wav/",
            "/media/a/b/c/d.wav",
            "/media/a//c.wav",
            "/media/../b/c.wav",
            "/media/a/b/%63.wav",
            "/Media/a/b/c.wav",
            "media/a/b/c.wav",
            "/media/",
        ] {
            assert_eq!(MediaPath::parse(path), None, "{path}");
            assert!(!MediaPath::is_one(path), "{path}");
        }
    }

    #[test]
    fn entity_tags_are_strong_and_quoted() {
        assert_eq!(EntityTag::from_file(255, 16).as_str(), "\"ff-10\"");
        let tag = EntityTag::from_sha256(&[0xab; 32]);
        assert_eq!(tag.opaque(), "ab".repeat(32));
        assert_eq!(tag.as_str().len(), 66);
    }
}
