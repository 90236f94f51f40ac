//! What a stream through `proxy` costs: the time to its first byte, and memory. What a release build
//! makes of it, `benches/delivery.rs` tells.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::program::{WHOSE, of_s3, run};
use crate::harness::bucket::{Fault, FaultyS3, key};
use crate::harness::pattern;
use crate::harness::program::{Place, Program, SERVE, poll};
use crate::harness::raw::Client;
use crate::program::memory::resident;

/// The program over a bucket with one recording, and the target that opens it.
fn served(place: &Place, s3: &FaultyS3, length: usize) -> (Program, String) {
    s3.put(&key("call.wav"), &pattern(length));
    let bucket = of_s3(s3.addr);
    let mut serve = place.command(&SERVE);
    serve.envs(bucket.iter().cloned());
    let program = Program::start(serve);
    let base = format!("http://{}", program.public);
    let args = [&["url", "call", "--base", &base][..], &WHOSE].concat();
    let url = run(place, &bucket, &args).ok();
    let target = url.trim().strip_prefix(&base).unwrap().to_owned();
    (program, target)
}

/// The median of how long the first byte of a few took.
fn first_byte(addr: SocketAddr, target: &str) -> Duration {
    let mut client = Client::connect(addr);
    let mut times: Vec<_> = (0..51)
        .map(|at| {
            let begin = Instant::now();
            client.ask("GET", target, &[&format!("Range: bytes={at}-{at}")]);
            assert_eq!(client.head().status, 206);
            let took = begin.elapsed();
            client.exactly(1);
            took
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
fn the_first_byte_comes_within_two_milliseconds_of_the_stores_own() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    let (program, target) = served(&place, &s3, 10_000);
    let of_the_store = format!("/bucket/{}", key("call.wav"));
    // Beside other tests a measurement may be anything; one that is undisturbed has to be there.
    poll("the first byte comes soon", || {
        let own = first_byte(s3.addr, &of_the_store);
        let through = first_byte(program.public, &target);
        println!("the store {own:?}, through proxy {through:?}");
        (through < own + Duration::from_millis(2)).then_some(())
    });
}

#[test]
fn who_does_not_read_costs_the_same_whatever_the_recordings_size() {
    const READERS: usize = 12;
    /// Most bytes of memory for one.
    const MOST: usize = 512 * 1024;
    for length in [8 << 20, 20 << 20] {
        let (place, s3) = (Place::new(), FaultyS3::start());
        let (program, target) = served(&place, &s3, length);
        assert_eq!(program.get(&target, &["Range: bytes=0-99"]).status, 206);
        let before = resident(&program);
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let mut reader = Client::connect(program.public);
                reader.set_receive_buffer(8 * 1024);
                reader.ask("GET", &target, &[]);
                assert_eq!(reader.head().status, 200);
                reader
            })
            .collect();
        // Until all is full that can be.
        let most = (0..10).map(|_| {
            std::thread::sleep(Duration::from_millis(100));
            resident(&program)
        });
        let each = most.max().unwrap().saturating_sub(before) / READERS;
        println!("{length}: {each} bytes a reader");
        assert!(each <= MOST, "{each} bytes of each with {length}");
        drop(readers);
    }
}

#[test]
fn a_store_that_is_busy_for_a_moment_is_asked_again() {
    let (place, s3) = (Place::new(), FaultyS3::start());
    let (program, target) = served(&place, &s3, 10_000);
    s3.asked();
    s3.faults([Fault::Status(503), Fault::Status(500)]);
    let answer = program.get(&target, &["Range: bytes=0-99"]);
    assert_eq!((answer.status, answer.body), (206, pattern(100)));
    let asked = format!("GET {} 0-99", key("call.wav"));
    assert_eq!(s3.asked().iter().filter(|line| **line == asked).count(), 3);
}
