//! MPEG audio: frames one after the other, maybe with tags around them.
//!
//! Nothing in front says how long it plays unless the encoder left a Xing, Info or VBRI header in
//! the first frame; otherwise frames are counted, or their number is estimated from their size.

use super::window::Window;
use super::{Codec, Container, Effort, Facts, Known, Oddity, Ranged, Sound};

/// The first frame is looked for in so many bytes behind the tags.
const REACH: usize = 64 * 1024;
/// So many frames in a row make MPEG audio of bytes that begin like it.
const IN_A_ROW: usize = 3;
/// Frames looked at in each place, where the bit rate is estimated.
const SAMPLE: usize = 32;

/// The four bytes that begin a frame, ISO/IEC 11172-3 §2.4.1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    /// What all frames of a stream share: version, layer, rate.
    kind: u32,
    layer: u8,
    rate: u32,
    mono: bool,
    /// In bytes.
    length: u32,
    samples: u32,
    /// Half the rate and half the samples: MPEG-2 and 2.5.
    low: bool,
}

impl Frame {
    fn parse(header: [u8; 4]) -> Option<Self> {
        let bits = u32::from_be_bytes(header);
        let field = |shift: u32, mask: u32| bits >> shift & mask;
        let (version, layer) = (field(19, 3), 4 - field(17, 3));
        let (rate, bit_rate) = (field(10, 3), field(12, 15));
        let reserved = version == 1 || layer == 4 || rate == 3 || field(0, 3) == 2;
        // Rate 0 is "free": such frames have no known length.
        if bits >> 21 != 0x7ff || reserved || bit_rate == 0 || bit_rate == 15 {
            return None;
        }
        let low = version != 3;
        let rate = [44_100, 48_000, 32_000][usize::try_from(rate).ok()?]
            >> [2, 0, 1, 0][usize::try_from(version).ok()?];
        let kilobits = kilobits(low, layer, usize::try_from(bit_rate).ok()?);
        let samples = match layer {
            1 => 384,
            3 if low => 576,
            _ => 1152,
        };
        let padding = field(9, 1);
        let length = match layer {
            1 => (12_000 * kilobits / rate + padding) * 4,
            _ => samples / 8 * 1000 * kilobits / rate + padding,
        };
        Some(Self {
            kind: bits & 0xfffe_0c00,
            layer: u8::try_from(layer).ok()?,
            rate,
            mono: field(6, 3) == 3,
            length,
            samples,
            low,
        })
    }

    /// Where a Xing or Info header stands in a frame: behind the side information.
    const fn xing_offset(self) -> u64 {
        match (self.low, self.mono) {
            (false, false) => 36,
            (true, true) => 13,
            _ => 21,
        }
    }
}

fn kilobits(low: bool, layer: u32, code: usize) -> u32 {
    const HIGH_1: [u32; 15] = [
        0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448,
    ];
    const HIGH_2: [u32; 15] = [
        0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
    ];
    const HIGH_3: [u32; 15] = [
        0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ];
    const LOW_1: [u32; 15] = [
        0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256,
    ];
    const LOW: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let table = match (low, layer) {
        (false, 1) => HIGH_1,
        (false, 2) => HIGH_2,
        (false, _) => HIGH_3,
        (true, 1) => LOW_1,
        (true, _) => LOW,
    };
    table[code]
}

/// The first byte that belongs to no ID3v2 tag. Some writers leave several.
pub(super) fn after_id3<S: Ranged + ?Sized>(window: &mut Window<'_, S>) -> Result<u64, S::Error> {
    let mut at = 0;
    for _ in 0..8 {
        match window.array::<10>(at)? {
            Some([b'I', b'D', b'3', _, _, flags, size @ ..])
                if size.iter().all(|byte| byte & 0x80 == 0) =>
            {
                let size = size.iter().fold(0, |sum, byte| sum << 7 | u64::from(*byte));
                let footer = if flags & 0x10 == 0 { 0 } else { 10 };
                at += 10 + size + footer;
            }
            _ => break,
        }
    }
    Ok(at)
}

/// The end, or where the tag of 128 bytes begins that stands there.
pub(super) fn before_id3v1<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
) -> Result<u64, S::Error> {
    let end = window.length();
    let begins = end.saturating_sub(128);
    let tag = end >= 128 && window.at(begins, 3)? == b"TAG";
    Ok(if tag { begins } else { end })
}

/// `None` where there are no frames.
pub(super) fn read<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    begins: u64,
    effort: Effort,
) -> Result<Option<Facts>, S::Error> {
    let end = before_id3v1(window)?;
    let Some((offset, first)) = first_frame(window, begins, end)? else {
        return Ok(None);
    };
    let mut facts = Facts::new(Container::Mp3, Codec::Mpeg(first.layer));
    facts.channels = if first.mono { 1 } else { 2 };
    facts.sample_rate = first.rate;
    let length = end.saturating_sub(offset);
    facts.sound = Sound {
        offset,
        length,
        ..Sound::default()
    };
    match Told::read(window, offset, first)? {
        Some(told) => told.hold(&mut facts, first, length),
        None if effort == Effort::Count => count(&mut facts, window, first)?,
        None => estimate(&mut facts, window, first)?,
    }
    Ok(Some(facts))
}

/// The first of some frames in a row.
fn first_frame<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    begins: u64,
    end: u64,
) -> Result<Option<(u64, Frame)>, S::Error> {
    let junk = window.at(begins, REACH)?.to_vec();
    for (skip, header) in junk.windows(4).enumerate() {
        let Some(frame) = header.first_chunk().copied().and_then(Frame::parse) else {
            continue;
        };
        let at = begins.saturating_add(u64::try_from(skip).unwrap_or(u64::MAX));
        if follow(window, at, end, frame)? {
            return Ok(Some((at, frame)));
        }
    }
    Ok(None)
}

/// Whether frames of one kind follow upon one another. A single one is taken if it is all there is.
fn follow<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    begins: u64,
    end: u64,
    frame: Frame,
) -> Result<bool, S::Error> {
    let mut at = begins;
    let mut next = frame;
    for _ in 1..IN_A_ROW {
        at += u64::from(next.length);
        if at >= end {
            return Ok(at == end);
        }
        match frame_at(window, at)? {
            Some(found) if found.kind == frame.kind => next = found,
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn frame_at<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    at: u64,
) -> Result<Option<Frame>, S::Error> {
    Ok(window.array(at)?.and_then(Frame::parse))
}

/// What an encoder wrote of the whole stream into its first frame.
struct Told {
    frames: u64,
    /// All bytes from that frame on.
    bytes: Option<u64>,
    /// Samples that the encoder put before and behind the sound.
    padding: u64,
}

impl Told {
    fn read<S: Ranged + ?Sized>(
        window: &mut Window<'_, S>,
        offset: u64,
        first: Frame,
    ) -> Result<Option<Self>, S::Error> {
        let u32_at = |bytes: &[u8], at: usize| {
            let four = bytes.get(at..).and_then(<[u8]>::first_chunk);
            four.map(|four| u32::from_be_bytes(*four))
        };
        let vbri = window.at(offset + 36, 18)?;
        if vbri.starts_with(b"VBRI") {
            let (bytes, frames) = (u32_at(vbri, 10), u32_at(vbri, 14));
            return Ok(frames.filter(|frames| *frames > 0).map(|frames| Self {
                frames: u64::from(frames),
                bytes: bytes.map(u64::from),
                padding: 0,
            }));
        }
        let xing = window.at(offset + first.xing_offset(), 144)?;
        let flags = u32_at(xing, 4).unwrap_or(0);
        if !(xing.starts_with(b"Xing") || xing.starts_with(b"Info")) || flags & 1 == 0 {
            return Ok(None);
        }
        // Frames, bytes, 100 bytes of contents and a quality, each where its flag is set; then LAME's.
        let bytes = if flags & 2 == 0 {
            None
        } else {
            u32_at(xing, 12)
        };
        let sizes = [(2, 4), (4, 100), (8, 4)].iter();
        let lame = sizes.fold(12, |at, (flag, size)| {
            at + if flags & flag == 0 { 0 } else { *size }
        });
        let padding = match xing.get(lame + 21..lame + 24) {
            // 12 bits each; without an encoder's name they are not meant.
            Some([a, b, c]) if xing[lame..].starts_with(b"L") => {
                { u64::from(*a) << 4 | u64::from(b >> 4) }
                    .saturating_add(u64::from(b & 15) << 8 | u64::from(*c))
            }
            _ => 0,
        };
        let frames = u32_at(xing, 8).filter(|frames| *frames > 0);
        Ok(frames.map(|frames| Self {
            frames: u64::from(frames),
            bytes: bytes.map(u64::from),
            padding,
        }))
    }

    /// Holds what is told against the bytes that are there.
    fn hold(&self, facts: &mut Facts, first: Frame, length: u64) {
        let samples = self.frames.saturating_mul(u64::from(first.samples));
        let meant = samples.saturating_sub(self.padding);
        match self.bytes {
            // Tags behind the frames, and the first frame itself, are counted by some only.
            Some(bytes) if bytes > length + u64::from(first.length) => {
                facts.odd(Oddity::Truncated(Some(bytes - length)));
                let part = u128::from(samples) * u128::from(length) / u128::from(bytes);
                facts.lasts(u64::try_from(part).unwrap_or(u64::MAX), Known::Estimated);
            }
            _ => facts.lasts(meant, Known::Header),
        }
    }
}

/// Goes from frame to frame to the end.
fn count<S: Ranged + ?Sized>(
    facts: &mut Facts,
    window: &mut Window<'_, S>,
    first: Frame,
) -> Result<(), S::Error> {
    window.stride();
    let end = facts.sound.offset + facts.sound.length;
    let (mut at, mut samples, mut junk) = (facts.sound.offset, 0, 0);
    while at < end {
        match frame_at(window, at)?.filter(|frame| frame.kind == first.kind) {
            Some(frame) if at + u64::from(frame.length) <= end => {
                samples += u64::from(frame.samples);
                at += u64::from(frame.length);
            }
            Some(frame) => {
                facts.odd(Oddity::Truncated(Some(at + u64::from(frame.length) - end)));
                break;
            }
            None => {
                junk += 1;
                at += 1;
            }
        }
    }
    if junk > 0 {
        facts.odd(Oddity::Junk(junk));
    }
    facts.lasts(samples, Known::Counted);
    Ok(())
}

/// Takes the size of frames in the middle and near the end for that of all.
fn estimate<S: Ranged + ?Sized>(
    facts: &mut Facts,
    window: &mut Window<'_, S>,
    first: Frame,
) -> Result<(), S::Error> {
    let (offset, length) = (facts.sound.offset, facts.sound.length);
    let (mut bytes, mut samples) = (0, 0);
    for place in 0..4 {
        let begins = offset + length / 4 * place;
        let (more_bytes, more_samples) = sample(window, begins, first)?;
        bytes += more_bytes;
        samples += more_samples;
    }
    let all = (u128::from(length) * u128::from(samples)).checked_div(u128::from(bytes));
    if let Some(samples) = all.and_then(|all| u64::try_from(all).ok()) {
        facts.lasts(samples, Known::Estimated);
    }
    Ok(())
}

/// Bytes and samples of a few frames from some place on.
fn sample<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    begins: u64,
    first: Frame,
) -> Result<(u64, u64), S::Error> {
    let end = window.length();
    let (mut at, mut bytes, mut samples) = (begins, 0, 0);
    // No frame is longer than 2881 bytes, so that one begins within.
    for _ in 0..2881 {
        let found = frame_at(window, at)?.filter(|frame| frame.kind == first.kind);
        if let Some(frame) = found
            && follow(window, at, end, frame)?
        {
            break;
        }
        at += 1;
    }
    for _ in 0..SAMPLE {
        let Some(frame) = frame_at(window, at)?.filter(|frame| frame.kind == first.kind) else {
            break;
        };
        bytes += u64::from(frame.length);
        samples += u64::from(frame.samples);
        at += u64::from(frame.length);
    }
    Ok((bytes, samples))
}
