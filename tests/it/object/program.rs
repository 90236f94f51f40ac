//! The program over a bucket, as its user runs it.

use std::process::Command;

use crate::harness::bucket::{Fault, FaultyS3, key};
use crate::harness::pattern;
use crate::harness::program::{Place, Program, Ran, SERVE, ask};
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
