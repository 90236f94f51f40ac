//! What is no recording tonearm can use, named for what it is.

use std::fmt;

use serde::{Serialize, Serializer};

use super::window::Window;
use super::{Ranged, wav};

/// Bytes that are no usable recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// No bytes at all.
    Empty,
    /// Zeros and nothing else, as far as was looked: space that was set aside and never written.
    Zeros,
    /// A web page, which is what many servers send in place of a file.
    Html,
    /// XML, as many an API's error.
    Xml,
    /// JSON, as many an API's error.
    Json,
    /// Text of another kind.
    Text,
    /// A zip archive.
    Zip,
    /// A zip archive whose first entry takes a password.
    EncryptedZip,
    /// Another kind of file, by its name.
    Known(&'static str),
    /// WAV without sound in it: it ends within its header, or has no `data` chunk.
    WavWithoutSound,
    /// FLAC whose first block is not what it must be.
    FlacWithoutHeader,
    /// MP4 without `moov`: its writer never finished.
    Mp4WithoutIndex,
    /// MP4 without a sound track.
    Mp4WithoutSound,
    /// Begins like nothing tonearm knows.
    Unknown,
}

/// Kinds that are known by their first bytes.
const MAGIC: &[(&[u8], Other)] = &[
    (b"OggS", Other::Known("Ogg (Opus, Vorbis or Speex)")),
    (b"#!AMR", Other::Known("AMR")),
    (b"FORM", Other::Known("AIFF")),
    (b".snd", Other::Known("Sun AU")),
    (b"caff", Other::Known("Apple CAF")),
    (b"\x1a\x45\xdf\xa3", Other::Known("Matroska or WebM")),
    (b"RIFX", Other::Known("RIFX, a big-endian WAV")),
    (b"NIST_1A", Other::Known("NIST SPHERE")),
    (b"FLV", Other::Known("Flash video")),
    (b"\x30\x26\xb2\x75", Other::Known("Windows Media")),
    (b"%PDF", Other::Known("PDF")),
    (b"\x1f\x8b", Other::Known("gzip")),
    (b"7z\xbc\xaf\x27\x1c", Other::Known("7-Zip")),
    (b"Rar!", Other::Known("RAR")),
    (b"\x89PNG", Other::Known("PNG image")),
    (b"\xff\xd8\xff", Other::Known("JPEG image")),
    (b"\x7fELF", Other::Known("ELF program")),
    (b"-----BEGIN PGP", Other::Known("PGP message")),
    (b"age-encryption.org/", Other::Known("age-encrypted file")),
];

/// So many bytes tell what a file of text is.
const HEAD: usize = 1024;

/// What begins like a kind of file that is known and is no MPEG audio.
pub(super) fn named<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    begins: u64,
) -> Result<Option<Other>, S::Error> {
    if window.length() == 0 {
        return Ok(Some(Other::Empty));
    }
    let head = window.at(begins, HEAD)?;
    let magic = MAGIC.iter().find(|(magic, _)| head.starts_with(magic));
    if let Some((_, other)) = magic {
        return Ok(Some(*other));
    }
    if head.starts_with(b"RIFF") && head.len() > 11 {
        return Ok(Some(Other::Known("RIFF, but no WAVE")));
    }
    if head.starts_with(b"PK\x03\x04") {
        let encrypted = head.get(6).is_some_and(|flags| flags & 1 != 0);
        return Ok(Some(if encrypted {
            Other::EncryptedZip
        } else {
            Other::Zip
        }));
    }
    // ADTS: MPEG's twelve bits, then layer 0, which MPEG audio does not have.
    if let [0xff, second, ..] = head
        && second & 0xf6 == 0xf0
    {
        return Ok(Some(Other::Known("AAC in ADTS frames")));
    }
    Ok(text(head))
}

/// Text, and of what kind.
fn text(head: &[u8]) -> Option<Other> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    // A character may be cut at the end of what was read.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    if text.is_empty() || text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    let text = text.trim_start().to_ascii_lowercase();
    let holds = |tag: &str| text.contains(tag);
    Some(
        if holds("<!doctype html") || holds("<html") || holds("<head") || holds("<body") {
            Other::Html
        } else if text.starts_with('<') {
            Other::Xml
        } else if text.starts_with('{') || text.starts_with('[') {
            Other::Json
        } else {
            Other::Text
        },
    )
}

/// What turned out not to be what it begins like.
pub(super) fn unnamed<S: Ranged + ?Sized>(window: &mut Window<'_, S>) -> Result<Other, S::Error> {
    let head = window.at(0, 4096)?;
    Ok(if wav::is_one(head) {
        Other::WavWithoutSound
    } else if head.starts_with(b"fLaC") {
        Other::FlacWithoutHeader
    } else if head.iter().all(|byte| *byte == 0) {
        Other::Zeros
    } else {
        Other::Unknown
    })
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file",
            Self::Zeros => "zeros and nothing else: space that was set aside and never written",
            Self::Html => "a web page (HTML), not audio: probably a login or error page",
            Self::Xml => "XML, not audio: probably an error message",
            Self::Json => "JSON, not audio: probably an error message",
            Self::Text => "text, not audio",
            Self::Zip => "a zip archive, not audio: unpack it",
            Self::EncryptedZip => "an encrypted zip archive: unpack it with its password",
            Self::Known(name) => return write!(f, "{name}, which tonearm does not read"),
            Self::WavWithoutSound => "a WAV header without sound: no data chunk",
            Self::FlacWithoutHeader => "FLAC without its STREAMINFO block",
            Self::Mp4WithoutIndex => "MP4 without its index (moov): its writer never finished",
            Self::Mp4WithoutSound => "MP4 without a sound track",
            Self::Unknown => "nothing tonearm recognises",
        })
    }
}

impl Serialize for Other {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
