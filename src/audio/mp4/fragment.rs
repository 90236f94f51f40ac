//! The durations of the samples in a fragment (`moof`).

use super::atom::{Atom, MOST_BOXES, children, table, u32_at};
use crate::audio::Ranged;
use crate::audio::window::Window;

/// The durations of one track's samples in one fragment: `tfhd`, then `trun`s.
pub(super) fn track_fragment<S: Ranged + ?Sized>(
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
