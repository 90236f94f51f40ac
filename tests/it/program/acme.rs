//! Certificates by ACME, from a directory that looks for itself.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::harness::acme::{Forecast, Ports, Site, has_pebble, shown};
use crate::harness::program::{Place, Program, SERVE, ask, poll};

const NONE_YET: &str = "there is no certificate yet: every TLS handshake is refused";
const FAILED: &str = "tonearm_certificate_orders_total{outcome=\"failed\"}";
const NAMES: [&str; 2] = ["rec.example.com", "other.example.com"];

fn start(place: &Place, site: &Site, more: &[(&str, &str)]) -> Program {
    let settings = site.settings();
    let mut settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    settings.extend(more);
    place.serve_with(&[], &settings)
}

/// What lies in the cache, with its mode.
fn cache(place: &Place) -> Vec<(PathBuf, u32)> {
    let mode = |path: PathBuf| {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        (path, mode)
    };
    let files = std::fs::read_dir(place.path("acme")).unwrap();
    let mut files: Vec<_> = files.map(|file| mode(file.unwrap().path())).collect();
    files.sort();
    files
}

/// A server that is there before its directory, and where that will be.
fn early(place: &Place, settings: &[(&str, &str)]) -> (Site, Program) {
    let site = Site::new(place);
    let program = start(place, &site, settings);
    program.wait_log("no certificate has come", 1);
    (site, program)
}

/// Has the server try again, until there is a certificate.
fn have_it(program: &Program) {
    program.signal(Signal::HUP);
    program.wait_log("a certificate has come", 1);
    program.wait_log("the certificate was read again", 1);
}

fn days(program: &Program) -> f64 {
    let text = ask(program.admin, "GET", "/metrics", &[]).text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("tonearm_certificate_days "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_certificate_comes_by_tls_alpn_and_outlives_a_restart() {
    if !has_pebble() {
        return;
    }
    let place = Place::new();
    let site = Site::new(&place);
    let mut program = start(&place, &site, &[]);
    // Nobody is there yet, and that is said.
    program.wait_log(NONE_YET, 1);
    let log = program.wait_log(
        "no certificate has come for rec.example.com, other.example.com",
        1,
    );
    for said in [
        "there is none to serve with",
        "port 443 of each name has to lead here",
        "Connection refused",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert_eq!((program.metric(FAILED), days(&program)), (1, 0.0));
    let admin = program.admin.to_string();
    let status = place.run(&["status", "--admin-listen", &admin]);
    assert_eq!(status.code, Some(1));
    assert!(
        status.out.contains("TLS        no certificate that holds"),
        "{status:?}"
    );

    let ports = Ports {
        tls: program.public.port(),
        life: 90 * 86_400,
        ..Ports::default()
    };
    let pebble = site.open(&place, &ports);
    assert!(shown(program.public, NAMES[0], &pebble.root, "h2").is_err());
    have_it(&program);
    for name in NAMES {
        let chain = shown(program.public, name, &pebble.root, "h2").unwrap();
        assert!(
            chain.len() > 1,
            "without what stands between it and the root"
        );
    }
    // The answers were for the directory's look, and it is over.
    assert!(shown(program.public, NAMES[0], &pebble.root, "acme-tls/1").is_err());
    assert!(
        (89.0..=90.0).contains(&days(&program)),
        "{}",
        days(&program)
    );
    let status = place.run(&["status", "--admin-listen", &admin]);
    assert!(
        status
            .out
            .contains("TLS        the certificate holds for 90.0 days"),
        "{status:?}"
    );
    let kept = cache(&place);
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept.iter().all(|(_, mode)| *mode == 0o600), "{kept:?}");
    assert_eq!(
        place.path("acme").metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert!(!program.log().contains("PRIVATE KEY"));

    // Whoever starts again has it, and asks for none, be the directory there or not.
    program.signal(Signal::TERM);
    program.wait();
    let root = pebble.root.clone();
    drop(pebble);
    let settings = site.settings();
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let check = place.run_with(&["config", "check"], &settings).ok();
    assert!(check.contains("/dir: until 20"), "{check}");
    let again = start(&place, &site, &[]);
    shown(again.public, NAMES[1], &root, "http/1.1").unwrap();
    assert!(
        !again.log().contains(NONE_YET) && again.metric(FAILED) == 0,
        "{again:?}"
    );
    // For other names it is none.
    let other = [("TONEARM_TLS_ACME_DOMAINS", "third.example.com")];
    start(&place, &site, &other).wait_log(NONE_YET, 1);
}

#[test]
fn a_certificate_comes_by_http() {
    if !has_pebble() {
        return;
    }
    let place = Place::new();
    let site = Site::new(&place);
    let by_http = [
        ("TONEARM_TLS_ACME_CHALLENGE", "http-01"),
        ("TONEARM_TLS_ACME_HTTP_LISTEN", "127.0.0.1:0"),
    ];
    let program = start(&place, &site, &by_http);
    let log = program.wait_log("http-01 is answered on http://", 1);
    let address = log.split("http-01 is answered on http://").nth(1).unwrap();
    let address = address.split_whitespace().next().unwrap().parse().unwrap();
    program.wait_log("no certificate has come", 1);
    for (method, target, status) in [
        ("GET", "/.well-known/acme-challenge/nobodys", 404),
        ("GET", "/metrics", 404),
        ("POST", "/.well-known/acme-challenge/nobodys", 405),
    ] {
        assert_eq!(
            ask(address, method, target, &[]).status,
            status,
            "{method} {target}"
        );
    }
    let ports = Ports {
        http: address.port(),
        life: 86_400,
        ..Ports::default()
    };
    let pebble = site.open(&place, &ports);
    have_it(&program);
    shown(program.public, NAMES[1], &pebble.root, "h2").unwrap();
}

#[test]
fn it_is_renewed_in_time_and_a_renewal_that_fails_keeps_the_old_one() {
    if !has_pebble() {
        return;
    }
    let place = Place::new();
    let (site, program) = early(&place, &[]);
    let ports = Ports {
        tls: program.public.port(),
        life: 12,
        ..Ports::default()
    };
    let pebble = site.open(&place, &ports);
    have_it(&program);
    let own = || {
        shown(program.public, NAMES[0], &pebble.root, "h2")
            .ok()?
            .into_iter()
            .next()
    };
    let first = own().unwrap();
    let second = poll("a second one", || own().filter(|now| *now != first));
    let root = pebble.root.clone();
    drop(pebble);
    let log = program.wait_log("no certificate has come", 2);
    assert!(log.contains("the old certificate stays"), "{log}");
    assert!(program.metric(FAILED) >= 2);
    // It is past its end soon, and still better than none.
    let now = shown(program.public, NAMES[0], &root, "h2");
    assert!(now.is_err() || now.is_ok_and(|now| now[0] == second || now.len() > 1));
    // A directory that has forgotten everything gives another account, once that is known.
    let _pebble = site.open(&place, &ports);
    program.signal(Signal::HUP);
    program.wait_log("accountDoesNotExist", 1);
    let had = program.log().matches("a certificate has come").count();
    program.signal(Signal::HUP);
    program.wait_log("a certificate has come", had + 1);
}

/// RFC 9773: when the directory says, and the order says of which certificate.
#[test]
fn it_is_renewed_when_the_directory_would_like_it() {
    if !has_pebble() {
        return;
    }
    let place = Place::new();
    let site = Site::new(&place);
    let forecast = Forecast::begin(&site);
    let directory = format!("{}/dir", forecast.url);
    let program = start(&place, &site, &[("TONEARM_TLS_ACME_DIRECTORY", &directory)]);
    program.wait_log("no certificate has come", 1);
    let ports = Ports {
        tls: program.public.port(),
        life: 90 * 86_400,
        ..Ports::default()
    };
    let pebble = site.open(&place, &ports);
    forecast.say(
        &site,
        &place,
        ["2100-01-01T00:00:00Z", "2100-01-02T00:00:00Z"],
    );
    have_it(&program);
    let own = || {
        shown(program.public, NAMES[0], &pebble.root, "h2")
            .unwrap()
            .remove(0)
    };
    let first = own();
    // It ends long before that, and has long to go.
    program.signal(Signal::HUP);
    let asked = poll("the question", || {
        Some(forecast.asked()).filter(|asked| !asked.is_empty())
    });
    let (issuer, serial) = asked[0]
        .strip_prefix("/renewal/")
        .unwrap()
        .split_once('.')
        .unwrap();
    assert!(issuer.len() > 20 && serial.len() > 8, "{asked:?}");
    assert_eq!(
        program.metric("tonearm_certificate_orders_total{outcome=\"ok\"}"),
        1
    );
    // Now, and at once.
    forecast.say(
        &site,
        &place,
        ["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"],
    );
    program.signal(Signal::HUP);
    // Pebble passes over what it replaces, which it must not; the next order does without.
    let log = program.wait_log("replaces field mismatch", 1);
    let told = log
        .lines()
        .rfind(|line| line.contains("replaces field mismatch"));
    assert!(
        told.is_some_and(|line| line.contains(issuer) && line.contains(serial)),
        "{log}"
    );
    program.signal(Signal::HUP);
    program.wait_log("a certificate has come", 2);
    poll("the second", || (own() != first).then_some(()));
}

#[test]
fn what_the_directory_could_not_see_is_told() {
    if !has_pebble() {
        return;
    }
    let place = Place::new();
    let (site, program) = early(&place, &[]);
    // It looks where nobody listens.
    let _pebble = site.open(
        &place,
        &Ports {
            tls: 1,
            life: 86_400,
            ..Ports::default()
        },
    );
    program.signal(Signal::HUP);
    let log = program.wait_log("could not see that", 1);
    let line = log
        .lines()
        .find(|line| line.contains("could not see that"))
        .unwrap();
    assert!(
        line.contains("example.com is ours: ") && line.contains("Failed to connect to 127.0.0.1:1"),
        "{line}"
    );
}

#[test]
fn settings_that_will_not_do_are_told_apart() {
    let place = Place::new();
    let domains = ("TONEARM_TLS_ACME_DOMAINS", "rec.example.com");
    for (name, value, problem) in [
        (
            "TONEARM_TLS_ACME_DOMAINS",
            "*.example.com",
            "names with * are not to be had",
        ),
        (
            "TONEARM_TLS_ACME_DOMAINS",
            "rec..example.com",
            "is no name of a host",
        ),
        (
            "TONEARM_TLS_ACME_DOMAINS",
            "192.0.2.1",
            "is no name of a host",
        ),
        (
            "TONEARM_TLS_ACME_DIRECTORY",
            "http://localhost/dir",
            "an https:// URL is needed",
        ),
        ("TONEARM_TLS_ACME_CONTACT", "nobody", "addresses of mail"),
        (
            "TONEARM_TLS_ACME_CHALLENGE",
            "dns-01",
            "tls-alpn-01 or http-01 is needed",
        ),
        ("TONEARM_TLS_ACME_CACHE", "", "a path is needed"),
    ] {
        let ran = place.run_with(&["config", "check"], &[domains, (name, value)]);
        assert_eq!(ran.code, Some(78), "{ran:?}");
        assert!(ran.err.contains(problem), "{ran:?}");
    }
    let both = [
        domains,
        ("TONEARM_TLS_CERTIFICATE", "a"),
        ("TONEARM_TLS_KEY", "b"),
    ];
    let ran = place.run_with(&["config", "check"], &both);
    assert!(
        ran.code == Some(78) && ran.err.contains("leave one out"),
        "{ran:?}"
    );
    place.write(
        "ca.pem",
        "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
        0o644,
    );
    for ca in ["absent.pem", "ca.pem"] {
        let ran = place.run_with(&SERVE, &[domains, ("TONEARM_TLS_ACME_CA_FILE", ca)]);
        assert_eq!(ran.code, Some(78), "{ran:?}");
    }
}

/// RFC 8555 §7.3.4.
#[test]
fn an_account_is_bound_to_one_that_the_directory_knows() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    if !has_pebble() {
        return;
    }
    let binding = [
        ("TONEARM_TLS_ACME_EAB_KEY_ID", "ours"),
        ("TONEARM_TLS_ACME_EAB_KEY_FILE", "eab"),
    ];
    for (key, settings, refused) in [
        (KEY, &[][..], Some("externalAccountRequired")),
        ("AAAA", &binding, Some("external account binding")),
        (KEY, &binding, None),
    ] {
        let place = Place::new();
        place.write("eab", format!("{key}\n"), 0o600);
        let (site, program) = early(&place, settings);
        let ports = Ports {
            tls: program.public.port(),
            life: 86_400,
            binding: Some(("ours", KEY)),
            ..Ports::default()
        };
        let pebble = site.open(&place, &ports);
        let Some(refused) = refused else {
            have_it(&program);
            shown(program.public, NAMES[0], &pebble.root, "h2").unwrap();
            continue;
        };
        program.signal(Signal::HUP);
        program.wait_log(refused, 1);
        assert!(!program.log().contains(KEY));
    }
    let place = Place::new();
    place.write("eab", "not-base64!\n", 0o600);
    let domains = ("TONEARM_TLS_ACME_DOMAINS", NAMES[0]);
    let ran = place.run_with(&SERVE, &[domains, binding[0], binding[1]]);
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(
        ran.err.contains("base64url") && !ran.err.contains("not-base64!"),
        "{ran:?}"
    );
}
