//! What is logged of requests, and what never is.

mod shape;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Command;
use std::sync::mpsc::channel;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::program::{Place, Program, SERVE, TONEARM, ask, has_curl, poll};
use crate::harness::{OWNER, pattern};

const REFERER: &str = "https://crm.example/contact/4711";
const FILE_NAME: &str = "Confidential Merger.wav";

/// A request's method, target and further field.
type Asked = (&'static str, String, &'static str);

struct Logged {
    place: Place,
    program: Program,
    url: String,
    named: String,
}

impl Logged {
    fn start(format: &str) -> Self {
        let place = Place::new();
        place.put("call.wav", &pattern(1000));
        let log = [
            ("TONEARM_LOG_FORMAT", format),
            ("TONEARM_LOG_FILTER", "trace"),
        ];
        let program = place.serve_with(&["--workers", "2"], &log);
        Self {
            url: place.url("call", &program, &["--inline", "--revocable"]),
            named: place.url("call", &program, &["--filename", FILE_NAME]),
            place,
            program,
        }
    }

    fn mac(url: &str) -> &str {
        url.rsplit('.').next().unwrap()
    }

    /// Good requests and refused ones.
    fn requests(&self) -> Vec<Asked> {
        let target = self.program.target(&self.url).to_owned();
        let named = self.program.target(&self.named).to_owned();
        let (path, query) = target.split_once('?').unwrap();
        let mac = Self::mac(&self.url);
        let resolver = "/retrieve/authenticated/recordings";
        let (app, account) = OWNER.split_once('/').unwrap();
        let asks = format!("appId={app}&externalAccountId={account}");
        vec![
            ("GET", target.clone(), ""),
            ("HEAD", target.clone(), ""),
            ("GET", target.clone(), "Range: bytes=10-19"),
            ("GET", target.clone(), "Range: bytes=5000-"),
            ("GET", named, ""),
            ("GET", format!("{resolver}/call?{asks}"), ""),
            ("GET", format!("{resolver}/none?{asks}"), ""),
            ("GET", target.replace("call.wav", "cell.wav"), ""),
            ("GET", format!("{target}&{query}"), ""),
            ("GET", format!("{path}?sig={mac}"), ""),
            ("GET", path.to_owned(), ""),
            ("GET", format!("{path}/..?{query}"), ""),
            ("GET", format!("/elsewhere?{query}"), ""),
            ("GET", format!("/elsewhere/sig={mac}"), ""),
            ("GET", format!("{target}&pad={}", "x".repeat(2048)), ""),
            ("POST", target, ""),
        ]
    }

    fn ask_all(&self) -> usize {
        let requests = self.requests();
        let referer = format!("Referer: {REFERER}");
        for (method, target, field) in &requests {
            let fields = [field, referer.as_str()];
            let fields: Vec<_> = fields.into_iter().filter(|line| !line.is_empty()).collect();
            ask(self.program.public, method, target, &fields);
        }
        requests.len()
    }

    /// Nothing of the log opens a recording, or tells what a client came from.
    fn assert_nothing_leaks(&self, log: &str) {
        let mut secrets = self.place.secrets();
        for text in [
            Self::mac(&self.url),
            Self::mac(&self.named),
            REFERER,
            FILE_NAME,
        ] {
            secrets.push(text.to_owned());
        }
        // The file name as the token has it: the whole option, and its beginning.
        let token = self.named.split("?sig=").nth(1).unwrap();
        let option = token.split('.').nth(3).unwrap();
        assert!(option.starts_with("da-"), "{token}");
        secrets.push(option["da-".len()..].to_owned());
        secrets.push("contact/4711".to_owned());
        secrets.push("Confidential".to_owned());
        secrets.push("appId=".to_owned());
        secrets.push("sig=1".to_owned());
        for secret in secrets {
            assert!(!log.contains(&secret), "{secret} in {log}");
        }
    }
}

#[test]
fn the_access_log_finds_a_problem_again_and_opens_nothing() {
    let logged = Logged::start("json");
    let count = logged.ask_all();
    let log = logged
        .program
        .wait_log("\"target\":\"tonearm::access\"", count);
    logged.assert_nothing_leaks(&log);
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let access: Vec<&Value> = lines
        .iter()
        .filter(|line| line["target"] == "tonearm::access")
        .collect();
    assert_eq!(access.len(), count);

    let explained = logged.place.run(&["explain", "--json", &logged.url]).json();
    let whole = access[0];
    for (field, expect) in [
        ("level", &json!("INFO")),
        ("method", &json!("GET")),
        ("route", &json!("media")),
        ("path", &json!(format!("/media/{OWNER}/call.wav"))),
        ("status", &json!(200)),
        ("kid", &explained["token"]["kid"]),
        ("exp", &explained["token"]["exp"]),
        ("promised", &json!(1000)),
        ("sent", &json!(1000)),
        ("outcome", &json!("complete")),
    ] {
        assert_eq!(&whole[field], expect, "{field}: {whole}");
    }
    assert_eq!(
        (&whole["reason"], &whole["range"]),
        (&Value::Null, &Value::Null)
    );
    let id = explained["token"]["token_id"].as_str().unwrap();
    assert_eq!(whole["options"], format!("di.j{id}"), "{whole}");
    let print = whole["mac"].as_str().unwrap();
    assert!(print.len() == 8 && print.chars().all(|c| c.is_ascii_hexdigit()));
    assert!(whole["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(whole["micros"].is_u64() && whole["timestamp"].is_string());
    assert_eq!(access[4]["options"], "da", "{}", access[4]);
    assert_ne!(access[4]["mac"], whole["mac"]);

    for (line, expect) in access.iter().zip([
        json!(["GET", "media", 200, null, null]),
        json!(["HEAD", "media", 200, null, null]),
        json!(["GET", "media", 206, "single", null]),
        json!(["GET", "media", 416, "unsatisfiable", null]),
        json!(["GET", "media", 200, null, null]),
        json!(["GET", "resolve", 200, null, null]),
        json!([
            "GET",
            "resolve",
            404,
            null,
            "unknown recording: no recording: no file of a known format"
        ]),
        json!(["GET", "media", 403, null, "bad_signature"]),
        json!(["GET", "media", 403, null, "duplicate"]),
        json!(["GET", "media", 403, null, "malformed"]),
        json!(["GET", "media", 403, null, "missing"]),
        json!(["GET", "none", 403, null, "bad_path"]),
        json!(["GET", "none", 404, null, "no_route"]),
        json!(["GET", "none", 403, null, "bad_path"]),
        json!(["GET", "none", 414, null, "too_long"]),
        json!(["POST", "none", 405, null, "method"]),
    ]) {
        let found = ["method", "route", "status", "range", "reason"].map(|name| line[name].clone());
        assert_eq!(json!(found), expect, "{line}");
    }
}

#[test]
fn text_logs_leak_no_more_and_http2_neither() {
    let logged = Logged::start("text");
    let mut count = logged.ask_all();
    if has_curl() {
        for url in [&logged.url, &logged.named, &format!("{}&again", logged.url)] {
            let mut curl = Command::new("curl");
            curl.args([
                "-s",
                "--http2-prior-knowledge",
                "-o",
                "/dev/null",
                "-e",
                REFERER,
            ]);
            assert!(curl.arg(url).status().unwrap().success());
            count += 1;
        }
    }
    let log = logged.program.wait_log("tonearm::access: ", count);
    logged.assert_nothing_leaks(&log);
    assert!(log.contains("reason=\"bad_signature\""), "{log}");
    // For people, but not coloured into a file.
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn the_access_log_can_be_turned_off() {
    for filter in ["info,tonearm::access=off", "warn"] {
        let place = Place::new();
        let mut program = place.serve_with(&[], &[("TONEARM_LOG_FILTER", filter)]);
        assert_eq!(program.get("/", &[]).status, 404);
        assert_eq!(
            program.metric("tonearm_requests_total{route=\"none\",method=\"read\",status=\"404\"}"),
            1
        );
        program.signal(Signal::TERM);
        assert_eq!(program.wait(), 0);
        assert!(!program.log().contains("tonearm::access"), "{program:?}");
    }
}

#[test]
fn at_a_stop_every_line_is_there_whole_and_in_its_connections_order() {
    const CONNECTIONS: usize = 4;
    const REQUESTS: usize = 500;
    let place = Place::new();
    let mut program = place.serve_with(&["--workers", "2"], &[("TONEARM_LOG_FORMAT", "json")]);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut client = program.connect();
                for n in 0..REQUESTS {
                    assert_eq!(client.get(&format!("/{n}"), &[]).status, 404);
                }
            });
        }
    });
    program.signal(Signal::TERM);
    assert_eq!(program.wait(), 0);
    let mut paths: HashMap<String, Vec<String>> = HashMap::new();
    for line in program.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["target"] == "tonearm::access" {
            let [peer, path] = ["peer", "path"].map(|name| line[name].as_str().unwrap().to_owned());
            paths.entry(peer).or_default().push(path);
        }
    }
    assert_eq!(paths.len(), CONNECTIONS);
    let expect: Vec<_> = (0..REQUESTS).map(|n| format!("/{n}")).collect();
    assert!(paths.values().all(|found| *found == expect), "{paths:?}");
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let place = Place::new();
    place.put("call.wav", &pattern(1000));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>/dev/full", TONEARM]);
    command.args(SERVE).env_clear().current_dir(place.path("."));
    let mut program = Program::start(command);
    let url = place.url("call", &program, &[]);
    let mut client = program.connect();
    for _ in 0..3 {
        client.ask("GET", program.target(&url), &[]);
        assert_eq!(client.response("GET").body, pattern(1000));
    }
    drop(client);
    let lost = "tonearm_log_lines_dropped_total";
    poll("lost lines", || (program.metric(lost) >= 3).then_some(()));
    program.signal(Signal::HUP);
    let reloads = "tonearm_keyring_reloads_total{outcome=\"ok\"}";
    poll("a reload", || (program.metric(reloads) == 1).then_some(()));
    program.signal(Signal::TERM);
    assert_eq!(program.wait(), 0);
}

#[test]
fn a_log_that_nobody_reads_stalls_nothing_and_loses_lines_that_are_counted() {
    const REQUESTS: u64 = 18_000;
    let place = Place::new();
    place.put("call.wav", &pattern(1000));
    rustix::fs::mkfifoat(rustix::fs::CWD, place.path("stuck"), 0o600.into()).unwrap();
    // Open at both ends, and not read.
    let mut ends = std::fs::File::options()
        .read(true)
        .write(true)
        .open(place.path("stuck"))
        .unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>stuck", TONEARM]);
    command.args(SERVE).env_clear().current_dir(place.path("."));
    let mut program = Program::start(command);
    let url = place.url("call", &program, &[]);
    let mut client = program.connect();
    for _ in 1..REQUESTS {
        client.ask("GET", "/", &[]);
        assert_eq!(client.response("GET").status, 404);
    }
    assert_eq!(program.get(&url, &[]).body, pattern(1000));
    let lost = || program.metric("tonearm_log_lines_dropped_total");
    assert!(lost() > 0);
    drop(client);

    // Whoever reads at last finds all the others, each of them whole.
    let reader = BufReader::new(ends.try_clone().unwrap());
    let (found, lines) = channel();
    std::thread::spawn(move || {
        let lines = reader.lines().map(Result::unwrap);
        for line in lines.take_while(|line| line != "end") {
            found.send(line).unwrap();
        }
    });
    let mut kept = 0;
    poll("the lines that are not lost", || {
        for line in lines.try_iter().filter(|line| line.contains("access")) {
            let whole = line.starts_with("20") && line.contains(" micros=");
            assert!(whole && line.matches("peer=").count() == 1, "{line}");
            kept += 1;
        }
        (kept + lost() == REQUESTS).then_some(())
    });
    program.signal(Signal::TERM);
    assert_eq!(program.wait(), 0);
    ends.write_all(b"end\n").unwrap();
    assert!(!lines.iter().any(|line| line.contains("access")));
}

#[test]
fn a_request_id_comes_back_and_is_logged_with_the_trace() {
    let place = Place::new();
    let program = place.serve_with(&[], &[("TONEARM_LOG_FORMAT", "json")]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let answer = program.get("/", &["X-Request-Id: 7f3a~b", &parent]);
    assert_eq!(answer.field("x-request-id"), Some("7f3a~b"));
    let answer = program.get("/", &["X-Request-Id: two words"]);
    assert_eq!(answer.field("x-request-id"), None);
    let log = program.wait_log("tonearm::access", 2);
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["target"] == "tonearm::access")
        .collect();
    assert_eq!(lines[0]["request_id"], "7f3a~b");
    assert_eq!(lines[0]["trace_id"], trace);
    assert_eq!(lines[1]["request_id"], Value::Null);
}
