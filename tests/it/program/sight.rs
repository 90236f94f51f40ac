//! What somebody who looks after a server sees: status, the dashboard's and the alerts' metrics.

use std::collections::BTreeSet;

use crate::harness::pattern;
use crate::harness::program::{Place, Program, ask};

const DASHBOARD: &str = include_str!("../../../deploy/grafana/dashboard.json");
const ALERTS: &str = include_str!("../../../deploy/prometheus/alerts.yml");
const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c| !part(c))
        .filter(|word| word.starts_with("tonearm_"))
        .collect()
}

/// A server that has answered, refused and been asked.
fn used() -> (Place, Program) {
    let place = Place::new();
    place.put("call.wav", &pattern(1000));
    let program = place.serve();
    let url = place.url("call", &program, &[]);
    program.get(&url, &["Range: bytes=0-9"]);
    program.get(&url.replace("call", "cell"), &[]);
    let question = program.hint.split('\'').nth(1).unwrap().to_owned();
    assert_eq!(program.get(&question, &[]).status, 200);
    (place, program)
}

#[test]
fn every_metric_of_dashboard_and_alerts_is_exposed() {
    let (_place, program) = used();
    let exposed = ask(program.admin, "GET", "/metrics", &[]).text();
    let exposed = names(&exposed);
    let wanted: BTreeSet<_> = names(DASHBOARD).union(&names(ALERTS)).copied().collect();
    assert!(wanted.len() > 10, "{wanted:?}");
    for name in &wanted {
        assert!(exposed.contains(name), "{name} is not exposed: {exposed:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 10);
}

#[test]
fn every_alert_has_its_page_in_the_runbook() {
    let alerts: Vec<_> = ALERTS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 8, "{alerts:?}");
    for alert in alerts {
        assert!(OPERATIONS.contains(&format!("### {alert}\n")), "{alert}");
    }
}

#[test]
fn status_is_one_screen_and_an_exit_code() {
    let (place, mut program) = used();
    let admin = program.admin.to_string();
    let ran = place.run(&["status", "--admin-listen", &admin]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for said in [
        "ready, up ",
        "answers    3; 1 of them 4xx, 0 5xx",
        "refused    bad_signature 1",
        "HubSpot    1 questions answered, 0 not",
        "1 of 1 keys sign",
        "all is well",
    ] {
        assert!(ran.out.contains(said), "{said}\n{}", ran.out);
    }
    assert!(ran.out.lines().count() < 24, "{}", ran.out);

    std::fs::remove_dir_all(place.path("storage")).unwrap();
    let ran = place.run(&["status", "--json", "--admin-listen", &admin]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let screen = ran.json();
    assert_eq!(screen["requests"], 3);
    assert_eq!(screen["findings"][0], "it is not ready: store");

    program.signal(rustix::process::Signal::TERM);
    program.wait();
    let ran = place.run(&["status", "--admin-listen", &admin]);
    assert_eq!(ran.code, Some(69), "{ran:?}");
    assert!(ran.err.contains("no server answers on"), "{ran:?}");
}

#[test]
fn scrub_tells_what_is_not_as_it_was_put() {
    let place = Place::new();
    let sample = "storage/app-101/test-account-01/test-call-01.wav";
    let sample = format!("{}/{sample}", env!("CARGO_MANIFEST_DIR"));
    for id in ["a", "b"] {
        let to = ["--app", "app-1", "--account", "acc", "--id", id];
        let added = place.run(&[&["add", &sample][..], &to].concat());
        assert_eq!(added.code, Some(0), "{added:?}");
    }
    place.put("by-hand.wav", &pattern(100));
    let ran = place.run(&["scrub"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.out
            .starts_with("2 as they were put, 1 without a digest, 0 not"),
        "{ran:?}"
    );

    let program = place.serve();
    let url = |id: &str| {
        let base = format!("http://{}", program.public);
        let whose = ["--app", "app-1", "--account", "acc", "--base", &base];
        place.run(&[&["url", id][..], &whose].concat())
    };
    let target = url("b").ok();
    let status = || program.get(target.trim(), &[]).status;
    assert_eq!(status(), 200);

    // One byte rots: neither length nor time tell.
    let path = place.path("storage/app-1/acc/b.wav");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(modified).unwrap();
    let ran = place.run(&["scrub", "--json", "--dry-run"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(status(), 200, "it was to be let alone");
    let ran = place.run(&["scrub", "--json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.out
            .contains(r#"{"verdict":"rotten","recording":"app-1/acc/b.wav"}"#),
        "{ran:?}"
    );
    assert!(ran.err.contains("tonearm::alarm"), "{ran:?}");

    // From now on nobody gets it, and nobody a URL of it.
    assert_eq!(status(), 500);
    assert_eq!(url("b").code, Some(74));
    let ids = "b?appId=app-1&externalAccountId=acc";
    let asked = format!("/retrieve/authenticated/recordings/{ids}");
    assert_eq!(ask(program.public, "GET", &asked, &[]).status, 500);
    // Put again, it is not what is there; put in its place, it is served.
    let add = |more: &[&str]| {
        let to = ["--app", "app-1", "--account", "acc", "--id", "b"];
        place.run(&[&["add", &sample][..], &to, more].concat()).code
    };
    assert_eq!(add(&[]), Some(1));
    assert_eq!(add(&["--replace"]), Some(0));
    assert_eq!(status(), 200);
    assert_eq!(place.run(&["scrub"]).code, Some(0));

    // Behind one that was looked at.
    let ran = place.run(&["scrub", "--json", "--after", "app-1/acc/a.wav"]);
    assert_eq!(ran.out.lines().count(), 2, "{ran:?}");
    let ran = place.run(&["scrub", "--after", "app-1/acc/a"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");

    // Written to after it was put, and brought back as it was.
    let put = std::fs::read(&path).unwrap();
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, pattern(10)).unwrap();
    let ran = place.run(&["scrub", "--json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("\"changed\""), "{ran:?}");
    assert_eq!(status(), 500);
    std::fs::write(&path, put).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(modified).unwrap();
    let ran = place.run(&["scrub"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(status(), 200);
}

#[test]
fn shells_and_man_know_every_command() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]).ok();
        assert!(
            script.contains("rehearse") && script.contains("admin-listen"),
            "{shell}"
        );
    }
    assert!(place.run(&["man"]).ok().contains(".TH"));
    place.run(&["man", "--dir", "pages"]).ok();
    for page in ["tonearm.1", "tonearm-serve.1", "tonearm-hubspot-publish.1"] {
        assert!(
            place.read(&format!("pages/{page}")).contains(".SH"),
            "{page}"
        );
    }
}
