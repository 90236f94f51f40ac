//! The server as curl sees it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::pattern;
use crate::harness::program::{Place, Program, Ran, has_curl, poll};

const LENGTH: usize = 1_000_003;

struct Curl {
    place: Place,
    program: Program,
}

impl Curl {
    /// `None` where there is no curl.
    fn start() -> Option<Self> {
        if !has_curl() {
            return None;
        }
        let place = Place::new();
        place.put("call.wav", &pattern(LENGTH));
        let program = place.serve_with(&[], &[("TONEARM_LOG_FORMAT", "json")]);
        Some(Self { place, program })
    }

    fn url(&self, flags: &[&str]) -> String {
        self.place.url("call", &self.program, flags)
    }

    /// curl in a directory for what it saves, deaf to a `.curlrc`.
    fn command(&self, args: &[&str], url: &str) -> Command {
        let directory = self.place.path("saved");
        std::fs::create_dir_all(&directory).unwrap();
        let mut command = Command::new("curl");
        command.args(["-q", "-sS"]).args(args).arg(url);
        command.current_dir(directory);
        command
    }

    fn run(&self, args: &[&str], url: &str) -> Ran {
        Ran::of(self.command(args, url).output().unwrap())
    }

    fn saved(&self, name: &str) -> PathBuf {
        self.place.path("saved").join(name)
    }

    /// The first `count` lines of the access log.
    fn access(&self, count: usize) -> Vec<Value> {
        let log = self.program.wait_log("\"tonearm::access\"", count);
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["target"] == "tonearm::access")
            .collect()
    }
}

#[test]
fn a_broken_download_is_resumed() {
    // More than the buffers between a server and a slow client can hold.
    const LONG: usize = 32_000_003;
    let Some(curl) = Curl::start() else { return };
    curl.place.put("call.wav", &pattern(LONG));
    let url = curl.url(&[]);
    let part = curl.saved("part");
    let mut slow = curl.command(&["--limit-rate", "1M", "-o", "part"], &url);
    let mut running = slow.stderr(Stdio::null()).spawn().unwrap();
    let saved = || part.metadata().map_or(0, |metadata| metadata.len());
    poll("curl is in the middle", || {
        let begun = saved() > 300_000;
        begun.then(|| running.kill().unwrap())
    });
    running.wait().unwrap();
    let first = saved();
    let whole = u64::try_from(LONG).unwrap();
    assert!(first < whole, "{first}");

    curl.run(&["-C", "-", "-o", "part"], &url).ok();
    assert!(
        std::fs::read(&part).unwrap() == pattern(LONG),
        "other bytes"
    );
    let access = curl.access(2);
    assert_eq!(access[0]["outcome"], "aborted", "{}", access[0]);
    let resumed = &access[1];
    assert_eq!(
        (&resumed["status"], &resumed["range"]),
        (&206.into(), &"single".into())
    );
    assert_eq!(resumed["sent"], whole - first);
}

/// A stop lets a stream finish too, and tells its client that there will be no other.
#[test]
fn a_stop_lets_an_http2_download_finish() {
    const LONG: usize = 32_000_003;
    let Some(mut curl) = Curl::start() else {
        return;
    };
    curl.place.put("call.wav", &pattern(LONG));
    let url = curl.url(&[]);
    let part = curl.saved("part");
    let flags = [
        "--http2-prior-knowledge",
        "--limit-rate",
        "16M",
        "-o",
        "part",
    ];
    let mut slow = curl.command(&flags, &url);
    let running = slow.stderr(Stdio::piped()).spawn().unwrap();
    poll("curl is in the middle", || {
        let saved = part.metadata().map_or(0, |metadata| metadata.len());
        (saved > 300_000).then_some(())
    });
    curl.program.signal(Signal::TERM);
    curl.program.wait_log("stopping", 1);
    Ran::of(running.wait_with_output().unwrap()).ok();
    assert!(
        std::fs::read(&part).unwrap() == pattern(LONG),
        "other bytes"
    );
    assert_eq!(curl.program.wait(), 0, "{:?}", curl.program);
}

#[test]
fn ranges() {
    let Some(curl) = Curl::start() else { return };
    let url = curl.url(&[]);
    let bytes = pattern(LENGTH);
    for (range, expect) in [
        ("1000-1999", &bytes[1000..2000]),
        ("0-0", &bytes[..1]),
        ("-500", &bytes[LENGTH - 500..]),
        ("1000000-", &bytes[1_000_000..]),
    ] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let write = ["-r", range, version, "-o", "part", "-w", "%{http_code}"];
            assert_eq!(curl.run(&write, &url).ok(), "206", "{range} {version}");
            let saved = std::fs::read(curl.saved("part")).unwrap();
            assert!(saved == expect, "{range} {version}: other bytes");
        }
    }
}

#[test]
fn both_protocols_give_the_whole() {
    let Some(curl) = Curl::start() else { return };
    let url = curl.url(&[]);
    for (flag, version) in [
        ("--http1.0", "1"),
        ("--http1.1", "1.1"),
        ("--http2-prior-knowledge", "2"),
        // An upgrade is not offered, and may be left aside.
        ("--http2", "1.1"),
    ] {
        let write = [
            flag,
            "-o",
            "whole",
            "-w",
            "%{http_version} %{http_code} %{size_download}",
        ];
        let told = curl.run(&write, &url).ok();
        assert_eq!(told, format!("{version} 200 {LENGTH}"), "{flag}");
        let saved = std::fs::read(curl.saved("whole")).unwrap();
        assert!(saved == pattern(LENGTH), "{flag}: other bytes");
    }
}

#[test]
fn head_says_what_get_would() {
    let Some(curl) = Curl::start() else { return };
    let head = curl.run(&["-I"], &curl.url(&[])).ok().to_lowercase();
    for line in [
        "http/1.1 200 ok\r\n".to_owned(),
        format!("\r\ncontent-length: {LENGTH}\r\n"),
        "\r\naccept-ranges: bytes\r\n".to_owned(),
        "\r\ncontent-type: application/octet-stream\r\n".to_owned(),
    ] {
        assert!(head.contains(&line), "{line:?} in {head}");
    }
}

#[test]
fn a_download_is_saved_under_its_name() {
    let Some(curl) = Curl::start() else { return };
    for (flags, name) in [
        (&[][..], "call.wav"),
        (&["--filename", "Ann and Bob.wav"], "Ann and Bob.wav"),
    ] {
        curl.run(&["-OJ"], &curl.url(flags)).ok();
        let saved = std::fs::read(curl.saved(name)).unwrap();
        assert!(saved == pattern(LENGTH), "{name}: other bytes");
    }
}

#[test]
fn a_refused_url_fails_and_repeats_nothing() {
    let Some(curl) = Curl::start() else { return };
    let url = curl.url(&[]).replace("call", "cell");
    let refused = curl.run(&["--fail-with-body"], &url);
    assert_eq!(refused.code, Some(22), "{refused:?}");
    assert!(!refused.out.contains("sig="), "{}", refused.out);
    let problem = refused.json();
    assert_eq!(problem["status"], 403, "{problem}");
}
