//! The program over a bucket, as its user runs it.

use std::process::Command;

use crate::harness::bucket::{Fault, FaultyS3, key};
use crate::harness::pattern;
use crate::harness::program::{Place, Program, Ran, SERVE, ask, poll};
use crate::harness::raw::Client;

const BUCKET: &str = "s3://bucket/pre/fix";

fn command(place: &Place, s3: &FaultyS3, args: &[&str]) -> Command {
    let mut command = place.command(args);
    command
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret-of-the-bucket")
        .env("TONEARM_STORAGE", BUCKET)
        .env("TONEARM_OBJECT_ENDPOINT", format!("http://{}", s3.addr));
    command
}

#[test]
fn a_bucket_is_served() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    let bytes = pattern(200_000);
    s3.put(&key("call.wav"), &bytes);
    let program = Program::start(command(&place, &s3, &SERVE));
    let ready = || ask(program.admin, "GET", "/readyz", &[]).status;
    assert_eq!(ready(), 200);
    let args = ["--app", "app-101", "--account", "test-account-01"];
    let base = format!("http://{}", program.public);
    let url = |id| {
        let args = [&["url", id, "--base", &base], &args[..]].concat();
        Ran::of(command(&place, &s3, &args).output().unwrap())
    };
    let target = url("call").ok();
    s3.faults([Fault::None, Fault::Reset(70_000)]);
    assert!(program.get(target.trim(), &[]).body == bytes);
    assert!(program.get(target.trim(), &[]).body == bytes);
    let asked = s3.asked();
    let resumed = format!("GET {} 70000-199999", key("call.wav"));
    assert!(asked.contains(&resumed), "{asked:?}");
    assert_eq!(url("none").code, Some(1));
    assert!(!program.log().contains("secret-of-the-bucket"));
}

#[test]
fn nothing_is_written_into_a_bucket() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    for args in [
        &["expire", "--older-than", "1d"][..],
        &["hold", "call", "--app", "a", "--account", "b"],
    ] {
        let ran = Ran::of(command(&place, &s3, args).output().unwrap());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains(BUCKET), "{ran:?}");
    }
    place.write("tokens", "", 0o600);
    let mut serve = command(&place, &s3, &SERVE);
    serve.env("TONEARM_INGEST_TOKENS", place.path("tokens"));
    let ran = Ran::of(serve.output().unwrap());
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(s3.asked().is_empty());
}

#[test]
fn a_store_that_is_gone_is_not_ready() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let mut serve = place.command(&SERVE);
    serve
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("TONEARM_STORAGE", BUCKET)
        .env("TONEARM_OBJECT_TIMEOUT", "1s")
        .env("TONEARM_OBJECT_ENDPOINT", format!("http://{addr}"));
    let program = Program::start(serve);
    // Its answer is a word for a prober, no problem document.
    let mut prober = Client::connect(program.admin);
    prober.ask("GET", "/readyz", &[]);
    assert_eq!(prober.head().status, 503);
    assert_eq!(ask(program.admin, "GET", "/healthz", &[]).status, 200);
}

#[test]
fn what_names_no_bucket_is_told() {
    let place = Place::new();
    for (storage, problem) in [
        ("ftp://bucket", "s3://"),
        ("s3://", "name"),
        ("s3://key:secret@bucket", "name"),
        ("s3://bucket/a//b", "prefix"),
        ("s3://bucket/../b", "prefix"),
        ("s3://bucket/a%2fb", "prefix"),
    ] {
        let mut serve = place.command(&SERVE);
        serve.env("TONEARM_STORAGE", storage);
        let ran = Ran::of(serve.output().unwrap());
        assert_eq!(ran.code, Some(78), "{storage}: {ran:?}");
        assert!(ran.err.contains(problem), "{storage}: {ran:?}");
    }
}

fn cached(place: &Place, s3: &FaultyS3, trust: &str) -> Command {
    let mut serve = command(place, s3, &SERVE);
    serve
        .env("TONEARM_OBJECT_DELIVERY", "cache")
        .env("TONEARM_CACHE_TRUST", trust)
        .env("TONEARM_CACHE_SLICE", "64KiB");
    serve
}

fn url(place: &Place, s3: &FaultyS3, program: &Program) -> String {
    let base = format!("http://{}", program.public);
    let ids = ["--app", "app-101", "--account", "test-account-01"];
    let args = [&["url", "call", "--base", &base], &ids[..]].concat();
    let url = Ran::of(command(place, s3, &args).output().unwrap()).ok();
    url.trim().to_owned()
}

#[test]
fn what_the_cache_holds_is_served_without_the_bucket() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    s3.put(&key("call.wav"), &pattern(200_000));
    let program = Program::start(cached(&place, &s3, "10m"));
    let url = url(&place, &s3, &program);
    assert!(program.get(&url, &[]).body == pattern(200_000));
    assert_eq!(
        program.metric("tonearm_cache_slices_total{outcome=\"miss\"}"),
        4
    );
    assert_eq!(program.metric("tonearm_cache_bytes"), 200_000 + 4 * 32);
    s3.be_gone(true);
    let ready = || {
        let mut prober = Client::connect(program.admin);
        prober.ask("GET", "/readyz", &[]);
        prober.head().status
    };
    assert_eq!(ready(), 503);
    // Until the bucket was asked in vain, and on.
    poll("what is known is old enough to be asked about", || {
        let answer = program.get(&url, &["Range: bytes=70000-70009"]);
        assert_eq!(
            (answer.status, &*answer.body),
            (206, &pattern(70_010)[70_000..])
        );
        (s3.refused() > 20).then_some(())
    });
    assert!(program.metric("tonearm_cache_slices_total{outcome=\"hit\"}") > 0);
}

#[test]
fn a_killed_server_leaves_nothing_that_is_believed() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    s3.put(&key("call.wav"), &pattern(200_000));
    let mut program = Program::start(cached(&place, &s3, "2s"));
    let url = url(&place, &s3, &program);
    let mut client = program.connect();
    s3.faults([Fault::None, Fault::Stall(30_000)]);
    client.ask("GET", program.target(&url), &[]);
    assert_eq!(client.head().status, 200);
    let names = || {
        let entries = std::fs::read_dir(place.path("cache")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "lock").collect::<Vec<_>>()
    };
    poll("a slice is half written", || {
        let names = names();
        let is_half = |name: &String| name.starts_with('+') && name.ends_with('1');
        let is_whole = |name: &String| !name.starts_with('+') && name.ends_with('0');
        (names.iter().any(is_half) && names.iter().any(is_whole)).then_some(())
    });
    program.kill();
    assert!(names().iter().any(|name| name.starts_with('+')));
    let program = Program::start(cached(&place, &s3, "2s"));
    assert!(names().iter().all(|name| !name.starts_with('+')));
    s3.asked();
    let target = program
        .target(&url)
        .split_once("/media/")
        .unwrap()
        .1
        .to_owned();
    assert!(program.get(&format!("/media/{target}"), &[]).body == pattern(200_000));
    let asked = s3.asked();
    let fetched = asked
        .iter()
        .filter(|line| line.contains('-') && !line.ends_with("wav"))
        .count();
    assert!(
        asked.iter().all(|line| !line.ends_with(" 0-65535")),
        "{asked:?}"
    );
    assert!(fetched >= 3, "{asked:?}");
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    s3.put(&key("call.wav"), &pattern(1000));
    let mut ready = command(&place, &s3, &SERVE);
    ready
        .env("TONEARM_OBJECT_ENDPOINT", "http://bucket.invalid")
        .env("http_proxy", format!("http://{}", s3.addr));
    let program = Program::start(ready);
    assert_eq!(ask(program.admin, "GET", "/readyz", &[]).status, 200);
}
