//! Samples to a file: PCM in WAV, or FLAC. Both end in a header that says how much there is.

use std::fs::File;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};

use flacenc::bitsink::ByteSink;
use flacenc::component::{BitRepr as _, Stream, StreamInfo};
use flacenc::error::{Verified, Verify as _};
use flacenc::source::{Context, Fill as _, FrameBuf};

use super::{Mended, SoundError};

/// Frames of one FLAC frame: half a second of telephony.
const FLAC_BLOCK: usize = 4096;
/// Most channels of a FLAC (RFC 9639 §9.1.3). A WAV whose header is damaged may claim thousands.
const FLAC_CHANNELS: u16 = 8;

/// The format to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// PCM in WAV.
    Wav,
    /// FLAC.
    Flac,
}

/// Writes a recording from the file's beginning on, block by block.
///
/// # Errors
/// [`SoundError`]; what is in the file is then no recording.
pub fn write(from: &mut Mended, target: Target, file: &mut File) -> Result<(), SoundError> {
    match target {
        Target::Wav => wav(from, file),
        Target::Flac => flac(from, file),
    }
}

/// To `bits`, rounded; exact where the sample has no more.
fn narrow(sample: i32, bits: u16) -> i32 {
    match 32 - u32::from(bits) {
        0 => sample,
        shift => sample.saturating_add(1 << (shift - 1)) >> shift,
    }
}

fn wav(from: &mut Mended, file: &mut File) -> Result<(), SoundError> {
    if u16::try_from(frame_size(from)).is_err() {
        return Err(SoundError::Format("a WAV has no room for so many channels"));
    }
    let mut out = BufWriter::with_capacity(64 * 1024, file);
    out.write_all(&wav_header(from, 0))?;
    let width = usize::from(from.bits / 8);
    let (mut samples, mut length) = (Vec::new(), 0_u64);
    loop {
        from.read(&mut samples)?;
        if samples.is_empty() {
            break;
        }
        for sample in &samples {
            out.write_all(&narrow(*sample, from.bits).to_le_bytes()[..width])?;
        }
        length += u64::try_from(samples.len() * width).unwrap_or(0);
    }
    let length = u32::try_from(length)
        .ok()
        .filter(|length| *length < u32::MAX - 64);
    let length = length.ok_or(SoundError::Format(
        "a WAV has room for 4 GiB: use --to flac",
    ))?;
    if length % 2 == 1 {
        out.write_all(&[0])?;
    }
    out.seek(SeekFrom::Start(0))?;
    out.write_all(&wav_header(from, length))?;
    out.flush()?;
    Ok(())
}

/// Bytes of one sample of every channel.
fn frame_size(from: &Mended) -> u32 {
    u32::from(from.channels) * u32::from(from.bits / 8)
}

/// The plain header of 44 bytes that everything reads.
fn wav_header(from: &Mended, length: u32) -> Vec<u8> {
    let frame = frame_size(from);
    let mut out = Vec::with_capacity(44);
    out.extend(b"RIFF");
    out.extend((36 + length + length % 2).to_le_bytes());
    out.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    out.extend(from.channels.to_le_bytes());
    out.extend(from.rate.to_le_bytes());
    out.extend(from.rate.saturating_mul(frame).to_le_bytes());
    out.extend(u16::try_from(frame).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(from.bits.to_le_bytes());
    out.extend(b"data");
    out.extend(length.to_le_bytes());
    out
}

fn flac(from: &mut Mended, file: &mut File) -> Result<(), SoundError> {
    if from.bits > 24 {
        return Err(SoundError::Format(
            "FLAC is written with up to 24 bits: use --to wav",
        ));
    }
    if from.channels > FLAC_CHANNELS {
        return Err(SoundError::Format("FLAC has at most 8 channels"));
    }
    let mut encoder = Encoder::new(from)?;
    let mut out = BufWriter::with_capacity(64 * 1024, file);
    out.write_all(&encoder.header()?)?;
    let channels = usize::from(from.channels);
    let (mut samples, mut waiting) = (Vec::new(), Vec::new());
    loop {
        from.read(&mut samples)?;
        waiting.extend(samples.iter().map(|sample| narrow(*sample, from.bits)));
        let whole = FLAC_BLOCK * channels;
        while waiting.len() >= whole {
            out.write_all(&encoder.frame(&waiting[..whole])?)?;
            waiting.drain(..whole);
        }
        if samples.is_empty() {
            break;
        }
    }
    if !waiting.is_empty() {
        out.write_all(&encoder.frame(&waiting)?)?;
    }
    out.seek(SeekFrom::Start(0))?;
    out.write_all(&encoder.header()?)?;
    out.flush()?;
    Ok(())
}

/// flacenc, a frame at a time, so that no more than one is in memory.
struct Encoder {
    config: Verified<flacenc::config::Encoder>,
    info: StreamInfo,
    context: Context,
    frames: usize,
    channels: usize,
}

impl Encoder {
    fn new(from: &Mended) -> Result<Self, SoundError> {
        let rate = usize::try_from(from.rate).unwrap_or(usize::MAX);
        let (channels, bits) = (usize::from(from.channels), usize::from(from.bits));
        let config = flacenc::config::Encoder::default()
            .into_verified()
            .map_err(|(_, error)| SoundError::Encode(error.to_string()))?;
        Ok(Self {
            config,
            info: StreamInfo::new(rate, channels, bits).map_err(encode_error)?,
            context: Context::new(bits, channels),
            frames: 0,
            channels,
        })
    }

    fn frame(&mut self, samples: &[i32]) -> Result<Vec<u8>, SoundError> {
        let size = samples.len() / self.channels;
        let mut buffer = FrameBuf::with_size(self.channels, size).map_err(encode_error)?;
        buffer.fill_interleaved(samples).map_err(encode_error)?;
        self.context
            .fill_interleaved(samples)
            .map_err(encode_error)?;
        let frame =
            flacenc::encode_fixed_size_frame(&self.config, &buffer, self.frames, &self.info)
                .map_err(encode_error)?;
        self.frames += 1;
        self.info.update_frame_info(&frame);
        let mut sink = ByteSink::new();
        frame.write(&mut sink).map_err(encode_error)?;
        Ok(sink.into_inner())
    }

    /// The marker and STREAMINFO of what has been encoded so far.
    fn header(&mut self) -> Result<Vec<u8>, SoundError> {
        if self.frames > 0 {
            // All blocks are of this size, but for the last (RFC 9639 §8.2).
            let largest = self.info.max_block_size();
            self.info
                .set_block_sizes(largest, largest)
                .map_err(encode_error)?;
            self.info.set_total_samples(self.context.total_samples());
            self.info.set_md5_digest(&self.context.md5_digest());
        }
        let mut sink = ByteSink::new();
        let stream = Stream::with_stream_info(self.info.clone());
        stream.write(&mut sink).map_err(encode_error)?;
        Ok(sink.into_inner())
    }
}

fn encode_error(error: impl std::fmt::Display) -> SoundError {
    SoundError::Encode(error.to_string())
}
