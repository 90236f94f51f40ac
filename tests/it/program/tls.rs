//! TLS as its user sets it up: files, reloads, and what is said of them.

use std::process::Command;

use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};

use crate::harness::program::{Place, Program, Ran, ask, has_curl, poll};
use crate::harness::tls::{Made, try_connect};
use crate::harness::{pattern, skips};

const SETTINGS: [(&str, &str); 2] = [
    ("TONEARM_TLS_CERTIFICATE", "cert.pem"),
    ("TONEARM_TLS_KEY", "key.pem"),
];

fn start() -> (Place, Program, Made) {
    let (place, made) = (Place::new(), Made::new());
    place.put("call.wav", &pattern(100_000));
    made.write(&place);
    let program = place.serve_with(&[], &SETTINGS);
    (place, program, made)
}

fn has_openssl() -> bool {
    let found = Command::new("openssl").arg("version").output();
    found.is_ok_and(|ran| ran.status.success()) || skips("openssl", "apt-get install openssl")
}

/// Whether connections are given this certificate.
fn has(program: &Program, made: &Made) -> bool {
    let config = made.client(&[&TLS12, &TLS13], &["http/1.1"]);
    try_connect(program.public, &config).is_ok()
}

#[test]
fn curl_and_openssl_are_served() {
    if !has_curl() || !has_openssl() {
        return;
    }
    let (place, program, made) = start();
    assert!(
        program.hint.starts_with("curl -sk 'https://"),
        "{}",
        program.hint
    );
    let hint = Command::new("sh").args(["-c", &program.hint]).output();
    let answer = Ran::of(hint.unwrap()).ok();
    let url = answer.split('"').nth(3).unwrap();
    assert!(
        url.starts_with(&format!("https://{}/media/", program.public)),
        "{answer}"
    );
    for (protocol, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for tls in ["1.2", "1.3"] {
            let out = place.path("out");
            let mut curl = Command::new("curl");
            curl.args(["-q", "-sS", protocol, "-w", "%{http_version}", "-o"]);
            curl.arg(&out).args(["--tls-max", tls, "--cacert"]);
            curl.arg(place.path("cert.pem")).arg(url);
            assert_eq!(Ran::of(curl.output().unwrap()).ok(), version, "{tls}");
            assert!(
                std::fs::read(&out).unwrap() == pattern(100_000),
                "{protocol} {tls}"
            );
        }
    }
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-brief", "-verify_return_error", "-alpn", "h2"]);
    openssl.args(["-verify_hostname", "localhost", "-CAfile"]);
    openssl
        .arg(place.path("cert.pem"))
        .arg("-connect")
        .arg(program.public.to_string());
    let said = openssl.stdin(std::process::Stdio::null()).output().unwrap();
    let said = format!("{said:?}");
    assert!(
        said.contains("TLSv1.3") && said.contains("Verification: OK"),
        "{said}"
    );
    // The admin listener is of this machine, and in the clear.
    assert_eq!(ask(program.admin, "GET", "/healthz", &[]).status, 200);
    let metrics = ask(program.admin, "GET", "/metrics", &[]).text();
    let days = metrics
        .lines()
        .find_map(|line| line.strip_prefix("tonearm_certificate_days "));
    let days = days.unwrap_or_else(|| panic!("{metrics}"));
    let days: f64 = days.parse().unwrap();
    assert!((4000.0..6000.0).contains(&days), "{days}");
    drop(made);
}

#[test]
fn a_certificate_is_read_again_when_asked_and_when_it_changes() {
    let (place, program, made) = start();
    let kept = try_connect(program.public, &made.client(&[&TLS13], &["http/1.1"]));
    let (asked, changed) = (Made::new(), Made::new());
    asked.write(&place);
    program.signal(Signal::HUP);
    program.wait_log("the certificate was read again", 1);
    assert!(has(&program, &asked) && !has(&program, &made));
    // Nobody asks for this one.
    changed.write(&place);
    program.wait_log("the certificate was read again", 2);
    poll("the new certificate", || {
        has(&program, &changed).then_some(())
    });
    // A connection from before goes on.
    assert_eq!(kept.unwrap().get("/", &[]).status, 404);
}

#[test]
fn a_bad_pair_keeps_the_old_one() {
    let (place, program, made) = start();
    let other = Made::new();
    for (times, (chain, key)) in [
        (other.chain.as_str(), made.key.as_str()),
        ("", &other.key),
        (&other.chain, "x"),
    ]
    .into_iter()
    .enumerate()
    {
        place.write("cert.pem", chain, 0o644);
        place.write("key.pem", key, 0o600);
        program.signal(Signal::HUP);
        let log = program.wait_log("the certificate will not do; the old one stays", times + 1);
        assert!(log.contains("cert.pem with key.pem"), "{log}");
        assert!(!log.contains("BEGIN") && has(&program, &made), "{log}");
    }
    std::fs::remove_file(place.path("key.pem")).unwrap();
    program.signal(Signal::HUP);
    program.wait_log("key.pem: No such file", 1);
    assert!(has(&program, &made));
    let failed = "tonearm_certificate_reloads_total{outcome=\"failed\"}";
    assert!(program.metric(failed) >= 4);
}

#[test]
fn a_start_with_a_bad_pair_is_none() {
    let (place, made, other) = (Place::new(), Made::new(), Made::new());
    let start = |settings: &[(&str, &str)]| {
        let mut flags = vec!["serve", "--listen", "127.0.0.1:0"];
        flags.extend(["--admin-listen", "127.0.0.1:0"]);
        let serve = place.run_with(&flags, settings);
        let check = place.run_with(&["config", "check"], settings);
        assert_eq!(
            (serve.code, check.code),
            (Some(78), Some(78)),
            "{serve:?} {check:?}"
        );
        assert_eq!(serve.out, "");
        let lines: Vec<_> = serve.err.lines().collect();
        assert!(lines.len() <= 4, "{serve:?}");
        serve.err
    };
    let cannot = start(&SETTINGS);
    assert!(cannot.contains("cert.pem: No such file"), "{cannot}");
    place.write("cert.pem", &other.chain, 0o644);
    place.write("key.pem", &made.key, 0o600);
    let no_pair = start(&SETTINGS);
    assert!(no_pair.contains("no pair that can be used"), "{no_pair}");
    place.write("key.pem", &other.key, 0o666);
    assert!(start(&SETTINGS).contains("others may write to it"));
    assert!(start(&SETTINGS[..1]).contains("tls.certificate has no key"));
    assert!(start(&SETTINGS[1..]).contains("tls.certificate is needed"));
    place.write("key.pem", &other.key, 0o600);
    let right = place.run_with(&["config", "check"], &SETTINGS).ok();
    assert!(
        right.contains("cert.pem with key.pem: until 2040-01-01T00:00:00Z"),
        "{right}"
    );
}
