//! `tonearm doctor` and `tonearm rehearse URL`: against tonearm, and against what goes wrong.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::program::{Place, Program, Ran, poll};
use crate::harness::skips;

const SAMPLES: &str = "storage/app-101/test-account-01";
const IDS: [&str; 6] = ["--app", "12345", "--account", "acc", "--id", "call"];

fn place() -> Place {
    let place = Place::new();
    std::fs::create_dir_all(place.path("storage/12345/acc")).unwrap();
    for (from, to) in [
        ("test-call-01.wav", "call.wav"),
        ("test-call-03.flac", "flac.flac"),
        ("test-call-04.mp3", "mp3.mp3"),
    ] {
        std::fs::copy(
            format!("{SAMPLES}/{from}"),
            place.path("storage/12345/acc").join(to),
        )
        .unwrap();
    }
    let mut mono = b"RIFF\xa4\x3e\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x80\x3e\0\0".to_vec();
    mono.resize(44 + 16_000, 0);
    std::fs::write(place.path("storage/12345/acc/mono.wav"), mono).unwrap();
    place
}

fn template(program: &Program) -> String {
    format!(
        "http://{}/retrieve/authenticated/recordings/%s",
        program.public
    )
}

/// The checks that are graded so, by name.
fn graded(report: &Value, grade: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap();
    let graded = checks.iter().filter(|check| check["grade"] == grade);
    graded
        .map(|check| check["check"].as_str().unwrap().to_owned())
        .collect()
}

fn saw(report: &Value, check: &str) -> String {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|found| found["check"] == check);
    found.unwrap_or_else(|| panic!("{check}: {report:#}"))["saw"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn tonearm_is_all_green() {
    let place = place();
    let program = place.serve();
    let url = template(&program);
    for command in ["doctor", "rehearse"] {
        for id in ["call", "flac"] {
            let ran = place.run(&[&[command, &url, "--json"][..], &IDS[..5], &[id]].concat());
            let report = ran.json();
            assert_eq!(
                (ran.code, &report["verdict"]),
                (Some(0), &"pass".into()),
                "{report:#}"
            );
            assert!(graded(&report, "pass").len() > 20, "{report:#}");
        }
    }
    // The URL of a question, and a recording's own.
    let question = url.replace("%s", "call?appId=12345&externalAccountId=acc");
    assert_eq!(
        place.run(&["doctor", &question, "--json"]).json()["verdict"],
        "pass"
    );
    let base = format!("http://{}", program.public);
    let media = place
        .run(&[&["url", "call", "--base", &base][..], &IDS[..4]].concat())
        .ok();
    let report = place.run(&["doctor", media.trim_end(), "--json"]).json();
    assert_eq!(report["verdict"], "pass", "{report:#}");
    assert!(!report.to_string().contains("sig="), "{report:#}");
    // One that has ended, and one that does not live as long as the call.
    for (ttl, check) in [("20s", "expiry"), ("1s", "download")] {
        let media = place
            .run(
                &[
                    &["url", "call", "--base", &base, "--ttl", ttl][..],
                    &IDS[..4],
                ]
                .concat(),
            )
            .ok();
        let report = poll(check, || {
            let report = place.run(&["doctor", media.trim_end(), "--json"]).json();
            (graded(&report, "fail") == [check]).then_some(report)
        });
        assert_eq!(report["verdict"], "fail");
    }
}

#[test]
fn what_is_asked_for_wrongly() {
    let place = place();
    let program = place.serve();
    let url = template(&program);
    let unknown = place.run(&[&["doctor", &url, "--json"][..], &IDS[..5], &["none"]].concat());
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert_eq!(graded(&unknown.json(), "fail"), ["resolver"]);
    let no_ids = place.run(&["doctor", &url]);
    assert_eq!(no_ids.code, Some(2), "{no_ids:?}");
    let nobody = place.run(&["doctor", "http://127.0.0.1:1/x", "--json"]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert_eq!(graded(&nobody.json(), "fail"), ["connection"]);
    assert_eq!(place.run(&["doctor", "none.wav"]).code, Some(74));
    // An app id that HubSpot refuses is a warning here: the endpoint itself does its part.
    place.put(
        "x.wav",
        &std::fs::read(format!("{SAMPLES}/test-call-01.wav")).unwrap(),
    );
    let args = [
        "doctor",
        &url,
        "--json",
        "--app",
        "app-101",
        "--account",
        "test-account-01",
        "--id",
        "x",
    ];
    let named = place.run(&args);
    assert_eq!(
        (named.code, graded(&named.json(), "warn")),
        (Some(0), vec!["app id".to_owned()])
    );
}

#[test]
fn files_and_directories() {
    let place = place();
    let file = |name: &str| {
        let path = format!("storage/12345/acc/{name}");
        let ran = place.run(&["doctor", &path, "--json"]);
        (ran.code.unwrap(), ran.json())
    };
    assert_eq!(file("call.wav").1["verdict"], "pass");
    assert_eq!(file("flac.flac").1["verdict"], "pass");
    let (code, mp3) = file("mp3.mp3");
    assert_eq!((code, graded(&mp3, "warn")), (0, vec!["format".to_owned()]));
    assert!(
        saw(&mp3, "format").contains("not on HubSpot's list"),
        "{mp3:#}"
    );
    let (code, mono) = file("mono.wav");
    assert_eq!(
        (code, graded(&mono, "fail")),
        (1, vec!["channels".to_owned()])
    );
    assert!(saw(&mono, "channels").contains("one channel"), "{mono:#}");
    // One voice in two copies.
    let sound: Vec<u8> = (0..8000_u16)
        .flat_map(|at| (at % 80 * 300).to_le_bytes().repeat(2))
        .collect();
    let mut same = b"RIFF\x24\x7d\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x40\x1f\0\0\0\x7d\0\0\x04\0\x10\0data\0\x7d\0\0".to_vec();
    same.extend(sound);
    std::fs::write(place.path("storage/12345/acc/same.wav"), same).unwrap();
    let (code, same) = file("same.wav");
    assert_eq!(
        (code, graded(&same, "fail")),
        (1, vec!["channels".to_owned()]),
        "{same:#}"
    );
    assert!(saw(&same, "channels").contains("the same"), "{same:#}");
    std::fs::copy(
        place.path("storage/12345/acc/mp3.mp3"),
        place.path("storage/12345/acc/named.wav"),
    )
    .unwrap();
    assert_eq!(graded(&file("named.wav").1, "fail"), ["name"]);
    let all = place.run(&["doctor", "storage", "--json"]);
    assert_eq!(all.code, Some(1));
    assert_eq!(all.json()["targets"].as_array().unwrap().len(), 6);
    let text = place.run(&["doctor", "storage/12345/acc/mono.wav"]).out;
    let fix = "tonearm add storage/12345/acc/mono.wav --app APP --account ACCOUNT --id ID --join OTHER-LEG\n";
    assert!(text.contains(fix), "{text}");
    let all = place.run(&["doctor", "storage"]).out;
    let fix = "tonearm add storage/12345/acc/mono.wav --app 12345 --account acc --id mono --join OTHER-LEG --replace --storage storage\n";
    assert!(all.contains(fix), "{all}");
}

/// nginx over the store, without ranges and without octet-stream.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nginx_without_ranges_is_told_so() {
    // It has `-v` and no `--version`.
    let found = Command::new("nginx")
        .arg("-v")
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        skips("nginx", "apt-get install nginx");
        return;
    }
    let place = place();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let configuration = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off; types {{ audio/x-wav wav; }}\nclient_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;\nserver {{ listen 127.0.0.1:{port}; root storage; max_ranges 0; }} }}"
    );
    place.write("nginx.conf", configuration, 0o644);
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(place.path(""))
        .args(["-e", "stderr", "-c", "nginx.conf"]);
    let _nginx = Nginx(
        command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let url = format!("http://127.0.0.1:{port}/12345/acc/call.wav");
    let report = poll("nginx serves", || {
        let ran: Ran = place.run(&["doctor", &url, "--json"]);
        let report = ran.json();
        (graded(&report, "fail") != ["connection"]).then_some((ran.code, report))
    });
    let (code, report) = report;
    assert_eq!(
        (code, graded(&report, "fail")),
        (Some(1), vec!["octet-stream".to_owned(), "play".to_owned()]),
        "{report:#}"
    );
    assert!(
        saw(&report, "play").contains("200 and the whole file where 206"),
        "{report:#}"
    );
    let fix = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["check"] == "play")
        .unwrap();
    assert!(
        fix["fix"].as_str().unwrap().contains("max_ranges 0"),
        "{report:#}"
    );
}

#[test]
fn a_signed_question_opens_an_endpoint_that_requires_it() {
    let place = place();
    place.write(
        "client-secret",
        "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy\n",
        0o600,
    );
    place.write("secret", "0123456789abcdef-part\n", 0o600);
    // The port is not known before the start, and HubSpot would sign the public URL: a proxy's.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let base = format!("http://127.0.0.1:{port}");
    let settings = [
        ("TONEARM_HUBSPOT_SIGNATURE", "require"),
        ("TONEARM_HUBSPOT_CLIENT_SECRET_FILE", "client-secret"),
        ("TONEARM_RESOLVER_SECRET_FILE", "secret"),
        ("TONEARM_RESOLVER_PATH", "/r/{secret}/%s"),
        ("TONEARM_PUBLIC_BASE_URL", &base),
    ];
    let listen = format!("127.0.0.1:{port}");
    let mut command = place.command(&[
        "serve",
        "--listen",
        &listen,
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    command.envs(settings);
    let program = Program::start(command);
    assert!(program.hint.contains("{secret}"), "{}", program.hint);
    let url = format!("{base}/r/0123456789abcdef-part/%s");
    let args = [&["rehearse", &url, "--json"][..], &IDS].concat();
    let signed = place.run_with(&args, &settings[1..2]);
    assert_eq!(signed.json()["verdict"], "pass", "{signed:?}");
    let unsigned = place.run(&args);
    assert_eq!(
        graded(&unsigned.json(), "fail"),
        ["resolver"],
        "{unsigned:?}"
    );
    let log = program.wait_log("not signed: no signature", 1);
    assert!(
        log.contains("tonearm::mint") && log.contains("signature=\"v3\""),
        "{log}"
    );
    assert!(!log.contains("0123456789abcdef"), "{log}");
    assert!(!log.contains("yyyyyyyy"), "{log}");
}
