//! A server that has run out of descriptors: it says so, waits, and goes on by itself.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::harness::program::{Place, Program, ask, poll};

/// Allows so many descriptors.
fn allow(program: &Program, current: u64) {
    let pid = Pid::from_raw(i32::try_from(program.pid()).unwrap());
    let limit = Rlimit {
        current: Some(current),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

fn open(program: &Program) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{}/fd", program.pid()));
    u64::try_from(open.unwrap().count()).unwrap()
}

#[test]
fn out_of_descriptors_nothing_is_missing_and_the_admin_listener_answers() {
    let place = Place::new();
    place.put("call.wav", b"not asked for yet");
    let program = place.serve();
    let url = place.url("call", &program, &[]);
    let mut early = program.connect();
    early.ask("OPTIONS", "*", &[]);
    assert_eq!(early.response("OPTIONS").status, 204);
    // Numbers of descriptors are given from the lowest on.
    allow(&program, open(&program) + 2);
    let late: Vec<_> = (0..10).map(|_| program.connect()).collect();
    program.wait_log("cannot accept", 1);

    early.ask("GET", program.target(&url), &[]);
    let refused = early.response("GET");
    assert_eq!(refused.status, 503, "{program:?}");
    assert_eq!(refused.field("cache-control"), Some("no-store"));
    for _ in 0..20 {
        assert_eq!(ask(program.admin, "GET", "/healthz", &[]).status, 200);
    }
    drop(late);
    poll("it serves again", || {
        (program.get(&url, &[]).status == 200).then_some(())
    });
}
