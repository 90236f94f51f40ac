//! A module imports what its row allows, and layer 0 touches no world.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Every module, its layer, and the modules it may use.
const ROWS: &[(&str, u8, &[&str])] = &[
    ("recording", 0, &[]),
    ("sign", 0, &["recording"]),
    ("select", 0, &["recording"]),
    ("respond", 0, &["recording", "select", "sign"]),
    ("route", 0, &["recording"]),
    ("edge", 0, &["recording", "sign"]),
    ("audio", 0, &[]),
    ("sound", 1, &["audio"]),
    ("hubspot::api_error", 0, &[]),
    ("hubspot::names", 0, &[]),
    ("hubspot::path", 0, &[]),
    ("hubspot::wire", 0, &["recording"]),
    ("hubspot::request", 0, &["recording"]),
    ("hubspot::retry", 0, &[]),
    ("hubspot::journal", 0, &["recording"]),
    ("hubspot::signature", 0, &[]),
    ("hubspot::client", 1, &[]),
    ("hubspot::publish", 1, &["recording"]),
    (
        "store",
        1,
        &["audio", "edge", "recording", "respond", "select", "sign"],
    ),
    ("rehearse", 1, &["hubspot::names", "recording"]),
    (
        "doctor",
        2,
        &[
            "app",
            "audio",
            "hubspot::signature",
            "hubspot::wire",
            "recording",
            "sound",
            "store",
        ],
    ),
    ("body", 1, &["respond", "select", "store"]),
    ("load", 1, &[]),
    ("metrics", 2, &[]),
    (
        "ingest",
        2,
        &[
            "audio",
            "recording",
            "respond",
            "route",
            "select",
            "sign",
            "store",
        ],
    ),
    (
        "reject",
        2,
        &[
            "edge",
            "hubspot::signature",
            "ingest",
            "respond",
            "route",
            "sign",
            "store",
        ],
    ),
    ("server", 2, &["body", "recording", "respond"]),
    (
        "app",
        2,
        &[
            "body",
            "edge",
            "hubspot::signature",
            "ingest",
            "metrics",
            "recording",
            "reject",
            "respond",
            "route",
            "select",
            "server",
            "sign",
            "store",
        ],
    ),
    (
        "admin",
        2,
        &[
            "app", "body", "metrics", "reject", "respond", "server", "sign", "store",
        ],
    ),
    (
        "acme",
        2,
        &[
            "app",
            "body",
            "metrics",
            "recording",
            "reject",
            "respond",
            "server",
            "sign",
        ],
    ),
    (
        "config",
        3,
        &[
            "acme",
            "app",
            "edge",
            "hubspot::path",
            "ingest",
            "recording",
            "route",
            "server",
            "sign",
            "store",
        ],
    ),
    (
        "cli",
        3,
        &[
            "acme",
            "admin",
            "app",
            "audio",
            "config",
            "edge",
            "doctor",
            "hubspot::client",
            "hubspot::journal",
            "hubspot::names",
            "hubspot::publish",
            "hubspot::request",
            "hubspot::wire",
            "ingest",
            "load",
            "metrics",
            "recording",
            "rehearse",
            "server",
            "sign",
            "sound",
            "store",
        ],
    ),
];

/// What layer 0 never names: it has no clock, no files, no sockets, no environment, no runtime.
const WORLD: &[&str] = &[
    "tokio",
    "hyper",
    "rustix",
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "SystemTime",
    "Instant",
    "tracing",
];

/// Crates that only the shell may name.
const SHELL_ONLY: &[&str] = &["anyhow", "clap", "toml", "toml_edit", "tracing_subscriber"];

fn source_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.file_name().unwrap() != "tests.rs" {
            found.push(path);
        }
    }
}

/// The code of every module, without comments and without its tests.
fn modules() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    let mut modules: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        let below = file.strip_prefix(&root).unwrap().with_extension("");
        let mut parts = below.iter().map(|part| part.to_str().unwrap());
        let mut name = parts.next().unwrap().to_owned();
        if matches!(name.as_str(), "lib" | "main") {
            continue;
        }
        // Its parts are of two layers; hubspot.rs itself names them and nothing else.
        if name == "hubspot" {
            let Some(part) = parts.next() else { continue };
            name = format!("hubspot::{part}");
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let module = modules.entry(name).or_default();
        for line in code.lines() {
            module.push_str(line.split("//").next().unwrap());
            module.push('\n');
        }
    }
    modules
}

/// The first names behind each `crate::`; of hubspot, its part.
fn used(code: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let name = |text: &str| text.chars().take_while(|c| is_name(*c)).collect::<String>();
    code.split("crate::")
        .skip(1)
        .map(|rest| match rest.strip_prefix("hubspot::") {
            Some(part) => format!("hubspot::{}", name(part)),
            None => name(rest),
        })
        .collect()
}

fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(before) && !part(after)
    })
}

#[test]
fn every_module_has_a_row_and_keeps_to_it() {
    let modules = modules();
    let rows: Vec<_> = ROWS.iter().map(|(name, ..)| *name).collect();
    for (name, code) in &modules {
        let row = ROWS.iter().find(|(row, ..)| row == name);
        let (_, layer, allowed) = row.unwrap_or_else(|| panic!("{name} has no row in this table"));
        for used in used(code) {
            assert!(
                used == *name || allowed.contains(&used.as_str()),
                "{name} may not use {used:?}"
            );
        }
        for word in WORLD.iter().filter(|_| *layer == 0) {
            assert!(!names_crate(code, word), "{name} is pure and names {word}");
        }
        for word in SHELL_ONLY.iter().filter(|_| *layer < 3) {
            assert!(
                !names_crate(code, word),
                "{name} is no shell and names {word}"
            );
        }
    }
    for row in rows {
        assert!(modules.contains_key(row), "{row} has a row and no code");
    }
}

#[test]
fn no_row_allows_a_higher_layer() {
    for (name, layer, allowed) in ROWS {
        for other in *allowed {
            let (_, theirs, _) = ROWS.iter().find(|(row, ..)| row == other).unwrap();
            assert!(
                theirs <= layer,
                "{name} in layer {layer} uses {other} in layer {theirs}"
            );
        }
    }
}

#[test]
fn the_check_can_fail() {
    assert_eq!(
        used("use crate::store::X; crate::app::y()"),
        ["store", "app"]
    );
    assert!(names_crate("use tokio::net;", "tokio"));
    assert!(!names_crate("use my_tokio::net; tokiox", "tokio"));
    assert!(names_crate("SystemTime::now()", "SystemTime"));
}
