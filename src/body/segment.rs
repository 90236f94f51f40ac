//! File bytes that reach a socket without passing through memory, under unmodified hyper.
//!
//! hyper takes any [`Buf`] as body data, and over an I/O object that writes vectored it hands
//! buffers on as slices, unread. A file [`Segment`] shows a slice of a static placeholder there, and
//! puts itself on its connection's [`Lane`]; the connection's writer knows placeholder slices by
//! their address, takes the segment off the lane, and sends it with sendfile(2).
//!
//! No placeholder byte can be sent: whoever asks for a segment's bytes (`chunk`: hyper when it
//! flattens, HTTP/2, TLS) gets the file's own, read there and then; and a segment cannot be made
//! without the lane of a writer that knows it.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Buf, Bytes, BytesMut};

/// Longest file segment, in bytes.
pub const MAX_SEGMENT: usize = 1 << 20;

/// What stands for file bytes in a vectored write. Never read: it costs address space only.
static PLACEHOLDER: [u8; MAX_SEGMENT] = [0; MAX_SEGMENT];

/// Most bytes that are read at once for somebody who wants to see a segment's bytes.
const FLAT: usize = 64 * 1024;

/// Whether a slice stands for file bytes.
pub(crate) fn is_placeholder(slice: &[u8]) -> bool {
    !slice.is_empty() && PLACEHOLDER.as_ptr_range().contains(&slice.as_ptr())
}

/// A piece of a body on its way to the socket: bytes, or a range of an open file.
pub struct Segment(Kind);

enum Kind {
    Memory(Bytes),
    File(FilePart),
}

struct FilePart {
    file: Arc<File>,
    offset: u64,
    left: usize,
    /// More of the same response follows.
    more: bool,
    lane: Lane,
    /// The next bytes, once somebody has asked to see them.
    flat: OnceLock<Bytes>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Memory(bytes) => f.debug_tuple("Memory").field(&bytes.len()).finish(),
            Kind::File(part) => f
                .debug_struct("File")
                .field("offset", &part.offset)
                .field("left", &part.left)
                .finish_non_exhaustive(),
        }
    }
}

impl From<Bytes> for Segment {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Memory(bytes))
    }
}

impl Segment {
    /// `length` bytes of `file` from `offset` on, at most [`MAX_SEGMENT`], for the connection whose
    /// lane this is. The bytes have to be there: a file that ends before them cuts the connection.
    /// `more` says that the response goes on behind them.
    pub(super) fn of_file(
        file: Arc<File>,
        offset: u64,
        length: usize,
        more: bool,
        lane: Lane,
    ) -> Self {
        debug_assert!(
            length <= MAX_SEGMENT,
            "a segment is no longer than its placeholder"
        );
        Self(Kind::File(FilePart {
            file,
            offset,
            left: length.min(MAX_SEGMENT),
            more,
            lane,
            flat: OnceLock::new(),
        }))
    }
}

impl FilePart {
    /// The next bytes themselves. Where they cannot be read, none, and the connection is ended:
    /// whoever copies a shorter body than was promised would shift all that follows.
    fn read(&self) -> Bytes {
        let mut buffer = BytesMut::zeroed(self.left.min(FLAT));
        match self.file.read_exact_at(&mut buffer, self.offset) {
            Ok(()) => {
                self.lane.count_copied(buffer.len());
                buffer.freeze()
            }
            Err(_) => {
                self.lane.break_off();
                Bytes::new()
            }
        }
    }
}

impl Buf for Segment {
    fn remaining(&self) -> usize {
        match &self.0 {
            Kind::Memory(bytes) => bytes.len(),
            Kind::File(part) => part.left,
        }
    }

    fn chunk(&self) -> &[u8] {
        match &self.0 {
            Kind::Memory(bytes) => bytes,
            Kind::File(part) if part.left == 0 => &[],
            Kind::File(part) => part.flat.get_or_init(|| part.read()),
        }
    }

    fn advance(&mut self, count: usize) {
        match &mut self.0 {
            Kind::Memory(bytes) => bytes.advance(count),
            Kind::File(part) => {
                assert!(
                    count <= part.left,
                    "cannot advance past the end of a segment"
                );
                part.left -= count;
                part.offset += u64::try_from(count).unwrap_or(u64::MAX);
                match part.flat.get_mut() {
                    Some(flat) if flat.len() > count => flat.advance(count),
                    _ => drop(part.flat.take()),
                }
            }
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let Some(slice) = slices.first_mut() else {
            return 0;
        };
        match &self.0 {
            Kind::Memory(bytes) if bytes.is_empty() => 0,
            Kind::Memory(bytes) => {
                *slice = IoSlice::new(bytes);
                1
            }
            Kind::File(part) if part.left == 0 => 0,
            Kind::File(part) => {
                *slice = IoSlice::new(&PLACEHOLDER[..part.left]);
                part.lane.announce(Announced {
                    file: Arc::clone(&part.file),
                    offset: part.offset,
                    length: part.left,
                    more: part.more,
                });
                1
            }
        }
    }
}

/// A segment whose placeholder is in the very write that follows.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) length: usize,
    pub(crate) more: bool,
}

/// The way of file segments from a body to its connection's writer. A writer gives out its own.
#[derive(Debug, Clone, Default)]
pub struct Lane(Arc<Mutex<Traffic>>);

#[derive(Debug, Default)]
struct Traffic {
    announced: VecDeque<Announced>,
    broken: bool,
    copied: u64,
}

impl Lane {
    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        // Nothing that holds the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, segment: Announced) {
        self.traffic().announced.push_back(segment);
    }

    /// Ends the connection with the next write: promised bytes cannot be had.
    pub(crate) fn break_off(&self) {
        self.traffic().broken = true;
    }

    /// Whether promised bytes could not be had.
    pub(super) fn is_broken(&self) -> bool {
        self.traffic().broken
    }

    fn count_copied(&self, bytes: usize) {
        self.traffic().copied += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// Bytes of file segments that were read into memory because somebody looked at them.
    #[must_use]
    pub fn copied(&self) -> u64 {
        self.traffic().copied
    }

    /// The segments announced since the last call, of which the first belongs to the first
    /// placeholder.
    pub(crate) fn take(&self) -> io::Result<VecDeque<Announced>> {
        let mut traffic = self.traffic();
        if traffic.broken {
            return Err(io::Error::other("promised bytes could not be read"));
        }
        Ok(std::mem::take(&mut traffic.announced))
    }
}
