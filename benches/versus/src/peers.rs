//! The servers: where they are found, how each is set up as well as it can be, and how it is ended.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Display, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use rustix::process::{Pid, Signal, kill_process};
use sha2::Sha256;

use tonearm::load::{Expected, Recording, Side, Tls};

use crate::bare;
use crate::measure;
use crate::over::{Over, Protocol};
use crate::pattern::Pattern;
use crate::store::{COLD, Store, WARM, original, relative};
use crate::workload::ask_once;

const SECRET: &[u8; 32] = b"versus-0123456789-abcdefghijklmn";
/// Life of the signed URLs of a run.
const LIFE: u64 = 6 * 3600;
/// Descriptors of a server that has 10,000 connections; lighttpd takes half of them for connections.
pub(crate) const DESCRIPTORS: u64 = 32_768;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tonearm,
    TonearmOther,
    TonearmLogged,
    NginxNopush,
    NginxPlain,
    NginxLogged,
    NginxPlainLogged,
    Lighttpd,
    StaticWebServer,
    TowerHttp,
    Caddy,
    Bare,
}

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::Tonearm,
        Self::TonearmOther,
        Self::TonearmLogged,
        Self::NginxNopush,
        Self::NginxPlain,
        Self::NginxLogged,
        Self::NginxPlainLogged,
        Self::Lighttpd,
        Self::StaticWebServer,
        Self::TowerHttp,
        Self::Caddy,
        Self::Bare,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tonearm => "tonearm",
            Self::TonearmOther => "tonearm-other",
            Self::TonearmLogged => "tonearm-logged",
            Self::NginxNopush => "nginx-nopush",
            Self::NginxPlain => "nginx-plain",
            Self::NginxLogged => "nginx-logged",
            Self::NginxPlainLogged => "nginx-plain-logged",
            Self::Lighttpd => "lighttpd",
            Self::StaticWebServer => "static-web-server",
            Self::TowerHttp => "tower-http",
            Self::Caddy => "caddy",
            Self::Bare => "bare",
        }
    }

    /// Program and the command that installs it.
    const fn program(self) -> (&'static str, &'static str) {
        match self {
            _ if self.is_nginx() => ("nginx", "apt-get install nginx-light"),
            Self::Lighttpd => ("lighttpd", "apt-get install lighttpd"),
            Self::StaticWebServer => (
                "static-web-server",
                "cargo install static-web-server --locked --no-default-features",
            ),
            Self::Caddy => ("caddy", "apt-get install caddy"),
            Self::TonearmOther => ("", "--tonearm-other PATH"),
            _ => ("", ""),
        }
    }

    /// What is checked of a URL before its file is served.
    const fn signature(self) -> &'static str {
        match self {
            _ if self.is_tonearm() => "HMAC-SHA256",
            _ if self.is_nginx() => "MD5 (secure_link)",
            Self::Lighttpd => "none (Debian's has no mod_secdownload)",
            _ => "none",
        }
    }

    pub(crate) const fn is_nginx(self) -> bool {
        matches!(
            self,
            Self::NginxNopush | Self::NginxPlain | Self::NginxLogged | Self::NginxPlainLogged
        )
    }

    pub(crate) const fn is_tonearm(self) -> bool {
        matches!(
            self,
            Self::Tonearm | Self::TonearmOther | Self::TonearmLogged
        )
    }

    /// Whether it writes a line on each request, to a file; else it keeps no log.
    pub(crate) const fn is_logged(self) -> bool {
        matches!(
            self,
            Self::TonearmLogged | Self::NginxLogged | Self::NginxPlainLogged
        )
    }

    /// Whether it is asked for more recordings than the warm and the cold ones.
    pub(crate) const fn has_more(self) -> bool {
        self.is_tonearm() || self.is_nginx()
    }

    /// Whether it is set up for TLS here.
    pub(crate) const fn has_tls(self) -> bool {
        self.has_more() || matches!(self, Self::Caddy)
    }

    /// nginx's.
    const fn nopush(self) -> &'static str {
        match self {
            Self::NginxNopush | Self::NginxLogged => "on",
            _ => "off",
        }
    }
}

/// A server that is there.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    program: PathBuf,
    pub(crate) version: String,
}

impl Peer {
    /// The peer, or the command that would install it.
    pub(crate) fn find(kind: Kind, tonearm: &[Option<PathBuf>; 2]) -> Result<Self, &'static str> {
        let (name, install) = kind.program();
        let program = match kind {
            Kind::Tonearm | Kind::TonearmLogged => tonearm[0].clone(),
            Kind::TonearmOther => tonearm[1].clone(),
            Kind::TowerHttp | Kind::Bare => env::current_exe().ok(),
            _ => on_path(name),
        };
        let program = program.ok_or(install)?;
        let version = version(kind, &program).ok_or(install)?;
        Ok(Self {
            kind,
            program,
            version,
        })
    }

    /// For the report.
    pub(crate) fn describe(&self) -> String {
        let (name, version) = (self.kind.name(), &self.version);
        format!("{name}: {version}; signature: {}", self.kind.signature())
    }

    /// Path and query of a file, signed where the server checks it.
    fn url(&self, file: usize, expires: u64) -> String {
        let path = format!("/{}", relative(file));
        match self.kind {
            kind if kind.is_tonearm() => {
                let path = format!("/media{path}");
                let token = format!("1.versus.{expires}");
                let text = format!("tonearm-url-v1\nGET\n*\n{path}\n{token}");
                format!("{path}?sig={token}.{}", BASE64URL.encode(hmac(&text)))
            }
            kind if kind.is_nginx() => {
                let secret = String::from_utf8_lossy(SECRET);
                let digest = Md5::digest(format!("{expires}{path} {secret}"));
                format!("{path}?md5={}&expires={expires}", BASE64URL.encode(digest))
            }
            _ => path,
        }
    }

    /// Starts it on a free port, held to `cores`, and waits until it serves the right bytes.
    pub(crate) fn start(
        &self,
        store: &Store,
        pattern: &Pattern,
        over: &Over,
        cores: &[usize],
    ) -> anyhow::Result<Running> {
        let scratch = tempfile::Builder::new().prefix("versus-").tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let site = Site {
            root: &store.root,
            scratch: scratch.path(),
            address,
            over,
            workers: cores.len(),
        };
        let mut command = Command::new(env::current_exe()?);
        let list: Vec<String> = cores.iter().map(usize::to_string).collect();
        command.args(["launch", "--cores", &list.join(","), "--"]);
        let log = File::create(scratch.path().join("stderr"))?;
        command
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", scratch.path())
            .envs(environment(self.kind))
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.command(&site, &mut command)?;
        let child = command.spawn()?;
        let expires = unix_now()? + LIFE;
        let scheme = over.protocol.scheme();
        let recording = |file| {
            let url = format!("{scheme}://{address}{}", self.url(file, expires));
            let file = original(file).map(|file| pattern.file(file));
            Recording::at(&url, Expected { file, sha256: None })
        };
        let recordings = match self.kind.has_more() {
            true => store.recordings,
            false => WARM + COLD,
        };
        let asked = Side {
            name: self.kind.name().to_owned(),
            recordings: (0..recordings).map(recording).collect::<Result<_, _>>()?,
            http2: over.protocol.streams(),
        };
        let tls = over.identity.as_ref().map(|identity| identity.tls.clone());
        let mut running = Running {
            child,
            scratch,
            address,
            side: asked,
            tls,
            targets: (0..WARM).map(|file| self.url(file, expires)).collect(),
            processes: Vec::new(),
        };
        running.wait().with_context(|| self.kind.name())?;
        running.processes = measure::family(running.child.id());
        Ok(running)
    }

    /// Adds the program and its arguments, and writes what it reads.
    fn command(&self, site: &Site<'_>, command: &mut Command) -> anyhow::Result<()> {
        let configuration = site.scratch.join("configuration");
        command.arg(&self.program);
        match self.kind {
            Kind::Tonearm | Kind::TonearmOther | Kind::TonearmLogged => {
                let keyring = site.scratch.join("keyring.toml");
                let secret = BASE64URL.encode(SECRET);
                fs::write(
                    &keyring,
                    format!("[[key]]\nkid = \"versus\"\nsecret = \"{secret}\"\n"),
                )?;
                fs::set_permissions(&keyring, Permissions::from_mode(0o600))?;
                command.args(["serve", "--admin-listen", "127.0.0.1:0", "--listen"]);
                command.arg(site.address.to_string()).arg("--storage");
                command.arg(site.root).arg("--keyring").arg(&keyring);
                command.args(["--workers", &site.workers.to_string()]);
                if let Some(identity) = &site.over.identity {
                    command.env("TONEARM_TLS_CERTIFICATE", &identity.certificate);
                    command.env("TONEARM_TLS_KEY", &identity.key);
                }
            }
            Kind::NginxNopush | Kind::NginxPlain | Kind::NginxLogged | Kind::NginxPlainLogged => {
                fs::write(&configuration, nginx(site, self.kind))?;
                command.arg("-p").arg(site.scratch).arg("-e").arg("stderr");
                command.arg("-c").arg(&configuration);
            }
            Kind::Lighttpd => {
                fs::write(&configuration, lighttpd(site))?;
                command.arg("-D").arg("-f").arg(&configuration);
            }
            Kind::StaticWebServer => {
                command.args(["--host", "127.0.0.1", "--port"]);
                command.arg(site.address.port().to_string());
                command.arg("--root").arg(site.root);
                command.args(["--threads-multiplier", "1", "--log-level", "error"]);
                command.args(["--cache-control-headers", "false"]);
            }
            Kind::TowerHttp | Kind::Bare => {
                let part = match self.kind {
                    Kind::Bare => "serve-bare",
                    _ => "serve-dir",
                };
                command.arg(part).arg(site.root);
                command.arg(site.address.to_string());
            }
            Kind::Caddy => {
                fs::write(&configuration, caddy(site))?;
                command.args(["run", "--adapter", "caddyfile", "--config"]);
                command.arg(&configuration);
            }
        }
        Ok(())
    }
}

fn environment(kind: Kind) -> Vec<(&'static str, &'static str)> {
    let patient = [
        ("TONEARM_LIMITS_HEADER_TIMEOUT", "10m"),
        ("TONEARM_LIMITS_IDLE_TIMEOUT", "10m"),
    ];
    match kind {
        Kind::Tonearm | Kind::TonearmOther => {
            [&patient[..], &[("TONEARM_LOG_FILTER", "off")]].concat()
        }
        Kind::TonearmLogged => patient.to_vec(),
        Kind::Caddy => vec![("GOMAXPROCS", "1")],
        _ => Vec::new(),
    }
}

/// What a configuration needs to know.
struct Site<'a> {
    root: &'a Path,
    scratch: &'a Path,
    address: SocketAddr,
    over: &'a Over,
    workers: usize,
}

impl Site<'_> {
    /// What a configuration says of certificate and key; nothing where there is no TLS.
    fn identity(&self, text: impl Fn(Display<'_>, Display<'_>) -> String) -> String {
        let identity = self.over.identity.as_ref();
        identity.map_or_else(String::new, |files| {
            text(files.certificate.display(), files.key.display())
        })
    }
}

fn nginx(site: &Site<'_>, kind: Kind) -> String {
    let Site { root, scratch, .. } = site;
    let (root, scratch) = (root.display(), scratch.display());
    let (address, secret) = (site.address, String::from_utf8_lossy(SECRET));
    // A master that is root would give its workers to a user who may not read the store.
    let user = match rustix::process::geteuid().is_root() {
        true => "user root;",
        false => "",
    };
    let nopush = kind.nopush();
    let listen = listen(site.over.protocol);
    let identity = site.identity(|certificate, key| {
        format!("ssl_certificate {certificate}; ssl_certificate_key {key};")
    });
    let log = match kind.is_logged() {
        true => format!("{scratch}/access.log"),
        false => "off".to_owned(),
    };
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(temporary, "    {kind}_temp_path {scratch}/{kind};");
    }
    format!(
        "{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {DESCRIPTORS};
pid {scratch}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {DESCRIPTORS}; use epoll; }}
http {{
    access_log {log};
    sendfile on;
    tcp_nopush {nopush};
    tcp_nodelay on;
    aio off;
    open_file_cache max=1024 inactive=1h;
    open_file_cache_valid 60s;
    open_file_cache_min_uses 1;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_header_timeout 1h;
    server_tokens off;
    types {{ audio/wav wav; }}
{temporary}
    server {{
        listen {address}{listen} backlog=4096;
        {identity}
        root {root};
        location / {{
            secure_link $arg_md5,$arg_expires;
            secure_link_md5 \"$secure_link_expires$uri {secret}\";
            if ($secure_link = \"\") {{ return 403; }}
            if ($secure_link = \"0\") {{ return 403; }}
        }}
    }}
}}
"
    )
}

/// What nginx's `listen` says of a protocol.
const fn listen(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "",
        Protocol::Tls => " ssl",
        Protocol::Http2 => " ssl http2",
    }
}

fn lighttpd(site: &Site<'_>) -> String {
    let (root, port) = (site.root.display(), site.address.port());
    format!(
        "server.document-root = \"{root}\"
server.bind = \"127.0.0.1\"
server.port = {port}
server.network-backend = \"sendfile\"
server.event-handler = \"linux-sysepoll\"
server.listen-backlog = 4096
server.max-fds = {DESCRIPTORS}
server.max-connections = 12000
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = 3600
server.max-read-idle = 3600
server.max-write-idle = 3600
mimetype.assign = (\".wav\" => \"audio/wav\")
"
    )
}

fn caddy(site: &Site<'_>) -> String {
    let (root, address) = (site.root.display(), site.address);
    let scheme = site.over.protocol.scheme();
    let identity = site.identity(|certificate, key| format!("tls {certificate} {key}"));
    format!(
        "{{
    admin off
    auto_https off
    log {{
        level ERROR
    }}
}}
{scheme}://{address} {{
    bind 127.0.0.1
    {identity}
    root * {root}
    file_server
}}
"
    )
}

fn hmac(text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn unix_now() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// Where a program is, Debian's places for servers included.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(more)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// What a program says of itself, in one line.
fn version(kind: Kind, program: &Path) -> Option<String> {
    let flag = match kind {
        Kind::TowerHttp => return locked_version("tower-http"),
        Kind::Bare => return Some(bare::version()),
        Kind::Lighttpd => "-v",
        _ if kind.is_nginx() => "-v",
        Kind::Caddy => "version",
        _ => "--version",
    };
    let output = Command::new(program).arg(flag).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or_default();
    let line = line.trim_start_matches("Version:").trim();
    let mut setting = match kind.is_nginx() {
        true => format!(", tcp_nopush {}", kind.nopush()),
        false => String::new(),
    };
    if kind.is_logged() {
        setting.push_str(", a log of each request to a file");
    }
    let binary = match kind.is_tonearm() {
        // Two builds of one version are told apart.
        true => format!(
            ", binary {:.8}",
            hex(&Sha256::digest(fs::read(program).ok()?))
        ),
        false => String::new(),
    };
    output
        .status
        .success()
        .then(|| format!("{line}{setting}{binary}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn locked_version(name: &str) -> Option<String> {
    let lock = include_str!("../Cargo.lock");
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    let (version, _) = rest.split_once('"')?;
    Some(format!("{name} {version}, ServeDir on hyper"))
}

/// A server that serves; ended when dropped.
pub(crate) struct Running {
    child: Child,
    scratch: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) side: Side,
    /// How the load speaks TLS with it.
    pub(crate) tls: Option<Tls>,
    /// Path and query of each warm file.
    pub(crate) targets: Vec<String>,
    pub(crate) processes: Vec<u32>,
}

impl Running {
    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Until it answers with the right bytes.
    fn wait(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended at once, {status}: {}", self.log());
            }
            if std::net::TcpStream::connect(self.address).is_ok() {
                break;
            }
            if Instant::now() > end {
                bail!("does not listen: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let problems = match ask_once(self, 16) {
            Ok(driven) => driven.problems,
            Err(error) => vec![format!("{error:#}")],
        };
        if let Some(problem) = problems.first() {
            bail!("does not serve: {problem}: {}", self.log());
        }
        Ok(())
    }

    /// The beginning of what it wrote to standard error, on one line.
    fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(file) = File::open(self.scratch.path().join("stderr")) {
            let _ = file.take(500).read_to_string(&mut text);
        }
        let scratch = self.scratch.path().display().to_string();
        let text = text.replace(&scratch, "..");
        text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let process = Pid::from_raw(self.child.id().cast_signed());
        let signal = |signal| process.map(|process| kill_process(process, signal));
        signal(Signal::TERM);
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            if self.has_ended() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
impl Peer {
    pub(crate) fn for_test(kind: Kind) -> Self {
        Self {
            kind,
            program: PathBuf::new(),
            version: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for (at, kind) in Kind::ALL.iter().enumerate() {
            assert!(
                Kind::ALL[..at]
                    .iter()
                    .all(|other| other.name() != kind.name())
            );
        }
    }

    #[test]
    fn signed_targets_have_their_shapes() {
        let at = 1_800_000_000;
        let url = Peer::for_test(Kind::Tonearm).url(1, at);
        let begin = "/media/app-101/test-account-01/call-01.wav?sig=1.versus.1800000000.";
        assert_eq!(url.strip_prefix(begin).unwrap().len(), 43);
        let url = Peer::for_test(Kind::NginxPlain).url(1, at);
        assert!(url.ends_with("&expires=1800000000"));
        assert_eq!(
            Peer::for_test(Kind::Caddy).url(1, at),
            format!("/{}", relative(1))
        );
    }

    #[test]
    fn the_signature_is_that_of_the_published_format() {
        // Computed by another implementation from the same key, path and expiry.
        let url = Peer::for_test(Kind::Tonearm).url(1, 1_800_000_000);
        assert!(
            url.ends_with(".ODk6BlcHq3iQYdofZkKjbtpkwGY64KQG9SFaTyUWYAc"),
            "{url}"
        );
    }

    #[test]
    fn the_peer_of_this_package_knows_its_version() {
        assert!(locked_version("tower-http").unwrap().contains(" 0."));
    }

    fn site(over: &Over) -> Site<'_> {
        Site {
            root: Path::new("/r"),
            scratch: Path::new("/s"),
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            over,
            workers: 1,
        }
    }

    #[test]
    fn what_is_spoken_over_tls_differs_in_it() {
        let plain = Over::new(Protocol::Tcp).unwrap();
        let [plain, tls, http2] = [
            nginx(&site(&plain), Kind::NginxPlain),
            nginx(&site(&Over::new(Protocol::Tls).unwrap()), Kind::NginxPlain),
            nginx(
                &site(&Over::new(Protocol::Http2).unwrap()),
                Kind::NginxPlain,
            ),
        ];
        assert!(!plain.contains("ssl"));
        for (text, listen) in [(tls, "127.0.0.1:1 ssl "), (http2, "127.0.0.1:1 ssl http2 ")] {
            assert!(
                text.contains(listen) && text.contains("ssl_certificate_key "),
                "{text}"
            );
        }
        let over = Over::new(Protocol::Tls).unwrap();
        let identity = over.identity.as_ref().unwrap();
        let tls = format!("tls {} ", identity.certificate.display());
        let text = caddy(&site(&over));
        assert!(
            text.contains("https://127.0.0.1:1 {") && text.contains(&tls),
            "{text}"
        );
    }

    #[test]
    fn the_two_nginx_differ_in_one_word() {
        let plain = Over::new(Protocol::Tcp).unwrap();
        let site = site(&plain);
        let (on, off) = (
            nginx(&site, Kind::NginxNopush),
            nginx(&site, Kind::NginxPlain),
        );
        assert!(on.contains("tcp_nopush on;"));
        assert_eq!(on.replace("tcp_nopush on;", "tcp_nopush off;"), off);
        for (logged, silent) in [(Kind::NginxLogged, on), (Kind::NginxPlainLogged, off)] {
            assert_eq!(
                nginx(&site, logged),
                silent.replace("access_log off;", "access_log /s/access.log;")
            );
        }
    }

    #[test]
    fn a_peer_with_a_log_differs_in_it() {
        let silent = ("TONEARM_LOG_FILTER", "off");
        let mut tonearm = environment(Kind::Tonearm);
        tonearm.retain(|setting| *setting != silent);
        assert_eq!(environment(Kind::TonearmLogged), tonearm);
        assert!(environment(Kind::Tonearm).contains(&silent));
        let logged = Kind::ALL.into_iter().filter(|kind| kind.is_logged());
        assert!(logged.clone().all(|kind| kind.name().ends_with("-logged")));
        assert_eq!(logged.count(), 3);
    }
}
