//! What a `trak` tells: whether it is sound, of which kind, and how long.

use super::atom::{Atom, MOST_BOXES, children, table, u32_at, u64_at};
use super::entry::{Entry, entry};
use crate::audio::Ranged;
use crate::audio::window::Window;

/// A sound track, as `trak` tells.
#[derive(Default)]
pub(super) struct Track {
    pub(super) id: u32,
    pub(super) is_sound: bool,
    pub(super) timescale: u32,
    /// In the track's own timescale: `mdhd`, and the sum of `stts`.
    pub(super) media: u64,
    pub(super) table: u64,
    /// In the movie's timescale: the edit list's.
    pub(super) edited: u64,
    /// What its first edit leaves out, in the track's timescale: an encoder's delay.
    pub(super) skip: u64,
    pub(super) entry: Option<Entry>,
}

impl Track {
    /// Boxes nest four deep from `trak` to `stsd`.
    pub(super) fn read<S: Ranged + ?Sized>(
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
pub(super) fn header_times<S: Ranged + ?Sized>(
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
