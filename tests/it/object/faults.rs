//! A store that breaks off, lies, refuses or says nothing.

use std::time::Duration;

use tonearm::store::Limits;

use crate::harness::bucket::{Fault, FaultyS3, key};
use crate::harness::{Server, Setup, pattern};

const LENGTH: usize = 600_000;

fn over(s3: &FaultyS3) -> Server {
    let limits = Limits {
        timeout: Duration::from_millis(700),
        ..Limits::default()
    };
    Server::with(Setup {
        store: Some(s3.store(limits)),
        ..Setup::default()
    })
}

fn fixture() -> (FaultyS3, Server) {
    let s3 = FaultyS3::start();
    s3.put(&key("call.wav"), &pattern(LENGTH));
    let server = over(&s3);
    (s3, server)
}

#[test]
fn a_body_that_breaks_off_goes_on_from_there() {
    for fault in [
        Fault::Reset(100_000),
        Fault::Close(100_000),
        Fault::Stall(100_000),
        Fault::Reset(0),
        Fault::Close(0),
    ] {
        let (s3, server) = fixture();
        s3.faults([fault.clone(), fault.clone(), fault.clone()]);
        let answer = server.get(&server.sign("call.wav"), &["Range: bytes=1000-"]);
        assert_eq!(answer.status, 206, "{fault:?}");
        assert!(answer.body == pattern(LENGTH)[1000..], "{fault:?}");
        let asked = s3.asked();
        let ranges: Vec<_> = asked.iter().filter(|line| line.contains('-')).collect();
        assert!(ranges.len() >= 4, "{fault:?}: {asked:?}");
        // Nothing is asked for twice.
        assert!(
            !matches!(fault, Fault::Close(100_000))
                || asked.last().unwrap().ends_with(" 301000-599999"),
            "{asked:?}"
        );
    }
}

#[test]
fn a_failure_before_the_first_byte_is_an_answer() {
    for (fault, status) in [
        (Fault::Status(503), 503),
        (Fault::Status(500), 503),
        (Fault::Status(403), 502),
        (Fault::Status(416), 503),
        (Fault::Whole, 502),
        (Fault::Shifted, 502),
        (Fault::OtherVersion, 503),
        (Fault::Status(412), 503),
    ] {
        let (s3, server) = fixture();
        s3.faults(vec![fault.clone(); 4]);
        let answer = server.get(&server.sign("call.wav"), &["Range: bytes=10-19"]);
        assert_eq!(answer.status, status, "{fault:?}: {answer:?}");
        assert!(answer.field("retry-after").is_some(), "{fault:?}");
        // What it was is not kept.
        s3.faults([]);
        let answer = server.get(&server.sign("call.wav"), &["Range: bytes=10-19"]);
        assert_eq!(answer.status, 206, "after {fault:?}");
        assert_eq!(answer.body, pattern(20)[10..]);
    }
}

#[test]
fn a_store_that_says_nothing_is_a_504() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let s3 = crate::harness::bucket::s3(listener.local_addr().unwrap());
    let limits = Limits {
        timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let store = crate::harness::bucket::object(std::sync::Arc::new(s3.build().unwrap()), limits);
    let server = Server::with(Setup {
        store: Some(store),
        ..Setup::default()
    });
    let answer = server.get(&server.sign("call.wav"), &[]);
    assert_eq!(answer.status, 504);
    assert!(answer.field("retry-after").is_some());
}

#[test]
fn an_unreachable_store_is_a_503() {
    let s3 = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        crate::harness::bucket::s3(listener.local_addr().unwrap())
    };
    let store = std::sync::Arc::new(s3.build().unwrap());
    let server = Server::with(Setup {
        store: Some(crate::harness::bucket::object(store, Limits::default())),
        ..Setup::default()
    });
    let answer = server.get(&server.sign("call.wav"), &[]);
    assert_eq!(answer.status, 503);
    assert!(answer.field("retry-after").is_some());
}

#[test]
fn bytes_of_two_versions_are_never_spliced() {
    let (s3, server) = fixture();
    // The store passes over If-Match when it is asked to go on.
    s3.faults([Fault::Close(50_000), Fault::OtherVersion]);
    let mut client = server.connect();
    client.ask("GET", &server.sign("call.wav"), &[]);
    let head = client.head();
    assert_eq!(head.status, 200);
    let body = client.rest();
    assert!(body.len() < LENGTH, "{}", body.len());
    assert!(body == pattern(body.len()));
    server.wait_for_metric("tonearm_bodies_total{outcome=\"failed\"} 1");
}

#[test]
fn what_cannot_be_had_cuts_the_connection() {
    let (s3, server) = fixture();
    s3.faults(std::iter::once(Fault::Close(50_000)).chain(vec![Fault::Status(403); 9]));
    let mut client = server.connect();
    client.ask("GET", &server.sign("call.wav"), &[]);
    assert_eq!(client.head().status, 200);
    let body = client.rest();
    assert!(body == pattern(50_000), "{}", body.len());
}

#[test]
fn more_bytes_than_were_asked_for_are_not_passed_on() {
    let (s3, server) = fixture();
    s3.faults(vec![Fault::Longer(100); 9]);
    let mut client = server.connect();
    client.ask("GET", &server.sign("call.wav"), &["Range: bytes=0-99999"]);
    assert_eq!(client.head().status, 206);
    let body = client.rest();
    assert!(body.len() <= 100_000 && body == pattern(body.len()));
}

#[test]
fn a_replaced_object_is_located_anew() {
    let (s3, server) = fixture();
    let first = server.get(&server.sign("call.wav"), &["Range: bytes=0-9"]);
    let replaced: Vec<u8> = pattern(LENGTH + 1).iter().map(|byte| byte ^ 1).collect();
    s3.put(&key("call.wav"), &replaced);
    let answer = server.get(&server.sign("call.wav"), &["Range: bytes=-9"]);
    assert_eq!(answer.status, 206);
    assert_eq!(answer.body, replaced[LENGTH - 8..]);
    assert_ne!(answer.field("etag"), first.field("etag"));
}

#[test]
fn a_digest_counts_for_the_version_it_names() {
    let (s3, server) = fixture();
    let record = |etag: &str, sha256: &str| {
        format!(r#"{{"file":{{"size":4,"modified_ns":0,"sha256":"{sha256}","etag":{etag:?}}}}}"#)
    };
    let sha256 = "ab".repeat(32);
    s3.put(&key("known.wav"), b"RIFF");
    // The second object of this store, in the store's own spelling.
    s3.put(&key("known.json"), record("\"v2\"", &sha256).as_bytes());
    s3.put(&key("stale.wav"), b"RIFF");
    s3.put(&key("stale.json"), record("\"v9\"", &sha256).as_bytes());
    let known = server.get(&server.sign("known.wav"), &[]);
    assert_eq!(known.field("etag"), Some(&*format!("\"{sha256}\"")));
    assert!(known.field("repr-digest").is_some());
    let stale = server.get(&server.sign("stale.wav"), &[]);
    assert_ne!(stale.field("etag"), known.field("etag"));
    assert_eq!(stale.field("repr-digest"), None);
}

#[test]
fn many_who_ask_at_once_are_answered_by_one_look() {
    let (s3, server) = fixture();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let target = server.sign("call.wav");
                assert_eq!(server.get(&target, &["Range: bytes=5-9"]).status, 206);
            });
        }
    });
    let asked = s3.asked();
    let looks = asked.iter().filter(|line| line.starts_with("HEAD")).count();
    // Two seconds may pass on a machine under load.
    assert!((1..=3).contains(&looks), "{asked:?}");
}

#[test]
fn requests_under_way_are_capped() {
    let s3 = FaultyS3::start();
    s3.put(&key("call.wav"), &pattern(LENGTH));
    s3.faults([Fault::Stall(0)]);
    let limits = Limits {
        timeout: Duration::from_secs(8),
        requests: 2,
    };
    let server = Server::with(Setup {
        store: Some(s3.store(limits)),
        ..Setup::default()
    });
    // One place is taken by an answer that does not come; a look needs two at a time.
    let mut held = server.connect();
    held.ask("GET", &server.sign("call.wav"), &[]);
    assert_eq!(held.head().status, 200);
    s3.faults([Fault::Stall(0)]);
    let mut other = server.connect();
    other.ask("GET", &server.sign("call.wav"), &[]);
    assert_eq!(other.head().status, 200);
    let answer = server.get(&server.sign("call.wav"), &[]);
    assert_eq!(answer.status, 503);
    assert!(answer.field("retry-after").is_some());
}
