//! Conditional requests (RFC 9110 §13): entity tags and dates held against the validators.

use std::time::UNIX_EPOCH;

use http::{HeaderMap, HeaderName, header};

use super::only_text;
use crate::recording::{EntityTag, Representation, UnixTime};

/// What the preconditions make of a request.
pub(super) enum Verdict {
    Perform,
    NotModified,
    Failed,
}

/// Whether there are any. Most requests have none, and each would be looked for by its hash: all that are looked for
/// begin so.
pub(super) fn are_any(fields: &HeaderMap) -> bool {
    fields.keys().any(|name| name.as_str().starts_with("if-"))
}

/// Steps 1 to 4 of §13.2.2, for GET and HEAD.
pub(super) fn evaluate(fields: &HeaderMap, current: &Representation) -> Verdict {
    let expected = if fields.contains_key(header::IF_MATCH) {
        // §13.1.1: strong comparison; no tag of ours is weak, so a weak one never matches.
        if_match_names(fields, &current.etag)
    } else {
        date(fields, &header::IF_UNMODIFIED_SINCE)
            .zip(current.last_modified)
            .is_none_or(|(date, modified)| modified <= date)
    };
    if !expected {
        return Verdict::Failed;
    }
    let known = if fields.contains_key(header::IF_NONE_MATCH) {
        // §13.1.2: weak comparison, and If-Modified-Since is not looked at.
        if_none_match_names(fields, &current.etag)
    } else {
        date(fields, &header::IF_MODIFIED_SINCE)
            .zip(current.last_modified)
            .is_some_and(|(date, modified)| modified <= date)
    };
    if known {
        Verdict::NotModified
    } else {
        Verdict::Perform
    }
}

/// Whether If-Match names this tag (§13.1.1); false without If-Match.
#[must_use]
pub fn if_match_names(fields: &HeaderMap, current: &EntityTag) -> bool {
    any_tag(fields, &header::IF_MATCH, |tag| {
        tag.strongly_equals(current)
    })
}

/// Whether If-None-Match names this tag (§13.1.2); false without If-None-Match.
#[must_use]
pub fn if_none_match_names(fields: &HeaderMap, current: &EntityTag) -> bool {
    any_tag(fields, &header::IF_NONE_MATCH, |tag| {
        tag.weakly_equals(current)
    })
}

/// Step 5 of §13.2.2: whether a Range may be honoured. True without If-Range.
pub(super) fn if_range_holds(fields: &HeaderMap, current: &Representation, now: UnixTime) -> bool {
    if !fields.contains_key(header::IF_RANGE) {
        return true;
    }
    let Some(value) = only_text(fields, &header::IF_RANGE) else {
        return false;
    };
    if let Some((tag, "")) = Tag::read(value) {
        return tag.strongly_equals(&current.etag);
    }
    // A date matches exactly, and only where it is strong: the file could have changed twice
    // within the second that Date still shows (§8.8.2.2).
    parse_date(value)
        .zip(current.last_modified)
        .is_some_and(|(date, modified)| date == modified && modified < now)
}

/// The date of a field; invalid or repeated, the field is ignored.
fn date(fields: &HeaderMap, name: &HeaderName) -> Option<UnixTime> {
    only_text(fields, name).and_then(parse_date)
}

fn parse_date(value: &str) -> Option<UnixTime> {
    let date = httpdate::parse_http_date(value).ok()?;
    let since = date.duration_since(UNIX_EPOCH).ok()?;
    Some(UnixTime(since.as_secs()))
}

/// Whether the field is `*` or lists a tag for which `matches` holds. A list is read up to its
/// first malformed member.
fn any_tag(fields: &HeaderMap, name: &HeaderName, matches: impl Fn(&Tag<'_>) -> bool) -> bool {
    fields
        .get_all(name)
        .iter()
        // §8.8.3: a tag may hold any byte past ASCII. None of ours does, so what stands for such a
        // byte makes no difference.
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .any(|value| value.trim_matches(OWS) == "*" || tags(&value).any(|tag| matches(&tag)))
}

const OWS: [char; 2] = [' ', '\t'];

/// An entity tag as a client sent it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    weak: bool,
    quoted: &'a str,
}

impl<'a> Tag<'a> {
    /// `[ "W/" ] DQUOTE *etagc DQUOTE` at the beginning of `text`, and what follows.
    pub(super) fn read(text: &'a str) -> Option<(Self, &'a str)> {
        let (weak, rest) = match text.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let end = rest.strip_prefix('"')?.find('"')? + 2;
        let (quoted, rest) = rest.split_at(end);
        // §8.8.3: etagc is any visible character but the quote.
        let plain = quoted.chars().all(|c| c > ' ' && c != '\u{7f}');
        plain.then_some((Self { weak, quoted }, rest))
    }

    fn strongly_equals(&self, current: &EntityTag) -> bool {
        !self.weak && self.weakly_equals(current)
    }

    fn weakly_equals(&self, current: &EntityTag) -> bool {
        self.quoted == current.as_str()
    }
}

/// The members of `#entity-tag`.
pub(super) fn tags(list: &str) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (tag, after) = Tag::read(rest)?;
        let after = after.trim_start_matches(OWS);
        // What follows a tag is the list's end or a comma; else the list ends here.
        rest = if after.starts_with(',') { after } else { "" };
        Some(tag)
    })
}
