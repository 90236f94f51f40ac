//! Range (RFC 9110 §14), byte by byte.

use std::time::Duration;

use crate::harness::multipart::parts;
use crate::harness::raw::Response;
use crate::harness::{Server, pattern};

const N: usize = 10_000;

/// What a set of ranges gets.
enum Gets {
    /// 200, whole.
    Whole,
    /// 206, one part.
    One(usize, usize),
    /// 206 multipart, these parts in this order.
    Many(&'static [(usize, usize)]),
    /// 416.
    Nothing,
}
use Gets::{Many, Nothing, One, Whole};

fn check(response: &Response, length: usize, gets: &Gets, row: &str) {
    let whole = pattern(length);
    let content_range = |first, last| format!("bytes {first}-{last}/{length}");
    match gets {
        Whole => {
            assert_eq!(response.status, 200, "{row}");
            assert_eq!(response.field("content-range"), None, "{row}");
            assert_eq!(response.body, whole, "{row}");
        }
        One(first, last) => {
            assert_eq!(response.status, 206, "{row}");
            let expect = content_range(*first, *last);
            assert_eq!(
                response.field("content-range"),
                Some(expect.as_str()),
                "{row}"
            );
            let media_type = Some("application/octet-stream");
            assert_eq!(response.field("content-type"), media_type, "{row}");
            assert_eq!(response.body, whole[*first..=*last], "{row}");
        }
        Many(ranges) => {
            assert_eq!(response.status, 206, "{row}");
            // §15.3.7.2: no Content-Range beside the parts' own.
            assert_eq!(response.field("content-range"), None, "{row}");
            let parts = parts(response);
            assert_eq!(parts.len(), ranges.len(), "{row}: {parts:?}");
            for (part, (first, last)) in parts.iter().zip(*ranges) {
                assert_eq!(part.content_range, content_range(*first, *last), "{row}");
                assert_eq!(part.content_type, "application/octet-stream", "{row}");
                assert_eq!(part.bytes, whole[*first..=*last], "{row}");
            }
        }
        Nothing => {
            assert_eq!(response.status, 416, "{row}");
            let expect = format!("bytes */{length}");
            let found = response.field("content-range");
            assert_eq!(found, Some(expect.as_str()), "{row}");
            assert_eq!(response.field("cache-control"), Some("no-store"), "{row}");
        }
    }
}

fn check_rows(length: usize, rows: &[(&str, Gets)]) {
    let server = Server::start();
    server.put("call.wav", length);
    let target = server.sign("call.wav");
    // One connection: every row leaves it in order for the next.
    let mut client = server.connect();
    for (range, gets) in rows {
        let response = client.get(&target, &[&format!("Range: {range}")]);
        check(&response, length, gets, range);
    }
}

#[test]
fn a_range_that_is_no_byte_range_is_ignored() {
    check_rows(
        N,
        &[
            ("", Whole),
            ("bytes", Whole),
            ("bytes=", Whole),
            ("bytes=,", Whole),
            ("bytes= ,, ", Whole),
            ("bytes=-", Whole),
            ("bytes=--5", Whole),
            ("bytes=5--", Whole),
            ("bytes=-5-", Whole),
            ("bytes=1-2-3", Whole),
            ("bytes=abc", Whole),
            ("bytes=a-b", Whole),
            ("bytes=0x0-0x5", Whole),
            ("bytes=+1-5", Whole),
            ("bytes=1.5-5", Whole),
            ("bytes=1", Whole),
            ("bytes=5-3", Whole),
            ("bytes 0-5", Whole),
            ("bytes=0 - 5", Whole),
            ("bytes=0-5;", Whole),
            ("bytes=0-5;10-15", Whole),
            ("bytes:0-5", Whole),
            ("items=0-5", Whole),
            ("byte=0-5", Whole),
            ("bytess=0-5", Whole),
            ("none", Whole),
            ("0-5", Whole),
            // §14.1.1: one invalid member makes the set invalid.
            ("bytes=0-5,abc", Whole),
            ("bytes=0-5,9-8", Whole),
            ("bytes=0-5 10-15", Whole),
            ("bytes=0-5,-", Whole),
            // Past u64, and still last before first.
            (
                "bytes=99999999999999999999999-99999999999999999999998",
                Whole,
            ),
            ("bytes=18446744073709551617-18446744073709551616", Whole),
            ("bytes=0-5,bytes=7-9", Whole),
        ],
    );
}

#[test]
fn one_range() {
    check_rows(
        N,
        &[
            ("bytes=0-", One(0, N - 1)),
            ("bytes=0-9999", One(0, N - 1)),
            ("bytes=0-0", One(0, 0)),
            ("bytes=9999-9999", One(9_999, 9_999)),
            ("bytes=9999-", One(9_999, 9_999)),
            ("bytes=500-999", One(500, 999)),
            // Clipped.
            ("bytes=0-10000", One(0, N - 1)),
            ("bytes=9999-10000", One(9_999, 9_999)),
            ("bytes=5000-18446744073709551615", One(5_000, N - 1)),
            ("bytes=5000-18446744073709551616", One(5_000, N - 1)),
            ("bytes=5000-99999999999999999999999999", One(5_000, N - 1)),
            // Suffixes.
            ("bytes=-1", One(9_999, 9_999)),
            ("bytes=-500", One(9_500, N - 1)),
            ("bytes=-9999", One(1, N - 1)),
            ("bytes=-10000", One(0, N - 1)),
            ("bytes=-10001", One(0, N - 1)),
            ("bytes=-18446744073709551616", One(0, N - 1)),
            ("bytes=-99999999999999999999999999", One(0, N - 1)),
            // One spelling of many.
            ("BYTES=0-5", One(0, 5)),
            ("Bytes=0-5", One(0, 5)),
            ("bytes=000-0005", One(0, 5)),
            ("bytes=-0005", One(9_995, N - 1)),
            ("bytes=00000000000000000000000000007-8", One(7, 8)),
            ("bytes=,0-5", One(0, 5)),
            ("bytes=0-5,", One(0, 5)),
            ("bytes=0-5 ,\t, ", One(0, 5)),
            // What is left of a set, where the rest cannot be satisfied.
            ("bytes=0-5,10000-", One(0, 5)),
            ("bytes=-0,0-5", One(0, 5)),
            ("bytes=99999999999999999999999-,7-7", One(7, 7)),
        ],
    );
}

#[test]
fn ranges_that_do_not_exist() {
    check_rows(
        N,
        &[
            ("bytes=-0", Nothing),
            ("bytes=-000", Nothing),
            ("bytes=10000-", Nothing),
            ("bytes=10000-10000", Nothing),
            ("bytes=18446744073709551615-", Nothing),
            ("bytes=18446744073709551616-", Nothing),
            ("bytes=99999999999999999999999999-", Nothing),
            (
                "bytes=99999999999999999999999998-99999999999999999999999999",
                Nothing,
            ),
            ("bytes=10000-,-0,20000-30000", Nothing),
        ],
    );
}

#[test]
fn thousands_of_digits_saturate() {
    let digits = "9".repeat(5_000);
    let zeros = "0".repeat(5_000);
    check_rows(
        N,
        &[
            (&format!("bytes={digits}-"), Nothing),
            (&format!("bytes=5-{digits}"), One(5, N - 1)),
            (&format!("bytes=-{digits}"), One(0, N - 1)),
            (&format!("bytes={zeros}5-6"), One(5, 6)),
            (&format!("bytes=-{zeros}"), Nothing),
        ],
    );
}

#[test]
fn several_ranges() {
    check_rows(
        N,
        &[
            ("bytes=0-5,100-200", Many(&[(0, 5), (100, 200)])),
            // §15.3.7.2: in the order asked for.
            ("bytes=100-200,0-5", Many(&[(100, 200), (0, 5)])),
            ("bytes=0-0,-1", Many(&[(0, 0), (9_999, 9_999)])),
            ("bytes=-1 , 0-0", Many(&[(9_999, 9_999), (0, 0)])),
            ("bytes=0-5,,\t10-15,", Many(&[(0, 5), (10, 15)])),
            ("bytes=0-5,20000-,100-200", Many(&[(0, 5), (100, 200)])),
            ("bytes=0-0,9998-20000", Many(&[(0, 0), (9_998, 9_999)])),
            (
                "bytes=0-4998,5000-9999",
                Many(&[(0, 4_998), (5_000, 9_999)]),
            ),
            // A gap of one byte is a gap.
            ("bytes=0-5,7-9", Many(&[(0, 5), (7, 9)])),
            // Coalesced.
            ("bytes=0-5,6-10", One(0, 10)),
            ("bytes=6-10,0-5", One(0, 10)),
            ("bytes=0-5,3-10", One(0, 10)),
            ("bytes=0-10,3-5", One(0, 10)),
            ("bytes=7-7,7-7", One(7, 7)),
            ("bytes=100-200,300-400,150-350", One(100, 400)),
            ("bytes=-5,9990-9996", One(9_990, 9_999)),
            ("bytes=0-5,100-105,6-10", Many(&[(0, 10), (100, 105)])),
            ("bytes=500-600,0-5,550-700", Many(&[(500, 700), (0, 5)])),
        ],
    );
}

#[test]
fn sets_that_ask_for_too_much_are_ignored() {
    let of = |count: usize| {
        let ranges: Vec<_> = (0..count).map(|at| format!("{0}-{0}", at * 10)).collect();
        format!("bytes={}", ranges.join(","))
    };
    let sixteen: Vec<_> = (0..16).map(|at| (at * 10, at * 10)).collect();
    check_rows(
        N,
        &[
            (&of(16), Many(sixteen.clone().leak())),
            // Empty members are no ranges.
            (&of(16).replace(',', ",,, ,"), Many(sixteen.leak())),
            (&of(17), Whole),
            (&of(1_000), Whole),
            (&format!("{},20000-", of(16)), Whole),
            // A sum above N.
            ("bytes=0-,0-0", Whole),
            ("bytes=0-,0-,0-", Whole),
            ("bytes=0-6000,4000-9999", Whole),
            ("bytes=-9999,0-1", Whole),
        ],
    );
}

#[test]
fn an_answer_is_never_much_larger_than_the_file() {
    let server = Server::start();
    server.put("call.wav", 100);
    let ranges: Vec<_> = (0..16).map(|at| format!("{0}-{0}", at * 6)).collect();
    let range = format!("Range: bytes={}", ranges.join(","));
    for target in [
        server.sign("call.wav"),
        server.sign_with("call.wav", |mut claims| {
            claims.disposition = Some(tonearm::sign::Disposition::Inline);
            claims
        }),
    ] {
        let response = server.get(&target, &[&range]);
        assert_eq!((response.status, parts(&response).len()), (206, 16));
        assert!(response.body.len() <= 100 + 4096, "{}", response.body.len());
    }
}

#[test]
fn an_empty_file_has_no_first_byte() {
    check_rows(
        0,
        &[
            ("bytes=0-", Nothing),
            ("bytes=0-0", Nothing),
            ("bytes=1-5,7-", Nothing),
            ("bytes=-0", Nothing),
            ("bytes=-1", Whole),
            ("bytes=-500", Whole),
            ("bytes=abc", Whole),
        ],
    );
}

#[test]
fn a_file_of_one_byte() {
    check_rows(
        1,
        &[
            ("bytes=0-", One(0, 0)),
            ("bytes=0-0", One(0, 0)),
            ("bytes=0-1", One(0, 0)),
            ("bytes=-1", One(0, 0)),
            ("bytes=-2", One(0, 0)),
            ("bytes=1-", Nothing),
            ("bytes=0-0,0-0", Whole),
        ],
    );
}

#[test]
fn offsets_past_four_gigabytes() {
    use std::os::unix::fs::FileExt as _;

    const HUGE: u64 = 5 << 30;
    let server = Server::start();
    server.put("call.wav", 0);
    let mut options = std::fs::File::options();
    let file = options.write(true).open(server.file("call.wav")).unwrap();
    // All else is a hole.
    file.write_all_at(b"the very end", HUGE - 12).unwrap();
    let target = server.sign("call.wav");
    let head = server.ask("HEAD", &target, &[]);
    assert_eq!(head.field("content-length"), Some("5368709120"));
    for (range, content_range, body) in [
        (
            "bytes=-8",
            "bytes 5368709112-5368709119/5368709120",
            "very end",
        ),
        (
            "bytes=5368709108-5368709110",
            "bytes 5368709108-5368709110/5368709120",
            "the",
        ),
        (
            "bytes=5368709116-",
            "bytes 5368709116-5368709119/5368709120",
            " end",
        ),
    ] {
        let response = server.get(&target, &[&format!("Range: {range}")]);
        assert_eq!(response.status, 206, "{range}");
        assert_eq!(response.field("content-range"), Some(content_range));
        assert_eq!(response.text(), body, "{range}");
    }
    let past = server.get(&target, &["Range: bytes=5368709120-"]);
    let content_range = Some("bytes */5368709120");
    assert_eq!(
        (past.status, past.field("content-range")),
        (416, content_range)
    );
}

#[test]
fn a_repeated_range_is_ignored() {
    let server = Server::start();
    server.put("call.wav", N);
    let target = server.sign("call.wav");
    // §5.3: joined, the two are "bytes=0-5, bytes=7-9", which is no set.
    let response = server.get(&target, &["Range: bytes=0-5", "Range: bytes=7-9"]);
    check(&response, N, &Whole, "twice");
}

#[test]
fn head_ignores_range() {
    let server = Server::start();
    server.put("call.wav", N);
    let target = server.sign("call.wav");
    let plain = server.ask("HEAD", &target, &[]);
    for range in ["bytes=0-5", "bytes=0-5,7-9", "bytes=10000-", "bytes=x"] {
        let head = server.ask("HEAD", &target, &[&format!("Range: {range}")]);
        // §14.2: GET is the only method for which range handling is defined.
        assert_eq!(head.status, 200, "{range}");
        assert_eq!(head.undated(), plain.undated(), "{range}");
        assert_eq!(head.field("content-length"), Some("10000"), "{range}");
    }
}

#[test]
fn ranges_of_a_file_larger_than_every_read() {
    let length = 2_000_000;
    check_rows(
        length,
        &[
            ("bytes=65535-65536", One(65_535, 65_536)),
            ("bytes=1-1999998", One(1, 1_999_998)),
            ("bytes=-1500001", One(499_999, 1_999_999)),
            (
                "bytes=1000000-1700000,3-600000",
                Many(&[(1_000_000, 1_700_000), (3, 600_000)]),
            ),
        ],
    );
}

/// A corked last packet would wait 200 ms for what does not come.
#[test]
fn the_end_of_a_large_multipart_does_not_wait() {
    let server = Server::start();
    server.put("call.wav", 4 << 20);
    let target = server.sign("call.wav");
    let mut client = server.connect();
    let times = (0..9).map(|_| {
        let began = std::time::Instant::now();
        let fields = ["Range: bytes=0-299999,1000000-1000099"];
        assert_eq!(client.get(&target, &fields).status, 206);
        began.elapsed()
    });
    // It would wait each time, on however fast a machine.
    let fastest = times.min().unwrap();
    assert!(fastest < Duration::from_millis(150), "{fastest:?}");
}
