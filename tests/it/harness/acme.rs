//! Pebble, an ACME directory that keeps strictly to RFC 8555 and RFC 8737: it refuses a good nonce now and then,
//! and looks for itself whether a name is ours. Its DNS is a server that says of every name that it is here.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

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
        pebble.root = poll("pebble", || self.ask(place, "/roots/0"));
        pebble
    }

    fn ask(&self, place: &Place, path: &str) -> Option<String> {
        let mut curl = Command::new("curl");
        curl.args(["-q", "-sf", "--cacert"])
            .arg(place.path("directory.pem"));
        curl.arg(format!(
            "https://localhost:{}{path}",
            self.management.port()
        ));
        let ran = Ran::of(curl.output().unwrap());
        (ran.code == Some(0)).then_some(ran.out)
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
