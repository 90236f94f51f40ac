//! What the README says is run: its commands, their output, and its table of settings.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tonearm::config::SETTINGS;

const README: &str = include_str!("../../README.md");
const INGEST: &str = include_str!("../../docs/ingest.md");

/// The lines of every fenced block of a kind, comments and blank lines left out.
fn blocks(kind: &str) -> Vec<Vec<&'static str>> {
    blocks_of(README, kind)
}

fn blocks_of(page: &'static str, kind: &str) -> Vec<Vec<&'static str>> {
    let fence = format!("```{kind}\n");
    page.split(&fence)
        .skip(1)
        .map(|rest| {
            let block = rest.split("```").next().unwrap();
            let said = |line: &&str| !line.is_empty() && !line.starts_with('#');
            block.lines().filter(said).collect()
        })
        .collect()
}

/// A directory with the repository's storage in it, and the program on its path.
struct Place {
    tmp: tempfile::TempDir,
    server: Child,
    printed: Vec<String>,
}

impl Place {
    /// Does what `cargo run --release -- serve` does, with the binary under test and free ports.
    fn start() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("storage");
        std::os::unix::fs::symlink(source, tmp.path().join("storage")).unwrap();
        std::fs::create_dir(tmp.path().join("bin")).unwrap();
        let program = tmp.path().join("bin/tonearm");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tonearm"), &program).unwrap();
        let mut server = Command::new(program)
            .arg("serve")
            .current_dir(tmp.path())
            .env("TONEARM_LISTEN", "127.0.0.1:0")
            .env("TONEARM_ADMIN_LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let printed = lines.take(3).map(|line| line.unwrap()).collect();
        Self {
            tmp,
            server,
            printed,
        }
    }

    fn base(&self) -> &str {
        self.printed[0].strip_prefix("listening on ").unwrap()
    }

    fn run(&self, command: &str) -> (bool, String) {
        let path = std::env::var("PATH").unwrap();
        let bin: PathBuf = self.tmp.path().join("bin");
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(self.tmp.path())
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("TONEARM_PUBLIC_BASE_URL", self.base())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Text with every `127.0.0.1:PORT` alike.
fn without_ports(text: &str) -> String {
    let mut parts = text.split("127.0.0.1:");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        out.push_str("127.0.0.1:PORT");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

#[test]
fn every_command_runs() {
    if !crate::harness::has_peer("curl", "apt-get install curl") {
        return;
    }
    let place = Place::start();
    let mut ran = 0;
    for command in blocks("sh").concat() {
        match command {
            // Started above; and the command that runs this very test.
            "cargo run --release -- serve" | "cargo test" => {}
            command => {
                let (ok, output) = place.run(command);
                assert!(ok, "{command}\n{output}");
                ran += 1;
            }
        }
    }
    assert!(ran >= 8, "{ran} commands");
    let part = std::fs::read(place.tmp.path().join("part.wav")).unwrap();
    let whole = std::fs::read("storage/app-101/test-account-01/test-call-01.wav").unwrap();
    assert_eq!(part, whole[1000..2000]);
    let saved = std::fs::read(place.tmp.path().join("Call with Zoe.flac")).unwrap();
    assert_eq!(
        saved,
        std::fs::read("storage/app-101/test-account-01/test-call-03.flac").unwrap()
    );
}

#[test]
fn every_command_of_the_page_on_bringing_runs() {
    if !crate::harness::has_peer("curl", "apt-get install curl") {
        return;
    }
    let page = crate::harness::program::Place::new();
    let call = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("storage/app-101/test-account-01/test-call-01.wav");
    std::fs::copy(&call, page.path("call.wav")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tonearm"), page.path("tonearm")).unwrap();
    let path = format!(
        "{}:{}",
        page.path("").display(),
        std::env::var("PATH").unwrap()
    );
    let mut program = None;
    for command in blocks_of(INGEST, "sh").concat() {
        if command == "tonearm serve --ingest-tokens tokens" {
            program = Some(page.serve_with(&["--ingest-tokens", "tokens"], &[]));
            continue;
        }
        let address = program.as_ref().map(|program| program.public.to_string());
        let here = command.replace("127.0.0.1:8080", &address.unwrap_or_default());
        let output = Command::new("sh")
            .args(["-c", &here])
            .current_dir(page.path(""))
            .env("PATH", &path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}\n{output:?}");
    }
    let stored = |id: &str| std::fs::read(page.path("storage").join(format!("{id}.wav"))).ok();
    let call = std::fs::read(call).ok();
    assert_eq!(stored("app-101/test-account-01/call-1"), call);
    assert_eq!(stored("app-101/test-account-01/call-2"), None);
    assert_eq!(stored("app-101/test-account-01/call-3"), call);
}

#[test]
fn the_start_prints_what_is_shown_and_the_curl_line_answers_as_shown() {
    let place = Place::start();
    let shown = &blocks("text")[0];
    let printed: Vec<_> = place
        .printed
        .iter()
        .map(|line| without_ports(line))
        .collect();
    let shown_start: Vec<_> = shown.iter().map(|line| without_ports(line)).collect();
    assert_eq!(printed, shown_start);
    if !crate::harness::has_peer("curl", "apt-get install curl") {
        return;
    }
    let (ok, answer) = place.run(&place.printed[2]);
    assert!(ok, "{answer}");
    let keys = |text: &str| {
        let object: serde_json::Value = serde_json::from_str(text).unwrap();
        let object = object.as_object().unwrap().clone();
        let url = object["authenticatedUrl"].as_str().unwrap().to_owned();
        let path = url.split("?sig=1.").next().unwrap().to_owned();
        (
            object.keys().cloned().collect::<Vec<_>>(),
            without_ports(&path),
        )
    };
    assert_eq!(keys(&answer), keys(blocks("json")[0][0]));
}

#[test]
fn the_two_commands_are_the_ones_that_are_checked() {
    let commands = blocks("sh").concat();
    assert!(commands.contains(&"cargo run --release -- serve"));
    assert!(commands.contains(&"cargo test"));
    let ci = std::fs::read_to_string(".ci/run").unwrap();
    assert!(ci.contains("cargo test"));
}

#[test]
fn the_table_of_settings_is_the_programs() {
    let rows: Vec<_> = README
        .lines()
        .filter(|line| line.contains("| `TONEARM_"))
        .collect();
    assert_eq!(rows.len(), SETTINGS.len());
    for (row, setting) in rows.iter().zip(SETTINGS) {
        let default = match setting.default {
            "" => String::new(),
            text => format!("`{text}`"),
        };
        let expect = format!(
            "| `{}` | `{}` | {default} | {} |",
            setting.key,
            setting.variable(),
            setting.help
        );
        assert_eq!(**row, expect);
    }
}
