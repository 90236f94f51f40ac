//! What proxies in front say of their clients, and who is believed.

use std::num::NonZeroU32;
use std::sync::Arc;

use tonearm::app::{Field, Forwarding, Guard, Resolver};
use tonearm::server::{Proxies, Settings};

use crate::harness::raw::Client;
use crate::harness::{OWNER, Server, Setup, pattern};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn behind(trusted: &str, protocol: bool, settings: Settings) -> Server {
    let proxies: Proxies = trusted.parse().unwrap();
    let front = proxies.clone();
    let server = Server::with(Setup {
        settings,
        forwarding: Forwarding {
            proxies,
            field: Field::XForwardedFor,
        },
        front: Some(Box::new(move |listener| {
            listener.with_proxies(front, protocol)
        })),
        resolver: Resolver {
            guard: Arc::new(Guard::new(None, NonZeroU32::new(2), None)),
            ..Resolver::default()
        },
        ..Setup::default()
    });
    server.put("call.wav", 1000);
    server
}

fn announced(server: &Server, header: &[u8]) -> Client {
    let mut client = server.connect();
    client.send(header);
    client
}

fn binary(address: [u8; 4]) -> Vec<u8> {
    let rest = [&address[..], &[127, 0, 0, 1, 0x12, 0x34, 0, 80]].concat();
    [SIGNATURE, &[0x21, 0x11, 0, 12], &rest].concat()
}

/// The status of one question more.
fn ask(client: &mut Client, fields: &[&str]) -> u16 {
    let (app, account) = OWNER.split_once('/').unwrap();
    let question =
        format!("/retrieve/authenticated/recordings/call?appId={app}&externalAccountId={account}");
    client.get(&question, fields).status
}

#[test]
fn the_limit_of_a_caller_is_that_of_whom_a_proxy_speaks_for() {
    let server = behind("127.0.0.0/8", true, Settings::default());
    for (header, fields, expect) in [
        (binary([192, 0, 2, 1]), "X: y", 200),
        (binary([192, 0, 2, 1]), "X: y", 200),
        (binary([192, 0, 2, 1]), "X: y", 429),
        // A client's own word is none.
        (binary([192, 0, 2, 1]), "X-Forwarded-For: 192.0.2.9", 429),
        (binary([192, 0, 2, 2]), "X: y", 200),
        (
            b"PROXY TCP4 192.0.2.2 127.0.0.1 1 2\r\n".to_vec(),
            "X: y",
            200,
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.2 ::1 1 2\r\n".to_vec(),
            "X: y",
            429,
        ),
        // Another proxy's connection, and what that one says.
        (binary([127, 0, 0, 9]), "X-Forwarded-For: 192.0.2.2", 429),
        (
            binary([127, 0, 0, 9]),
            "X-Forwarded-For: 192.0.2.2, 192.0.2.3",
            200,
        ),
        // The proxy itself.
        (b"PROXY UNKNOWN\r\n".to_vec(), "X: y", 200),
    ] {
        let mut client = announced(&server, &header);
        assert_eq!(ask(&mut client, &[fields]), expect, "{header:?} {fields}");
    }
}

#[test]
fn without_the_protocol_the_field_tells() {
    let server = behind("127.0.0.1", false, Settings::default());
    let mut client = server.connect();
    for (fields, expect) in [
        ("X-Forwarded-For: 192.0.2.1", 200),
        ("X-Forwarded-For: 192.0.2.9, 192.0.2.1", 200),
        ("X-Forwarded-For: 192.0.2.1", 429),
        ("Forwarded: for=192.0.2.5", 200),
        ("X-Forwarded-For: 192.0.2.2", 200),
        ("X-Forwarded-For: unknown", 200),
        ("Forwarded: for=192.0.2.6", 429),
    ] {
        assert_eq!(ask(&mut client, &[fields]), expect, "{fields}");
    }
    // Nobody is trusted: everybody is the peer.
    let server = behind("192.0.2.0/24", false, Settings::default());
    let mut client = server.connect();
    let statuses = ["1", "2", "3"]
        .map(|host| ask(&mut client, &[&format!("X-Forwarded-For: 192.0.2.{host}")]));
    assert_eq!(statuses, [200, 200, 429]);
}

#[test]
fn connections_are_counted_by_whom_they_are_of() {
    let settings = Settings {
        connections_per_address: 2,
        ..Settings::default()
    };
    let server = behind("127.0.0.1", true, settings);
    let target = server.sign("call.wav");
    let is_served = |client: &mut Client| {
        client.ask("GET", &target, &[]);
        (!client.is_closed()).then(|| client.response("GET").body == pattern(1000))
    };
    let mut kept: Vec<_> = [1, 1, 1, 2, 2, 2]
        .map(|host| announced(&server, &binary([192, 0, 2, host])))
        .into();
    let found: Vec<_> = kept.iter_mut().map(is_served).collect();
    let (yes, no) = (Some(true), None);
    // Which of three is the third, the kernel does not say.
    assert_eq!(found[..3].iter().filter(|found| **found == yes).count(), 2);
    assert_eq!(found[3..].iter().filter(|found| **found == no).count(), 1);
    server.wait_for_metric("tonearm_connections_cut_total{reason=\"too_many\"} 2");
    // The proxy's own are not counted.
    let mut own: Vec<_> = (0..5)
        .map(|_| announced(&server, b"PROXY UNKNOWN\r\n"))
        .collect();
    assert!(own.iter_mut().all(|client| is_served(client) == yes));
}

#[test]
fn what_is_no_header_is_no_connection() {
    let settings = Settings {
        header_timeout: std::time::Duration::from_secs(1),
        ..Settings::default()
    };
    let server = behind("127.0.0.1", true, settings);
    let target = server.sign("call.wav");
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    for header in [
        &b""[..],
        b"PROXY TCP4 192.0.2.1 127.0.0.1 1\r\n",
        b"PROXY TCP4 192.0.2.256 127.0.0.1 1 2\r\n",
        &[SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(),
        &[SIGNATURE, &[0x41, 0x11, 0, 12]].concat(),
    ] {
        let mut client = announced(&server, header);
        client.send(&request);
        assert!(client.is_closed(), "{header:?}");
    }
    server.wait_for_metric("tonearm_connections_cut_total{reason=\"proxy\"} 5");
    // One that never ends, and one that comes byte by byte.
    let mut client = announced(&server, b"PROXY TCP4 192.0.2.1");
    assert!(client.is_closed());
    server.wait_for_metric("tonearm_connections_cut_total{reason=\"late\"} 1");
    let mut client = server.connect();
    for byte in binary([192, 0, 2, 1]) {
        client.send([byte]);
    }
    client.send(&request);
    assert_eq!(client.response("GET").body, pattern(1000));
    // Whoever is not trusted may not say anything at all.
    let server = behind("192.0.2.0/24", true, Settings::default());
    let mut client = announced(&server, &binary([192, 0, 2, 1]));
    client.send(&request);
    assert!(client.is_closed());
    server.wait_for_metric("tonearm_connections_cut_total{reason=\"proxy\"} 1");
}

#[cfg(feature = "tls")]
#[test]
fn the_header_comes_before_tls() {
    use crate::harness::tls::{Made, session};
    use rustls::version::TLS13;

    let made = Made::new();
    let (proxies, tls): (Proxies, _) = ("127.0.0.1".parse().unwrap(), made.tls());
    let server = Server::with(Setup {
        front: Some(Box::new(|listener| {
            listener.with_proxies(proxies, true).with_tls(tls)
        })),
        ..Setup::default()
    });
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    for header in [
        binary([192, 0, 2, 1]),
        b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n".to_vec(),
    ] {
        let mut client = announced(&server, &header);
        let config = made.client(&[&TLS13], &["http/1.1"]);
        client.begin_tls(session(&config)).unwrap();
        assert_eq!(client.get(&target, &[]).body, pattern(1000));
    }
}
