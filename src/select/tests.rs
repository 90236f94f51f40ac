use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::recording::{EntityTag, MediaType};

const MODIFIED: u64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT
const NOW: UnixTime = UnixTime(1_767_225_600);

fn representation(length: u64) -> Representation {
    Representation {
        length,
        etag: EntityTag::from_file(0xa, 0xb),
        last_modified: Some(UnixTime(MODIFIED)),
        media: MediaType::Wav,
        file_name: "c.wav".into(),
        sha256: None,
    }
}

fn ask(fields: &[(&'static str, &str)], length: u64) -> Selection {
    ask_with(&Method::GET, fields, &representation(length), NOW)
}

fn ask_with(
    method: &Method,
    fields: &[(&'static str, &str)],
    representation: &Representation,
    now: UnixTime,
) -> Selection {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    select(method, &map, representation, now)
}

fn show(selection: &Selection) -> String {
    match selection {
        Selection::Full => "full".into(),
        Selection::NotModified => "304".into(),
        Selection::PreconditionFailed => "412".into(),
        Selection::NotSatisfiable => "416".into(),
        Selection::Partial(ranges) => ranges
            .as_slice()
            .iter()
            .map(|range| format!("{}-{}", range.first, range.last))
            .collect::<Vec<_>>()
            .join(","),
    }
}

/// What is asked of how many bytes, and what of them is selected.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn ranges() {
    let many = |count: usize| {
        let set: Vec<_> = (0..count).map(|i| format!("{}-{}", i * 3, i * 3)).collect();
        format!("bytes={}", set.join(","))
    };
    let sixteen = (0..16)
        .map(|i| format!("{0}-{0}", i * 3))
        .collect::<Vec<_>>()
        .join(",");
    let nines = "9".repeat(500);
    let zeros = "0".repeat(500);
    for (asked, length, selected) in [
        // Not a range set of bytes: ignored (§14.2).
        ("items=0-1", 1000, "full"),
        ("bytes", 1000, "full"),
        ("bytes=", 1000, "full"),
        ("bytes=,", 1000, "full"),
        ("bytes=abc", 1000, "full"),
        ("bytes=5-3", 1000, "full"),
        ("bytes=0-1,5-3", 1000, "full"),
        ("bytes=0-1,abc", 1000, "full"),
        ("bytes=--5", 1000, "full"),
        ("bytes=-", 1000, "full"),
        ("bytes=5", 1000, "full"),
        ("bytes=-5-", 1000, "full"),
        ("bytes=1-2-3", 1000, "full"),
        ("bytes=+1-2", 1000, "full"),
        ("bytes=1-+2", 1000, "full"),
        ("bytes=0x1-2", 1000, "full"),
        ("bytes=1.0-2", 1000, "full"),
        ("bytes =0-1", 1000, "full"),
        ("bytes=0 - 1", 1000, "full"),
        ("bytes=0-1;2-3", 1000, "full"),
        ("bytes:0-1", 1000, "full"),
        ("bytes=bytes=0-1", 1000, "full"),
        // One range.
        ("bytes=0-", 1000, "0-999"),
        ("bytes=0-999", 1000, "0-999"),
        ("bytes=0-0", 1000, "0-0"),
        ("bytes=999-", 1000, "999-999"),
        ("bytes=10-5000", 1000, "10-999"),
        ("bytes=-1", 1000, "999-999"),
        ("bytes=-1000", 1000, "0-999"),
        ("bytes=-5000", 1000, "0-999"),
        ("BYTES=0-1", 1000, "0-1"),
        ("Bytes=0-1,5-6", 1000, "0-1,5-6"),
        ("bytes=000-0001", 1000, "0-1"),
        ("bytes= 0-1", 1000, "0-1"),
        ("bytes=0-1, ", 1000, "0-1"),
        ("bytes=,,0-1,,", 1000, "0-1"),
        ("bytes=\t0-1\t,\t5-6", 1000, "0-1,5-6"),
        ("bytes=0-18446744073709551615", 1000, "0-999"),
        ("bytes=0-18446744073709551616", 1000, "0-999"),
        ("bytes=-18446744073709551616", 1000, "0-999"),
        (&format!("bytes=0-{nines}"), 1000, "0-999"),
        (&format!("bytes=-{nines}"), 1000, "0-999"),
        (&format!("bytes={zeros}5-{zeros}6"), 1000, "5-6"),
        (&format!("bytes=0-1{}", ",".repeat(400)), 1000, "0-1"),
        // Nothing there.
        ("bytes=1000-", 1000, "416"),
        ("bytes=1000-2000", 1000, "416"),
        ("bytes=-0", 1000, "416"),
        ("bytes=-000", 1000, "416"),
        ("bytes=1000-,-0,5000-6000", 1000, "416"),
        ("bytes=18446744073709551616-", 1000, "416"),
        (&format!("bytes={nines}-"), 1000, "416"),
        (&format!("bytes={nines}-{nines}"), 1000, "416"),
        (&format!("bytes={nines}1-{nines}0"), 1000, "full"),
        // Several.
        ("bytes=0-1,5000-,8-9", 1000, "0-1,8-9"),
        ("bytes=8-9,0-1", 1000, "8-9,0-1"),
        ("bytes=0-99,50-149", 1000, "0-149"),
        ("bytes=0-4,5-9", 1000, "0-9"),
        ("bytes=5-9,0-4", 1000, "0-9"),
        ("bytes=0-1,8-9,2-7", 1000, "0-9"),
        ("bytes=20-21,0-1,8-9,2-7", 1000, "20-21,0-9"),
        ("bytes=0-0,-1", 1000, "0-0,999-999"),
        ("bytes=0-,0-", 1000, "full"),
        ("bytes=0-499,500-", 1000, "0-999"),
        ("bytes=0-500,500-", 1000, "full"),
        (&many(16), 1000, &sixteen),
        (&many(17), 1000, "full"),
        (
            "bytes=1000-,1000-,1000-,1000-,1000-,1000-,1000-,1000-,1000-,1000-,1000-,1000-,1000-,1000-,1000-,1000-,1000-",
            1000,
            "full",
        ),
        // The edges of lengths.
        ("bytes=0-", 0, "416"),
        ("bytes=0-0", 0, "416"),
        ("bytes=-1", 0, "full"),
        ("bytes=-0", 0, "416"),
        ("bytes=0-1,-5", 0, "full"),
        ("bytes=0-", 1, "0-0"),
        ("bytes=0-,-1", 1 << 63, "full"),
        (
            "bytes=-1",
            u64::MAX,
            "18446744073709551614-18446744073709551614",
        ),
    ] {
        let selection = ask(&[("range", asked)], length);
        assert_eq!(show(&selection), selected, "{asked} of {length}");
    }
}

#[test]
fn a_sum_past_u64_is_above_any_length() {
    let selection = ask(&[("range", "bytes=0-,-1")], u64::MAX);
    assert_eq!(selection, Selection::Full);
}

#[test]
fn ranges_of_other_methods_and_repeated_fields_are_ignored() {
    let range = [("range", "bytes=0-1")];
    let head = ask_with(&Method::HEAD, &range, &representation(9), NOW);
    assert_eq!(head, Selection::Full);
    let twice = ask(&[("range", "bytes=0-1"), ("range", "bytes=0-1")], 9);
    assert_eq!(twice, Selection::Full);
    let other = ask(&[("x", "1"), ("range", "bytes=0-1"), ("x", "2")], 9);
    assert_ne!(other, Selection::Full);
}

/// §13.2.2, a row a request. The representation's tag is "a-b".
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn preconditions() {
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const RFC850: &str = "Sunday, 06-Nov-94 08:49:37 GMT";
    const ASCTIME: &str = "Sun Nov  6 08:49:37 1994";
    const R: (&str, &str) = ("range", "bytes=0-1");
    let rows: &[(&[(&'static str, &str)], &str)] = &[
        // If-Match: strong comparison.
        (&[("if-match", "\"a-b\"")], "full"),
        (&[("if-match", "*")], "full"),
        (&[("if-match", " * ")], "full"),
        (&[("if-match", "\"x\", \"a-b\"")], "full"),
        (&[("if-match", "\"x\""), ("if-match", "\"a-b\"")], "full"),
        (&[("if-match", "\"x,\\\",\"a-b\"")], "full"),
        (&[("if-match", "\"x\"")], "412"),
        (&[("if-match", "W/\"a-b\"")], "412"),
        (&[("if-match", "a-b")], "412"),
        (&[("if-match", "")], "412"),
        (&[("if-match", "\"a-b")], "412"),
        (&[("if-match", "\"x\" \"a-b\"")], "412"),
        (&[("if-match", "\"A-B\"")], "412"),
        // If-Unmodified-Since, where there is no If-Match.
        (&[("if-unmodified-since", SAME)], "full"),
        (&[("if-unmodified-since", AFTER)], "full"),
        (&[("if-unmodified-since", BEFORE)], "412"),
        (&[("if-unmodified-since", "yesterday")], "full"),
        (
            &[("if-match", "\"a-b\""), ("if-unmodified-since", BEFORE)],
            "full",
        ),
        (
            &[("if-match", "\"x\""), ("if-unmodified-since", SAME)],
            "412",
        ),
        // If-None-Match: weak comparison.
        (&[("if-none-match", "\"a-b\"")], "304"),
        (&[("if-none-match", "W/\"a-b\"")], "304"),
        (&[("if-none-match", "*")], "304"),
        (&[("if-none-match", "\"x\" , W/\"a-b\"")], "304"),
        (&[("if-none-match", ",,\"a-b\",")], "304"),
        (&[("if-none-match", "w/\"a-b\"")], "full"),
        (&[("if-none-match", "\"x\"")], "full"),
        (&[("if-none-match", "a-b")], "full"),
        // If-Modified-Since, where there is no If-None-Match.
        (&[("if-modified-since", SAME)], "304"),
        (&[("if-modified-since", RFC850)], "304"),
        (&[("if-modified-since", ASCTIME)], "304"),
        (&[("if-modified-since", AFTER)], "304"),
        (&[("if-modified-since", BEFORE)], "full"),
        (&[("if-modified-since", "Sun, 06 Nov 1994")], "full"),
        (
            &[("if-modified-since", SAME), ("if-modified-since", SAME)],
            "full",
        ),
        (
            &[("if-none-match", "\"x\""), ("if-modified-since", AFTER)],
            "full",
        ),
        (
            &[("if-none-match", "junk"), ("if-modified-since", AFTER)],
            "full",
        ),
        (
            &[("if-none-match", "\"a-b\""), ("if-modified-since", BEFORE)],
            "304",
        ),
        // Order: 412 before 304, both before Range.
        (
            &[("if-match", "\"x\""), ("if-none-match", "\"a-b\""), R],
            "412",
        ),
        (
            &[("if-match", "\"a-b\""), ("if-none-match", "\"a-b\""), R],
            "304",
        ),
        (
            &[("if-none-match", "\"a-b\""), ("range", "bytes=99-")],
            "304",
        ),
        (&[("if-match", "\"x\""), ("range", "bytes=99-")], "412"),
        (&[("if-match", "\"a-b\""), ("range", "bytes=99-")], "416"),
        (&[("if-none-match", "\"x\""), R], "0-1"),
        // If-Range.
        (&[("if-range", "\"a-b\""), R], "0-1"),
        (&[("if-range", "\"x\""), R], "full"),
        (&[("if-range", "W/\"a-b\""), R], "full"),
        (&[("if-range", "\"a-b\", \"x\""), R], "full"),
        (&[("if-range", "*"), R], "full"),
        (&[("if-range", SAME), R], "0-1"),
        (&[("if-range", BEFORE), R], "full"),
        (&[("if-range", AFTER), R], "full"),
        (&[("if-range", "junk"), R], "full"),
        (&[("if-range", ""), R], "full"),
        (
            &[("if-range", "\"a-b\""), ("if-range", "\"a-b\""), R],
            "full",
        ),
        (&[("if-range", "\"a-b\""), ("range", "bytes=99-")], "416"),
        (&[("if-range", "\"x\""), ("range", "bytes=99-")], "full"),
        (&[("if-range", "\"x\"")], "full"),
    ];
    for (fields, expect) in rows {
        assert_eq!(show(&ask(fields, 10)), *expect, "{fields:?}");
        let head = ask_with(&Method::HEAD, fields, &representation(10), NOW);
        let of_head = if matches!(*expect, "304" | "412") {
            expect
        } else {
            "full"
        };
        assert_eq!(show(&head), of_head, "HEAD {fields:?}");
    }
}

#[test]
fn a_tag_of_other_bytes_does_not_hide_the_next() {
    let list = HeaderValue::from_bytes(b"\"caf\xe9\", \"a-b\"").unwrap();
    let ask = |name| {
        let fields = HeaderMap::from_iter([(name, list.clone())]);
        select(&Method::GET, &fields, &representation(10), NOW)
    };
    assert_eq!(ask(header::IF_MATCH), Selection::Full);
    assert_eq!(ask(header::IF_NONE_MATCH), Selection::NotModified);
}

#[test]
fn if_range_by_a_date_of_this_very_second_is_weak() {
    let fields = [
        ("range", "bytes=0-1"),
        ("if-range", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ];
    let at = |now| ask_with(&Method::GET, &fields, &representation(10), UnixTime(now));
    assert_eq!(at(MODIFIED), Selection::Full);
    assert_eq!(show(&at(MODIFIED + 1)), "0-1");
}

#[test]
fn without_a_modification_date_dates_are_ignored() {
    let undated = Representation {
        last_modified: None,
        ..representation(10)
    };
    for name in ["if-modified-since", "if-unmodified-since"] {
        let fields = [(name, "Sun, 06 Nov 1994 08:49:37 GMT")];
        assert_eq!(
            ask_with(&Method::GET, &fields, &undated, NOW),
            Selection::Full
        );
    }
}

/// The slice-based model: what RFC 9110 says of a set, over bytes that really are there.
fn model(specs: &[(Option<u64>, Option<u64>)], length: u64) -> Option<Vec<bool>> {
    let bytes: Vec<u64> = (0..length).collect();
    let mut chosen = vec![false; bytes.len()];
    let mut sum = 0;
    for spec in specs {
        let part: Vec<u64> = match *spec {
            (Some(first), Some(last)) => bytes
                .iter()
                .copied()
                .filter(|at| (first..=last).contains(at))
                .collect(),
            (Some(first), None) => bytes.iter().copied().filter(|at| *at >= first).collect(),
            (None, Some(suffix)) => {
                let skip = bytes.len().saturating_sub(usize::try_from(suffix).unwrap());
                bytes.iter().copied().skip(skip).collect()
            }
            (None, None) => unreachable!(),
        };
        sum += part.len();
        for at in part {
            chosen[usize::try_from(at).unwrap()] = true;
        }
    }
    (sum <= bytes.len()).then_some(chosen)
}

fn spec(limit: u64) -> impl Strategy<Value = (Option<u64>, Option<u64>)> {
    prop_oneof![
        (0..limit, 0..limit).prop_map(|(a, b)| (Some(a.min(b)), Some(a.max(b)))),
        (0..limit).prop_map(|first| (Some(first), None)),
        (0..limit).prop_map(|suffix| (None, Some(suffix))),
    ]
}

proptest! {
    #[test]
    fn selection_is_the_models(
        length in 0..40_u64,
        specs in proptest::collection::vec(spec(50), 1..8),
    ) {
        let text = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
        let set: Vec<_> = specs.iter().map(|(a, b)| format!("{}-{}", text(*a), text(*b))).collect();
        let selection = ask(&[("range", &format!("bytes={}", set.join(", ")))], length);
        let suffix_of_nothing = length == 0
            && specs.iter().any(|spec| matches!(spec, (None, Some(suffix)) if *suffix > 0));
        match (model(&specs, length), selection) {
            (None, Selection::Full) => {}
            (Some(chosen), Selection::NotSatisfiable) => {
                prop_assert!(!chosen.contains(&true));
                prop_assert!(!suffix_of_nothing);
            }
            (Some(_), Selection::Full) => prop_assert!(suffix_of_nothing),
            (Some(chosen), Selection::Partial(ranges)) => {
                let mut sent = vec![false; chosen.len()];
                for range in ranges.as_slice() {
                    for at in range.first..=range.last {
                        let at = usize::try_from(at).unwrap();
                        prop_assert!(!sent[at], "byte {} is sent twice", at);
                        sent[at] = true;
                    }
                    let after = usize::try_from(range.last + 1).unwrap();
                    prop_assert!(chosen.get(after) != Some(&true), "adjacent ranges are joined");
                }
                prop_assert_eq!(sent, chosen);
            }
            (model, other) => prop_assert!(false, "{:?} but {:?}", model, other),
        }
    }

    #[test]
    fn no_field_value_panics(value in "\\PC{0,80}", length in any::<u64>()) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            let mut fields = HeaderMap::new();
            for name in ["range", "if-match", "if-none-match", "if-range", "if-modified-since"] {
                fields.insert(name, value.clone());
                let _ = select(&Method::GET, &fields, &representation(length), NOW);
                fields.remove("if-match");
            }
        }
    }

    #[test]
    fn a_tag_list_finds_its_members(tags in proptest::collection::vec("[!#-~]{0,6}", 1..5)) {
        let list = tags.iter().map(|tag| format!("\"{tag}\"")).collect::<Vec<_>>().join(" ,, ");
        prop_assert_eq!(precondition::tags(&list).count(), tags.len());
    }
}
