//! Attacks by connections: drips, slow readers, idle floods, resets, and descriptors used up.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::net::sockopt;

use crate::client::{Listeners, answer, ask, connect, head, once};
use crate::subject::{BIG, CALL, Place, Subject};

/// How hard it is tried.
#[derive(Clone, Copy)]
pub struct Scale {
    pub drips: usize,
    pub slow: usize,
    pub idle: usize,
    pub resets: usize,
    pub kills: usize,
    pub mutated: usize,
    pub time: Duration,
}

/// Heads that come a byte a second, while honest listeners seek.
pub fn drips(subject: &Subject, target: &str, scale: Scale) -> Result<String> {
    let before = Listeners::for_a_while(subject.public, target, CALL, Duration::from_secs(3));
    let (memory, open) = (subject.resident(), subject.descriptors());
    let stop = AtomicBool::new(false);
    let (found, most, cut) = std::thread::scope(|scope| -> Result<_> {
        let dripping = scope.spawn(|| drip(subject, scale.drips, &stop));
        std::thread::sleep(Duration::from_secs(1));
        let listeners = Listeners::start(subject.public, target, CALL);
        std::thread::sleep(scale.time);
        let most = subject.resident();
        let found = listeners.stop();
        stop.store(true, Ordering::Relaxed);
        let cut = dripping
            .join()
            .ok()
            .context("the dripping thread failed")??;
        Ok((found, most, cut))
    })?;
    Ok(format!(
        "honest {}; without drips p99 {:.1?}; {:.1} KiB a drip; {cut} cut; descriptors {open} -> {}",
        found.text(),
        before.percentile(99),
        (most - memory).max(0.0) / scale.drips as f64,
        settled(subject, open),
    ))
}

fn drip(subject: &Subject, count: usize, stop: &AtomicBool) -> Result<usize> {
    let mut cut = 0;
    let mut drips: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
    while !stop.load(Ordering::Relaxed) {
        for drip in &mut drips {
            if drip.is_none() {
                let mut stream = connect(subject.public)?;
                stream.set_nonblocking(true)?;
                stream.write_all(b"GET /x HTTP/1.1\r\nX-Drip: ")?;
                *drip = Some(stream);
            }
            let Some(stream) = drip else { continue };
            let gone = stream.write(b"a").is_err() || stream.read(&mut [0; 512]).is_ok();
            if gone {
                *drip = None;
                cut += 1;
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(cut)
}

/// Readers of a big file that take 4 KiB a second into a small buffer.
pub fn slow_readers(subject: &Subject, target: &str, scale: Scale) -> Result<String> {
    let (memory, open) = (subject.resident(), subject.descriptors());
    let mut readers = Vec::new();
    for _ in 0..scale.slow {
        let mut stream = connect(subject.public)?;
        sockopt::set_socket_recv_buffer_size(&stream, 8 * 1024)?;
        ask(&mut stream, "GET", target, "")?;
        readers.push(stream);
    }
    let until = Instant::now() + scale.time;
    let mut buffer = [0; 4096];
    while Instant::now() < until {
        for stream in &mut readers {
            let _ = stream.read(&mut buffer)?;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let count = scale.slow as f64;
    let text = format!(
        "{:.1} KiB and {:.0} KiB of kernel memory a reader",
        (subject.resident() - memory).max(0.0) / count,
        subject.queued() / count,
    );
    drop(readers);
    let after = settled(subject, open);
    Ok(format!("{text}; descriptors {open} -> {after}"))
}

/// Connections that asked once and then are silent.
pub fn idle_flood(subject: &Subject, target: &str, scale: Scale) -> Result<String> {
    let (memory, open) = (subject.resident(), subject.descriptors());
    let mut idle = Vec::new();
    for _ in 0..scale.idle {
        let mut stream = connect(subject.public)?;
        ask(&mut stream, "GET", target, "Range: bytes=0-99\r\n")?;
        answer(&mut stream)?;
        idle.push(stream);
    }
    let listeners = Listeners::start(subject.public, target, CALL);
    std::thread::sleep(Duration::from_secs(4));
    let found = listeners.stop();
    let each = (subject.resident() - memory).max(0.0) / scale.idle as f64;
    drop(idle);
    Ok(format!(
        "{} connections, {each:.1} KiB each; honest {}; descriptors {open} -> {}",
        scale.idle,
        found.text(),
        settled(subject, open),
    ))
}

/// Clients that reset the connection in the middle of a body.
pub fn resets(subject: &Subject, target: &str, scale: Scale) -> Result<String> {
    let reset = || -> Result<()> {
        let mut stream = connect(subject.public)?;
        ask(&mut stream, "GET", target, "")?;
        Ok(stream.read_exact(&mut [0; 1024])?)
    };
    // Whatever is allocated once is there.
    for _ in 0..200 {
        reset()?;
    }
    std::thread::sleep(Duration::from_secs(1));
    let (memory, cpu, open) = (subject.resident(), subject.cpu(), subject.descriptors());
    for _ in 0..scale.resets {
        reset()?;
    }
    let after = settled(subject, open);
    Ok(format!(
        "{} resets, {:.3} ms CPU each, {:.0} KiB more; descriptors {open} -> {after}",
        scale.resets,
        (subject.cpu() - cpu) * 1000.0 / scale.resets as f64,
        subject.resident() - memory,
    ))
}

/// Thousands of ranges in one request, of a recording of 16 KiB.
pub fn range_bombs(subject: &Subject, target: &str) -> Result<String> {
    const BOMBS: usize = 2000;
    let mut texts = Vec::new();
    let mut plain = connect(subject.public)?;
    let cpu = subject.cpu();
    for _ in 0..BOMBS {
        ask(&mut plain, "GET", target, "")?;
        answer(&mut plain)?;
    }
    let each = (subject.cpu() - cpu) * 1000.0 / BOMBS as f64;
    texts.push(format!("no range {each:.3} ms CPU"));
    let many: Vec<_> = (0..1000)
        .map(|at| format!("{}-{}", at * 2, at * 2))
        .collect();
    let overlapping = vec!["0-"; 2000];
    for (name, set) in [
        ("apart", many.join(",")),
        ("overlapping", overlapping.join(",")),
    ] {
        let fields = format!("Range: bytes={set}\r\n");
        let mut stream = connect(subject.public)?;
        let cpu = subject.cpu();
        for _ in 0..BOMBS {
            ask(&mut stream, "GET", target, &fields)?;
            answer(&mut stream)?;
        }
        let each = (subject.cpu() - cpu) * 1000.0 / BOMBS as f64;
        texts.push(format!("{name} {each:.3} ms CPU"));
    }
    let mut stream = connect(subject.public)?;
    let sixteen: Vec<_> = (0..16)
        .map(|at| format!("{}-{}", at * 900, at * 900))
        .collect();
    let fields = format!("Range: bytes={}\r\n", sixteen.join(","));
    let cpu = subject.cpu();
    for _ in 0..BOMBS {
        ask(&mut stream, "GET", target, &fields)?;
        answer(&mut stream)?;
    }
    let each = (subject.cpu() - cpu) * 1000.0 / BOMBS as f64;
    texts.push(format!("sixteen parts sent {each:.3} ms CPU"));
    Ok(texts.join(", "))
}

/// More connections and more open recordings than there are descriptors.
pub fn descriptors(place: &Place) -> Result<String> {
    const FILES: usize = 150;
    const CLIENTS: usize = 400;
    let mut targets = Vec::new();
    for number in 0..FILES {
        let name = format!("many-{number}");
        let file = std::fs::File::create(place.recording(&name))?;
        file.set_len(BIG)?;
        targets.push(place.target(&name)?);
    }
    let subject = place.serve(256, &[("TONEARM_LIMITS_CONNECTIONS", "100000")])?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut stream = connect(subject.public)?;
        sockopt::set_socket_recv_buffer_size(&stream, 8 * 1024)?;
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        ask(&mut stream, "GET", &targets[number % FILES], "")?;
        let told = head(&mut stream).ok();
        clients.push((stream, told));
    }
    let told = |status: u16| {
        clients
            .iter()
            .filter(|(_, told)| told.as_ref().is_some_and(|told| told.0 == status))
            .count()
    };
    let refusals = clients
        .iter()
        .filter_map(|(_, told)| told.as_ref().filter(|told| told.0 != 200));
    let stored = refusals
        .filter(|(_, head)| !head.contains("cache-control: no-store"))
        .count();
    let cpu = subject.cpu();
    std::thread::sleep(Duration::from_secs(4));
    let core = (subject.cpu() - cpu) / 4.0;
    let begin = Instant::now();
    let admin = subject.admin.context("no admin listener")?;
    let health = once(admin, "/healthz", "").map(|(status, ..)| status);
    let health_time = begin.elapsed();
    let (served, refused, missing) = (told(200), told(503), told(404));
    let waiting = CLIENTS - clients.iter().filter(|(_, told)| told.is_some()).count();
    drop(clients);
    let begin = Instant::now();
    while !matches!(
        once(subject.public, &targets[0], "Range: bytes=0-9\r\n"),
        Ok((206, ..))
    ) {
        anyhow::ensure!(
            begin.elapsed() < Duration::from_secs(20),
            "it does not recover"
        );
    }
    Ok(format!(
        "256 descriptors, {CLIENTS} clients: {served} x 200, {refused} x 503 ({stored} storable), \
         {missing} x 404, {waiting} wait; {core:.3} core; admin {} in {health_time:.1?}; \
         serving again in {:.1?}",
        health.map_or_else(|error| error.to_string(), |status| status.to_string()),
        begin.elapsed(),
    ))
}

/// How many descriptors are open when nothing goes on any more.
pub fn settled(subject: &Subject, open: usize) -> usize {
    for _ in 0..300 {
        if subject.descriptors() <= open {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    subject.descriptors()
}
