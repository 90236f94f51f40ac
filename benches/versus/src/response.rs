//! As much of a response's head as a measurement must look at.

/// What a head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: u64,
    /// First, last and complete length.
    pub(crate) range: Option<(u64, u64, u64)>,
    /// Whether the server ends the connection after this response.
    pub(crate) closes: bool,
    /// Bytes of the head itself.
    pub(crate) size: usize,
}

/// Longest head that is taken.
pub(crate) const MAX_HEAD: usize = 16 << 10;

impl Head {
    /// The head at the beginning of `bytes`; none if more bytes are needed.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return match bytes.len() {
                ..MAX_HEAD => Ok(None),
                _ => Err("a head of more than 16 KiB".to_owned()),
            };
        };
        let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head not in UTF-8")?;
        let mut lines = text.split("\r\n");
        let status = status(lines.next().unwrap_or_default())?;
        let (mut length, mut range, mut closes) = (None, None, false);
        for line in lines {
            let (name, value) = line.split_once(':').ok_or("a line without a colon")?;
            let value = value.trim_ascii();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok();
            } else if name.eq_ignore_ascii_case("content-range") {
                range = Some(content_range(value).ok_or("a malformed Content-Range")?);
            } else if name.eq_ignore_ascii_case("connection") {
                closes = value.eq_ignore_ascii_case("close");
            }
        }
        Ok(Some(Self {
            status,
            length: length.ok_or_else(|| format!("{status} without a Content-Length"))?,
            range,
            closes,
            size: end + 4,
        }))
    }
}

fn status(line: &str) -> Result<u16, String> {
    line.strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| format!("a malformed status line {line:?}"))
}

fn content_range(value: &str) -> Option<(u64, u64, u64)> {
    let (range, complete) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((
        first.parse().ok()?,
        last.parse().ok()?,
        complete.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTIAL: &[u8] = b"HTTP/1.1 206 Partial Content\r\nServer: x\r\ncontent-length: 10\r\n\
        Content-Range: bytes 5-14/100\r\n\r\nabcdefghij";

    #[test]
    fn a_partial_response() {
        let head = Head::parse(PARTIAL).unwrap().unwrap();
        assert_eq!(head.status, 206);
        assert_eq!(head.length, 10);
        assert_eq!(head.range, Some((5, 14, 100)));
        assert!(!head.closes);
        assert_eq!(&PARTIAL[head.size..], b"abcdefghij");
    }

    #[test]
    fn every_cut_of_a_head_asks_for_more() {
        let size = Head::parse(PARTIAL).unwrap().unwrap().size;
        for cut in 0..size {
            assert_eq!(Head::parse(&PARTIAL[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn a_connection_that_ends() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert!(Head::parse(head).unwrap().unwrap().closes);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for bad in [
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 206 Partial\r\nContent-Length: 1\r\nContent-Range: bytes */5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        ] {
            assert!(Head::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Head::parse(&[b'x'; MAX_HEAD]).is_err());
    }
}
