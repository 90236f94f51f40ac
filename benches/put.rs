//! How fast recordings are brought: PUT over loopback beside `cat > file && sync file`, which does
//! no more than to get the same bytes onto the same disk.
//!
//! `cargo bench --bench put [-- DIRECTORY]` prints, for each size, the median of alternating runs.
//! The directory chooses the disk; the default is the system's for temporary files.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a bench that cannot be set up fails, and it measures time"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TOKEN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const TOKENS: &str = "bench 3ba3f5f43b92602683c19aee62a20342b084dd5971ddd33808d81a328879a547\n";
const MIB: usize = 1 << 20;
const ROUNDS: usize = 7;

fn main() {
    let chosen = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let place = match chosen {
        Some(directory) => tempfile::tempdir_in(directory),
        None => tempfile::tempdir(),
    }
    .expect("a directory to work in");
    let (mut server, address) = serve(place.path());
    println!(
        "    size       PUT  cat+sync  ratio (MiB/s; median of {ROUNDS}, slowest and fastest)"
    );
    for mebibytes in [1, 16, 256] {
        let bytes = wav(mebibytes * MIB);
        let (mut puts, mut cats) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let id = format!("call-{mebibytes}-{round}");
            let put = timed(|| put(&address, &id, &bytes));
            let cat = timed(|| cat(&place.path().join(&id), &bytes));
            // The first of each warms what there is to warm.
            if round > 0 {
                puts.push(put);
                cats.push(cat);
            }
        }
        report(mebibytes, puts, cats);
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

fn serve(place: &Path) -> (Child, String) {
    std::fs::create_dir(place.join("storage")).unwrap();
    let tokens = place.join("tokens");
    std::fs::write(&tokens, TOKENS).unwrap();
    std::fs::set_permissions(tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_tonearm"))
        .args(["serve", "--ingest-tokens", "tokens"])
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .current_dir(place)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    let mut out = BufReader::new(server.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap();
    (server, address.to_owned())
}

fn wav(length: usize) -> Vec<u8> {
    let sound = u32::try_from(length - 44).unwrap();
    let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0".to_vec();
    bytes.extend(b"\x40\x1f\0\0\0\x7d\0\0\x04\0\x10\0data");
    bytes.extend(sound.to_le_bytes());
    bytes.extend((0..=250).cycle().take(length - 44));
    bytes
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn put(address: &str, id: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "PUT /api/v1/recordings/app/account/{id} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

fn cat(path: &Path, bytes: &[u8]) {
    let mut shell = Command::new("sh")
        .args(["-c", "cat > \"$0\" && sync \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(shell.wait().unwrap().success());
}

fn report(mebibytes: usize, mut puts: Vec<Duration>, mut cats: Vec<Duration>) {
    puts.sort();
    cats.sort();
    let size = f64::from(u32::try_from(mebibytes).unwrap());
    let rate = |time: Duration| size / time.as_secs_f64();
    let (put, cat) = (rate(puts[ROUNDS / 2]), rate(cats[ROUNDS / 2]));
    println!(
        "{mebibytes:4} MiB {put:9.0} {cat:9.0} {:6.2}  (PUT {:.0} to {:.0}, cat {:.0} to {:.0})",
        put / cat,
        rate(puts[ROUNDS - 1]),
        rate(puts[0]),
        rate(cats[ROUNDS - 1]),
        rate(cats[0]),
    );
}
