//! A reader who does not read.

use std::fs::File;
use std::thread::sleep;
use std::time::{Duration, UNIX_EPOCH};

use super::admin::run_times;
use crate::harness::program::{Place, Program, ask};
use crate::harness::{OWNER, pattern};

/// Milliseconds that the workers run while something else goes on.
fn run_time(program: &Program, meanwhile: impl FnOnce()) -> u64 {
    let sum = || run_times(program).values().sum::<u64>();
    let before = sum();
    meanwhile();
    (sum() - before) / 1_000_000
}

/// What a worker spends on listeners who wait is missing for those who play.
#[test]
fn a_reader_who_stops_costs_no_processor() {
    const LENGTH: usize = 32 << 20;
    let place = Place::new();
    let bytes = pattern(LENGTH);
    place.put("call.wav", &bytes);
    // Of a file that is old, nothing is read into memory.
    let name = place.path("storage").join(OWNER).join("call.wav");
    let file = File::options().write(true).open(name).unwrap();
    file.set_modified(UNIX_EPOCH).unwrap();
    let program = place.serve_with(&["--workers", "1"], &[]);
    let url = place.url("call", &program, &[]);
    let target = program.target(&url);
    // One that begins, and one in the midst of a download, which takes its turns.
    let clients: Vec<_> = [0, 4 << 20]
        .into_iter()
        .map(|taken| {
            let mut client = program.connect();
            client.ask("GET", target, &[]);
            assert_eq!(client.head().status, 200);
            assert!(client.exactly(taken) == bytes[..taken]);
            (client, taken)
        })
        .collect();
    // Until the sockets are full, it writes; one who spins never rests.
    let second = || run_time(&program, || sleep(Duration::from_secs(1)));
    assert!((0..5).any(|_| second() < 20), "it never rests");
    for (mut client, taken) in clients {
        assert!(client.exactly(LENGTH - taken) == bytes[taken..]);
    }
}

/// Whoever asks for what is in memory feels nothing of whoever waits for the disk.
#[test]
fn who_waits_for_the_disk_steps_back() {
    let place = Place::new();
    place.put("call.wav", &pattern(1000));
    let program = place.serve_with(&["--workers", "1"], &[]);
    // A question is answered from the disk.
    let question = "/retrieve/authenticated/recordings/call?appId=12345&externalAccountId=acc";
    ask(program.public, "GET", question, &[]);
    let nice = |wanted: &str| -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap();
        let stats = tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
        // proc_pid_stat(5): the name stands in parentheses, and nice is the 17th behind it.
        let named = stats.filter_map(|stat| {
            let (name, rest) = stat.split_once(") ")?;
            let is_it = name.ends_with(&format!("({wanted}"));
            is_it.then(|| rest.split(' ').nth(16).unwrap().to_owned())
        });
        named.collect()
    };
    assert_eq!(nice("worker"), ["0"]);
    assert!(nice("tokio-rt-worker").contains(&"10".to_owned()));
}
