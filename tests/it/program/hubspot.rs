//! `tonearm hubspot` against `tonearm rehearse`: every step, killed, failed and refused.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::harness::pattern;
use crate::harness::program::{Place, Ran, TONEARM, poll};
use crate::harness::rehearsal::{Front, Rehearsal};
use crate::harness::tls::{Authority, ENDS};

const SAMPLE: &str = "storage/app-101/test-account-01/test-call-01.wav";
const WHOSE: [&str; 4] = ["--app", "12345", "--account", "acc"];

/// A place with a token and a call's file, that is not in the store yet.
fn place() -> Place {
    let place = Place::new();
    place.write("token", "pat-na1-secret\n", 0o600);
    std::fs::copy(SAMPLE, place.path("call.wav")).unwrap();
    place
}

fn environment(rehearsal: &Rehearsal, index_wait: &str) -> Vec<(&'static str, String)> {
    vec![
        ("TONEARM_HUBSPOT_BASE_URL", rehearsal.base()),
        ("TONEARM_HUBSPOT_TOKEN_FILE", "token".to_owned()),
        ("TONEARM_HUBSPOT_INDEX_WAIT", index_wait.to_owned()),
    ]
}

fn hubspot(place: &Place, rehearsal: &Rehearsal, args: &[&str]) -> Ran {
    let mut command = place.command(&["hubspot"]);
    command.args(args).envs(environment(rehearsal, "0s"));
    Ran::of(command.stdin(Stdio::null()).output().unwrap())
}

const PUBLISH: [&str; 8] = [
    "publish",
    "call.wav",
    "--app",
    "12345",
    "--account",
    "acc",
    "--contact",
    "104901",
];

fn publish(place: &Place, rehearsal: &Rehearsal, index_wait: &str) -> Publishing {
    let mut command = place.command(&["hubspot"]);
    command
        .args(PUBLISH)
        .envs(environment(rehearsal, index_wait));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Publishing(Some(command.spawn().unwrap()))
}

/// A process that publishes, killed with this value: a test that fails leaves none behind.
struct Publishing(Option<Child>);

impl Publishing {
    /// Waits for its end.
    fn end(mut self) -> Ran {
        Ran::of(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended already, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_recording_is_published_once() {
    let place = place();
    let rehearsal = Rehearsal::start(&place, &[]);
    let mut flags = PUBLISH.to_vec();
    flags.extend([
        "--at",
        "2026-11-23T14:50:00Z",
        "--direction",
        "outbound",
        "--disposition",
        "connected",
    ]);
    flags.extend([
        "--owner",
        "7",
        "--title",
        "A call",
        "--from",
        "+1 555 0100",
        "--to",
        "+1 555 0101",
    ]);
    let said = hubspot(&place, &rehearsal, &flags).ok();
    assert_eq!(
        said,
        "call 17591596434: logged, associated with contact:104901, ready\n"
    );
    let state = rehearsal.state();
    let expect = json!({
        "hs_call_app_id": "12345",
        "hs_call_direction": "OUTBOUND",
        "hs_call_disposition": "f240bbac-87c9-4f6e-bf70-924b57d47db7",
        "hs_call_duration": "23632",
        "hs_call_external_account_id": "acc",
        "hs_call_external_id": "call",
        "hs_call_from_number": "+1 555 0100",
        "hs_call_recording_duration": "23632",
        "hs_call_source": "INTEGRATIONS_PLATFORM",
        "hs_call_status": "COMPLETED",
        "hs_call_title": "A call",
        "hs_call_to_number": "+1 555 0101",
        "hs_timestamp": "2026-11-23T14:50:00Z",
        "hubspot_owner_id": "7",
    });
    assert_eq!(state["calls"][0]["properties"], expect);
    assert_eq!(state["associations"][0]["associationTypeId"], 194);
    assert_eq!(state["ready"], json!([17_591_596_434_u64]));
    let stored = std::fs::read(place.path("storage/12345/acc/call.wav")).unwrap();
    assert_eq!(stored, std::fs::read(SAMPLE).unwrap());
    // Again: nothing is left to do, and nothing is sent.
    let sent = rehearsal.requests().len();
    hubspot(&place, &rehearsal, &PUBLISH).ok();
    assert_eq!(rehearsal.requests().len(), sent);
}

#[test]
fn publish_killed_at_each_of_its_steps_and_run_again_does_nothing_twice() {
    for script in [
        &["log=hold:acted"][..],
        &["log=hold"],
        // It is sent two seconds after it was journalled.
        &["log=423", "log=hold:acted"],
        &["associate=hold:acted"],
        &["associate=hold"],
        &["ready=hold:acted"],
        &["ready=hold"],
    ] {
        let place = place();
        let faults = script.iter().flat_map(|fault| ["--fault", fault]);
        // Searches do not see a new call at once.
        let flags: Vec<_> = faults.chain(["--index-lag", "2s"]).collect();
        let rehearsal = Rehearsal::start(&place, &flags);
        let child = publish(&place, &rehearsal, "2s");
        poll("the request that is held", || {
            let state = rehearsal.state();
            let seen = state["requests"].as_array()?.iter();
            seen.rev()
                .any(|seen| seen["status"].is_null())
                .then_some(())
        });
        drop(child);
        let again = publish(&place, &rehearsal, "2s").end();
        assert_eq!(again.code, Some(0), "{script:?}: {again:?}");
        let requests = rehearsal.requests();
        assert_eq!(rehearsal.counts(), [1, 1, 1], "{script:?}: {requests:#?}");
    }
}

#[test]
fn publish_killed_at_any_moment_and_run_again_does_nothing_twice() {
    for wait in 0..20 {
        let place = place();
        let rehearsal = Rehearsal::start(&place, &[]);
        let child = publish(&place, &rehearsal, "0s");
        std::thread::sleep(Duration::from_micros(1500 * wait));
        drop(child);
        let again = publish(&place, &rehearsal, "0s").end();
        assert_eq!(again.code, Some(0), "{wait}: {again:?}");
        assert_eq!(
            rehearsal.counts(),
            [1, 1, 1],
            "{wait}: {:#?}",
            rehearsal.requests()
        );
    }
}

#[test]
fn what_fails_for_a_while_is_tried_again_and_done_once() {
    let threads: Vec<_> = [
        "429",
        "477",
        "423",
        "502",
        "504",
        "cut",
        "cut:acted",
        "502:acted",
    ]
    .into_iter()
    .map(|kind| {
        std::thread::spawn(move || {
            let place = place();
            let faults = ["log", "associate", "ready"].map(|step| format!("{step}={kind}"));
            let flags: Vec<_> = faults.iter().flat_map(|fault| ["--fault", fault]).collect();
            let rehearsal = Rehearsal::start(&place, &flags);
            let ran = publish(&place, &rehearsal, "1s").end();
            assert_eq!(ran.code, Some(0), "{kind}: {ran:?}");
            assert_eq!(
                rehearsal.counts(),
                [1, 1, 1],
                "{kind}: {:#?}",
                rehearsal.requests()
            );
        })
    })
    .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn two_processes_do_not_publish_one_recording() {
    let place = place();
    let rehearsal = Rehearsal::start(&place, &["--fault", "ready=hold"]);
    let first = publish(&place, &rehearsal, "0s");
    poll("the first waits", || {
        rehearsal
            .requests()
            .iter()
            .any(|request| request.ends_with("/ready"))
            .then_some(())
    });
    let second = hubspot(&place, &rehearsal, &PUBLISH);
    assert_eq!(second.code, Some(75), "{second:?}");
    assert!(
        second.err.contains("another process is publishing"),
        "{second:?}"
    );
    drop(first);
}

#[test]
fn what_hubspot_could_not_use_is_refused_before_anything_is_sent() {
    let place = place();
    let rehearsal = Rehearsal::start(&place, &[]);
    std::fs::copy(SAMPLE, place.path("call.txt")).unwrap();
    std::fs::copy(SAMPLE, place.path("call.mp3")).unwrap();
    place.write("page.wav", "<!doctype html><title>404</title>", 0o644);
    place.write("mono.wav", mono(), 0o644);
    let url = "https://rec.example.com/%s";
    for (args, code, says) in [
        (&["register", url, "--app", "app-101"][..], 2, "numbers"),
        (&["register", url, "--app", "0"], 2, "numbers"),
        (
            &["register", "http://rec.example.com/%s", "--app", "1"],
            2,
            "https://",
        ),
        (
            &["register", "https://rec.example.com/", "--app", "1"],
            2,
            "%s once",
        ),
        (
            &["publish", "mono.wav", "--app", "1", "--account", "a"],
            1,
            "one channel",
        ),
        (
            &["publish", "page.wav", "--app", "1", "--account", "a"],
            1,
            "no recording",
        ),
        (
            &["publish", "call.txt", "--app", "1", "--account", "a"],
            1,
            "ends in .wav",
        ),
        (
            &["publish", "call.mp3", "--app", "1", "--account", "a"],
            1,
            "and is WAV",
        ),
        (
            &["publish", "none.wav", "--app", "1", "--account", "a"],
            74,
            "none.wav",
        ),
        (
            &["publish", "call.wav", "--app", "x", "--account", "a"],
            2,
            "numbers",
        ),
        (
            &["publish", "call.wav", "--app", "1", "--account", "a/b"],
            2,
            "an id has a byte",
        ),
        (
            &["publish", "call.wav", "--app", "1"],
            2,
            "--account is needed",
        ),
        (
            &["publish", "--id", "none", "--app", "1", "--account", "a"],
            1,
            "is not in storage",
        ),
        (
            &["log", "none", "--app", "1", "--account", "a"],
            1,
            "is not in storage",
        ),
        (&["associate", "17", "cat:4"], 2, "record type"),
        (&["associate", "17", "contact:x"], 2, "numbers"),
        (&["ready", "x"], 2, "invalid"),
        (&["transcript", "post", "17", "call.txt"], 1, "call.txt"),
    ] {
        let ran = hubspot(&place, &rehearsal, args);
        assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
        assert!(ran.err.contains(says), "{args:?}: {ran:?}");
    }
    assert_eq!(rehearsal.requests(), [""; 0]);
    // For playing alone, one channel will do.
    let args = [
        "publish",
        "mono.wav",
        "--app",
        "1",
        "--account",
        "a",
        "--playback-only",
    ];
    hubspot(&place, &rehearsal, &args).ok();
}

/// A second of one silent channel.
fn mono() -> Vec<u8> {
    leg(&[0; 16_000])
}

/// A second of one channel, with these samples of 16 bits at 8 kHz.
fn leg(samples: &[u8]) -> Vec<u8> {
    let mut wav = b"RIFF\xa4\x3e\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x80\x3e\0\0".to_vec();
    wav.extend(samples);
    wav
}

#[test]
fn the_command_that_is_told_mends_the_recording() {
    let place = place();
    let rehearsal = Rehearsal::start(&place, &[]);
    let sound = pattern(32_000);
    place.write("Bob's leg.wav", leg(&sound[..16_000]), 0o644);
    place.write("other.wav", leg(&sound[16_000..]), 0o644);
    let paste = |refused: &Ran| {
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let fix = refused
            .err
            .lines()
            .find_map(|line| line.strip_prefix("fix: "));
        let fix = fix.unwrap().replace("OTHER-LEG", "other.wav");
        let programs = Path::new(TONEARM).parent().unwrap();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &fix]).env_clear().env("PATH", programs);
        let ran = Ran::of(shell.current_dir(place.path("")).output().unwrap());
        assert_eq!(
            (ran.code, ran.err.as_str()),
            (Some(0), ""),
            "{fix}: {ran:?}"
        );
        fix
    };
    // Of a file, and of one that lies in the store already.
    let file = [
        "publish",
        "Bob's leg.wav",
        "--id",
        "b",
        "--app",
        "12345",
        "--account",
        "acc",
    ];
    assert_eq!(
        paste(&hubspot(&place, &rehearsal, &file)),
        r"tonearm add 'Bob'\''s leg.wav' --app 12345 --account acc --id b --join other.wav --storage storage"
    );
    let stored = ["publish", "--id", "b", "--app", "12345", "--account", "acc"];
    hubspot(&place, &rehearsal, &stored).ok();
    place.write("storage/12345/acc/c.wav", leg(&sound[..16_000]), 0o644);
    let stored = ["publish", "--id", "c", "--app", "12345", "--account", "acc"];
    assert_eq!(
        paste(&hubspot(&place, &rehearsal, &stored)),
        "tonearm add storage/12345/acc/c.wav --app 12345 --account acc --id c --join other.wav --replace --storage storage"
    );
    hubspot(&place, &rehearsal, &stored).ok();
    assert_eq!(rehearsal.counts(), [2, 0, 2]);
}

#[test]
fn what_hubspot_refuses_is_told_with_its_correlation_id_and_the_next_step() {
    let place = place();
    for (flags, code, says) in [
        (
            &["--record", "7"][..],
            1,
            "HubSpot answered 404 OBJECT_NOT_FOUND: No record with the id 104901 exists; next: check the ids",
        ),
        (
            &["--fault", "log=daily"],
            75,
            "HubSpot answered 429 RATE_LIMIT: You have reached your daily limit.",
        ),
        (
            &["--fault", "log=401"],
            78,
            "put a current one into the token file",
        ),
        (
            &["--scope", "crm.objects.contacts.read"],
            78,
            "give the app the scope crm.objects.contacts.write",
        ),
    ] {
        let rehearsal = Rehearsal::start(&place, flags);
        let ran = hubspot(&place, &rehearsal, &PUBLISH);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(
            ran.err.contains(says) && ran.err.contains("correlation id 5e4ea25e-"),
            "{ran:?}"
        );
        assert!(!ran.err.contains("pat-na1-secret"), "{ran:?}");
        std::fs::remove_dir_all(place.path("storage")).unwrap();
    }
    // A contact that was a mistake is mended by naming another: the call is not logged again.
    let rehearsal = Rehearsal::start(&place, &["--record", "7"]);
    assert_eq!(hubspot(&place, &rehearsal, &PUBLISH).code, Some(1));
    let mended = [&PUBLISH[..6], &["--contact", "7"]].concat();
    hubspot(&place, &rehearsal, &mended).ok();
    assert_eq!(rehearsal.counts(), [1, 1, 1]);
}

#[test]
fn calls_go_by_tls_to_whom_the_system_trusts_and_to_nobody_else() {
    let place = place();
    let rehearsal = Rehearsal::start(&place, &[]);
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    place.write("ours.pem", ours.pem(), 0o644);
    place.write("theirs.pem", theirs.pem(), 0o644);
    place.write("none.pem", "", 0o644);
    let front = |name, ends| Front::of(rehearsal.addr, &ours.made(name, ends));
    let right = front("127.0.0.1", ENDS);
    let late = front("127.0.0.1", 2020);
    let other = front("api.example.com", ENDS);
    let publish = |base: &str, trusted: &str| {
        let mut command = place.command(&["hubspot"]);
        command.args(PUBLISH).envs(environment(&rehearsal, "0s"));
        command.env("TONEARM_HUBSPOT_BASE_URL", base);
        Ran::of(command.env("SSL_CERT_FILE", trusted).output().unwrap())
    };
    for (base, trusted, says) in [
        (right.base(), "theirs.pem", "UnknownIssuer"),
        (late.base(), "ours.pem", "certificate expired"),
        (other.base(), "ours.pem", "not valid for name"),
        (right.base(), "none.pem", "No CA certificates"),
    ] {
        let refused = publish(&base, trusted);
        assert_eq!(refused.code, Some(69), "{trusted}: {refused:?}");
        assert!(refused.err.contains(says), "{trusted}: {refused:?}");
    }
    assert_eq!(rehearsal.requests(), [""; 0]);
    publish(&right.base(), "ours.pem").ok();
    assert_eq!(rehearsal.counts(), [1, 1, 1]);
}

#[test]
fn no_connection_and_no_credentials() {
    let place = place();
    let run = |environment: &[(&str, &str)]| {
        place.run_with(
            &["hubspot", "show", "--app", "1"],
            &[environment, &[("TONEARM_HUBSPOT_INDEX_WAIT", "0s")]].concat(),
        )
    };
    let none = run(&[("TONEARM_HUBSPOT_BASE_URL", "http://127.0.0.1:1")]);
    assert_eq!(none.code, Some(78), "{none:?}");
    let clear = run(&[("TONEARM_HUBSPOT_BASE_URL", "http://api.example.com")]);
    assert_eq!(clear.code, Some(78), "{clear:?}");
    assert!(clear.err.contains("https:// is needed"), "{clear:?}");
    place.write("open", "x", 0o666);
    let open = run(&[
        ("TONEARM_HUBSPOT_BASE_URL", "http://127.0.0.1:1"),
        ("TONEARM_HUBSPOT_TOKEN_FILE", "open"),
    ]);
    assert_eq!(open.code, Some(78), "{open:?}");
    assert!(open.err.contains("chmod 600"), "{open:?}");
}

#[test]
fn every_command_in_every_version() {
    for version in ["v3", "2026-03", "2026-09"] {
        let place = place();
        let rehearsal = Rehearsal::start(&place, &["--token-file", "token"]);
        let run = |args: &[&str]| {
            let mut command = place.command(&["hubspot"]);
            command
                .args(args)
                .envs(environment(&rehearsal, "0s"))
                .env("TONEARM_HUBSPOT_API_VERSION", version);
            Ran::of(command.stdin(Stdio::null()).output().unwrap()).ok()
        };
        let (first, second) = ("https://rec.example.com/%s", "https://rec.example.com/2/%s");
        assert_eq!(
            run(&["register", first, "--app", "12345"]).trim_end(),
            first
        );
        assert_eq!(
            run(&["register", second, "--app", "12345"]).trim_end(),
            second
        );
        assert_eq!(run(&["show", "--app", "12345"]).trim_end(), second);
        // HubSpot's own call is found by publish as one that is there.
        std::fs::create_dir_all(place.path("storage/12345/acc")).unwrap();
        for id in ["one", "two"] {
            std::fs::copy(SAMPLE, place.path(format!("storage/12345/acc/{id}.wav"))).unwrap();
        }
        let logged = run(&[
            &["log", "one"][..],
            &WHOSE,
            &["--contact", "1", "--associate", "deal:2", "--json"],
        ]
        .concat());
        let logged: serde_json::Value = serde_json::from_str(&logged).unwrap();
        let call = logged["callId"].as_str().unwrap();
        assert_eq!(logged["associations"], json!(["contact:1", "deal:2"]));
        assert_eq!(
            run(&[&["log", "one"][..], &WHOSE].concat()),
            format!("call {call}: logged, associated with contact:1, associated with deal:2\n")
        );
        run(&["associate", call, "company:3", "ticket:4"]);
        run(&["associate", call, "lead:5", "--label", "597"]);
        run(&["associate", call, "order:6", "--guide"]);
        run(&["ready", call]);
        place.write("said.json", r#"[{"speaker":{"id":"1","name":"Ann"},"text":"Hello","startTimeMillis":61000,"endTimeMillis":62000}]"#, 0o644);
        let transcript = run(&["transcript", "post", call, "said.json"]);
        assert_eq!(
            run(&["transcript", "show", transcript.trim_end()]),
            "  1:01 Ann: Hello\n"
        );
        assert_eq!(
            run(&["transcript", "show", "--call", call]),
            "  1:01 Ann: Hello\n"
        );
        run(&["transcript", "delete", transcript.trim_end()]);
        assert_eq!(rehearsal.counts(), [1, 6, 1]);
        // A call that HubSpot made gets its recording.
        let attached = run(&[&["attach", call, "two"][..], &WHOSE].concat());
        assert_eq!(attached, format!("call {call}: logged\n"));
        assert_eq!(
            run(&[&["publish", "--id", "two"][..], &WHOSE].concat()),
            format!("call {call}: logged, ready\n")
        );
        assert_eq!(rehearsal.counts(), [1, 6, 2]);
    }
}

#[test]
fn all_that_is_pending_and_what_a_dry_run_sends() {
    let place = place();
    let rehearsal = Rehearsal::start(&place, &[]);
    for id in ["one", "two", "three"] {
        std::fs::create_dir_all(place.path("storage/12345/acc")).unwrap();
        std::fs::copy(SAMPLE, place.path(format!("storage/12345/acc/{id}.wav"))).unwrap();
    }
    place.put("elsewhere.wav", b"an app id that is no number");
    let dry = hubspot(
        &place,
        &rehearsal,
        &[
            &["publish", "--all-pending", "--dry-run", "--json"][..],
            &WHOSE,
        ]
        .concat(),
    );
    let planned = dry.json();
    assert_eq!(
        planned["published"].as_array().unwrap().len(),
        3,
        "{planned}"
    );
    let requests = planned["published"][0]["requests"].as_array().unwrap();
    assert_eq!(requests[0]["body"]["associations"], json!([]));
    assert_eq!(requests[1]["body"], json!({"engagementId": "{callId}"}));
    assert_eq!(rehearsal.requests(), [""; 0]);
    let one = hubspot(
        &place,
        &rehearsal,
        &[&["publish", "--id", "one"][..], &WHOSE].concat(),
    );
    one.ok();
    let all = hubspot(&place, &rehearsal, &["publish", "--all-pending"]);
    assert_eq!(all.code, Some(1), "{all:?}");
    assert_eq!(all.out, "2 published, 1 published before, 1 failed\n");
    assert!(
        all.err.contains("app-101/test-account-01/elsewhere") && !all.err.contains('\r'),
        "{all:?}"
    );
    let again = hubspot(
        &place,
        &rehearsal,
        &[&["publish", "--all-pending"][..], &WHOSE].concat(),
    );
    assert_eq!(again.ok(), "0 published, 3 published before, 0 failed\n");
    assert_eq!(rehearsal.counts(), [3, 0, 3]);
}

#[test]
fn an_app_that_is_installed_and_a_developer_key() {
    let place = place();
    let rehearsal = Rehearsal::start(&place, &["--token-file", "token"]);
    let oauth = "client_id = \"c\"\nclient_secret = \"s+/=\"\nrefresh_token = \"";
    place.write("oauth", format!("{oauth}r\"\n"), 0o600);
    place.write("revoked", format!("{oauth}revoked\"\n"), 0o600);
    place.write("key", "a developer's", 0o600);
    place.write("good-key", "developers-key", 0o600);
    let run = |args: &[&str], set: &[(&str, &str)]| {
        let base = rehearsal.base();
        let set = [set, &[("TONEARM_HUBSPOT_BASE_URL", base.as_str())]].concat();
        place.run_with(&[&["hubspot"], args].concat(), &set)
    };
    let oauth = [("TONEARM_HUBSPOT_OAUTH_FILE", "oauth")];
    let published = run(&PUBLISH, &oauth).ok();
    assert!(published.ends_with("ready\n"), "{published}");
    let tokens = rehearsal
        .requests()
        .iter()
        .filter(|request| request.contains("/oauth/"))
        .count();
    assert_eq!(tokens, 1);
    let revoked = run(
        &["ready", "1"],
        &[("TONEARM_HUBSPOT_OAUTH_FILE", "revoked")],
    );
    assert_eq!(revoked.code, Some(78), "{revoked:?}");
    assert!(revoked.err.contains("install the app again"), "{revoked:?}");
    let register = ["register", "https://rec.example.com/%s", "--app", "9"];
    run(
        &register,
        &[("TONEARM_HUBSPOT_DEVELOPER_KEY_FILE", "good-key")],
    )
    .ok();
    let bad = run(&register, &[("TONEARM_HUBSPOT_DEVELOPER_KEY_FILE", "key")]);
    assert_eq!(bad.code, Some(78), "{bad:?}");
}
