//! FLAC, RFC 9639: the STREAMINFO block, and the last frame, which tells what a pipe left unsaid.

use super::window::Window;
use super::{Codec, Container, Facts, Known, Oddity, Ranged, Sound, mp3};

/// The last frame is looked for in so many bytes at least; frames of telephony are far smaller.
const TAIL: u32 = 16 * 1024;
/// And in so many at most.
const LONGEST_TAIL: u32 = 48 * 1024;
/// Metadata blocks before the first frame; more are no recording.
const MOST_BLOCKS: usize = 512;

/// STREAMINFO, RFC 9639 §8.2.
struct StreamInfo {
    largest_block: u16,
    largest_frame: u32,
    rate: u32,
    channels: u8,
    bits: u8,
    total: u64,
}

/// `None` where the first block is no STREAMINFO.
pub(super) fn read<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    begins: u64,
) -> Result<Option<Facts>, S::Error> {
    let Some(header) = window.array::<42>(begins)? else {
        return Ok(None);
    };
    // "fLaC", then a block header of type 0; its last-block flag may be set.
    let Some(info) = StreamInfo::parse(&header).filter(|_| matches!(header[4], 0 | 0x80)) else {
        return Ok(None);
    };
    let mut facts = Facts::new(Container::Flac, Codec::Flac);
    facts.channels = u16::from(info.channels);
    facts.sample_rate = info.rate;
    facts.bits = Some(u16::from(info.bits));
    let offset = first_frame(window, begins)?;
    let end = mp3::before_id3v1(window)?;
    facts.sound = Sound {
        offset,
        length: end.saturating_sub(offset),
        header: begins,
        ..Sound::default()
    };
    last_frame(&mut facts, window, &info)?;
    Ok(Some(facts))
}

impl StreamInfo {
    fn parse(header: &[u8; 42]) -> Option<Self> {
        let (_, info) = header.split_last_chunk::<34>()?;
        let [_, _, b0, b1, _, _, _, f0, f1, f2, packed @ ..] = info;
        let packed = u64::from_be_bytes(*packed.first_chunk()?);
        // 20 bits of rate, 3 of channels less one, 5 of bits less one, 36 of samples.
        let field = |shift: u32, bits: u32| (packed >> shift) & ((1 << bits) - 1);
        Some(Self {
            largest_block: u16::from_be_bytes([*b0, *b1]),
            largest_frame: u32::from_be_bytes([0, *f0, *f1, *f2]),
            rate: u32::try_from(field(44, 20)).ok()?,
            channels: u8::try_from(field(41, 3) + 1).ok()?,
            bits: u8::try_from(field(36, 5) + 1).ok()?,
            total: field(0, 36),
        })
    }
}

/// Behind the metadata blocks.
fn first_frame<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    begins: u64,
) -> Result<u64, S::Error> {
    let mut at = begins + 4;
    for _ in 0..MOST_BLOCKS {
        let Some([kind, size @ ..]) = window.array::<4>(at)? else {
            break;
        };
        let size = u32::from_be_bytes([0, size[0], size[1], size[2]]);
        at += 4 + u64::from(size);
        if kind & 0x80 != 0 {
            break;
        }
    }
    Ok(at)
}

/// Holds the header's total against the last frame of the file, or takes it from there.
fn last_frame<S: Ranged + ?Sized>(
    facts: &mut Facts,
    window: &mut Window<'_, S>,
    info: &StreamInfo,
) -> Result<(), S::Error> {
    let reach = u64::from(info.largest_frame.clamp(TAIL, LONGEST_TAIL));
    let sound = facts.sound;
    let count = sound.length.min(reach);
    let from = sound.offset + (sound.length - count);
    let count = usize::try_from(count).unwrap_or(0);
    let tail = window.at(from, count)?;
    let end = match (info.total, Tail::of(tail, info)) {
        (0, _) if sound.length == 0 => Some(0),
        (_, Some(Tail::Whole(end))) => Some(end),
        // What lies in a frame that is cut cannot be decoded.
        (_, Some(Tail::Cut(begins))) => Some(begins),
        (_, None) => None,
    };
    match (info.total, end) {
        (0, None) => facts.odd(Oddity::SizeUnset),
        (0, Some(end)) => {
            facts.odd(Oddity::SizeUnset);
            facts.lasts(end, Known::Counted);
        }
        (total, Some(end)) if end < total => {
            facts.odd(Oddity::Truncated(None));
            facts.lasts(end, Known::Counted);
        }
        (total, _) if sound.length > 0 => facts.lasts(total, Known::Header),
        _ => {
            facts.odd(Oddity::Truncated(None));
            facts.lasts(0, Known::Counted);
        }
    }
    Ok(())
}

/// Where the sound of a file's end ends, in samples.
enum Tail {
    /// The last frame is whole.
    Whole(u64),
    /// The last frame that begins is cut, and begins here.
    Cut(u64),
}

impl Tail {
    fn of(tail: &[u8], info: &StreamInfo) -> Option<Self> {
        let sums = suffix_crc16(tail);
        let (mut whole, mut cut) = (None, None);
        for (at, sum) in sums.iter().enumerate() {
            let Some(frame) = FrameHeader::parse(&tail[at..], info) else {
                continue;
            };
            // A frame ends in the CRC-16 of all of it, so that over whole ones it is 0 (§9.3).
            if *sum == 0 {
                whole = Some(Self::Whole(frame.first + frame.samples));
            }
            cut = Some(Self::Cut(frame.first));
        }
        whole.or(cut)
    }
}

/// A frame's place in the stream, RFC 9639 §9.1.
struct FrameHeader {
    first: u64,
    samples: u64,
}

impl FrameHeader {
    fn parse(bytes: &[u8], info: &StreamInfo) -> Option<Self> {
        let [0xff, sync, sizes, layout, rest @ ..] = bytes else {
            return None;
        };
        let channels = layout >> 4;
        if sync & 0xfe != 0xf8 || layout & 1 != 0 || channels > 10 {
            return None;
        }
        if (channels < 8 && channels + 1 != info.channels) || (channels >= 8 && info.channels != 2)
        {
            return None;
        }
        let (number, mut rest) = coded_number(rest)?;
        let samples = match sizes >> 4 {
            0 => return None,
            1 => 192,
            code @ 2..=5 => 576 << (code - 2),
            6 => u64::from(take(&mut rest)?) + 1,
            7 => u64::from(u16::from_be_bytes([take(&mut rest)?, take(&mut rest)?])) + 1,
            code => 256 << (code - 8),
        };
        let rate = match sizes & 15 {
            12 => 1,
            13 | 14 => 2,
            15 => return None,
            _ => 0,
        };
        rest = rest.get(rate..)?;
        let header = bytes.len() - rest.len();
        if crc8(&bytes[..header]) != take(&mut rest)? {
            return None;
        }
        // With blocks of one size frames are numbered, and the last may be shorter (§9.1.5).
        let first = match sync & 1 {
            0 => number.checked_mul(u64::from(info.largest_block))?,
            _ => number,
        };
        Some(Self { first, samples })
    }
}

fn take(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

/// UTF-8's scheme, stretched to 36 bits (§9.1.5).
fn coded_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let ones = first.leading_ones();
    let more = match ones {
        0 => return Some((u64::from(*first), rest)),
        2..=7 => ones - 1,
        _ => return None,
    };
    let mut number = u64::from(*first) & (0x7f >> ones);
    for _ in 0..more {
        let next = take(&mut rest).filter(|byte| byte & 0xc0 == 0x80)?;
        number = number << 6 | u64::from(next & 0x3f);
    }
    Some((number, rest))
}

/// Polynomial x^8 + x^2 + x + 1.
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| {
            crc << 1 ^ if crc & 0x80 == 0 { 0 } else { 0x07 }
        })
    })
}

/// The CRC-16 (polynomial x^16 + x^15 + x^2 + 1) of the bytes from each place to the end.
///
/// CRCs are linear: a byte adds itself times x^16, and x^8 more for each byte behind it.
fn suffix_crc16(bytes: &[u8]) -> Vec<u16> {
    let times_x = |value: u16| value << 1 ^ if value & 0x8000 == 0 { 0 } else { 0x8005 };
    let (mut power, mut sum) = (0x8005, 0);
    let mut sums: Vec<_> = bytes
        .iter()
        .rev()
        .map(|byte| {
            for bit in 0..8 {
                sum ^= if byte >> bit & 1 == 0 { 0 } else { power };
                power = times_x(power);
            }
            sum
        })
        .collect();
    sums.reverse();
    sums
}
