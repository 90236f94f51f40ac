//! azurite, the Azure Blob Storage of Node.js's tests, with a container called `bucket`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use object_store::ObjectStore;
use object_store::azure::MicrosoftAzureBuilder;

/// Its account and that one's key, which everybody knows.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

pub struct Azurite {
    pub addr: SocketAddr,
    child: Child,
}

impl Azurite {
    /// `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let own = concat!(
            env!("CARGO_TARGET_TMPDIR"),
            "/azurite/node_modules/.bin/azurite-blob"
        );
        let start = |program: &str| {
            Command::new(program)
                .args(["--blobHost", "127.0.0.1", "--blobPort", "0"])
                .args([
                    "--inMemoryPersistence",
                    "--skipApiVersionCheck",
                    "--disableTelemetry",
                ])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
        };
        let mut child = start(own).or_else(|_| start("azurite-blob")).ok()?;
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert!(
                said.read_line(&mut line).unwrap() > 0,
                "azurite says where it is"
            );
            if let Some((_, port)) = line.split_once("listens on http://127.0.0.1:") {
                break port.trim().parse().unwrap();
            }
        };
        // What it says further is not wanted, and it must not wait for a reader.
        std::thread::spawn(move || said.read_to_end(&mut Vec::new()));
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        make_container(addr);
        Some(Self { addr, child })
    }

    /// Where a client finds the account.
    pub fn endpoint(&self) -> String {
        format!("http://{}/{ACCOUNT}", self.addr)
    }

    /// Puts bytes by the store's own client.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        super::put(&*self.store(), key, bytes);
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        let azure = MicrosoftAzureBuilder::new()
            .with_account(ACCOUNT)
            .with_access_key(KEY)
            .with_endpoint(self.endpoint())
            .with_container_name("bucket")
            .with_client_options(super::without_tls())
            .with_retry(super::no_retries());
        Arc::new(azure.build().unwrap())
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The one request that object_store has no call for, signed with the account's key.
fn make_container(addr: SocketAddr) {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let fields = format!("x-ms-date:{date}\nx-ms-version:2021-08-06\n");
    let resource = format!("/{ACCOUNT}/{ACCOUNT}/bucket\nrestype:container");
    let signed = format!("PUT\n\n\n\n\n\n\n\n\n\n\n\n{fields}{resource}");
    let key = BASE64.decode(KEY).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(signed.as_bytes());
    let signature = BASE64.encode(mac.finalize().into_bytes());
    let mut stream = TcpStream::connect(addr).unwrap();
    let request = format!(
        "PUT /{ACCOUNT}/bucket?restype=container HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 0\r\nx-ms-date: {date}\r\nx-ms-version: 2021-08-06\r\nAuthorization: SharedKey {ACCOUNT}:{signature}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}
