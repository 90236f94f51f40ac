use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::super::Store;
use super::*;
use crate::recording::MediaType;

struct Fixture {
    tmp: tempfile::TempDir,
    store: Store,
}

fn fixture() -> Fixture {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir(tmp.path().join("store")).unwrap();
    let local = Local::open(&tmp.path().join("store")).unwrap();
    let store = Store::Local(Arc::new(local));
    Fixture { tmp, store }
}

fn path(media: MediaType) -> MediaPath {
    MediaPath {
        recording: RecordingId::new("a", "b", "call").unwrap(),
        media,
    }
}

const LIMIT: u64 = 100;

impl Fixture {
    fn root(&self) -> PathBuf {
        self.tmp.path().join("store")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root().join("a/b").join(name)
    }

    fn put_as(&self, media: MediaType, bytes: &str, replace: &Replace) -> Result<Put, ChangeError> {
        let mut incoming = self.store.begin(LIMIT)?;
        for part in bytes.as_bytes().chunks(2) {
            incoming.write(part)?;
        }
        incoming.put(&path(media), replace, None)
    }

    fn put(&self, bytes: &str, replace: &Replace) -> String {
        word(self.put_as(MediaType::Wav, bytes, replace))
    }

    fn erase(&self, before: Option<UnixTime>) -> Result<Vec<Erased>, ChangeError> {
        let id = path(MediaType::Wav).recording;
        let mut told = Vec::new();
        let audit = |file: &Erased| {
            assert!(self.root().join(file.path.store_path()).exists());
            told.push(file.clone());
        };
        let erased = self.store.erase(&id, before, "2026-01-01T00:00:00Z", audit);
        assert_eq!(&told, erased.as_ref().unwrap_or(&Vec::new()));
        erased
    }

    /// Every name in the place, and what is left over on the way to it.
    fn names(&self) -> (String, usize) {
        let list = |directory| {
            let entries = fs::read_dir(directory).into_iter().flatten();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let place = list(self.root().join("a/b")).join(" ");
        (place, list(self.root().join("+incoming")).len())
    }

    fn record(&self) -> String {
        fs::read_to_string(self.file("call.json")).unwrap()
    }
}

fn word(put: Result<Put, ChangeError>) -> String {
    match put {
        Ok(put) => format!("{:?}", put.done),
        Err(error) => error.to_string(),
    }
}

const TAKEN: &str = "another recording has this id";

#[test]
fn a_put_records_what_it_was_and_keeps_what_others_know() {
    let fixture = fixture();
    fs::create_dir_all(fixture.root().join("a/b")).unwrap();
    let known = r#"{"generation":7,"hubspot":{"callId":"9"},"theirs":[1,{"x":null}]}"#;
    fs::write(fixture.file("call.json"), known).unwrap();
    let mut incoming = fixture.store.begin(LIMIT).unwrap();
    incoming.write(b"RIFF").unwrap();
    let facts = serde_json::json!({"channels": 2});
    let put = incoming.put(&path(MediaType::Wav), &Replace::Never, Some(facts));
    let put = put.unwrap();
    let record: serde_json::Value = serde_json::from_str(&fixture.record()).unwrap();
    assert_eq!(record["generation"], 7);
    assert_eq!(record["hubspot"]["callId"], "9");
    assert_eq!(record["theirs"][1], serde_json::json!({"x": null}));
    assert_eq!(record["audio"]["channels"], 2);
    assert_eq!(record["file"]["size"], 4);
    assert_eq!(
        put.etag.opaque(),
        record["file"]["sha256"].as_str().unwrap()
    );
    let (present, read) = fixture
        .store
        .present(&path(MediaType::Wav).recording)
        .unwrap();
    assert_eq!((present[0].etag.clone(), read), (put.etag, put.record));
}

#[test]
fn a_put_that_was_cut_off_is_completed_by_another() {
    // Killed behind the recording, before its record.
    let fixture = fixture();
    fixture.put("RIFF", &Replace::Never);
    fs::remove_file(fixture.file("call.json")).unwrap();
    assert_eq!(fixture.put("RIFF", &Replace::Never), "Same");
    assert!(fixture.record().contains("sha256"));
    // Killed behind the record, before the former format is gone.
    fs::write(fixture.file("call.mp3"), "old").unwrap();
    assert_eq!(fixture.put("RIFF", &Replace::Never), "Same");
    assert_eq!(fixture.names().0, "call.json call.mp3 call.wav");
    assert_eq!(fixture.put("RIFF", &Replace::Always), "Same");
    assert_eq!(fixture.names(), ("call.json call.wav".into(), 0));
}

#[test]
fn an_id_has_one_format() {
    let fixture = fixture();
    fixture.put("RIFF", &Replace::Never);
    let other = |replace| word(fixture.put_as(MediaType::Flac, "fLaC", replace));
    assert_eq!(other(&Replace::Never), TAKEN);
    assert_eq!(other(&Replace::Always), "Replaced");
    assert_eq!(fixture.names(), ("call.flac call.json".into(), 0));
}

#[test]
fn too_much_is_refused_and_leaves_nothing() {
    let fixture = fixture();
    assert_eq!(fixture.put(&"x".repeat(100), &Replace::Never), "Created");
    let fixture = self::fixture();
    assert_eq!(
        fixture.put(&"x".repeat(101), &Replace::Never),
        "more than 100 bytes"
    );
    assert_eq!(fixture.names(), (String::new(), 0));
}

#[test]
fn what_is_erased_is_gone_for_good() {
    let fixture = fixture();
    let missing = fixture.erase(None).unwrap_err().to_string();
    assert_eq!(missing, "no recording: no such place");
    fixture.put("RIFF", &Replace::Never);
    let known = r#"{"generation":7,"hubspot":{"callId":"9"},"theirs":1}"#;
    fs::write(fixture.file("call.json"), known).unwrap();
    fs::write(fixture.file("call.mp3"), "another").unwrap();
    let erased = fixture.erase(None).unwrap();
    assert_eq!(erased.len(), 2);
    assert_eq!(erased[0].length, 4);
    let digest: [u8; 32] = Sha256::digest("RIFF").into();
    assert_eq!(erased[0].sha256, hex(&digest));
    assert_eq!(fixture.names(), ("call.json".into(), 0));
    let record: serde_json::Value = serde_json::from_str(&fixture.record()).unwrap();
    let left = serde_json::json!({"generation": 7, "erased_at": "2026-01-01T00:00:00Z"});
    assert_eq!(record, left);
    // Again, and a file that came back by other means.
    assert_eq!(fixture.erase(None).unwrap(), []);
    fs::write(fixture.file("call.wav"), "back").unwrap();
    assert_eq!(
        fixture.put("RIFF", &Replace::Always),
        "the recording was erased"
    );
    assert_eq!(fixture.erase(None).unwrap().len(), 1);
    assert_eq!(fixture.names(), ("call.json".into(), 0));
}

#[test]
fn what_is_held_stays() {
    let fixture = fixture();
    let id = path(MediaType::Wav).recording;
    assert!(fixture.store.hold(&id, true).is_err());
    fixture.put("RIFF", &Replace::Never);
    fixture.store.hold(&id, true).unwrap();
    let held = "the recording is under legal hold";
    assert_eq!(fixture.erase(None).unwrap_err().to_string(), held);
    assert_eq!(fixture.put("RIFX", &Replace::Always), held);
    assert_eq!(fixture.put("RIFF", &Replace::Always), "Same");
    assert_eq!(fixture.names(), ("call.json call.wav".into(), 0));
    assert!(fixture.record().contains("\"legal_hold\": true"));
    fixture.store.hold(&id, false).unwrap();
    assert!(!fixture.record().contains("legal_hold"));
    assert_eq!(fixture.erase(None).unwrap().len(), 1);
    assert!(fixture.store.hold(&id, true).is_err());
}

#[test]
fn the_young_are_spared() {
    let fixture = fixture();
    fixture.put("RIFF", &Replace::Never);
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    let file = File::options().write(true).open(fixture.file("call.wav"));
    file.unwrap().set_modified(modified).unwrap();
    for (before, spared) in [(999, true), (1000, true), (1001, false)] {
        let erased = fixture.erase(Some(UnixTime(before)));
        assert_eq!(
            matches!(erased, Err(ChangeError::Young)),
            spared,
            "{before}"
        );
    }
}

#[test]
fn no_link_leads_a_put_out_of_the_store() {
    let fixture = fixture();
    let outside = fixture.tmp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    // The app, the account, the file and the record, each as a link.
    symlink(&outside, fixture.root().join("a")).unwrap();
    assert!(
        fixture
            .put_as(MediaType::Wav, "RIFF", &Replace::Always)
            .is_err()
    );
    fs::remove_file(fixture.root().join("a")).unwrap();
    fs::create_dir(fixture.root().join("a")).unwrap();
    symlink(&outside, fixture.root().join("a/b")).unwrap();
    assert!(
        fixture
            .put_as(MediaType::Wav, "RIFF", &Replace::Always)
            .is_err()
    );
    fs::remove_file(fixture.root().join("a/b")).unwrap();
    fs::create_dir(fixture.root().join("a/b")).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    symlink(outside.join("kept"), fixture.file("call.wav")).unwrap();
    assert_eq!(fixture.put("RIFF", &Replace::Always), TAKEN);
    symlink(&outside, fixture.root().join("+incoming.link")).unwrap();
    fs::remove_dir_all(fixture.root().join("+incoming")).unwrap();
    symlink(&outside, fixture.root().join("+incoming")).unwrap();
    assert!(fixture.store.begin(LIMIT).is_err());
    let left: Vec<_> = fs::read_dir(&outside).unwrap().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
}

#[test]
fn a_sweep_takes_what_nobody_writes() {
    let fixture = fixture();
    assert_eq!(fixture.store.sweep(UnixTime(0)).unwrap(), 0);
    let mut living = fixture.store.begin(LIMIT).unwrap();
    let left = fixture.root().join("+incoming/left");
    fs::write(&left, "by a killed process").unwrap();
    assert_eq!(fixture.store.sweep(UnixTime(0)).unwrap(), 1);
    assert!(!left.exists());
    living.write(b"RIFF").unwrap();
    let put = living.put(&path(MediaType::Wav), &Replace::Never, None);
    assert_eq!(put.unwrap().done, Done::Created);
    drop(fixture.store.begin(LIMIT).unwrap());
    assert_eq!(fixture.names(), ("call.json call.wav".into(), 0));
}

#[test]
fn of_many_who_put_at_once_one_wins() {
    let fixture = fixture();
    let words: Vec<String> = std::thread::scope(|scope| {
        let puts: Vec<_> = (0..8)
            .map(|number| {
                let fixture = &fixture;
                scope.spawn(move || fixture.put(&format!("bytes {}", number % 2), &Replace::Never))
            })
            .collect();
        puts.into_iter().map(|put| put.join().unwrap()).collect()
    });
    let count = |word: &str| words.iter().filter(|found| *found == word).count();
    assert_eq!(count("Created"), 1, "{words:?}");
    assert_eq!(count("Same"), 3, "{words:?}");
    assert_eq!(count(TAKEN), 4, "{words:?}");
    assert_eq!(fixture.names(), ("call.json call.wav".into(), 0));
}

/// What the cache holds open must not outlive a change, not even for the moment that a clock of
/// file times takes to tick.
#[test]
fn nothing_stale_is_located_behind_a_change() {
    let now = UnixTime(1_000);
    let grant = crate::sign::tests::grant("/media/a/b/call.wav");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for _ in 0..50 {
        let fixture = fixture();
        let located = || {
            let located = runtime.block_on(fixture.store.locate(&grant, now));
            located.map(|stored| stored.described().representation().etag.clone())
        };
        assert!(matches!(located(), Err(StoreError::NotFound(_))));
        for bytes in ["RIFF", "RIFX", "RIFF"] {
            let put = fixture.put_as(MediaType::Wav, bytes, &Replace::Always);
            assert_eq!(located().unwrap(), put.unwrap().etag);
            assert!(located().is_ok());
        }
        fixture.erase(None).unwrap();
        assert!(matches!(located(), Err(StoreError::Erased)));
    }
}
