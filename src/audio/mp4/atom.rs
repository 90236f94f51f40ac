//! Boxes: where each begins and ends, what lies in it, and the tables and numbers of their bodies.
//! What a kind of box means is not known here.

use crate::audio::Ranged;
use crate::audio::window::Window;

/// Boxes of one place that are looked at.
pub(super) const MOST_BOXES: usize = 4096;

#[derive(Clone, Copy)]
pub(super) struct Atom {
    pub(super) kind: [u8; 4],
    /// The body.
    pub(super) begins: u64,
    /// Where it ends within its parent, and where its header says it does.
    pub(super) ends: u64,
    pub(super) claims: u64,
}

/// The box at `at`, in a place that ends at `end`.
pub(super) fn atom<S: Ranged + ?Sized>(
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
pub(super) fn children<S: Ranged + ?Sized>(
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

/// The rows of a table behind version, flags and count; never more than its box has.
pub(super) fn table<S: Ranged + ?Sized>(
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

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let two = bytes.get(at..).and_then(<[u8]>::first_chunk);
    two.map_or(0, |two| u16::from_be_bytes(*two))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk);
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.get(at..).and_then(<[u8]>::first_chunk);
    eight.map_or(0, |eight| u64::from_be_bytes(*eight))
}
