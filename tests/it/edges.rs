//! The configurations of `deploy/`, each run by the program it is for, before the real server.
//!
//! One suite for all edges; what is special of one stands in its module.

mod nginx;
mod setup;
mod trafficserver;
mod varnish;

use std::time::{Duration, SystemTime};

use self::setup::{Edge, Origin, RECORDING, SLICE, bytes};
use crate::harness::pattern;

/// What every edge has to do.
fn check(edge: &Edge, mut origin: Origin) {
    seeks_are_true_and_exact(edge, &origin);
    what_was_sent_once_is_kept_for_all(edge, &origin);
    fields_are_the_viewers(edge, &origin);
    refused_is_what_the_origin_refuses(edge, &origin);
    a_url_ends_in_time(edge, &origin);
    what_has_begun_goes_on(edge, &origin);
    cached_seeks_outlive_the_origin(edge, &mut origin);
}

fn seeks_are_true_and_exact(edge: &Edge, origin: &Origin) {
    let url = origin.url("call", &[]);
    let whole = bytes();
    let n = whole.len();
    for (range, first, end) in [
        (
            format!("bytes={}-{}", 2 * SLICE + 77, 2 * SLICE + 177),
            2 * SLICE + 77,
            2 * SLICE + 178,
        ),
        (
            format!("bytes={}-{}", SLICE - 5, SLICE + 5),
            SLICE - 5,
            SLICE + 6,
        ),
        ("bytes=0-".into(), 0, n),
        ("bytes=0-0".into(), 0, 1),
        ("bytes=-100".into(), n - 100, n),
        (format!("bytes={}-{}", n - 10, n + 10), n - 10, n),
        (format!("bytes={}-", 3 * SLICE), 3 * SLICE, n),
    ] {
        let part = edge.get(&url, &[&format!("Range: {range}")]);
        assert_eq!(part.status, 206, "{range}: {part:?}");
        let content_range = format!("bytes {first}-{}/{n}", end - 1);
        assert_eq!(
            part.field("content-range"),
            Some(&*content_range),
            "{range}"
        );
        assert!(part.body == whole[first..end], "{range}: other bytes");
    }
    let all = edge.get(&url, &[]);
    assert_eq!((all.status, all.field("content-range")), (200, None));
    assert!(all.body == whole, "other bytes");
    let past = edge.get(&url, &[&format!("Range: bytes={n}-")]);
    assert_eq!(past.status, 416, "{past:?}");
}

/// A second seek, with another URL, asks the origin for no byte.
fn what_was_sent_once_is_kept_for_all(edge: &Edge, origin: &Origin) {
    let range = format!("Range: bytes={}-{}", 4 * SLICE, 4 * SLICE + 99);
    let first = edge.get(&origin.url("call", &["--ttl", "10m"]), &[&range]);
    assert_eq!(first.status, 206);
    let before = origin.media_answers();
    for flags in [&["--ttl", "11m"][..], &["--ttl", "12m", "--inline"]] {
        let again = edge.get(&origin.url("call", flags), &[&range]);
        assert_eq!((again.status, &again.body), (206, &first.body));
    }
    assert_eq!(origin.media_answers(), before, "the origin was asked again");
}

fn fields_are_the_viewers(edge: &Edge, origin: &Origin) {
    let direct = origin.program.get(&origin.url("call", &[]), &[]);
    let range = ["Range: bytes=5-9"];
    for (flags, disposition, kind) in [
        (
            &[][..],
            "attachment; filename=\"call.wav\"",
            "application/octet-stream",
        ),
        (&["--inline"], "inline", "audio/wav"),
        (
            &["--filename", "Zoe.wav"],
            "attachment; filename=\"Zoe.wav\"",
            "application/octet-stream",
        ),
    ] {
        let url = origin.url("call", flags);
        let part = edge.get(&url, &range);
        assert_eq!(
            part.field("content-disposition"),
            Some(disposition),
            "{part:?}"
        );
        assert_eq!(part.field("content-type"), Some(kind), "{part:?}");
        assert_eq!(part.field("etag"), direct.field("etag"));
        let keep = part.field("cache-control").unwrap();
        assert!(keep.starts_with("private"), "{keep}");
        for name in ["x-accel-expires", "cdn-cache-control", "surrogate-control"] {
            assert_eq!(part.field(name), None, "{part:?}");
        }
        let head = edge.ask("HEAD", &url, &[]);
        assert_eq!(head.status, 200);
        assert_eq!(
            head.field("content-length"),
            Some(&*bytes().len().to_string())
        );
        assert_eq!(
            head.field("content-disposition"),
            Some(disposition),
            "{head:?}"
        );
    }
    let validator = format!("If-None-Match: {}", direct.field("etag").unwrap());
    let unchanged = edge.get(&origin.url("call", &[]), &[&validator]);
    assert_eq!(
        (unchanged.status, unchanged.body.len()),
        (304, 0),
        "{unchanged:?}"
    );
    let if_range = format!("If-Range: {}", direct.field("etag").unwrap());
    assert_eq!(
        edge.get(&origin.url("call", &[]), &[&if_range, range[0]])
            .status,
        206
    );
    let other = edge.get(&origin.url("call", &[]), &["If-Range: \"other\"", range[0]]);
    assert_eq!((other.status, other.body.len()), (200, bytes().len()));
    let preflight = edge.ask("OPTIONS", RECORDING, &["Origin: null"]);
    assert_eq!(preflight.status, 204, "{preflight:?}");
    assert!(preflight.field("access-control-allow-headers").is_some());
}

/// URLs that hold nowhere, by what is wrong with them.
fn refused(origin: &Origin) -> Vec<(&'static str, String)> {
    let good = origin.url("call", &["--ttl", "10m"]);
    let (path, query) = good.split_once('?').unwrap();
    let mac = good.rfind('.').unwrap() + 1;
    vec![
        ("forged", format!("{}{}", &good[..mac], "A".repeat(43))),
        ("expired", origin.expired()),
        ("unsigned", path.to_owned()),
        (
            "of another path",
            format!("{}?{query}", path.replace("call.wav", "other.wav")),
        ),
        ("signed twice", format!("{good}&{query}")),
        (
            "in another spelling",
            format!("{}?{query}", path.replace("call", "%63all")),
        ),
        (
            "with an empty segment",
            format!("{}?{query}", path.replace("/media/", "/media//")),
        ),
        (
            "with a dot segment",
            format!("{}?{query}", path.replace("/media/", "/media/x/../")),
        ),
    ]
}

fn refused_is_what_the_origin_refuses(edge: &Edge, origin: &Origin) {
    // Both lie in the cache.
    for id in ["call", "other"] {
        assert_eq!(
            edge.get(&origin.url(id, &[]), &["Range: bytes=0-9"]).status,
            206
        );
    }
    let good = origin.url("call", &[]);
    for (what, url) in refused(origin) {
        for fields in [&[][..], &["Range: bytes=0-9"]] {
            let no = edge.get(&url, fields);
            assert_eq!(no.status, 403, "{what}: {no:?}");
            assert_eq!(
                no.field("cache-control"),
                Some("no-store"),
                "{what}: {no:?}"
            );
        }
    }
    // A viewer cannot speak for the edge, nor ask in its place.
    let path = RECORDING;
    let claims = format!("X-Original-URI: {good}");
    for fields in [
        vec![&*claims, "X-Original-Method: GET"],
        vec!["X-Tonearm-Pull: guess"],
        vec!["X-Tonearm-Exp: 9999999999", "X-Tonearm-Verdict: yes"],
    ] {
        assert_eq!(edge.get(path, &fields).status, 403, "{fields:?}");
    }
    let asked = edge.get("/edge/verify", &[&claims, "X-Original-Method: GET"]);
    assert!(matches!(asked.status, 403 | 404), "{asked:?}");
    assert_eq!(asked.field("x-tonearm-exp"), None);
    let posted = edge.ask("POST", &good, &["Content-Length: 0"]);
    assert!(matches!(posted.status, 403 | 405), "{posted:?}");
    // Signed, then gone: the origin's to say.
    let gone = origin.url("gone", &[]);
    origin.remove("gone.wav");
    assert_eq!(edge.get(&gone, &[]).status, 404);
}

/// A verdict in the cache does not outlive its URL.
fn a_url_ends_in_time(edge: &Edge, origin: &Origin) {
    let url = origin.url("call", &["--ttl", "2s"]);
    let exp = Origin::expiry(&url);
    assert_eq!(edge.get(&url, &["Range: bytes=0-9"]).status, 206);
    wait_until(exp + edge.late);
    let no = edge.get(&url, &["Range: bytes=0-9"]);
    assert_eq!(no.status, 403, "past its end: {no:?}");
}

/// A response outlives its URL, what is fetched for it after that included.
fn what_has_begun_goes_on(edge: &Edge, origin: &Origin) {
    let whole = pattern(32 * SLICE);
    origin.put("slow.wav", &whole);
    let url = origin.url("slow", &["--ttl", "2s"]);
    let mut client = edge.connect();
    client.set_receive_buffer(64 * 1024);
    client.ask("GET", &url, &["Connection: close"]);
    assert_eq!(client.head().status, 200);
    let mut body = client.exactly(SLICE);
    wait_until(Origin::expiry(&url) + edge.late);
    assert_eq!(edge.get(&url, &["Range: bytes=0-9"]).status, 403);
    body.extend(client.rest());
    assert_eq!(body.len(), whole.len());
    assert!(body == whole, "other bytes");
}

/// Waits until this Unix time, and a little.
fn wait_until(time: u64) {
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
    let wait = end.duration_since(SystemTime::now()).unwrap_or_default();
    std::thread::sleep(wait + Duration::from_millis(50));
}

fn cached_seeks_outlive_the_origin(edge: &Edge, origin: &mut Origin) {
    let url = origin.url("call", &["--ttl", "20m"]);
    // The verdict, and the bytes, if they were not there yet.
    for at in [0, SLICE, 2 * SLICE] {
        let warm = edge.get(&url, &[&format!("Range: bytes={at}-{}", at + 9)]);
        assert_eq!(warm.status, 206);
    }
    let refused = refused(origin);
    origin.stop();
    let whole = bytes();
    for at in [100, SLICE + 500, 2 * SLICE + SLICE / 2] {
        let part = edge.get(&url, &[&format!("Range: bytes={at}-{}", at + 999)]);
        assert_eq!(part.status, 206, "{part:?}");
        assert!(part.body == whole[at..at + 1000], "other bytes");
    }
    for (what, url) in refused {
        let no = edge.get(&url, &["Range: bytes=0-9"]);
        assert_eq!(no.status, 403, "{what}, without the origin: {no:?}");
    }
}
