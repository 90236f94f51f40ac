//! Which bytes answer this request.
//!
//! Total and pure: preconditions first, then the range, in the order of RFC 9110 §13.2.2. Knows
//! the request's fields and the representation's length and validators; writes no field, reads no
//! byte, and never refuses: what a client may not have was decided before.

mod precondition;
mod range;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

pub use self::precondition::{if_match_names, if_none_match_names};
pub use self::range::{ByteRange, MAX_RANGES, SelectedRanges};
use crate::recording::{Representation, UnixTime};

/// What of the representation is sent, and why not all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The whole, as 200.
    Full,
    /// These parts, as 206; the whole as a range is not the whole. Never empty.
    Partial(SelectedRanges),
    /// What the client has is current: 304.
    NotModified,
    /// What the client expects is not so: 412.
    PreconditionFailed,
    /// No part that was asked for exists: 416.
    NotSatisfiable,
}

/// Selects from `representation` what a request with `method` and `fields` gets at `now`.
#[must_use]
pub fn select(
    method: &Method,
    fields: &HeaderMap,
    representation: &Representation,
    now: UnixTime,
) -> Selection {
    use precondition::Verdict;

    let is_conditional = precondition::are_any(fields);
    if is_conditional {
        match precondition::evaluate(fields, representation) {
            Verdict::Failed => return Selection::PreconditionFailed,
            Verdict::NotModified => return Selection::NotModified,
            Verdict::Perform => {}
        }
    }
    // §14.2: GET is the only method for which range handling is defined, so a HEAD with Range
    // tells what a GET without one would get.
    if method != Method::GET {
        return Selection::Full;
    }
    let Some(wanted) = only_text(fields, &header::RANGE).and_then(range::parse) else {
        return Selection::Full;
    };
    // §13.1.5: a validator that does not match means the client holds another version; a part of
    // this one would be spliced onto it.
    if is_conditional && !precondition::if_range_holds(fields, representation, now) {
        return Selection::Full;
    }
    range::resolve(&wanted, representation.length)
}

/// The value of a field that may stand once; repeated, it has none (RFC 9110 §5.3).
pub(crate) fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    // One after the other, since requests have few: a hash would cost as much.
    let mut values = fields.iter().filter(|(other, _)| *other == name);
    let (_, value) = values.next()?;
    values.next().is_none().then_some(value)
}

/// The same, where it is text.
fn only_text<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    only(fields, name)?.to_str().ok()
}

#[cfg(test)]
mod tests;
