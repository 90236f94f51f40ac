//! RIFF WAVE and its relatives with 64-bit sizes: RF64 and BW64 (EBU Tech 3306), Sony Wave64.
//!
//! ```text
//! RIFF size WAVE | fmt  16.. | fact 4 | LIST .. | data size | samples .. | LIST ..
//! ```

use super::window::Window;
use super::{Codec, Container, Facts, Known, Oddity, Ranged, Sound};

/// More chunks than this before the sound are no recording.
const MOST_CHUNKS: usize = 1024;

/// Sizes from here on stand for "unknown" where the file is smaller: 0xFFFFFFFF is usual, and SoX
/// writes a little less than 2 GiB.
const HOPED_FOR: u64 = 0x7fff_0000;

const W64_RIFF: &[u8; 16] = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00";
/// What every other chunk's id ends in.
const W64_TAIL: &[u8; 12] = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";

pub(super) fn is_one(head: &[u8]) -> bool {
    let riff = [b"RIFF", b"RF64", b"BW64"]
        .iter()
        .any(|id| head.starts_with(*id))
        && head.get(8..12) == Some(b"WAVE");
    riff || head.starts_with(W64_RIFF)
}

/// How chunks are laid out.
struct Layout {
    container: Container,
    /// Where the first chunk begins.
    first: u64,
    /// Bytes of a chunk's header.
    header: u64,
    /// What chunks are padded to.
    align: u64,
}

struct Chunk {
    id: [u8; 4],
    /// Where its body begins.
    offset: u64,
    size: u64,
}

/// `None` where there is no sound in it.
pub(super) fn read<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
) -> Result<Option<Facts>, S::Error> {
    let layout = layout(window)?;
    let mut facts = Facts::new(layout.container, Codec::Other("unknown".to_owned()));
    let (mut fact, mut long, mut byte_rate) = (None, None, 0);
    let mut at = layout.first;
    for _ in 0..MOST_CHUNKS {
        let Some(chunk) = chunk(window, &layout, at)? else {
            return Ok(None);
        };
        match &chunk.id {
            b"fmt " => byte_rate = format(&mut facts, window.at(chunk.offset, 40)?, chunk.size),
            b"fact" => fact = window.array(chunk.offset)?.map(u32::from_le_bytes),
            // RIFF's size, then that of the samples.
            b"ds64" => long = window.array(chunk.offset + 8)?.map(u64::from_le_bytes),
            b"data" => {
                let claimed = match long {
                    Some(long) if chunk.size == u64::from(u32::MAX) => long,
                    _ => chunk.size,
                };
                samples(&mut facts, window, &layout, chunk.offset, claimed)?;
                count(&mut facts, fact, byte_rate);
                return Ok(Some(facts));
            }
            _ => {}
        }
        at = next(&layout, &chunk);
    }
    Ok(None)
}

fn layout<S: Ranged + ?Sized>(window: &mut Window<'_, S>) -> Result<Layout, S::Error> {
    let plain = |container| Layout {
        container,
        first: 12,
        header: 8,
        align: 2,
    };
    Ok(match window.array::<4>(0)?.as_ref() {
        Some(b"RIFF") => plain(Container::Wav),
        Some(b"riff") => Layout {
            container: Container::W64,
            first: 40,
            header: 24,
            align: 8,
        },
        _ => plain(Container::Rf64),
    })
}

fn chunk<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    layout: &Layout,
    at: u64,
) -> Result<Option<Chunk>, S::Error> {
    let offset = at.saturating_add(layout.header);
    let (id, size) = if layout.container == Container::W64 {
        let Some(header) = window.array::<24>(at)? else {
            return Ok(None);
        };
        let (id, size) = header.split_at(16);
        let size = size
            .first_chunk()
            .map_or(0, |size| u64::from_le_bytes(*size));
        // Wave64 counts a chunk's header too, and spells its ids out.
        let known = id.ends_with(W64_TAIL);
        let id = id.first_chunk().copied().filter(|_| known);
        (id.unwrap_or_default(), size.saturating_sub(layout.header))
    } else {
        let Some([a, b, c, d, size @ ..]) = window.array::<8>(at)? else {
            return Ok(None);
        };
        ([a, b, c, d], u64::from(u32::from_le_bytes(size)))
    };
    Ok(Some(Chunk { id, offset, size }))
}

fn next(layout: &Layout, chunk: &Chunk) -> u64 {
    chunk
        .size
        .checked_next_multiple_of(layout.align)
        .and_then(|size| chunk.offset.checked_add(size))
        .unwrap_or(u64::MAX)
}

/// `WAVEFORMATEX`, and of `WAVEFORMATEXTENSIBLE` the format it hides. Gives the bytes a second it
/// says the sound takes.
fn format(facts: &mut Facts, body: &[u8], size: u64) -> u32 {
    let body = &body[..usize::try_from(size).map_or(body.len(), |size| size.min(body.len()))];
    let u16_at = |at: usize| {
        let two = body.get(at..).and_then(<[u8]>::first_chunk);
        two.map_or(0, |two| u16::from_le_bytes(*two))
    };
    let u32_at = |at: usize| {
        let four = body.get(at..).and_then(<[u8]>::first_chunk);
        four.map_or(0, |four| u32::from_le_bytes(*four))
    };
    let (mut tag, bits) = (u16_at(0), u16_at(14));
    if tag == 0xfffe && body.len() >= 26 {
        tag = u16_at(24);
    }
    facts.codec = codec(tag);
    facts.channels = u16_at(2);
    facts.sample_rate = u32_at(4);
    facts.bits = Some(bits).filter(|bits| *bits > 0 && *bits <= 64);
    (facts.sound.block, facts.sound.block_frames) = block(facts, u16_at(12), u16_at(18));
    if matches!(facts.codec, Codec::Gsm | Codec::Other(_)) {
        facts.bits = None;
    }
    u32_at(8)
}

fn codec(tag: u16) -> Codec {
    match tag {
        1 => Codec::Pcm,
        2 => Codec::MsAdpcm,
        3 => Codec::Float,
        6 => Codec::ALaw,
        7 => Codec::MuLaw,
        0x11 => Codec::ImaAdpcm,
        0x31 => Codec::Gsm,
        0x50 => Codec::Mpeg(2),
        0x55 => Codec::Mpeg(3),
        0xff | 0x1600 | 0x1610 => Codec::Aac,
        0x14 | 0x40 | 0x45 | 0x64 => Codec::Other("G.726 ADPCM".to_owned()),
        0x22 => Codec::Other("TrueSpeech".to_owned()),
        0x42 | 0x111 => Codec::Other("G.723.1".to_owned()),
        0x83 | 0x133 => Codec::Other("G.729".to_owned()),
        0x28f => Codec::Other("G.722 ADPCM".to_owned()),
        other => Codec::Other(format!("format 0x{other:04x}")),
    }
}

/// Bytes and frames of a block. Where the codec settles them, the header is not asked: writers err.
fn block(facts: &Facts, align: u16, samples: u16) -> (u32, u32) {
    let channels = u32::from(facts.channels);
    let align = u32::from(align);
    // One block holds a header a channel, then nibbles of every channel.
    let nibbles = |header: u32, first: u32| {
        let packed = align.saturating_sub(header * channels) * 2;
        let room = packed.checked_div(channels).unwrap_or(0) + first;
        let said = u32::from(samples);
        if said >= first && said <= room {
            said
        } else {
            room
        }
    };
    match facts.codec {
        Codec::Pcm | Codec::Float => {
            let bytes = u32::from(facts.bits.unwrap_or(0)).div_ceil(8);
            (channels * bytes, 1)
        }
        Codec::ALaw | Codec::MuLaw => (channels, 1),
        Codec::ImaAdpcm if align > 4 * channels => (align, nibbles(4, 1)),
        Codec::MsAdpcm if align > 7 * channels => (align, nibbles(7, 2)),
        Codec::Gsm if channels == 1 => (65, 320),
        _ => (0, 0),
    }
}

/// How many of the bytes that the header claims are there.
fn samples<S: Ranged + ?Sized>(
    facts: &mut Facts,
    window: &mut Window<'_, S>,
    layout: &Layout,
    offset: u64,
    claimed: u64,
) -> Result<(), S::Error> {
    let rest = window.length().saturating_sub(offset);
    let unset = claimed == 0 && rest > 0 || claimed >= HOPED_FOR && claimed > rest;
    let length = if unset { rest } else { claimed.min(rest) };
    facts.sound = Sound {
        offset,
        length,
        ..facts.sound
    };
    if unset {
        facts.odd(Oddity::SizeUnset);
    } else if claimed > rest {
        facts.odd(Oddity::Truncated(Some(claimed - rest)));
    } else {
        let end = next(
            layout,
            &Chunk {
                id: [0; 4],
                offset,
                size: length,
            },
        );
        let behind = window.at(end, 4)?;
        if !behind.is_empty() && !looks_like_an_id(behind, layout) {
            facts.odd(Oddity::Trailing(window.length().saturating_sub(end)));
        }
    }
    Ok(())
}

/// Chunk ids are four printable characters.
fn looks_like_an_id(bytes: &[u8], layout: &Layout) -> bool {
    layout.container == Container::W64
        || bytes.len() == 4 && bytes.iter().all(|byte| (0x20..0x7f).contains(byte))
}

/// From bytes to frames. A `fact` chunk says how many of a last block's frames are meant.
fn count(facts: &mut Facts, fact: Option<u32>, byte_rate: u32) {
    let sound = facts.sound;
    let claimed = !matches!(
        facts.oddities.first(),
        Some(Oddity::SizeUnset | Oddity::Truncated(_))
    );
    let known = if claimed {
        Known::Header
    } else {
        Known::Counted
    };
    let meant = u64::from(fact.unwrap_or(0));
    if sound.block == 0 {
        if meant > 0 && claimed {
            facts.lasts(meant, known);
            return;
        }
        facts.estimate(sound.length, byte_rate);
        return;
    }
    let frames = (sound.length / u64::from(sound.block)) * u64::from(sound.block_frames);
    let last_block = frames.saturating_sub(u64::from(sound.block_frames));
    let padded = sound.block_frames > 1 && claimed && (last_block..frames).contains(&meant);
    facts.lasts(if padded { meant } else { frames }, known);
}
