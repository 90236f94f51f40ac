//! A process that is killed at any moment of a change, and a store that fails in the midst of one.

use std::time::Duration;

use tonearm::ingest;
use tonearm::recording::{MediaPath, MediaType, UnixTime};
use tonearm::store::{ChangeError, Limits, Replace, Store, StoreError};

use super::changes::{erase, id, put, put_as, word};
use crate::harness::bucket::{FaultyS3, Spoilt, key};
use crate::harness::{OWNER, Server, Setup, TOKEN, pattern};
use crate::wire::ingest::wav;

fn limits() -> Limits {
    Limits {
        timeout: Duration::from_millis(500),
        ..Limits::default()
    }
}

/// How much is changed until a change is over, counted from a run that nobody kills.
const MOST: usize = 60;

/// [`killed_in`] a bucket of its own each time.
fn killed_anywhere(
    before: impl Fn(&FaultyS3) -> Store,
    change: impl Fn(&Store) -> Result<(), ChangeError>,
    check: impl Fn(&FaultyS3, &str),
    again: impl Fn(&Store, &str),
) {
    let fresh = || {
        let s3 = FaultyS3::start();
        let store = before(&s3);
        (s3, store)
    };
    killed_in(fresh, change, check, again);
}

/// Kills behind each request that changes something; what a listener would get then is checked each
/// time, and `again` does the same once more.
fn killed_in(
    fresh: impl Fn() -> (FaultyS3, Store),
    change: impl Fn(&Store) -> Result<(), ChangeError>,
    check: impl Fn(&FaultyS3, &str),
    again: impl Fn(&Store, &str),
) {
    for changes in 0..MOST {
        let (s3, store) = fresh();
        s3.dies_after(changes);
        let done = change(&store);
        let died = s3.revive();
        let what = format!("killed after {changes} changes, {done:?}");
        assert!(died || done.is_ok(), "{what}");
        check(&s3, &what);
        again(&s3.store(limits()), &what);
        if !died {
            assert!(changes > 3, "{what}");
            return;
        }
    }
    panic!("it never ends");
}

/// The recording under its name, if there is one, is one of those, whole.
fn is_one_of(s3: &FaultyS3, allowed: &[Option<&[u8]>], what: &str) {
    let bytes = s3.bytes(&key("call.wav"));
    assert!(allowed.contains(&bytes.as_deref()), "{what}");
}

fn changed(word: &str) -> Result<(), ChangeError> {
    match word {
        "Created" | "Replaced" | "Same" => Ok(()),
        word => Err(StoreError::Upstream(word.into()).into()),
    }
}

#[test]
fn a_put_is_there_or_not_and_a_second_one_is_success() {
    let bytes = pattern(1000);
    killed_anywhere(
        |s3| s3.store(limits()),
        |store| changed(&put_once(store, &bytes, &Replace::Never)),
        |s3, what| is_one_of(s3, &[None, Some(&bytes)], what),
        |store, what| {
            put_again(store, &bytes, &Replace::Never, what);
            let other = put(store, "call", b"other", &Replace::Never);
            assert_eq!(other, "another recording has this id");
            settled(store, &bytes, what);
        },
    );
}

#[test]
fn a_put_of_many_parts_is_there_or_not() {
    let bytes = pattern((5 << 20) + 1);
    // What is tried out of a store at first is of no interest here.
    let s3 = FaultyS3::start();
    let store = s3.store(limits());
    assert_eq!(put(&store, "warm", &bytes, &Replace::Never), "Created");
    let warm = s3.keys();
    let fresh = || {
        let keys = s3.keys().into_iter();
        keys.filter(|key| !warm.contains(key))
            .for_each(|key| s3.forget(&key));
        (s3.clone(), store.clone())
    };
    killed_in(
        fresh,
        |store| changed(&put_once(store, &bytes, &Replace::Never)),
        |s3, what| is_one_of(s3, &[None, Some(&bytes)], what),
        |store, what| put_again(store, &bytes, &Replace::Never, what),
    );
}

#[test]
fn a_replacement_is_the_former_or_the_new() {
    let (former, small) = (pattern(2000), pattern(1000));
    killed_anywhere(
        |s3| store_with(s3, &former),
        |store| changed(&put_once(store, &small, &Replace::Always)),
        |s3, what| is_one_of(s3, &[Some(&former), Some(&small)], what),
        |store, what| put_again(store, &small, &Replace::Always, what),
    );
}

#[test]
fn a_replacement_in_another_format_is_one_or_both() {
    let (former, new) = (pattern(2000), b"fLaC".to_vec());
    let path = MediaPath {
        recording: id("call"),
        media: MediaType::Flac,
    };
    let replace = |store: &Store| word(put_as(store, &path, &new, &Replace::Always));
    killed_anywhere(
        |s3| store_with(s3, &former),
        |store| changed(&replace(store)),
        |s3, what| {
            let there = ["call.wav", "call.flac"].map(|name| s3.bytes(&key(name)));
            let one = there == [Some(former.clone()), None] || there == [None, Some(new.clone())];
            assert!(
                one || there == [Some(former.clone()), Some(new.clone())],
                "{what}"
            );
            // Nothing but time ends the claim of one who was about to delete.
            s3.pass(Duration::from_mins(11));
        },
        |store, what| {
            assert!(changed(&replace(store)).is_ok(), "{what}");
            settled(store, &new, what);
        },
    );
}

#[test]
fn an_erasure_is_gone_on_with() {
    let bytes = pattern(1000);
    killed_anywhere(
        |s3| store_with(s3, &bytes),
        |store| erase(store, "call").map(drop),
        |s3, what| is_one_of(s3, &[None, Some(&bytes)], what),
        |store, what| {
            erase(store, "call").unwrap_or_else(|error| panic!("{what}: {error}"));
            let (there, record) = store.present(&id("call")).unwrap();
            assert!(there.is_empty() && record.erased_at.is_some(), "{what}");
            assert_eq!(
                put(store, "call", &bytes, &Replace::Always),
                "the recording was erased"
            );
        },
    );
}

/// Once, even if somebody else is at it.
fn put_once(store: &Store, bytes: &[u8], replace: &Replace) -> String {
    let path = MediaPath {
        recording: id("call"),
        media: MediaType::Wav,
    };
    word(put_as(store, &path, bytes, replace))
}

/// A store in which somebody else has put those bytes.
fn store_with(s3: &FaultyS3, bytes: &[u8]) -> Store {
    let word = put_once(&s3.store(limits()), bytes, &Replace::Never);
    assert_eq!(word, "Created");
    s3.store(limits())
}

/// The same put once more succeeds, and leaves nothing to be done.
fn put_again(store: &Store, bytes: &[u8], replace: &Replace, what: &str) {
    let word = put(store, "call", bytes, replace);
    assert!(changed(&word).is_ok(), "{what}: {word}");
    settled(store, bytes, what);
}

/// The record says what lies there, and nobody claims it.
fn settled(store: &Store, bytes: &[u8], what: &str) {
    let (there, record) = store.present(&id("call")).unwrap();
    assert_eq!(
        (there.len(), there[0].length),
        (1, u64::try_from(bytes.len()).unwrap()),
        "{what}"
    );
    let sha256 = record.file.unwrap().sha256;
    assert_eq!(there[0].etag.opaque(), sha256, "{what}");
    assert_eq!(record.incoming, None, "{what}");
}

#[test]
fn a_claim_falls_by_the_clock_of_the_store() {
    let s3 = FaultyS3::start();
    let claim = r#"{"incoming":{"by":"gone","format":"wav","sha256":"00"}}"#;
    s3.put(&key("call.json"), claim.as_bytes());
    let store = s3.store(limits());
    let busy = "somebody else is bringing or changing it";
    assert_eq!(put_once(&store, b"RIFF", &Replace::Never), busy);
    assert!(matches!(
        store.hold(&id("call"), true),
        Err(ChangeError::Store(_) | ChangeError::Busy)
    ));
    s3.pass(Duration::from_mins(11));
    assert_eq!(put_once(&store, b"RIFF", &Replace::Never), "Created");
    settled(&store, b"RIFF", "a fallen claim");
    // What killed processes left on the way goes by its age, and nothing else.
    s3.put("pre/fix/+incoming/left", b"over");
    let date = |date: &str| {
        UnixTime(
            date.parse::<jiff::Timestamp>()
                .unwrap()
                .as_second()
                .try_into()
                .unwrap(),
        )
    };
    assert_eq!(store.sweep(date("2023-11-14T22:00:00Z")).unwrap(), 0);
    assert_eq!(store.sweep(date("2023-11-15T22:00:00Z")).unwrap(), 1);
    settled(&store, b"RIFF", "a sweep");
}

#[test]
fn a_store_that_keeps_to_no_condition_is_not_written_to() {
    let s3 = FaultyS3::start();
    for _ in 0..3 {
        s3.spoil("PUT pre/fix/+incoming", Spoilt::Unconditional);
    }
    let word = put_once(&s3.store(limits()), b"RIFF", &Replace::Never);
    assert!(word.contains("does not keep to"), "{word}");
    assert_eq!(s3.keys(), [""; 0]);
}

#[test]
fn a_part_is_tried_again_and_an_upload_that_fails_is_aborted() {
    let bytes = pattern((5 << 20) + 1);
    let s3 = FaultyS3::start();
    let retrying = || {
        let client = crate::harness::bucket::s3(s3.addr)
            .with_retry(object_store::RetryConfig::default())
            .build();
        let limits = Limits {
            timeout: Duration::from_secs(20),
            ..limits()
        };
        crate::harness::bucket::object(std::sync::Arc::new(client.unwrap()), limits)
    };
    for spoilt in [Spoilt::Status(503), Spoilt::Lost, Spoilt::Unanswered] {
        s3.spoil(" part", spoilt);
        let word = put_once(&retrying(), &bytes, &Replace::Always);
        assert!(changed(&word).is_ok(), "{spoilt:?}: {word}");
        settled(&retrying(), &bytes, "a part lost");
        erase(&retrying(), "call").unwrap();
        s3.revive();
        s3.forget(&key("call.json"));
    }
    let store = s3.store(limits());
    assert_eq!(put(&store, "warm", &bytes, &Replace::Never), "Created");
    for step in [" part", " complete", "call.wav copy", "call.wav complete"] {
        s3.spoil(step, Spoilt::Status(403));
        let word = put_once(&store, &bytes, &Replace::Never);
        assert_eq!(word, "the bucket gave no useful answer", "{step}");
        s3.revive();
        assert_eq!(
            (s3.bytes(&key("call.wav")), s3.uploads()),
            (None, 0),
            "{step}"
        );
        let left: Vec<_> = s3
            .keys()
            .into_iter()
            .filter(|key| key.contains('+'))
            .collect();
        assert!(left.is_empty(), "{step}: {left:?}");
    }
}

#[test]
fn a_failing_store_is_an_answer_and_nothing_half() {
    let bytes = wav(300_000);
    for (line, spoilt, status) in [
        ("PUT", Spoilt::Status(503), 503),
        ("PUT", Spoilt::Status(403), 502),
        ("PUT", Spoilt::Lost, 503),
        ("PUT", Spoilt::Silent, 504),
        ("call.wav", Spoilt::Status(503), 503),
        ("call.wav", Spoilt::Status(403), 502),
        ("call.wav", Spoilt::Silent, 504),
        ("call.wav", Spoilt::Unanswered, 503),
        ("call.json", Spoilt::Status(500), 503),
        ("call.json", Spoilt::Unanswered, 503),
    ] {
        let s3 = FaultyS3::start();
        let server = Server::with(Setup {
            store: Some(s3.store(limits())),
            ingest: Some(ingest::Settings::default()),
            ..Setup::default()
        });
        let bring = || {
            let mut client = server.connect();
            let target = format!("/api/v1/recordings/{OWNER}/call");
            client.bring("PUT", &target, &[TOKEN], &bytes);
            client.response("PUT")
        };
        s3.spoil(line, spoilt);
        let failed = bring();
        assert_eq!(failed.status, status, "{line} {spoilt:?}: {failed:?}");
        assert!(failed.field("retry-after").is_some(), "{line} {spoilt:?}");
        is_one_of(&s3, &[None, Some(&bytes)], line);
        let again = bring();
        assert!(
            matches!(again.status, 200 | 201),
            "{line} {spoilt:?}: {again:?}"
        );
        settled(&s3.store(limits()), &bytes, line);
        assert_eq!(s3.uploads(), 0);
    }
    // Reading fails first.
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        crate::harness::bucket::s3(listener.local_addr().unwrap())
    };
    let store = std::sync::Arc::new(gone.build().unwrap());
    let server = Server::with(Setup {
        store: Some(crate::harness::bucket::object(store, limits())),
        ingest: Some(ingest::Settings::default()),
        ..Setup::default()
    });
    let mut client = server.connect();
    client.bring(
        "PUT",
        &format!("/api/v1/recordings/{OWNER}/call"),
        &[TOKEN],
        &bytes,
    );
    let answer = client.response("PUT");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.field("retry-after").is_some());
}
