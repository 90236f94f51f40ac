//! Limits: what a connection may cost, and what becomes of one that costs more.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use tonearm::server::Settings;

use crate::harness::raw::Client;
use crate::harness::{Server, Setup, pattern, seconds_of};

fn server(settings: Settings) -> Server {
    let server = Server::with(Setup {
        settings,
        ..Setup::default()
    });
    server.put("call.wav", 1000);
    server
}

#[test]
fn what_waits_for_a_request_goes_on_with_it() {
    let server = server(Settings {
        header_timeout: Duration::from_millis(1500),
        idle_timeout: Duration::from_mins(1),
        ..Settings::default()
    });
    let target = server.sign("call.wav");
    let mut client = server.connect();
    // Before and after the connection has been put aside, twice.
    for wait in [0, 2500, 2500] {
        sleep(Duration::from_millis(wait));
        assert_eq!(client.get(&target, &[]).body, pattern(1000), "{wait}");
        let part = client.get(&target, &["Range: bytes=-9"]);
        assert_eq!((part.status, part.body.len()), (206, 9));
    }
}

#[test]
fn an_idle_connection_is_closed() {
    let server = server(Settings {
        idle_timeout: Duration::from_secs(1),
        ..Settings::default()
    });
    let target = server.sign("call.wav");
    let mut client = server.connect();
    client.get(&target, &[]);
    let time = seconds_of(|| assert!(client.is_closed()));
    assert!((1.0..15.0).contains(&time), "{time} s");
}

#[test]
fn an_idle_http_2_connection_is_closed_whatever_it_says() {
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0tonearm!";
    let server = server(Settings {
        idle_timeout: Duration::from_secs(2),
        ..Settings::default()
    });
    let mut client = server.connect();
    client.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS].concat());
    let time = seconds_of(|| {
        for _ in 0..100 {
            client.send(PING);
            sleep(Duration::from_millis(100));
            if client.is_gone() {
                return;
            }
        }
        panic!("ten seconds of pings, and still open");
    });
    assert!((1.5..18.0).contains(&time), "{time} s");
}

#[test]
fn a_head_that_drips_ends_in_time() {
    let server = server(Settings {
        header_timeout: Duration::from_secs(3),
        ..Settings::default()
    });
    let target = server.sign("call.wav");
    // The first head of a connection, and one behind a request; slower than anybody looks.
    for asks in [0, 1] {
        let mut client = server.connect();
        for _ in 0..asks {
            client.get(&target, &[]);
        }
        let time = seconds_of(|| {
            for byte in b"GET /x HT" {
                client.send([*byte]);
                sleep(Duration::from_millis(1300));
                if client.is_gone() {
                    break;
                }
            }
            client.rest();
        });
        assert!((2.5..18.0).contains(&time), "{asks}: {time} s");
    }
}

#[test]
fn each_head_has_its_own_time() {
    let server = server(Settings {
        header_timeout: Duration::from_secs(4),
        ..Settings::default()
    });
    let target = server.sign("call.wav");
    let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (begin, end) = head.split_at(head.len() / 2);
    let mut client = server.connect();
    client.send(begin);
    // No moment without half a head, for longer than one may take.
    for _ in 0..6 {
        sleep(Duration::from_secs(1));
        client.send([end, begin].concat());
        assert_eq!(client.response("GET").body, pattern(1000));
    }
    let time = seconds_of(|| drop(client.rest()));
    assert!((1.0..18.0).contains(&time), "{time} s");
    let cut = "tonearm_connections_cut_total{reason=\"late\"} 1";
    assert!(server.metrics.exposition().contains(cut));
}

#[test]
fn a_reader_who_stops_is_cut_and_a_slow_one_is_not() {
    const LENGTH: usize = 16 << 20;
    let server = server(Settings {
        write_timeout: Duration::from_secs(2),
        least_pace: 1000,
        ..Settings::default()
    });
    server.put("long.wav", LENGTH);
    let target = server.sign("long.wav");
    let begin = |buffer| {
        let mut client = server.connect();
        client.set_receive_buffer(buffer);
        client.ask("GET", &target, &[]);
        // So that from now on it is known to be served.
        client.head();
        client
    };
    // The slow one's is large enough for the kernel not to wait for its own timers between two
    // packets: loopback's have 64 KiB.
    let (mut stopped, mut slow) = (begin(8 * 1024), begin(256 * 1024));
    let whole = pattern(LENGTH);
    let mut pieces = 0;
    let cut = "tonearm_connections_cut_total{reason=\"stuck\"} 1";
    while pieces < 25 || !server.metrics.exposition().contains(cut) {
        let bytes = slow.exactly(100_000);
        assert_eq!(bytes[0], whole[pieces * 100_000]);
        sleep(Duration::from_millis(200));
        pieces += 1;
        assert!(pieces < 150, "one of the two is cut");
    }
    assert!(slow.exactly(100_000).len() == 100_000, "it goes on");
    let time = seconds_of(|| assert!(stopped.rest().len() < LENGTH, "it is cut"));
    assert!(time < 5.0, "by a reset: {time} s");
}

#[test]
fn one_connection_too_many_waits() {
    let server = server(Settings {
        connections: 2,
        ..Settings::default()
    });
    let target = server.sign("call.wav");
    let mut two = [server.connect(), server.connect()];
    for client in &mut two {
        assert_eq!(client.get(&target, &[]).status, 200);
    }
    let mut third = TcpStream::connect(server.addr).unwrap();
    let half_a_second = Some(Duration::from_millis(500));
    third.set_read_timeout(half_a_second).unwrap();
    let ask = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", server.addr);
    third.write_all(ask.as_bytes()).unwrap();
    assert!(third.read(&mut [0]).is_err(), "it waits");
    drop(two);
    third
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut answer = [0; 12];
    third.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[test]
fn an_address_has_so_many_connections() {
    let server = server(Settings {
        connections_per_address: 2,
        ..Settings::default()
    });
    let target = server.sign("call.wav");
    let mut two = [server.connect(), server.connect()];
    for client in &mut two {
        assert_eq!(client.get(&target, &[]).status, 200);
    }
    assert!(server.connect().is_closed());
    drop(two);
    let again = || {
        let mut client = Client::connect(server.addr);
        client.ask("GET", &target, &[]);
        !client.is_closed()
    };
    assert!((0..50).any(|_| {
        sleep(Duration::from_millis(20));
        again()
    }));
}

#[test]
fn one_response_too_many_is_told_to_come_back() {
    const LENGTH: usize = 32 << 20;
    let server = Server::with(Setup {
        most_responses: 1,
        ..Setup::default()
    });
    server.put("call.wav", 1000);
    server.put("long.wav", LENGTH);
    let (short, long) = (server.sign("call.wav"), server.sign("long.wav"));
    let mut busy = server.connect();
    busy.set_receive_buffer(8 * 1024);
    busy.ask("GET", &long, &[]);
    busy.head();
    let refused = server.get(&short, &[]);
    assert_eq!(refused.status, 503);
    assert_eq!(refused.field("retry-after"), Some("1"));
    assert_eq!(refused.field("cache-control"), Some("no-store"));
    drop(busy);
    assert!((0..50).any(|_| {
        sleep(Duration::from_millis(20));
        server.get(&short, &[]).status == 200
    }));
}
