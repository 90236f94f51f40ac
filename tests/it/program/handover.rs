//! A socket that a service manager keeps: a restart refuses nobody.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::harness::pattern;
use crate::harness::program::{Place, Program, TONEARM, ask, poll};

/// What systemd does: the socket is descriptor 3, and the variables say so.
const HAND_OVER: &str = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ exec "$@""#;

fn command(place: &Place, listener: &TcpListener, names: Option<&str>, flags: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", HAND_OVER, "sh", TONEARM, "serve"]);
    command.args(flags).env_clear().env("LISTEN_FDS", "1");
    command.envs(names.map(|names| ("LISTEN_FDNAMES", names)));
    command.current_dir(place.path(""));
    command.stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())));
    command
}

fn restart(place: &Place, listener: &TcpListener) -> Program {
    let flags = ["--admin-listen", "127.0.0.1:0", "--workers", "2"];
    Program::begin(command(place, listener, None, &flags))
}

#[test]
fn a_restart_under_load_refuses_nobody() {
    const RESTARTS: usize = 3;
    let place = Place::new();
    place.put("call.wav", &pattern(1000));
    place.put("long.wav", &pattern(32 << 20));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut program = restart(&place, &listener);
    assert_eq!(program.public, addr);
    let url = place.url("call", &program, &[]);
    let target = program.target(&url).to_owned();
    let url = place.url("long", &program, &[]);
    let long = program.target(&url).to_owned();
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (target, done, answered) = (&target, &done, &answered);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let response = ask(addr, "GET", target, &["Range: bytes=-100"]);
                    assert_eq!((response.status, response.body.len()), (206, 100));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = || {
            let until = answered.load(Ordering::Relaxed) + 50;
            poll("answers", || {
                (answered.load(Ordering::Relaxed) > until).then_some(())
            });
        };
        for _ in 0..RESTARTS {
            more();
            let mut download = program.connect();
            download.ask("GET", &long, &[]);
            assert_eq!(download.head().status, 200);
            program.signal(Signal::TERM);
            assert!(download.exactly(32 << 20) == pattern(32 << 20));
            assert_eq!(program.wait(), 0, "{program:?}");
            program = restart(&place, &listener);
        }
        more();
        done.store(true, Ordering::Relaxed);
    });
    println!("{} requests in {RESTARTS} restarts", answered.into_inner());
}

#[test]
fn a_socket_is_of_the_listener_it_is_named_for() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let flags = ["--listen", "127.0.0.1:0"];
    let program = Program::begin(command(&place, &listener, Some("admin"), &flags));
    assert_eq!(program.admin, addr);
    assert_ne!(program.public, addr);
    assert_eq!(ask(addr, "GET", "/healthz", &[]).status, 200);
}

#[test]
fn what_is_no_listening_socket_is_no_start() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    for (what, stdin, says) in [
        ("a file", Stdio::null(), "is not a socket"),
        (
            "a connection",
            Stdio::from(OwnedFd::from(stream)),
            "does not listen",
        ),
    ] {
        let mut command = command(&place, &listener, None, &[]);
        let output = command.stdin(stdin).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{what}: {said}");
        assert!(said.contains(says), "{what}: {said}");
    }
}
