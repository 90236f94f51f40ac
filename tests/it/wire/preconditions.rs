//! Preconditions and their order (RFC 9110 §13), for GET and HEAD.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::{MODIFIED_DATE, Server};
use tonearm::server;

const BEFORE: &str = "Tue, 14 Nov 2023 22:13:19 GMT";
const AFTER: &str = "Tue, 14 Nov 2023 22:13:21 GMT";

/// A row: the request's fields, with `ETAG`, `DATE`, `BEFORE` and `AFTER` in place of the
/// recording's own, and the status that GET gets.
type Row = (&'static [&'static str], u16);

fn check_rows(rows: &[Row]) {
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    let full = server.get(&target, &[]);
    let etag = full.field("etag").unwrap().to_owned();
    assert_eq!(full.field("last-modified"), Some(MODIFIED_DATE));
    for (fields, status) in rows {
        let fields: Vec<_> = fields
            .iter()
            .map(|field| {
                field
                    .replace("ETAG", &etag)
                    .replace("DATE", MODIFIED_DATE)
                    .replace("BEFORE", BEFORE)
                    .replace("AFTER", AFTER)
            })
            .collect();
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        let answer = server.get(&target, &fields);
        assert_eq!(answer.status, *status, "GET {fields:?}");
        if *status == 304 {
            check_not_modified(&answer, &full, &fields);
        }
        let head = server.ask("HEAD", &target, &fields);
        let of_head = if matches!(status, 206 | 416) {
            200
        } else {
            *status
        };
        assert_eq!(head.status, of_head, "HEAD {fields:?}");
        if head.status == answer.status {
            assert_eq!(head.undated(), answer.undated(), "HEAD {fields:?}");
        }
    }
}

fn check_not_modified(
    answer: &crate::harness::raw::Response,
    full: &crate::harness::raw::Response,
    fields: &[&str],
) {
    // §15.4.5: what a 200 would have, and nothing that describes a content.
    for name in ["etag", "last-modified"] {
        assert_eq!(answer.field(name), full.field(name), "{fields:?}");
    }
    let cache_control = answer.field("cache-control").expect("Cache-Control");
    assert!(
        cache_control.starts_with("private, no-transform, max-age="),
        "{cache_control}"
    );
    for name in [
        "content-length",
        "content-type",
        "content-range",
        "content-disposition",
        "transfer-encoding",
    ] {
        assert_eq!(answer.field(name), None, "{fields:?}");
    }
}

#[test]
fn if_match() {
    // §13.1.1, strong comparison.
    check_rows(&[
        (&["If-Match: ETAG"], 200),
        (&["If-Match: *"], 200),
        (&["If-Match: \"a\", ETAG"], 200),
        (&["If-Match: \"a\",ETAG ,\"b\""], 200),
        (&["If-Match: ,, ETAG,"], 200),
        (&["If-Match: \"with,comma\", ETAG"], 200),
        (&["If-Match: \"a\"", "If-Match: ETAG"], 200),
        (&["If-Match: \"a\""], 412),
        (&["If-Match: W/ETAG"], 412),
        (&["If-Match: \"a\", \"b\""], 412),
        (&["If-Match: unquoted"], 412),
        (&["If-Match:"], 412),
        (&["If-Match: \"*\""], 412),
    ]);
}

#[test]
fn if_unmodified_since() {
    // §13.1.4.
    check_rows(&[
        (&["If-Unmodified-Since: DATE"], 200),
        (&["If-Unmodified-Since: AFTER"], 200),
        (&["If-Unmodified-Since: BEFORE"], 412),
        (&["If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"], 412),
        // §5.6.7: all three forms are read.
        (
            &["If-Unmodified-Since: Tuesday, 14-Nov-23 22:13:20 GMT"],
            200,
        ),
        (
            &["If-Unmodified-Since: Tuesday, 14-Nov-23 22:13:19 GMT"],
            412,
        ),
        (&["If-Unmodified-Since: Tue Nov 14 22:13:20 2023"], 200),
        (&["If-Unmodified-Since: Tue Nov 14 22:13:19 2023"], 412),
        // No date, and so no condition.
        (&["If-Unmodified-Since: yesterday"], 200),
        (&["If-Unmodified-Since: 1"], 200),
        (&["If-Unmodified-Since: 2023-11-14T22:13:19Z"], 200),
        (&["If-Unmodified-Since: Tue, 14 Nov 2023 25:13:19 GMT"], 200),
        (
            &["If-Unmodified-Since: BEFORE", "If-Unmodified-Since: BEFORE"],
            200,
        ),
    ]);
}

#[test]
fn if_none_match() {
    // §13.1.2, weak comparison.
    check_rows(&[
        (&["If-None-Match: ETAG"], 304),
        (&["If-None-Match: W/ETAG"], 304),
        (&["If-None-Match: *"], 304),
        (&["If-None-Match: \"a\", W/\"b\", ETAG"], 304),
        (&["If-None-Match: \"with,comma\",W/ETAG"], 304),
        (&["If-None-Match: \"a\"", "If-None-Match: ETAG"], 304),
        (&["If-None-Match: \"a\""], 200),
        (&["If-None-Match: \"\""], 200),
        (&["If-None-Match: unquoted"], 200),
        (&["If-None-Match: w/ETAG"], 200),
        (&["If-None-Match:"], 200),
    ]);
}

#[test]
fn if_modified_since() {
    // §13.1.3.
    check_rows(&[
        (&["If-Modified-Since: DATE"], 304),
        (&["If-Modified-Since: AFTER"], 304),
        (&["If-Modified-Since: BEFORE"], 200),
        (&["If-Modified-Since: Tuesday, 14-Nov-23 22:13:20 GMT"], 304),
        (&["If-Modified-Since: Tue Nov 14 22:13:20 2023"], 304),
        (&["If-Modified-Since: Tue Nov 14 22:13:19 2023"], 200),
        (&["If-Modified-Since: 0"], 200),
        (&["If-Modified-Since: tomorrow"], 200),
        (&["If-Modified-Since: DATE", "If-Modified-Since: DATE"], 200),
    ]);
}

#[test]
fn the_order_of_preconditions() {
    // §13.2.2, step by step.
    check_rows(&[
        // 1 before 2: If-Unmodified-Since is not looked at.
        (&["If-Match: ETAG", "If-Unmodified-Since: BEFORE"], 200),
        (&["If-Match: \"a\"", "If-Unmodified-Since: DATE"], 412),
        // 1 and 2 before 3 and 4.
        (&["If-Match: \"a\"", "If-None-Match: ETAG"], 412),
        (&["If-Match: ETAG", "If-None-Match: ETAG"], 304),
        (&["If-Match: ETAG", "If-None-Match: \"a\""], 200),
        (&["If-Match: \"a\"", "If-Modified-Since: DATE"], 412),
        (&["If-Unmodified-Since: BEFORE", "If-None-Match: ETAG"], 412),
        (
            &["If-Unmodified-Since: BEFORE", "If-Modified-Since: DATE"],
            412,
        ),
        (
            &["If-Unmodified-Since: DATE", "If-Modified-Since: DATE"],
            304,
        ),
        // 3 before 4: If-Modified-Since is not looked at.
        (&["If-None-Match: \"a\"", "If-Modified-Since: DATE"], 200),
        (&["If-None-Match: ETAG", "If-Modified-Since: BEFORE"], 304),
        (&["If-None-Match: nonsense", "If-Modified-Since: DATE"], 200),
        // All before 5, Range.
        (&["If-Match: \"a\"", "Range: bytes=0-5"], 412),
        (&["If-Match: ETAG", "Range: bytes=0-5"], 206),
        (&["If-None-Match: ETAG", "Range: bytes=0-5"], 304),
        (&["If-None-Match: ETAG", "Range: bytes=1000-"], 304),
        (&["If-None-Match: \"a\"", "Range: bytes=0-5"], 206),
        (&["If-Modified-Since: DATE", "Range: bytes=0-5"], 304),
        (&["If-Modified-Since: BEFORE", "Range: bytes=0-5"], 206),
        (&["If-Unmodified-Since: BEFORE", "Range: bytes=1000-"], 412),
        (
            &["If-None-Match: ETAG", "Range: bytes=0-5", "If-Range: ETAG"],
            304,
        ),
        (
            &["If-Match: ETAG", "Range: bytes=0-5", "If-Range: \"a\""],
            200,
        ),
    ]);
}

#[test]
fn if_range() {
    // §13.1.5.
    check_rows(&[
        (&["If-Range: ETAG", "Range: bytes=0-5"], 206),
        (&["If-Range: ETAG", "Range: bytes=0-5,7-9"], 206),
        (&["If-Range: ETAG", "Range: bytes=1000-"], 416),
        (&["If-Range: ETAG"], 200),
        (&["If-Range: \"a\"", "Range: bytes=0-5"], 200),
        (&["If-Range: \"a\"", "Range: bytes=1000-"], 200),
        (&["If-Range: W/ETAG", "Range: bytes=0-5"], 200),
        (&["If-Range: *", "Range: bytes=0-5"], 200),
        (&["If-Range:", "Range: bytes=0-5"], 200),
        (&["If-Range: unquoted", "Range: bytes=0-5"], 200),
        (&["If-Range: ETAG, \"a\"", "Range: bytes=0-5"], 200),
        (
            &["If-Range: ETAG", "If-Range: ETAG", "Range: bytes=0-5"],
            200,
        ),
        (&["If-Range: DATE", "Range: bytes=0-5"], 206),
        // A date matches exactly, not as If-Unmodified-Since does.
        (&["If-Range: BEFORE", "Range: bytes=0-5"], 200),
        (&["If-Range: AFTER", "Range: bytes=0-5"], 200),
        (&["If-Range: yesterday", "Range: bytes=0-5"], 200),
        // A malformed Range stays ignored.
        (&["If-Range: ETAG", "Range: bytes=5-3"], 200),
    ]);
}

#[test]
fn a_date_within_the_response_s_own_second_is_weak() {
    let server = Server::start();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    // Both sides of the second's end will do, as long as the answer fits its own Date.
    for _ in 0..20 {
        let modified = UNIX_EPOCH + Duration::from_secs(server::now().0);
        server.date("call.wav", modified);
        let if_range = format!("If-Range: {}", httpdate::fmt_http_date(modified));
        let answer = server.get(&target, &["Range: bytes=0-5", &if_range]);
        let strong = answer.date() > modified;
        assert!(
            answer.status == 200 || (strong && answer.status == 206),
            "{answer:?}"
        );
    }
    let past = UNIX_EPOCH + Duration::from_secs(server::now().0 - 2);
    server.date("call.wav", past);
    let if_range = format!("If-Range: {}", httpdate::fmt_http_date(past));
    let answer = server.get(&target, &["Range: bytes=0-5", &if_range]);
    assert_eq!(answer.status, 206, "two seconds are enough");
}

#[test]
fn a_date_from_the_future_is_neither_sent_nor_trusted() {
    let server = Server::start();
    server.put("call.wav", 1000);
    let future: SystemTime = UNIX_EPOCH + Duration::from_secs(server::now().0 + 3600);
    server.date("call.wav", future);
    let target = server.sign("call.wav");
    let full = server.get(&target, &[]);
    let shown = full.field("last-modified").unwrap().to_owned();
    // §8.8.2.1: not later than Date.
    assert!(
        httpdate::parse_http_date(&shown).unwrap() <= full.date(),
        "{shown}"
    );
    for date in [shown, httpdate::fmt_http_date(future)] {
        let if_range = format!("If-Range: {date}");
        let answer = server.get(&target, &["Range: bytes=0-5", &if_range]);
        assert_eq!(answer.status, 200, "{date}");
    }
}

#[test]
fn preconditions_are_for_what_would_be_200() {
    // §13.2.1: a refusal or an absence comes first.
    let server = Server::start();
    server.put("call.wav", 1000);
    let absent = server.sign("absent.wav");
    let forged = server.sign("call.wav").replace("sig=1", "sig=2");
    for field in [
        "If-Match: *",
        "If-Match: \"a\"",
        "If-None-Match: *",
        "If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT",
        "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
    ] {
        for method in ["GET", "HEAD"] {
            assert_eq!(server.ask(method, &absent, &[field]).status, 404, "{field}");
            assert_eq!(server.ask(method, &forged, &[field]).status, 403, "{field}");
        }
    }
}
