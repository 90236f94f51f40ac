//! What ties a request to those before it: its id, and its place in a trace.
//!
//! Takes what has the right form and passes over the rest. Makes no ids of its own.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::select::only;

/// The field of request and response that holds a request's id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longest id, in bytes.
const MAX_ID: usize = 128;

/// The request's id: 1 to 128 bytes of visible ASCII, once.
pub(super) fn request_id(fields: &HeaderMap) -> Option<&HeaderValue> {
    let id = only(fields, &REQUEST_ID)?;
    let bytes = id.as_bytes();
    let fits = (1..=MAX_ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    fits.then_some(id)
}

/// What `traceparent` says, each in lower hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent<'a> {
    /// 32 of them, not all zero.
    pub(super) trace: &'a str,
    /// 16, not all zero.
    pub(super) span: &'a str,
    /// Two.
    pub(super) flags: &'a str,
}

/// The trace-id of `traceparent` (W3C Trace Context §3.2).
pub(super) fn trace_id(fields: &HeaderMap) -> Option<&str> {
    parent(fields).map(|parent| parent.trace)
}

/// The whole of it.
pub(super) fn parent(fields: &HeaderMap) -> Option<Parent<'_>> {
    let text = only(fields, &TRACE_PARENT)?.to_str().ok()?;
    let mut parts = text.splitn(5, '-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // §3.2.2.1: version ff is invalid, and 00 has four parts. Later ones may have more.
    let known = version != "ff" && (version != "00" || parts.next().is_none());
    let fits = known
        && is_hex(version, 2)
        && is_hex(trace, 32)
        && is_hex(span, 16)
        && is_hex(flags, 2)
        && [trace, span].iter().all(|id| id.bytes().any(|b| b != b'0'));
    fits.then_some(Parent { trace, span, flags })
}

fn is_hex(text: &str, length: usize) -> bool {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == length && text.bytes().all(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &HeaderName, values: &[&[u8]]) -> HeaderMap {
        let value = |bytes: &&[u8]| (name.clone(), HeaderValue::from_bytes(bytes).unwrap());
        values.iter().map(value).collect()
    }

    #[test]
    fn ids_are_taken_as_they_are_or_not_at_all() {
        let long = "x".repeat(128);
        for (id, taken) in [
            ("7f3a", true),
            ("Root=1-67891233-abcdef012345678912345678;~", true),
            (long.as_str(), true),
            (&format!("{long}x"), false),
            ("", false),
            ("two words", false),
            ("tab\tbed", false),
            ("ümlaut", false),
        ] {
            let fields = fields(&REQUEST_ID, &[id.as_bytes()]);
            assert_eq!(request_id(&fields).is_some(), taken, "{id:?}");
        }
        assert_eq!(request_id(&HeaderMap::new()), None);
        assert_eq!(request_id(&fields(&REQUEST_ID, &[b"a", b"b"])), None);
    }

    #[test]
    fn a_trace_has_the_form_of_the_standard() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (text, taken) in [
            (format!("00-{TRACE}-00f067aa0ba902b7-01"), true),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01-more-of-it"), true),
            (format!("00-{TRACE}-00f067aa0ba902b7-01-more"), false),
            (format!("ff-{TRACE}-00f067aa0ba902b7-01"), false),
            (format!("00-{TRACE}-0000000000000000-01"), false),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false),
            (
                format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
                false,
            ),
            (format!("00-{TRACE}-00f067aa0ba902b7"), false),
            (format!("00-{TRACE}x-00f067aa0ba902b7-01"), false),
            (String::new(), false),
        ] {
            let fields = fields(&TRACE_PARENT, &[text.as_bytes()]);
            assert_eq!(trace_id(&fields), taken.then_some(TRACE), "{text:?}");
        }
    }
}
