//! Garage, an object store for one's own machines, with a bucket called `bucket`. It takes a quarter of
//! an hour to build, so that its test runs where `TONEARM_GARAGE` names its program, and nowhere else.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use object_store::ObjectStore;

const KEY: &str = "GK0123456789abcdef01234567";
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub struct Garage {
    addr: SocketAddr,
    child: Child,
    _place: tempfile::TempDir,
}

impl Garage {
    /// `None` where no program is named.
    pub fn start() -> Option<Self> {
        let program = std::env::var_os("TONEARM_GARAGE")?;
        let place = tempfile::tempdir().unwrap();
        let [addr, rpc] = [(), ()].map(|()| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        });
        let (root, config) = (place.path().display(), place.path().join("garage.toml"));
        let text = format!(
            "metadata_dir = \"{root}/meta\"\ndata_dir = \"{root}/data\"\ndb_engine = \"lmdb\"\nreplication_factor = 1\nrpc_bind_addr = \"{rpc}\"\nrpc_public_addr = \"{rpc}\"\nrpc_secret = \"{SECRET}\"\n[s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"{addr}\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(program)
            .arg("-c")
            .arg(config)
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_ACCESS_KEY", KEY)
            .env("GARAGE_DEFAULT_SECRET_KEY", SECRET)
            .env("GARAGE_DEFAULT_BUCKET", "bucket")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(addr).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "garage starts");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Some(Self {
            addr,
            child,
            _place: place,
        })
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        let s3 = super::s3(self.addr)
            .with_region("garage")
            .with_access_key_id(KEY)
            .with_secret_access_key(SECRET);
        Arc::new(s3.build().unwrap())
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
