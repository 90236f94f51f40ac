//! Requests of the fuzzer's corpus with bytes changed, doubled, cut and spliced: each gets an answer that
//! a client may get, or an end, and the server is none the worse. `benches/soak` sends 200,000.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;

use crate::harness::{Server, TOKEN, pattern};

const CLIENTS: u64 = 4;
/// Of each client.
const REQUESTS: usize = 2500;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/request");
    let token = TOKEN.split(' ').next_back().unwrap();
    let seed = |entry: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read(entry.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&text).replace("{url}", target);
        text.replace("{token}", token).into_bytes()
    };
    std::fs::read_dir(corpus).unwrap().map(seed).collect()
}

fn mutation(random: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.choice(seeds).unwrap().clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=bytes.len());
        match random.u8(..5) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes.truncate(at),
            3 => {
                let other = random.choice(seeds).unwrap();
                bytes.truncate(at);
                bytes.extend(&other[random.usize(..=other.len())..]);
            }
            _ => {
                let again: Vec<u8> = bytes[at..].iter().take(16).copied().collect();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

/// The statuses of all that looks like an answer to it, and whether they may be stored.
fn check_answer(server: &Server, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(server.addr).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // A server that has refused it need not read it.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "no end: {bytes:?}"
        );
    }
    let text = String::from_utf8_lossy(&answer);
    if !text.starts_with("HTTP/1.") {
        return false;
    }
    let status: u16 = text[9..12].parse().unwrap();
    let what = || format!("{text} to {}", String::from_utf8_lossy(bytes));
    assert!(status < 500 || matches!(status, 501 | 505), "{}", what());
    let head = text.split("\r\n\r\n").next().unwrap();
    assert!(
        status < 400 || head.contains("cache-control: no-store"),
        "{}",
        what()
    );
    true
}

#[test]
fn mutated_requests_are_answered_or_ended_and_leave_nothing() {
    let server = Server::taking_in();
    server.put("call.wav", 1000);
    let target = server.sign("call.wav");
    let seeds = seeds(&target);
    let answered = std::thread::scope(|scope| {
        let client = |seed| {
            let (server, seeds) = (&server, &seeds);
            scope.spawn(move || {
                // Reproducible, each its own.
                let mut random = Rng::with_seed(seed);
                let sent = (0..REQUESTS).map(|_| mutation(&mut random, seeds));
                sent.filter(|bytes| check_answer(server, bytes)).count()
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum::<usize>()
    });
    let all = usize::try_from(CLIENTS).unwrap() * REQUESTS;
    assert!(
        answered > all / 2,
        "{answered} of {all} were answered at all"
    );
    let after = server.get(&target, &[]);
    assert_eq!((after.status, after.body), (200, pattern(1000)));
    server.wait_for_metric("tonearm_connections 0");
}
