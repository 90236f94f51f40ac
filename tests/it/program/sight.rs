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
