//! The admin listener, what is not on it, and the workers behind the other one.

use std::collections::HashMap;

use crate::harness::program::{Place, Program, ask};
use crate::harness::raw::Client;
use crate::harness::{OWNER, pattern};

#[test]
fn each_listener_has_its_own_places() {
    let place = Place::new();
    place.put("call.wav", &pattern(100));
    let program = place.serve();
    let url = place.url("call", &program, &[]);
    let media = program.target(&url).to_owned();
    let (app, account) = OWNER.split_once('/').unwrap();
    let resolver =
        format!("/retrieve/authenticated/recordings/call?appId={app}&externalAccountId={account}");
    for (method, target, on_admin, on_public) in [
        ("GET", "/healthz", 200, 404),
        ("HEAD", "/healthz", 200, 404),
        ("GET", "/readyz", 200, 404),
        ("GET", "/metrics", 200, 404),
        ("GET", "/version", 200, 404),
        ("POST", "/metrics", 405, 405),
        ("GET", "/", 404, 404),
        ("GET", "/healthz/", 404, 403),
        ("GET", "/nowhere", 404, 404),
        ("GET", &media, 404, 200),
        ("GET", &resolver, 404, 200),
    ] {
        let statuses = [program.admin, program.public]
            .map(|listener| ask(listener, method, target, &[]).status);
        assert_eq!(statuses, [on_admin, on_public], "{method} {target}");
    }
}

#[test]
fn the_admin_listener_answers() {
    let place = Place::new();
    let program = place.serve();
    let get = |target| ask(program.admin, "GET", target, &[]);
    assert_eq!(get("/healthz").text(), "ok\n");
    assert_eq!(get("/readyz").text(), "ready\n");
    let version = format!("{{\"version\":\"{}\"}}\n", env!("CARGO_PKG_VERSION"));
    let answer = get("/version");
    assert_eq!(answer.text(), version);
    assert_eq!(answer.field("content-type"), Some("application/json"));
    let refused = ask(program.admin, "DELETE", "/metrics", &[]);
    assert_eq!(refused.field("allow"), Some("GET, HEAD, OPTIONS"));
    let metrics = get("/metrics");
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(metrics.field("content-type"), Some(openmetrics));
    assert_eq!(metrics.field("cache-control"), Some("no-store"));
    assert!(metrics.text().ends_with("# EOF\n"), "{}", metrics.text());
}

#[test]
fn metrics_count_what_was_answered() {
    let place = Place::new();
    place.put("call.wav", &pattern(1000));
    let program = place.serve();
    let url = place.url("call", &program, &[]);
    program.get(&url, &[]);
    program.get(&url, &["Range: bytes=0-9"]);
    program.get(&url.replace("call", "cell"), &[]);
    program.wait_log("tonearm::access", 3);
    for (name, value) in [
        (
            "tonearm_requests_total{route=\"media\",method=\"read\",status=\"200\"}",
            1,
        ),
        (
            "tonearm_requests_total{route=\"media\",method=\"read\",status=\"206\"}",
            1,
        ),
        (
            "tonearm_requests_total{route=\"media\",method=\"read\",status=\"403\"}",
            1,
        ),
        ("tonearm_refusals_total{reason=\"bad_signature\"}", 1),
        ("tonearm_bodies_total{outcome=\"complete\"}", 3),
        ("tonearm_sent_bytes_total{outcome=\"aborted\"}", 0),
    ] {
        assert_eq!(program.metric(name), value, "{name}");
    }
    assert!(program.metric("tonearm_sent_bytes_total{outcome=\"complete\"}") >= 1010);
}

/// A player asks for the rest of a recording, and breaks off.
#[test]
fn metrics_tell_what_was_sent_to_those_who_broke_off() {
    const LENGTH: usize = 64 << 20;
    const TAKEN: usize = 64 * 1024;
    let place = Place::new();
    place.put("call.wav", &pattern(LENGTH));
    let program = place.serve();
    let url = place.url("call", &program, &[]);
    let mut client = Client::connect(program.public);
    client.ask("GET", program.target(&url), &["Range: bytes=1000-"]);
    assert_eq!(client.head().status, 206);
    client.exactly(TAKEN);
    drop(client);
    program.wait_log("aborted", 1);
    let sent = program.metric("tonearm_sent_bytes_total{outcome=\"aborted\"}");
    let sent = usize::try_from(sent).unwrap();
    assert!((TAKEN..LENGTH / 4).contains(&sent), "{sent}");
    assert_eq!(
        program.metric("tonearm_bodies_total{outcome=\"aborted\"}"),
        1
    );
}

/// Nanoseconds that each worker has run.
pub fn run_times(program: &Program) -> HashMap<String, u64> {
    let tasks = format!("/proc/{}/task", program.pid());
    let entries = std::fs::read_dir(tasks).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let times = std::fs::read_to_string(path.join("schedstat")).ok()?;
        let time = times.split(' ').next()?.parse().ok()?;
        (name == "worker\n").then(|| (path.display().to_string(), time))
    };
    paths.filter_map(read).collect()
}

#[test]
fn two_workers_share_connections_evenly() {
    const CONNECTIONS: usize = 8;
    const ROUNDS: usize = 40;
    const LENGTH: usize = 256 * 1024;
    let place = Place::new();
    place.put("call.wav", &pattern(LENGTH));
    let program = place.serve_with(&["--workers", "2"], &[]);
    let url = place.url("call", &program, &[]);
    let target = program.target(&url);
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| program.connect()).collect();
    let before = run_times(&program);
    assert_eq!(before.len(), 2, "{before:?}");
    for _ in 0..ROUNDS {
        for client in &mut clients {
            assert_eq!(client.get(target, &[]).body.len(), LENGTH);
        }
    }
    let after = run_times(&program);
    let spent = after.iter().map(|(path, time)| time - before[path]);
    let all: u64 = spent.clone().sum();
    let least = spent.min().unwrap_or_default();
    assert!(least * 4 > all, "{least} ns of {all} ns");
}
