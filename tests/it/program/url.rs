//! `tonearm url` and `tonearm explain`: what is printed, and that a server agrees.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};
use tonearm::server::now;

use crate::harness::program::{Place, Program, Ran};
use crate::harness::{OWNER, pattern};

const MINE: [&str; 4] = ["--app", "app-101", "--account", "test-account-01"];

fn served() -> (Place, Program) {
    let place = Place::new();
    place.put("call.wav", &pattern(1000));
    let program = place.serve();
    (place, program)
}

#[test]
fn a_url_opens_its_recording_as_it_was_asked_for() {
    let (place, program) = served();
    let octets = "application/octet-stream";
    for (flags, content_type, disposition) in [
        (&[][..], octets, "attachment; filename=\"call.wav\""),
        (&["--inline"], "audio/wav", "inline"),
        (
            &["--filename", "Ann, Bob.wav"],
            octets,
            "attachment; filename=\"Ann, Bob.wav\"",
        ),
        (
            &["--filename", "Zoë.wav"],
            octets,
            "attachment; filename=\"Zo_.wav\"; filename*=UTF-8''Zo%C3%AB.wav",
        ),
        (
            &["--bind-host"],
            octets,
            "attachment; filename=\"call.wav\"",
        ),
        (
            &["--revocable"],
            octets,
            "attachment; filename=\"call.wav\"",
        ),
        (
            &["--not-before", "1700000000"],
            octets,
            "attachment; filename=\"call.wav\"",
        ),
    ] {
        let url = place.url("call", &program, flags);
        let got = program.get(&url, &[]);
        assert_eq!((got.status, &got.body), (200, &pattern(1000)), "{flags:?}");
        assert_eq!(got.field("content-type"), Some(content_type), "{flags:?}");
        let found = got.field("content-disposition");
        assert_eq!(found, Some(disposition), "{flags:?}");
    }
}

#[test]
fn a_url_is_alone_on_its_line_and_begins_with_its_base() {
    let (place, _program) = served();
    let args = [&["url", "call"][..], &MINE].concat();
    for (flags, environment, base) in [
        (&[][..], "", "http://127.0.0.1:8080"),
        (&[], "https://rec.example.com", "https://rec.example.com"),
        (
            &["--base", "https://a.example/"],
            "https://rec.example.com",
            "https://a.example",
        ),
    ] {
        let args = [&args[..], flags].concat();
        let set = [("TONEARM_PUBLIC_BASE_URL", environment)];
        let out = place.run_with(&args, &set).ok();
        let expect = format!("{base}/media/{OWNER}/call.wav?sig=1.k");
        assert!(out.starts_with(&expect), "{out}");
        assert!(out.ends_with('\n') && out.lines().count() == 1, "{out}");
    }
    // Nobody can connect to the address of every interface.
    let out = place
        .run_with(&args, &[("TONEARM_LISTEN", "0.0.0.0:8443")])
        .ok();
    assert!(out.starts_with("http://127.0.0.1:8443/media/"), "{out}");
}

fn decoded(place: &Place, url: &str) -> Value {
    place.run(&["explain", "--json", url]).json()["token"].clone()
}

#[test]
fn a_ttl_is_taken_exactly() {
    let (place, program) = served();
    for (ttl, seconds) in [("10m", 600), ("1s", 1), ("90s", 90), ("12h", 43_200)] {
        let before = now().0;
        let url = place.url("call", &program, &["--ttl", ttl]);
        let exp = decoded(&place, &url)["exp"].as_u64().unwrap();
        assert!(
            (before..=now().0).contains(&(exp - seconds)),
            "{ttl}: {exp}"
        );
    }
    // Without it, the resolver's: 15 minutes and the recording's length, rounded up to 5.
    let exp = decoded(&place, &place.url("call", &program, &[]))["exp"]
        .as_u64()
        .unwrap();
    assert_eq!(exp % 300, 0);
    assert!((now().0 + 899..=now().0 + 1201).contains(&exp), "{exp}");
}

#[test]
fn a_url_that_cannot_be_made() {
    let place = Place::new();
    place.put("call.wav", &pattern(10));
    place.run(&["keys", "init"]).ok();
    let long = "n".repeat(191);
    for (id, flags, code, says) in [
        ("none", &[][..], 1, "none is not in storage"),
        ("a/b", &[], 2, "a/b"),
        ("..", &[], 2, "\"..\""),
        ("", &[], 2, "an id is empty"),
        ("call", &["--ttl", "12h1s"], 2, "url.max_ttl"),
        ("call", &["--ttl", "soon"], 2, "--ttl"),
        ("call", &["--ttl", "0s"], 2, "--ttl"),
        (
            "call",
            &["--inline", "--filename", "a.wav"],
            2,
            "--filename",
        ),
        ("call", &["--filename", &long], 2, "190"),
        ("call", &["--filename", ""], 2, "file name"),
        ("call", &["--base", "rec.example.com"], 2, "--base"),
        ("call", &["--not-before", "soon"], 2, "--not-before"),
        ("call", &["--storage", "nowhere"], 74, "nowhere"),
        ("call", &["--keyring", "none.toml"], 78, "tonearm keys init"),
    ] {
        let mut args = vec!["url", id];
        args.extend(MINE);
        args.extend(flags);
        let ran = place.run(&args);
        let ended = (ran.code, ran.out.as_str());
        assert_eq!(ended, (Some(code), ""), "{id} {flags:?}: {ran:?}");
        assert!(ran.err.contains(says), "{id} {flags:?}: {}", ran.err);
    }
    for args in [
        &["url"][..],
        &["url", "call"],
        &["url", "call", "--app", "a"],
    ] {
        assert_eq!(place.run(args).code, Some(2), "{args:?}");
    }
}

#[test]
fn a_url_holds_for_its_host_and_from_its_time_only() {
    let (place, program) = served();
    let bound = place.url("call", &program, &["--bind-host"]);
    for (host, status) in [(program.public.to_string(), 200), ("other".into(), 403)] {
        let mut client = program.connect();
        let target = program.target(&bound);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response("GET").status, status, "{host}");
    }
    let later = (now().0 + 300).to_string();
    let early = place.url("call", &program, &["--not-before", &later]);
    let refused = program.get(&early, &[]);
    let problem: Value = serde_json::from_str(&refused.text()).unwrap();
    assert_eq!(
        (refused.status, &problem["error"]),
        (403, &json!("not_yet"))
    );
    let later = place.run(&["explain", "--now", &later, &early]);
    assert_eq!(later.code, Some(0), "{later:?}");
}

#[test]
fn explain_says_what_the_server_says() {
    let (place, program) = served();
    let url = place.url("call", &program, &["--filename", "Ann.wav", "--revocable"]);
    let explained = place.run(&["explain", "--json", &url]);
    assert_eq!(explained.code, Some(0));
    let all = explained.json();
    let token = &all["token"];
    assert_eq!(all["verdict"], "ok");
    assert_eq!(all["path"], format!("/media/{OWNER}/call.wav"));
    assert_eq!(all["host"], program.public.to_string());
    assert_eq!(token["disposition"], "attachment");
    assert_eq!(token["file_name"], "Ann.wav");
    assert_eq!(token["host_bound"], false);
    assert_eq!(token["token_id"].as_str().unwrap().len(), 16);
    assert!(url.contains(&format!(".j{}.", token["token_id"].as_str().unwrap())));
    let checks = all["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["holds"] == true), "{all}");

    let text = place.run(&["explain", &url]).ok();
    for part in [
        "request",
        "\"Ann.wav\"",
        "signature     holds",
        "verdict       ok",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mac = url.rsplit('.').next().unwrap();
    let forged = url.replace(mac, &mac.chars().rev().collect::<String>());
    let exp = token["exp"].as_u64().unwrap().to_string();
    for (flags, url, verdict, failing) in [
        (
            &["--now", exp.as_str()][..],
            url.as_str(),
            "expired",
            "expiry",
        ),
        (&["--method", "PUT"], &url, "method", "method"),
        (&["--method", "HEAD"], &url, "ok", ""),
        (&["--host", "other"], &url, "ok", ""),
        (&["--generation", "1"], &url, "revoked", "revocation"),
        (&["--now", "1000000000"], &url, "ttl_too_long", "expiry"),
        (&[], program.target(&url), "ok", ""),
        (&[], "/media/a/b/c.wav", "missing", "one sig"),
    ] {
        let ran = place.run(&[&["explain", url][..], flags].concat());
        let code = i32::from(verdict != "ok");
        assert_eq!((ran.code, ran.err.as_str()), (Some(code), ""), "{flags:?}");
        let says = format!("verdict       {verdict}: ");
        assert!(ran.out.contains(&says), "{flags:?}: {}", ran.out);
        let line = format!("  {failing:13} FAILS");
        let failed = failing.is_empty() || ran.out.contains(&line);
        assert!(failed, "{flags:?}: {}", ran.out);
    }
    // A MAC's last character has spare bits, so one turned round may be no MAC at all.
    let refused = place.run(&["explain", "--json", &forged]);
    let verdict = refused.json()["verdict"].clone();
    assert!(
        verdict == "bad_signature" || verdict == "malformed",
        "{verdict}"
    );
    assert_eq!(refused.code, Some(1));
    for secret in place.secrets() {
        assert!(!text.contains(&secret) && !explained.out.contains(&secret));
    }
}

#[test]
fn explain_reads_standard_input_and_refuses_what_is_no_url() {
    let (place, program) = served();
    let url = place.url("call", &program, &[]);
    let mut command = place.command(&["explain", "-"]);
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{url}").unwrap();
    drop(stdin);
    let out = Ran::of(child.wait_with_output().unwrap()).ok();
    assert!(out.contains("verdict       ok"), "{out}");

    for (args, code, says) in [
        (&["call.wav"][..], 2, "a URL is needed"),
        (&[""], 2, "a URL is needed"),
        (&[], 2, "<URL>"),
        (&["/a?sig=x", "--now", "soon"], 2, "--now"),
        (&["/a?sig=x", "--keyring", "none"], 78, "tonearm keys init"),
    ] {
        let ran = place.run(&[&["explain"], args].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{args:?}");
        assert!(ran.err.contains(says), "{args:?}: {}", ran.err);
    }
}

#[test]
fn explain_agrees_with_every_vector() {
    let text = include_str!("../../vectors/native-url.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let place = Place::new();
    let keys = vectors["keys"].as_object().unwrap().iter();
    let entries = keys.map(|(kid, secret)| format!("[[key]]\nkid = {kid:?}\nsecret = {secret}\n"));
    place.write("keyring.toml", entries.collect::<String>(), 0o600);
    let rows = vectors["verify"].as_array().unwrap();
    assert!(rows.len() >= 40);
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap();
        let now = row["now"].to_string();
        let generation = row["current_generation"].as_u64().unwrap_or(0).to_string();
        let ran = place.run(&[
            "explain",
            text("target"),
            "--method",
            text("method"),
            "--host",
            text("host"),
            "--now",
            &now,
            "--generation",
            &generation,
            "--json",
        ]);
        assert_eq!(ran.json()["verdict"], row["expect"], "{row}");
        let code = i32::from(row["expect"] != "ok");
        assert_eq!((ran.code, ran.err.as_str()), (Some(code), ""), "{row}");
    }
}
