//! What HubSpot will make of a recording, by what it has published and no more.
//!
//! HubSpot transcribes WAV, FLAC and MP4 with one speaker a channel: two channels, the caller on 1
//! and the recipient on 2 (HubSpot's developer documentation, "Recordings and transcriptions"). It
//! has published no limits on rates, codecs, sizes or lengths; none are made up here.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Codec, Container, Facts, Oddity};

/// What a recording is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Nothing.
    Nothing,
    /// Playing; HubSpot will not transcribe it, or does not promise to.
    Playback,
    /// Playing and transcribing.
    Transcription,
}

/// A reason for a [`Use`] that is less than hoped for, or for caution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// It plays for no time at all.
    NoSound,
    /// The header does not say what a player needs: channels, or a rate.
    NoFormat,
    /// The codec is none that players of HubSpot's users have.
    CodecUnplayable,
    /// One channel: both speakers are mixed, or one is missing.
    Mono,
    /// More than two channels.
    ManyChannels(u16),
    /// MP3 is not on HubSpot's list of what it transcribes.
    NotListed,
    /// RF64 or Wave64: HubSpot says WAV, and browsers play neither.
    NotPlainWav,
    /// Not PCM: HubSpot does not say which codecs it takes in a WAV or an MP4.
    CodecUnstated,
    /// A size in the header is wrong; strict readers refuse the file.
    WrongSize,
    /// Both channels carry the same: a mix in two copies.
    Identical,
    /// This channel, 1 or 2, is silent.
    Silent(u8),
    /// No channel has any sound.
    AllSilent,
    /// Much is cut off at full scale.
    Clipped,
    /// Which channel is the caller's cannot be told from the sound.
    OrderUnknown,
}

/// HubSpot's verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What the recording is good for.
    #[serde(rename = "use")]
    pub good_for: Use,
    /// Why it is not good for more, and what to be careful about.
    pub concerns: Vec<Concern>,
}

impl Verdict {
    /// The verdict on what the header tells. The samples may still lower it.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let mut verdict = Self {
            good_for: Use::Transcription,
            concerns: Vec::new(),
        };
        for concern in concerns(facts) {
            verdict.add(concern);
        }
        verdict
    }

    /// What `tonearm add` is to be asked for in order to mend it; nothing where that is beyond it.
    #[must_use]
    pub fn remedies(&self) -> Vec<&'static str> {
        let beyond = [Concern::NoSound, Concern::NoFormat, Concern::AllSilent];
        if self.concerns.iter().any(|concern| beyond.contains(concern)) {
            return Vec::new();
        }
        let mut flags: Vec<_> = self
            .concerns
            .iter()
            .filter_map(|concern| concern.remedy())
            .collect();
        flags.sort_unstable();
        flags.dedup();
        flags
    }

    /// Takes another concern into account.
    pub fn add(&mut self, concern: Concern) {
        self.good_for = self.good_for.min(concern.leaves());
        self.concerns.push(concern);
    }
}

fn concerns(facts: &Facts) -> Vec<Concern> {
    let wrong_size = facts
        .oddities
        .iter()
        .any(|odd| !matches!(odd, Oddity::Junk(_)));
    let rules = [
        (
            facts.duration.is_some_and(|time| time.is_zero()),
            Concern::NoSound,
        ),
        (
            facts.channels == 0 || facts.sample_rate == 0,
            Concern::NoFormat,
        ),
        (is_unplayable(facts), Concern::CodecUnplayable),
        (facts.channels == 1, Concern::Mono),
        (facts.channels > 2, Concern::ManyChannels(facts.channels)),
        (facts.container == Container::Mp3, Concern::NotListed),
        (
            matches!(facts.container, Container::Rf64 | Container::W64),
            Concern::NotPlainWav,
        ),
        (is_unstated(facts), Concern::CodecUnstated),
        (
            wrong_size && facts.container != Container::Mp3,
            Concern::WrongSize,
        ),
    ];
    let holds = rules.into_iter().filter(|(holds, _)| *holds);
    holds.map(|(_, concern)| concern).collect()
}

/// What no browser decodes.
const fn is_unplayable(facts: &Facts) -> bool {
    matches!(
        facts.codec,
        Codec::Gsm | Codec::ImaAdpcm | Codec::MsAdpcm | Codec::Other(_) | Codec::Mpeg(1 | 2)
    )
}

const fn is_unstated(facts: &Facts) -> bool {
    let wav = matches!(
        facts.container,
        Container::Wav | Container::Rf64 | Container::W64
    );
    let mp4 = matches!(facts.container, Container::Mp4);
    (wav && !matches!(facts.codec, Codec::Pcm) || mp4 && !matches!(facts.codec, Codec::Aac))
        && !is_unplayable(facts)
}

impl Concern {
    /// The most that a recording with this concern is good for.
    #[must_use]
    pub const fn leaves(self) -> Use {
        match self {
            Self::NoSound | Self::NoFormat | Self::CodecUnplayable | Self::AllSilent => {
                Use::Nothing
            }
            Self::Mono
            | Self::ManyChannels(_)
            | Self::NotListed
            | Self::NotPlainWav
            | Self::Identical => Use::Playback,
            Self::CodecUnstated
            | Self::WrongSize
            | Self::Silent(_)
            | Self::Clipped
            | Self::OrderUnknown => Use::Transcription,
        }
    }

    /// The flag of `tonearm add` that mends it, where it can be mended.
    #[must_use]
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Mono => Some("--join OTHER-LEG"),
            Self::CodecUnplayable
            | Self::NotListed
            | Self::NotPlainWav
            | Self::CodecUnstated
            | Self::WrongSize => Some("--to flac"),
            _ => None,
        }
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSound => "it has no sound: it plays for no time at all",
            Self::NoFormat => "its header does not say how many channels or which rate",
            Self::CodecUnplayable => "browsers do not play its codec",
            Self::Mono => {
                "one channel: HubSpot transcribes one speaker a channel, caller on 1, recipient on 2"
            }
            Self::ManyChannels(count) => {
                return write!(f, "{count} channels: HubSpot transcribes two, one speaker each");
            }
            Self::NotListed => "HubSpot plays MP3, but lists WAV, FLAC and MP4 for transcription",
            Self::NotPlainWav => "its sizes are of 64 bits: browsers and most readers of WAV refuse it",
            Self::CodecUnstated => "HubSpot does not say whether it takes this codec in this format",
            Self::WrongSize => "its header's size is wrong: strict readers refuse it or stop early",
            Self::Identical => {
                "both channels carry the same: a mono mix in two copies, whose speakers cannot be told apart"
            }
            Self::Silent(channel) => {
                return write!(f, "channel {channel} is silent: one speaker is missing");
            }
            Self::AllSilent => "all channels are silent",
            Self::Clipped => "much of it is cut off at full scale",
            Self::OrderUnknown => {
                "who speaks on which channel cannot be told from the sound: caller must be 1, recipient 2"
            }
        })
    }
}

impl Serialize for Concern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
