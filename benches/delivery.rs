//! What the ways of a bucket's bytes cost, on loopback, beside the store itself and beside a
//! directory; the bucket is a few lines of this bench, which answer from memory.
//!
//! `cargo bench --bench delivery` prints, in turns of A and B:
//! - how much later than the store's own the first byte of a range comes through `proxy`;
//! - the throughput of a warm `cache` over that of a directory, whole and by seeks of 64 KiB, and, beside
//!   it, that of a second server of the same directory over the first: what the measure itself is worth.
//!   One connection at a time to one worker; as the kernel places them, then server and reader on a core
//!   each, then both on one (taskset of util-linux does that);
//! - what a seek costs of a core, through `proxy`, from a warm `cache` and from a directory;
//! - what a stream costs whose listener does not read, in the process and in the kernel's sockets.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench that cannot be set up fails, and it measures time"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use socket2::SockRef;

const LENGTH: usize = 64 << 20;
const OWNER: &str = "app/account";
const UNREAD: usize = 200;

fn main() {
    let place = tempfile::tempdir().unwrap();
    let bytes: Arc<[u8]> = (0..=250).cycle().take(LENGTH).collect::<Vec<u8>>().into();
    let storage = place.path().join("storage").join(OWNER);
    std::fs::create_dir_all(&storage).unwrap();
    let mut file = File::create(storage.join("call.wav")).unwrap();
    file.write_all(&bytes).unwrap();
    // A file that was written lately may still be written to, and is copied.
    file.set_modified(UNIX_EPOCH).unwrap();
    let bucket = bucket(bytes);
    for placed in [
        Placed("as the kernel places them", None),
        Placed("on a core each", Some(["0", "1"])),
        Placed("on one core", Some(["0", "0"])),
    ] {
        compared(place.path(), bucket, &placed);
    }
    let proxy = Server::start(place.path(), &[("OBJECT_DELIVERY", "proxy")], Some(bucket));
    let cache = Server::start(place.path(), &[("OBJECT_DELIVERY", "cache")], Some(bucket));
    let local = Server::start(place.path(), &[], None);
    first_byte(bucket, &proxy);
    cost("proxy", &proxy);
    cost("cache", &cache);
    cost("a directory", &local);
    unread("proxy", &proxy);
    unread("cache", &cache);
    unread("a directory", &local);
}

/// Where servers and the one who reads from them run.
struct Placed(&'static str, Option<[&'static str; 2]>);

impl Placed {
    fn place(&self, servers: [&Server; 3]) {
        let Some([servers_core, readers_core]) = self.1 else {
            return;
        };
        let readers = (std::process::id(), readers_core);
        for (pid, core) in servers
            .map(|server| (server.child.id(), servers_core))
            .into_iter()
            .chain([readers])
        {
            // All threads of a server; of this process the one that reads, which is the first.
            let all = if pid == readers.0 { "-cp" } else { "-acp" };
            let mut taskset = Command::new("taskset");
            taskset.args([all, core, &pid.to_string()]);
            assert!(taskset.stdout(Stdio::null()).status().unwrap().success());
        }
    }
}

/// A directory, the same by a second server, and a cache, each with one worker.
fn compared(place: &Path, bucket: SocketAddr, placed: &Placed) {
    let one = ("WORKERS", "1");
    let cache = [
        one,
        ("OBJECT_DELIVERY", "cache"),
        ("CACHE_DIRECTORY", "one"),
    ];
    let cache = Server::start(place, &cache, Some(bucket));
    let local = Server::start(place, &[one], None);
    let again = Server::start(place, &[one], None);
    placed.place([&cache, &local, &again]);
    println!("{}:", placed.0);
    for (what, other) in [("a second server of it", &again), ("cache", &cache)] {
        throughput(what, &local, other);
        seeks(what, &local, other);
    }
}

/// The bucket: HEAD and GET of `call.wav`, with ranges; nothing else is there.
fn bucket(bytes: Arc<[u8]>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let bytes = Arc::clone(&bytes);
            // Ends when the other side does, which is no failure.
            std::thread::spawn(move || answer(&stream.unwrap(), &bytes));
        }
    });
    addr
}

fn answer(mut stream: &TcpStream, bytes: &[u8]) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let range = head.split("range: bytes=").nth(1).and_then(|rest| {
            let (first, rest) = rest.split_once('-')?;
            let last = rest.split("\r\n").next()?;
            Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
        });
        if !head.lines().next()?.contains("call.wav") {
            let none = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(none.as_bytes()).ok()?;
            continue;
        }
        let (status, first, last) = match range {
            Some((first, last)) => (206, first, last),
            None => (200, 0, LENGTH - 1),
        };
        let fields = format!(
            "HTTP/1.1 {status} OK\r\nETag: \"v1\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Range: bytes {first}-{last}/{LENGTH}\r\nContent-Length: {}\r\n\r\n",
            last + 1 - first
        );
        stream.write_all(fields.as_bytes()).ok()?;
        if head.starts_with("GET") {
            stream.write_all(&bytes[first..=last]).ok()?;
        }
    }
}

struct Server {
    child: Child,
    addr: SocketAddr,
    target: String,
}

impl Server {
    fn start(place: &Path, settings: &[(&str, &str)], bucket: Option<SocketAddr>) -> Self {
        let command = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tonearm"));
            command.args(args).current_dir(place).stderr(Stdio::null());
            command.env("TONEARM_LOG_FILTER", "error");
            for (name, value) in settings {
                command.env(format!("TONEARM_{name}"), value);
            }
            if let Some(bucket) = bucket {
                command
                    .env("AWS_ACCESS_KEY_ID", "key")
                    .env("AWS_SECRET_ACCESS_KEY", "secret")
                    .env("TONEARM_STORAGE", "s3://bucket")
                    .env("TONEARM_OBJECT_ENDPOINT", format!("http://{bucket}"));
            }
            command
        };
        let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut child = command(&[&["serve"], &listen[..]].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let base = line.trim().strip_prefix("listening on ").unwrap();
        let ids = ["--app", "app", "--account", "account", "--base", base];
        let url = command(&[&["url", "call"], &ids[..]].concat()).output();
        let url = String::from_utf8(url.unwrap().stdout).unwrap();
        Self {
            child,
            addr: base.strip_prefix("http://").unwrap().parse().unwrap(),
            target: url.trim().strip_prefix(base).unwrap().to_owned(),
        }
    }

    fn client(&self) -> Client {
        Client::new(self.addr, &self.target)
    }

    /// Seconds of a core that it has used.
    fn processor(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let behind_name = stat.rsplit(')').next().unwrap().split(' ');
        // utime and stime, proc_pid_stat(5), in hundredths.
        let ticks = behind_name.skip(12).take(2);
        ticks
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum::<f64>()
            / 100.
    }

    fn resident(&self) -> f64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().split(' ').next().unwrap();
        kib.parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// One connection that is kept.
struct Client {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Client {
    fn new(addr: SocketAddr, target: &str) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::with_capacity(1 << 20, stream),
            head: format!("GET {target} HTTP/1.1\r\nHost: {addr}\r\n"),
        }
    }

    fn ask(&mut self, first: usize, last: usize) {
        let request = format!("{}range: bytes={first}-{last}\r\n\r\n", self.head);
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// Reads the head; fails unless it is a 206.
    fn begun(&mut self) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.stream.read_line(&mut head).unwrap(), 0);
        }
        assert!(head.starts_with("HTTP/1.1 206"), "{head}");
    }

    fn read(&mut self, length: usize) {
        let length = u64::try_from(length).unwrap();
        let mut body = (&mut self.stream).take(length);
        assert_eq!(
            std::io::copy(&mut body, &mut std::io::sink()).unwrap(),
            length
        );
    }

    /// How long a range takes: to its first byte, and in all.
    fn range(&mut self, first: usize, length: usize) -> [Duration; 2] {
        let begin = Instant::now();
        self.ask(first, first + length - 1);
        self.begun();
        self.stream.fill_buf().unwrap();
        let first_byte = begin.elapsed();
        self.read(length);
        [first_byte, begin.elapsed()]
    }
}

/// The `count`th of places all over the recording, 64 KiB of which can be asked for.
fn place(count: usize) -> usize {
    (count * 7_919_017) % (LENGTH - (64 << 10))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn first_byte(bucket: SocketAddr, proxy: &Server) {
    let mut direct = Client::new(bucket, "/bucket/app/account/call.wav");
    let mut proxied = proxy.client();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for count in 0..1000 {
        a.push(direct.range(place(count), 4096)[0]);
        b.push(proxied.range(place(count), 4096)[0]);
    }
    let (a, b) = (median(a) * 1e3, median(b) * 1e3);
    println!(
        "first byte: the store {a:.3} ms, proxy {b:.3} ms: {:.3} ms later, ratio {:.2} (medians of 1000)",
        b - a,
        b / a
    );
}

/// Prints how much faster `b` is than `a`, taken in turns.
fn ratio(a: Vec<Duration>, b: Vec<Duration>, of: f64, what: &str) {
    let pairs = a.iter().zip(&b);
    let mut ratios: Vec<_> = pairs
        .map(|(a, b)| a.as_secs_f64() / b.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    let quartile = |quarters: usize| ratios[(ratios.len() - 1) * quarters / 4];
    let turns = ratios.len();
    println!(
        "  {what} {:.0}/s to {:.0}/s: ratio {:.2}, half of {turns} turns {:.2} to {:.2}",
        of / median(b),
        of / median(a),
        quartile(2),
        quartile(1),
        quartile(3),
    );
}

fn throughput(what: &str, local: &Server, other: &Server) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for count in 0..=40 {
        // On new connections: a worker may share its core with the one who reads, for as long as a
        // connection lasts.
        let one = local.client().range(0, LENGTH)[1];
        let two = other.client().range(0, LENGTH)[1];
        // The first of each warms what there is to warm.
        if count > 0 {
            a.push(one);
            b.push(two);
        }
    }
    let mib = f64::from(u32::try_from(LENGTH >> 20).unwrap());
    ratio(a, b, mib, &format!("whole, {what} to a directory: MiB"));
}

fn seeks(what: &str, local: &Server, other: &Server) {
    const ROUND: usize = 500;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    // As above, on a new connection.
    let round = |server: &Server| {
        let mut client = server.client();
        let begin = Instant::now();
        for count in 0..ROUND {
            client.range(place(count), 64 << 10);
        }
        begin.elapsed()
    };
    for _ in 0..20 {
        a.push(round(local));
        b.push(round(other));
    }
    ratio(
        a,
        b,
        500.,
        &format!("seeks of 64 KiB, {what} to a directory:"),
    );
}

/// The processor's time of a seek, which tells how many a core of a replica bears.
fn cost(what: &str, server: &Server) {
    const SEEKS: usize = 20_000;
    let mut client = server.client();
    let mut seeks = |count| {
        for at in 0..count {
            client.range(place(at), 64 << 10);
        }
    };
    seeks(1000);
    let before = server.processor();
    seeks(SEEKS);
    let each = (server.processor() - before) / f64::from(u32::try_from(SEEKS).unwrap());
    println!(
        "a seek of 64 KiB, {what}: {:.0} us of a core, which bears {:.0}/s",
        each * 1e6,
        1. / each
    );
}

fn unread(what: &str, server: &Server) {
    // What others left in sockets goes first.
    std::thread::sleep(Duration::from_secs(2));
    let (resident, kernel) = (server.resident(), kernel());
    let listeners: Vec<_> = (0..UNREAD)
        .map(|_| {
            let mut client = server.client();
            SockRef::from(client.stream.get_ref())
                .set_recv_buffer_size(4096)
                .unwrap();
            client.ask(0, LENGTH - 1);
            client
        })
        .collect();
    std::thread::sleep(Duration::from_secs(4));
    let streams = f64::from(u32::try_from(listeners.len()).unwrap());
    println!(
        "unread, {what}: {:.0} KiB a stream in the process, {:.0} KiB in the kernel's sockets of both sides ({UNREAD} streams)",
        (server.resident() - resident) / streams,
        (self::kernel() - kernel) / streams
    );
}

/// What the kernel has in TCP sockets, in KiB.
fn kernel() -> f64 {
    let stat = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = stat.lines().find(|line| line.starts_with("TCP:")).unwrap();
    let pages: f64 = line.split("mem ").nth(1).unwrap().trim().parse().unwrap();
    pages * 4.
}
