//! HTTP/2, TLS, and both.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::{Fake, LENGTH, RECORDING, count, load, load_until, right};
use crate::harness::program::Place;

type Spoil = fn(nth: usize, &mut Response<()>, &mut Vec<u8>);

/// What a server of these tests does.
#[derive(Clone, Copy, Default)]
struct Way {
    http2: bool,
    tls: bool,
    /// How long the last byte over HTTP/2 is kept back of a body that nobody reads to its end.
    hold: Duration,
    spoil: Option<Spoil>,
    /// Each connection of HTTP/2 takes so many requests.
    most: Option<usize>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// Streams that were reset with CANCEL.
    cancelled: AtomicUsize,
}

struct Server {
    addr: SocketAddr,
    seen: Arc<Seen>,
    /// Its certificate, in PEM.
    certificate: String,
    tls: bool,
    /// Ends it when it is dropped.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Server {
    fn start(way: Way) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let addr = listener.local_addr().unwrap();
        let (config, certificate) = identity(way.http2);
        let seen = Arc::new(Seen::default());
        let counted = Arc::clone(&seen);
        let accept = async move {
            let acceptor = TlsAcceptor::from(config);
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&counted));
                stream.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    seen.connections.fetch_add(1, Ordering::Relaxed);
                    if !way.tls {
                        return serve(stream, way, seen).await;
                    }
                    // A client that does not trust it goes away.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, way, seen).await;
                    }
                });
            }
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            addr,
            seen,
            certificate,
            tls: way.tls,
            _stop: stop,
        }
    }

    fn url(&self) -> String {
        let s = if self.tls { "s" } else { "" };
        format!("http{s}://{}/a.wav?sig=secret", self.addr)
    }

    fn seen(&self, what: impl Fn(&Seen) -> &AtomicUsize) -> usize {
        what(&self.seen).load(Ordering::Relaxed)
    }
}

fn identity(http2: bool) -> (Arc<ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![if http2 { &b"h2"[..] } else { b"http/1.1" }.to_vec()];
    (Arc::new(config), made.cert.pem())
}

fn answer<B>(request: &Request<B>, way: Way, seen: &Seen) -> (Response<()>, Vec<u8>) {
    let nth = seen.requests.fetch_add(1, Ordering::Relaxed);
    let response = Response::builder().header("etag", "\"a\"");
    let range = request.headers().get("range");
    let (mut response, mut body) = match range.map(|range| range.to_str().unwrap()) {
        None => (response.body(()).unwrap(), RECORDING.clone()),
        Some(range) => {
            let (first, last) = range["bytes=".len()..].split_once('-').unwrap();
            let first: usize = first.parse().unwrap();
            let last = last.parse().unwrap_or(LENGTH - 1).min(LENGTH - 1);
            let told = format!("bytes {first}-{last}/{LENGTH}");
            let response = response.status(206).header("content-range", told);
            (response.body(()).unwrap(), RECORDING[first..=last].to_vec())
        }
    };
    let length = body.len();
    response
        .headers_mut()
        .insert("content-length", length.into());
    if let Some(spoil) = way.spoil {
        spoil(nth, &mut response, &mut body);
    }
    (response, body)
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    way: Way,
    seen: Arc<Seen>,
) {
    if !way.http2 {
        let service = service_fn(move |request| {
            let (head, body) = answer(&request, way, &seen);
            let response = head.map(|()| Full::new(Bytes::from(body)));
            async { Ok::<_, std::convert::Infallible>(response) }
        });
        // Clients that go away are part of the tests.
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        return drop(served.await);
    }
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    let mut taken = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(stream_of(request, respond, way, Arc::clone(&seen)));
        taken += 1;
        if Some(taken) == way.most {
            connection.graceful_shutdown();
        }
    }
}

async fn stream_of(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    way: Way,
    seen: Arc<Seen>,
) {
    let (head, body) = answer(&request, way, &seen);
    let read_whole = body.len() <= 32 << 10;
    let mut body = Bytes::from(body);
    let last = body.split_off(body.len().saturating_sub(1));
    let Ok(mut stream) = respond.send_response(head, last.is_empty()) else {
        return;
    };
    // What is not yet sent waits for the client's window.
    if !body.is_empty() && stream.send_data(body, false).is_err() {
        return;
    }
    let reset = std::future::poll_fn(|context| stream.poll_reset(context));
    let hold = if read_whole { Duration::ZERO } else { way.hold };
    match tokio::time::timeout(hold, reset).await {
        Ok(Ok(h2::Reason::CANCEL)) => drop(seen.cancelled.fetch_add(1, Ordering::Relaxed)),
        Ok(_) => {}
        Err(_) => drop(stream.send_data(last, true)),
    }
}

/// Every protocol and the flags it needs.
fn ways() -> [(Way, &'static [&'static str]); 3] {
    let way = |http2, tls| Way {
        http2,
        tls,
        ..Way::default()
    };
    [
        (way(false, true), &["--ca", "ca.pem"]),
        (way(true, false), &["--http2", "--streams", "4"]),
        (way(true, true), &["--http2", "--ca", "ca.pem"]),
    ]
}

#[test]
fn every_protocol_serves_every_scenario() {
    let place = Place::new();
    place.write("a.wav", &*RECORDING, 0o644);
    for (way, flags) in ways() {
        let server = Server::start(way);
        place.write("ca.pem", &server.certificate, 0o644);
        for scenario in ["seek", "player", "storm", "download", "cdn"] {
            let url = server.url();
            let mut args = vec!["--scenario", scenario, "--range-size", "20KiB", &url];
            args.extend(["--dwell", "20ms", "--bitrate", "200KiB", "--file", "a.wav"]);
            args.extend(flags);
            let before = server.seen(|seen| &seen.requests);
            let enough = || server.seen(|seen| &seen.requests) > before + 50;
            let ran = load_until(&place, &args, enough);
            assert_eq!(ran.code, Some(0), "{scenario} {flags:?}: {ran:?}");
            let json = ran.json();
            let side = &json["sides"][0];
            let number = |key: &str| side[key].as_u64().unwrap();
            assert!(number("requests") >= 10, "{scenario} {flags:?}: {side}");
            assert_eq!(side["failures"].as_object().unwrap().len(), 0);
            let most = number("bytes") - number("bytes_compared");
            assert!(most <= 8 * 300_000, "{scenario} {flags:?}: {side}");
            let aborts = matches!(scenario, "player" | "storm");
            assert_eq!(
                number("aborted") > 0,
                aborts,
                "{scenario} {flags:?}: {side}"
            );
            assert!(!ran.out.contains("secret") && !ran.err.contains("secret"));
        }
    }
}

#[test]
fn each_side_has_its_own_protocol() {
    let place = Place::new();
    let old = Fake::start(right);
    let new = Server::start(Way {
        http2: true,
        ..Way::default()
    });
    let versus = |name: &str, url: String| format!("{name}={url}");
    for (flags, versus, target, said) in [
        (
            &["--http2=new", "--streams", "4"][..],
            versus("new", new.url()),
            old.url(),
            "HTTP/1.1 to target, HTTP/2 with 4 streams a connection to new",
        ),
        (
            &["--http2=target"],
            versus("old", old.url()),
            new.url(),
            "HTTP/2 to target, HTTP/1.1 to old",
        ),
    ] {
        // Neither server knows the other's protocol.
        let args = ["--rounds", "1", "--versus", &versus, &target];
        let ran = load(&place, &[flags, &["--duration", "1s"], &args].concat());
        assert_eq!(ran.code, Some(0), "{flags:?}: {ran:?}");
        let json = ran.json();
        for side in json["sides"].as_array().unwrap() {
            assert!(side["requests"].as_u64().unwrap() > 0, "{side}");
            assert_eq!(side["failures"].as_object().unwrap().len(), 0, "{side}");
        }
        assert!(json["done"].as_str().unwrap().contains(said), "{json}");
    }
    let ran = load(&place, &["--http2=target,nobody", &new.url()]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("--http2 names no side: nobody"), "{ran:?}");
}

#[test]
fn a_stream_without_a_length_is_measured_at_its_end() {
    let place = Place::new();
    let untold: Spoil = |_, head, _| drop(head.headers_mut().remove("content-length"));
    // One is not as long as the others.
    let other: Spoil = |nth, head, body| {
        head.headers_mut().remove("content-length");
        body.truncate(LENGTH - usize::from(nth == 1));
    };
    for (spoil, code) in [(untold, 0), (other, 1)] {
        let server = Server::start(Way {
            http2: true,
            spoil: Some(spoil),
            ..Way::default()
        });
        let args = ["--http2", "--scenario", "download", &server.url()];
        let enough = || server.seen(|seen| &seen.requests) > 50;
        let ran = load_until(&place, &args, enough);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        let side = &ran.json()["sides"][0];
        assert!(side["requests"].as_u64().unwrap() >= 5, "{side}");
    }
}

#[test]
fn a_wrong_byte_a_wrong_range_and_a_cut_body_are_caught_in_every_protocol() {
    let place = Place::new();
    place.write("a.wav", &*RECORDING, 0o644);
    let flip: Spoil = |nth, _, body| {
        if nth % 3 == 2 && body.len() > 9000 {
            body[9000] ^= 1;
        }
    };
    let range: Spoil = |nth, head, _| {
        let value = head.headers()["content-range"].to_str().unwrap();
        let other = value.replace("/300000", "/300001");
        if nth % 3 == 2 {
            head.headers_mut()
                .insert("content-range", other.parse().unwrap());
        }
    };
    // Without a length of the whole, the end is told by the stream.
    let cut: Spoil = |nth, head, body| {
        head.headers_mut().remove("content-length");
        if nth % 3 == 2 {
            body.truncate(5000);
        }
    };
    let unlike: Spoil = |nth, _, body| body.truncate(if nth % 3 == 2 { 5000 } else { LENGTH });
    let busy: Spoil = |_, head, _| *head.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    for (way, flags) in ways() {
        let mut cases = vec![
            ("wrong bytes", flip),
            ("wrong range", range),
            ("status 503", busy),
        ];
        if way.http2 {
            cases.extend([("short body", cut), ("malformed answer", unlike)]);
        }
        for (kind, spoil) in cases {
            let spoil = Some(spoil);
            let server = Server::start(Way { spoil, ..way });
            place.write("ca.pem", &server.certificate, 0o644);
            let args = ["--range-size", "32KiB", "--file", "a.wav", &server.url()];
            let enough = || server.seen(|seen| &seen.requests) > 50;
            let ran = load_until(&place, &[flags, &args].concat(), enough);
            assert_eq!(ran.code, Some(1), "{kind} {flags:?}: {ran:?}");
            assert!(count(&ran, kind) > 0, "{kind} {flags:?}: {ran:?}");
        }
    }
}

#[test]
fn over_http2_an_abort_is_a_reset_of_the_stream_and_the_connection_stays() {
    let place = Place::new();
    let way = Way {
        http2: true,
        hold: Duration::from_secs(5),
        ..Way::default()
    };
    let server = Server::start(way);
    let args = ["--scenario", "storm", "--range-size", "8KiB", "--http2"];
    let enough = || server.seen(|seen| &seen.cancelled) > 100;
    let url = server.url();
    let args = [&args[..], &["--listeners", "3", &url]].concat();
    let ran = load_until(&place, &args, enough);
    let json = ran.json();
    let side = &json["sides"][0];
    let number = |key: &str| side[key].as_u64().unwrap();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(number("aborted") > 50, "{side}");
    assert_eq!(number("streams_reset"), number("aborted"), "{side}");
    assert_eq!(number("connections"), 3, "{side}");
}

#[test]
fn streams_share_connections_and_outlive_them() {
    let place = Place::new();
    let way = Way {
        http2: true,
        tls: true,
        most: Some(50),
        ..Way::default()
    };
    let server = Server::start(way);
    place.write("ca.pem", &server.certificate, 0o644);
    let args = [
        "--listeners",
        "10",
        "--http2",
        "--streams",
        "5",
        "--ca",
        "ca.pem",
    ];
    let enough = || server.seen(|seen| &seen.requests) > 300;
    let url = server.url();
    let args = [&args[..], &["--range-size", "4KiB", &url]].concat();
    let ran = load_until(&place, &args, enough);
    let json = ran.json();
    let side = &json["sides"][0];
    // Each connection says farewell after 50 requests; what it did not take is asked anew.
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(side["failures"].as_object().unwrap().len(), 0, "{side}");
    let requests = side["requests"].as_u64().unwrap();
    let connections = side["connections"].as_u64().unwrap();
    assert!(requests > 200, "{side}");
    assert!(
        connections >= requests / 50 && connections <= requests / 20 + 2,
        "{side}"
    );
}

#[test]
fn a_stall_shows_in_the_percentiles_of_http2_too() {
    let place = Place::new();
    let stall: Spoil = |nth, _, _| {
        if nth == 50 {
            // All of the server: it has one thread.
            std::thread::sleep(Duration::from_millis(600));
        }
    };
    let server = Server::start(Way {
        http2: true,
        spoil: Some(stall),
        ..Way::default()
    });
    let args = [
        "--rate",
        "100",
        "--listeners",
        "4",
        "--duration",
        "2s",
        "--http2",
    ];
    let ran = load(&place, &[&args[..], &[&server.url()]].concat());
    let json = ran.json();
    let times = &json["sides"][0]["first_byte"];
    assert!(
        (195..=200).contains(&times["count"].as_u64().unwrap()),
        "{ran:?}"
    );
    let percentile = |name: &str| times["percentiles"][name].as_f64().unwrap();
    assert!(percentile("p90") > 0.25, "{ran:?}");
}

#[test]
fn certificates_are_verified_unless_told_and_then_the_results_say_so() {
    let place = Place::new();
    let way = Way {
        tls: true,
        ..Way::default()
    };
    let (server, other) = (Server::start(way), Server::start(way));
    place.write("ca.pem", &server.certificate, 0o644);
    place.write("other.pem", &other.certificate, 0o644);
    place.write("empty.pem", "none", 0o644);
    let url = server.url();
    let ran = load(&place, &["--ca", "other.pem", &url]);
    assert!(
        ran.code == Some(1) && count(&ran, "TLS failed") > 0,
        "{ran:?}"
    );
    assert!(ran.out.contains("certificate"), "{ran:?}");
    // Another name than the certificate's.
    let localhost = url.replace("127.0.0.1", "localhost");
    let ran = load(&place, &["--ca", "ca.pem", &localhost]);
    assert!(
        ran.code == Some(1) && count(&ran, "TLS failed") > 0,
        "{ran:?}"
    );
    // A server that does not know HTTP/2 refuses.
    let ran = load(&place, &["--ca", "ca.pem", "--http2", &url]);
    assert!(
        ran.code == Some(1) && count(&ran, "TLS failed") > 0,
        "{ran:?}"
    );

    let ran = load(&place, &["--insecure", "--report", "r.html", &url]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let said = "HTTP/1.1 over TLS, certificates NOT verified";
    assert!(
        ran.json()["done"].as_str().unwrap().contains(said),
        "{ran:?}"
    );
    assert!(place.read("r.html").contains(said) && ran.err.contains(said));

    for (args, code) in [
        (&["--ca", "empty.pem"][..], 78),
        (&["--ca", "absent.pem"], 74),
        (&["--ca", "ca.pem", "--insecure"], 2),
    ] {
        let ran = load(&place, &[args, &[&url]].concat());
        assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
    }
}

#[test]
fn a_server_of_another_protocol_is_counted() {
    let place = Place::new();
    let plain = Server::start(Way::default());
    let sealed = Server::start(Way {
        tls: true,
        ..Way::default()
    });
    let old = plain.url();
    let mixed = plain.url().replace("http:", "https:");
    let bare = sealed.url().replace("https:", "http:");
    for (flags, url) in [
        (&["--http2"][..], &old),
        (&["--insecure"], &mixed),
        (&[], &bare),
        (&["--http2"], &bare),
    ] {
        let ran = load(&place, &[flags, &[url]].concat());
        assert_eq!(ran.code, Some(1), "{flags:?} {url}: {ran:?}");
        let json = ran.json();
        assert_eq!(json["sides"][0]["requests"], 0, "{flags:?} {url}: {ran:?}");
        let failures = json["sides"][0]["failures"].as_object().unwrap();
        assert!(!failures.is_empty(), "{flags:?} {url}: {ran:?}");
    }
}
