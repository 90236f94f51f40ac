//! deploy/nginx, with Debian's nginx.

use std::path::Path;
use std::process::Command;

use super::check;
use super::setup::{Edge, Origin, PULLS, SIGNS, deployed, free_port};
use crate::harness::{has_peer, skips};

/// Whether nginx is there, or a skip aloud. It has no `--version`.
fn has_nginx() -> bool {
    let found = Command::new("nginx").arg("-v").output().is_ok();
    found || skips("nginx", "apt-get install nginx")
}

/// Runs a configuration of `deploy/` inside `http {}`.
fn start(main: &str, file: &str, origin: &Origin, more: &[(&str, &str)]) -> Edge {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let port = free_port();
    let pull = deployed("nginx/tonearm-pull.conf", &[("SECRET", PULLS)]);
    std::fs::write(dir.path().join("tonearm-pull.conf"), pull).unwrap();
    let keys = deployed(
        "nginx-njs/tonearm-keys.json",
        &[("KID", "k1"), ("SECRET", SIGNS)],
    );
    std::fs::write(dir.path().join("tonearm-keys.json"), keys).unwrap();
    let script = deployed("nginx-njs/tonearm.js", &[("/etc/nginx/", &at(""))]);
    std::fs::write(dir.path().join("tonearm.js"), script).unwrap();
    std::fs::create_dir(dir.path().join("cache")).unwrap();
    let (origin, listen) = (
        origin.program.public.to_string(),
        format!("listen 127.0.0.1:{port};"),
    );
    let (etc, cache) = (at(""), at("cache"));
    let mut places = vec![
        ("127.0.0.1:8080", &*origin),
        ("listen 80;", &listen),
        ("/etc/nginx/", &etc),
        ("/var/cache/nginx", &cache),
    ];
    places.extend(more);
    std::fs::write(dir.path().join("tonearm.conf"), deployed(file, &places)).unwrap();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {};\n", at(name)))
        .collect();
    let conf = format!(
        "{main}\nuser root;\ndaemon off;\npid {};\nerror_log stderr notice;\nworker_processes 2;\nevents {{}}\nhttp {{\naccess_log {};\n{temporary}include {};\n}}\n",
        at("nginx.pid"),
        at("access.log"),
        at("tonearm.conf"),
    );
    std::fs::write(dir.path().join("nginx.conf"), conf).unwrap();
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(dir.path())
        .arg("-c")
        .arg(dir.path().join("nginx.conf"));
    Edge::start(command, port, dir)
}

#[test]
fn nginx_asks_for_verdicts_and_keeps_slices() {
    if !has_nginx() {
        return;
    }
    let origin = Origin::start();
    let mut edge = start("", "nginx/tonearm.conf", &origin, &[]);
    // What its cache keeps until a second, it keeps for that second too.
    edge.late = 1;
    check(&edge, origin);
}

/// The module of Debian's package, where it is.
const NJS: &str = "/usr/lib/nginx/modules/ngx_http_js_module.so";

#[test]
fn nginx_with_njs_checks_urls_itself() {
    let found = Path::new(NJS).exists() || skips("njs", "apt-get install libnginx-mod-http-js");
    if !(found && has_nginx()) {
        return;
    }
    let origin = Origin::start();
    let main = format!("load_module {NJS};");
    let edge = start(&main, "nginx-njs/tonearm.conf", &origin, &[]);
    check(&edge, origin);
}

/// The decision that njs runs, by Node, whose clock is an argument.
#[test]
fn njs_decides_as_the_vectors_say() {
    if !has_peer("node", "apt-get install nodejs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = deployed("nginx-njs/tonearm.js", &[]);
    std::fs::write(dir.path().join("tonearm.mjs"), script).unwrap();
    std::fs::write(dir.path().join("vectors.mjs"), include_str!("vectors.mjs")).unwrap();
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/native-url.json");
    let mut command = Command::new("node");
    command.arg(dir.path().join("vectors.mjs")).arg(vectors);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let wrong = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}{wrong}");
    assert_eq!(said.trim_end(), "39 as expected, 1 by generation");
}
