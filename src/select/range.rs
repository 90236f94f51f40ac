//! Range sets: the field's grammar, and what a set means for a length.
//!
//! `http-range-header` parses all but the plainest; what it would refuse although RFC 9110 allows it (endless digits,
//! many empty list members) is brought into its form first, and what a set means is decided here.

use http_range_header::SyntacticallyCorrectRange as Spec;
use smallvec::SmallVec;

use super::Selection;

/// More ranges than this in one field, and the field is ignored (§14.2 allows it).
pub const MAX_RANGES: usize = 16;

/// Longest field value that goes to the parser as it is: too short for two numbers past `u64` or
/// for more digits than the parser takes.
const PLAIN: usize = 36;

/// Digits enough for any number past `u64::MAX`.
const ENOUGH_DIGITS: usize = 21;

/// Selected bytes, both ends included, as in Content-Range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte; never before the first.
    pub last: u64,
}

impl ByteRange {
    /// How many bytes.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "both ends are included: never empty"
    )]
    pub const fn len(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Its first `most` bytes, or all of it; `most` is at least 1.
    pub(crate) fn beginning(self, most: u64) -> Self {
        let last = self.last.min(self.first.saturating_add(most - 1));
        Self { last, ..self }
    }

    /// Overlaps or is adjacent.
    const fn touches(&self, other: &Self) -> bool {
        self.first <= other.last.saturating_add(1) && other.first <= self.last.saturating_add(1)
    }

    fn joined(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

/// One or more ranges, in the order asked for, none touching another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedRanges(Ranges);

/// Nearly always one.
type Ranges = SmallVec<[ByteRange; 1]>;

impl SelectedRanges {
    /// The ranges; at least one.
    #[must_use]
    pub fn as_slice(&self) -> &[ByteRange] {
        &self.0
    }

    /// Joins what overlaps or is adjacent; a joined range stands where its first part stood
    /// (§15.3.7.2: the order asked for).
    fn coalesce(ranges: Ranges) -> Self {
        if ranges.len() < 2 {
            return Self(ranges);
        }
        let mut out = Ranges::new();
        for mut range in ranges {
            let mut place = out.len();
            while let Some(at) = out.iter().position(|other| other.touches(&range)) {
                range = range.joined(out.remove(at));
                place = place.min(at);
            }
            out.insert(place, range);
        }
        Self(out)
    }
}

/// What a Range field asks for; nearly always one range.
type Specs = SmallVec<[Spec; 1]>;

/// Reads a Range field's value; `None` means that the field is ignored: another unit, a malformed
/// set, or more than [`MAX_RANGES`].
pub(super) fn parse(value: &str) -> Option<Specs> {
    if let Some(seek) = seek(value) {
        return Some(Specs::from_buf([seek]));
    }
    let parsed = if value.len() <= PLAIN && !value.contains(',') {
        http_range_header::parse_range_header(value)
    } else {
        http_range_header::parse_range_header(&normalise(value)?)
    };
    Some(parsed.ok()?.into_ranges().into())
}

/// What players send, and nothing else: `bytes=`, a number, `-`, and perhaps one that is not less. The parser takes
/// 780 of a seek's 20,300 instructions for it.
fn seek(value: &str) -> Option<Spec> {
    let set = value.strip_prefix("bytes=")?;
    let (first, last) = set.split_at(set.bytes().position(|byte| byte == b'-')?);
    match (number(first)?, &last[1..]) {
        (first, "") => Some(Spec::FromStart(first)),
        (first, last) => number(last)
            .filter(|last| first <= *last)
            .map(|last| Spec::Indexed(first, last)),
    }
}

fn number(digits: &str) -> Option<u64> {
    // A sign is none of the grammar's.
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// The same set without white space, empty members and needless digits.
fn normalise(value: &str) -> Option<String> {
    let (unit, set) = value.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut out = String::from("bytes=");
    let members = set
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
        .filter(|member| !member.is_empty());
    for (count, member) in members.enumerate() {
        if count == MAX_RANGES {
            return None;
        }
        let (first, last) = member.split_once('-')?;
        let (first, last) = (significant(first)?, significant(last)?);
        let reversed = (last.len(), last) < (first.len(), first);
        // §14.1.1: a last position before the first makes the whole set invalid. Compared as
        // digits, since past u64 both would be the same number.
        if !first.is_empty() && !last.is_empty() && reversed {
            return None;
        }
        if count > 0 {
            out.push(',');
        }
        out.push_str(&first[..first.len().min(ENOUGH_DIGITS)]);
        out.push('-');
        out.push_str(&last[..last.len().min(ENOUGH_DIGITS)]);
    }
    Some(out)
}

/// Digits without leading zeros; nothing stays nothing.
fn significant(digits: &str) -> Option<&str> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let trimmed = digits.trim_start_matches('0');
    Some(if trimmed.is_empty() && !digits.is_empty() {
        "0"
    } else {
        trimmed
    })
}

/// What one member of a set means for a length.
enum Resolved {
    Bytes(ByteRange),
    /// The suffix of an empty representation: satisfiable, and nothing (§14.1.2).
    Nothing,
    Unsatisfiable,
}

fn resolve_one(spec: Spec, length: u64) -> Resolved {
    let bounded = |first: u64, last: u64| match length.checked_sub(1) {
        Some(end) if first <= end => Resolved::Bytes(ByteRange {
            first,
            last: last.min(end),
        }),
        _ => Resolved::Unsatisfiable,
    };
    match spec {
        Spec::FromStart(first) => bounded(first, u64::MAX),
        Spec::Indexed(first, last) => bounded(first, last),
        Spec::FromLast(0) => Resolved::Unsatisfiable,
        Spec::FromLast(_) if length == 0 => Resolved::Nothing,
        // §14.1.2: a suffix longer than the representation is all of it.
        Spec::FromLast(suffix) => bounded(length.saturating_sub(suffix), u64::MAX),
    }
}

/// What a set means for a representation of `length` bytes.
pub(super) fn resolve(set: &[Spec], length: u64) -> Selection {
    let mut ranges = Ranges::with_capacity(set.len());
    let mut nothing = false;
    for spec in set {
        match resolve_one(*spec, length) {
            Resolved::Bytes(range) => ranges.push(range),
            Resolved::Nothing => nothing = true,
            Resolved::Unsatisfiable => {}
        }
    }
    if ranges.is_empty() {
        return if nothing {
            Selection::Full
        } else {
            Selection::NotSatisfiable
        };
    }
    // §14.2, §17.15: sets that ask for more than there is are an attack or a mistake, and 200 is
    // the cheaper answer.
    let sum: u128 = ranges.iter().map(|range| u128::from(range.len())).sum();
    if sum > u128::from(length) {
        return Selection::Full;
    }
    Selection::Partial(SelectedRanges::coalesce(ranges))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// What is read without the parser is what the parser reads.
        #[test]
        fn a_seek_is_what_the_parser_makes_of_it(value in "bytes=[0-9]{0,20}(-[0-9]{0,20})?[ ,-]?") {
            let parsed = http_range_header::parse_range_header(&value);
            let specs = parsed.map(http_range_header::ParsedRanges::into_ranges);
            if let Some(seek) = seek(&value) {
                proptest::prop_assert_eq!(specs, Ok(vec![seek]));
            }
        }
    }

    #[test]
    fn seeks() {
        for (value, expect) in [
            ("bytes=0-", Some(Spec::FromStart(0))),
            ("bytes=0-0", Some(Spec::Indexed(0, 0))),
            (
                "bytes=0064-9999999999999999999",
                Some(Spec::Indexed(64, 9_999_999_999_999_999_999)),
            ),
            // The parser's.
            ("bytes=-5", None),
            ("bytes=5-4", None),
            ("bytes=0-1,3-4", None),
            ("bytes=0-1 ", None),
            ("bytes= 0-1", None),
            ("Bytes=0-1", None),
            ("bytes=+0-1", None),
            (
                "bytes=0-18446744073709551615",
                Some(Spec::Indexed(0, u64::MAX)),
            ),
            ("bytes=0-18446744073709551616", None),
            ("bytes=0", None),
            ("bytes=", None),
        ] {
            assert_eq!(seek(value), expect, "{value}");
        }
    }
}
