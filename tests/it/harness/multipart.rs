//! A reader of multipart/byteranges (RFC 9110 §14.6, RFC 2046 §5.1) that knows only the RFCs.

use super::raw::Response;

/// One part, its bytes at the offsets its Content-Range names.
#[derive(Debug)]
pub struct Part {
    pub content_type: String,
    pub content_range: String,
    pub bytes: Vec<u8>,
}

/// The parts of a response; fails the test where the body is not exactly a multipart.
pub fn parts(response: &Response) -> Vec<Part> {
    let content_type = response.field("content-type").expect("a Content-Type");
    let boundary = content_type
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap_or_else(|| panic!("no multipart: {content_type}"));
    check_boundary(boundary);
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    // The first delimiter's line break may be missing, since nothing stands before it.
    let mut rest = [b"\r\n", response.body.as_slice()].concat();
    let preamble = take_until(&mut rest, &delimiter);
    assert!(preamble.len() <= 2, "a preamble: {preamble:?}");
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            assert!(matches!(&rest[2..], b"" | b"\r\n"), "an epilogue: {rest:?}");
            return parts;
        }
        assert!(rest.starts_with(b"\r\n"), "a delimiter with a tail");
        rest.drain(..2);
        let part = take_until(&mut rest, &delimiter);
        parts.push(part_of(part));
    }
}

/// RFC 2046 §5.1.1: 1 to 70 of `bchars`; unquoted, so a token of RFC 9110 too.
fn check_boundary(boundary: &str) {
    assert!((1..=70).contains(&boundary.len()), "{boundary}");
    let plain = |c: char| c.is_ascii_alphanumeric() || "'+_-.".contains(c);
    assert!(boundary.chars().all(plain), "{boundary}");
}

fn take_until(rest: &mut Vec<u8>, delimiter: &[u8]) -> Vec<u8> {
    let at = rest
        .windows(delimiter.len())
        .position(|window| window == delimiter)
        .expect("another delimiter");
    let taken = rest[..at].to_vec();
    rest.drain(..at + delimiter.len());
    taken
}

fn part_of(mut part: Vec<u8>) -> Part {
    let head = String::from_utf8(take_until(&mut part, b"\r\n\r\n")).unwrap();
    let field = |name: &str| {
        let mut values = head.split("\r\n").filter_map(|line| {
            let (found, value) = line.split_once(':').expect("a field line");
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let value = values.next().unwrap_or_else(|| panic!("no {name}: {head}"));
        assert!(values.next().is_none(), "{name} is repeated: {head}");
        value.to_owned()
    };
    Part {
        content_type: field("content-type"),
        content_range: field("content-range"),
        bytes: part,
    }
}
