//! Whether a body is the sound it claims to be.

use std::borrow::Cow;
use std::fs::File;

use http::{HeaderMap, header};

use super::Refused;
use crate::audio::{self, Concern, Content, Effort, Ranged as _, Use, Verdict};
use crate::recording::MediaType;
use crate::store::{ChangeError, Opened};

/// How many first bytes [`sniff`] needs to see.
pub(super) const SNIFFED: usize = 64;

/// Why bytes are no sound, in a sentence for whoever sent them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub Cow<'static, str>);

/// What the sender says of a body; `None` leaves it to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim(pub Option<MediaType>);

impl Claim {
    pub(super) fn of(fields: &HeaderMap) -> Result<Self, Refused> {
        // RFC 9110 §15.5.16: a coding that is not undone here.
        if fields.contains_key(header::CONTENT_ENCODING) {
            return Err(Refused::Type);
        }
        // §14.5: a part would be taken for the whole.
        if fields.contains_key(header::CONTENT_RANGE) {
            return Err(Refused::Field("A recording is put whole."));
        }
        let Some(value) = fields.get(header::CONTENT_TYPE) else {
            return Ok(Self(None));
        };
        Self::of_type(value.to_str().unwrap_or_default())
    }

    /// The claim of a media type.
    pub(super) fn of_type(text: &str) -> Result<Self, Refused> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        let media = match &*essence.to_ascii_lowercase() {
            "application/octet-stream" => return Ok(Self(None)),
            "audio/wav" | "audio/x-wav" | "audio/wave" | "audio/vnd.wave" => MediaType::Wav,
            "audio/flac" | "audio/x-flac" => MediaType::Flac,
            "audio/mpeg" | "audio/mp3" => MediaType::Mp3,
            "audio/mp4" | "video/mp4" => MediaType::Mp4,
            "audio/m4a" | "audio/x-m4a" => MediaType::M4a,
            _ => return Err(Refused::Type),
        };
        Ok(Self(Some(media)))
    }

    /// Holds the claim against what the first bytes are.
    pub(super) fn check(self, head: &[u8]) -> Result<MediaType, Unfit> {
        use MediaType::{M4a, Mp4};

        let is = sniff(head)?;
        match self.0 {
            None => Ok(is),
            // One container: its ending is the sender's to choose.
            Some(claimed @ (Mp4 | M4a)) if matches!(is, Mp4 | M4a) => Ok(claimed),
            Some(claimed) if claimed == is => Ok(is),
            Some(claimed) => Err(Unfit(
                format!(
                    "The body was said to be {} and is {}.",
                    claimed.extension(),
                    is.extension()
                )
                .into(),
            )),
        }
    }
}

/// The format of a whole body, and what is known of its sound: the one place that judges it.
pub(super) fn verdict(
    file: &File,
    claim: Claim,
) -> Result<(MediaType, Option<serde_json::Value>), Refused> {
    let opened = Opened::new(file).map_err(ChangeError::from)?;
    let mut head = [0; SNIFFED];
    let length = opened.read_at(0, &mut head).map_err(ChangeError::from)?;
    let media = claim.check(&head[..length])?;
    let content = audio::inspect(&opened, Effort::Count).map_err(ChangeError::from)?;
    let facts = match content {
        Content::Recording(facts) => facts,
        Content::Other(other) => return Err(Unfit(format!("The body is {other}.").into()).into()),
    };
    let verdict = Verdict::of(&facts);
    if verdict.good_for == Use::Nothing {
        let why: Vec<_> = verdict.concerns.iter().map(Concern::to_string).collect();
        return Err(Unfit(format!("Nobody can play the body: {}.", why.join("; ")).into()).into());
    }
    // Names and numbers always serialise.
    Ok((media, serde_json::to_value(&facts).ok()))
}

/// What bytes are by their first ones.
fn sniff(head: &[u8]) -> Result<MediaType, Unfit> {
    const W64: &[u8] = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb";
    let at = |offset: usize, what: &[u8]| {
        head.get(offset..)
            .is_some_and(|rest| rest.starts_with(what))
    };
    let unfit = |what: &'static str| Err(Unfit(what.into()));
    match head {
        [] => unfit("The body is empty."),
        _ if (at(0, b"RIFF") || at(0, b"RF64")) && at(8, b"WAVE") => Ok(MediaType::Wav),
        _ if at(0, W64) => Ok(MediaType::Wav),
        _ if at(0, b"fLaC") => Ok(MediaType::Flac),
        _ if at(4, b"ftypM4A") => Ok(MediaType::M4a),
        _ if at(4, b"ftyp") => Ok(MediaType::Mp4),
        _ if at(0, b"ID3") || is_mp3_frame(head) => Ok(MediaType::Mp3),
        _ if at(0, b"PK\x03\x04") => unfit("The body is a zip archive."),
        _ if is_markup(head) => unfit("The body is a page of HTML or XML, perhaps an error's."),
        _ => unfit("The body is neither WAV, FLAC, MP3 nor MP4."),
    }
}

/// The sync of an MPEG audio frame, of layer I to III: ADTS has layer 0.
fn is_mp3_frame(head: &[u8]) -> bool {
    matches!(head, [0xff, second, ..] if second & 0xe0 == 0xe0 && second & 0x06 != 0)
}

fn is_markup(head: &[u8]) -> bool {
    head.strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(head)
        .trim_ascii_start()
        .starts_with(b"<")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for (text, expect) in [
            ("audio/wav", Some(Some(MediaType::Wav))),
            ("Audio/X-WAV; codecs=1", Some(Some(MediaType::Wav))),
            ("audio/flac", Some(Some(MediaType::Flac))),
            ("audio/mpeg", Some(Some(MediaType::Mp3))),
            ("video/mp4", Some(Some(MediaType::Mp4))),
            ("audio/x-m4a", Some(Some(MediaType::M4a))),
            ("application/octet-stream", Some(None)),
            ("audio/ogg", None),
            ("text/html", None),
            ("", None),
        ] {
            let claim = Claim::of_type(text).ok().map(|claim| claim.0);
            assert_eq!(claim, expect, "{text}");
        }
    }

    #[test]
    fn claims_are_held_against_the_bytes() {
        use MediaType::{Flac, M4a, Mp3, Mp4, Wav};

        for (head, claim, expect) in [
            (&b"RIFF\0\0\0\0WAVEfmt "[..], None, Ok(Wav)),
            (b"RF64\0\0\0\0WAVEds64", Some(Wav), Ok(Wav)),
            (b"RIFF\0\0\0\0AVI ", Some(Wav), Err("neither")),
            (b"fLaC\0\0\0\x22", None, Ok(Flac)),
            (
                b"fLaC\0\0\0\x22",
                Some(Wav),
                Err("said to be wav and is flac"),
            ),
            (b"ID3\x04", Some(Mp3), Ok(Mp3)),
            (b"\xff\xfb\x90\x44", None, Ok(Mp3)),
            (b"\xff\xf1\x50\x80", None, Err("neither")),
            (b"\0\0\0\x20ftypisom", Some(M4a), Ok(M4a)),
            (b"\0\0\0\x20ftypisom", None, Ok(Mp4)),
            (b"\0\0\0\x20ftypM4A ", None, Ok(M4a)),
            (b"\0\0\0\x20ftypM4A ", Some(Mp4), Ok(Mp4)),
            (b"", Some(Wav), Err("empty")),
            (b"PK\x03\x04", None, Err("zip")),
            (b"\r\n<!doctype html>", Some(Wav), Err("HTML")),
            (b"{\"error\":1}", None, Err("neither")),
            (b"R", None, Err("neither")),
        ] {
            let judged = Claim(claim).check(head);
            match (&judged, expect) {
                (Ok(media), Ok(expect)) => assert_eq!(*media, expect, "{head:?}"),
                (Err(Unfit(why)), Err(part)) => assert!(why.contains(part), "{why}"),
                _ => panic!("{head:?}: {judged:?}"),
            }
        }
    }
}
