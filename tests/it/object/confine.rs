//! A server that the kernel confines, over a bucket: what it needs it has, and no more.

use std::os::unix::fs::symlink;

use serde_json::Value;

use super::program::{WHOSE, of_s3, run};
use crate::harness::bucket::{FaultyS3, key};
use crate::harness::program::{Place, Program, SERVE, ask, poll};
use crate::harness::{OWNER, TOKEN, TOKEN_LINE, pattern, skips};
use crate::wire::ingest::wav;

/// A server that takes recordings in and keeps slices, and how far it is confined.
fn serve(place: &Place, s3: &FaultyS3, confine: &str) -> (Program, String) {
    place.write("tokens", TOKEN_LINE, 0o600);
    std::fs::create_dir_all(place.path("tmp")).unwrap();
    let mut serve = place.command(&SERVE);
    serve.envs(of_s3(s3.addr)).envs([
        ("TONEARM_INGEST_TOKENS", "tokens"),
        ("TONEARM_OBJECT_DELIVERY", "cache"),
        ("TONEARM_CACHE_SLICE", "64KiB"),
        ("TONEARM_CONFINE", confine),
    ]);
    serve.env("TMPDIR", place.path("tmp"));
    let program = Program::start(serve);
    let admin = program.admin.to_string();
    let ran = place.run(&["status", "--json", "--admin-listen", &admin]);
    let screen: Value = serde_json::from_str(&ran.out).unwrap();
    (program, screen["confined"].as_str().unwrap().to_owned())
}

fn is_confined(state: &str) -> bool {
    matches!(state, "full" | "partial") || skips("Landlock", "boot a kernel that has it")
}

fn bring(program: &Program, id: &str, bytes: &[u8]) -> u16 {
    let mut client = program.connect();
    let target = format!("/api/v1/recordings/{OWNER}/{id}");
    client.bring("PUT", &target, &[TOKEN], bytes);
    client.response("PUT").status
}

fn url(place: &Place, s3: &FaultyS3, program: &Program, id: &str) -> String {
    let base = format!("http://{}", program.public);
    let args = [&["url", id, "--base", &base][..], &WHOSE].concat();
    run(place, &of_s3(s3.addr), &args).ok().trim().to_owned()
}

#[test]
fn a_confined_server_brings_into_a_bucket_and_serves_from_its_cache() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    let (program, state) = serve(&place, &s3, "auto");
    if !is_confined(&state) {
        return;
    }
    let mut large = String::new();
    // One put, and one of several parts.
    for (id, length) in [("small", 300_000), ("large", 6_000_000)] {
        let bytes = wav(length);
        assert_eq!(bring(&program, id, &bytes), 201, "{program:?}");
        assert!(s3.bytes(&key(&format!("{id}.wav"))).unwrap() == bytes);
        let url = url(&place, &s3, &program, id);
        assert!(program.get(&url, &[]).body == bytes);
        poll("all of it lies in the cache", || {
            let held = program.metric("tonearm_cache_bytes");
            (held > u64::try_from(length).unwrap()).then_some(())
        });
        s3.asked();
        let part = program.get(&url, &["Range: bytes=70000-140000"]);
        assert!(part.body == bytes[70_000..=140_000]);
        let asked = s3.asked();
        let fetched = asked.iter().any(|line| line.contains(".wav "));
        assert!(!fetched, "{asked:?}");
        large = url;
    }
    // What was erased goes from the bucket, and its slices from the disk.
    let held = program.metric("tonearm_cache_bytes");
    let target = format!("/api/v1/recordings/{OWNER}/large");
    assert_eq!(ask(program.public, "DELETE", &target, &[TOKEN]).status, 204);
    assert_eq!(s3.bytes(&key("large.wav")), None);
    poll("it shows", || {
        (program.get(&large, &[]).status == 410).then_some(())
    });
    poll("its slices go", || {
        (program.metric("tonearm_cache_bytes") < held - 6_000_000).then_some(())
    });
    let errors = program.metric("tonearm_cache_slices_total{outcome=\"error\"}");
    let bypasses = program.metric("tonearm_cache_slices_total{outcome=\"bypass\"}");
    assert_eq!((errors, bypasses), (0, 0), "{program:?}");
    assert!(!program.log().contains("denied"), "{program:?}");
}

/// What leads elsewhere since the start is followed by a server that may write everywhere, and by no
/// other: neither what comes in nor a slice is written there.
#[test]
fn a_confined_server_of_a_bucket_writes_nowhere_else() {
    for confine in ["auto", "off"] {
        let (place, s3, elsewhere) = (Place::new(), FaultyS3::start(), Place::new());
        s3.put(&key("call.wav"), &pattern(200_000));
        let (program, state) = serve(&place, &s3, confine);
        let confined = confine == "auto";
        if confined && !is_confined(&state) {
            return;
        }
        std::fs::rename(place.path("tmp"), place.path("former")).unwrap();
        symlink(elsewhere.path("storage"), place.path("tmp")).unwrap();
        let status = bring(&program, "new", &wav(300_000));
        let expected = if confined { 500 } else { 201 };
        assert_eq!(status, expected, "{confine}: {program:?}");
        assert_eq!(s3.bytes(&key("new.wav")).is_some(), !confined);
        // Without its directory it serves on, from the bucket.
        std::fs::rename(place.path("cache"), place.path("moved")).unwrap();
        symlink(elsewhere.path("storage"), place.path("cache")).unwrap();
        let url = url(&place, &s3, &program, "call");
        assert!(program.get(&url, &[]).body == pattern(200_000));
    }
}
