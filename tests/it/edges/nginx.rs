//! deploy/nginx, with Debian's nginx.

use std::path::Path;
use std::process::Command;

use tonearm::edge::cdn::{Format, Signer};
use tonearm::recording::UnixTime;
use tonearm::sign::Claims;

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

/// `url.format = "nginx-secure-link"`, by the module that checks it.
#[test]
fn nginx_s_secure_link_module_takes_our_urls() {
    const SECRET: &str = "a-secret-of-some-length-0123456789";
    if !has_nginx() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let conf = format!(
        r#"user root; daemon off; pid {0}/nginx.pid; error_log stderr; events {{}}
http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;
fastcgi_temp_path {0}/fastcgi; uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;
server {{ listen 127.0.0.1:{port}; location /media/ {{
secure_link $arg_md5,$arg_expires; secure_link_md5 "$secure_link_expires$uri {SECRET}";
if ($secure_link = "") {{ return 403; }} if ($secure_link = "0") {{ return 410; }} return 204;
}} }} }}"#,
        dir.path().display()
    );
    let at = dir.path().join("nginx.conf");
    std::fs::write(&at, conf).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir.path()).arg("-c").arg(at);
    let edge = Edge::start(command, port, dir);
    let base = "https://cdn.example";
    let signer = Signer::new(Format::NginxSecureLink, base, "", SECRET, 3600).unwrap();
    let now = tonearm::server::now();
    let path = "/media/app-101/test-account-01/call.wav";
    let url = |exp, now| signer.url(path, &Claims::until(exp), now).unwrap();
    let good = url(now.plus(600), now);
    let good = good.strip_prefix(base).unwrap();
    assert_eq!(edge.get(good, &[]).status, 204);
    assert_eq!(edge.get(&good.replace("call", "other"), &[]).status, 403);
    let past = UnixTime(now.0 - 1);
    let ended = url(past, UnixTime(now.0 - 600));
    assert_eq!(edge.get(ended.strip_prefix(base).unwrap(), &[]).status, 410);
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
