//! Conditional fields. Input: one byte that chooses the representation's tag, then field lines
//! parted by LF.
//!
//! * A well-formed list matches exactly where a byte-wise reading of RFC 9110 §8.8.3 finds the tag.
//! * A malformed one never matches a tag that does not stand in it.
//! * Into any list of well-formed members the tag is put, and found.
//! * If-Range holds for the tag itself, and for no list, no weak tag and no other date.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use libfuzzer_sys::fuzz_target;
use tonearm::recording::{EntityTag, MediaType, Representation, UnixTime};
use tonearm::select::{Selection, select};

const NOW: UnixTime = UnixTime(1_767_225_600);
const MODIFIED: UnixTime = UnixTime(784_111_777);
/// The three spellings of that second (§5.6.7).
const DATES: [&[u8]; 3] = [
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sunday, 06-Nov-94 08:49:37 GMT",
    b"Sun Nov  6 08:49:37 1994",
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let etag = match choice % 3 {
        0 => EntityTag::from_file(0xa, 0xb),
        1 => EntityTag::from_file(u64::MAX, i128::MIN),
        _ => EntityTag::from_sha256(&[*choice; 32]),
    };
    let representation = Representation {
        length: 10,
        etag,
        last_modified: (choice & 0x80 == 0).then_some(MODIFIED),
        media: MediaType::Wav,
        file_name: "call.wav".into(),
        sha256: None,
    };
    let lines: Vec<&[u8]> = rest
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| HeaderValue::from_bytes(line).is_ok())
        .collect();
    check_lists(&lines, &representation);
    check_put_in(&lines, &representation);
    for line in lines {
        check_if_range(line, &representation);
        check_dates(line, &representation);
    }
});

fn ask(name: HeaderName, lines: &[&[u8]], representation: &Representation) -> Selection {
    let mut fields = HeaderMap::new();
    for line in lines {
        fields.append(&name, HeaderValue::from_bytes(line).unwrap());
    }
    if name == header::IF_RANGE {
        fields.insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
    }
    select(&Method::GET, &fields, representation, NOW)
}

/// The members of `#entity-tag`, each weak or not with its quoted text; `None` where the line is no
/// such list.
fn members(line: &[u8]) -> Option<Vec<(bool, &[u8])>> {
    let mut members = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if let [b',', after @ ..] = rest {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return Some(members);
        }
        let weak = rest.starts_with(b"W/");
        let quoted = if weak { &rest[2..] } else { rest };
        let inner = quoted.strip_prefix(b"\"")?;
        let end = inner.iter().position(|byte| *byte == b'"')?;
        if !inner[..end].iter().copied().all(is_etagc) {
            return None;
        }
        members.push((weak, &quoted[..end + 2]));
        rest = inner[end + 1..].trim_ascii_start();
        if !(rest.is_empty() || rest.starts_with(b",")) {
            return None;
        }
    }
}

/// §8.8.3: `%x21 / %x23-7E / obs-text`.
fn is_etagc(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'~' | 0x80..)
}

fn check_lists(lines: &[&[u8]], representation: &Representation) {
    if lines.is_empty() {
        return;
    }
    let tag = representation.etag.as_str().as_bytes();
    let expected = ask(header::IF_MATCH, lines, representation) == Selection::Full;
    let current = ask(header::IF_NONE_MATCH, lines, representation) == Selection::NotModified;
    let any = lines.contains(&&b"*"[..]);
    let lists: Option<Vec<_>> = lines.iter().map(|line| members(line)).collect();
    if let Some(lists) = lists {
        let mut tags = lists.iter().flatten();
        assert_eq!(current, tags.clone().any(|(_, found)| *found == tag));
        assert_eq!(expected, tags.any(|member| *member == (false, tag)));
    } else {
        let stands = |line: &&[u8]| line.windows(tag.len()).any(|part| part == tag);
        let possible = any || lines.iter().any(stands);
        assert!(
            possible || (!expected && !current),
            "found what is not there"
        );
    }
    assert!(!any || (expected && current), "* is any tag");
}

/// Puts the tag between the well-formed lines' members, in each place and spelling.
fn check_put_in(lines: &[&[u8]], representation: &Representation) {
    let tag = representation.etag.as_str().as_bytes();
    let others: Vec<_> = lines
        .iter()
        .filter_map(|line| members(line))
        .flatten()
        .collect();
    let strong_other = others.contains(&(false, tag));
    for place in 0..=others.len().min(4) {
        for (weak, joint) in [(false, &b","[..]), (true, b" ,\t"), (false, b", , ")] {
            let mut list = others.clone();
            list.insert(place, (weak, tag));
            let texts: Vec<_> = list
                .iter()
                .map(|(weak, tag)| [if *weak { &b"W/"[..] } else { b"" }, tag].concat())
                .collect();
            let line = texts.join(joint);
            let known = ask(header::IF_NONE_MATCH, &[&line], representation);
            assert_eq!(known, Selection::NotModified);
            let expect = if weak && !strong_other {
                Selection::PreconditionFailed
            } else {
                Selection::Full
            };
            assert_eq!(ask(header::IF_MATCH, &[&line], representation), expect);
        }
    }
}

fn check_if_range(line: &[u8], representation: &Representation) {
    let holds = match ask(header::IF_RANGE, &[line], representation) {
        Selection::Partial(_) => true,
        Selection::Full => false,
        other => panic!("{other:?}"),
    };
    if line == representation.etag.as_str().as_bytes() {
        assert!(holds);
    } else if DATES.contains(&line) {
        assert_eq!(holds, representation.last_modified.is_some());
    } else if line.starts_with(b"\"") || line.starts_with(b"W/") || line.contains(&b',') {
        let date = holds && line.ends_with(b"GMT");
        assert!(date || !holds, "a list, a weak tag or another tag");
    }
    let twice = ask(header::IF_RANGE, &[line, line], representation);
    assert_eq!(twice, Selection::Full);
}

/// Dates never panic, and where there is none to compare with they are ignored.
fn check_dates(line: &[u8], representation: &Representation) {
    for name in [header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE] {
        let selection = ask(name, &[line], representation);
        if representation.last_modified.is_none() {
            assert_eq!(selection, Selection::Full);
        }
    }
}
