//! ISO base media, ISO/IEC 14496-12: boxes in boxes. `moov` says what the sound is and may stand
//! before it, behind it, or before fragments (`moof`) that each say how long they are.

mod atom;
mod entry;
mod fragment;
mod track;

use self::atom::{Atom, MOST_BOXES, children, u32_at, u64_at};
use self::fragment::track_fragment;
use self::track::{Track, header_times};
use super::window::Window;
use super::{Container, Content, Effort, Facts, Known, Oddity, Other, Ranged, Sound, duration};

/// At the top, where all may be read: at 8 bytes each they end with the file anyway.
const ALL_BOXES: usize = usize::MAX;

pub(super) fn is_one(head: &[u8]) -> bool {
    const FIRST: [&[u8]; 8] = [
        b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"pnot",
    ];
    let kind = head.get(4..8).unwrap_or_default();
    FIRST.contains(&kind)
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
