//! Pebble, an ACME directory that keeps strictly to RFC 8555 and RFC 8737: it refuses a good nonce now and then,
//! and looks for itself whether a name is ours. Its DNS is a server that says of every name that it is here.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use super::program::{Place, Ran, has_curl, poll};
use super::tls::Made;
use super::{PATIENCE, skips};

pub fn has_pebble() -> bool {
    // It knows no --version.
    let found = Command::new("pebble").arg("-h").output();
    has_curl()
        && (found.is_ok_and(|ran| ran.status.success())
            || skips("pebble", "apt-get install pebble"))
}

/// Where a directory will be.
pub struct Site {
    address: SocketAddr,
    management: SocketAddr,
    made: Made,
}

/// A directory that runs, ended with this value.
pub struct Pebble {
    children: [Child; 2],
    /// In PEM, what its certificates are checked by.
    pub root: String,
}

/// Where its certificates' owner is looked for.
#[derive(Default)]
pub struct Ports {
    pub tls: u16,
    pub http: u16,
    /// Seconds that a certificate holds.
    pub life: u64,
    /// Name and key of the external account that it asks for.
    pub binding: Option<(&'static str, &'static str)>,
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

impl Site {
    /// Its own certificate is `directory.pem`.
    pub fn new(place: &Place) -> Self {
        let made = Made::new();
        place.write("directory.pem", &made.chain, 0o644);
        let (address, management) = (free(), free());
        Self {
            address,
            management,
            made,
        }
    }

    /// The settings of a server that is to have its certificate from here.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let directory = format!("https://localhost:{}/dir", self.address.port());
        vec![
            (
                "TONEARM_TLS_ACME_DOMAINS",
                "rec.example.com, other.example.com".to_owned(),
            ),
            ("TONEARM_TLS_ACME_CONTACT", "ops@example.com".to_owned()),
            ("TONEARM_TLS_ACME_DIRECTORY", directory),
            ("TONEARM_TLS_ACME_CA_FILE", "directory.pem".to_owned()),
        ]
    }

    pub fn open(&self, place: &Place, ports: &Ports) -> Pebble {
        place.write("directory-key.pem", &self.made.key, 0o600);
        let settings = serde_json::json!({ "pebble": {
            "listenAddress": self.address.to_string(),
            "managementListenAddress": self.management.to_string(),
            "certificate": "directory.pem",
            "privateKey": "directory-key.pem",
            "httpPort": ports.http,
            "tlsPort": ports.tls,
            "certificateValidityPeriod": ports.life,
            "externalAccountBindingRequired": ports.binding.is_some(),
            "externalAccountMACKeys": ports.binding.into_iter().collect::<HashMap<_, _>>(),
        }});
        place.write("pebble.json", settings.to_string(), 0o644);
        let start = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).current_dir(place.path(""));
            command.envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "2")]);
            command.env("PEBBLE_AUTHZREUSE", "0");
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.spawn().unwrap()
        };
        let names = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let none = [
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-defaultIPv6",
            "",
        ];
        let children = [
            start(
                "pebble-challtestsrv",
                &[
                    &["-dns01", &names, "-management", &free().to_string()][..],
                    &none,
                ]
                .concat(),
            ),
            start(
                "pebble",
                &["-strict", "-config", "pebble.json", "-dnsserver", &names],
            ),
        ];
        let mut pebble = Pebble {
            children,
            root: String::new(),
        };
        pebble.root = poll("pebble", || ask(place, self.management, "/roots/0"));
        pebble
    }
}

/// A directory that is another's, and says besides when it would like a renewal (RFC 9773).
pub struct Forecast {
    pub url: String,
    says: Arc<Mutex<[String; 2]>>,
    asked: Receiver<String>,
}

impl Forecast {
    pub fn begin(site: &Site) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let chain = CertificateDer::from_pem_slice(site.made.chain.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(site.made.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key);
        let config = Arc::new(config.unwrap());
        let says: Arc<Mutex<[String; 2]>> = Arc::default();
        let (text, (ask, asked)) = (Arc::clone(&says), channel());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = BufReader::new(StreamOwned::new(session, stream.unwrap()));
                let mut lines = stream.by_ref().lines().map_while(Result::ok);
                let Some(first) = lines.next() else { continue };
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let said = text.lock().unwrap()[usize::from(path != "/dir")].clone();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", said.len());
                let head = head + "Retry-After: 3600\r\nConnection: close\r\n\r\n";
                let _ = stream.get_mut().write_all((head + &said).as_bytes());
                stream.get_mut().conn.send_close_notify();
                let _ = stream.get_mut().flush();
                let _ = ask.send(path);
            }
        });
        Self { url, says, asked }
    }

    /// Is the directory of this site from now on, and would like renewals at this time.
    pub fn say(&self, site: &Site, place: &Place, window: [&str; 2]) {
        let directory = ask(place, site.address, "/dir").unwrap();
        let mut directory: serde_json::Value = serde_json::from_str(&directory).unwrap();
        directory["renewalInfo"] = format!("{}/renewal", self.url).into();
        let window = serde_json::json!({"start": window[0], "end": window[1]});
        let info = serde_json::json!({ "suggestedWindow": window });
        *self.says.lock().unwrap() = [directory.to_string(), info.to_string()];
    }

    /// What it was asked for since the last time, but for the directory.
    pub fn asked(&self) -> Vec<String> {
        self.asked
            .try_iter()
            .filter(|path| path != "/dir")
            .collect()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The certificates that a server shows for a name, to one who trusts `root`.
pub fn shown(
    server: SocketAddr,
    name: &str,
    root: &str,
    protocol: &str,
) -> std::io::Result<Vec<CertificateDer<'static>>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.into()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    let shown = session.peer_certificates().unwrap_or_default();
    Ok(shown.iter().map(|one| one.clone().into_owned()).collect())
}

/// What a directory says; `None` where it is not there yet.
fn ask(place: &Place, address: SocketAddr, path: &str) -> Option<String> {
    let mut curl = Command::new("curl");
    curl.args(["-q", "-sf", "--cacert"])
        .arg(place.path("directory.pem"));
    curl.arg(format!("https://localhost:{}{path}", address.port()));
    let ran = Ran::of(curl.output().unwrap());
    (ran.code == Some(0)).then_some(ran.out)
}
