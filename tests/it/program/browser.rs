//! A real Chromium plays and seeks, and the server says what was asked of it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::program::{Place, Program, Ran};
use crate::harness::{OWNER, has_peer, skips};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn has_browser() -> bool {
    let named = std::env::var_os("CHROMIUM").filter(|name| !name.is_empty());
    let chromium = named.map_or_else(|| "/usr/bin/chromium".into(), PathBuf::from);
    let driver = Path::new(ROOT).join("tests/browser/node_modules/playwright-core");
    has_peer("node", "apt-get install nodejs npm")
        && (chromium.exists() || skips("Chromium", "apt-get install chromium, or set CHROMIUM"))
        && (driver.exists()
            || skips(
                "playwright-core",
                "npm ci --prefix tests/browser --ignore-scripts",
            ))
}

/// Plays a recording, and gives the player's report.
fn play(program: &Program, id: &str) -> Value {
    let (app, account) = OWNER.split_once('/').unwrap();
    let resolver = format!(
        "http://{}/retrieve/authenticated/recordings/{id}?appId={app}&externalAccountId={account}",
        program.public
    );
    let mut node = Command::new("node");
    node.arg(Path::new(ROOT).join("tests/browser/play.mjs"));
    let ran = Ran::of(node.arg(resolver).output().unwrap());
    assert_eq!(ran.code, Some(0), "{}\n{}\n{program:?}", ran.err, ran.out);
    ran.json()
}

/// How often each status was answered on the media route.
fn assert_answered_in_parts(program: &Program, at_least: u64) {
    let answered = |status| {
        let labels = format!("{{route=\"media\",method=\"read\",status=\"{status}\"}}");
        program.metric(&format!("tonearm_requests_total{labels}"))
    };
    assert_eq!(answered("200"), 0, "{program:?}");
    assert!(answered("206") >= at_least, "{program:?}");
    let log = program.log();
    let access = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let parts = access.filter(|line: &Value| line["route"] == "media" && line["status"] == 206);
    for part in parts {
        assert_eq!(part["range"], "single", "{part}");
    }
}

/// A player's requests after it was told to seek, by their first byte.
fn asked_by_seeks(report: &Value) -> Vec<u64> {
    let media = report["media"].as_array().unwrap().iter();
    let by_seek = media.filter(|asked| asked["by"] == "media" && asked["during"] == "seek");
    let first = |asked: &Value| {
        let range = asked["range"].as_str()?.strip_prefix("bytes=")?;
        range.split('-').next()?.parse().ok()
    };
    by_seek.filter_map(first).collect()
}

#[test]
fn a_sample_plays_and_seeks() {
    if !has_browser() {
        return;
    }
    let place = Place::new();
    let name = format!("{OWNER}/test-call-01.wav");
    let sample = Path::new(ROOT).join("storage").join(&name);
    std::fs::copy(sample, place.path("storage").join(name)).unwrap();
    let program = place.serve_with(&[], &[("TONEARM_LOG_FORMAT", "json")]);
    let report = play(&program, "test-call-01");
    assert_eq!(report["ok"], true, "{report}");
    // Each of the two pages asks for the recording, and one for two ranges from script.
    assert_answered_in_parts(&program, 4);
}

const RATE: u32 = 44_100;
const FRAME: u32 = 4;
const SECONDS: u32 = 340;
const DATA: u32 = SECONDS * RATE * FRAME;

/// A WAV of some 60 MB: two channels of noise, 16 bits.
fn write_long_recording(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    let word = u32::to_le_bytes;
    let head: [&[u8]; 9] = [
        b"RIFF",
        &word(36 + DATA),
        b"WAVEfmt ",
        &word(16),
        &[1, 0, 2, 0],
        &word(RATE),
        &word(RATE * FRAME),
        &[4, 0, 16, 0],
        b"data",
    ];
    file.write_all(&head.concat()).unwrap();
    file.write_all(&word(DATA)).unwrap();
    let mut state = 0x2545_F491_u32;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // Quiet enough for whoever looks on: each sample's upper byte is small.
        let [a, b, c, d] = state.to_le_bytes();
        [a, b & 7, c, d & 7]
    };
    let second: Vec<u8> = (0..RATE).flat_map(|_| noise()).collect();
    for _ in 0..SECONDS {
        file.write_all(&second).unwrap();
    }
}

#[test]
fn a_seek_in_a_long_recording_asks_for_its_place_only() {
    if !has_browser() {
        return;
    }
    let place = Place::new();
    write_long_recording(&place.path("storage").join(OWNER).join("long.wav"));
    let program = place.serve_with(&[], &[("TONEARM_LOG_FORMAT", "json")]);
    let report = play(&program, "long");
    assert_eq!(report["ok"], true, "{report}");
    assert_answered_in_parts(&program, 6);
    let seeks = asked_by_seeks(&report);
    let near = u64::from(DATA) * 7 / 10;
    let pages = seeks.iter().filter(|first| **first > near).count();
    assert!(pages >= 2, "one of each page: {seeks:?}");
}
