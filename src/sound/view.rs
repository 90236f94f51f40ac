//! A part of an open file as a stream of its own, with other bytes in front if need be.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use symphonia::core::io::MediaSource;

/// Reads from a place of its own, so that several can share one file.
#[derive(Debug)]
pub(super) struct View {
    file: Arc<File>,
    /// Read before the file's bytes.
    front: Vec<u8>,
    offset: u64,
    /// Of both together.
    length: u64,
    at: u64,
}

impl View {
    pub(super) fn new(file: Arc<File>, offset: u64, length: u64) -> Self {
        Self::behind(Vec::new(), file, offset, length)
    }

    pub(super) fn behind(front: Vec<u8>, file: Arc<File>, offset: u64, length: u64) -> Self {
        let length = length.saturating_add(u64::try_from(front.len()).unwrap_or(0));
        Self {
            file,
            front,
            offset,
            length,
            at: 0,
        }
    }
}

impl Read for View {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.at);
        let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let front = usize::try_from(self.at)
            .ok()
            .and_then(|at| self.front.get(at..));
        let read = match front {
            Some(front) if !front.is_empty() => {
                let count = count.min(front.len());
                buffer[..count].copy_from_slice(&front[..count]);
                count
            }
            _ => {
                let front = u64::try_from(self.front.len()).unwrap_or(0);
                let offset = self.offset + (self.at - front);
                self.file.read_at(&mut buffer[..count], offset)?
            }
        };
        self.at += u64::try_from(read).unwrap_or(0);
        Ok(read)
    }
}

impl Seek for View {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl MediaSource for View {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.length)
    }
}
