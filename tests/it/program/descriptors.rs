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

/// The limit that leaves so many numbers free. Those that it has from its parent may be high ones.
fn limit_with_free(program: &Program, free: usize) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{}/fd", program.pid())).unwrap();
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
    let open: Vec<u64> = open
        .map(|entry| name(entry.unwrap()).parse().unwrap())
        .collect();
    let mut unused = (0..).filter(|number| !open.contains(number));
    unused.nth(free).unwrap()
}

#[test]
fn out_of_descriptors_nothing_is_missing_and_the_admin_listener_answers() {
    /// Numbers left free: fewer than come at once, and enough to serve with afterwards.
    const FREE: usize = 24;
    const LATE: usize = 64;
    let place = Place::new();
    place.put("call.wav", b"not asked for yet");
    // However slow the machine, whoever has a descriptor keeps it until the test says otherwise.
    let patient = [
        ("TONEARM_LIMITS_HEADER_TIMEOUT", "10m"),
        ("TONEARM_LIMITS_IDLE_TIMEOUT", "10m"),
    ];
    let program = place.serve_with(&[], &patient);
    let url = place.url("call", &program, &[]);
    // Its addresses are told before it has all the descriptors it starts with; the admin listener
    // answers when it has.
    assert_eq!(ask(program.admin, "GET", "/healthz", &[]).status, 200);
    let mut early = program.connect();
    early.ask("OPTIONS", "*", &[]);
    assert_eq!(early.response("OPTIONS").status, 204);
    allow(&program, limit_with_free(&program, FREE));
    let late: Vec<_> = (0..LATE).map(|_| program.connect()).collect();
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
