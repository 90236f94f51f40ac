//! A response's head, as far as a measurement has to look at it.

use std::str::FromStr;

/// Longest head that is taken, in bytes.
const MAX: usize = 16 << 10;
/// Most fields of a head.
const FIELDS: usize = 64;

/// What a head says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) status: u16,
    pub(super) length: Option<u64>,
    /// First, last and complete length.
    pub(super) range: Option<(u64, u64, u64)>,
    pub(super) etag: Option<&'a [u8]>,
    /// Whether the body comes in chunks.
    pub(super) chunked: bool,
    /// Whether the server ends the connection after this response.
    pub(super) closes: bool,
    /// Bytes of the head itself.
    pub(super) size: usize,
}

impl<'a> Head<'a> {
    /// The head at the beginning of `bytes`; none if more bytes are needed.
    ///
    /// # Errors
    /// Why it is no head.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Option<Self>, String> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let size = match response.parse(bytes) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) if bytes.len() < MAX => return Ok(None),
            Ok(httparse::Status::Partial) => return Err("a head of more than 16 KiB".to_owned()),
            Err(error) => return Err(format!("a head that is none: {error}")),
        };
        let mut head = Self {
            status: response.code.unwrap_or_default(),
            length: None,
            range: None,
            etag: None,
            chunked: false,
            closes: response.version == Some(0),
            size,
        };
        for field in response.headers.iter() {
            head.take(field.name, field.value)?;
        }
        // RFC 9112 §6.1 and §6.2: HTTP/1.0 knows no chunks, and they have no length beside them.
        if head.chunked && (response.version == Some(0) || head.length.is_some()) {
            return Err("a Transfer-Encoding where none may be".to_owned());
        }
        // §6.3: a body with neither ends with its connection.
        head.closes |= !head.chunked && head.length.is_none();
        Ok(Some(head))
    }

    /// What a head of HTTP/2 says.
    ///
    /// # Errors
    /// Why it is none that can be checked.
    pub(super) fn of(parts: &'a http::response::Parts) -> Result<Self, String> {
        let mut head = Self {
            status: parts.status.as_u16(),
            length: None,
            range: None,
            etag: None,
            chunked: false,
            closes: false,
            size: 0,
        };
        for (name, value) in &parts.headers {
            head.take(name.as_str(), value.as_bytes())?;
        }
        Ok(head)
    }

    /// The body's length, if it is known before its end: a range needs none beside its own.
    pub(super) fn promised(&self) -> Option<u64> {
        let range = |(first, last, _): (u64, u64, u64)| last.checked_sub(first)?.checked_add(1);
        self.length.or_else(|| self.range.and_then(range))
    }

    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<(), String> {
        if name.eq_ignore_ascii_case("content-length") {
            let length = number(value).ok_or("a malformed Content-Length")?;
            // RFC 9112 §6.3: two that differ are an error.
            if self.length.is_some_and(|before| before != length) {
                return Err("two Content-Lengths".to_owned());
            }
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case("content-range") {
            self.range = Some(content_range(value).ok_or("a malformed Content-Range")?);
        } else if name.eq_ignore_ascii_case("etag") {
            self.etag = Some(value);
        } else if name.eq_ignore_ascii_case("connection") {
            self.closes |= value.eq_ignore_ascii_case(b"close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a Transfer-Encoding that is more than chunked".to_owned());
            }
            self.chunked = true;
        }
        Ok(())
    }
}

fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    text.parse().ok()
}

/// `bytes FIRST-LAST/COMPLETE`, RFC 9110 §14.4; `bytes */COMPLETE` of a 416 stands for no range.
fn content_range(value: &[u8]) -> Option<(u64, u64, u64)> {
    let value = value.strip_prefix(b"bytes ")?;
    let slash = value.iter().position(|byte| *byte == b'/')?;
    let (range, complete) = (&value[..slash], &value[slash + 1..]);
    if range == b"*" {
        return Some((1, 0, number(complete)?));
    }
    let dash = range.iter().position(|byte| *byte == b'-')?;
    Some((
        number(&range[..dash])?,
        number(&range[dash + 1..])?,
        number(complete)?,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARTIAL: &[u8] = b"HTTP/1.1 206 Partial Content\r\nServer: x\r\ncontent-length: 10\r\n\
        ETag: \"a\"\r\nContent-Range: bytes 5-14/100\r\n\r\nabcdefghij";

    #[test]
    fn a_partial_response() {
        let head = Head::parse(PARTIAL).unwrap().unwrap();
        assert_eq!((head.status, head.length), (206, Some(10)));
        assert_eq!(head.range, Some((5, 14, 100)));
        assert_eq!(head.etag, Some(&b"\"a\""[..]));
        assert!(!head.closes);
        assert_eq!(&PARTIAL[head.size..], b"abcdefghij");
    }

    #[test]
    fn a_range_whose_length_is_not_told_has_the_length_of_the_range() {
        for (field, chunked) in [("Transfer-Encoding: Chunked\r\n", true), ("", false)] {
            let head = format!("HTTP/1.1 206 x\r\n{field}Content-Range: bytes 5-14/100\r\n\r\n");
            let head = Head::parse(head.as_bytes()).unwrap().unwrap();
            assert_eq!((head.chunked, head.promised()), (chunked, Some(10)));
            assert_eq!(head.closes, !chunked);
        }
    }

    #[test]
    fn every_cut_of_a_head_asks_for_more() {
        let size = Head::parse(PARTIAL).unwrap().unwrap().size;
        for cut in 0..size {
            assert_eq!(Head::parse(&PARTIAL[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn connections_that_end() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert!(Head::parse(head.as_bytes()).unwrap().unwrap().closes);
        }
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for bad in [
            "SPDY/1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 206 Partial\r\nContent-Range: bytes 1/5\r\n\r\n",
            "HTTP/1.1 206 Partial\r\nContent-Range: bytes 1-99999999999999999999/5\r\n\r\n",
        ] {
            assert!(Head::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let endless = [b"HTTP/1.1 200 OK\r\nX: ", &[b'x'; MAX][..]].concat();
        assert!(Head::parse(&endless).is_err());
    }
    proptest! {
        #[test]
        fn whatever_comes_is_a_head_or_none(
            bytes: Vec<u8>,
            name in "(?i)(content-(range|length)|transfer-encoding|etag|connection|x)",
            value in "[ -~]{0,30}",
        ) {
            let _ = Head::parse(&bytes);
            let text = format!("HTTP/1.1 206 x\r\n{name}: {value}\r\n\r\nbody");
            if let Ok(Some(head)) = Head::parse(text.as_bytes()) {
                prop_assert_eq!(&text[head.size..], "body");
            }
        }
    }
}
