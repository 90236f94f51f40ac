//! Bytes at an offset, a window at a time.

use std::convert::Infallible;

/// Something whose bytes can be read at any offset: a file, a slice, an object in a bucket.
pub trait Ranged {
    /// Why a read can fail.
    type Error;

    /// In bytes.
    fn length(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on, and says how many there were: fewer than it
    /// holds only at the end.
    ///
    /// # Errors
    /// The source's own.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error>;
}

impl Ranged for [u8] {
    type Error = Infallible;

    fn length(&self) -> u64 {
        length(self)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// The length of bytes in memory, as file offsets are counted.
pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A source, and those of its bytes that were read last.
///
/// What it allocates is bounded by what its user asks for, never by what a header claims.
pub(super) struct Window<'a, S: ?Sized> {
    source: &'a S,
    begins: u64,
    bytes: Vec<u8>,
    /// Fewest bytes that are read at once.
    step: usize,
}

impl<'a, S: Ranged + ?Sized> Window<'a, S> {
    /// A header's worth at once.
    const STEP: usize = 4096;

    pub(super) fn new(source: &'a S) -> Self {
        Self {
            source,
            begins: 0,
            bytes: Vec::new(),
            step: Self::STEP,
        }
    }

    /// For reading on and on: larger steps.
    pub(super) fn stride(&mut self) {
        self.step = 16 * Self::STEP;
    }

    pub(super) fn length(&self) -> u64 {
        self.source.length()
    }

    /// `count` bytes from `offset` on, or those there are.
    pub(super) fn at(&mut self, offset: u64, count: usize) -> Result<&[u8], S::Error> {
        let held = |this: &Self| {
            let skip = usize::try_from(offset.checked_sub(this.begins)?).ok()?;
            (skip.checked_add(count)? <= this.bytes.len()).then_some(skip)
        };
        let skip = match held(self) {
            Some(skip) => skip,
            None => {
                self.fill(offset, count)?;
                0
            }
        };
        let end = (skip + count).min(self.bytes.len());
        Ok(&self.bytes[skip..end])
    }

    /// A field of known size, if the source reaches so far.
    pub(super) fn array<const N: usize>(
        &mut self,
        offset: u64,
    ) -> Result<Option<[u8; N]>, S::Error> {
        Ok(self.at(offset, N)?.first_chunk().copied())
    }

    fn fill(&mut self, offset: u64, count: usize) -> Result<(), S::Error> {
        let left = self.source.length().saturating_sub(offset);
        let wanted = count.max(self.step);
        let wanted = usize::try_from(left).map_or(wanted, |left| wanted.min(left));
        self.bytes.resize(wanted, 0);
        let mut read = 0;
        while read < wanted {
            let at = offset.saturating_add(length(&self.bytes[..read]));
            match self.source.read_at(at, &mut self.bytes[read..])? {
                0 => break,
                count => read += count,
            }
        }
        self.bytes.truncate(read);
        self.begins = offset;
        Ok(())
    }
}
