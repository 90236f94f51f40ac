//! What happens to a running server from outside: files that may not be read any more, and a clock that
//! is set.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::program::{Place, Program, SERVE, TONEARM, ask, past_trust};
use crate::harness::{OWNER, has_peer, pattern};

/// More than the buffers between a server and a client that does not read can hold.
const BIG: usize = 32 << 20;

/// A server for whom modes hold, which is not so for root.
fn serve_as_anybody(place: &Place) -> Program {
    let mut command = Command::new(TONEARM);
    if rustix::process::geteuid().is_root() {
        command = Command::new("setpriv");
        command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
        command.arg(TONEARM);
    }
    command.args(SERVE).env_clear().current_dir(place.path("."));
    Program::start(command)
}

#[test]
fn what_may_not_be_read_any_more_is_an_error_for_the_next_and_whole_for_who_has_begun() {
    let place = Place::new();
    let bytes = pattern(BIG);
    place.put("call.wav", &bytes);
    let program = serve_as_anybody(&place);
    let url = place.url("call", &program, &[]);
    let target = program.target(&url);
    let owner = place.path("storage").join(OWNER);
    for (path, mode) in [(owner.join("call.wav"), 0o644), (owner, 0o755)] {
        let allow = |mode| std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        // It is held open from here on.
        assert_eq!(program.get(&url, &["Range: bytes=0-9"]).status, 206);
        let mut streaming = program.connect();
        streaming.ask("GET", target, &[]);
        assert_eq!(streaming.head().status, 200);
        assert!(streaming.exactly(100_000) == bytes[..100_000]);

        allow(0o000);
        past_trust();
        for range in [&["Range: bytes=0-9"][..], &[]] {
            let refused = program.get(&url, range);
            assert_eq!(refused.status, 500, "{path:?} {program:?}");
            assert_eq!(refused.field("cache-control"), Some("no-store"));
        }
        assert!(streaming.exactly(BIG - 100_000) == bytes[100_000..]);
        // On the connection that it came on, too.
        assert_eq!(streaming.get(target, &[]).status, 500, "{path:?}");

        allow(mode);
        past_trust();
        let again = program.get(&url, &["Range: bytes=5-9"]);
        assert_eq!((again.status, again.body), (206, bytes[5..10].to_vec()));
    }
    assert!(program.log().contains("Permission denied"), "{program:?}");
}

/// The library that has a program see another time, by the program that comes with it.
fn faketime() -> Option<String> {
    if !has_peer("faketime", "apt-get install faketime") {
        return None;
    }
    let mut command = Command::new("faketime");
    command.args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]);
    let library = String::from_utf8(command.output().unwrap().stdout).unwrap();
    Some(library.trim().to_owned())
}

/// A server whose calendar is set by a file.
struct Stepped {
    place: Place,
    program: Program,
}

impl Stepped {
    fn start(library: &str) -> Self {
        let place = Place::new();
        place.put("call.wav", &pattern(BIG));
        place.write("clock", "+0", 0o644);
        let clock = place.path("clock");
        let mut command = place.command(&SERVE);
        command.env("LD_PRELOAD", library);
        command.env("FAKETIME_TIMESTAMP_FILE", clock);
        command.env("FAKETIME_NO_CACHE", "1");
        // Nobody sets that one.
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        // The clock's file is read all the time.
        command.env("TONEARM_CONFINE", "off");
        let program = Program::start(command);
        Self { place, program }
    }

    /// Sets the clock to so many seconds from now. By renaming: half a number is no time.
    fn set(&self, seconds: i64) {
        self.place.write("clock.new", format!("{seconds:+}"), 0o644);
        std::fs::rename(self.place.path("clock.new"), self.place.path("clock")).unwrap();
    }

    /// How many seconds a response's Date is ahead of the real time.
    fn ahead(&self, target: &str) -> i64 {
        let date = self.program.get(target, &["Range: bytes=0-9"]).date();
        let now = std::time::SystemTime::now();
        match date.duration_since(now) {
            Ok(ahead) => i64::try_from(ahead.as_secs()).unwrap(),
            Err(behind) => -i64::try_from(behind.duration().as_secs()).unwrap(),
        }
    }
}

const HOUR: i64 = 3600;

#[test]
fn a_clock_that_is_set_moves_what_is_of_the_calendar_and_cuts_nobody() {
    let Some(library) = faketime() else { return };
    let stepped = Stepped::start(&library);
    let (place, program) = (&stepped.place, &stepped.program);
    // One that an hour ends, and one that holds throughout: the longest would live too long for an
    // earlier clock.
    let short = place.url("call", program, &["--ttl", "15m"]);
    let long = place.url("call", program, &["--ttl", "6h"]);
    let status = |url: &str| program.get(url, &["Range: bytes=0-9"]).status;
    assert_eq!((status(&short), status(&long)), (206, 206));
    let mut streaming = program.connect();
    streaming.ask("GET", program.target(&long), &[]);
    assert_eq!(streaming.head().status, 200);
    let mut idle = program.connect();
    idle.ask("OPTIONS", "*", &[]);
    assert_eq!(idle.response("OPTIONS").status, 204);
    let mut silent = program.connect();

    for (seconds, expired) in [
        (HOUR, true),
        (0, false),
        (-HOUR, false),
        (HOUR, true),
        (0, false),
    ] {
        stepped.set(seconds);
        let what = format!("{seconds}: {program:?}");
        // Each of the workers, and what they hold open.
        for _ in 0..4 {
            assert_eq!(status(&short), if expired { 403 } else { 206 }, "{what}");
            assert_eq!(status(&long), 206, "{what}");
            let ahead = stepped.ahead(&long);
            assert!((ahead - seconds).abs() < 60, "{ahead} {what}");
        }
        // A file that is replaced is seen, whenever that is.
        let path = place.path("storage").join(OWNER);
        let other = vec![u8::try_from(seconds.rem_euclid(251)).unwrap(); 10];
        std::fs::write(path.join("new"), &other).unwrap();
        std::fs::rename(path.join("new"), path.join("call.wav")).unwrap();
        past_trust();
        assert_eq!(program.get(&long, &[]).body, other, "{what}");
        // What waits waits by another clock.
        idle.ask("OPTIONS", "*", &[]);
        assert_eq!(idle.response("OPTIONS").status, 204, "{what}");
        assert_eq!(ask(program.admin, "GET", "/readyz", &[]).status, 200);
    }
    silent.ask("OPTIONS", "*", &[]);
    assert_eq!(silent.response("OPTIONS").status, 204);

    stepped.set(-HOUR);
    program.signal(Signal::TERM);
    program.wait_log("stopping", 1);
    stepped.set(HOUR);
    assert!(streaming.exactly(BIG) == pattern(BIG), "other bytes");
    drop((streaming, idle, silent));
    let Stepped { mut program, .. } = stepped;
    assert_eq!(program.wait(), 0, "{program:?}");
}

#[test]
fn a_key_signs_and_opens_by_the_clock_that_was_set() {
    let Some(library) = faketime() else { return };
    let stepped = Stepped::start(&library);
    let (place, program) = (&stepped.place, &stepped.program);
    let (app, account) = OWNER.split_once('/').unwrap();
    let question =
        format!("/retrieve/authenticated/recordings/call?appId={app}&externalAccountId={account}");
    let kid = || {
        let text = program.get(&question, &[]).text();
        text.split("?sig=1.")
            .nth(1)
            .unwrap()
            .split('.')
            .next()
            .unwrap()
            .to_owned()
    };
    // How far the log's time is ahead at the question that came last.
    let ahead = |questions: usize| {
        let log = program.wait_log("route=\"resolve\"", questions);
        let last = log
            .lines()
            .rfind(|line| line.contains("route=\"resolve\""))
            .unwrap();
        let time: jiff::Timestamp = last.split(' ').next().unwrap().parse().unwrap();
        time.as_second() - jiff::Timestamp::now().as_second()
    };
    let first = kid();
    assert!(ahead(1).abs() < 60, "{program:?}");
    place.run(&["keys", "rotate", "--after", "30m"]).ok();
    program.reload();
    assert_eq!(kid(), first);
    stepped.set(HOUR);
    assert_ne!(kid(), first, "the new key's time has come");
    assert!((ahead(3) - HOUR).abs() < 60, "{program:?}");
    stepped.set(-HOUR);
    assert_eq!(kid(), first, "the old key signs again");
    assert!((ahead(4) + HOUR).abs() < 60, "{program:?}");
}
