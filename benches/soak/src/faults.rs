//! Faults: kills, a full disk, stops and reloads under load, and requests that are none.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::client::{Listeners, answer, ask, connect, head, length, once};
use crate::connections::{Scale, settled};
use crate::subject::{CALL, Place, Subject, TOKEN};

/// A WAV whose sound is unlike any other's.
fn wav(seed: u32, length: u32) -> Vec<u8> {
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + length).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0\x40\x1f\0\0\0\x7d\0\0\x04\0\x10\0data");
    bytes.extend(length.to_le_bytes());
    let mut sound = fastrand::Rng::with_seed(seed.into());
    bytes.extend((0..length).map(|_| sound.u8(..)));
    bytes
}

fn put(address: SocketAddr, id: &str, bytes: &[u8]) -> Result<u16> {
    let mut stream = connect(address)?;
    let fields = format!("{TOKEN}Content-Length: {}\r\n", bytes.len());
    ask(
        &mut stream,
        "PUT",
        &format!("/api/v1/recordings/1/2/{id}"),
        &fields,
    )?;
    // A server that has refused it need not read it.
    let _ = stream.write_all(bytes);
    Ok(head(&mut stream)?.0)
}

/// kill -9 at any moment of four recordings being brought; what was acknowledged is there, what is
/// there is whole.
pub fn kills(place: &Place, scale: Scale) -> Result<String> {
    let acknowledged = Mutex::new(Vec::new());
    let (mut slowest, mut brought) = (Duration::ZERO, 0_u32);
    for _ in 0..scale.kills {
        let subject = place.serve(1024, &[])?;
        let address = subject.public;
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (acknowledged, number) = (&acknowledged, brought + worker * 1000);
                scope.spawn(move || {
                    for at in 0..1000 {
                        let number = number + at;
                        match put(address, &format!("k{number}"), &wav(number, LENGTH)) {
                            Ok(201) => acknowledged
                                .lock()
                                .into_iter()
                                .for_each(|mut all| all.push(number)),
                            Ok(_) => {}
                            Err(_) => return,
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_micros(fastrand::u64(0..60_000)));
            let _ = subject.signal(Signal::KILL);
        });
        brought += 4000;
        drop(subject);
        let begin = Instant::now();
        let again = place.serve(1024, &[])?;
        let target = place_target(place)?;
        let (status, _, body) = once(again.public, &target, "Range: bytes=0-99\r\n")?;
        ensure!(
            status == 206 && body.len() == 100,
            "wrong bytes after a kill"
        );
        slowest = slowest.max(begin.elapsed());
    }
    let acknowledged = acknowledged.into_inner().unwrap_or_default();
    let lost = acknowledged
        .iter()
        .filter(|number| !is_whole(place, **number))
        .count();
    let (mut there, mut torn) = (0, 0);
    for entry in std::fs::read_dir(place.path("store/1/2"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name
            .strip_prefix('k')
            .and_then(|rest| rest.strip_suffix(".wav"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            there += 1;
            torn += u32::from(!is_whole(place, number));
        }
    }
    Ok(format!(
        "{} kills: {} acknowledged, {there} there, {torn} torn, {lost} lost; right bytes within {slowest:.0?} of starting",
        scale.kills,
        acknowledged.len(),
    ))
}

/// Length of each recording that is brought.
const LENGTH: u32 = 200_000;

fn is_whole(place: &Place, number: u32) -> bool {
    let bytes = std::fs::read(place.recording(&format!("k{number}")));
    bytes.is_ok_and(|bytes| bytes == wav(number, LENGTH))
}

/// A target is minted once: a process costs more than what is measured.
fn place_target(place: &Place) -> Result<String> {
    static TARGET: Mutex<Option<String>> = Mutex::new(None);
    let mut target = TARGET.lock().ok().context("poisoned")?;
    if target.is_none() {
        *target = Some(place.target("call")?);
    }
    target.clone().context("no target")
}

/// A store of eight megabytes: what does not fit is refused, what fits is taken, nothing is left.
pub fn full_disk(place: &Place) -> Result<String> {
    let mount = place.path("small");
    std::fs::create_dir(&mount)?;
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        .arg(&mount)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return Ok("skipped: only root may mount a small file system".to_owned());
    }
    let result = fill(place, &mount);
    let _ = Command::new("umount").arg("-l").arg(&mount).status();
    result
}

fn fill(place: &Place, mount: &Path) -> Result<String> {
    let storage = mount.to_str().context("no path")?;
    let subject = place.serve_from(storage, 1024, &[])?;
    let told = put(subject.public, "told", &wav(1, 20 << 20))?;
    // In chunks nobody knows the length before the disk is full.
    let mut stream = connect(subject.public)?;
    let fields = format!("{TOKEN}Transfer-Encoding: chunked\r\n");
    ask(&mut stream, "PUT", "/api/v1/recordings/1/2/untold", &fields)?;
    let untold = {
        let bytes = wav(2, 20 << 20);
        for chunk in bytes.chunks(1 << 16) {
            let head = format!("{:x}\r\n", chunk.len());
            if stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(chunk))
                .and_then(|()| stream.write_all(b"\r\n"))
                .is_err()
            {
                break;
            }
        }
        let _ = stream.write_all(b"0\r\n\r\n");
        head(&mut stream).map_or(0, |(status, _)| status)
    };
    let fits = put(subject.public, "fits", &wav(3, 1 << 20))?;
    let left = std::fs::read_dir(mount.join("+incoming")).map_or(0, Iterator::count);
    Ok(format!(
        "20 MB into 8: {told}, in chunks {untold}; 1 MB then {fits}; {left} files left over"
    ))
}

/// SIGTERM with a hundred downloads under way.
pub fn stop_under_load(place: &Place, target: &str) -> Result<String> {
    const CLIENTS: usize = 100;
    let mut subject = place.serve(4096, &[])?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = connect(subject.public)?;
        ask(&mut stream, "GET", target, "")?;
        let (status, text) = head(&mut stream)?;
        ensure!(status == 200, "{status}");
        clients.push((stream, length(&text)?));
    }
    let begin = Instant::now();
    subject.signal(Signal::TERM)?;
    let mut refused = None;
    while refused.is_none() && begin.elapsed() < Duration::from_secs(5) {
        match std::net::TcpStream::connect(subject.public) {
            Err(_) => refused = Some(begin.elapsed()),
            Ok(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    let threads = clients.into_iter().map(|(mut stream, length)| {
        std::thread::spawn(move || {
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).is_ok_and(|()| {
                bytes
                    .iter()
                    .zip(0..)
                    .all(|(byte, at)| *byte == crate::client::byte_at(at))
            })
        })
    });
    let threads: Vec<_> = threads.collect();
    let whole = threads
        .into_iter()
        .filter_map(|thread| thread.join().ok())
        .filter(|whole| *whole)
        .count();
    let code = subject.wait()?.code();
    Ok(format!(
        "{whole} of {CLIENTS} downloads of {} MB complete; connections refused after {:.0?}; exit {} after {:.1?}",
        CALL >> 20,
        refused.unwrap_or_default(),
        code.map_or("by a signal".to_owned(), |code| code.to_string()),
        begin.elapsed(),
    ))
}

/// SIGHUP again and again while listeners seek.
pub fn reloads(subject: &Subject, target: &str) -> Result<String> {
    const RELOADS: usize = 100;
    let listeners = Listeners::start(subject.public, target, CALL);
    for _ in 0..RELOADS {
        subject.signal(Signal::HUP)?;
        std::thread::sleep(Duration::from_millis(30));
    }
    Ok(format!(
        "{RELOADS} reloads: honest {}",
        listeners.stop().text()
    ))
}

/// Requests with bytes changed, doubled, cut and spliced; seeds are the fuzzer's.
pub fn mutated(subject: &mut Subject, target: &str, scale: Scale) -> Result<String> {
    let seeds = seeds(target)?;
    let (memory, open) = (subject.resident(), subject.descriptors());
    let (answers, failures) = mutate(subject.public, &seeds, scale.mutated)?;
    ensure!(subject.is_alive(), "it has ended");
    let (status, ..) = once(subject.public, target, "Range: bytes=0-9\r\n")?;
    Ok(format!(
        "{} requests: {answers} answers, {failures} of them 5xx or no end in 10 s, then {status}; \
         {:.0} KiB more; descriptors {open} -> {}",
        scale.mutated,
        subject.resident() - memory,
        settled(subject, open),
    ))
}

fn seeds(target: &str) -> Result<Vec<Vec<u8>>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/request");
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(corpus)? {
        let text = String::from_utf8_lossy(&std::fs::read(entry?.path())?).into_owned();
        let token = "a".repeat(32);
        seeds.push(
            text.replace("{url}", target)
                .replace("{token}", &token)
                .into_bytes(),
        );
    }
    Ok(seeds)
}

/// So many of them by four clients: how many were answered, and how many wrongly.
fn mutate(address: SocketAddr, seeds: &[Vec<u8>], count: usize) -> Result<(usize, usize)> {
    const CLIENTS: usize = 4;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| -> Result<(usize, usize)> {
                    let (mut answers, mut failures) = (0, 0);
                    for _ in 0..count / CLIENTS {
                        match send(address, &mutation(seeds))? {
                            Some(true) => answers += 1,
                            Some(false) => failures += 1,
                            None => {}
                        }
                    }
                    Ok((answers, failures))
                })
            })
            .collect();
        let mut all = (0, 0);
        for thread in threads {
            let (answers, failures) = thread.join().ok().context("a client failed")??;
            all = (all.0 + answers + failures, all.1 + failures);
        }
        Ok(all)
    })
}

fn mutation(seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[fastrand::usize(..seeds.len())].clone();
    for _ in 0..fastrand::usize(1..6) {
        let at = fastrand::usize(..=bytes.len());
        match fastrand::u8(..5) {
            0 if at < bytes.len() => bytes[at] = fastrand::u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << fastrand::u8(..8),
            2 => bytes.truncate(at),
            3 => {
                let other = &seeds[fastrand::usize(..seeds.len())];
                let from = fastrand::usize(..=other.len());
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            _ => {
                let again: Vec<u8> = bytes[at..].iter().take(16).copied().collect();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

/// Sends it, and says whether the answer is one that a client may get; `None` where there is none.
fn send(address: SocketAddr, bytes: &[u8]) -> Result<Option<bool>> {
    let mut stream = connect(address)?;
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.take(1 << 20).read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(Some(false)),
        _ => {}
    }
    if !answer.starts_with(b"HTTP/1.") {
        return Ok((!answer.is_empty()).then_some(true));
    }
    let status = answer.get(9..12).map(String::from_utf8_lossy);
    let status = status.and_then(|status| status.parse::<u16>().ok());
    Ok(Some(status.is_some_and(|status| {
        status < 500 || matches!(status, 501 | 505)
    })))
}

/// Everything at once for so long; what grows from the first quarter to the last.
pub fn soak(subject: &mut Subject, target: &str, time: Duration) -> Result<String> {
    let seeds = seeds(target)?;
    let (begin, mut samples) = (Instant::now(), Vec::new());
    let listeners = Listeners::start(subject.public, target, CALL);
    let (mut resets, mut strange, mut failures) = (0_u64, 0, 0);
    while begin.elapsed() < time {
        let (_, failed) = mutate(subject.public, &seeds, 400)?;
        (strange, failures) = (strange + 400, failures + failed);
        for _ in 0..50 {
            let mut stream = connect(subject.public)?;
            ask(&mut stream, "GET", target, "")?;
            stream.read_exact(&mut [0; 1024])?;
            resets += 1;
        }
        let mut stream = connect(subject.public)?;
        ask(&mut stream, "GET", target, "")?;
        ensure!(answer(&mut stream)?.0 == 200, "a download fails");
        samples.push((subject.resident(), subject.descriptors()));
    }
    let found = listeners.stop();
    ensure!(subject.is_alive(), "it has ended");
    let quarter = (samples.len() / 4).max(1);
    let most = |samples: &[(f64, usize)]| {
        samples.iter().fold((0.0_f64, 0), |most, sample| {
            (most.0.max(sample.0), most.1.max(sample.1))
        })
    };
    let (first, last) = (
        most(&samples[..quarter]),
        most(&samples[samples.len() - quarter..]),
    );
    Ok(format!(
        "{:.0?}: honest {}; {resets} resets, {strange} mutated, {failures} failures; most resident in the \
         first quarter {:.0} KiB, in the last {:.0} KiB; descriptors {} and {}",
        begin.elapsed(),
        found.text(),
        first.0,
        last.0,
        first.1,
        last.1,
    ))
}
