//! The program as its user runs it: a process in a directory of its own.

use std::fmt;
use std::fs::Permissions;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub use super::poll;
use super::raw::{Client, Response};
use super::{OWNER, PATIENCE, has_peer};

pub const TONEARM: &str = env!("CARGO_BIN_EXE_tonearm");

/// A server on free ports.
pub const SERVE: [&str; 5] = [
    "serve",
    "--listen",
    "127.0.0.1:0",
    "--admin-listen",
    "127.0.0.1:0",
];

pub fn has_curl() -> bool {
    has_peer("curl", "apt-get install curl")
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What it printed, if all was well and nothing was complained of.
    pub fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A working directory with a store in it.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(place.path("storage").join(OWNER)).unwrap();
        place
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file of this mode.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>, mode: u32) {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Puts a recording of [`OWNER`] into the store.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path("storage").join(OWNER).join(name), bytes).unwrap();
    }

    /// Every secret of the keyring, as it is written there.
    pub fn secrets(&self) -> Vec<String> {
        let text = self.read("keyring.toml");
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("secret = "));
        lines
            .map(|line| line.trim_matches('"').to_owned())
            .collect()
    }

    /// The program with these arguments, in this directory, with an empty environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(TONEARM);
        command.args(args).env_clear().current_dir(self.0.path());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).stdin(Stdio::null()).output().unwrap())
    }

    pub fn run_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Ran {
        let mut command = self.command(args);
        command.envs(environment.iter().copied());
        Ran::of(command.stdin(Stdio::null()).output().unwrap())
    }

    /// A URL of a recording of [`OWNER`], as `tonearm url` makes it.
    pub fn url(&self, id: &str, program: &Program, flags: &[&str]) -> String {
        let base = format!("http://{}", program.public);
        let (app, account) = OWNER.split_once('/').unwrap();
        let mut args = vec!["url", id, "--app", app, "--account", account];
        args.extend(["--base", &base]);
        args.extend(flags);
        self.run(&args).ok().trim_end().to_owned()
    }

    pub fn serve(&self) -> Program {
        self.serve_with(&[], &[])
    }

    /// Starts the server on free ports, and waits until it says where it is.
    pub fn serve_with(&self, flags: &[&str], environment: &[(&str, &str)]) -> Program {
        let mut command = self.command(&SERVE);
        command.args(flags).envs(environment.iter().copied());
        Program::start(command)
    }
}

/// What a stream has brought so far.
#[derive(Default)]
struct Heard {
    text: Mutex<(String, bool)>,
    more: Condvar,
}

impl Heard {
    fn listen(mut stream: impl Read + Send + 'static) -> Arc<Self> {
        let heard = Arc::new(Self::default());
        let ear = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let count = stream.read(&mut buffer).unwrap_or(0);
                let mut text = ear.text.lock().unwrap();
                text.0.push_str(&String::from_utf8_lossy(&buffer[..count]));
                text.1 = count == 0;
                ear.more.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        heard
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().0.clone()
    }

    /// Waits until the text, in whole lines, is as wanted, or the stream has ended.
    fn wait(&self, wanted: impl Fn(&str) -> bool) -> Result<String, String> {
        let text = self.text.lock().unwrap();
        let unmet =
            |(text, ended): &mut (String, bool)| !(*ended || text.ends_with('\n') && wanted(text));
        let (text, _) = self.more.wait_timeout_while(text, PATIENCE, unmet).unwrap();
        if wanted(&text.0) {
            Ok(text.0.clone())
        } else {
            Err(text.0.clone())
        }
    }
}

/// A running server, ended with this value.
pub struct Program {
    pub public: SocketAddr,
    pub admin: SocketAddr,
    /// The command it suggests.
    pub hint: String,
    child: Child,
    log: Arc<Heard>,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::begin(command)
    }

    /// With the standard input that it was given.
    pub fn begin(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Heard::listen(child.stdout.take().unwrap());
        let mut program = Self {
            public: SocketAddr::from(([0; 4], 0)),
            admin: SocketAddr::from(([0; 4], 0)),
            hint: String::new(),
            log: Heard::listen(child.stderr.take().unwrap()),
            child,
        };
        let said = said.wait(|text| text.lines().count() >= 3);
        let said = said.unwrap_or_else(|said| panic!("it does not start: {said}\n{program:?}"));
        let lines: Vec<_> = said.lines().collect();
        let address = |line: &str, before: &str| {
            let (scheme, address) = line
                .strip_prefix(before)
                .unwrap()
                .split_once("://")
                .unwrap();
            assert!(scheme == "http" || scheme == "https", "{line}");
            address.parse().unwrap()
        };
        program.public = address(lines[0], "listening on ");
        program.admin = address(lines[1], "admin on ");
        program.hint = lines[2].into();
        program
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it at once, and waits until it has.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, and gives its exit code.
    pub fn wait(&mut self) -> i32 {
        let status = poll("the program ends", || self.child.try_wait().unwrap());
        // What was written last may still be on its way here.
        let _ = self.log.wait(|_| false);
        status.code().unwrap_or_else(|| panic!("{status}"))
    }

    /// Standard error so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until the log holds `count` of these, and gives the log.
    pub fn wait_log(&self, needle: &str, count: usize) -> String {
        self.log
            .wait(|text| text.matches(needle).count() >= count)
            .unwrap_or_else(|log| panic!("{needle:?} is not {count} times in the log:\n{log}"))
    }

    /// Has it read the keyring again, and waits until it has.
    pub fn reload(&self) {
        let reloads = |log: &str| log.matches("the keyring w").count();
        let before = reloads(&self.log());
        self.signal(Signal::HUP);
        let waited = self.log.wait(|log| reloads(log) > before);
        waited.unwrap_or_else(|log| panic!("no reload in the log:\n{log}"));
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.public)
    }

    /// `GET` of a URL of this server, or of a target.
    pub fn get(&self, url: &str, fields: &[&str]) -> Response {
        ask(self.public, "GET", self.target(url), fields)
    }

    /// Path and query of a URL of this server.
    pub fn target<'a>(&self, url: &'a str) -> &'a str {
        let base = format!("http://{}", self.public);
        url.strip_prefix(&base).unwrap_or(url)
    }

    /// A metric's value; 0 where it has none yet.
    pub fn metric(&self, name: &str) -> u64 {
        let text = ask(self.admin, "GET", "/metrics", &[]).text();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

/// One request on a connection of its own.
pub fn ask(addr: SocketAddr, method: &str, target: &str, fields: &[&str]) -> Response {
    let mut client = Client::connect(addr);
    client.ask(method, target, fields);
    client.response(method)
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}, log:\n{}", self.child.id(), self.log())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server of the test that failed: {self:?}");
        }
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a server asks again of a recording that it was just asked for: it trusts for 10 ms what it
/// has seen of a directory.
pub fn past_trust() {
    std::thread::sleep(std::time::Duration::from_millis(11));
}
