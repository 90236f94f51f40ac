//! What those cost who ask and do not read.

use crate::harness::frames::{DATA, END_STREAM_AND_HEADERS, HEADERS, Raw, block, frame};
use crate::harness::pattern;
use crate::harness::program::{Place, Program, poll};

/// Bytes that the program has in memory.
pub fn resident(program: &Program) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() * 1024
}

#[test]
fn a_stream_whose_window_is_shut_costs_little() {
    const CONNECTIONS: usize = 8;
    const STREAMS: u32 = 128;
    /// Most bytes of memory for one.
    const MOST: usize = 64 * 1024;
    let place = Place::new();
    place.put("call.wav", &pattern(1 << 20));
    // Never a byte; one; what two reads bring, and a part of the next.
    for window in [0, 1, 40_000] {
        let program = place.serve();
        let url = place.url("call", &program, &[]);
        let block = block("GET", program.target(&url));
        let before = resident(&program);
        let attackers: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let mut raw = Raw::connect(program.public, &[(4, window)]);
                // Of the connection there is enough.
                raw.send(&frame(8, 0, 0, &0x3fff_0000_u32.to_be_bytes()));
                for at in 0..STREAMS {
                    raw.send(&frame(HEADERS, END_STREAM_AND_HEADERS, at * 2 + 1, &block));
                }
                let (mut heads, mut bytes) = (0, 0);
                while heads < STREAMS || bytes < STREAMS * window {
                    let frame = raw.next().expect("no end yet");
                    match frame.kind {
                        HEADERS => heads += 1,
                        DATA => bytes += u32::try_from(frame.payload.len()).unwrap(),
                        _ => {}
                    }
                }
                raw
            })
            .collect();
        let streams = CONNECTIONS * usize::try_from(STREAMS).unwrap();
        let each = resident(&program).saturating_sub(before) / streams;
        assert!(each <= MOST, "{each} bytes of each stream with {window}");
        println!("window {window}: {each} bytes a stream");
        drop(attackers);
    }
}

/// Of those who asked once, and of those who are in the midst of a head.
#[cfg(feature = "jemalloc")]
#[test]
fn a_connection_that_says_little_costs_little() {
    const CONNECTIONS: usize = 400;
    let place = Place::new();
    place.put("call.wav", &pattern(1 << 16));
    for (begun, most) in [("", 8 * 1024), ("GET /x HTTP/1.1\r\nX-Drip: ", 24 * 1024)] {
        let program = place.serve();
        let url = place.url("call", &program, &[]);
        let connect = || {
            let mut client = program.connect();
            if begun.is_empty() {
                client.ask("GET", program.target(&url), &[]);
                assert_eq!(client.response("GET").status, 200);
            } else {
                client.send(begun.as_bytes());
            }
            client
        };
        // Whatever is had once is there.
        drop((0..8).map(|_| connect()).collect::<Vec<_>>());
        let before = resident(&program);
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
        poll("pages are given back", || {
            let each = resident(&program).saturating_sub(before) / CONNECTIONS;
            (each <= most).then_some(())
        });
        drop(clients);
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_reader_of_tls_who_stops_costs_little() {
    use crate::harness::tls::{Made, connect};
    use rustls::version::TLS13;

    const READERS: usize = 200;
    /// Most bytes of memory for one.
    const MOST: usize = 160 * 1024;
    let (place, made) = (Place::new(), Made::new());
    place.put("call.wav", &pattern(16 << 20));
    made.write(&place);
    let settings = [
        ("TONEARM_TLS_CERTIFICATE", "cert.pem"),
        ("TONEARM_TLS_KEY", "key.pem"),
    ];
    let program = place.serve_with(&[], &settings);
    let url = place.url("call", &program, &[]);
    let target = url.split_once("/media/").unwrap().1;
    let config = made.client(&[&TLS13], &["http/1.1"]);
    let idle = resident(&program);
    let mut readers: Vec<_> = (0..READERS)
        .map(|_| connect(program.public, &config))
        .collect();
    let connected = resident(&program);
    for reader in &mut readers {
        reader.set_receive_buffer(8 * 1024);
        reader.ask("GET", &format!("/media/{target}"), &[]);
        reader.head();
    }
    // What the kernel takes at once is not what it takes in the end.
    let most = (0..15).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        resident(&program)
    });
    let each = most.max().unwrap().saturating_sub(connected) / READERS;
    let open = connected.saturating_sub(idle) / READERS;
    println!("{open} bytes a connection, {each} bytes a reader who stops");
    assert!(each <= MOST && open <= 64 * 1024, "{open} {each}");
}
