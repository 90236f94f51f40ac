//! `tonearm add --watch`: a phone system's spool, with real files, signals and kills.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::OWNER;
use crate::harness::program::{Place, poll};
use crate::wire::ingest::wav;

const CALLS: [&[u8]; 2] = [
    include_bytes!("../../../storage/app-101/test-account-01/test-call-01.wav"),
    include_bytes!("../../../storage/app-101/test-account-01/test-call-02.wav"),
];

/// A watching process, killed with this value.
struct Watcher {
    child: Child,
    lines: BufReader<ChildStdout>,
}

fn args<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    let (app, account) = OWNER.split_once('/').unwrap();
    let mut args = vec!["add", "--watch", "spool", "--app", app];
    args.extend(["--account", account, "--json"]);
    if !flags.contains(&"--pattern") {
        args.extend(["--pattern", "{id}-{caller}.wav"]);
    }
    args.extend(flags);
    args
}

impl Watcher {
    fn start(place: &Place, flags: &[&str]) -> Self {
        let mut child = place
            .command(&args(flags))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Waits for the line of the next file.
    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// The file of the next line, and what was done.
    fn told(&mut self) -> (String, String) {
        let value = self.next();
        let text = |key: &str| value[key].as_str().unwrap().to_owned();
        (text("file"), text("done"))
    }

    /// The same, of a file that need not have been finished when it was first seen.
    fn finished(&mut self) -> (String, String) {
        loop {
            let told = self.told();
            if told.1 != "stays" {
                return told;
            }
        }
    }

    fn stop(mut self) -> Vec<String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = poll("the watcher ends", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
        self.lines.by_ref().lines().map(Result::unwrap).collect()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spool() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("spool")).unwrap();
    place
}

/// Every file below a directory, hidden ones too.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let below = path.strip_prefix(root).unwrap();
                found.push(below.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn stored(place: &Place, name: &str) -> Vec<u8> {
    std::fs::read(place.path("storage").join(OWNER).join(name)).unwrap()
}

fn pair(file: &str, done: &str) -> (String, String) {
    (file.to_owned(), done.to_owned())
}

#[test]
fn finished_files_are_added_and_removed() {
    let place = spool();
    place.write("spool/1700.1-301.wav", CALLS[0], 0o644);
    let mut watcher = Watcher::start(&place, &["--settle", "0s", "--remove"]);
    assert_eq!(watcher.finished(), pair("1700.1-301.wav", "stored"));
    // Closed by its writer, in a directory that is made meanwhile.
    std::fs::create_dir_all(place.path("spool/2026/11")).unwrap();
    place.write("spool/2026/11/1700.2-302.wav", CALLS[1], 0o644);
    assert_eq!(watcher.finished(), pair("2026/11/1700.2-302.wav", "stored"));
    // Moved into place, over a name that the pattern passes over.
    place.write("elsewhere", CALLS[0], 0o644);
    std::fs::rename(place.path("elsewhere"), place.path("spool/1700.3-303.wav")).unwrap();
    assert_eq!(watcher.finished(), pair("1700.3-303.wav", "stored"));
    assert_eq!(watcher.stop(), [""; 0]);
    assert_eq!(files(&place.path("spool")), [""; 0]);
    assert_eq!(stored(&place, "1700.1.wav"), CALLS[0]);
    assert_eq!(stored(&place, "1700.2.wav"), CALLS[1]);
    assert_eq!(files(&place.path("storage").join(OWNER)).len(), 6);
}

/// A call goes on: bytes come, none come for a while, more come, and then it is over.
#[test]
fn a_file_that_is_being_written_is_never_taken() {
    let place = spool();
    let bytes = CALLS[0];
    let begin = |name: &str| {
        let mut file = File::create(place.path(name)).unwrap();
        file.write_all(&bytes[..bytes.len() / 2]).unwrap();
        file
    };
    // One that is there at the start, for longer than it takes to count as finished.
    let mut old = begin("spool/old-1.wav");
    old.set_modified(std::time::SystemTime::now() - Duration::from_hours(1))
        .unwrap();
    let mut watcher = Watcher::start(&place, &["--settle", "1s"]);
    let mut new = begin("spool/new-1.wav");
    // Two that write at once: the first to close is not the end.
    let second = OpenOptions::new()
        .append(true)
        .open(place.path("spool/new-1.wav"))
        .unwrap();
    drop(second);
    place.write("spool/done-1.wav", CALLS[1], 0o644);
    assert_eq!(watcher.told(), pair("done-1.wav", "stored"));
    for (file, name) in [(&mut old, "old"), (&mut new, "new")] {
        assert!(
            !place
                .path("storage")
                .join(OWNER)
                .join(format!("{name}.wav"))
                .exists()
        );
        file.write_all(&bytes[bytes.len() / 2..]).unwrap();
    }
    drop((old, new));
    let mut told = [watcher.told(), watcher.told()];
    told.sort();
    assert_eq!(
        told,
        [pair("new-1.wav", "stored"), pair("old-1.wav", "stored")]
    );
    assert_eq!(stored(&place, "old.wav"), bytes);
    assert_eq!(stored(&place, "new.wav"), bytes);
}

#[test]
fn what_will_not_do_is_quarantined_with_its_reason() {
    let place = spool();
    place.write(
        "spool/a-1.wav",
        "<!doctype html><title>Sign in</title>",
        0o644,
    );
    place.write("spool/b-1.wav", "", 0o644);
    place.write("spool/c c-1.wav", CALLS[0], 0o644);
    place.write("spool/d-1-2.wav", CALLS[0], 0o644);
    place.write("spool/e-1.wav", CALLS[0], 0o644);
    place.write("spool/notes.txt", "no recording", 0o644);
    let (app, account) = OWNER.split_once('/').unwrap();
    let other = place.path("storage").join(OWNER).join("test.wav");
    std::fs::write(other, CALLS[1]).unwrap();
    place.write("spool/test-1.wav", CALLS[0], 0o644);
    place.write("spool/quarantine-of-another", "", 0o644);
    std::fs::create_dir(place.path("spool/quarantine")).unwrap();
    // A namesake that was set aside before keeps its name and its reason.
    place.write("spool/quarantine/a-1.wav", "older", 0o644);
    let mut watcher = Watcher::start(&place, &["--settle", "0s", "--remove"]);
    let mut told: Vec<_> = (0..8).map(|_| watcher.told()).collect();
    told.sort();
    assert_eq!(
        told,
        [
            pair("a-1.wav", "quarantined"),
            pair("b-1.wav", "quarantined"),
            pair("c c-1.wav", "quarantined"),
            pair("d-1-2.wav", "quarantined"),
            pair("e-1.wav", "stored"),
            pair("notes.txt", "passed over"),
            pair("quarantine-of-another", "passed over"),
            pair("test-1.wav", "quarantined"),
        ]
    );
    assert_eq!(watcher.stop(), [""; 0]);
    for (name, says) in [
        ("a-1.wav.1", "a web page (HTML), not audio"),
        ("b-1.wav", "empty"),
        ("c c-1.wav", "its name says \"c c\""),
        ("d-1-2.wav", "more than one way"),
        (
            "test-1.wav",
            &*format!("another recording has the id {app}/{account}/test"),
        ),
    ] {
        assert!(
            place.path("spool/quarantine").join(name).is_file(),
            "{name}"
        );
        let reason = place.read(&format!("spool/quarantine/{name}.reason.txt"));
        assert!(reason.contains(says), "{name}: {reason}");
    }
    assert_eq!(place.read("spool/quarantine/a-1.wav"), "older");
    assert!(place.path("spool/notes.txt").is_file());
    assert_eq!(stored(&place, "test.wav"), CALLS[1]);
}

#[test]
fn what_is_left_is_not_added_twice_even_when_it_is_gone_from_the_store() {
    let place = spool();
    place.write("spool/a-1.wav", CALLS[0], 0o644);
    let mut watcher = Watcher::start(&place, &["--settle", "0s"]);
    assert_eq!(watcher.told(), pair("a-1.wav", "stored"));
    assert_eq!(watcher.stop(), [""; 0]);
    std::fs::remove_dir_all(place.path("storage").join(OWNER)).unwrap();
    // The ledger may have lost its last line's end.
    let mut ledger = OpenOptions::new()
        .append(true)
        .open(place.path("spool/.tonearm-added"))
        .unwrap();
    ledger.write_all(b"{\"file\":\"b-").unwrap();
    let mut watcher = Watcher::start(&place, &["--settle", "0s"]);
    place.write("spool/b-1.wav", CALLS[1], 0o644);
    assert_eq!(watcher.told(), pair("b-1.wav", "stored"));
    assert_eq!(watcher.stop(), [""; 0]);
    let there = files(&place.path("storage").join(OWNER));
    assert_eq!(there, ["b.json", "b.wav"]);
    // Another file of the name is another recording.
    place.write("spool/b-1.wav", CALLS[0], 0o644);
    let mut watcher = Watcher::start(&place, &["--settle", "0s", "--replace"]);
    assert_eq!(watcher.told(), pair("b-1.wav", "replaced"));
}

#[test]
fn what_was_added_is_moved_and_mended() {
    let place = spool();
    place.write("spool/a-1.wav", CALLS[0], 0o644);
    let flags = [
        "--settle",
        "0s",
        "--move-to",
        "spool/done",
        "--swap",
        "--to",
        "flac",
    ];
    let mut watcher = Watcher::start(&place, &flags);
    assert_eq!(watcher.told(), pair("a-1.wav", "stored"));
    assert_eq!(watcher.stop(), [""; 0]);
    assert_eq!(files(&place.path("spool")), ["done/a-1.wav"]);
    assert_eq!(
        std::fs::read(place.path("spool/done/a-1.wav")).unwrap(),
        CALLS[0]
    );
    assert_eq!(
        files(&place.path("storage").join(OWNER)),
        ["a.flac", "a.json"]
    );
}

#[test]
fn a_dry_run_touches_nothing_and_ends() {
    let place = spool();
    place.write("spool/a-1.wav", CALLS[0], 0o644);
    place.write("spool/b-1.wav", "no", 0o644);
    let ran = place.run(&args(&["--dry-run", "--remove"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.out.contains("\"would be stored\"") && ran.out.contains("\"would be quarantined\"")
    );
    assert_eq!(files(&place.path("spool")), ["a-1.wav", "b-1.wav"]);
    assert_eq!(files(&place.path("storage")), [""; 0]);
}

#[test]
fn what_cannot_be_watched_is_said() {
    let place = spool();
    let whose: [(&[&str], i32, &str); 6] = [
        (&["--pattern", "{caller}.wav"], 2, "{id} once"),
        (&["--pattern", "{app}-{id}.wav"], 2, "either --app"),
        (&["--id", "c1"], 2, "cannot be used with"),
        (&["--settle", "soon"], 2, "--settle"),
        (&["--move-to", "/proc"], 2, "another file system"),
        (&["--remove", "--move-to", "done"], 2, "cannot be used with"),
    ];
    for (flags, code, says) in whose {
        let ran = place.run(&args(flags));
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.err.contains(says), "{ran:?}");
    }
    let ran = place.run(&[
        "add",
        "--watch",
        "none",
        "--pattern",
        "{app}-{account}-{id}.wav",
    ]);
    assert_eq!(ran.code, Some(74), "{ran:?}");
    let mut watcher = Watcher::start(&place, &["--settle", "0s"]);
    place.write("spool/a-1.wav", CALLS[0], 0o644);
    watcher.told();
    let second = place.run(&args(&[]));
    assert_eq!(second.code, Some(69), "{second:?}");
    assert!(second.err.contains("being watched already"), "{second:?}");
}

/// The store fails, and then it does not.
#[test]
fn what_the_store_cannot_take_now_stays() {
    let place = spool();
    place.write("spool/a-1.wav", CALLS[0], 0o644);
    place.write("storage/+incoming", "in the way", 0o644);
    let mut watcher = Watcher::start(&place, &["--settle", "0s", "--remove"]);
    assert_eq!(watcher.told(), pair("a-1.wav", "stays"));
    std::fs::remove_file(place.path("storage/+incoming")).unwrap();
    assert_eq!(watcher.stop(), [""; 0]);
    assert_eq!(files(&place.path("spool")), ["a-1.wav"]);
    let mut watcher = Watcher::start(&place, &["--settle", "0s", "--remove"]);
    assert_eq!(watcher.told(), pair("a-1.wav", "stored"));
}

#[test]
fn killed_at_any_moment_it_loses_nothing_and_adds_nothing_twice() {
    const FILES: usize = 40;
    for flags in [&["--remove"][..], &["--move-to", "done"], &[]] {
        let flags = [flags, &["--settle", "0s"]].concat();
        let place = spool();
        let bytes = wav(100_000);
        for number in 0..FILES {
            // Finished long ago.
            place.write(&format!("spool/{number}-1.wav"), &bytes, 0o644);
        }
        let mut told = 0;
        for round in 0..12 {
            let mut watcher = Watcher::start(&place, &flags);
            std::thread::sleep(Duration::from_millis(7 * round % 60));
            watcher.child.kill().unwrap();
            watcher.child.wait().unwrap();
            let lines = watcher.lines.by_ref().lines().map(Result::unwrap);
            // The last line may be half of one.
            told += lines.filter(|line| line.contains("\"stored\"")).count();
        }
        let mut watcher = Watcher::start(&place, &flags);
        place.write("spool/last-1.wav", &bytes, 0o644);
        loop {
            let (file, done) = watcher.told();
            told += usize::from(done == "stored");
            if file == "last-1.wav" {
                break;
            }
        }
        watcher.stop();
        assert!(told <= FILES + 1, "{told}");
        let there = files(&place.path("storage"));
        // A recording and a record each, and nothing else.
        assert_eq!(there.len(), 2 * (FILES + 1), "{there:?}");
        let left = files(&place.path("spool"));
        let expect = if flags.len() == 2 { FILES + 2 } else { 0 };
        assert_eq!(left.len(), expect, "{left:?}");
        assert_eq!(
            flags[0] == "--move-to",
            place.path("done/last-1.wav").exists()
        );
    }
}
