//! The bytes of the recordings: any byte of any file can be told without reading the file.

use bytes::Bytes;

/// Length of each file.
pub(crate) const FILE_LENGTH: u64 = 16 << 20;

/// A prime above the file's length, so that no file repeats itself.
const PERIOD: usize = 16_777_259;

/// How far one file is turned against the one before.
const TURN: usize = 262_147;

/// Pseudo-random bytes, of which each file is a window: none holds another's bytes at the same place.
pub(crate) struct Pattern(Bytes);

impl Pattern {
    pub(crate) fn new() -> Self {
        let mut random = Random::new(0x746f_6e65_6172_6d00);
        let mut block = Vec::with_capacity(2 * PERIOD + 8);
        while block.len() < PERIOD {
            block.extend_from_slice(&random.next().to_le_bytes());
        }
        block.truncate(PERIOD);
        // So that a window goes round.
        block.extend_from_within(..);
        Self(block.into())
    }

    /// The whole of `file`, which takes no memory of its own.
    pub(crate) fn file(&self, file: usize) -> Bytes {
        let start = file * TURN % PERIOD;
        self.0.slice(start..start + FILE_LENGTH as usize)
    }
}

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Less than `bound`, which is far less than 2^64.
    pub(crate) const fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_differ_everywhere() {
        let pattern = Pattern::new();
        let (one, other) = (pattern.file(3), pattern.file(4));
        assert_eq!(
            (one.len() as u64, other.len() as u64),
            (FILE_LENGTH, FILE_LENGTH)
        );
        let alike = |at: &usize| one[*at..at + 8] == other[*at..at + 8];
        assert_eq!((0..one.len() - 8).filter(alike).count(), 0);
        assert_eq!(pattern.file(79).len() as u64, FILE_LENGTH);
    }
}
