//! What a sample entry says of codec, channels and rate, and its `esds` better.

use super::atom::{Atom, atom, children, u16_at};
use crate::audio::window::Window;
use crate::audio::{Codec, Ranged};

/// A sample entry of `stsd`.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) codec: Codec,
    pub(super) channels: u16,
    pub(super) rate: u32,
    pub(super) bits: Option<u16>,
}

/// An audio sample entry, and what its `esds` says better.
pub(super) fn entry<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    at: u64,
    end: u64,
) -> Result<Option<Entry>, S::Error> {
    let Some(found) = atom(window, at, end)? else {
        return Ok(None);
    };
    let body = window.at(found.begins, 28)?;
    // QuickTime's version 1 has 16 more bytes, version 2 has 36.
    let more = match u16_at(body, 8) {
        1 => 16,
        2 => 36,
        _ => 0,
    };
    let mut entry = Entry {
        codec: codec(found.kind),
        channels: u16_at(body, 16),
        rate: u32::from(u16_at(body, 24)),
        bits: None,
    };
    if matches!(entry.codec, Codec::Pcm | Codec::Alac | Codec::Flac) {
        entry.bits = Some(u16_at(body, 18)).filter(|bits| *bits > 0);
    }
    let inner = Atom {
        begins: found.begins + 28 + more,
        ..found
    };
    children(window, inner, 64, |window, child| {
        match &child.kind {
            b"esds" => entry.refine(window.at(child.begins, 256)?),
            // QuickTime wraps it once more.
            b"wave" => {
                children(window, child, 64, |window, child| {
                    if &child.kind == b"esds" {
                        entry.refine(window.at(child.begins, 256)?);
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(Some(entry))
}

fn codec(kind: [u8; 4]) -> Codec {
    match &kind {
        b"mp4a" => Codec::Aac,
        b"alac" => Codec::Alac,
        b"fLaC" => Codec::Flac,
        b"ulaw" => Codec::MuLaw,
        b"alaw" => Codec::ALaw,
        b".mp3" => Codec::Mpeg(3),
        b"sowt" | b"twos" | b"in24" | b"in32" | b"ipcm" | b"lpcm" | b"raw " => Codec::Pcm,
        b"fl32" | b"fl64" | b"fpcm" => Codec::Float,
        b"Opus" => Codec::Other("Opus".to_owned()),
        b"samr" => Codec::Other("AMR".to_owned()),
        b"sawb" => Codec::Other("AMR-WB".to_owned()),
        b"ac-3" => Codec::Other("AC-3".to_owned()),
        b"enca" => Codec::Other("encrypted".to_owned()),
        other if other.iter().all(|byte| (0x20..0x7f).contains(byte)) => {
            Codec::Other(other.iter().copied().map(char::from).collect())
        }
        _ => Codec::Other("unknown".to_owned()),
    }
}

impl Entry {
    /// Reads `esds`: descriptors in descriptors (ISO/IEC 14496-1 §7.2.6). The sample entry's own
    /// channels and rate are often those of a template.
    fn refine(&mut self, esds: &[u8]) {
        let mut rest = esds.get(4..).unwrap_or_default();
        while let Some((tag, body)) = descriptor(&mut rest) {
            match tag {
                // The stream's: an id and flags, then the decoder's.
                3 => {
                    let flags = body.get(2).copied().unwrap_or(0);
                    let url = if flags & 0x40 == 0 {
                        0
                    } else {
                        1 + usize::from(body.get(3).copied().unwrap_or(0))
                    };
                    let skip = 3 + if flags & 0x80 == 0 { 0 } else { 2 } + url;
                    rest = body.get(skip..).unwrap_or_default();
                }
                // The decoder's: what it is, 12 bytes, then what is specific to it.
                4 => {
                    if matches!(body.first(), Some(0x69 | 0x6b)) {
                        self.codec = Codec::Mpeg(3);
                    }
                    rest = body.get(13..).unwrap_or_default();
                }
                5 => {
                    self.specific(body);
                    return;
                }
                _ => {}
            }
        }
    }

    /// `AudioSpecificConfig`, ISO/IEC 14496-3 §1.6.2.1.
    fn specific(&mut self, body: &[u8]) {
        const RATES: [u32; 13] = [
            96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025,
            8_000, 7_350,
        ];
        let Some(first) = body.first_chunk::<2>() else {
            return;
        };
        let bits = u16::from_be_bytes(*first);
        let escaped = bits >> 11 == 31;
        if let Some(rate) = RATES.get(usize::from(bits >> 7 & 15)).filter(|_| !escaped) {
            self.rate = *rate;
            self.channels = match bits >> 3 & 15 {
                0 => self.channels,
                7 => 8,
                channels => channels,
            };
        }
    }
}

/// A tag, a length of up to four times seven bits, a body.
fn descriptor<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (tag, mut after) = rest.split_first()?;
    let mut length = 0;
    for _ in 0..4 {
        let (byte, more) = after.split_first()?;
        after = more;
        length = length << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (body, behind) = after.split_at(length.min(after.len()));
    *rest = behind;
    Some((*tag, body))
}
