//! How a server starts, and how one that cannot start says so.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::Value;

use crate::harness::program::{Place, Program, Ran, SERVE, TONEARM, has_curl};
use crate::harness::{OWNER, pattern, skips};

/// Stands wherever a secret could.
const SECRET: &str = "c2VjcmV0LW9mLXRoZS10ZXN0LTAxMjM0NTY3ODlhYmM";

fn follow_hint(program: &Program) -> String {
    let output = Command::new("sh").args(["-c", &program.hint]).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[test]
fn the_first_start_makes_a_keyring_and_says_what_to_try() {
    let place = Place::new();
    place.put("call-1.wav", &pattern(1000));
    let program = place.serve();
    let keyring = place.path("keyring.toml");
    let mode = keyring.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    program.wait_log("made a new keyring", 1);
    assert!(
        program.hint.starts_with("curl -s 'http://127.0.0.1:"),
        "{}",
        program.hint
    );
    if !has_curl() {
        return;
    }
    let answer = follow_hint(&program);
    let resolved: Value = serde_json::from_str(&answer).unwrap();
    let url = resolved["authenticatedUrl"].as_str().unwrap();
    let expect = format!("http://{}/media/{OWNER}/call-1.wav?sig=1.k", program.public);
    assert!(url.starts_with(&expect), "{url}");
    let expires: jiff::Timestamp = resolved["expiresAt"].as_str().unwrap().parse().unwrap();
    assert!(url.contains(&format!(".{}.", expires.as_second())), "{url}");
    assert_eq!(program.get(url, &[]).body, pattern(1000));

    let (old, target) = (place.read("keyring.toml"), program.target(url).to_owned());
    drop(program);
    let second = place.serve();
    assert_eq!(place.read("keyring.toml"), old);
    assert_eq!(second.get(&target, &[]).status, 200);
    let log = second.wait_log("tonearm::access", 1);
    assert!(!log.contains("made a new keyring"), "{log}");
}

#[test]
fn an_empty_store_is_served_with_a_word_about_it() {
    let place = Place::new();
    let program = place.serve();
    program.wait_log("there is no recording yet", 1);
    let healthz = format!("curl -s 'http://{}/healthz'", program.admin);
    assert_eq!(program.hint, healthz);
    if has_curl() {
        assert_eq!(follow_hint(&program), "ok\n");
    }
}

/// A start that fails: prints nothing, ends with `code`, and says why in one line.
fn assert_fails(name: &str, ran: &Ran, code: i32, says: &[&str]) {
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(code), ""),
        "{name}: {ran:?}"
    );
    for text in says {
        assert!(ran.err.contains(text), "{name}: {text:?} in {}", ran.err);
    }
    assert!(!ran.err.contains(SECRET), "{name}: {}", ran.err);
}

fn assert_fails_in_one_line(name: &str, ran: &Ran, code: i32, says: &[&str]) {
    assert_fails(name, ran, code, says);
    let causes = ran.err.matches("os error").count();
    assert!(causes <= 1, "{name}: {}", ran.err);
    let one = ran.err.starts_with("tonearm: ") && ran.err.lines().count() == 1;
    assert!(one, "{name}: {}", ran.err);
}

#[test]
fn servers_that_start_at_once_share_one_keyring() {
    let place = Place::new();
    place.put("call.wav", &pattern(10));
    let programs: Vec<Program> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..6).map(|_| scope.spawn(|| place.serve())).collect();
        let ended = starts.into_iter().map(|start| start.join().unwrap());
        ended.collect()
    });
    let url = place.url("call", &programs[0], &[]);
    let target = programs[0].target(&url);
    let mut made = 0;
    for program in &programs {
        assert_eq!(program.get(target, &[]).status, 200);
        let log = program.wait_log("tonearm::access", 1);
        made += log.matches("made a new keyring").count();
    }
    assert_eq!(made, 1);
    let names = std::fs::read_dir(place.path(".")).unwrap();
    assert_eq!(names.count(), 2, "more than storage and keyring.toml");
}

#[test]
fn a_taken_port_is_unavailable() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other) in [
        ("--listen", "--admin-listen"),
        ("--admin-listen", "--listen"),
    ] {
        let place = Place::new();
        let ran = place.run(&["serve", flag, &address, other, "127.0.0.1:0"]);
        let says = [&address, flag, "Address already in use"];
        assert_fails_in_one_line(flag, &ran, 69, &says);
        // What could not start has left nothing behind.
        assert!(!place.path("keyring.toml").exists(), "{flag}");
    }
}

#[test]
fn a_store_that_cannot_be_read_is_an_io_error() {
    let place = Place::new();
    place.write("file", "", 0o600);
    for (storage, says) in [
        ("nowhere", "No such file or directory"),
        ("file", "Not a directory"),
    ] {
        let ran = place.run(&["serve", "--storage", storage]);
        assert_fails_in_one_line(storage, &ran, 74, &[storage, says, "--storage"]);
    }
}

/// Permissions say nothing to root, so the program then runs as somebody else.
#[test]
fn what_may_not_be_read_is_an_io_error() {
    const NOBODY: u32 = 65534;
    for (name, says) in [("storage", "--storage"), ("keyring.toml", "keyring.toml")] {
        let place = Place::new();
        place.run(&["keys", "init"]).ok();
        let program = place.path("program");
        std::fs::copy(TONEARM, &program).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let closed = Permissions::from_mode(0o000);
        std::fs::set_permissions(place.path(name), closed).unwrap();
        let mut command = Command::new(program);
        command.env_clear().current_dir(place.path("."));
        if rustix::process::geteuid().is_root() {
            chown(place.path("."), Some(NOBODY), None).unwrap();
            command.uid(NOBODY);
        }
        let output = command.args(SERVE).output();
        let Ok(output) = output else {
            skips(
                "a directory for temporary files that all may enter",
                "set TMPDIR",
            );
            return;
        };
        let ran = Ran::of(output);
        assert_fails_in_one_line(name, &ran, 74, &[says, "Permission denied"]);
    }
}

#[test]
fn a_wrong_configuration_is_shown_with_its_place() {
    for (name, text, says) in [
        (
            "value",
            "# mine\nlisten = \"8080\"\n",
            &[
                "tonearm.toml:2:10: listen = \"8080\": an address and a port are needed",
                "\n2 | listen = \"8080\"\n  |          ^^^^^^\n",
            ][..],
        ),
        (
            "unknown key",
            "[url]\nbase_tll = \"5m\"\n",
            &[
                "tonearm.toml:2:1: url.base_tll is no setting",
                "\n2 | base_tll = \"5m\"\n  | ^^^^^^^^\n",
            ],
        ),
        (
            "syntax",
            "storage = \"s\nx",
            &["tonearm.toml:2:2: ", "\n2 | x\n  |  ^\n"],
        ),
    ] {
        let place = Place::new();
        place.write("tonearm.toml", text, 0o644);
        for command in [&["serve"][..], &["config", "check"]] {
            let ran = place.run(command);
            assert_fails(name, &ran, 78, says);
            assert!(ran.err.starts_with("tonearm: "), "{name}: {ran:?}");
            assert_eq!(ran.err.lines().count(), 4, "{name}: {}", ran.err);
        }
    }
}

#[test]
fn what_was_typed_wrongly_is_usage_and_what_is_set_wrongly_is_configuration() {
    let place = Place::new();
    for (args, variable, code, says) in [
        (&["serve", "--bogus"][..], "", 2, "--bogus"),
        (&["bogus"], "", 2, "bogus"),
        (&[], "", 2, "Usage"),
        (&["serve", "extra"], "", 2, "extra"),
        (&["serve", "--listen", "8080"], "", 2, "--listen"),
        (&["serve", "--workers", "many"], "", 2, "--workers"),
        (&["serve", "--storage", "ftp://b"], "", 2, "--storage"),
        (
            &["serve", "--public-base-url", "rec.example.com"],
            "",
            2,
            "--public-base-url",
        ),
        (&["serve"], "TONEARM_LISTEN", 78, "TONEARM_LISTEN"),
        (&["serve"], "TONEARM_URL_MAX_TTL", 78, "TONEARM_URL_MAX_TTL"),
        (&["serve", "--config", "none.toml"], "", 78, "none.toml"),
        (
            &["config", "check", "--config", "none.toml"],
            "",
            78,
            "none.toml",
        ),
    ] {
        let ran = match variable {
            "" => place.run(args),
            variable => place.run_with(args, &[(variable, "nonsense")]),
        };
        assert_fails(&format!("{args:?}"), &ran, code, &[says]);
    }
    assert!(!place.path("keyring.toml").exists());
}

#[test]
fn a_keyring_that_will_not_do_is_configuration() {
    let whole = format!("[[key]]\nkid = \"k1\"\nsecret = \"{SECRET}\"\n");
    let weak = "A".repeat(43);
    for (name, mode, text, says) in [
        ("mode", 0o644, whole.clone(), "chmod 600"),
        ("group may write", 0o660, whole.clone(), "chmod 600"),
        (
            "garbage",
            0o600,
            format!("\u{1}{SECRET}"),
            "keyring.toml:1: ",
        ),
        (
            "broken",
            0o600,
            whole.replace("]]\n", "]\n"),
            "keyring.toml:",
        ),
        (
            "bare secret",
            0o600,
            format!("{SECRET}\n"),
            "keyring.toml:1: ",
        ),
        (
            "secret as a name",
            0o600,
            format!("{whole}{SECRET} = 1\n"),
            "keyring.toml:4: ",
        ),
        (
            "secret as kid",
            0o600,
            whole.replace("k1", SECRET),
            "key id",
        ),
        ("empty", 0o600, String::new(), "no key"),
        (
            "no secret",
            0o600,
            "[[key]]\nkid = \"k1\"\n".into(),
            "missing field `secret`",
        ),
        (
            "short",
            0o600,
            whole.replace(SECRET, &SECRET[..20]),
            "at least 32",
        ),
        (
            "weak",
            0o600,
            whole.replace(SECRET, &weak),
            "different byte values",
        ),
        ("twice", 0o600, whole.repeat(2), "two keys"),
        (
            "not base64url",
            0o600,
            whole.replace(SECRET, "s3cr+t"),
            "base64url",
        ),
    ] {
        let place = Place::new();
        place.write("keyring.toml", text, mode);
        for command in [
            &SERVE[..],
            &["keys", "list"],
            &["keys", "rotate"],
            &["config", "check"],
        ] {
            let ran = place.run(command);
            assert_fails_in_one_line(name, &ran, 78, &["keyring.toml", says]);
            assert!(!ran.err.contains("s3cr"), "{}", ran.err);
        }
    }
}

#[test]
fn a_keyring_that_cannot_be_made_is_an_io_error() {
    let place = Place::new();
    std::fs::create_dir(place.path("directory")).unwrap();
    for (keyring, says) in [
        ("nowhere/keyring.toml", "No such file or directory"),
        ("directory", "is a directory"),
    ] {
        let serve = [&SERVE[..], &["--keyring", keyring]].concat();
        assert_fails_in_one_line(keyring, &place.run(&serve), 74, &[keyring, says]);
    }
    let ran = place.run(&["keys", "init", "--keyring", "nowhere/keyring.toml"]);
    assert_fails_in_one_line("init", &ran, 74, &["nowhere/keyring.toml"]);
}
