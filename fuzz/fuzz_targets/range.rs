//! Range sets. Input: the representation's length in decimal, LF, the field's value.
//!
//! * The selection is what a model says that reads RFC 9110 §14 on its own: interval arithmetic
//!   for any length, and the very bytes for short ones.
//! * Ranges lie inside the representation, none touches another, they stand in the order asked
//!   for, and together they are never more than the representation.
//! * The response promises exactly what it lists, and at most 4 KiB more than there is.
#![no_main]

use http::{HeaderMap, HeaderValue, Method, header};
use libfuzzer_sys::fuzz_target;
use tonearm::recording::{EntityTag, MediaType, Representation, UnixTime};
use tonearm::respond::{Described, Keeper, Terms, respond};
use tonearm::select::{ByteRange, MAX_RANGES, Selection, select};

const NOW: UnixTime = UnixTime(1_767_225_600);
/// An offset in a file is an `i64`; a response counts its parts' heads on top of that in a `u64`.
const LONGEST_FILE: u64 = i64::MAX.unsigned_abs();
/// Up to this length the model looks at every byte.
const SHORT: u64 = 256;

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|byte| *byte == b'\n');
    let (length, value) = at.map_or((&b""[..], data), |at| (&data[..at], &data[at + 1..]));
    let length = match std::str::from_utf8(length).map(str::parse) {
        Ok(Ok(length)) => length,
        _ => 1000,
    };
    // A field arrives without white space around it.
    let value = value.trim_ascii();
    let Ok(value) = HeaderValue::from_bytes(value) else {
        return;
    };
    let representation = representation(length);
    let fields = HeaderMap::from_iter([(header::RANGE, value.clone())]);
    let selection = select(&Method::GET, &fields, &representation, NOW);
    let asked = value.to_str().ok().and_then(parse);
    match &selection {
        Selection::Partial(ranges) => {
            let asked = asked.as_deref().expect("only a well-formed set selects");
            check(ranges.as_slice(), asked, length);
        }
        other => assert_eq!(*other, without_bytes(asked.as_deref(), length)),
    }
    if length <= LONGEST_FILE {
        check_answer(&selection, &representation);
    }
    let of_head = select(&Method::HEAD, &fields, &representation, NOW);
    assert_eq!(of_head, Selection::Full);
});

fn representation(length: u64) -> Representation {
    Representation {
        length,
        etag: EntityTag::from_sha256(&[7; 32]),
        last_modified: Some(UnixTime(784_111_777)),
        media: MediaType::Wav,
        file_name: "call.wav".into(),
        sha256: Some([7; 32]),
    }
}

/// One member of a set: digits as sent, without leading zeros.
enum Asked<'a> {
    From(&'a str),
    Between(&'a str, &'a str),
    Last(&'a str),
}

/// `bytes-unit "=" 1#range-spec` (§14.1.1), of at most [`MAX_RANGES`].
fn parse(value: &str) -> Option<Vec<Asked<'_>>> {
    let (unit, set) = value.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut asked = Vec::new();
    for member in set.split(',') {
        // §5.6.1.2: empty members are ignored, with optional white space around each.
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let (first, last) = member.split_once('-')?;
        if !(first.bytes().chain(last.bytes())).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (no_first, no_last) = (first.is_empty(), last.is_empty());
        let first = first.trim_start_matches('0');
        let last = last.trim_start_matches('0');
        asked.push(match (no_first, no_last) {
            (true, true) => return None,
            (true, false) => Asked::Last(last),
            (false, true) => Asked::From(first),
            (false, false) if (last.len(), last) < (first.len(), first) => return None,
            (false, false) => Asked::Between(first, last),
        });
    }
    (1..=MAX_RANGES).contains(&asked.len()).then_some(asked)
}

/// A number, or the largest: past the end is past the end.
fn number(digits: &str) -> u128 {
    if digits.is_empty() {
        return 0;
    }
    digits.parse().unwrap_or(u128::MAX)
}

/// What a member means for a length: the first byte and the one behind the last.
fn resolve(asked: &Asked<'_>, length: u64) -> Option<(u128, u128)> {
    let length = u128::from(length);
    let (first, end) = match asked {
        Asked::From(first) => (number(first), length),
        Asked::Between(first, last) => (number(first), number(last).saturating_add(1).min(length)),
        Asked::Last(suffix) => (length.saturating_sub(number(suffix)), length),
    };
    (first < end).then_some((first, end))
}

fn total(asked: &[Asked<'_>], length: u64) -> u128 {
    asked
        .iter()
        .filter_map(|asked| resolve(asked, length))
        .map(|(first, end)| end - first)
        .sum()
}

/// What is selected where no part is.
fn without_bytes(asked: Option<&[Asked<'_>]>, length: u64) -> Selection {
    let Some(asked) = asked else {
        return Selection::Full;
    };
    let suffix_of_nothing = length == 0
        && asked
            .iter()
            .any(|asked| matches!(asked, Asked::Last(suffix) if !suffix.is_empty()));
    let total = total(asked, length);
    assert!(total == 0 || total > u128::from(length), "parts are there");
    if total > 0 || suffix_of_nothing {
        Selection::Full
    } else {
        Selection::NotSatisfiable
    }
}

fn check(ranges: &[ByteRange], asked: &[Asked<'_>], length: u64) {
    assert!((1..=MAX_RANGES).contains(&ranges.len()));
    for range in ranges {
        assert!(range.first <= range.last && range.last < length);
    }
    let sum: u128 = ranges.iter().map(|range| u128::from(range.len())).sum();
    assert!(sum <= u128::from(length));
    assert!(total(asked, length) <= u128::from(length));

    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.first);
    assert!(
        sorted
            .windows(2)
            .all(|pair| pair[0].last + 1 < pair[1].first),
        "ranges touch"
    );
    assert_eq!(
        sorted
            .iter()
            .map(|range| (u128::from(range.first), u128::from(range.last) + 1))
            .collect::<Vec<_>>(),
        merged(asked, length)
    );
    check_order(ranges, asked, length);
    if length <= SHORT {
        check_bytes(ranges, asked, length);
    }
}

/// The union of a set as intervals, by sorting.
fn merged(asked: &[Asked<'_>], length: u64) -> Vec<(u128, u128)> {
    let mut parts: Vec<_> = asked
        .iter()
        .filter_map(|asked| resolve(asked, length))
        .collect();
    parts.sort_unstable();
    let mut out: Vec<(u128, u128)> = Vec::new();
    for (first, end) in parts {
        match out.last_mut() {
            Some(last) if first <= last.1 => last.1 = last.1.max(end),
            _ => out.push((first, end)),
        }
    }
    out
}

/// A range stands where the first of its parts was asked for.
fn check_order(ranges: &[ByteRange], asked: &[Asked<'_>], length: u64) {
    let places: Vec<_> = ranges
        .iter()
        .map(|range| {
            let holds = |first| (u128::from(range.first)..=u128::from(range.last)).contains(&first);
            asked
                .iter()
                .position(|asked| resolve(asked, length).is_some_and(|(first, _)| holds(first)))
        })
        .collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some));
}

/// The slice-based model: which bytes of a short representation are sent.
fn check_bytes(ranges: &[ByteRange], asked: &[Asked<'_>], length: u64) {
    let bytes: Vec<u128> = (0..u128::from(length)).collect();
    let mut wanted = vec![false; bytes.len()];
    for asked in asked {
        let skip = match asked {
            Asked::Last(suffix) => u128::from(length).saturating_sub(number(suffix)),
            Asked::From(first) | Asked::Between(first, _) => number(first),
        };
        let until = match asked {
            Asked::Between(_, last) => number(last),
            Asked::From(_) | Asked::Last(_) => u128::MAX,
        };
        for (wanted, byte) in wanted.iter_mut().zip(&bytes) {
            *wanted |= (skip..=until).contains(byte);
        }
    }
    let sent: Vec<bool> = (0..length)
        .map(|byte| {
            ranges
                .iter()
                .any(|range| (range.first..=range.last).contains(&byte))
        })
        .collect();
    assert_eq!(sent, wanted);
}

fn check_answer(selection: &Selection, representation: &Representation) {
    let terms = Terms {
        disposition: None,
        keeper: Keeper::Viewer(600),
        now: NOW,
    };
    let described = Described::from(representation.clone());
    let answer = respond(selection, &described, terms);
    let payload: u128 = answer
        .payload
        .iter()
        .map(|piece| u128::from(piece.len()))
        .sum();
    let head = answer.without_payload();
    let promised = &head.fields[header::CONTENT_LENGTH];
    assert_eq!(promised, payload.to_string().as_str());
    assert!(payload <= u128::from(representation.length) + 4096);
}
