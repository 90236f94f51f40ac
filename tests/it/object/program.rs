//! The program over a bucket, as its user runs it.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::bucket::{Azurite, Fault, FaultyS3, Moto, Spoilt, azurite, key};
use crate::harness::program::{Place, Program, Ran, SERVE, ask, poll};
use crate::harness::raw::Client;
use crate::harness::rehearsal::Rehearsal;
use crate::harness::{OWNER, TOKEN, TOKEN_LINE, pattern, skips};
use crate::wire::ingest::wav;

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
    poll("the last slice lies there", || {
        (program.metric("tonearm_cache_bytes") == 200_000 + 4 * 32).then_some(())
    });
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

/// Names and values of an environment.
pub(super) type Environment = Vec<(&'static str, String)>;

pub(super) fn of_s3(addr: std::net::SocketAddr) -> Environment {
    vec![
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("TONEARM_STORAGE", BUCKET.to_owned()),
        ("TONEARM_OBJECT_ENDPOINT", format!("http://{addr}")),
    ]
}

pub(super) fn run(place: &Place, bucket: &Environment, args: &[&str]) -> Ran {
    let mut command = place.command(args);
    command.envs(bucket.iter().cloned()).stdin(Stdio::null());
    Ran::of(command.output().unwrap())
}

pub(super) const CALL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/storage/app-101/test-account-01/test-call-01.wav"
);
pub(super) const WHOSE: [&str; 4] = ["--app", "app-101", "--account", "test-account-01"];

/// From a file to a listener, and to the end of what may be kept.
fn a_life(bucket: &Environment) {
    let place = Place::new();
    let tool = |args: &[&str]| run(&place, bucket, args);
    let add = |file: &str, more: &[&str]| {
        tool(&[&["add", file, "--id", "call"][..], &WHOSE, more].concat())
    };
    let would = add(CALL, &["--dry-run"]);
    assert!(would.ok().contains("would be stored"));
    assert!(add(CALL, &[]).ok().contains("call.wav: stored"));
    assert!(add(CALL, &[]).ok().contains("already there, unchanged"));
    let swapped = add(CALL, &["--swap", "--to", "flac"]);
    assert_eq!(swapped.code, Some(1), "{swapped:?}");
    let swapped = add(CALL, &["--swap", "--to", "flac", "--replace"]);
    assert!(swapped.ok().contains("call.flac: replaced"));
    assert!(
        add(CALL, &["--replace"])
            .ok()
            .contains("call.wav: replaced")
    );
    place.write("tokens", TOKEN_LINE, 0o600);
    let serve = || {
        let mut serve = place.command(&SERVE);
        serve.envs(bucket.iter().cloned());
        serve.env("TONEARM_INGEST_TOKENS", "tokens");
        Program::start(serve)
    };
    let (one, other) = (serve(), serve());
    let base = format!("http://{}", one.public);
    let url = |id: &str| tool(&[&["url", id, "--base", &base][..], &WHOSE].concat());
    let signed = url("call").ok();
    let heard = one.get(signed.trim(), &[]);
    assert!(heard.status == 200 && heard.body == std::fs::read(CALL).unwrap());
    let bytes = wav(6_000_000);
    let mut client = one.connect();
    let target = format!("/api/v1/recordings/{OWNER}/sent");
    client.bring("PUT", &target, &[TOKEN], &bytes);
    assert_eq!(client.response("PUT").status, 201);
    assert!(other.get(url("sent").ok().trim(), &[]).body == bytes);
    assert_eq!(
        tool(&[&["hold", "call"][..], &WHOSE].concat()).code,
        Some(0)
    );
    let expire = |more: &[&str]| {
        let ran = tool(&[&["expire", "--older-than", "0s"][..], more].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let mut lines: Vec<_> = ran.out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    // What is dated this second is not older.
    poll("the clock goes on", || {
        (expire(&["--dry-run"]).len() == 2).then_some(())
    });
    let held = format!("held {OWNER}/call.wav, 756292 bytes");
    let erased = format!("erased {OWNER}/sent.wav, 6000000 bytes");
    assert_eq!(expire(&[]), [erased, held]);
    poll("the erasure shows", || {
        (other
            .get(&signed.replace("call.wav", "sent.wav"), &[])
            .status
            != 200)
            .then_some(())
    });
    assert_eq!(ask(other.public, "GET", &target, &[TOKEN]).status, 410);
    assert_eq!(
        tool(&[&["hold", "call", "--release"][..], &WHOSE].concat()).code,
        Some(0)
    );
    assert_eq!(expire(&[]).len(), 1);
    assert_eq!(url("call").code, Some(1));
    assert_eq!(add(CALL, &["--replace"]).code, Some(1));
}

#[test]
fn a_recordings_life_in_moto() {
    match Moto::start() {
        Some(moto) => a_life(&of_s3(moto.addr)),
        None => drop(skips("moto", "pip install 'moto[server]'")),
    }
}

#[test]
fn a_recordings_life_in_azurite() {
    let Some(azurite) = Azurite::start() else {
        skips("azurite", "npm install azurite");
        return;
    };
    a_life(&vec![
        ("AZURE_STORAGE_ACCOUNT_NAME", azurite::ACCOUNT.to_owned()),
        ("AZURE_STORAGE_ACCOUNT_KEY", azurite::KEY.to_owned()),
        ("TONEARM_STORAGE", "az://bucket/pre/fix".to_owned()),
        ("TONEARM_OBJECT_ENDPOINT", azurite.endpoint()),
    ]);
}

#[test]
fn a_store_that_will_not_do_has_an_exit_code() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    let add = |bucket: &Environment| {
        run(
            &place,
            bucket,
            &[&["add", CALL, "--id", "call"][..], &WHOSE].concat(),
        )
    };
    let bucket = of_s3(s3.addr);
    for (line, spoilt, code, word) in [
        ("PUT", Spoilt::Status(403), 69, "no useful answer"),
        ("PUT", Spoilt::Unconditional, 69, "does not keep to"),
        ("call.wav", Spoilt::Status(403), 69, "no useful answer"),
    ] {
        for _ in 0..3 {
            s3.spoil(line, spoilt);
        }
        let ran = add(&bucket);
        assert_eq!(ran.code, Some(code), "{line}: {ran:?}");
        assert!(ran.err.contains(word), "{line}: {ran:?}");
        s3.revive();
        assert_eq!(s3.bytes(&key("call.wav")), None, "{line}");
    }
    let claim = r#"{"incoming":{"by":"another","format":"wav","sha256":"00"}}"#;
    s3.put(&key("call.json"), claim.as_bytes());
    let ran = add(&bucket);
    assert_eq!(ran.code, Some(75), "{ran:?}");
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ran = add(&of_s3(gone));
    assert_eq!(ran.code, Some(69), "{ran:?}");
    assert!(ran.err.contains("cannot be reached"), "{ran:?}");
    let scrub = run(&place, &of_s3(gone), &["scrub"]);
    assert_eq!(scrub.code, Some(69), "{scrub:?}");
}

#[test]
fn a_spool_is_added_when_the_bucket_is_back() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    std::fs::create_dir(place.path("spool")).unwrap();
    std::fs::copy(CALL, place.path("spool/1700.1-301.wav")).unwrap();
    let watch = || {
        let mut command =
            place.command(&["add", "--watch", "spool", "--pattern", "{id}-{caller}.wav"]);
        command
            .args(WHOSE)
            .args(["--settle", "0s", "--remove", "--json"]);
        command
            .envs(of_s3(s3.addr))
            .env("TONEARM_OBJECT_TIMEOUT", "1s");
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null());
        command.spawn().unwrap()
    };
    let line = |child: &mut std::process::Child| {
        use std::io::BufRead as _;
        let mut line = String::new();
        let said = child.stdout.as_mut().unwrap();
        std::io::BufReader::new(said).read_line(&mut line).unwrap();
        line
    };
    s3.dies_after(0);
    let mut watcher = watch();
    let told = line(&mut watcher);
    assert!(told.contains("\"stays\""), "{told}");
    kill_process(Pid::from_child(&watcher), Signal::TERM).unwrap();
    assert!(watcher.wait().unwrap().success());
    assert!(s3.revive());
    let mut watcher = watch();
    let told = line(&mut watcher);
    assert!(told.contains("\"stored\""), "{told}");
    kill_process(Pid::from_child(&watcher), Signal::TERM).unwrap();
    assert!(watcher.wait().unwrap().success());
    assert!(s3.bytes(&key("1700.1.wav")).unwrap() == std::fs::read(CALL).unwrap());
    assert!(!place.path("spool/1700.1-301.wav").exists());
}

#[test]
fn a_recording_of_a_bucket_is_published_once() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    place.write("token", "pat-na1-secret\n", 0o600);
    let rehearsal = Rehearsal::start(&place, &["--fault", "log=hold"]);
    let publish = |args: &[&str]| {
        let mut command = place.command(&["hubspot", "publish"]);
        command
            .args(args)
            .args(["--app", "12345", "--account", "acc"]);
        command.envs(of_s3(s3.addr));
        command.env("TONEARM_HUBSPOT_BASE_URL", rehearsal.base());
        command.env("TONEARM_HUBSPOT_TOKEN_FILE", "token");
        command.env("TONEARM_HUBSPOT_INDEX_WAIT", "0s");
        command.stdin(Stdio::null());
        command
    };
    let file = [CALL, "--id", "call", "--contact", "104901"];
    let dry = [&file[..], &["--dry-run"]].concat();
    assert_eq!(Ran::of(publish(&dry).output().unwrap()).code, Some(0));
    assert_eq!(s3.keys(), [""; 0]);
    // Its request is on the way, and nobody knows whether the call is there.
    let mut first = publish(&file);
    let mut first = first
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let asked = |what: &str| {
        rehearsal
            .requests()
            .iter()
            .any(|request| request.contains(what))
    };
    poll("the first waits", || asked("calls").then_some(()));
    let second = Ran::of(publish(&file).output().unwrap());
    assert_eq!(second.code, Some(75), "{second:?}");
    assert!(
        second.err.contains("another process is publishing"),
        "{second:?}"
    );
    first.kill().unwrap();
    first.wait().unwrap();
    // Killed, it keeps others off until its claim falls.
    assert_eq!(Ran::of(publish(&file).output().unwrap()).code, Some(75));
    s3.pass(std::time::Duration::from_mins(11));
    let said = Ran::of(publish(&["--id", "call"]).output().unwrap());
    assert!(
        said.code == Some(0) && said.out.contains("ready"),
        "{said:?}"
    );
    let again = Ran::of(publish(&["--all-pending"]).output().unwrap());
    assert!(
        again.out.starts_with("0 published, 1 published before"),
        "{again:?}"
    );
    let record = s3.bytes("pre/fix/12345/acc/call.json").unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record.get("publishing"), None, "{record}");
    assert_eq!(rehearsal.counts()[0], 1, "{:?}", rehearsal.requests());
}
