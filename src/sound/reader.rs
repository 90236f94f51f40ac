//! Samples of a recording, block by block, at constant memory.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::well_known as id;
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration as Units, Time, Timestamp};

use super::SoundError;
use super::gsm;
use super::view::View;
use crate::audio::{Codec, Container, Facts, Known, Oddity, Sound};

/// About so many bytes of a WAV are decoded at once.
const AT_ONCE: u32 = 16 * 1024;
/// As many packets in a row that cannot be decoded end a recording.
const MOST_BAD: u32 = 1000;

/// Decodes a recording.
pub struct Reader {
    decoding: Decoding,
    /// How many.
    pub channels: u16,
    /// In Hz.
    pub rate: u32,
    /// Bits that hold every sample without loss; of lossy codecs, those that make sense.
    pub bits: u16,
    /// Packets that could not be decoded, and were left out.
    pub bad: u32,
}

enum Decoding {
    Blocks(Blocks),
    Packets(Packets),
    /// A decoder panicked, and is not asked again.
    GivenUp,
}

impl Reader {
    /// Opens a recording of these facts.
    ///
    /// # Errors
    /// [`SoundError`]: the codec, or the disk.
    pub fn open(file: &Arc<File>, facts: &Facts) -> Result<Self, SoundError> {
        if facts.channels == 0 || facts.sample_rate == 0 {
            return Err(SoundError::NoFormat);
        }
        let is_wav = matches!(
            facts.container,
            Container::Wav | Container::Rf64 | Container::W64
        );
        let decoding = guarded(|| {
            Ok(if is_wav && facts.sound.block > 0 {
                Decoding::Blocks(Blocks::open(file, facts)?)
            } else {
                Decoding::Packets(Packets::open(file, facts)?)
            })
        })?;
        Ok(Self {
            decoding,
            channels: facts.channels,
            rate: facts.sample_rate,
            bits: bits(facts),
            bad: 0,
        })
    }

    /// Gives the next samples, every channel's in turn, at full scale of 32 bits; none at the end.
    ///
    /// # Errors
    /// The disk's, or that too much cannot be decoded.
    pub fn read(&mut self, samples: &mut Vec<i32>) -> Result<(), SoundError> {
        let (channels, bad) = (self.channels, &mut self.bad);
        self.decoding.guarded(|decoding| match decoding {
            Decoding::Blocks(blocks) => blocks.read(samples),
            Decoding::Packets(packets) => {
                packets.read(samples, bad, channels)?;
                while !samples.is_empty() && packets.trim(samples, channels) {
                    packets.read(samples, bad, channels)?;
                }
                Ok(())
            }
            Decoding::GivenUp => Err(SoundError::Damaged),
        })
    }

    /// Goes on at about this time.
    ///
    /// # Errors
    /// The disk's, or that the format cannot seek.
    pub fn seek(&mut self, time: Duration) -> Result<(), SoundError> {
        let rate = self.rate;
        self.decoding.guarded(|decoding| match decoding {
            Decoding::Blocks(blocks) => blocks.seek(time, rate),
            Decoding::Packets(packets) => packets.seek(time),
            Decoding::GivenUp => Err(SoundError::Damaged),
        })
    }
}

impl Decoding {
    fn guarded(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), SoundError>,
    ) -> Result<(), SoundError> {
        let mut decoding = std::mem::replace(self, Self::GivenUp);
        let (decoding, done) = guarded(move || {
            let done = work(&mut decoding);
            Ok((decoding, done))
        })?;
        *self = decoding;
        done
    }
}

/// Demultiplexers assert what an MP4 that was made to need not keep: that a sample lies in the file.
/// What panics is dropped as it unwinds.
fn guarded<T>(work: impl FnOnce() -> Result<T, SoundError>) -> Result<T, SoundError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(SoundError::Damaged))
}

/// Integers of up to 16 bits stay what they are in 16; so does what G.711, ADPCM and GSM give.
fn bits(facts: &Facts) -> u16 {
    match (&facts.codec, facts.bits) {
        (Codec::Pcm | Codec::Flac | Codec::Alac, Some(bits)) => match bits {
            ..=16 => 16,
            17..=24 => 24,
            _ => 32,
        },
        (Codec::Float, _) => 24,
        _ => 16,
    }
}

/// A WAV's samples, in blocks whose size is known.
struct Blocks {
    view: View,
    sound: Sound,
    decoder: BlockDecoder,
    bytes: Vec<u8>,
    /// Frames still to come: the last block may be padded.
    left: u64,
}

enum BlockDecoder {
    Gsm(Box<gsm::Decoder>),
    Library(Box<dyn AudioDecoder>),
}

impl Blocks {
    fn open(file: &Arc<File>, facts: &Facts) -> Result<Self, SoundError> {
        let sound = facts.sound;
        let decoder = if facts.codec == Codec::Gsm {
            BlockDecoder::Gsm(Box::new(gsm::Decoder::new()))
        } else {
            BlockDecoder::Library(block_decoder(facts)?)
        };
        let blocks = sound.length / u64::from(sound.block);
        let all = blocks * u64::from(sound.block_frames);
        Ok(Self {
            view: View::new(Arc::clone(file), sound.offset, sound.length),
            sound,
            decoder,
            bytes: Vec::new(),
            left: sound.frames.map_or(all, |frames| frames.min(all)),
        })
    }

    fn read(&mut self, samples: &mut Vec<i32>) -> Result<(), SoundError> {
        samples.clear();
        if self.left == 0 {
            return Ok(());
        }
        let blocks = at_once(&self.sound);
        let wanted = u64::from(blocks) * u64::from(self.sound.block);
        self.bytes.clear();
        (&mut self.view).take(wanted).read_to_end(&mut self.bytes)?;
        let block = usize::try_from(self.sound.block).unwrap_or(usize::MAX);
        let whole = self.bytes.len() / block * block;
        let channels = self.decode(whole, samples)?;
        let frames = u64::try_from(samples.len() / channels).unwrap_or(0);
        if frames > self.left {
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            samples.truncate(left.saturating_mul(channels));
        }
        self.left = if frames == 0 {
            0
        } else {
            self.left.saturating_sub(frames)
        };
        Ok(())
    }

    /// Decodes whole blocks, and says of how many channels.
    fn decode(&mut self, whole: usize, samples: &mut Vec<i32>) -> Result<usize, SoundError> {
        let bytes = &self.bytes[..whole];
        match &mut self.decoder {
            BlockDecoder::Gsm(decoder) => {
                for block in bytes.chunks(gsm::BLOCK) {
                    let frames = block.first_chunk().map(|block| decoder.block(block));
                    let frames = frames.into_iter().flatten();
                    samples.extend(frames.map(|sample| i32::from(sample) << 16));
                }
                Ok(1)
            }
            BlockDecoder::Library(decoder) => {
                let block = usize::try_from(self.sound.block).unwrap_or(usize::MAX);
                let blocks = u64::try_from(whole / block).unwrap_or(0);
                let frames = Units::new(blocks * u64::from(self.sound.block_frames));
                let packet = PacketRef::new(0, Timestamp::new(0), frames, bytes);
                let buffer = decoder.decode_ref(&packet).map_err(SoundError::decoding)?;
                buffer.copy_to_vec_interleaved(samples);
                Ok(buffer.num_planes().max(1))
            }
        }
    }

    fn seek(&mut self, time: Duration, rate: u32) -> Result<(), SoundError> {
        let frame = time.as_micros() * u128::from(rate) / 1_000_000;
        let block = u64::try_from(frame / u128::from(self.sound.block_frames)).unwrap_or(u64::MAX);
        let all = self.sound.length / u64::from(self.sound.block);
        let block = block.min(all);
        self.view
            .seek(SeekFrom::Start(block * u64::from(self.sound.block)))?;
        self.left = (all - block) * u64::from(self.sound.block_frames);
        Ok(())
    }
}

/// Blocks to decode at once. Of ADPCM one: a block may be larger than its samples need.
fn at_once(sound: &Sound) -> u32 {
    if sound.block_frames == 1 {
        (AT_ONCE / sound.block).max(1)
    } else {
        1
    }
}

fn block_decoder(facts: &Facts) -> Result<Box<dyn AudioDecoder>, SoundError> {
    let codec = codec_id(facts).ok_or_else(|| SoundError::Codec(facts.codec.clone()))?;
    let frames = u64::from(facts.sound.block_frames);
    let blocks = u64::from(at_once(&facts.sound));
    let mut parameters = AudioCodecParameters::new();
    parameters
        .for_codec(codec)
        .with_sample_rate(facts.sample_rate)
        .with_channels(Channels::Discrete(facts.channels))
        .with_max_frames_per_packet(frames * blocks)
        .with_frames_per_block(frames);
    symphonia::default::get_codecs()
        .make_audio_decoder(&parameters, &AudioDecoderOptions::default())
        .map_err(SoundError::decoding)
}

fn codec_id(facts: &Facts) -> Option<AudioCodecId> {
    Some(
        match (&facts.codec, facts.sound.block / u32::from(facts.channels)) {
            (Codec::Pcm, 1) => id::CODEC_ID_PCM_U8,
            (Codec::Pcm, 2) => id::CODEC_ID_PCM_S16LE,
            (Codec::Pcm, 3) => id::CODEC_ID_PCM_S24LE,
            (Codec::Pcm, 4) => id::CODEC_ID_PCM_S32LE,
            (Codec::Float, 4) => id::CODEC_ID_PCM_F32LE,
            (Codec::Float, 8) => id::CODEC_ID_PCM_F64LE,
            (Codec::MuLaw, _) => id::CODEC_ID_PCM_MULAW,
            (Codec::ALaw, _) => id::CODEC_ID_PCM_ALAW,
            (Codec::ImaAdpcm, _) => id::CODEC_ID_ADPCM_IMA_WAV,
            (Codec::MsAdpcm, _) => id::CODEC_ID_ADPCM_MS,
            _ => return None,
        },
    )
}

/// What comes in packets: FLAC, MPEG audio, MP4.
struct Packets {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    has_begun: bool,
    /// Frames still to be left out, and then to be given.
    skip: u64,
    left: u64,
}

impl Packets {
    fn open(file: &Arc<File>, facts: &Facts) -> Result<Self, SoundError> {
        let view = view(file, facts)?;
        let stream = MediaSourceStream::new(Box::new(view), MediaSourceStreamOptions::default());
        let format = symphonia::default::get_probe()
            .probe(
                &Hint::new(),
                stream,
                FormatOptions::default(),
                MetadataOptions::default(),
            )
            .map_err(SoundError::decoding)?;
        let track = format
            .default_track(TrackType::Audio)
            .ok_or(SoundError::NoFormat)?;
        let parameters = track
            .codec_params
            .as_ref()
            .and_then(|params| params.audio());
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(
                parameters.ok_or(SoundError::NoFormat)?,
                &AudioDecoderOptions::default(),
            )
            .map_err(|_| SoundError::Codec(facts.codec.clone()))?;
        let track = track.id;
        let mut packets = Self {
            format,
            decoder,
            track,
            has_begun: false,
            skip: facts.sound.skip,
            left: u64::MAX,
        };
        if facts.container == Container::Mp4 && facts.duration_known == Known::Header {
            packets.left = frames(facts);
        }
        Ok(packets)
    }

    fn read(
        &mut self,
        samples: &mut Vec<i32>,
        bad: &mut u32,
        channels: u16,
    ) -> Result<(), SoundError> {
        samples.clear();
        loop {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(()),
                // A file that is cut ends in the middle of a packet.
                Err(Error::IoError(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(());
                }
                // Likewise, where the boxes break off.
                Err(Error::DecodeError(_)) if self.has_begun => {
                    *bad += 1;
                    return Ok(());
                }
                Err(error) => return Err(SoundError::decoding(error)),
            };
            self.has_begun = true;
            if packet.track_id != self.track {
                continue;
            }
            match self.decoder.decode(&packet) {
                Ok(decoded) if decoded.num_planes() == usize::from(channels) => {
                    decoded.copy_to_vec_interleaved(samples);
                    if !samples.is_empty() {
                        return Ok(());
                    }
                }
                Ok(_) | Err(Error::DecodeError(_)) => *bad += 1,
                Err(error) => return Err(SoundError::decoding(error)),
            }
            if *bad > MOST_BAD {
                return Err(SoundError::Damaged);
            }
        }
    }

    /// Leaves out what an MP4's edit list leaves out; says whether all of it was before the sound.
    fn trim(&mut self, samples: &mut Vec<i32>, channels: u16) -> bool {
        let channels = usize::from(channels);
        let frames = samples.len() / channels;
        let skip = usize::try_from(self.skip).map_or(frames, |skip| skip.min(frames));
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        samples.drain(..skip * channels);
        samples.truncate(left.saturating_mul(channels));
        let given = u64::try_from(samples.len() / channels).unwrap_or(0);
        self.left = self.left.saturating_sub(given);
        self.skip -= u64::try_from(skip).unwrap_or(0);
        skip == frames
    }

    fn seek(&mut self, time: Duration) -> Result<(), SoundError> {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let to = SeekTo::Time {
            time: Time::from_nanos_u64(nanos),
            track_id: Some(self.track),
        };
        self.format
            .seek(SeekMode::Coarse, to)
            .map_err(SoundError::decoding)?;
        self.decoder.reset();
        Ok(())
    }
}

/// How many the duration takes, rounded.
fn frames(facts: &Facts) -> u64 {
    let micros = facts.duration.unwrap_or_default().as_micros();
    let frames = (micros * u128::from(facts.sample_rate) + 500_000) / 1_000_000;
    u64::try_from(frames).unwrap_or(u64::MAX)
}

/// Of MPEG audio the frames alone; of FLAC the frames behind a header without tags and pictures,
/// which would be taken into memory; of MP4 all.
fn view(file: &Arc<File>, facts: &Facts) -> Result<View, SoundError> {
    let sound = facts.sound;
    if facts.container != Container::Flac {
        // An MP4 that is cut is refused by its length alone; its packets are there up to the cut.
        let missing = match facts.oddities.first() {
            Some(Oddity::Truncated(Some(missing))) => *missing,
            _ => 0,
        };
        let length = sound.length.saturating_add(missing);
        return Ok(View::new(Arc::clone(file), sound.offset, length));
    }
    let mut header = vec![0; 42];
    file.read_exact_at(&mut header, facts.sound.header)?;
    // STREAMINFO is now the last metadata block (RFC 9639 §8.1).
    header[4] |= 0x80;
    Ok(View::behind(
        header,
        Arc::clone(file),
        sound.offset,
        sound.length,
    ))
}
