//! A body in chunks, RFC 9112 §7.1: which bytes are content, and where it ends. It keeps no content, and
//! reads no socket.

use super::{size, wide};

/// Longest line beside the content, in bytes.
const LINE: usize = 4 << 10;
/// Most fields behind the last chunk.
const TRAILERS: usize = 64;

/// What came of a body so far.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    at: Place,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
}

/// What comes next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    /// So many bytes of a chunk, at least 1.
    Data(u64),
    DataEnd,
    /// Behind the last chunk and so many fields.
    Trailer(usize),
    Over,
}

impl Chunked {
    /// The next content in `bytes`, of which it and what stood before it are taken off; none if more
    /// bytes are needed, or none will come.
    ///
    /// # Errors
    /// What it is instead of chunks.
    pub(super) fn next<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<Option<&'a [u8]>, &'static str> {
        while !self.is_over() && !bytes.is_empty() {
            if let Place::Data(left) = self.at {
                let (data, rest) = bytes.split_at(bytes.len().min(size(left)));
                *bytes = rest;
                self.at = match left - wide(data.len()) {
                    0 => Place::DataEnd,
                    left => Place::Data(left),
                };
                return Ok(Some(data));
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            *bytes = rest;
            self.line.extend_from_slice(part);
            if self.line.len() > LINE {
                return Err("a line of more than 4 KiB between chunks");
            }
            if end.is_some() {
                self.at = after(self.at, &self.line)?;
                self.line.clear();
            }
        }
        Ok(None)
    }

    /// Whether all of it has come.
    pub(super) fn is_over(&self) -> bool {
        self.at == Place::Over
    }
}

/// What comes after a line.
fn after(at: Place, line: &[u8]) -> Result<Place, &'static str> {
    match (at, line) {
        (Place::DataEnd, b"\r\n") => Ok(Place::Size),
        (Place::DataEnd, _) => Err("a chunk that is longer than its size"),
        (Place::Trailer(_), b"\r\n") => Ok(Place::Over),
        (Place::Trailer(fields), _) => match line.strip_suffix(b"\r\n") {
            Some(field) if field.contains(&b':') && fields < TRAILERS => {
                Ok(Place::Trailer(fields + 1))
            }
            _ => Err("a trailer that is none"),
        },
        _ => match httparse::parse_chunk_size(line) {
            // httparse takes a line without a digit for the last chunk.
            Ok(httparse::Status::Complete((_, count))) if line[0].is_ascii_hexdigit() => {
                Ok(match count {
                    0 => Place::Trailer(0),
                    count => Place::Data(count),
                })
            }
            _ => Err("a chunk's size that is none"),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The content of bytes that come in these parts, what is left behind it, and whether it is whole.
    fn decoded<'a>(
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, Vec<u8>, bool), &'static str> {
        let (mut chunked, mut content, mut left) = (Chunked::default(), Vec::new(), Vec::new());
        for mut part in parts {
            while let Some(data) = chunked.next(&mut part)? {
                assert!(!data.is_empty());
                content.extend_from_slice(data);
            }
            left.extend_from_slice(part);
        }
        Ok((content, left, chunked.is_over()))
    }

    #[test]
    fn bodies() {
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(LINE));
        let most = format!("0\r\n{}\r\n", "a:b\r\n".repeat(TRAILERS));
        let more = format!("0\r\n{}\r\n", "a:b\r\n".repeat(TRAILERS + 1));
        for (body, expect) in [
            ("5\r\nhello\r\n0\r\n\r\n", Ok(("hello", "", true))),
            ("0\r\n\r\n", Ok(("", "", true))),
            ("000\r\n\r\n", Ok(("", "", true))),
            (
                "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
                Ok(("hello world", "", true)),
            ),
            (
                "A\r\n0123456789\r\n0a\r\n0123456789\r\n0\r\n\r\n",
                Ok(("01234567890123456789", "", true)),
            ),
            ("2\r\n\r\n\r\n0\r\n\r\n", Ok(("\r\n", "", true))),
            // §7.1.1: extensions that nobody knows are passed over.
            (
                "5;a=\"b;c\";d\r\nhello\r\n0;e\r\n\r\n",
                Ok(("hello", "", true)),
            ),
            ("5 ;a\r\nhello\r\n0\r\n\r\n", Ok(("hello", "", true))),
            // §7.1.2: trailers.
            (
                "1\r\na\r\n0\r\nDigest: x\r\nB: y\r\n\r\n",
                Ok(("a", "", true)),
            ),
            (&most, Ok(("", "", true))),
            // What comes behind it is not its.
            ("1\r\na\r\n0\r\n\r\nHTTP/1.1", Ok(("a", "HTTP/1.1", true))),
            // What has not come.
            ("", Ok(("", "", false))),
            ("5", Ok(("", "", false))),
            ("5\r\nhel", Ok(("hel", "", false))),
            ("5\r\nhello", Ok(("hello", "", false))),
            ("5\r\nhello\r\n", Ok(("hello", "", false))),
            ("5\r\nhello\r\n0\r\n", Ok(("hello", "", false))),
            ("5\r\nhello\r\n0\r\nA: b\r\n", Ok(("hello", "", false))),
            // What is none.
            ("\r\n", Err("a chunk's size that is none")),
            (";a\r\n", Err("a chunk's size that is none")),
            ("g\r\n", Err("a chunk's size that is none")),
            ("-1\r\n", Err("a chunk's size that is none")),
            ("0x5\r\nhello\r\n", Err("a chunk's size that is none")),
            ("5\nhello\r\n", Err("a chunk's size that is none")),
            ("5 5\r\nhello\r\n", Err("a chunk's size that is none")),
            ("10000000000000000\r\n", Err("a chunk's size that is none")),
            (
                "5\r\nhello0\r\n\r\n",
                Err("a chunk that is longer than its size"),
            ),
            ("5\r\nhello\n", Err("a chunk that is longer than its size")),
            ("0\r\nHTTP/1.1 200 OK\r\n", Err("a trailer that is none")),
            ("0\r\nA: b\n\r\n", Err("a trailer that is none")),
            (&more, Err("a trailer that is none")),
            (&long, Err("a line of more than 4 KiB between chunks")),
        ] {
            let expect = expect.map(|(content, left, whole)| {
                (content.as_bytes().to_vec(), left.as_bytes().to_vec(), whole)
            });
            assert_eq!(decoded([body.as_bytes()]), expect, "{body:?}");
            // The same a byte at a time.
            assert_eq!(decoded(body.as_bytes().chunks(1)), expect, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_put_into_chunks_comes_out_of_them(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
            extension in "(;[a-z]{1,3})?",
            trailer in "([A-Z]: [a-z]{0,9}\r\n){0,2}",
            behind in "[ -~]{0,9}",
            read in 1..64_usize,
            cut: prop::sample::Index,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:x}{extension}\r\n", chunk.len()).into_bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(format!("0{extension}\r\n{trailer}\r\n").into_bytes());
            let content = chunks.concat();
            let cut = cut.index(body.len());
            let (part, left, whole) = decoded(body[..cut].chunks(read)).unwrap();
            prop_assert!(content.starts_with(&part) && left.is_empty() && !whole);
            body.extend(behind.as_bytes());
            let found = decoded(body.chunks(read));
            prop_assert_eq!(found, Ok((content, behind.into_bytes(), true)));
        }

        #[test]
        fn whatever_comes_in_whatever_pieces_is_the_same(bytes: Vec<u8>, read in 1..9_usize) {
            prop_assert_eq!(decoded([&bytes[..]]), decoded(bytes.chunks(read)));
        }
    }
}
