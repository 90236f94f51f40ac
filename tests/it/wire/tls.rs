//! TLS: the same answers, in both versions and protocols, and an end to what is none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tonearm::server::{Settings, Tls, TlsError};

use crate::harness::http2::{request, whole};
use crate::harness::raw::Response;
use crate::harness::tls::{ENDS, Made, connect, hello, name, trusting, try_connect};
use crate::harness::{OWNER, Server, Setup, pattern, seconds_of};

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
const LENGTH: usize = 3_000_000;

fn serving(tls: Tls, settings: Settings) -> Server {
    let server = Server::with(Setup {
        settings,
        front: Some(Box::new(|listener| listener.with_tls(tls))),
        ..Setup::default()
    });
    server.put("call.wav", 1000);
    server.put("long.wav", LENGTH);
    server
}

fn start() -> (Server, Made) {
    let made = Made::new();
    (serving(made.tls(), Settings::default()), made)
}

/// Requests over one HTTP/2 connection inside TLS.
fn over_http2(
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
    target: &str,
    rows: &[&[&str]],
) -> Vec<Response> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let mut responses = Vec::new();
        for fields in rows {
            let asked: http::Request<Full<Bytes>> =
                request("GET", &format!("https://{addr}{target}"), fields);
            responses.push(whole(sender.send_request(asked).await.unwrap()).await);
        }
        responses
    })
}

#[test]
fn both_versions_and_protocols_are_spoken() {
    let (server, made) = start();
    let target = server.sign("call.wav");
    for version in BOTH {
        for (offered, agreed) in [
            (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
            (&["http/1.1", "h2"], Some(b"h2")),
            (&["http/1.1"], Some(b"http/1.1")),
            (&[], None),
        ] {
            let config = made.client(&[version], offered);
            let mut client = connect(server.addr, &config);
            let session = client.tls.as_ref().unwrap();
            assert_eq!(session.alpn_protocol(), agreed, "{version:?} {offered:?}");
            assert_eq!(session.protocol_version(), Some(version.version));
            if agreed == Some(b"h2") {
                let responses = over_http2(server.addr, &config, &target, &[&[]]);
                assert_eq!(responses[0].body, pattern(1000), "{version:?}");
            } else {
                assert_eq!(client.get(&target, &[]).body, pattern(1000), "{version:?}");
            }
        }
        // RFC 7301 §3.2: protocols of which none is ours are no connection.
        let config = made.client(&[version], &["spdy/3"]);
        assert!(try_connect(server.addr, &config).is_err(), "{version:?}");
    }
    let handshakes = "tonearm_tls_handshakes_total{version=\"1.3\",kind=\"full\"}";
    assert!(server.metrics.exposition().contains(handshakes));
}

#[test]
fn the_bytes_are_the_files_whatever_they_are_read_through() {
    let (server, made) = start();
    let target = server.sign("long.wav");
    let rows: [&[&str]; 6] = [
        &[],
        &["Range: bytes=0-0"],
        &["Range: bytes=16383-16385"],
        &["Range: bytes=65000-1999999"],
        &["Range: bytes=-700000"],
        &["Range: bytes=0-99999,2000000-2999999"],
    ];
    let plain = Server::start();
    plain.put("long.wav", LENGTH);
    let other = plain.sign("long.wav");
    let expect: Vec<_> = rows
        .iter()
        .map(|fields| plain.get(&other, fields))
        .collect();
    for version in BOTH {
        let mut client = connect(server.addr, &made.client(&[version], &["http/1.1"]));
        let config = made.client(&[version], &["h2"]);
        let over_http2 = over_http2(server.addr, &config, &target, &rows);
        for (at, fields) in rows.iter().enumerate() {
            let over_http1 = client.get(&target, fields);
            for (response, over) in [(&over_http1, "http/1.1"), (&over_http2[at], "h2")] {
                let what = format!("{version:?} {over} {fields:?}");
                assert_eq!(response.status, expect[at].status, "{what}");
                assert!(response.body == expect[at].body, "{what}: other bytes");
            }
        }
    }
}

#[test]
fn a_session_goes_on_even_under_another_certificate() {
    let (made, next) = (Made::new(), Made::new());
    let tls = made.tls();
    let server = serving(tls.clone(), Settings::default());
    let target = server.sign("call.wav");
    for version in BOTH {
        tls.replace(made.chain.as_bytes(), made.key.as_bytes())
            .unwrap();
        let config = trusting(&[&made, &next], &[version], &["http/1.1"]);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = connect(server.addr, &config);
            // The ticket of TLS 1.3 comes with the first answer.
            assert_eq!(client.get(&target, &[]).status, 200);
            let found = client.tls.as_ref().unwrap().handshake_kind();
            assert_eq!(found, Some(kind), "{version:?}");
            tls.replace(next.chain.as_bytes(), next.key.as_bytes())
                .unwrap();
        }
    }
}

#[test]
fn certificates_change_under_load_and_nobody_notices() {
    const CHANGES: usize = 40;
    let (made, next) = (Made::new(), Made::new());
    let tls = made.tls();
    let server = serving(tls.clone(), Settings::default());
    let target = server.sign("call.wav");
    let config = trusting(&[&made, &next], BOTH, &["http/1.1"]);
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for keeps in [false, false, true] {
            let (config, target) = (&config, &target);
            let (done, asked, addr) = (&done, &asked, server.addr);
            scope.spawn(move || {
                let mut kept = keeps.then(|| connect(addr, config));
                while !done.load(Ordering::Relaxed) {
                    let mut fresh = kept.is_none().then(|| connect(addr, config));
                    let client = kept.as_mut().or(fresh.as_mut()).unwrap();
                    let response = client.get(target, &["Range: bytes=-100"]);
                    assert_eq!((response.status, response.body.len()), (206, 100));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for at in 0..CHANGES {
            let pair = if at % 2 == 0 { &next } else { &made };
            tls.replace(pair.chain.as_bytes(), pair.key.as_bytes())
                .unwrap();
            let until = asked.load(Ordering::Relaxed) + 5;
            while asked.load(Ordering::Relaxed) < until {
                sleep(Duration::from_millis(1));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(asked.into_inner() >= CHANGES * 5);
    // The last pair is the one in use.
    let only = |made: &Made| made.client(BOTH, &["http/1.1"]);
    assert!(try_connect(server.addr, &only(&made)).is_ok());
    assert!(try_connect(server.addr, &only(&next)).is_err());
}

#[test]
fn a_pair_that_will_not_do_is_refused_and_changes_nothing() {
    let (made, other) = (Made::new(), Made::new());
    let tls = made.tls();
    let ends = tls.ends();
    let ended = ends.unwrap().rfc3339();
    assert!(ended.starts_with(&ENDS.to_string()), "{ends:?}");
    let cut = &made.chain[..made.chain.len() / 2];
    for (what, chain, key, wanted) in [
        ("nothing", "", "", "NoCertificate"),
        ("no key", &made.chain, "", "Key"),
        ("no certificate", "", &made.key, "NoCertificate"),
        ("a key for a chain", &made.key, &made.key, "NoCertificate"),
        ("a chain for a key", &made.chain, &made.chain, "Key"),
        ("a chain cut off", cut, &made.key, "Certificate"),
        ("another's key", &made.chain, &other.key, "Pair"),
    ] {
        let error: TlsError = tls.replace(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(
            format!("{error:?}").starts_with(wanted),
            "{what}: {error:?}"
        );
        assert!(
            Tls::new(chain.as_bytes(), key.as_bytes()).is_err(),
            "{what}"
        );
    }
    assert_eq!(tls.ends(), ends);
    let server = serving(tls, Settings::default());
    connect(server.addr, &made.client(BOTH, &[]));
}

#[test]
fn what_is_no_tls_ends_and_is_counted() {
    let (server, made) = start();
    let target = server.sign("call.wav");
    let mut client = server.connect();
    client.ask("GET", &target, &[]);
    let rest = client.rest();
    assert!(!rest.starts_with(b"HTTP/") && rest.len() < 16, "{rest:?}");
    server.wait_for_metric("tonearm_connections_cut_total{reason=\"not_tls\"} 1");
    // TLS without a version, a cipher or a certificate in common.
    let mut torn = hello(&made.client(BOTH, &[]));
    let middle = torn.len() / 2;
    torn[middle..].fill(0xff);
    let mut client = server.connect();
    client.send(torn);
    client.rest();
    server.wait_for_metric("tonearm_connections_cut_total{reason=\"handshake\"} 1");
    // What was agreed on is what is spoken.
    let mut client = connect(server.addr, &made.client(BOTH, &["http/1.1"]));
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(client.is_closed());
    let mut client = connect(server.addr, &made.client(BOTH, &["h2"]));
    client.ask("GET", &target, &[]);
    assert!(client.is_closed());
    // And the server goes on.
    let mut client = connect(server.addr, &made.client(BOTH, &["http/1.1"]));
    assert_eq!(client.get(&target, &[]).status, 200);
}

#[test]
fn handshake_and_head_are_of_one_time_out_from_accept_on() {
    let made = Made::new();
    let settings = Settings {
        header_timeout: Duration::from_secs(2),
        ..Settings::default()
    };
    let server = serving(made.tls(), settings);
    let config = made.client(BOTH, &["http/1.1"]);
    let bytes = hello(&config);
    // Silent; a handshake that drips; and a head that drips behind one that took a while.
    for drip in 0..3 {
        let time = seconds_of(|| {
            let mut client = server.connect();
            match drip {
                0 => {}
                1 => {
                    for byte in &bytes {
                        client.send([*byte]);
                        sleep(Duration::from_millis(100));
                        if client.is_gone() {
                            return;
                        }
                    }
                }
                _ => {
                    sleep(Duration::from_millis(1200));
                    client
                        .begin_tls(crate::harness::tls::session(&config))
                        .unwrap();
                    for byte in b"GET /xxxxxxxxxxxxxxxxxxxx" {
                        client.send([*byte]);
                        sleep(Duration::from_millis(100));
                        if client.is_gone() {
                            return;
                        }
                    }
                }
            }
            client.rest();
        });
        assert!((1.5..3.2).contains(&time), "{drip}: {time} s");
        let cut = format!(
            "tonearm_connections_cut_total{{reason=\"late\"}} {}",
            drip + 1
        );
        server.wait_for_metric(&cut);
    }
}

#[test]
fn one_who_has_said_all_is_answered_all() {
    let (server, made) = start();
    let target = server.sign("long.wav");
    for version in BOTH {
        for says_goodbye in [true, false] {
            let mut client = connect(server.addr, &made.client(&[version], &["http/1.1"]));
            client.ask("GET", &target, &[]);
            if says_goodbye {
                let tls = client.tls.as_mut().unwrap();
                tls.send_close_notify();
                tls.write_tls(&mut client.stream).unwrap();
            }
            client.half_close();
            let response = client.response("GET");
            assert!(
                response.body == pattern(LENGTH),
                "{version:?} {says_goodbye}"
            );
            // RFC 8446 §6.1: the server says goodbye too, or this would be an error.
            assert!(client.is_closed());
        }
    }
}

#[test]
fn what_waits_for_a_request_goes_on_with_it() {
    let made = Made::new();
    let settings = Settings {
        header_timeout: Duration::from_millis(1500),
        ..Settings::default()
    };
    let server = serving(made.tls(), settings);
    let target = server.sign("call.wav");
    for version in BOTH {
        let mut client = connect(server.addr, &made.client(&[version], &["http/1.1"]));
        for wait in [0, 2500] {
            sleep(Duration::from_millis(wait));
            assert_eq!(client.get(&target, &[]).body, pattern(1000), "{wait}");
        }
    }
}

#[test]
fn a_reader_who_stops_is_cut_and_a_slow_one_is_not() {
    const LARGE: usize = 8 << 20;
    let made = Made::new();
    let settings = Settings {
        write_timeout: Duration::from_secs(2),
        least_pace: 1000,
        ..Settings::default()
    };
    let server = serving(made.tls(), settings);
    server.put("large.wav", LARGE);
    let target = server.sign("large.wav");
    let config = made.client(BOTH, &["http/1.1"]);
    let begin = |buffer| {
        let mut client = connect(server.addr, &config);
        client.set_receive_buffer(buffer);
        client.ask("GET", &target, &[]);
        client
    };
    // What the slow one takes, the kernel passes on in pieces of a few packets.
    let (_stopped, mut slow) = (begin(8 << 10), begin(256 << 10));
    slow.head();
    for _ in 0..25 {
        slow.exactly(100_000);
        sleep(Duration::from_millis(200));
    }
    slow.exactly(100_000);
    server.wait_for_metric("tonearm_connections_cut_total{reason=\"stuck\"} 1");
}

#[test]
fn a_url_says_https_where_nobody_says_otherwise() {
    let (server, made) = start();
    let (app, account) = OWNER.split_once('/').unwrap();
    let question =
        format!("/retrieve/authenticated/recordings/call?appId={app}&externalAccountId={account}");
    let mut client = connect(server.addr, &made.client(BOTH, &["http/1.1"]));
    let answer = client.get(&question, &[]).text();
    let url = format!("\"authenticatedUrl\":\"https://{}/media/", server.addr);
    assert!(answer.contains(&url), "{answer}");
}

#[test]
fn a_stop_lets_running_responses_finish() {
    let (server, made) = start();
    server.put("large.wav", 32 << 20);
    let target = server.sign("large.wav");
    let mut client = connect(server.addr, &made.client(BOTH, &["http/1.1"]));
    client.ask("GET", &target, &[]);
    let head = client.head();
    assert_eq!(head.status, 200);
    server.begin_stop();
    assert!(client.exactly(32 << 20) == pattern(32 << 20));
    assert!(client.is_closed());
    assert_eq!(server.stop().cut, 0);
}

/// RFC 8737 §3: nothing is spoken with a directory that looks.
#[test]
fn who_looks_by_acme_is_shown_the_answer_and_nobody_else_is() {
    const LOOK: &[&str] = &["acme-tls/1"];
    const MORE: &[&str] = &["acme-tls/1", "h2"];
    let (made, answer) = (Made::new(), Made::new());
    let tls = made.tls();
    let server = serving(tls.clone(), Settings::default());
    let shakes = |trusted: &Made, names| try_connect(server.addr, &trusted.client(BOTH, names));
    assert!(shakes(&made, LOOK).is_err() && shakes(&answer, LOOK).is_err());
    tls.answer("LocalHost", answer.chain.as_bytes(), answer.key.as_bytes())
        .unwrap();
    assert!(shakes(&answer, LOOK).unwrap().rest().is_empty());
    assert!(shakes(&made, LOOK).is_err());
    assert!(shakes(&made, MORE).is_ok() && shakes(&answer, MORE).is_err());
    assert!(shakes(&made, &["h2"]).is_ok() && shakes(&made, &[]).is_ok());
    tls.forget_answers();
    assert!(shakes(&answer, LOOK).is_err());
}

#[test]
fn without_a_certificate_every_handshake_is_refused_until_there_is_one() {
    let made = Made::new();
    let tls = Tls::without_certificate().unwrap();
    assert_eq!(tls.ends(), None);
    let server = serving(tls.clone(), Settings::default());
    let client = made.client(BOTH, &["h2"]);
    assert!(try_connect(server.addr, &client).is_err());
    tls.replace(made.chain.as_bytes(), made.key.as_bytes())
        .unwrap();
    assert!(try_connect(server.addr, &client).is_ok());
}
