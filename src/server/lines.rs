//! The lines of heads of HTTP/1.1 that come in: what hyper drops of them without a trace is remembered.
//! Parses no more than where heads begin: where it is wrong, a request is refused that need not have
//! been, never the other way round.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memchr::{memchr, memchr_iter};

/// What has stood on a connection, ever.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// A Content-Length beside a Transfer-Encoding, or in what need not be a head.
    pub content_length: AtomicBool,
    pub fragment: AtomicBool,
}

const CONTENT_LENGTH: &[u8] = b"content-length:";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";

/// Bytes of a line that are looked at: a Content-Length with its digits, a chunk's size.
const START: usize = 64;

/// What the next bytes are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// Lines of a head; the first of them is the request's.
    #[default]
    Request,
    Fields,
    /// So much of a content, which is not looked at.
    Content(u64),
    /// RFC 9112 §7.1: a line that says a size, so much of a chunk with its line end, lines behind
    /// the last chunk.
    ChunkSize,
    Chunk(u64),
    Trailer,
    /// It cannot be told: any line may be one of a head.
    Lost,
}

/// The lines of heads, across reads. Contents are passed over, as long as they are delimited in the
/// plainest way; behind any other, every line is watched.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) seen: Arc<Seen>,
    at: At,
    /// The line so far.
    start: [u8; START],
    length: usize,
    last: u8,
    hash: bool,
    /// What the head so far says of its content.
    content_length: Option<u64>,
    chunked: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            seen: Arc::default(),
            at: At::default(),
            start: [0; START],
            length: 0,
            last: 0,
            hash: false,
            content_length: None,
            chunked: false,
        }
    }
}

impl Lines {
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        if self.are_between() && is_plain_head(bytes) {
            return;
        }
        while !bytes.is_empty() {
            let (At::Content(left) | At::Chunk(left)) = self.at else {
                bytes = self.take_line(bytes);
                continue;
            };
            let passed = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            bytes = &bytes[passed..];
            let left = left - u64::try_from(passed).unwrap_or(left);
            self.at = match self.at {
                At::Content(_) if left == 0 => At::Request,
                At::Content(_) => At::Content(left),
                _ if left == 0 => At::ChunkSize,
                _ => At::Chunk(left),
            };
        }
    }

    /// Whether a request may begin with the next byte, and none has begun.
    pub(super) fn are_between(&self) -> bool {
        self.at == At::Request && self.length == 0
    }

    /// Takes the rest of a line, or all there is of it.
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = memchr(b'\n', bytes);
        let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let known = self.length.min(START);
        let taken = part.len().min(START - known);
        self.start[known..][..taken].copy_from_slice(&part[..taken]);
        self.length += part.len();
        self.last = part.last().copied().unwrap_or(self.last);
        if matches!(self.at, At::Request | At::Lost) {
            self.hash |= memchr(b'#', part).is_some();
        }
        if end.is_none() {
            return rest;
        }
        self.at = self.end_line();
        (self.length, self.last, self.hash) = (0, 0, false);
        &rest[1..]
    }

    /// What follows the line that has just ended.
    fn end_line(&mut self) -> At {
        let start = &self.start[..self.length.min(START)];
        let is_empty = matches!((self.length, self.last), (0, _) | (1, b'\r'));
        match self.at {
            // RFC 9112 §2.2: empty lines before a request say nothing.
            At::Request if is_empty => At::Request,
            At::Request => {
                if self.hash {
                    self.seen.fragment.store(true, Ordering::Relaxed);
                }
                At::Fields
            }
            At::Fields if is_empty => self.end_head(),
            At::Fields if begins(start, TRANSFER_ENCODING) => {
                self.chunked = true;
                At::Fields
            }
            At::Fields if begins(start, CONTENT_LENGTH) => {
                let said = decimal(start).filter(|_| self.length < START);
                match (said, self.content_length) {
                    (Some(said), None) => self.content_length = Some(said),
                    (Some(said), Some(before)) if said == before => {}
                    _ => return self.lost(),
                }
                At::Fields
            }
            At::Fields => At::Fields,
            // From here on a line ends in CRLF, or hyper ends the connection.
            At::ChunkSize | At::Trailer if self.last != b'\r' => self.lost(),
            At::ChunkSize => match hexadecimal(start) {
                Some(0) => At::Trailer,
                Some(size) => size.checked_add(2).map_or(At::Lost, At::Chunk),
                None => self.lost(),
            },
            At::Trailer if is_empty => At::Request,
            At::Trailer => At::Trailer,
            At::Content(_) | At::Chunk(_) | At::Lost => self.lost(),
        }
    }

    fn end_head(&mut self) -> At {
        let said = (
            self.content_length.take(),
            std::mem::take(&mut self.chunked),
        );
        match said {
            (Some(_), true) => {
                self.seen.content_length.store(true, Ordering::Relaxed);
                At::Lost
            }
            (None, true) => At::ChunkSize,
            (None | Some(0), false) => At::Request,
            (Some(length), false) => At::Content(length),
        }
    }

    /// Any line may be one of a head, this one too.
    fn lost(&mut self) -> At {
        let start = &self.start[..self.length.min(START)];
        if begins(start, CONTENT_LENGTH) || self.content_length.is_some() {
            self.seen.content_length.store(true, Ordering::Relaxed);
        }
        // A method and a blank before any colon, as no field line has them.
        let word = start.iter().position(|byte| !byte.is_ascii_alphabetic());
        if self.hash && word.is_some_and(|at| at > 0 && start[at] == b' ') {
            self.seen.fragment.store(true, Ordering::Relaxed);
        }
        At::Lost
    }
}

/// Whether all of this is one head, as nearly every read is, of which nothing has to be remembered.
fn is_plain_head(bytes: &[u8]) -> bool {
    let mut ends = memchr_iter(b'\n', bytes);
    let Some(first) = ends.next().filter(|end| *end > 1) else {
        return false;
    };
    if memchr(b'#', &bytes[..first]).is_some() {
        return false;
    }
    let mut begin = first + 1;
    for end in ends {
        let line = &bytes[begin..end];
        begin = end + 1;
        match line.first() {
            Some(b'\r') if line.len() == 1 => return begin == bytes.len(),
            Some(b't' | b'T') if begins(line, TRANSFER_ENCODING) => return false,
            Some(b'c' | b'C') if begins(line, CONTENT_LENGTH) => return false,
            Some(_) => {}
            None => return false,
        }
    }
    false
}

fn begins(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|begins| begins.eq_ignore_ascii_case(name))
}

/// The value of a Content-Length line, where it is digits alone.
fn decimal(line: &[u8]) -> Option<u64> {
    let value = line.get(CONTENT_LENGTH.len()..)?.trim_ascii();
    let digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

/// The size of a chunk, before its extensions.
fn hexadecimal(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit())?;
    let (digits, rest) = line.split_at(end);
    if !matches!(rest.trim_ascii_start().first(), None | Some(b';')) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(parts: &[&[u8]]) -> (bool, bool) {
        let mut lines = Lines::default();
        for part in parts {
            lines.take(part);
        }
        let Seen {
            content_length,
            fragment,
        } = &*lines.seen;
        (
            content_length.load(Ordering::Relaxed),
            fragment.load(Ordering::Relaxed),
        )
    }

    #[test]
    fn lines() {
        const PLAIN: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(seen(&[PLAIN]), (false, false));
        assert_eq!(seen(&[b"GET /a#b HTTP/1.1\r\n"]), (false, true));
        assert_eq!(seen(&[b"PUT /a#b HTTP/1.1\r\n"]), (false, true));
        assert_eq!(seen(&[b"\r\n\nGET /a#b HTTP/1.1\n"]), (false, true));
        assert_eq!(seen(&[b"GET /a HTTP/1.1\r\nX: a#b\r\n"]), (false, false));
    }

    /// A request and its content, then one with a fragment, which is seen if it is taken for what
    /// it is.
    #[test]
    fn contents_are_passed_over() {
        const NEXT: &str = "GET /a#b HTTP/1.1\r\n\r\n";
        const BOTH: &str =
            "GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = format!("PUT /x#y HTTP/1.1\r\n\r\n{BOTH}");
        let plain = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let twice = format!("Content-Length: {}\r\n{plain}", body.len());
        let blanks = format!("content-length:\t {} \r\nX: y\r\n\r\n{body}", body.len());
        let size = format!("{:X}", body.len());
        let chunks = |size: &str, trailer: &str| {
            format!("Transfer-Encoding: chunked\r\n\r\n{size}\r\n{body}\r\n0\r\n{trailer}\r\n")
        };
        for (what, message) in [
            ("none", "\r\n".to_owned()),
            ("empty", "Content-Length: 0\r\n\r\n".to_owned()),
            ("by length", plain),
            ("by a length said twice", twice),
            ("by a length among blanks", blanks),
            ("in chunks", chunks(&size, "")),
            (
                "in chunks with extensions",
                chunks(&format!("{size} ; x=\"{size}\""), ""),
            ),
            (
                "in chunks with a long extension",
                chunks(&format!("{size};{}", "x".repeat(99)), ""),
            ),
            ("in chunks with zeros", chunks(&format!("00{size}"), "")),
            (
                "in chunks with a trailer",
                chunks(&size, "Content-Length: 5\r\n"),
            ),
        ] {
            let message = format!("PUT / HTTP/1.1\r\n{message}");
            assert_eq!(seen(&[message.as_bytes()]), (false, false), "{what}");
            let next = format!("{message}{NEXT}");
            assert_eq!(seen(&[next.as_bytes()]), (false, true), "{what}");
            let both = format!("{message}{BOTH}");
            assert_eq!(seen(&[both.as_bytes()]), (true, false), "{what}");
        }
    }

    /// What is delimited in any other way may end sooner than is thought: both are then seen in
    /// whatever follows.
    #[test]
    fn behind_what_cannot_be_told_every_line_is_watched() {
        let long = format!("Content-Length: {}5", "0".repeat(80));
        for message in [
            "Content-Length: +5\r\n\r\n",
            "Content-Length: 5, 5\r\n\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "Content-Length: 99999999999999999999\r\n\r\n",
            &format!("{long}\r\n\r\n"),
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n",
            "Transfer-Encoding: chunked\r\n\r\nx\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5 5\r\n",
            "Transfer-Encoding: chunked\r\n\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
            "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\n",
        ] {
            let message = format!("PUT / HTTP/1.1\r\n{message}");
            let next = format!("{message}PUT /a#b HTTP/1.1\r\nContent-Length: 5\r\n");
            assert_eq!(seen(&[next.as_bytes()]), (true, true), "{message}");
        }
    }

    proptest::proptest! {
        /// One read or many: what is passed over at once is what would have been, byte by byte.
        #[test]
        fn a_head_that_comes_at_once_is_none_else(
            lines in proptest::collection::vec(0..12_usize, 0..9),
            ends in proptest::collection::vec(proptest::bool::weighted(0.9), 9),
        ) {
            const LINES: [&str; 12] = [
                "", "GET /a HTTP/1.1", "PUT /a#b HTTP/1.1", "Host: a", "x: #", "content-length: 5", "Connection: x",
                "Content-Length: 0", "Transfer-Encoding: chunked", "te: trailers", "5", "0",
            ];
            let line = |(line, crlf): (&usize, &bool)| {
                format!("{}{}", LINES[*line], if *crlf { "\r\n" } else { "\n" })
            };
            let text: String = lines.iter().zip(&ends).map(line).collect();
            let (mut once, mut bytewise) = (Lines::default(), Lines::default());
            for text in [&text, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &text] {
                once.take(text.as_bytes());
                text.bytes().for_each(|byte| bytewise.take(&[byte]));
            }
            let state = |lines: &Lines| {
                let line = lines.start[..lines.length.min(START)].to_vec();
                let length = (lines.content_length, lines.chunked);
                format!("{:?} {line:?} {} {length:?} {:?}", lines.at, lines.hash, lines.seen)
            };
            proptest::prop_assert_eq!(state(&once), state(&bytewise));
        }

        #[test]
        fn reads_may_cut_a_line_anywhere(cuts in proptest::collection::vec(1..9_usize, 1..9)) {
            let text = b"PUT /a HTTP/1.1\r\ncontent-length: 7\r\n\r\nGET /#\nPUT / HTTP/1.1\r\n\
                transfer-encoding: chunked\r\n\r\n7;a=b\r\nGET /#\n\r\n0\r\na: b\r\n\r\n\
                HEAD /x#y HTTP/1.1\r\nHost: a\r\ncOnTeNt-LeNgTh: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut rest = &text[..];
            let mut parts = Vec::new();
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                parts.push(part);
                rest = after;
            }
            parts.push(rest);
            proptest::prop_assert_eq!(seen(&parts), (true, true));
        }
    }
}
