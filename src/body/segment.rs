//! File bytes that reach a socket without passing through memory, under unmodified hyper.
//!
//! hyper takes any [`Buf`] as body data, and over an I/O object that writes vectored it hands
//! buffers on as slices, unread. A file [`Segment`] shows a slice of a static placeholder there, and
//! puts itself on its connection's [`Lane`]; the connection's writer knows placeholder slices by
//! their address, takes the segment off the lane, and sends it with sendfile(2).
//!
//! A slice can be read by whoever gets it, so a placeholder is shown to nobody but the lane's own
//! writer. It makes itself known first: a body's first segment shows an empty slice at an address
//! that only this body has, and the writer that finds it among the slices of a write says so. (Whoever
//! joins hyper to the writer and the bodies to hyper, as this crate's server does, introduces them: it
//! costs a write less.) Over any other writer an empty slice is no byte, hyper takes a write of none for
//! an error, and the connection ends with the head. So under hyper no placeholder byte can be sent:
//!
//! - Nobody makes a lane but a writer, and a lane closes with its writer: taken apart or dropped.
//! - On an open lane, a body whose writer has not seen it shows no byte.
//! - On a closed lane, and to whoever asks for a segment's bytes (`chunk`: hyper when it flattens,
//!   HTTP/2, TLS), the file's own are shown, read there and then.
//!
//! What remains is code that takes slices meant for one writer and gives them to another. That is
//! noticed when the segment is advanced by what its writer has not sent: the lane breaks, nothing
//! more of it is shown, and its writer fails with the next call, before it writes.

use std::fmt;
use std::fs::File;
use std::io::IoSlice;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{Buf, Bytes, BytesMut};

use super::lane::{Announced, Asking, Lane, MAX_SEGMENT, Pass, Ticket, Traffic, placeholder};

/// Most bytes that are read at once for somebody who wants to see a segment's bytes.
const FLAT: usize = 64 * 1024;

/// Fills the rest of a write with slices of no bytes, so that what is behind a segment cannot be
/// written before it.
fn close_off<'a>(slices: &mut [IoSlice<'a>], nothing: &'a [u8]) {
    slices.fill(IoSlice::new(nothing));
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
    traffic: Arc<Traffic>,
    ticket: Ticket,
    /// What was shown last is a placeholder.
    shown: AtomicBool,
    /// The next bytes, once somebody has asked to see them; none where they could not be read.
    flat: OnceLock<Bytes>,
    /// Somebody who copies was shown that the next bytes cannot be read.
    given_up: AtomicBool,
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
    /// `more` says that the response goes on behind them. Segments of one body come by one `lane`,
    /// and those of two by two.
    pub(super) fn of_file(
        file: Arc<File>,
        offset: u64,
        length: usize,
        more: bool,
        lane: &mut Lane,
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
            traffic: Arc::clone(&lane.traffic),
            ticket: lane.ticket(),
            shown: AtomicBool::new(false),
            flat: OnceLock::new(),
            given_up: AtomicBool::new(false),
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
                self.traffic.count_copied(buffer.len());
                buffer.freeze()
            }
            Err(_) => {
                self.traffic.break_off();
                Bytes::new()
            }
        }
    }

    /// The next bytes, for somebody who copies them.
    fn bytes(&self) -> &[u8] {
        self.shown.store(false, Ordering::Relaxed);
        let bytes = self.flat.get_or_init(|| self.read());
        if bytes.is_empty() {
            // Who copies as long as there is something would do so for ever.
            self.given_up.store(true, Ordering::Relaxed);
        }
        bytes
    }

    /// Shows what may be shown to whoever is going to write it.
    fn show<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.shown.store(false, Ordering::Relaxed);
        if self.traffic.is_broken() {
            close_off(slices, &[]);
            slices.len()
        } else if self.flat.get().is_some() || self.traffic.is_closed() {
            self.show_bytes(slices)
        } else if let Some(pass) = self.ticket.unknown() {
            self.show_mark(pass, slices)
        } else {
            self.show_placeholder(slices)
        }
    }

    fn show_bytes<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let bytes = self.flat.get_or_init(|| self.read());
        if let Some((first, rest)) = slices.split_first_mut() {
            *first = IoSlice::new(bytes);
            if bytes.len() == self.left {
                return 1;
            }
            close_off(rest, &[]);
        }
        slices.len()
    }

    fn show_placeholder<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let Some(slice) = slices.first_mut() else {
            return 0;
        };
        *slice = IoSlice::new(placeholder(self.left));
        self.shown.store(true, Ordering::Relaxed);
        self.traffic.announce(Announced {
            file: Arc::clone(&self.file),
            offset: self.offset,
            length: self.left,
            first: self.ticket.begins(),
            more: self.more,
        });
        1
    }

    fn show_mark<'a>(&'a self, pass: &'a Arc<Pass>, slices: &mut [IoSlice<'a>]) -> usize {
        if let Some((first, rest)) = slices.split_first_mut() {
            *first = IoSlice::new(pass.mark());
            // Of the placeholder, so that the writer of another lane knows that this is not for it.
            close_off(rest, placeholder(0));
            let (length, more) = (self.left, self.more);
            let pass = Arc::clone(pass);
            self.traffic.ask(Asking { pass, length, more });
        }
        slices.len()
    }
}

impl Buf for Segment {
    fn remaining(&self) -> usize {
        match &self.0 {
            Kind::Memory(bytes) => bytes.len(),
            Kind::File(part) if part.given_up.load(Ordering::Relaxed) => 0,
            Kind::File(part) => part.left,
        }
    }

    fn chunk(&self) -> &[u8] {
        match &self.0 {
            Kind::Memory(bytes) => bytes,
            Kind::File(part) if part.left == 0 => &[],
            Kind::File(part) => part.bytes(),
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
                if *part.shown.get_mut() {
                    part.traffic.settle(count);
                }
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
        match &self.0 {
            Kind::Memory(bytes) => bytes.chunks_vectored(slices),
            Kind::File(part) if part.left == 0 => 0,
            Kind::File(part) => part.show(slices),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write as _};

    use super::super::lane::{Collected, Terminus};
    use super::*;

    const LENGTH: usize = 100_000;

    /// A file of ones, and a segment of all of it.
    fn segment(lane: &mut Lane) -> (tempfile::NamedTempFile, Segment) {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(&vec![1; LENGTH]).unwrap();
        let file = Arc::new(named.reopen().unwrap());
        let segment = Segment::of_file(file, 0, LENGTH, false, lane);
        (named, segment)
    }

    /// What a writer is shown behind a head, and what is made of it.
    fn write(terminus: &Terminus, segment: &Segment) -> (Vec<u8>, io::Result<Collected>) {
        let mut slices = [IoSlice::new(b"head"); 8];
        let count = segment.chunks_vectored(&mut slices[1..]);
        let shown = slices[1..=count].iter().flat_map(|slice| slice.to_vec());
        (shown.collect(), terminus.collect(&slices[..=count]))
    }

    fn known(terminus: &Terminus, lane: &mut Lane) -> (tempfile::NamedTempFile, Segment) {
        let (file, segment) = segment(lane);
        let (shown, collected) = write(terminus, &segment);
        assert!(shown.is_empty());
        let beginning = matches!(
            collected,
            Ok(Collected::Beginning {
                before: 1,
                length: LENGTH,
                more: false
            })
        );
        assert!(beginning, "{collected:?}");
        (file, segment)
    }

    #[test]
    fn its_writer_gets_a_placeholder_once_it_knows_the_body() {
        let terminus = Terminus::default();
        let (_file, mut segment) = known(&terminus, &mut terminus.lane());
        for left in [LENGTH, LENGTH - 10] {
            let (shown, collected) = write(&terminus, &segment);
            assert_eq!(shown, vec![0; left]);
            let Ok(Collected::Segment {
                before: 1,
                length,
                segment: announced,
            }) = collected
            else {
                panic!("{collected:?}");
            };
            assert_eq!((length, announced.length), (left, left));
            terminus.sent(10);
            segment.advance(10);
        }
        assert_eq!(terminus.lane().copied(), 0);
    }

    #[test]
    fn who_is_introduced_to_its_writer_begins_at_once() {
        let (terminus, other) = (Terminus::default(), Terminus::default());
        let mut lane = terminus.lane();
        lane.introduce(&other.lane());
        let (_file, stranger) = segment(&mut lane);
        let (shown, collected) = write(&terminus, &stranger);
        assert!(shown.is_empty());
        assert!(matches!(collected, Ok(Collected::Beginning { .. })));

        let mut lane = terminus.lane();
        lane.introduce(&terminus.lane());
        let (_file, own) = segment(&mut lane);
        for begins in [true, false] {
            let (shown, collected) = write(&terminus, &own);
            assert_eq!(shown, vec![0; LENGTH]);
            let Ok(Collected::Segment { segment, .. }) = collected else {
                panic!("{collected:?}");
            };
            assert_eq!(segment.first, begins);
        }
    }

    #[test]
    fn any_other_writer_gets_no_byte_and_fails() {
        let (terminus, other) = (Terminus::default(), Terminus::default());
        let mut lane = terminus.lane();
        let _known = known(&terminus, &mut lane);
        let (_file, stranger) = segment(&mut terminus.lane());
        for _ in 0..2 {
            let (shown, collected) = write(&other, &stranger);
            assert!(shown.is_empty());
            collected.unwrap_err();
        }
        // Its own is none the wiser, and none the worse.
        let head = terminus.collect(&[IoSlice::new(b"head")]);
        assert!(matches!(head, Ok(Collected::Memory)), "{head:?}");
        let (shown, _) = write(&other, &stranger);
        assert!(shown.is_empty());
    }

    #[test]
    fn bytes_that_nobody_sent_are_noticed_when_they_are_passed_over() {
        let terminus = Terminus::default();
        let (_file, mut segment) = known(&terminus, &mut terminus.lane());
        let (shown, collected) = write(&terminus, &segment);
        assert_eq!(shown.len(), LENGTH);
        collected.unwrap();
        terminus.sent(9);
        segment.advance(10);
        let (shown, collected) = write(&terminus, &segment);
        assert!(shown.is_empty());
        collected.unwrap_err();
        assert!(segment.has_remaining());
    }

    #[test]
    fn bytes_that_were_sent_and_not_passed_over_are_not_sent_again() {
        let terminus = Terminus::default();
        let (_file, mut segment) = known(&terminus, &mut terminus.lane());
        write(&terminus, &segment).1.unwrap();
        terminus.sent(10);
        segment.advance(9);
        write(&terminus, &segment).1.unwrap_err();
    }

    #[test]
    fn without_its_writer_it_shows_the_files_bytes() {
        let (terminus, other) = (Terminus::default(), Terminus::default());
        let mut lane = terminus.lane();
        let (_file, mut segment) = known(&terminus, &mut lane);
        assert!(lane.is_open());
        drop(terminus);
        assert!(!lane.is_open());
        for left in [FLAT, FLAT - 10] {
            let (shown, collected) = write(&other, &segment);
            assert_eq!(shown, vec![1; left]);
            assert!(matches!(collected, Ok(Collected::Memory)), "{collected:?}");
            segment.advance(10);
        }
        segment.advance(FLAT - 20);
        let (shown, _) = write(&other, &segment);
        assert_eq!(shown, vec![1; LENGTH - FLAT]);
        assert_eq!(lane.copied(), u64::try_from(LENGTH).unwrap());
    }

    #[test]
    fn what_is_behind_it_is_not_shown_before_it() {
        let terminus = Terminus::default();
        let (_file, segment) = segment(&mut terminus.lane());
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(segment.chunks_vectored(&mut slices), 8);
        drop(terminus);
        assert_eq!(segment.chunks_vectored(&mut slices), 8);
        assert_eq!(slices[0].len(), FLAT);
        assert_eq!(segment.chunks_vectored(&mut []), 0);
    }

    /// As h2 copies: for as long as there is something.
    #[test]
    fn who_copies_what_cannot_be_read_comes_to_an_end_and_its_writer_fails() {
        let terminus = Terminus::default();
        let (file, mut segment) = segment(&mut terminus.lane());
        file.as_file().set_len(10).unwrap();
        assert_eq!(segment.remaining(), LENGTH);
        let mut copy = BytesMut::new();
        bytes::BufMut::put(&mut copy, &mut segment);
        assert!(copy.is_empty());
        terminus.collect(&[]).unwrap_err();
        assert!(terminus.lane().is_broken());
    }

    #[test]
    fn who_writes_what_cannot_be_read_is_shown_none_and_not_its_end() {
        let terminus = Terminus::default();
        let (file, segment) = segment(&mut terminus.lane());
        file.as_file().set_len(10).unwrap();
        drop(terminus);
        let mut slices = [IoSlice::new(b"x"); 3];
        assert_eq!(segment.chunks_vectored(&mut slices), 3);
        assert!(slices.iter().all(|slice| slice.is_empty()));
        assert!(segment.has_remaining());
    }

    #[test]
    fn a_write_whose_placeholders_and_segments_differ_is_none() {
        let terminus = Terminus::default();
        let mut lane = terminus.lane();
        // One placeholder, of two that were shown.
        let (_file, segment) = known(&terminus, &mut lane);
        segment.chunks_vectored(&mut [IoSlice::new(&[]); 8]);
        write(&terminus, &segment).1.unwrap_err();
        // One that is longer than its segment.
        segment.chunks_vectored(&mut [IoSlice::new(&[]); 8]);
        let longer = [IoSlice::new(placeholder(LENGTH + 1))];
        terminus.collect(&longer).unwrap_err();
        write(&terminus, &segment).1.unwrap();
    }

    #[test]
    fn a_strangers_mark_is_none_where_ones_own_was_to_come() {
        let (terminus, other) = (Terminus::default(), Terminus::default());
        let (_file, own) = segment(&mut terminus.lane());
        let (_other_file, stranger) = segment(&mut other.lane());
        own.chunks_vectored(&mut [IoSlice::new(&[]); 8]);
        write(&terminus, &stranger).1.unwrap_err();
    }
}
