//! HTTP/2 as an attack: the connection ends, and nobody beside it notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tonearm::server::Settings;

use crate::harness::frames::{
    CONTINUATION, DATA, END_STREAM_AND_HEADERS, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING, PRIORITY,
    REFUSED_STREAM, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, block, frame, literal,
};
use crate::harness::{Server, Setup, pattern, seconds_of};

const CANCEL: [u8; 4] = [0, 0, 0, 8];

fn start() -> (Server, String) {
    let server = Server::with(Setup {
        settings: Settings {
            write_timeout: Duration::from_secs(2),
            ..Settings::default()
        },
        ..Setup::default()
    });
    server.put("call.wav", 100_000);
    let target = server.sign("call.wav");
    (server, target)
}

/// Attacks while two honest clients ask one thing after the other, and gives how many answers they got.
fn beside(server: &Server, target: &str, attack: impl FnOnce()) -> usize {
    /// Ends the honest ones, however the attack ends.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let honest = [true, false].map(|keeps| {
            let done = &done;
            scope.spawn(move || {
                let mut client = server.connect();
                let mut answers = 0;
                while !done.load(Ordering::Relaxed) || answers < 20 {
                    if !keeps {
                        client = server.connect();
                    }
                    let response = client.get(target, &["Range: bytes=-1000"]);
                    assert_eq!((response.status, response.body.len()), (206, 1000));
                    answers += 1;
                }
                answers
            })
        });
        let end = Done(&done);
        attack();
        drop(end);
        honest
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    })
}

#[test]
fn requests_taken_back_at_once_end_the_connection() {
    let (server, target) = start();
    let block = block("GET", &target);
    let answers = beside(&server, &target, || {
        let mut raw = Raw::connect(server.addr, &[]);
        let mut pairs = 0;
        let mut bytes = Vec::new();
        for at in 0..5000 {
            let stream = at * 2 + 1;
            bytes.extend(frame(HEADERS, END_STREAM_AND_HEADERS, stream, &block));
            bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL));
            // A few at a time, as they would come over a network.
            if at % 50 == 49 {
                if !raw.send(&bytes) {
                    break;
                }
                pairs += 50;
                bytes.clear();
            }
        }
        assert_eq!(raw.end(), Some(ENHANCE_YOUR_CALM), "after {pairs}");
    });
    assert!(answers >= 40);
    server.wait_for_metric("tonearm_connections_cut_total{reason=\"flood\"} 1");
}

#[test]
fn fields_without_an_end_end_the_connection() {
    let (server, target) = start();
    for length in [0, 1, 16_384] {
        beside(&server, &target, || {
            let mut raw = Raw::connect(server.addr, &[]);
            raw.send(&frame(HEADERS, 0, 1, &literal((":method", "GET"))));
            let more = frame(CONTINUATION, 0, 1, &vec![b'x'; length]);
            for _ in 0..1000 {
                raw.send(&more);
            }
            assert_eq!(raw.end(), Some(ENHANCE_YOUR_CALM), "{length}");
        });
    }
    let calm = "tonearm_connections_cut_total{reason=\"flood\"} 3";
    server.wait_for_metric(calm);
}

#[test]
fn frames_for_nothing_end_the_connection() {
    let (server, target) = start();
    let open = frame(HEADERS, 4, 1, &block("POST", &target));
    let rows = [
        ("ping", frame(PING, 0, 0, b"tonearm!")),
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("priority", frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
        ("window", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0xee, 0, 0, &[])),
        ("crumbs", frame(DATA, 0, 1, &[])),
    ];
    for (what, frame) in rows {
        let many = frame.repeat(100);
        let time = seconds_of(|| {
            beside(&server, &target, || {
                let mut raw = Raw::connect(server.addr, &[]);
                raw.send(&open);
                // Their answers are read as well, or the socket would be full before long.
                let mut reader = Raw {
                    stream: raw.stream.try_clone().unwrap(),
                };
                let reading = std::thread::spawn(move || reader.end());
                let sent = (0..1_000_000).take_while(|_| raw.send(&many)).count();
                let said = reading.join().unwrap();
                assert!(sent < 1_000_000, "{what}: {said:?}");
            });
        });
        assert!(time < 18.0, "{what}: {time} s");
    }
    // And a client that asks how far it is, now and then, is none of these.
    let mut raw = Raw::connect(server.addr, &[]);
    for _ in 0..30 {
        assert!(raw.send(&frame(PING, 0, 0, b"tonearm!").repeat(20)));
        std::thread::sleep(Duration::from_millis(100));
    }
    raw.send(&frame(
        HEADERS,
        END_STREAM_AND_HEADERS,
        1,
        &block("GET", &target),
    ));
    let answer = std::iter::from_fn(|| raw.next()).find(|frame| frame.kind == DATA);
    assert!(answer.is_some());
}

#[test]
fn one_stream_too_many_is_refused_and_the_others_are_not() {
    const MOST: u32 = 128;
    let (server, target) = start();
    // Windows of nothing: each stream stays.
    let mut raw = Raw::connect(server.addr, &[(4, 0)]);
    let block = block("GET", &target);
    for at in 0..MOST + 10 {
        raw.send(&frame(HEADERS, END_STREAM_AND_HEADERS, at * 2 + 1, &block));
    }
    let (mut heads, mut refused) = (0, 0);
    while heads + refused < MOST + 10 {
        let frame = raw.next().expect("no end yet");
        match frame.kind {
            HEADERS => heads += 1,
            RST_STREAM => {
                assert_eq!(frame.code(), REFUSED_STREAM);
                refused += 1;
            }
            GOAWAY => panic!("{frame:?}"),
            _ => {}
        }
    }
    assert_eq!((heads, refused), (MOST, 10));
}

#[test]
fn a_window_that_stays_shut_is_cut_whatever_else_is_sent() {
    let (server, target) = start();
    for pings in [false, true] {
        let time = seconds_of(|| {
            let mut raw = Raw::connect(server.addr, &[(4, 1)]);
            raw.send(&frame(
                HEADERS,
                END_STREAM_AND_HEADERS,
                1,
                &block("GET", &target),
            ));
            for _ in 0..80 {
                let mut more = frame(PING, 0, 0, b"tonearm!").repeat(10);
                // A byte a time.
                more.extend(frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]));
                if pings && !raw.send(&more) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            raw.end();
            assert!(!pings, "eight seconds of pings, and still open");
        });
        assert!(time < 19.0, "{pings}: {time} s");
    }
    server.wait_for_metric("tonearm_connections_cut_total{reason=\"stuck\"} 2");
    assert_eq!(server.get(&target, &[]).body, pattern(100_000));
}
