//! The server that is attacked: tonearm as a process, or nginx; and what the kernel says of it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::byte_at;

pub const TOKEN: &str = "Authorization: Bearer aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n";
const TOKENS: &str = "pbx 3ba3f5f43b92602683c19aee62a20342b084dd5971ddd33808d81a328879a547\n";
/// Lengths of the recording that is sought in, of the one that is read slowly, and of one that is
/// sent at once.
pub const CALL: u64 = 8 << 20;
pub const BIG: u64 = 64 << 20;
const SMALL: u64 = 16 << 10;

/// A directory with recordings, a keyring and tokens.
pub struct Place {
    root: tempfile::TempDir,
    program: PathBuf,
}

impl Place {
    pub fn new(program: &Path) -> Result<Self> {
        let root = tempfile::tempdir()?;
        fs::create_dir_all(root.path().join("store/1/2"))?;
        let place = Self {
            root,
            program: program.to_owned(),
        };
        for (name, length) in [("call", CALL), ("big", BIG), ("small", SMALL)] {
            let bytes: Vec<u8> = (0..length).map(byte_at).collect();
            fs::write(place.recording(name), bytes)?;
            // What was written just now may still change, and is sent with more care.
            let file = fs::File::options()
                .write(true)
                .open(place.recording(name))?;
            file.set_modified(SystemTime::now() - Duration::from_hours(1))?;
        }
        fs::write(place.path("tokens"), TOKENS)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(place.path("tokens"), mode)?;
        let mut init = Command::new(program);
        let init = init.args(["keys", "init"]).current_dir(place.root.path());
        ensure!(init.output()?.status.success(), "no keyring");
        Ok(place)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn recording(&self, name: &str) -> PathBuf {
        self.path("store/1/2").join(format!("{name}.wav"))
    }

    /// Starts tonearm with so many descriptors.
    pub fn serve(&self, descriptors: usize, settings: &[(&str, &str)]) -> Result<Subject> {
        self.serve_from("store", descriptors, settings)
    }

    /// The same, over another store.
    pub fn serve_from(
        &self,
        store: &str,
        descriptors: usize,
        settings: &[(&str, &str)],
    ) -> Result<Subject> {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {descriptors}; exec \"$@\"");
        command.args(["-c", &script, "sh"]).arg(&self.program);
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        command.args(["--admin-listen", "127.0.0.1:0", "--storage", store]);
        command.args(["--ingest-tokens", "tokens"]);
        command.env("TONEARM_LOG_FILTER", "error");
        command.envs(settings.iter().copied());
        command.current_dir(self.root.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped());
        command.stderr(fs::File::create(self.path("log"))?);
        let mut child = command.spawn()?;
        let out = child.stdout.take().context("no output")?;
        let mut lines = BufReader::new(out).lines();
        let mut address = |before: &str| -> Result<SocketAddr> {
            let line = lines.next().context("it does not start")??;
            Ok(line.strip_prefix(before).context("no address")?.parse()?)
        };
        let scheme = if settings.iter().any(|(name, _)| *name == "TONEARM_TLS_KEY") {
            "https"
        } else {
            "http"
        };
        let public = address(&format!("listening on {scheme}://"))?;
        let admin = address("admin on http://")?;
        Ok(Subject {
            name: "tonearm",
            public,
            admin: Some(admin),
            child,
        })
    }

    /// A signed target on this server.
    pub fn target(&self, name: &str) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(["url", name, "--app", "1", "--account", "2", "--ttl", "12h"]);
        command.args(["--base", "http://rec.example.com", "--storage", "store"]);
        let out = command.current_dir(self.root.path()).output()?;
        ensure!(out.status.success(), "{out:?}");
        let url = String::from_utf8(out.stdout)?;
        let target = url.trim().strip_prefix("http://rec.example.com");
        Ok(target.context("no URL")?.to_owned())
    }

    /// nginx on the same files, hardened as its guides say; `None` where it is not installed.
    pub fn nginx(&self) -> Result<Option<Subject>> {
        self.start_nginx(2, "", "")
    }

    /// The same with the certificate and key that tonearm has, one worker, and sessions that are resumed.
    pub fn nginx_with_tls(&self) -> Result<Option<Subject>> {
        let root = self.root.path().display();
        let tls = format!(
            "ssl_certificate {root}/cert.pem; ssl_certificate_key {root}/key.pem;\n\
             ssl_protocols TLSv1.3; ssl_session_cache shared:tls:10m;\n"
        );
        self.start_nginx(1, "ssl", &tls)
    }

    fn start_nginx(&self, workers: usize, listen: &str, more: &str) -> Result<Option<Subject>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let root = self.root.path().display();
        let text = format!(
            "daemon off; master_process on; user root; worker_processes {workers}; pid {root}/nginx.pid;\n\
             error_log {root}/nginx.log; worker_rlimit_nofile 20000;\n\
             events {{ worker_connections 12000; }}\n\
             http {{ access_log off; sendfile on;\n\
             client_header_timeout 10s; keepalive_timeout 60s; send_timeout 30s;\n\
             reset_timedout_connection on;\n\
             {more}server {{ listen 127.0.0.1:{port} {listen} backlog=4096; root {root}/store; }} }}\n"
        );
        fs::write(self.path("nginx.conf"), text)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(self.root.path());
        command.arg("-c").arg(self.path("nginx.conf"));
        let Ok(child) = command.stderr(Stdio::null()).spawn() else {
            return Ok(None);
        };
        let subject = Subject {
            name: "nginx",
            public: SocketAddr::from(([127, 0, 0, 1], port)),
            admin: None,
            child,
        };
        for _ in 0..100 {
            if TcpStream::connect(subject.public).is_ok() {
                return Ok(Some(subject));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }
}

/// A running server, ended with this value.
pub struct Subject {
    pub name: &'static str,
    pub public: SocketAddr,
    pub admin: Option<SocketAddr>,
    child: Child,
}

impl Subject {
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    pub fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The process and its children, which is where nginx works.
    fn processes(&self) -> Vec<u32> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let children = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        std::iter::once(pid).chain(children).collect()
    }

    /// Holds all of its threads to one core.
    pub fn hold_to_core(&self, core: usize) -> Result<()> {
        for process in self.processes() {
            let mut command = Command::new("taskset");
            command.args(["-acp", &core.to_string(), &process.to_string()]);
            ensure!(command.output()?.status.success(), "no taskset");
        }
        Ok(())
    }

    /// Resident memory, in KiB.
    pub fn resident(&self) -> f64 {
        let of = |pid: u32| -> Option<f64> {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("RssAnon:"))?;
            line.trim().strip_suffix(" kB")?.parse().ok()
        };
        self.processes().into_iter().filter_map(of).sum()
    }

    pub fn descriptors(&self) -> usize {
        let of = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.processes().into_iter().map(of).sum()
    }

    /// What the kernel holds to be sent by it, in KiB, as `ss` tells.
    pub fn queued(&self) -> f64 {
        let mut command = Command::new("ss");
        command.args(["-tmnH", "state", "established"]);
        command.arg(format!("( sport = :{} )", self.public.port()));
        let text = command.output().map(|ran| ran.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let of = |socket: &str| -> Option<f64> {
            let fields = socket.split([',', ')']);
            let of = |mark: char| {
                fields
                    .clone()
                    .find_map(|field| field.strip_prefix(mark)?.parse::<f64>().ok())
            };
            Some((of('f')? + of('w')?) / 1024.0)
        };
        text.split("skmem:(").skip(1).filter_map(of).sum()
    }

    /// Time that it has had of the processors, in seconds; to a hundredth.
    pub fn cpu(&self) -> f64 {
        let of = |pid: u32| -> Option<f64> {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields: Vec<_> = stat.rsplit(") ").next()?.split(' ').collect();
            let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
            Some((ticks(11)? + ticks(12)?) / 100.0)
        };
        self.processes().into_iter().filter_map(of).sum()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may have ended already, which is as good. nginx takes its workers with it.
        let _ = self.signal(Signal::TERM);
        for _ in 0..100 {
            if !self.is_alive() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
