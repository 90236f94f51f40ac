//! Clients: honest ones that seek and look at every byte, and the sockets of the others.

use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of one seek.
const SEEK: u64 = 64 * 1024;
/// Between two seeks of one listener.
const THINK: Duration = Duration::from_millis(5);
const LISTENERS: usize = 4;

/// What byte stands at an offset of every recording.
pub fn byte_at(offset: u64) -> u8 {
    (offset % 251) as u8
}

/// A connection with patience, that a reset ends and leaves no port behind.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(stream)
}

pub fn ask(stream: &mut impl Write, method: &str, target: &str, fields: &str) -> Result<()> {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: rec.example.com\r\n{fields}\r\n");
    Ok(stream.write_all(head.as_bytes())?)
}

/// An answer's head: its status and its lines, in lower case. Reads not a byte more.
pub fn head(stream: &mut TcpStream) -> Result<(u16, String)> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        // As much as is there is looked at before it is taken.
        let seen = stream.peek(&mut buffer)?;
        ensure!(seen > 0, "closed before an answer");
        let before = head.len();
        head.extend_from_slice(&buffer[..seen]);
        let from = before.saturating_sub(3);
        let end = head[from..].windows(4).position(|four| four == b"\r\n\r\n");
        let taken = end.map_or(seen, |end| from + end + 4 - before);
        stream.read_exact(&mut buffer[..taken])?;
        if end.is_some() {
            head.truncate(before + taken);
            break;
        }
        ensure!(head.len() < 64 * 1024, "a head without an end");
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    Ok((status.context("no status")?, text))
}

/// The length that a head tells.
pub fn length(head: &str) -> Result<usize> {
    let value = head.split("\r\ncontent-length: ").nth(1);
    let value = value.and_then(|rest| rest.split("\r\n").next());
    value.context("no length")?.parse().context("no length")
}

/// One answer, whole.
pub fn answer(stream: &mut TcpStream) -> Result<(u16, String, Vec<u8>)> {
    let (status, text) = head(stream)?;
    let mut body = vec![0; length(&text)?];
    stream.read_exact(&mut body)?;
    Ok((status, text, body))
}

/// Asks once, on a connection of its own.
pub fn once(address: SocketAddr, target: &str, fields: &str) -> Result<(u16, String, Vec<u8>)> {
    let mut stream = connect(address)?;
    ask(&mut stream, "GET", target, fields)?;
    answer(&mut stream)
}

/// What honest listeners found.
#[derive(Default)]
pub struct Found {
    pub right: usize,
    pub wrong: usize,
    times: Vec<Duration>,
    /// What went wrong first.
    pub first: Option<String>,
}

impl Found {
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(at).copied().unwrap_or_default()
    }

    pub fn text(&self) -> String {
        let all = self.right + self.wrong;
        let share = 100.0 * self.right as f64 / all.max(1) as f64;
        let (half, p99) = (self.percentile(50), self.percentile(99));
        let mut text = format!("{share:.2} % of {all}, half {half:.1?}, p99 {p99:.1?}");
        if let Some(first) = &self.first {
            text.push_str(" (");
            text.push_str(first);
            text.push(')');
        }
        text
    }
}

/// Listeners that seek until they are stopped.
pub struct Listeners {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Found>>,
}

impl Listeners {
    pub fn start(address: SocketAddr, target: &str, length: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..LISTENERS).map(|_| {
            let (stop, target) = (Arc::clone(&stop), target.to_owned());
            std::thread::spawn(move || listen(address, &target, length, &stop))
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    pub fn stop(self) -> Found {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Found::default();
        for thread in self.threads {
            let found = thread.join().unwrap_or_default();
            all.right += found.right;
            all.wrong += found.wrong;
            all.times.extend(found.times);
            all.first = all.first.or(found.first);
        }
        all
    }

    pub fn for_a_while(address: SocketAddr, target: &str, length: u64, time: Duration) -> Found {
        let listeners = Self::start(address, target, length);
        std::thread::sleep(time);
        listeners.stop()
    }
}

fn listen(address: SocketAddr, target: &str, length: u64, stop: &AtomicBool) -> Found {
    let mut found = Found::default();
    let mut kept = None;
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        match seek(&mut kept, address, target, length) {
            Ok(()) => {
                found.right += 1;
                found.times.push(begin.elapsed());
            }
            Err(error) => {
                kept = None;
                found.wrong += 1;
                found.first.get_or_insert_with(|| format!("{error:#}"));
            }
        }
        std::thread::sleep(THINK);
    }
    found
}

fn seek(
    kept: &mut Option<TcpStream>,
    address: SocketAddr,
    target: &str,
    length: u64,
) -> Result<()> {
    let stream = match kept {
        Some(stream) => stream,
        None => kept.insert(connect(address)?),
    };
    let first = fastrand::u64(0..length - SEEK);
    let range = format!("Range: bytes={first}-{}\r\n", first + SEEK - 1);
    ask(stream, "GET", target, &range)?;
    let (status, _, body) = answer(stream)?;
    ensure!(status == 206, "status {status}");
    ensure!(body.len() as u64 == SEEK, "{} bytes", body.len());
    if !body
        .iter()
        .zip(first..)
        .all(|(byte, at)| *byte == byte_at(at))
    {
        bail!("other bytes");
    }
    Ok(())
}
