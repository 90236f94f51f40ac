//! Seeks timed by the kernel: from before a request is sent to when the last of what is wanted of its answer came
//! to the socket.
//!
//! On a core that reads downloads as fast as it can, a generator's own clock tells of the generator, which
//! comes to what has arrived when it has the time.

use std::io::{IoSliceMut, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, ensure};
use nix::cmsg_space;
use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;

use crate::pattern::{FILE_LENGTH, Pattern, Random};

/// Bytes of a seek, or of its beginning.
const SIZE: usize = 64 * 1024;
/// Most bytes of an answer's head.
const MAX_HEAD: usize = 4 * 1024;
/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Listeners who seek, each on a connection and a thread of its own.
pub(crate) struct Listeners<'a> {
    pub(crate) address: SocketAddr,
    /// Of the first files of the pattern, in its order.
    pub(crate) targets: &'a [String],
    pub(crate) pattern: &'a Pattern,
    pub(crate) count: u32,
    /// Seeks a second of all of them.
    pub(crate) rate: f64,
    /// They ask without an end, as players do, and break off when they have the beginning.
    pub(crate) open_ended: bool,
    /// [`stamped`], for as long as they listen.
    #[expect(dead_code, reason = "it is held")]
    pub(crate) stamped: TcpStream,
}

impl Listeners<'_> {
    /// How long each seek took that began within `window`, which begins `after` a while.
    pub(crate) fn listen(
        &self,
        after: Duration,
        window: Duration,
    ) -> anyhow::Result<Vec<Duration>> {
        let begin = Instant::now() + after;
        scope(|scope| {
            let listener = |number| move || self.seek(number, begin, begin + window);
            let all: Vec<_> = (0..self.count)
                .map(|number| scope.spawn(listener(number)))
                .collect();
            let mut seeks = Vec::new();
            for one in all {
                seeks.extend(one.join().map_err(|_| anyhow!("a listener panicked"))??);
            }
            let untold = seeks.iter().filter(|(_, is_told)| !is_told).count();
            ensure!(
                untold <= seeks.len() / 100,
                "the kernel does not tell when {untold} of {} came",
                seeks.len()
            );
            Ok(seeks.into_iter().map(|(took, _)| took).collect())
        })
    }

    /// How long each seek of one of them took, and whether the kernel has told.
    fn seek(
        &self,
        number: u32,
        begin: Instant,
        end: Instant,
    ) -> anyhow::Result<Vec<(Duration, bool)>> {
        let mut stream = self.connect()?;
        let period = Duration::from_secs_f64(f64::from(self.count) / self.rate);
        let mut random = Random::new(number.into());
        let mut buffer = vec![0; MAX_HEAD + SIZE];
        let mut seeks = Vec::new();
        let mut next = begin + period * number / self.count;
        while next < end {
            sleep(next.saturating_duration_since(Instant::now()));
            let file = random.below(self.targets.len());
            let first = random.below(FILE_LENGTH as usize - SIZE);
            seeks.push(self.one(&mut stream, file, first, &mut buffer)?);
            if self.open_ended {
                // Closed with bytes unread, the other is reset.
                stream = self.connect()?;
            }
            next = (next + period).max(Instant::now());
        }
        Ok(seeks)
    }

    fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        setsockopt(&stream, ReceiveTimestampns, &true)?;
        Ok(stream)
    }

    /// How long it took, and whether the kernel has told: it does not of a few that wait behind much else.
    fn one(
        &self,
        stream: &mut TcpStream,
        file: usize,
        first: usize,
        buffer: &mut [u8],
    ) -> anyhow::Result<(Duration, bool)> {
        let (target, last) = (&self.targets[file], first + SIZE - 1);
        let host = self.address;
        let end = if self.open_ended {
            String::new()
        } else {
            last.to_string()
        };
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nRange: bytes={first}-{end}\r\n\r\n");
        let begun = SystemTime::now().duration_since(UNIX_EPOCH)?;
        stream.write_all(request.as_bytes())?;
        let (mut got, mut body) = (0, None);
        loop {
            let (count, arrived) = receive(stream, &mut buffer[got..])?;
            got += count;
            if body.is_none() {
                body = head(&buffer[..got])?;
            }
            let Some(body) = body.filter(|body| got >= body + SIZE) else {
                continue;
            };
            let expected = &self.pattern.file(file)[first..=last];
            ensure!(
                buffer[body..body + SIZE] == *expected,
                "wrong bytes at {first} of {target}"
            );
            // Who has it knows that it has come.
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            let took = arrived.unwrap_or(now).saturating_sub(begun);
            return Ok((took, arrived.is_some()));
        }
    }
}

/// A socket that the kernel tells when something came to. It begins to tell any a while after the first asks for it,
/// which is waited for, and ceases with the last: as long as there is this one, it does at once.
pub(crate) fn stamped() -> anyhow::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut there = TcpStream::connect(listener.local_addr()?)?;
    there.set_nodelay(true)?;
    let (here, _) = listener.accept()?;
    setsockopt(&here, ReceiveTimestampns, &true)?;
    let begun = Instant::now();
    loop {
        there.write_all(&[0])?;
        if receive(&here, &mut [0])?.1.is_some() {
            return Ok(here);
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "the kernel does not tell when anything comes"
        );
        sleep(Duration::from_millis(1));
    }
}

/// Where the body begins, once the head is whole.
fn head(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        ensure!(bytes.len() < MAX_HEAD, "a head without an end");
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    ensure!(head.starts_with("HTTP/1.1 206 "), "no 206: {head}");
    Ok(Some(end + 4))
}

/// What there is, and when the last of it came, since 1970; of what the kernel has moved together in a full
/// buffer it does not tell that.
fn receive(stream: &TcpStream, buffer: &mut [u8]) -> anyhow::Result<(usize, Option<Duration>)> {
    let mut space = cmsg_space!(TimeSpec);
    let mut slices = [IoSliceMut::new(buffer)];
    let (socket, flags) = (stream.as_raw_fd(), MsgFlags::empty());
    let message = recvmsg::<()>(socket, &mut slices, Some(&mut space), flags)?;
    ensure!(message.bytes > 0, "the connection was closed");
    let arrived = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    Ok((message.bytes, arrived))
}

/// Of a hundred, so many are no longer.
pub(crate) fn percentile(times: &mut [Duration], of_a_hundred: usize) -> f64 {
    times.sort_unstable();
    let last = (times.len() * of_a_hundred).div_ceil(100).max(1) - 1;
    times.get(last).map_or(f64::NAN, Duration::as_secs_f64)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// A server that is slow, and a reader who is slower.
    #[test]
    fn what_the_reader_is_late_does_not_count() {
        let _stamped = stamped().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        setsockopt(&here, ReceiveTimestampns, &true).unwrap();
        let (mut there, _) = listener.accept().unwrap();
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        here.write_all(b"?").unwrap();
        there.read_exact(&mut [0]).unwrap();
        sleep(Duration::from_millis(20));
        there.write_all(b"answer").unwrap();
        sleep(Duration::from_millis(200));
        let (count, arrived) = receive(&here, &mut [0; 16]).unwrap();
        let took = arrived.unwrap().saturating_sub(begun);
        assert_eq!(count, 6);
        assert!(took >= Duration::from_millis(20), "{took:?}");
        assert!(took < Duration::from_millis(200), "{took:?}");
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let mut times: Vec<_> = (1..=200).rev().map(Duration::from_secs).collect();
        assert_eq!(percentile(&mut times, 50), 100.0);
        assert_eq!(percentile(&mut times, 99), 198.0);
        assert!(percentile(&mut [], 99).is_nan());
    }

    #[test]
    fn only_a_206_will_do() {
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert_eq!(head(b"HTTP/1.1 206 P\r\nA: b\r\n").unwrap(), None);
        assert_eq!(
            head(b"HTTP/1.1 206 P\r\nA: b\r\n\r\nbody").unwrap(),
            Some(24)
        );
    }
}
