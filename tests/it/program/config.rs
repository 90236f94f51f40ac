//! `tonearm config`, and what the program says of itself.

use serde_json::Value;

use crate::harness::program::Place;

const FILE: &str = "\
# The switchboard in Lyon.
workers = 3
[url]
base_ttl = \"20m\"
[resolver]
allowed_app_ids = [\"app-101\", \"app-102\"]
";

fn configured() -> Place {
    let place = Place::new();
    place.write("tonearm.toml", FILE, 0o644);
    place
}

#[test]
fn show_names_the_source_of_every_value() {
    let place = configured();
    let environment = [("TONEARM_LISTEN", "127.0.0.1:8081")];
    let ran = place.run_with(&["config", "show", "--json"], &environment);
    let rows = ran.json();
    let rows = rows.as_array().unwrap();
    for (key, value, source) in [
        ("workers", "3", "tonearm.toml:2"),
        ("url.base_ttl", "20m", "tonearm.toml:4"),
        (
            "resolver.allowed_app_ids",
            "app-101,app-102",
            "tonearm.toml:6",
        ),
        ("listen", "127.0.0.1:8081", "TONEARM_LISTEN"),
        ("storage", "storage", "default"),
    ] {
        let row = rows.iter().find(|row| row["key"] == key).unwrap();
        assert_eq!(
            (&row["value"], &row["source"]),
            (&value.into(), &source.into())
        );
        let variable = format!("TONEARM_{}", key.replace('.', "_").to_uppercase());
        assert_eq!(row["variable"], variable);
        assert!(row["help"].as_str().unwrap().len() > 5);
    }
    let text = place.run_with(&["config", "show"], &environment).ok();
    for row in rows {
        let (key, source) = (
            row["key"].as_str().unwrap(),
            row["source"].as_str().unwrap(),
        );
        let name = key.rsplit('.').next().unwrap();
        let shown = |line: &str| {
            let line = line.strip_prefix("# ").unwrap_or(line);
            line.starts_with(&format!("{name} = ")) && line.ends_with(&format!("# {source}"))
        };
        assert!(text.lines().any(shown), "{key}: {text}");
    }
}

#[test]
fn what_show_prints_is_a_file_that_says_the_same() {
    let place = configured();
    let values = |rows: Value| -> Vec<(Value, Value)> {
        let rows = rows.as_array().unwrap().clone();
        let pairs = rows
            .iter()
            .map(|row| (row["key"].clone(), row["value"].clone()));
        pairs.collect()
    };
    let before = values(place.run(&["config", "show", "--json"]).json());
    let shown = place.run(&["config", "show"]).ok();
    place.write("other.toml", shown, 0o644);
    let other = ["--config", "other.toml"];
    place.run(&[&["config", "check"][..], &other].concat()).ok();
    let after = place.run(&[&["config", "show", "--json"][..], &other].concat());
    assert_eq!(values(after.json()), before);
}

#[test]
fn check() {
    let place = configured();
    let right = place.run(&["config", "check"]).ok();
    assert!(right.contains("the configuration is right"), "{right}");
    place.run(&["keys", "init"]).ok();
    let right = place.run(&["config", "check"]).ok();
    assert!(right.contains("keyring.toml: 1 key"), "{right}");
    let wrong = place.run_with(&["config", "check"], &[("TONEARM_WORKERS", "x")]);
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(78), ""));
    assert!(
        wrong
            .err
            .starts_with("tonearm: TONEARM_WORKERS: workers = \"x\": ")
    );
    // A keyring given by mistake is not shown.
    let mistaken = place.run(&["config", "check", "--config", "keyring.toml"]);
    assert_eq!(mistaken.code, Some(78));
    for secret in place.secrets() {
        assert!(!mistaken.err.contains(&secret), "{mistaken:?}");
    }
}

#[test]
fn every_command_has_its_help() {
    let place = Place::new();
    let common = ["--config", "--help", "--version"];
    for (command, flags) in [
        (
            "",
            &["serve", "url", "explain", "keys", "config", "Exit codes"][..],
        ),
        (
            "serve",
            &[
                "--storage",
                "--listen",
                "--admin-listen",
                "--public-base-url",
                "--keyring",
                "--workers",
            ],
        ),
        (
            "url",
            &[
                "<ID>",
                "--app",
                "--account",
                "--ttl",
                "--inline",
                "--filename",
                "--bind-host",
                "--revocable",
                "--not-before",
                "--storage",
                "--base",
                "--keyring",
            ],
        ),
        (
            "explain",
            &[
                "<URL>",
                "--now",
                "--method",
                "--host",
                "--generation",
                "--json",
                "--keyring",
            ],
        ),
        ("keys", &["init", "list", "rotate", "revoke"]),
        ("keys init", &["--keyring"]),
        ("keys list", &["--json", "--keyring"]),
        ("keys rotate", &["--after", "--dry-run", "--keyring"]),
        (
            "keys revoke",
            &["[KID]", "--url-id", "--dry-run", "--keyring"],
        ),
        ("config", &["check", "show"]),
        ("config check", &[]),
        ("config show", &["--json"]),
    ] {
        let words: Vec<&str> = command.split_whitespace().collect();
        let help = place.run(&[&words[..], &["--help"]].concat()).ok();
        for flag in flags.iter().chain(&common) {
            assert!(help.contains(flag), "{flag} in {command:?}: {help}");
        }
        // Ready for a terminal of the usual width.
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
        let version = place.run(&[&words[..], &["--version"]].concat()).ok();
        let number = format!(" {}\n", env!("CARGO_PKG_VERSION"));
        assert!(
            version.starts_with("tonearm") && version.ends_with(&number),
            "{version}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    let mut command = place.command(&["config", "show"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = command.stdout(writer).output().unwrap();
    assert_eq!((ran.status.code(), &ran.stderr[..]), (Some(0), &b""[..]));
}
