//! hyper's own answer to a head that it cannot parse: 400, 414 or 431.
//!
//! No handler sees it, and it says nothing of caches, which may keep a 414 unasked (RFC 9110 §15.1).
//! Here it gets the field that every other refusal has. Nothing else is ever changed: what counts is that
//! no handler has been asked since hyper last had nothing to send, so that no byte can be a handler's.

use bytes::{BufMut as _, BytesMut};
use memchr::memchr;

const NOT_STORED: &[u8] = b"cache-control: no-store\r\n";

/// The answer with the field in it; `None` where the bytes are no answer of hyper's own.
pub(super) fn with_field(bytes: &[u8]) -> Option<BytesMut> {
    let is_refusal = bytes.starts_with(b"HTTP/1.") && bytes.get(8..10) == Some(b" 4");
    if !is_refusal || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let (status_line, fields) = bytes.split_at(memchr(b'\n', bytes)? + 1);
    let mut answer = BytesMut::with_capacity(bytes.len() + NOT_STORED.len());
    answer.put_slice(status_line);
    answer.put_slice(NOT_STORED);
    answer.put_slice(fields);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_comes_into_whole_refusals_alone() {
        let refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        let with =
            b"HTTP/1.1 400 Bad Request\r\ncache-control: no-store\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(with_field(refusal).unwrap(), with[..]);
        for other in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 100 Continue\r\n\r\n",
            &refusal[..refusal.len() - 1],
            b"RIFF 4\r\n\r\n",
            b"",
        ] {
            assert_eq!(with_field(other), None);
        }
    }
}
