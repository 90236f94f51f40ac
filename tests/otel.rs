//! Spans, as a collector on loopback takes them: OTLP over HTTP, read here from the wire's own grammar.

#![cfg(test)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A field of a message of Protocol Buffers.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Fields by their numbers (protobuf.dev/programming-guides/encoding).
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes.split_off_first().unwrap();
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(
                bytes.split_off(..8).unwrap().try_into().unwrap(),
            )),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                Field::Bytes(bytes.split_off(..length).unwrap())
            }
            5 => Field::Number(u64::from(u32::from_le_bytes(
                bytes.split_off(..4).unwrap().try_into().unwrap(),
            ))),
            kind => panic!("wire type {kind}"),
        };
        fields.push((tag >> 3, value));
    }
    fields
}

/// The messages at a field.
fn messages(bytes: &[u8], number: u64) -> Vec<&[u8]> {
    let found = fields(bytes)
        .into_iter()
        .filter_map(|(at, field)| match field {
            Field::Bytes(bytes) if at == number => Some(bytes),
            _ => None,
        });
    found.collect()
}

fn number(bytes: &[u8], number: u64) -> u64 {
    let found = fields(bytes)
        .into_iter()
        .find_map(|(at, field)| match field {
            Field::Number(value) if at == number => Some(value),
            _ => None,
        });
    found.unwrap_or(0)
}

fn text(bytes: &[u8], number: u64) -> String {
    let found = messages(bytes, number);
    String::from_utf8(found.first().copied().unwrap_or_default().to_vec()).unwrap()
}

fn hex(bytes: &[u8], number: u64) -> String {
    let found = messages(bytes, number);
    let bytes = found.first().copied().unwrap_or_default();
    let digits = |half: &[u8]| format!("{:016x}", u64::from_be_bytes(half.try_into().unwrap()));
    bytes.chunks(8).map(digits).collect::<Vec<_>>().concat()
}

/// A list of KeyValue (opentelemetry/proto/common/v1/common.proto).
fn attributes(bytes: &[u8], at: u64) -> BTreeMap<String, String> {
    let pair = |pair: &[u8]| {
        let value = messages(pair, 2)[0];
        let value = match text(value, 1) {
            text if text.is_empty() => number(value, 3).to_string(),
            text => text,
        };
        (text(pair, 1), value)
    };
    messages(bytes, at).into_iter().map(pair).collect()
}

/// A span (opentelemetry/proto/trace/v1/trace.proto).
#[derive(Debug)]
struct Span {
    service: String,
    trace: String,
    parent: String,
    name: String,
    kind: u64,
    nanos: u64,
    status: u64,
    attributes: BTreeMap<String, String>,
}

fn spans(request: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in messages(request, 1) {
        let resource = attributes(messages(of_resource, 1)[0], 1);
        for of_scope in messages(of_resource, 2) {
            spans.extend(messages(of_scope, 2).into_iter().map(|span| {
                Span {
                    service: resource["service.name"].clone(),
                    trace: hex(span, 1),
                    parent: hex(span, 4),
                    name: text(span, 5),
                    kind: number(span, 6),
                    nanos: number(span, 8) - number(span, 7),
                    status: messages(span, 15)
                        .first()
                        .map_or(0, |status| number(status, 3)),
                    attributes: attributes(span, 9),
                }
            }));
        }
    }
    spans
}

/// Takes what is sent, and says yes.
fn collector() -> (SocketAddr, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (taken, got) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut reader, taken) = (BufReader::new(stream.unwrap()), taken.clone());
            std::thread::spawn(move || {
                loop {
                    let (mut lines, mut length) = (String::new(), 0);
                    while !lines.ends_with("\r\n\r\n") {
                        let before = lines.len();
                        if reader.read_line(&mut lines).unwrap_or(0) == 0 {
                            return;
                        }
                        let line = lines[before..].to_ascii_lowercase();
                        if let Some(value) = line.strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let _ = taken.send((lines, body));
                    let yes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    reader.get_mut().write_all(yes).unwrap();
                }
            });
        }
    });
    (address, got)
}

struct Server {
    child: Child,
    address: SocketAddr,
    /// A target that HubSpot would ask for.
    question: String,
    _place: tempfile::TempDir,
}

impl Server {
    fn start(collector: SocketAddr, more: &[(&str, &str)]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let calls = place.path().join("storage/app-1/acc");
        std::fs::create_dir_all(&calls).unwrap();
        std::fs::write(calls.join("call.wav"), [7; 1000]).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tonearm"));
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ]);
        command.env_clear().current_dir(place.path());
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"));
        command.env("OTEL_BSP_SCHEDULE_DELAY", "100");
        command.envs(more.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let address = line();
        let address = address
            .strip_prefix("listening on http://")
            .unwrap()
            .parse()
            .unwrap();
        let _admin = line();
        let hint = line();
        let base = format!("http://{address}");
        let question = hint
            .split('\'')
            .nth(1)
            .unwrap()
            .strip_prefix(&base)
            .unwrap()
            .to_owned();
        Self {
            child,
            address,
            question,
            _place: place,
        }
    }

    /// Status and body of an answer.
    fn get(&self, target: &str, fields: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn media(&self) -> String {
        let (_, answer) = self.get(&self.question, "");
        let url = answer.split('"').nth(3).unwrap().to_owned();
        url.strip_prefix("http://a").unwrap().to_owned()
    }

    fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own clock")]
fn clock() -> Instant {
    Instant::now()
}

#[test]
fn each_request_is_a_span_in_the_trace_of_who_asked() {
    let (collector, heard) = collector();
    let server = Server::start(collector, &[]);
    let media = server.media();
    let whose = |flags| format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\n");
    let ranged = format!("{}Range: bytes=0-9\r\n", whose("01"));
    assert_eq!(server.get(&media, &ranged).0, 206);
    // Who asks says that nobody wants to know.
    assert_eq!(server.get(&media, &whose("00")).0, 200);
    assert_eq!(server.get(&media.replace("call", "cell"), "").0, 403);
    assert_eq!(server.stop(), Some(0));

    let mut got = Vec::new();
    while let Ok((head, body)) = heard.try_recv() {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(
            head.to_ascii_lowercase()
                .contains("content-type: application/x-protobuf"),
            "{head}"
        );
        let raw = String::from_utf8_lossy(&body);
        assert!(!raw.contains("sig=") && !raw.contains("call"), "{raw}");
        got.extend(spans(&body));
    }
    let names: Vec<_> = got.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["GET resolve", "GET media", "GET media"], "{got:?}");
    assert!(
        got.iter()
            .all(|span| span.service == "tonearm" && span.kind == 2 && span.status == 0)
    );
    assert!(
        got.iter().all(|span| span.nanos < 20_000_000_000),
        "{got:?}"
    );
    let [resolved, ranged, refused] = &got[..] else {
        unreachable!()
    };
    assert_eq!(
        (ranged.trace.as_str(), ranged.parent.as_str()),
        (TRACE, PARENT)
    );
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "media"),
        ("http.response.status_code", "206"),
        ("http.response.body.size", "10"),
        ("tonearm.selection", "single"),
        ("tonearm.outcome", "complete"),
    ] {
        assert_eq!(ranged.attributes[name], value, "{name}");
    }
    for root in [resolved, refused] {
        assert!(
            root.parent.is_empty() && root.trace.len() == 32 && root.trace != TRACE,
            "{root:?}"
        );
    }
    assert_eq!(refused.attributes["http.response.status_code"], "403");
    assert_eq!(refused.attributes["tonearm.reason"], "bad_signature");
}

/// One that takes connections and says nothing, and one that is not there.
#[test]
fn a_collector_that_is_dead_delays_nobody() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let absent = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for collector in [silent.local_addr().unwrap(), absent] {
        // Far more spans than the queue has places.
        let server = Server::start(
            collector,
            &[
                ("OTEL_BSP_MAX_QUEUE_SIZE", "16"),
                ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8"),
            ],
        );
        let media = server.media();
        let mut took: Vec<_> = (0..200)
            .map(|_| {
                let begin = clock();
                assert_eq!(server.get(&media, "").0, 200);
                begin.elapsed()
            })
            .collect();
        took.sort();
        // An export waits for ten seconds.
        assert!(took[198] < Duration::from_secs(2), "{:?}", &took[190..]);
        let begin = clock();
        assert_eq!(server.stop(), Some(0));
        assert!(
            begin.elapsed() < Duration::from_secs(8),
            "{:?}",
            begin.elapsed()
        );
    }
}

#[test]
fn without_an_endpoint_nothing_is_sent() {
    let (collector, heard) = collector();
    let server = Server::start(collector, &[("OTEL_SDK_DISABLED", "true")]);
    let media = server.media();
    assert_eq!(server.get(&media, "").0, 200);
    assert_eq!(server.stop(), Some(0));
    assert!(heard.try_recv().is_err());
}
