//! Answers of HTTP/1.1 in chunks, and those that end with their connection, are checked as those with a
//! length are.

use std::io::Write as _;

use super::{Asked, Fake, LENGTH, RECORDING, answer, count, load, load_until};
use crate::harness::program::Place;

const IN_CHUNKS: &str = "Transfer-Encoding: chunked";

/// The right answer in chunks, changed by `spoil`: its content, and the chunks that are sent.
fn chunked(asked: &Asked, spoil: impl Fn(&mut Vec<u8>, &mut Vec<u8>)) -> Vec<u8> {
    answer(asked, |head, body| {
        *head = format!("{}{IN_CHUNKS}\r\n", without_length(head));
        let mut chunks = in_chunks(body);
        spoil(body, &mut chunks);
        *body = chunks;
    })
}

fn without_length(head: &str) -> String {
    let lines = head.split_inclusive("\r\n");
    lines
        .filter(|line| !line.starts_with("Content-Length"))
        .collect()
}

fn in_chunks(content: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::new();
    for chunk in content.chunks(7000) {
        chunks.extend(format!("{:x};n\r\n", chunk.len()).into_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\nDigest: none\r\n\r\n");
    chunks
}

#[test]
fn chunks_are_read_in_every_scenario_on_connections_that_are_kept() {
    let place = Place::new();
    place.write("a.wav", &*RECORDING, 0o644);
    // Cut anywhere on their way, also between two reads of a poll.
    let fake = Fake::start(|asked, stream| {
        let all = chunked(asked, |_, _| {});
        let (begin, end) = all.split_at(all.len() - asked.nth % 12);
        stream.write_all(begin)?;
        stream.write_all(end)
    });
    for scenario in ["seek", "player", "storm", "download", "cdn"] {
        for flags in [&["--file", "a.wav"][..], &[], &["--check-every", "0"]] {
            let url = fake.url();
            let args = [
                "--scenario",
                scenario,
                "--range-size",
                "20KiB",
                "--dwell",
                "20ms",
            ];
            let more = ["--bitrate", "200KiB", &url];
            let enough = fake.served() + 60;
            let args = [&args[..], &more, flags].concat();
            let ran = load_until(&place, &args, || fake.served() > enough);
            assert_eq!(ran.code, Some(0), "{scenario}: {ran:?}");
            let side = &ran.json()["sides"][0];
            assert_eq!(side["failures"].as_object().unwrap().len(), 0, "{side}");
            let number = |key: &str| side[key].as_u64().unwrap();
            assert!(number("requests") >= 10, "{scenario}: {side}");
            let compared = number("bytes_compared") > 0;
            assert_eq!(
                compared,
                flags != ["--check-every", "0"],
                "{scenario}: {side}"
            );
            let aborts = matches!(scenario, "player" | "storm");
            assert_eq!(number("aborted") > 0, aborts, "{scenario}: {side}");
            assert!(aborts || number("connections") <= 8, "{scenario}: {side}");
        }
    }
}

#[test]
fn a_length_that_nobody_told_is_learnt_at_the_end() {
    let place = Place::new();
    let whole = |asked: &Asked| {
        let nth = asked.nth;
        let asked = Asked {
            nth,
            target: asked.target.clone(),
            range: None,
        };
        chunked(&asked, |_, _| {})
    };
    let fake = Fake::start(move |asked, stream| stream.write_all(&whole(asked)));
    let args = ["--scenario", "download", &fake.url()];
    let ran = load_until(&place, &args, || fake.served() > 60);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let side = &ran.json()["sides"][0];
    assert!(side["requests"].as_u64().unwrap() >= 10, "{side}");
    assert!(side["bytes_compared"].as_u64().unwrap() > 0, "{side}");

    let fake = Fake::start(|asked, stream| {
        let asked = Asked {
            nth: asked.nth,
            target: String::new(),
            range: None,
        };
        stream.write_all(&chunked(&asked, |body, chunks| {
            body.truncate(LENGTH - asked.nth % 2);
            *chunks = in_chunks(body);
        }))
    });
    let args = ["--scenario", "download", &fake.url()];
    let ran = load_until(&place, &args, || fake.served() > 20);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    // A shorter one ends too early, a longer one is another recording's.
    let odd = ["short body", "long body", "wrong range"].map(|kind| count(&ran, kind));
    assert!(odd.iter().sum::<u64>() > 0, "{ran:?}");
}

#[test]
fn what_is_wrong_in_chunks_is_caught() {
    type Spoil = fn(&mut Vec<u8>, &mut Vec<u8>);
    let place = Place::new();
    place.write("a.wav", &*RECORDING, 0o644);
    let flip: Spoil = |_, chunks| chunks[9000] ^= 1;
    let short: Spoil = |body, chunks| *chunks = in_chunks(&body[1..]);
    let long: Spoil = |body, chunks| {
        body.push(b'x');
        *chunks = in_chunks(body);
    };
    let size: Spoil = |_, chunks| chunks[0] = b'x';
    let odd: Spoil = |_, chunks| chunks[0] += 1;
    let open: Spoil = |_, chunks| chunks.truncate(chunks.len() - 2);
    // What is not compared is measured all the same.
    let compared: &[&str] = &["--file", "a.wav"];
    let measured: &[&str] = &["--check-every", "0"];
    for (kind, spoil, ends, flags) in [
        ("wrong bytes", flip, false, compared),
        ("wrong bytes", short, false, compared),
        ("short body", short, false, measured),
        ("long body", long, false, compared),
        ("long body", long, false, measured),
        ("malformed answer", size, false, compared),
        ("malformed answer", odd, false, measured),
        ("short body", open, true, measured),
    ] {
        let fake = Fake::start(move |asked, stream| {
            let wrong = asked.nth % 3 == 2;
            stream.write_all(&chunked(asked, |body, chunks| {
                if wrong {
                    spoil(body, chunks);
                }
            }))?;
            if wrong && ends {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            Ok(())
        });
        let args = ["--range-size", "32KiB", &fake.url()];
        let ran = load_until(&place, &[&args[..], flags].concat(), || fake.served() > 40);
        assert_eq!(ran.code, Some(1), "{kind}: {ran:?}");
        assert!(count(&ran, kind) > 0, "{kind}: {ran:?}");
    }
}

fn resolver(fake: &Fake) -> String {
    format!("http://{}/resolve/%s", fake.addr)
}

/// Listeners who ask a resolver first.
fn chain(resolver: &str) -> [&str; 6] {
    [
        "--scenario",
        "chain",
        "--resolver",
        resolver,
        "--id",
        "call-1",
    ]
}

#[test]
fn a_resolver_may_answer_in_chunks() {
    let place = Place::new();
    let fake = Fake::start(|asked, stream| {
        if !asked.target.starts_with("/resolve") {
            return stream.write_all(&chunked(asked, |_, _| {}));
        }
        let url = format!("http://{}/a.wav", stream.local_addr()?);
        let json = format!("{{\"authenticatedUrl\": \"{url}\"}}");
        let chunks = in_chunks(json.as_bytes());
        let head = format!("HTTP/1.1 200 OK\r\n{IN_CHUNKS}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &chunks].concat())
    });
    let ran = load_until(&place, &chain(&resolver(&fake)), || fake.served() > 60);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.json()["sides"][0]["requests"].as_u64().unwrap() >= 10,
        "{ran:?}"
    );

    let fake = Fake::start(|_, stream| {
        let endless = in_chunks(&vec![b' '; 100_000]);
        let head = format!("HTTP/1.1 200 OK\r\n{IN_CHUNKS}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &endless].concat())
    });
    let ran = load(&place, &chain(&resolver(&fake)));
    assert!(
        ran.code == Some(1) && count(&ran, "no URL from the resolver") > 0,
        "{ran:?}"
    );
}

/// The right answer, of which nothing but its end tells the end, without so many bytes of it.
fn closing(asked: &Asked, short: usize) -> Vec<u8> {
    answer(asked, |head, body| {
        *head = without_length(head);
        body.truncate(body.len() - short);
    })
}

const CLOSE: std::io::ErrorKind = std::io::ErrorKind::ConnectionAborted;

#[test]
fn a_body_may_end_with_its_connection() {
    let place = Place::new();
    place.write("a.wav", &*RECORDING, 0o644);
    for (scenario, ranges) in [("seek", true), ("download", true), ("download", false)] {
        for flags in [&["--file", "a.wav"][..], &[], &["--check-every", "0"]] {
            let fake = Fake::start(move |asked, stream| {
                let asked = Asked {
                    nth: asked.nth,
                    target: asked.target.clone(),
                    range: asked.range.filter(|_| ranges),
                };
                stream.write_all(&closing(&asked, 0))?;
                Err(CLOSE.into())
            });
            let args = ["--scenario", scenario, "--range-size", "20KiB", &fake.url()];
            let ran = load_until(&place, &[&args[..], flags].concat(), || fake.served() > 60);
            assert_eq!(ran.code, Some(0), "{scenario}: {ran:?}");
            let side = &ran.json()["sides"][0];
            assert_eq!(side["failures"].as_object().unwrap().len(), 0, "{side}");
            let number = |key: &str| side[key].as_u64().unwrap();
            assert!(number("requests") >= 10, "{scenario}: {side}");
            assert!(number("connections") >= number("requests"), "{side}");
        }
    }
}

#[test]
fn a_body_that_ends_too_early_with_its_connection_is_caught() {
    let place = Place::new();
    for (scenario, kind) in [("seek", "short body"), ("download", "wrong range")] {
        let fake = Fake::start(|asked, stream| {
            stream.write_all(&closing(asked, usize::from(asked.nth % 3 == 2)))?;
            Err(CLOSE.into())
        });
        let args = ["--scenario", scenario, "--range-size", "20KiB", &fake.url()];
        let ran = load_until(&place, &args, || fake.served() > 40);
        assert_eq!(ran.code, Some(1), "{scenario}: {ran:?}");
        assert!(count(&ran, kind) > 0, "{scenario}: {ran:?}");
    }
}
