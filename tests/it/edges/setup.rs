//! An origin with an edge's key in its ring, and an edge before it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::harness::program::{Place, Program, poll};
use crate::harness::raw::{Client, Response};
use crate::harness::{OWNER, pattern};

/// Where the recording of the suite lies.
pub const RECORDING: &str = "/media/app-101/test-account-01/call.wav";
/// The slice of the configurations, in bytes.
pub const SLICE: usize = 1 << 20;

/// The secrets are written as in a keyring: 32 bytes in base64url.
pub const SIGNS: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
pub const PULLS: &str = "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1-f4CBgoM";

/// The recording: five slices and a bit.
pub fn bytes() -> Vec<u8> {
    pattern(5 * SLICE + 123)
}

pub struct Origin {
    place: Place,
    pub program: Program,
}

impl Origin {
    pub fn start() -> Self {
        let place = Place::new();
        let ring = format!(
            "[[key]]\nkid = \"k1\"\nsecret = \"{SIGNS}\"\n\n[[key]]\nkid = \"e1\"\nsecret = \"{PULLS}\"\naudience = \"edge:test\"\n"
        );
        place.write("keyring.toml", ring, 0o600);
        place.put("call.wav", &bytes());
        for name in ["other.wav", "gone.wav"] {
            place.put(name, b"another recording");
        }
        let program = place.serve();
        Self { place, program }
    }

    /// A signed target.
    pub fn url(&self, id: &str, flags: &[&str]) -> String {
        let url = self.place.url(id, &self.program, flags);
        self.program.target(&url).to_owned()
    }

    pub fn expiry(target: &str) -> u64 {
        let token = target.split_once("?sig=").unwrap().1;
        token.split('.').nth(2).unwrap().parse().unwrap()
    }

    /// A target whose time has passed, with a true MAC.
    pub fn expired(&self) -> String {
        let url = self.url("call", &["--ttl", "1s"]);
        poll("the URL ends", || {
            let now = tonearm::server::now().0;
            (now >= Self::expiry(&url)).then_some(())
        });
        url
    }

    /// How often the origin was asked for bytes.
    pub fn media_answers(&self) -> u64 {
        let of = |status| {
            let name = format!("tonearm_requests_total{{route=\"media\",status=\"{status}\"}}");
            self.program.metric(&name)
        };
        of(200) + of(206)
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.place.put(name, bytes);
    }

    /// Removes a recording's file.
    pub fn remove(&self, name: &str) {
        let path = self.place.path("storage").join(OWNER).join(name);
        std::fs::remove_file(path).unwrap();
    }

    pub fn stop(&mut self) {
        self.program.kill();
    }
}

/// A running edge, ended with this value.
pub struct Edge {
    addr: SocketAddr,
    child: Child,
    dir: tempfile::TempDir,
    /// How many seconds past its end a URL may still open what is cached.
    pub late: u64,
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A file of `deploy/` with these lines put in place; each has to be there.
pub fn deployed(file: &str, places: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(file);
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in places {
        assert!(text.contains(from), "{from:?} is not in deploy/{file}");
        text = text.replace(from, to);
    }
    text
}

impl Edge {
    pub fn start(mut command: Command, port: u16, dir: tempfile::TempDir) -> Self {
        let log = std::fs::File::create(dir.path().join("edge.log")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut edge = Self {
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            child: command.spawn().unwrap(),
            dir,
            late: 0,
        };
        poll("the edge listens", || {
            let ended = edge.child.try_wait().unwrap();
            assert!(ended.is_none(), "the edge ends: {ended:?}\n{}", edge.log());
            TcpStream::connect(edge.addr).ok()
        });
        edge
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("edge.log")).unwrap()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    pub fn get(&self, target: &str, fields: &[&str]) -> Response {
        self.ask("GET", target, fields)
    }

    /// One request on a connection of its own. An edge's own answers are not held to the server's
    /// rules.
    pub fn ask(&self, method: &str, target: &str, fields: &[&str]) -> Response {
        let mut client = self.connect();
        let mut all = vec!["Connection: close"];
        all.extend(fields);
        client.ask(method, target, &all);
        let mut response = client.head();
        response.body = client.rest();
        if let Some(length) = response.field("content-length")
            && method != "HEAD"
            && response.status != 304
        {
            assert_eq!(
                length,
                response.body.len().to_string(),
                "{target}: cut short"
            );
        }
        response
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the edge's log:\n{}", self.log());
        }
        // Its workers go when it is told to, not when it is killed.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let _ = self.child.wait();
    }
}
