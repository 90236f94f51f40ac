//! Buckets: one in this process that does what it is told, moto, azurite, fake-gcs-server, and Garage.

pub mod azurite;
mod garage;
mod gcs;
#[cfg(feature = "cli")]
pub mod goog4;
mod sigv4;
mod writes;

pub use azurite::Azurite;
pub use garage::Garage;
pub use gcs::Gcs;
pub use writes::Spoilt;

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use object_store::aws::{AmazonS3Builder, S3CopyIfNotExists};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig};
use percent_encoding::percent_decode_str;
use tonearm::store::{CacheSettings, Limits, Object, Slices, Store};

/// What goes wrong with the next GET of a recording.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing.
    None,
    /// After so many bytes the connection is reset.
    Reset(usize),
    /// After so many bytes the connection is closed.
    Close(usize),
    /// After so many bytes nothing more comes.
    Stall(usize),
    /// This status, and nothing useful.
    Status(u16),
    /// The precondition is passed over, and another version sent under its own tag.
    OtherVersion,
    /// The whole object, whatever range was asked for.
    Whole,
    /// The right Content-Range over more bytes.
    Longer(usize),
    /// Bytes of a range shifted by one, honestly named.
    Shifted,
    /// The answer comes so late.
    Late(Duration),
}

/// What lies in it under a key.
#[derive(Clone)]
struct Kept {
    bytes: Vec<u8>,
    etag: String,
    modified: SystemTime,
}

/// What is in it, and what it was asked.
struct Inside {
    objects: BTreeMap<String, Kept>,
    faults: VecDeque<Fault>,
    asked: Vec<String>,
    versions: u64,
    /// Connections are closed over their requests.
    gone: bool,
    refused: usize,
    now: SystemTime,
    /// Uploads in parts that have neither been completed nor aborted.
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    spoilt: Vec<(String, Spoilt)>,
    /// So many changes are still made and answered.
    lives: Option<usize>,
}

impl Inside {
    fn keep(&mut self, key: &str, bytes: &[u8]) -> String {
        self.versions += 1;
        let etag = format!("\"v{}\"", self.versions);
        let kept = Kept {
            bytes: bytes.into(),
            etag: etag.clone(),
            modified: self.now,
        };
        self.objects.insert(key.into(), kept);
        etag
    }
}

/// An S3 that speaks as much as is needed, and fails as it is told. It understands Google's XML API as
/// well: what that has of its own are generations, by which conditions go, and the name of a copy's source.
#[derive(Clone)]
pub struct FaultyS3 {
    pub addr: SocketAddr,
    inside: Arc<Mutex<Inside>>,
}

impl FaultyS3 {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let inside = Arc::new(Mutex::new(Inside {
            objects: BTreeMap::new(),
            faults: VecDeque::new(),
            asked: Vec::new(),
            versions: 0,
            now: httpdate::parse_http_date(super::MODIFIED_DATE).unwrap(),
            uploads: BTreeMap::new(),
            spoilt: Vec::new(),
            lives: None,
            gone: false,
            refused: 0,
        }));
        let shared = Arc::clone(&inside);
        // Ends with the process; a test's bucket is small.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let inside = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let _ = serve(&stream.unwrap(), &inside);
                });
            }
        });
        Self { addr, inside }
    }

    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.inside.lock().unwrap().keep(key, bytes);
    }

    /// From now on nobody is answered, or everybody again.
    pub fn be_gone(&self, gone: bool) {
        self.inside.lock().unwrap().gone = gone;
    }

    /// Requests over which the connection was closed.
    pub fn refused(&self) -> usize {
        self.inside.lock().unwrap().refused
    }

    /// What goes wrong with the GETs of recordings to come, one after the other.
    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inside.lock().unwrap().faults = faults.into_iter().collect();
    }

    /// Method, key and range of each request so far, and forgets them.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.inside.lock().unwrap().asked)
    }

    /// A store that keeps slices in a directory, and trusts what it knew for so many seconds.
    pub fn cached(
        &self,
        limits: Limits,
        settings: CacheSettings,
        trust: u64,
    ) -> (Store, Arc<Slices>) {
        let s3 = s3(self.addr).build().unwrap();
        let slices = Slices::open(
            settings,
            "s3://bucket/pre/fix".into(),
            tonearm::server::now(),
        );
        let object = Object::new(Arc::new(s3), Path::parse("pre/fix").unwrap(), limits);
        let object = object.with_slices(Arc::clone(&slices), trust);
        (Store::Object(Arc::new(object)), slices)
    }

    pub fn store(&self, limits: Limits) -> Store {
        let s3 = s3(self.addr).build().unwrap();
        object(Arc::new(s3), limits)
    }
}

/// Without TLS.
fn without_tls() -> ClientOptions {
    ClientOptions::new().with_allow_http(true)
}

/// Nothing is tried again behind a test's back.
fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

/// A client of the bucket called `bucket` at this address.
pub fn s3(addr: SocketAddr) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_endpoint(format!("http://{addr}"))
        .with_http_connector(tonearm::store::Lean)
        .with_client_options(without_tls())
        .with_retry(no_retries())
        .with_bucket_name("bucket")
        .with_region("us-east-1")
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
}

/// A client of the bucket called `bucket` at this address, in Google's words.
pub fn gs(addr: SocketAddr) -> GoogleCloudStorageBuilder {
    GoogleCloudStorageBuilder::new()
        .with_base_url(&format!("http://{addr}"))
        .with_http_connector(tonearm::store::Lean)
        .with_client_options(without_tls())
        .with_retry(no_retries())
        .with_bucket_name("bucket")
        .with_bearer_token("token")
}

pub fn object(store: Arc<dyn ObjectStore>, limits: Limits) -> Store {
    let prefix = Path::parse("pre/fix").unwrap();
    Store::Object(Arc::new(Object::new(store, prefix, limits)))
}

/// Puts bytes by a store's client, on a runtime of its own.
fn put(store: &dyn ObjectStore, key: &str, bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let key = Path::parse(key).unwrap();
    runtime
        .block_on(store.put(&key, bytes.to_vec().into()))
        .unwrap();
}

/// Under which key a recording's file lies.
pub fn key(name: &str) -> String {
    format!("pre/fix/{}/{name}", super::OWNER)
}

struct Asked {
    method: String,
    key: String,
    query: String,
    range: Option<(usize, usize)>,
    if_match: Option<String>,
    host: String,
    if_none_match: Option<String>,
    copy_source: Option<String>,
    if_generation: Option<String>,
    length: usize,
}

fn read(reader: &mut impl std::io::BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = percent_decode_str(path).decode_utf8().ok()?.into_owned();
    let mut asked = Asked {
        method,
        // A proxy is asked with the whole URL.
        key: path
            .split_once("/bucket/")
            .map_or("", |(_, key)| key)
            .to_owned(),
        query: query.to_owned(),
        range: None,
        if_match: None,
        if_none_match: None,
        copy_source: None,
        if_generation: None,
        length: 0,
        host: String::new(),
    };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return Some(asked);
        };
        match &*name.to_ascii_lowercase() {
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                asked.range = Some((first.parse().ok()?, last.parse().ok()?));
            }
            "host" => value.clone_into(&mut asked.host),
            "if-match" => asked.if_match = Some(value.to_owned()),
            "if-none-match" => asked.if_none_match = Some(value.to_owned()),
            "x-amz-copy-source" | "x-goog-copy-source" => {
                let source = percent_decode_str(value).decode_utf8().ok()?;
                asked.copy_source = Some(source.into_owned());
            }
            "x-goog-if-generation-match" => asked.if_generation = Some(value.to_owned()),
            "content-length" => asked.length = value.parse().ok()?,
            _ => {}
        }
    }
}

fn serve(stream: &TcpStream, inside: &Mutex<Inside>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        if !matches!(&*asked.method, "GET" | "HEAD") {
            let mut body = vec![0; asked.length];
            reader.read_exact(&mut body)?;
            if !writes::change(stream, &asked, &body, inside)? {
                return Ok(());
            }
            continue;
        }
        let (found, fault) = {
            let mut inside = inside.lock().unwrap();
            if inside.gone {
                inside.refused += 1;
                return Ok(());
            }
            if inside.lives == Some(0) {
                return Ok(());
            }
            let range = asked.range.map(|(first, last)| format!(" {first}-{last}"));
            let line = format!(
                "{} {}{}",
                asked.method,
                asked.key,
                range.unwrap_or_default()
            );
            inside.asked.push(line);
            let fault = match asked.range {
                Some(_) => inside.faults.pop_front().unwrap_or(Fault::None),
                None => Fault::None,
            };
            (inside.objects.get(&asked.key).cloned(), fault)
        };
        if asked.query.contains("X-Amz-Signature") {
            let signed = sigv4::Presigned {
                method: &asked.method,
                host: &asked.host,
                path: &format!("/bucket/{}", asked.key),
                query: &asked.query,
            };
            if let Err(why) = signed.check(tonearm::server::now()) {
                plain(stream, "403 Forbidden", why)?;
                continue;
            }
        }
        #[cfg(feature = "cli")]
        if asked.query.contains("X-Goog-Signature") {
            let signed = goog4::Presigned {
                method: &asked.method,
                path: &format!("/bucket/{}", asked.key),
                query: &asked.query,
            };
            if let Err(why) = signed.check(tonearm::server::now()) {
                plain(stream, "403 Forbidden", why)?;
                continue;
            }
        }
        if asked.query.contains("list-type") {
            plain(stream, "200 OK", &writes::listing(&asked, inside))?;
            continue;
        }
        let Some(kept) = found else {
            plain(stream, "404 Not Found", "")?;
            continue;
        };
        if asked.if_match.is_some_and(|tag| tag != kept.etag)
            && !matches!(fault, Fault::OtherVersion)
        {
            plain(stream, "412 Precondition Failed", "")?;
            continue;
        }
        if let Fault::Late(wait) = fault {
            std::thread::sleep(wait);
        }
        let fields = sigv4::overrides(&asked.query);
        let what = (&*asked.method, asked.range);
        if !answer(stream, what, &kept, &fields, &fault)? {
            return Ok(());
        }
    }
    Ok(())
}

fn plain(mut stream: &TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let text =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nRetry-After: 7\r\n\r\n{body}");
    stream.write_all(text.as_bytes())
}

/// What Google calls the version of this tag.
fn generation(etag: &str) -> &str {
    etag.trim_matches(['"', 'v'])
}

/// Whether the connection goes on.
fn answer(
    mut stream: &TcpStream,
    (method, range): (&str, Option<(usize, usize)>),
    kept: &Kept,
    fields: &str,
    fault: &Fault,
) -> std::io::Result<bool> {
    if let Fault::Status(status) = fault {
        plain(stream, &format!("{status} As Told"), "")?;
        return Ok(true);
    }
    let (bytes, etag) = (&kept.bytes, &*kept.etag);
    let total = bytes.len();
    let (mut first, mut last) = range.unwrap_or((0, total.wrapping_sub(1)));
    let mut status = if range.is_some() { 206 } else { 200 };
    match fault {
        Fault::Whole => (first, last, status) = (0, total - 1, 200),
        Fault::Shifted => (first, last) = (first + 1, (last + 1).min(total - 1)),
        _ => {}
    }
    let mut content = if total == 0 {
        Vec::new()
    } else {
        bytes[first..=last].to_vec()
    };
    let etag = match fault {
        Fault::OtherVersion => {
            for byte in &mut content {
                *byte ^= 0xff;
            }
            "\"other\""
        }
        _ => etag,
    };
    if let Fault::Longer(more) = fault {
        content.extend(vec![0; *more]);
    }
    let mut head = format!(
        "HTTP/1.1 {status} OK\r\n{fields}ETag: {etag}\r\nx-goog-generation: {}\r\nLast-Modified: {}\r\nContent-Length: {}\r\n",
        generation(etag),
        httpdate::fmt_http_date(kept.modified),
        content.len()
    );
    if status == 206 {
        let range = format!("Content-Range: bytes {first}-{last}/{total}\r\n");
        head.push_str(&range);
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if method == "HEAD" {
        return Ok(true);
    }
    match fault {
        Fault::Reset(after) => {
            stream.write_all(&content[..*after])?;
            // What was sent arrives first; then a reset instead of an end.
            std::thread::sleep(Duration::from_millis(50));
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
            Ok(false)
        }
        Fault::Close(after) => {
            stream.write_all(&content[..*after])?;
            Ok(false)
        }
        Fault::Stall(after) => {
            stream.write_all(&content[..*after])?;
            // Until the client gives up.
            let _ = stream.read(&mut [0]);
            Ok(false)
        }
        _ => {
            stream.write_all(&content)?;
            Ok(true)
        }
    }
}

/// moto, the AWS of Python's tests, with a bucket called `bucket`.
pub struct Moto {
    pub addr: SocketAddr,
    child: Child,
}

impl Moto {
    /// `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let own = concat!(env!("CARGO_TARGET_TMPDIR"), "/moto/bin/moto_server");
        let start = |program: &str| {
            Command::new(program)
                .args(["-H", "127.0.0.1", "-p", "0"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
        };
        let mut child = start(own).or_else(|_| start("moto_server")).ok()?;
        let said = BufReader::new(child.stderr.take().unwrap());
        let addr = said.lines().map_while(Result::ok).find_map(|line| {
            line.split_once("http://127.0.0.1:")
                .map(|(_, port)| port.trim().parse::<u16>().unwrap())
        });
        let addr = SocketAddr::from(([127, 0, 0, 1], addr.expect("moto says where it is")));
        let mut stream = TcpStream::connect(addr).unwrap();
        let host = "Host: s3.amazonaws.com";
        let make = format!(
            "PUT /bucket HTTP/1.1\r\n{host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(make.as_bytes()).unwrap();
        let answer = std::io::read_to_string(stream).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Some(Self { addr, child })
    }

    /// Puts bytes by the store's own client.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        put(&s3(self.addr).build().unwrap(), key, bytes);
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
