//! ISO base media, ISO/IEC 14496-12: boxes in boxes. `moov` says what the sound is and may stand
//! before it, behind it, or before fragments (`moof`) that each say how long they are.

use super::window::Window;
use super::{
    Codec, Container, Content, Effort, Facts, Known, Oddity, Other, Ranged, Sound, duration,
};

/// Boxes of one place that are looked at.
const MOST_BOXES: usize = 4096;
/// At the top, where all may be read: at 8 bytes each they end with the file anyway.
const ALL_BOXES: usize = usize::MAX;

pub(super) fn is_one(head: &[u8]) -> bool {
    const FIRST: [&[u8]; 8] = [
        b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"pnot",
    ];
    let kind = head.get(4..8).unwrap_or_default();
    FIRST.contains(&kind)
}

#[derive(Clone, Copy)]
struct Atom {
    kind: [u8; 4],
    /// The body.
    begins: u64,
    /// Where it ends within its parent, and where its header says it does.
    ends: u64,
    claims: u64,
}

/// The box at `at`, in a place that ends at `end`.
fn atom<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    at: u64,
    end: u64,
) -> Result<Option<Atom>, S::Error> {
    if at.saturating_add(8) > end {
        return Ok(None);
    }
    let Some([s0, s1, s2, s3, kind @ ..]) = window.array::<8>(at)? else {
        return Ok(None);
    };
    let small = u64::from(u32::from_be_bytes([s0, s1, s2, s3]));
    let (header, size) = match small {
        // To the end (§4.2.2).
        0 => (8, end - at),
        1 => match window.array(at + 8)? {
            Some(large) => (16, u64::from_be_bytes(large)),
            None => return Ok(None),
        },
        _ => (8, small),
    };
    Ok((size >= header).then(|| Atom {
        kind,
        begins: at + header,
        ends: at.saturating_add(size).min(end),
        claims: at.saturating_add(size),
    }))
}

/// Calls `visit` with each box of a place, until it has no more, or too many.
fn children<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    parent: Atom,
    most: usize,
    mut visit: impl FnMut(&mut Window<'_, S>, Atom) -> Result<(), S::Error>,
) -> Result<bool, S::Error> {
    let mut at = parent.begins;
    let mut left = most;
    while let Some(found) = atom(window, at, parent.ends)? {
        if left == 0 {
            return Ok(false);
        }
        left -= 1;
        visit(window, found)?;
        at = found.claims;
    }
    Ok(true)
}

/// A sound track, as `trak` tells.
#[derive(Default)]
struct Track {
    id: u32,
    is_sound: bool,
    timescale: u32,
    /// In the track's own timescale: `mdhd`, and the sum of `stts`.
    media: u64,
    table: u64,
    /// In the movie's timescale: the edit list's.
    edited: u64,
    /// What its first edit leaves out, in the track's timescale: an encoder's delay.
    skip: u64,
    entry: Option<Entry>,
}

/// A sample entry of `stsd`.
#[derive(Clone)]
struct Entry {
    codec: Codec,
    channels: u16,
    rate: u32,
    bits: Option<u16>,
}

/// What the boxes at the top tell.
#[derive(Default)]
struct Movie {
    timescale: u32,
    tracks: Vec<Track>,
    /// Of `mehd`, in the movie's timescale.
    fragments_say: u64,
    /// Of `trex`: a sample's duration where a fragment does not say, a track each.
    defaults: Vec<(u32, u32)>,
    /// Summed over `moof`, in the sound track's timescale.
    fragments_sum: u64,
    has_index: bool,
    is_fragmented: bool,
    /// Bytes of sound that are there, and that are claimed.
    there: u64,
    claimed: u64,
}

pub(super) fn read<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    effort: Effort,
) -> Result<Content, S::Error> {
    let length = window.length();
    let all = Atom {
        kind: *b"file",
        begins: 0,
        ends: length,
        claims: length,
    };
    let most = match effort {
        Effort::Header => MOST_BOXES,
        Effort::Count => ALL_BOXES,
    };
    let mut movie = Movie::default();
    let complete = children(window, all, most, |window, found| match &found.kind {
        b"moov" => movie.read(window, found),
        b"moof" => movie.fragment(window, found),
        b"mdat" => {
            movie.there += found.ends.saturating_sub(found.begins);
            movie.claimed = movie.claimed.saturating_add(found.claims - found.begins);
            Ok(())
        }
        _ => Ok(()),
    })?;
    Ok(movie.tell(complete, length))
}

impl Movie {
    fn read<S: Ranged + ?Sized>(
        &mut self,
        window: &mut Window<'_, S>,
        moov: Atom,
    ) -> Result<(), S::Error> {
        self.has_index = true;
        children(window, moov, MOST_BOXES, |window, found| {
            match &found.kind {
                b"mvhd" => (self.timescale, _) = header_times(window, found)?,
                b"trak" => {
                    let mut track = Track::default();
                    track.read(window, found, 0)?;
                    self.tracks.push(track);
                }
                b"mvex" => self.extends(window, found)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(())
    }

    fn extends<S: Ranged + ?Sized>(
        &mut self,
        window: &mut Window<'_, S>,
        mvex: Atom,
    ) -> Result<(), S::Error> {
        self.is_fragmented = true;
        children(window, mvex, MOST_BOXES, |window, found| {
            let body = window.at(found.begins, 16)?;
            match &found.kind {
                b"mehd" if body.first() == Some(&1) => self.fragments_say = u64_at(body, 4),
                b"mehd" => self.fragments_say = u64::from(u32_at(body, 4)),
                b"trex" => self.defaults.push((u32_at(body, 4), u32_at(body, 12))),
                _ => {}
            }
            Ok(())
        })?;
        Ok(())
    }

    fn sound(&self) -> Option<&Track> {
        self.tracks.iter().find(|track| track.is_sound)
    }

    /// Adds up the samples of the sound track in one fragment.
    fn fragment<S: Ranged + ?Sized>(
        &mut self,
        window: &mut Window<'_, S>,
        moof: Atom,
    ) -> Result<(), S::Error> {
        self.is_fragmented = true;
        let Some(id) = self.sound().map(|track| track.id) else {
            return Ok(());
        };
        let default = self.defaults.iter().find(|(track, _)| *track == id);
        let default = default.map_or(0, |(_, duration)| *duration);
        children(window, moof, MOST_BOXES, |window, traf| {
            if &traf.kind != b"traf" {
                return Ok(());
            }
            let sum = track_fragment(window, traf, id, default)?;
            self.fragments_sum = self.fragments_sum.saturating_add(sum);
            Ok(())
        })?;
        Ok(())
    }

    fn tell(&self, complete: bool, length: u64) -> Content {
        if !self.has_index {
            return Content::Other(Other::Mp4WithoutIndex);
        }
        let Some((track, entry)) = self
            .sound()
            .and_then(|track| Some((track, track.entry.as_ref()?)))
        else {
            return Content::Other(Other::Mp4WithoutSound);
        };
        let mut facts = Facts::new(Container::Mp4, entry.codec.clone());
        facts.channels = entry.channels;
        facts.sample_rate = entry.rate;
        facts.bits = entry.bits;
        facts.sound = Sound {
            length,
            ..Sound::default()
        };
        if track.timescale == entry.rate {
            facts.sound.skip = track.skip;
        }
        self.time(&mut facts, track, complete);
        Content::Recording(facts)
    }

    fn time(&self, facts: &mut Facts, track: &Track, complete: bool) {
        let movie = u64::from(self.timescale);
        let media = u64::from(track.timescale);
        let some = |units: u64, scale| duration(units, scale).filter(|_| units > 0);
        let header = some(track.edited, movie)
            .or_else(|| some(track.media, media))
            .or_else(|| some(track.table, media));
        let (time, known) = if self.is_fragmented && self.fragments_sum > 0 && complete {
            let sum = self.fragments_sum.saturating_add(track.table);
            (duration(sum, media), Known::Counted)
        } else if self.is_fragmented {
            (some(self.fragments_say, movie).or(header), Known::Header)
        } else {
            (header.or(Some(std::time::Duration::ZERO)), Known::Header)
        };
        facts.duration = time;
        facts.duration_known = time.map_or(Known::Unknown, |_| known);
        self.hold(facts);
    }

    /// Holds the sound's claimed size against the file.
    fn hold(&self, facts: &mut Facts) {
        if self.claimed <= self.there {
            return;
        }
        facts.odd(Oddity::Truncated(Some(self.claimed - self.there)));
        let whole = facts
            .duration
            .filter(|_| facts.duration_known == Known::Header);
        if let Some(whole) = whole {
            let nanos =
                whole.as_nanos() / 1000 * u128::from(self.there) / u128::from(self.claimed) * 1000;
            facts.duration = u64::try_from(nanos)
                .ok()
                .map(std::time::Duration::from_nanos);
            facts.duration_known = Known::Estimated;
        }
    }
}

impl Track {
    /// Boxes nest four deep from `trak` to `stsd`.
    fn read<S: Ranged + ?Sized>(
        &mut self,
        window: &mut Window<'_, S>,
        parent: Atom,
        depth: u8,
    ) -> Result<(), S::Error> {
        children(window, parent, MOST_BOXES, |window, found| {
            match &found.kind {
                b"mdia" | b"minf" | b"stbl" | b"edts" if depth < 4 => {
                    self.read(window, found, depth + 1)?;
                }
                b"tkhd" => {
                    let body = window.at(found.begins, 24)?;
                    let at = if body.first() == Some(&1) { 20 } else { 12 };
                    self.id = u32_at(body, at);
                }
                b"mdhd" => (self.timescale, self.media) = header_times(window, found)?,
                b"hdlr" => self.is_sound = window.at(found.begins, 12)?.ends_with(b"soun"),
                b"elst" => (self.edited, self.skip) = edits(window, found)?,
                b"stts" => self.table = time_table(window, found)?,
                // Version and flags, a count, then the first entry: one is what players use.
                b"stsd" => self.entry = entry(window, found.begins + 8, found.ends)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// Timescale and duration of `mvhd` and `mdhd`; a duration of all ones is none.
fn header_times<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    found: Atom,
) -> Result<(u32, u64), S::Error> {
    let body = window.at(found.begins, 32)?;
    if body.first() == Some(&1) {
        let long = u64_at(body, 24);
        return Ok((u32_at(body, 20), if long == u64::MAX { 0 } else { long }));
    }
    let short = u32_at(body, 16);
    let known = if short == u32::MAX { 0 } else { short };
    Ok((u32_at(body, 12), u64::from(known)))
}

/// The durations of an edit list without its gaps, and where in the track its first edit begins.
fn edits<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    elst: Atom,
) -> Result<(u64, u64), S::Error> {
    let head = window.at(elst.begins, 8)?;
    let (long, count) = (head.first() == Some(&1), u32_at(head, 4));
    let size: u8 = if long { 20 } else { 12 };
    let (mut sum, mut begins) = (0_u64, None);
    table(window, elst, count, size, |row| {
        let (time, at) = if long {
            let at = u64_at(row, 8);
            (u64_at(row, 0), (at < u64::MAX).then_some(at))
        } else {
            let at = u32_at(row, 4);
            let at = (at < u32::MAX).then(|| u64::from(at));
            (u64::from(u32_at(row, 0)), at)
        };
        sum = sum.saturating_add(at.map_or(0, |_| time));
        begins = begins.or(at);
    })?;
    Ok((sum, begins.unwrap_or(0)))
}

/// The sum of `stts`: runs of samples of one duration.
fn time_table<S: Ranged + ?Sized>(window: &mut Window<'_, S>, stts: Atom) -> Result<u64, S::Error> {
    let count = u32_at(window.at(stts.begins, 8)?, 4);
    let mut sum = 0_u64;
    table(window, stts, count, 8, |row| {
        let run = u64::from(u32_at(row, 0)) * u64::from(u32_at(row, 4));
        sum = sum.saturating_add(run);
    })?;
    Ok(sum)
}

/// The rows of a table behind version, flags and count; never more than its box has.
fn table<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    found: Atom,
    count: u32,
    row: u8,
    mut visit: impl FnMut(&[u8]),
) -> Result<(), S::Error> {
    let mut at = found.begins + 8;
    for _ in 0..count {
        let next = at + u64::from(row);
        if row == 0 || next > found.ends {
            break;
        }
        visit(window.at(at, usize::from(row))?);
        at = next;
    }
    Ok(())
}

/// The durations of one track's samples in one fragment: `tfhd`, then `trun`s.
fn track_fragment<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    traf: Atom,
    id: u32,
    default: u32,
) -> Result<u64, S::Error> {
    let (mut sum, mut each, mut ours) = (0_u64, default, false);
    children(window, traf, MOST_BOXES, |window, found| {
        let body = window.at(found.begins, 40)?;
        let flags = u32_at(body, 0);
        match &found.kind {
            b"tfhd" => {
                ours = u32_at(body, 4) == id;
                // Before the default duration: a base offset, and a description's index.
                let at =
                    8 + if flags & 1 == 0 { 0 } else { 8 } + if flags & 2 == 0 { 0 } else { 4 };
                if flags & 8 != 0 {
                    each = u32_at(body, at);
                }
            }
            b"trun" if ours => sum = sum.saturating_add(run(window, found, each)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(sum)
}

fn run<S: Ranged + ?Sized>(
    window: &mut Window<'_, S>,
    trun: Atom,
    each: u32,
) -> Result<u64, S::Error> {
    let head = window.at(trun.begins, 8)?;
    let (flags, count) = (u32_at(head, 0), u32_at(head, 4));
    if flags & 0x100 == 0 {
        return Ok(u64::from(count) * u64::from(each));
    }
    let optional = |flag| if flags & flag == 0 { 0 } else { 4 };
    let row = [0x100, 0x200, 0x400, 0x800].map(optional).iter().sum();
    let skipped = Atom {
        begins: trun.begins + u64::from(optional(1)) + u64::from(optional(4)),
        ..trun
    };
    let mut sum = 0;
    table(window, skipped, count, row, |row| {
        sum += u64::from(u32_at(row, 0));
    })?;
    Ok(sum)
}

/// An audio sample entry, and what its `esds` says better.
fn entry<S: Ranged + ?Sized>(
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

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let two = bytes.get(at..).and_then(<[u8]>::first_chunk);
    two.map_or(0, |two| u16::from_be_bytes(*two))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk);
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.get(at..).and_then(<[u8]>::first_chunk);
    eight.map_or(0, |eight| u64::from_be_bytes(*eight))
}
