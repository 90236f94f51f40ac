//! What a recording is, from as few of its bytes as will tell.
//!
//! Decides container, codec, channels, rate and duration, and how the duration is known; names what
//! is no recording for what it is; and says what HubSpot will make of it. Bytes are read through
//! [`Ranged`], so that this module knows no files. Every size in a header is a claim, held against
//! the length of the whole: no claim is ever allocated, and none is believed past the end.
//!
//! Nothing is decoded here: whether two channels differ is for `sound` to find out.

mod flac;
mod mp3;
mod mp4;
mod other;
mod source;
mod verdict;
mod wav;
mod window;

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

pub use self::other::Other;
pub use self::source::{Direction, Order, Party, SOURCES, Source, Unclear};
pub use self::verdict::{Concern, Use, Verdict};
pub use self::window::Ranged;
use self::window::Window;

/// What bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Sound that tonearm can tell about.
    Recording(Facts),
    /// Anything else.
    Other(Other),
}

/// How much may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Headers, and a few frames: at most 64 KiB of a well-formed WAV or FLAC.
    Header,
    /// All of it, where a header does not tell the duration: each MP3 frame, each MP4 fragment.
    Count,
}

/// What is known of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The file format.
    pub container: Container,
    /// What the samples are packed with.
    pub codec: Codec,
    /// How many; 0 where the header says none.
    pub channels: u16,
    /// In Hz; 0 where the header says none.
    pub sample_rate: u32,
    /// Bits of a sample, where the codec has such.
    pub bits: Option<u16>,
    /// How long it plays.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Option<Duration>,
    /// Where the duration comes from.
    pub duration_known: Known,
    /// What is odd about the file, most telling first.
    pub oddities: Vec<Oddity>,
    /// Where the samples lie.
    #[serde(skip)]
    pub(crate) sound: Sound,
}

/// Where packed samples lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sound {
    /// First byte.
    pub(crate) offset: u64,
    /// In bytes, all of them in the file.
    pub(crate) length: u64,
    /// Bytes that are unpacked together, and how many frames (samples of every channel) they give;
    /// 0 where the codec has no such blocks.
    pub(crate) block: u32,
    pub(crate) block_frames: u32,
    /// Where the format's own header begins, behind foreign tags.
    pub(crate) header: u64,
    /// Frames before the sound that a decoder gives and nobody is to hear.
    pub(crate) skip: u64,
    /// Frames in all, where they are known exactly.
    pub(crate) frames: Option<u64>,
}

/// File formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// RIFF WAVE.
    Wav,
    /// WAVE with 64-bit sizes, EBU Tech 3306.
    Rf64,
    /// Sony Wave64.
    W64,
    /// FLAC, RFC 9639.
    Flac,
    /// MPEG audio frames, with or without tags.
    Mp3,
    /// ISO base media, ISO/IEC 14496-12.
    Mp4,
}

/// What samples are packed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Codec {
    /// Integers.
    Pcm,
    /// IEEE 754.
    Float,
    /// G.711 mu-law.
    MuLaw,
    /// G.711 A-law.
    ALaw,
    /// IMA or DVI ADPCM.
    ImaAdpcm,
    /// Microsoft ADPCM.
    MsAdpcm,
    /// GSM 06.10 full rate, in Microsoft's frames of 65 bytes ("wav49").
    Gsm,
    /// FLAC.
    Flac,
    /// MPEG audio of this layer.
    Mpeg(u8),
    /// AAC of any profile.
    Aac,
    /// Apple Lossless.
    Alac,
    /// Another one: its name, or its code.
    Other(String),
}

/// How a duration is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// A header says it, and the file does not contradict.
    Header,
    /// From the samples or frames that are there.
    Counted,
    /// From a bit rate that may vary.
    Estimated,
    /// Not at all.
    Unknown,
}

/// What is odd about a file, and harmless to whoever knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "bytes")]
pub enum Oddity {
    /// The header's size was never filled in, as when a WAV or FLAC was written to a pipe.
    SizeUnset,
    /// Fewer bytes than the header says, by so many where that is known.
    Truncated(Option<u64>),
    /// So many bytes behind the sound are no part of the format: a header that was not updated.
    Trailing(u64),
    /// So many bytes among the frames are none.
    Junk(u64),
}

impl Facts {
    /// Facts of a format; what is not known yet is nothing.
    fn new(container: Container, codec: Codec) -> Self {
        Self {
            container,
            codec,
            channels: 0,
            sample_rate: 0,
            bits: None,
            duration: None,
            duration_known: Known::Unknown,
            oddities: Vec::new(),
            sound: Sound::default(),
        }
    }

    /// Takes a duration in frames, where there is a rate to divide by.
    fn lasts(&mut self, frames: u64, known: Known) {
        self.duration = duration(frames, u64::from(self.sample_rate));
        self.duration_known = match self.duration {
            Some(_) => known,
            None => Known::Unknown,
        };
        self.sound.frames = match known {
            Known::Header | Known::Counted => Some(frames),
            Known::Estimated | Known::Unknown => None,
        };
    }

    /// Takes a duration from a number of bytes and those a second takes, where it takes any.
    fn estimate(&mut self, bytes: u64, byte_rate: u32) {
        self.duration = duration(bytes, u64::from(byte_rate));
        self.duration_known = match self.duration {
            Some(_) => Known::Estimated,
            None => Known::Unknown,
        };
    }

    fn odd(&mut self, oddity: Oddity) {
        self.oddities.push(oddity);
    }
}

/// `units` of which there are `rate` a second.
fn duration(units: u64, rate: u64) -> Option<Duration> {
    let nanos = (u128::from(units) * 1_000_000_000).checked_div(u128::from(rate))?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// Finds out what `source` is.
///
/// # Errors
/// The source's own; whatever the bytes are is no error.
pub fn inspect<S: Ranged + ?Sized>(source: &S, effort: Effort) -> Result<Content, S::Error> {
    let mut window = Window::new(source);
    let begins = mp3::after_id3(&mut window)?;
    let head = window.at(begins, 64)?.to_vec();
    let facts = if head.starts_with(b"fLaC") {
        flac::read(&mut window, begins)?
    } else if wav::is_one(&head) {
        wav::read(&mut window)?
    } else if mp4::is_one(&head) {
        return mp4::read(&mut window, effort);
    } else if let Some(other) = other::named(&mut window, begins)? {
        return Ok(Content::Other(other));
    } else {
        mp3::read(&mut window, begins, effort)?
    };
    Ok(match facts {
        Some(facts) => Content::Recording(facts),
        None => Content::Other(other::unnamed(&mut window)?),
    })
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wav => "WAV",
            Self::Rf64 => "RF64 (WAV with 64-bit sizes)",
            Self::W64 => "Sony Wave64",
            Self::Flac => "FLAC",
            Self::Mp3 => "MP3",
            Self::Mp4 => "MP4",
        })
    }
}

impl Codec {
    /// The word for it in JSON.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Pcm => "pcm",
            Self::Float => "float",
            Self::MuLaw => "mu-law",
            Self::ALaw => "a-law",
            Self::ImaAdpcm => "ima-adpcm",
            Self::MsAdpcm => "ms-adpcm",
            Self::Gsm => "gsm",
            Self::Flac => "flac",
            Self::Mpeg(1) => "mp1",
            Self::Mpeg(2) => "mp2",
            Self::Mpeg(_) => "mp3",
            Self::Aac => "aac",
            Self::Alac => "alac",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcm => "PCM",
            Self::Float => "floating point",
            Self::MuLaw => "G.711 mu-law",
            Self::ALaw => "G.711 A-law",
            Self::ImaAdpcm => "IMA ADPCM",
            Self::MsAdpcm => "Microsoft ADPCM",
            Self::Gsm => "GSM 06.10",
            Self::Flac => "FLAC",
            Self::Mpeg(1) => "MPEG layer I",
            Self::Mpeg(2) => "MPEG layer II",
            Self::Mpeg(_) => "MP3",
            Self::Aac => "AAC",
            Self::Alac => "Apple Lossless",
            Self::Other(name) => name,
        })
    }
}

impl Serialize for Codec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "from the header",
            Self::Counted => "counted",
            Self::Estimated => "estimated from the bit rate",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SizeUnset => f.write_str("the header's size was never filled in"),
            Self::Truncated(None) => f.write_str("cut short: it ends before the header says"),
            Self::Truncated(Some(bytes)) => {
                write!(f, "cut short: {bytes} bytes fewer than the header says")
            }
            Self::Trailing(bytes) => write!(f, "{bytes} bytes behind the sound belong to nothing"),
            Self::Junk(bytes) => write!(f, "{bytes} bytes among the frames are none"),
        }
    }
}

#[expect(clippy::ref_option, reason = "serde hands fields over by reference")]
fn millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = duration.and_then(|duration| u64::try_from(duration.as_millis()).ok());
    millis.serialize(serializer)
}

#[cfg(test)]
mod tests;
