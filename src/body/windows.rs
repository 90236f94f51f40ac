//! What of a body is still to be sent, and how much of it at once.

use crate::respond::{Payload, Piece};
use crate::select::ByteRange;
use crate::store::LARGEST_READ;

/// Size of the first window of a range without an end: playback often ends soon after it began.
const FIRST_WINDOW: u64 = 256 * 1024;
/// Size of the first window of a range with an end: who asked for it wants it.
const WINDOW: u64 = 1024 * 1024;
/// Size of the largest window. The larger, the less a download costs, and the longer a slow reader has a file
/// sent to him that is not looked at again.
const LARGEST_WINDOW: u64 = 2 * WINDOW;

/// The pieces of a body, of which the stored ones are sent window by window.
pub(super) struct Windows {
    pieces: Payload,
    /// How many of them are through.
    through: usize,
    /// Which of the representation's bytes lie in the open file, from its first on.
    pub(super) extent: ByteRange,
    /// Of the representation.
    length: u64,
    /// Twice the size of the last window.
    twice: u64,
    /// What of the last window is still to be copied.
    rest: Option<ByteRange>,
    /// Most that is copied at once.
    pub(super) largest_read: u64,
}

impl Windows {
    pub(super) fn of(pieces: Payload, extent: ByteRange, length: u64) -> Self {
        Self {
            pieces,
            through: 0,
            extent,
            length,
            twice: 0,
            rest: None,
            largest_read: LARGEST_READ,
        }
    }

    /// Whether the first stored byte is not the representation's first.
    pub(super) fn begin_within(&self) -> bool {
        let stored = |piece: &Piece| match piece {
            Piece::Bytes(_) => None,
            Piece::Stored(range) => Some(range.first),
        };
        self.pieces
            .iter()
            .find_map(stored)
            .is_some_and(|first| first > 0)
    }

    /// The piece that is being sent.
    pub(super) fn piece(&mut self) -> Option<&mut Piece> {
        self.pieces.get_mut(self.through)
    }

    /// The piece that is being sent is through.
    pub(super) const fn pass(&mut self) {
        self.through += 1;
    }

    /// Whether all pieces are through.
    pub(super) fn is_empty(&self) -> bool {
        self.through == self.pieces.len()
    }

    /// Where the next window lies in the open file; `None` where no stored range is next whose bytes lie there.
    pub(super) fn next(&self) -> Option<ByteRange> {
        let extent = self.extent;
        let Some(Piece::Stored(range)) = self.pieces.get(self.through) else {
            return None;
        };
        if !(extent.first..=extent.last).contains(&range.first) {
            return None;
        }
        let window = range.beginning(self.size(*range));
        Some(ByteRange {
            first: window.first - extent.first,
            last: window.last.min(extent.last) - extent.first,
        })
    }

    /// Takes the next window off the front.
    pub(super) fn take(&mut self) -> Option<ByteRange> {
        let window = self.next()?;
        let first = self.extent.first;
        if let Some(Piece::Stored(range)) = self.pieces.get_mut(self.through) {
            let whole = *range;
            range.first = window.last + first + 1;
            if range.first > whole.last {
                self.through += 1;
            }
            self.twice = self.size(whole).saturating_mul(2);
        }
        Some(window)
    }

    /// Has a window copied, part by part.
    pub(super) const fn copy(&mut self, window: ByteRange) {
        self.rest = Some(window);
    }

    /// What of it is still to be copied.
    pub(super) const fn rest(&self) -> Option<ByteRange> {
        self.rest
    }

    /// The part that is next.
    pub(super) fn part(&self) -> Option<ByteRange> {
        Some(self.rest?.beginning(self.largest_read))
    }

    /// Takes that part off the front.
    pub(super) fn take_part(&mut self) -> Option<ByteRange> {
        let part = self.part()?;
        let rest = self.rest.filter(|rest| rest.last > part.last);
        self.rest = rest.map(|rest| ByteRange {
            first: part.last + 1,
            ..rest
        });
        Some(part)
    }

    /// Of a window of this range, if it has as much.
    fn size(&self, range: ByteRange) -> u64 {
        // What ends where the file ends was most likely asked for without an end.
        let smallest = if range.last + 1 < self.length {
            WINDOW
        } else {
            FIRST_WINDOW
        };
        self.twice.clamp(smallest, LARGEST_WINDOW)
    }
}
