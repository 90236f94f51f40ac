//! The bytes of the recordings: any byte of any file can be told without reading the file.

use std::io::{self, Write};

/// Length of each file.
pub(crate) const FILE_LENGTH: u64 = 16 << 20;

/// A prime above the file's length, so that no file repeats itself.
const PERIOD: usize = 16_777_259;

/// How far one file is turned against the one before.
const TURN: usize = 262_147;

/// One block of pseudo-random bytes, of which each file is a rotation.
pub(crate) struct Pattern {
    block: Vec<u8>,
}

impl Pattern {
    pub(crate) fn new() -> Self {
        let mut random = Random::new(0x746f_6e65_6172_6d00);
        let mut block = Vec::with_capacity(PERIOD + 8);
        while block.len() < PERIOD {
            block.extend_from_slice(&random.next().to_le_bytes());
        }
        block.truncate(PERIOD);
        Self { block }
    }

    /// Where `received` differs from what stands at `offset` of `file`, if it does.
    pub(crate) fn difference(&self, file: usize, offset: u64, received: &[u8]) -> Option<u64> {
        let mut at = 0;
        while at < received.len() {
            let expected = self.piece(file, offset + at as u64, received.len() - at);
            let piece = &received[at..at + expected.len()];
            if piece != expected {
                let inside = piece.iter().zip(expected).position(|(a, b)| a != b)?;
                return Some(offset + (at + inside) as u64);
            }
            at += expected.len();
        }
        None
    }

    /// Writes the whole of `file`.
    pub(crate) fn write(&self, file: usize, into: &mut impl Write) -> io::Result<()> {
        let mut at = 0;
        while at < FILE_LENGTH {
            let piece = self.piece(file, at, (FILE_LENGTH - at) as usize);
            into.write_all(piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// As much as stands in one piece, at most `most` bytes.
    fn piece(&self, file: usize, offset: u64, most: usize) -> &[u8] {
        let start = (file * TURN + offset as usize) % PERIOD;
        &self.block[start..PERIOD.min(start + most)]
    }
}

/// SplitMix64: the same sequence for every peer.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform enough below `bound`, which is far below 2^64.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_expected() {
        let pattern = Pattern::new();
        let mut file = Vec::new();
        pattern.write(70, &mut file).unwrap();
        assert_eq!(file.len() as u64, FILE_LENGTH);
        assert_eq!(pattern.difference(70, 0, &file), None);
        assert_eq!(pattern.difference(70, 12_345, &file[12_345..]), None);
    }

    #[test]
    fn a_wrong_byte_offset_or_file_shows() {
        let pattern = Pattern::new();
        let mut file = Vec::new();
        pattern.write(3, &mut file).unwrap();
        let range = &file[1000..9000];
        assert!(pattern.difference(3, 1001, range).is_some());
        assert!(pattern.difference(4, 1000, range).is_some());
        let mut wrong = range.to_vec();
        wrong[5000] ^= 1;
        assert_eq!(pattern.difference(3, 1000, &wrong), Some(6000));
        assert!(pattern.difference(3, 1000, &[0; 4096]).is_some());
    }

    #[test]
    fn random_is_below_its_bound() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| random.below(7) < 7));
    }
}
