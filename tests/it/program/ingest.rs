//! The way in as its operator runs it: tokens from a file, kills in mid-upload, a full disk.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::harness::program::{Place, Program, SERVE, TONEARM, ask, poll};
use crate::harness::{OWNER, TOKEN, TOKEN_LINE};
use crate::wire::ingest::wav;
use crate::wire::uploads::TUS;

const FLAGS: [&str; 2] = ["--ingest-tokens", "tokens"];

fn taking_in() -> (Place, Program) {
    let place = Place::new();
    place.write("tokens", TOKEN_LINE, 0o600);
    let program = place.serve_with(&FLAGS, &[]);
    (place, program)
}

fn target(id: &str) -> String {
    format!("/api/v1/recordings/{OWNER}/{id}")
}

fn put(program: &Program, id: &str, bytes: &[u8]) -> u16 {
    let mut client = program.connect();
    client.bring("PUT", &target(id), &[TOKEN], bytes);
    client.response("PUT").status
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn tokens_come_from_a_file_of_their_own() {
    let place = Place::new();
    for (text, mode, expect) in [
        (TOKEN_LINE, 0o644, "chmod 600"),
        ("pbx hunter2\n", 0o600, "line 1 is not NAME"),
        ("", 0o600, "there is no token"),
    ] {
        place.write("tokens", text, mode);
        let refused = place.run(&["serve", FLAGS[0], FLAGS[1]]);
        assert_eq!(refused.code, Some(78), "{refused:?}");
        assert!(refused.err.contains(expect), "{refused:?}");
        assert!(!refused.err.contains("hunter2"), "{refused:?}");
    }
    place.write("tokens", TOKEN_LINE, 0o600);
    let checked = place.run_with(&["config", "check"], &[("TONEARM_INGEST_TOKENS", "tokens")]);
    assert!(checked.ok().starts_with("tokens: 1 tokens\n"));
    let program = place.serve_with(&FLAGS, &[]);
    assert_eq!(put(&program, "one", &wav(1000)), 201);
    // Read again at SIGHUP, and kept where they will not do.
    place.write("tokens", "nothing of use", 0o600);
    program.reload();
    program.wait_log("the old ones stay", 1);
    assert_eq!(put(&program, "two", &wav(1000)), 201);
    place.write("tokens", TOKEN_LINE.replace("pbx 3b", "pbx 4b"), 0o600);
    program.reload();
    program.wait_log("the tokens were read again", 1);
    assert_eq!(put(&program, "three", &wav(1000)), 401);
    let log = program.wait_log("route=\"recordings\"", 3);
    assert!(!log.contains("aaaaaaaa"), "{log}");
}

#[test]
fn an_erasure_is_audited() {
    let (_place, program) = taking_in();
    assert_eq!(put(&program, "call", &wav(1000)), 201);
    let erased = ask(program.public, "DELETE", &target("call"), &[TOKEN]);
    assert_eq!(erased.status, 204);
    let log = program.wait_log("audit", 1);
    let line = log.lines().find(|line| line.contains("audit")).unwrap();
    for part in [
        "who=\"pbx\"",
        &format!("recording={OWNER}/call"),
        "bytes=1000",
        "sha256=",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

/// A generator of numbers that are random enough for moments (xorshift).
struct Moments(u64);

impl Moments {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// How long a put of these bytes takes when nobody kills it, at best.
fn length_of_a_put(bytes: &[u8]) -> Duration {
    let (_place, program) = taking_in();
    let times = ["a", "b", "c", "d"].map(|id| {
        let before = std::time::SystemTime::now();
        assert_eq!(put(&program, id, bytes), 201);
        before.elapsed().unwrap()
    });
    times.into_iter().min().unwrap()
}

#[test]
fn killed_at_any_moment_nothing_partial_is_there_and_a_retry_succeeds() {
    // 200 in the evidence of the change; as many as take a few seconds in every run.
    let kills = std::env::var("TONEARM_KILLS").map_or(12, |text| text.parse().unwrap());
    let bytes = wav(3_000_000);
    let span = u64::try_from(length_of_a_put(&bytes).as_micros()).unwrap() * 5 / 4;
    let place = Place::new();
    place.write("tokens", TOKEN_LINE, 0o600);
    let storage = place.path("storage");
    let seed = u64::from(std::process::id()) << 20 | 1;
    let mut moments = Moments(seed);
    let (mut whole, mut none, mut begun) = (0, 0, 0);
    for round in 0..kills {
        let killed = place.serve_with(&FLAGS, &[]);
        let id = format!("call-{round}");
        let moment = Duration::from_micros(moments.next(span));
        std::thread::scope(|scope| {
            let stream = TcpStream::connect(killed.public).unwrap();
            let (bytes, id) = (&bytes, &id);
            scope.spawn(move || {
                let head = format!(
                    "PUT {} HTTP/1.1\r\nHost: a\r\n{TOKEN}\r\nContent-Length: {}\r\n\r\n",
                    target(id),
                    bytes.len()
                );
                // The server is killed meanwhile: any of these may fail.
                let mut stream = stream;
                let _ = stream.write_all(head.as_bytes());
                for part in bytes.chunks(64 * 1024) {
                    let _ = stream.write_all(part);
                }
            });
            std::thread::sleep(moment);
            killed.signal(rustix::process::Signal::KILL);
            // Gone, and not only on its way.
            drop(killed);
        });
        let program = place.serve_with(&FLAGS, &[]);
        // Whatever is there is whole, and nothing else is.
        let found = std::fs::read(storage.join(OWNER).join(format!("{id}.wav"))).ok();
        match &found {
            Some(found) => assert!(*found == bytes, "{id} is partial, seed {seed}"),
            None => none += 1,
        }
        whole += usize::from(found.is_some());
        begun += usize::from(program.log().contains("took away what was left"));
        assert_eq!(names(&storage.join("+incoming")), [""; 0], "seed {seed}");
        let status = put(&program, &id, &bytes);
        let expect = if found.is_some() { 200 } else { 201 };
        assert_eq!(status, expect, "{id}, seed {seed}");
        let url = place.url(&id, &program, &[]);
        assert!(program.get(&url, &[]).body == bytes, "{id}");
    }
    println!("{kills} kills: {whole} recordings were whole, {none} not there, {begun} half-way");
    assert_eq!(names(&storage.join(OWNER)).len(), 2 * kills);
    assert!(none > 0, "no kill came in time");
}

/// What came of an upload in parts before a kill is where it goes on; bytes that were still to be
/// checked did not come.
#[test]
fn killed_in_mid_part_an_upload_goes_on() {
    const PART: &str = "Content-Type: application/offset+octet-stream";
    let place = Place::new();
    place.write("tokens", TOKEN_LINE, 0o600);
    let bytes = wav(2_000_000);
    let mut upload = String::new();
    let mut sent = 0;
    for (round, checksum) in ["X: none", "Upload-Checksum: sha1 AAAA", "X: none"]
        .iter()
        .enumerate()
    {
        let program = place.serve_with(&FLAGS, &[]);
        if round == 0 {
            let target = format!("/api/v1/uploads/{OWNER}/call");
            let begun = ask(
                program.public,
                "POST",
                &target,
                &[TOKEN, TUS, "Upload-Length: 2000000"],
            );
            begun.field("location").unwrap().clone_into(&mut upload);
        }
        let head = ask(program.public, "HEAD", &upload, &[TOKEN, TUS]);
        let offset: usize = head.field("upload-offset").unwrap().parse().unwrap();
        assert!(offset >= sent && offset <= sent + 600_000, "{offset}");
        // Nothing came of what was to be checked.
        assert!(round < 2 || offset == sent, "{offset} after {sent}");
        sent = offset;
        let at = format!("Upload-Offset: {sent}");
        let length = format!("Content-Length: {}", bytes.len() - sent);
        let mut client = program.connect();
        client.ask(
            "PATCH",
            &upload,
            &[TOKEN, TUS, PART, &at, &length, checksum],
        );
        client.send(&bytes[sent..sent + 600_000]);
        let file = place.path("storage/+incoming");
        let came = || {
            let parts = names(&file).into_iter().find(|name| name.contains(".part"));
            std::fs::metadata(file.join(parts?))
                .ok()
                .map(|data| data.len())
        };
        poll("bytes of the part", || {
            came().filter(|length| *length > u64::try_from(sent).unwrap())
        });
        program.signal(rustix::process::Signal::KILL);
    }
    let program = place.serve_with(&FLAGS, &[]);
    let head = ask(program.public, "HEAD", &upload, &[TOKEN, TUS]);
    sent = head.field("upload-offset").unwrap().parse().unwrap();
    assert!(sent > 0);
    let mut client = program.connect();
    let at = format!("Upload-Offset: {sent}");
    client.bring("PATCH", &upload, &[TOKEN, TUS, PART, &at], &bytes[sent..]);
    assert_eq!(client.response("PATCH").status, 204);
    let stored = std::fs::read(place.path("storage").join(OWNER).join("call.wav"));
    assert!(stored.unwrap() == bytes);
    // Too old, what is left of it goes too.
    let left = names(&place.path("storage/+incoming"));
    assert_eq!(left.len(), 1, "{left:?}");
    let left = std::fs::File::open(place.path("storage/+incoming").join(&left[0])).unwrap();
    left.set_modified(std::time::SystemTime::now() - Duration::from_hours(25))
        .unwrap();
    drop(program);
    let _program = place.serve_with(&FLAGS, &[]);
    assert_eq!(names(&place.path("storage/+incoming")), [""; 0]);
}

/// Resident bytes of a process, of its own memory and not of files.
fn resident(program: &Program) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let text = line.unwrap().trim().strip_suffix(" kB").unwrap();
    text.parse::<usize>().unwrap() * 1024
}

#[test]
fn an_upload_holds_less_than_a_mebibyte() {
    const UPLOADS: usize = 32;
    let (place, program) = taking_in();
    let bytes = wav(2_000_000);
    let before = resident(&program);
    let incoming = place.path("storage/+incoming");
    let clients: Vec<_> = (0..UPLOADS)
        .map(|number| {
            let mut client = program.connect();
            let length = format!("Content-Length: {}", bytes.len());
            client.ask("PUT", &target(&format!("call-{number}")), &[TOKEN, &length]);
            client.send(&bytes[..1_000_000]);
            client
        })
        .collect();
    poll("every upload is under way", || {
        let lengths = names(&incoming).into_iter().filter_map(|name| {
            std::fs::metadata(incoming.join(name))
                .ok()
                .map(|data| data.len())
        });
        (lengths.filter(|length| *length > 700_000).count() == UPLOADS).then_some(())
    });
    let held = resident(&program).saturating_sub(before) / UPLOADS;
    println!("{held} bytes an upload");
    assert!(held < 1 << 20, "{held}");
    drop(clients);
}

/// Brings one too large whose length is told, one whose length is not, and one that fits.
fn fill(program: &Program) -> [u16; 3] {
    let told = put(program, "told", &wav(3_000_000));
    let mut client = program.connect();
    client.ask(
        "PUT",
        &target("untold"),
        &[TOKEN, "Transfer-Encoding: chunked"],
    );
    for part in wav(3_000_000).chunks(100_000) {
        client.send(format!("{:x}\r\n", part.len()));
        client.send(part);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
    let untold = client.response("PUT").status;
    [told, untold, put(program, "fits", &wav(300_000))]
}

/// The limit of a file's size stands for the end of the disk where no small disk can be had.
#[test]
fn a_disk_that_takes_no_more_is_507_and_leaves_nothing() {
    let place = Place::new();
    place.write("tokens", TOKEN_LINE, 0o600);
    let limited = "trap '' XFSZ; ulimit -f 2000; exec \"$0\" \"$@\"";
    let mut command = std::process::Command::new("/bin/sh");
    command.env_clear().current_dir(place.path(""));
    command.args(["-c", limited, TONEARM]);
    command.args(SERVE).args(FLAGS);
    let program = Program::start(command);
    assert_eq!(fill(&program), [507, 507, 201]);
    assert_eq!(names(&place.path("storage/+incoming")), [""; 0]);
    assert_eq!(
        names(&place.path("storage").join(OWNER)),
        ["fits.json", "fits.wav"]
    );
}

#[test]
fn a_full_disk_is_507_and_leaves_nothing() {
    let place = Place::new();
    place.write("tokens", TOKEN_LINE, 0o600);
    let storage = place.path("storage");
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(&storage)
        .output();
    if !mount.is_ok_and(|mount| mount.status.success()) {
        // Few may, in CI too. The test above is run everywhere.
        let line = "SKIPPED: a small disk cannot be mounted here\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let program = place.serve_with(&FLAGS, &[]);
    let statuses = fill(&program);
    let left = names(&storage.join("+incoming"));
    drop(program);
    let unmount = std::process::Command::new("umount").arg(&storage).status();
    assert!(unmount.unwrap().success());
    assert_eq!(statuses, [507, 507, 201]);
    assert_eq!(left, [""; 0]);
}
