//! The bucket's own URLs, held against a bucket that checks them.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tonearm::server::now;

use crate::harness::bucket::{Azurite, FaultyS3, Moto, azurite, goog4, key};
use crate::harness::program::{Place, Program, Ran, SERVE, ask};
use crate::harness::raw::{Client, Response};
use crate::harness::{OWNER, pattern, skips};

const IDS: [&str; 4] = ["--app", "app-101", "--account", "test-account-01"];

fn command(place: &Place, bucket: SocketAddr, args: &[&str]) -> Command {
    let mut command = place.command(args);
    command
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("TONEARM_STORAGE", "s3://bucket/pre/fix")
        .env("TONEARM_OBJECT_ENDPOINT", format!("http://{bucket}"))
        .env("TONEARM_OBJECT_DELIVERY", "presign");
    command
}

/// What the resolver says of a recording.
fn question(program: &Program, id: &str) -> Response {
    let [_, app, _, account] = IDS;
    let target =
        format!("/retrieve/authenticated/recordings/{id}?appId={app}&externalAccountId={account}");
    ask(program.public, "GET", &target, &[])
}

fn resolved(program: &Program, id: &str) -> (String, u64) {
    let answer = question(program, id);
    assert_eq!(answer.status, 200, "{answer:?}");
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    let end: jiff::Timestamp = json["expiresAt"].as_str().unwrap().parse().unwrap();
    let life = u64::try_from(end.as_second())
        .unwrap()
        .saturating_sub(now().0);
    (json["authenticatedUrl"].as_str().unwrap().to_owned(), life)
}

/// Asks the bucket, as who has the URL does. It keeps to fewer rules than we do.
fn open(bucket: SocketAddr, method: &str, url: &str, fields: &[&str]) -> Response {
    let target = url.strip_prefix(&format!("http://{bucket}")).unwrap();
    let mut client = Client::connect(bucket);
    client.ask(method, target, fields);
    let mut answer = client.head();
    // azurite sends its refusals in chunks.
    let length = answer.field("content-length").filter(|_| method != "HEAD");
    if let Some(length) = length {
        answer.body = client.exactly(length.parse().unwrap());
    }
    answer
}

#[test]
fn the_resolver_gives_the_buckets_own_url() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    s3.put(
        &key("call 1.wav".replace(' ', "~").as_str()),
        &pattern(100_000),
    );
    let program = Program::start(command(&place, s3.addr, &SERVE));
    let (url, life) = resolved(&program, "call~1");
    let base = format!("http://{}/bucket/pre/fix/{OWNER}/call", s3.addr);
    assert!(url.starts_with(&base), "{url}");
    // As long as our own would.
    assert!((840..=1200).contains(&life), "{life}");
    let whole = open(s3.addr, "GET", &url, &[]);
    assert_eq!(whole.status, 200, "{whole:?}");
    assert!(whole.body == pattern(100_000));
    assert_eq!(
        whole.field("content-type"),
        Some("application/octet-stream")
    );
    let name = "attachment; filename=\"call~1.wav\"";
    assert_eq!(whole.field("content-disposition"), Some(name));
    let part = open(s3.addr, "GET", &url, &["Range: bytes=10-19"]);
    assert_eq!((part.status, &*part.body), (206, &pattern(20)[10..]));
    // The method is signed.
    assert_eq!(open(s3.addr, "HEAD", &url, &[]).status, 403);
    for forged in [
        url.replace("X-Amz-Expires=", "X-Amz-Expires=9"),
        url.replace("call", "cali"),
        url.replace("octet-stream", "xhtml%2Bxml"),
    ] {
        assert_ne!(forged, url);
        assert_eq!(open(s3.addr, "GET", &forged, &[]).status, 403, "{forged}");
    }
    // A URL of our own still opens it here.
    let base = format!("http://{}", program.public);
    let args = [&["url", "call~1", "--base", &base], &IDS[..]].concat();
    let own = Ran::of(command(&place, s3.addr, &args).output().unwrap()).ok();
    assert_eq!(program.get(own.trim(), &[]).status, 200);
    let log = program.log();
    assert!(
        !log.contains("X-Amz-Signature") && !log.contains("secret"),
        "{log}"
    );
}

/// A bucket of this kind: its URL opens the recording as it is to be called, and no other.
fn is_opened(
    command: &dyn Fn(&Place, &[&str]) -> Command,
    bucket: SocketAddr,
    forgeries: &[(&str, &str)],
) {
    let place = Place::new();
    let program = Program::start(command(&place, &SERVE));
    let (url, life) = resolved(&program, "call");
    assert!((840..=1200).contains(&life), "{life}");
    let whole = open(bucket, "GET", &url, &[]);
    assert_eq!(whole.status, 200, "{url}: {whole:?}");
    assert!(whole.body == pattern(100_000));
    let media = whole.field("content-type");
    assert_eq!(media, Some("application/octet-stream"));
    let name = "attachment; filename=\"call.wav\"";
    assert_eq!(whole.field("content-disposition"), Some(name));
    let part = open(bucket, "GET", &url, &["Range: bytes=10-19"]);
    assert_eq!((part.status, &*part.body), (206, &pattern(20)[10..]));
    for (from, to) in forgeries {
        let forged = url.replace(from, to);
        assert_ne!(forged, url, "{from}");
        assert_eq!(open(bucket, "GET", &forged, &[]).status, 403, "{forged}");
    }
    let odd = "attachment; filename=\"Zo_ + _A_.wav\"; filename*=UTF-8''Zo%C3%AB%20+%20%22A%22.wav";
    for (flags, media, disposition) in [
        (&["--inline"][..], "audio/wav", "inline"),
        (
            &["--filename", "Zoë + \"A\".wav"],
            "application/octet-stream",
            odd,
        ),
    ] {
        let args = [&["url", "call"], &IDS[..], flags].concat();
        let url = Ran::of(command(&place, &args).output().unwrap()).ok();
        let answer = open(bucket, "GET", url.trim(), &[]);
        assert_eq!(answer.status, 200, "{url}");
        assert_eq!(answer.field("content-type"), Some(media));
        assert_eq!(answer.field("content-disposition"), Some(disposition));
    }
    let log = program.log();
    assert!(!log.contains("sig=") && !log.contains("Signature"), "{log}");
}

#[test]
fn googles_urls() {
    let gs = FaultyS3::start();
    gs.put(&key("call.wav"), &pattern(100_000));
    let command = |place: &Place, args: &[&str]| {
        let mut command = place.command(args);
        command
            .env("GOOGLE_SERVICE_ACCOUNT_KEY", goog4::account())
            .env("GOOGLE_BEARER_TOKEN", "token")
            .env("TONEARM_STORAGE", "gs://bucket/pre/fix")
            .env("TONEARM_OBJECT_ENDPOINT", format!("http://{}", gs.addr))
            .env("TONEARM_OBJECT_DELIVERY", "presign");
        command
    };
    let forgeries = [
        ("X-Goog-Expires=", "X-Goog-Expires=9"),
        ("call", "cali"),
        ("octet-stream", "xhtml%2Bxml"),
    ];
    is_opened(&command, gs.addr, &forgeries);
}

#[test]
fn azures_urls() {
    let Some(azurite) = Azurite::start() else {
        skips("azurite", "npm install azurite");
        return;
    };
    azurite.put(&key("call.wav"), &pattern(100_000));
    let with = |place: &Place, args: &[&str], account_key: Option<&str>| {
        let mut command = place.command(args);
        command
            .env("AZURE_STORAGE_ACCOUNT_NAME", azurite::ACCOUNT)
            .envs(account_key.map(|key| ("AZURE_STORAGE_ACCOUNT_KEY", key)))
            .env("TONEARM_STORAGE", "az://bucket/pre/fix")
            .env("TONEARM_OBJECT_ENDPOINT", azurite.endpoint())
            .env("TONEARM_OBJECT_DELIVERY", "presign");
        command
    };
    let command = |place: &Place, args: &[&str]| with(place, args, Some(azurite::KEY));
    let forgeries = [
        ("se=20", "se=21"),
        ("call", "cali"),
        ("octet-stream", "xhtml%2Bxml"),
        ("spr=https%2Chttp", "spr=https"),
    ];
    is_opened(&command, azurite.addr, &forgeries);
    // Without the account's key there is nothing to sign with.
    let ran = Ran::of(with(&Place::new(), &SERVE, None).output().unwrap());
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(ran.err.contains("AZURE_STORAGE_ACCOUNT_KEY"), "{ran:?}");
}

#[test]
fn what_is_not_to_be_had_gets_no_url() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    let program = Program::start(command(&place, s3.addr, &SERVE));
    for (id, record, status) in [
        ("erased", r#"{"erased_at":"2026-01-01T00:00:00Z"}"#, 404),
        ("torn", r#"{"generation":"#, 500),
    ] {
        s3.put(&key(&format!("{id}.wav")), b"RIFF");
        s3.put(&key(&format!("{id}.json")), record.as_bytes());
        let answer = question(&program, id);
        assert_eq!(answer.status, status, "{id}");
        assert!(!answer.text().contains("X-Amz"), "{id}");
    }
    assert_eq!(question(&program, "none").status, 404);
    s3.put(&key("call.wav"), b"RIFF");
    s3.be_gone(true);
    assert_eq!(question(&program, "call").status, 503);
}

#[test]
fn a_sessions_url_promises_no_more_than_its_session() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    s3.put(&key("call.wav"), &pattern(1000));
    let start = |ttl: Option<&str>| {
        let mut serve = command(&place, s3.addr, &SERVE);
        serve.env("AWS_SESSION_TOKEN", "tok+en/==");
        serve.envs(ttl.map(|ttl| ("TONEARM_OBJECT_SESSION_TTL", ttl)));
        Program::start(serve)
    };
    for (ttl, lives) in [
        (None, 280..=300),
        (Some("1m"), 40..=60),
        (Some("2h"), 840..=1200),
    ] {
        let program = start(ttl);
        let (url, life) = resolved(&program, "call");
        assert!(lives.contains(&life), "{ttl:?}: {life}");
        assert!(
            url.contains("X-Amz-Security-Token=tok%2Ben%2F%3D%3D"),
            "{url}"
        );
        assert_eq!(open(s3.addr, "GET", &url, &[]).status, 200);
    }
}

#[test]
fn tonearm_url_says_what_a_presigned_url_can() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    s3.put(&key("call.mp3"), b"ID3");
    let url = |flags: &[&str]| {
        let args = [&["url", "call"], &IDS[..], flags].concat();
        Ran::of(command(&place, s3.addr, &args).output().unwrap())
    };
    // The keyring is the server's to make.
    assert_eq!(place.run(&["keys", "init"]).code, Some(0));
    for (flags, media, disposition) in [
        (&["--inline"][..], "audio/mpeg", "inline"),
        (
            &["--filename", "Zoë + \"A\".mp3", "--ttl", "10m"],
            "application/octet-stream",
            "attachment; filename=\"Zo_ + _A_.mp3\"; filename*=UTF-8''Zo%C3%AB%20+%20%22A%22.mp3",
        ),
    ] {
        let url = url(flags).ok();
        let answer = open(s3.addr, "GET", url.trim(), &[]);
        assert_eq!(answer.status, 200, "{url}");
        assert_eq!(answer.field("content-type"), Some(media));
        assert_eq!(answer.field("content-disposition"), Some(disposition));
    }
    for flag in ["--bind-host", "--revocable"] {
        assert_eq!(url(&[flag]).code, Some(2), "{flag}");
    }
}

#[test]
fn moto_and_curl() {
    let Some(moto) = Moto::start() else {
        skips("moto", "pip install 'moto[server]'");
        return;
    };
    if !crate::harness::program::has_curl() {
        return;
    }
    let place = Place::new();
    moto.put(&key("call.wav"), &pattern(3000));
    let program = Program::start(command(&place, moto.addr, &SERVE));
    let (url, _) = resolved(&program, "call");
    // moto looks at no signature and passes over the overrides: what is left is that the URL is one.
    let curl = Command::new("curl")
        .args(["-s", "-i", "-r", "1000-1999", &url])
        .output();
    let out = curl.unwrap().stdout;
    assert!(
        out.starts_with(b"HTTP/1.1 206"),
        "{}",
        String::from_utf8_lossy(&out)
    );
    assert!(out.ends_with(&pattern(2000)[1000..]));
}
