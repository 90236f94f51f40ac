//! Slices of a bucket on local disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tonearm::recording::UnixTime;
use tonearm::select::ByteRange;
use tonearm::server::now;
use tonearm::sign::{Policy, SignedRequest, verify};
use tonearm::store::{CacheOutcome, CacheSettings, Limits, Slices, Store, StoreError};

use crate::harness::bucket::{Fault, FaultyS3, key};
use crate::harness::raw::Client;
use crate::harness::{Server, Setup, keyring, pattern, poll};

const SLICE: u64 = 100_000;
const LENGTH: usize = 640_123;

fn settings(directory: &Path) -> CacheSettings {
    CacheSettings {
        directory: directory.join("cache"),
        size: 100 << 20,
        slice: SLICE,
        keep: Duration::from_hours(1),
    }
}

/// A server over slices.
struct Cached {
    s3: FaultyS3,
    server: Server,
    slices: Arc<Slices>,
    store: Store,
    directory: tempfile::TempDir,
    began: UnixTime,
}

impl Cached {
    fn new() -> Self {
        Self::with(|settings| settings, 2)
    }

    fn with(change: impl FnOnce(CacheSettings) -> CacheSettings, trust: u64) -> Self {
        let s3 = FaultyS3::start();
        s3.put(&key("call.wav"), &pattern(LENGTH));
        Self::over(s3, tempfile::tempdir().unwrap(), change, trust)
    }

    fn over(
        s3: FaultyS3,
        directory: tempfile::TempDir,
        change: impl FnOnce(CacheSettings) -> CacheSettings,
        trust: u64,
    ) -> Self {
        let limits = Limits {
            timeout: Duration::from_secs(5),
            ..Limits::default()
        };
        let settings = change(settings(directory.path()));
        let (store, slices) = s3.cached(limits, settings, trust);
        let server = Server::with(Setup {
            store: Some(store.clone()),
            ..Setup::default()
        });
        Self {
            s3,
            server,
            slices,
            store,
            directory,
            began: now(),
        }
    }

    fn get(&self, range: &str) -> (u16, Vec<u8>) {
        let field = format!("Range: bytes={range}");
        let answer = self.server.get(&self.server.sign("call.wav"), &[&field]);
        (answer.status, answer.body)
    }

    /// The same, and waits until what was fetched for it is a slice.
    fn get_settled(&self, range: &str) -> (u16, Vec<u8>) {
        let answer = self.get(range);
        poll("all flights land", || {
            (self.slices.under_way() == 0).then_some(())
        });
        answer
    }

    /// The ranges that the store was asked for since the last call.
    fn fetched(&self) -> Vec<String> {
        let asked = self.s3.asked().into_iter();
        let mut ranges: Vec<_> = asked
            .filter_map(|line| Some(line.strip_prefix("GET ")?.split_once(' ')?.1.to_owned()))
            .collect();
        ranges.sort();
        ranges
    }

    fn count(&self, outcome: CacheOutcome) -> u64 {
        self.slices.count(outcome)
    }

    /// The files of slices.
    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path().join("cache")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut slices: Vec<_> = paths.filter(|path| !path.ends_with("lock")).collect();
        slices.sort();
        slices
    }
}

#[test]
fn a_slice_is_fetched_once_and_served_often() {
    let cached = Cached::new();
    for range in [(150_000, 150_999), (100_000, 199_999), (199_999, 199_999)] {
        let (status, body) = cached.get_settled(&format!("{}-{}", range.0, range.1));
        assert_eq!(status, 206);
        assert!(body == pattern(LENGTH)[range.0..=range.1], "{range:?}");
    }
    assert_eq!(cached.fetched(), ["100000-199999"]);
    assert_eq!(cached.count(CacheOutcome::Miss), 1);
    assert_eq!(cached.count(CacheOutcome::Hit), 2);
    assert_eq!(cached.files().len(), 1);
    assert_eq!(cached.slices.bytes(), SLICE + 32);
}

#[test]
fn a_body_of_many_slices_is_whole() {
    let cached = Cached::new();
    for _ in 0..2 {
        let answer = cached.server.get(&cached.server.sign("call.wav"), &[]);
        assert_eq!(answer.status, 200);
        assert!(answer.body == pattern(LENGTH));
        for (first, last) in [
            (0, 99_999),
            (99_999, 100_000),
            (50_000, 640_122),
            (250_000, 600_000),
        ] {
            let (status, body) = cached.get_settled(&format!("{first}-{last}"));
            assert_eq!(status, 206);
            assert!(body == pattern(LENGTH)[first..=last], "{first}-{last}");
        }
    }
    let fetched = cached.fetched();
    assert_eq!(fetched.len(), 7, "{fetched:?}");
    assert_eq!(cached.count(CacheOutcome::Miss), 7);
    assert_eq!(cached.count(CacheOutcome::Bypass), 0);
}

#[test]
fn a_thousand_seeks_at_once_fetch_each_slice_once() {
    let cached = Cached::new();
    cached
        .s3
        .faults(vec![Fault::Late(Duration::from_millis(200)); 7]);
    let seeks: Vec<_> = (0..1000).map(|at| (at * 7919) % (LENGTH - 10)).collect();
    let asking = seeks.iter().map(|at| {
        let mut client = cached.server.connect();
        let field = format!("Range: bytes={at}-{}", at + 9);
        client.ask("GET", &cached.server.sign("call.wav"), &[&field]);
        client
    });
    let asking: Vec<Client> = asking.collect();
    for (at, mut client) in seeks.iter().zip(asking) {
        let answer = client.response("GET");
        assert_eq!(answer.status, 206);
        assert_eq!(answer.body, pattern(LENGTH)[*at..at + 10]);
    }
    let fetched = cached.fetched();
    let slices: BTreeSet<_> = fetched.iter().collect();
    assert_eq!((fetched.len(), slices.len()), (7, 7), "{fetched:?}");
    assert_eq!(cached.count(CacheOutcome::Miss), 7);
    assert!(cached.count(CacheOutcome::Joined) > 0);
}

#[test]
fn a_fetch_outlives_who_asked_first() {
    let cached = Cached::new();
    cached.s3.faults([Fault::Late(Duration::from_millis(300))]);
    let target = cached.server.sign("call.wav");
    let mut first = cached.server.connect();
    first.ask("GET", &target, &["Range: bytes=0-9"]);
    poll("the fetch begins", || {
        (cached.count(CacheOutcome::Miss) == 1).then_some(())
    });
    drop(first);
    let (status, body) = cached.get("10-19");
    assert_eq!((status, body), (206, pattern(20)[10..].to_vec()));
    assert_eq!(cached.fetched(), ["0-99999"]);
}

#[test]
fn who_waits_for_bytes_that_are_there_does_not_wait_for_the_others() {
    let cached = Cached::new();
    cached.s3.faults([Fault::Stall(50_000)]);
    for range in [10..20, 40_000..50_000] {
        let (status, body) = cached.get(&format!("{}-{}", range.start, range.end - 1));
        assert_eq!((status, &*body), (206, &pattern(LENGTH)[range]));
    }
    // None of it is a slice yet; its rest is asked for when the store was silent for long.
    assert_eq!(cached.fetched(), ["0-99999"]);
    assert_eq!(cached.slices.bytes(), 0);
    let (status, body) = cached.get("5-99999");
    assert!(status == 206 && body == pattern(LENGTH)[5..100_000]);
    assert_eq!(cached.fetched(), ["50000-99999"]);
    assert_eq!(cached.count(CacheOutcome::Miss), 1);
    assert_eq!(cached.count(CacheOutcome::Joined), 2);
}

#[test]
fn a_slice_that_breaks_off_is_gone_on_with() {
    for fault in [Fault::Reset(40_000), Fault::Close(40_000), Fault::Close(0)] {
        let cached = Cached::new();
        cached.s3.faults([fault.clone()]);
        let (status, body) = cached.get("5-50004");
        assert_eq!(status, 206, "{fault:?}");
        assert!(body == pattern(LENGTH)[5..=50_004], "{fault:?}");
    }
}

#[test]
fn a_slice_that_cannot_be_had_is_an_answer_and_leaves_nothing() {
    for (fault, status) in [
        (Fault::Status(503), 503),
        (Fault::Status(403), 502),
        (Fault::Whole, 502),
        (Fault::Shifted, 502),
        (Fault::OtherVersion, 503),
        (Fault::Status(412), 503),
    ] {
        let cached = Cached::new();
        cached.s3.faults(vec![fault.clone(); 4]);
        let answer = cached
            .server
            .get(&cached.server.sign("call.wav"), &["Range: bytes=0-9"]);
        assert_eq!(answer.status, status, "{fault:?}");
        assert!(answer.field("retry-after").is_some(), "{fault:?}");
        assert!(cached.count(CacheOutcome::Error) > 0);
        assert_eq!(cached.files(), [""; 0].map(PathBuf::from), "{fault:?}");
        cached.s3.faults([]);
        assert_eq!(cached.get("0-9"), (206, pattern(10)), "after {fault:?}");
    }
}

#[test]
fn a_later_slice_that_cannot_be_had_cuts_the_connection() {
    for fault in [Fault::Status(403), Fault::OtherVersion, Fault::Longer(1)] {
        let cached = Cached::new();
        let faults = std::iter::repeat_n(Fault::None, 2).chain(vec![fault.clone(); 99]);
        cached.s3.faults(faults);
        let mut client = cached.server.connect();
        client.ask("GET", &cached.server.sign("call.wav"), &[]);
        assert_eq!(client.head().status, 200);
        let body = client.rest();
        assert!((200_000..LENGTH).contains(&body.len()), "{fault:?}");
        assert!(body == pattern(body.len()), "{fault:?}");
        cached
            .server
            .wait_for_metric("tonearm_bodies_total{outcome=\"failed\"} 1");
    }
}

#[test]
fn a_replaced_object_is_never_spliced() {
    let cached = Cached::new();
    assert_eq!(cached.get_settled("0-9"), (206, pattern(10)));
    let replaced: Vec<u8> = pattern(LENGTH).iter().map(|byte| byte ^ 1).collect();
    cached.s3.put(&key("call.wav"), &replaced);
    // What lies in the cache is of the version that was; what does not shows that it was.
    let (status, body) = cached.get_settled("300000-300009");
    assert_eq!((status, &*body), (206, &replaced[300_000..300_010]));
    let whole = cached.server.get(&cached.server.sign("call.wav"), &[]);
    assert!(whole.body == replaced);
}

#[test]
fn what_is_used_least_goes_first() {
    let room = |settings| CacheSettings {
        size: 3 * (SLICE + 32),
        ..settings
    };
    let cached = Cached::with(room, 2);
    for at in [0, 100_000, 200_000, 0, 300_000, 0, 100_000] {
        let (status, body) = cached.get_settled(&format!("{at}-{}", at + 9));
        assert_eq!((status, &*body), (206, &pattern(LENGTH)[at..at + 10]));
        assert!(cached.files().len() <= 3);
        assert!(cached.slices.bytes() <= 3 * (SLICE + 32));
    }
    // 100000 made room for 300000, and was fetched again.
    assert_eq!(cached.count(CacheOutcome::Miss), 5);
    assert_eq!(cached.count(CacheOutcome::Hit), 2);
}

#[test]
fn a_body_longer_than_the_cache_is_whole() {
    let room = |settings| CacheSettings {
        size: 2 * (SLICE + 32),
        ..settings
    };
    let cached = Cached::with(room, 2);
    let answer = cached.server.get(&cached.server.sign("call.wav"), &[]);
    assert!(answer.body == pattern(LENGTH));
    assert!(cached.slices.bytes() <= 2 * (SLICE + 32));
}

/// What a disk, or somebody at it, may do to a slice.
type Damage = (&'static str, fn(&Path));

fn damages() -> [Damage; 4] {
    fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
    [
        ("a bit", |path| rewrite(path, |bytes| bytes[5] ^= 1)),
        ("cut", |path| rewrite(path, |bytes| bytes.truncate(60_000))),
        ("grown", |path| rewrite(path, |bytes| bytes.push(0))),
        ("gone", |path| std::fs::remove_file(path).unwrap()),
    ]
}

#[test]
fn a_damaged_slice_is_fetched_again() {
    for (what, damage) in damages() {
        let cached = Cached::new();
        assert_eq!(cached.get_settled("0-9").0, 206);
        damage(&cached.files()[0]);
        assert_eq!(cached.get_settled("0-9"), (206, pattern(10)), "{what}");
        assert_eq!(
            cached.get_settled("99990-99999").1,
            pattern(LENGTH)[99_990..100_000]
        );
        // An open file that has lost its name is as good as before.
        let again = u64::from(what != "gone");
        assert_eq!(cached.count(CacheOutcome::Miss), 1 + again, "{what}");
        assert_eq!(cached.count(CacheOutcome::Error), again, "{what}");
    }
}

#[test]
fn what_another_run_left_is_looked_at_before_it_is_believed() {
    let cached = Cached::new();
    assert!(cached.server.get(&cached.server.sign("call.wav"), &[]).body == pattern(LENGTH));
    let Cached {
        s3,
        server,
        slices,
        store,
        directory,
        ..
    } = cached;
    server.stop();
    drop((slices, store));
    let cache = directory.path().join("cache");
    let mut files: Vec<_> = std::fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| !path.ends_with("lock"));
    files.sort();
    for ((_, damage), file) in damages().into_iter().zip(&files) {
        damage(file);
    }
    // A slice under another's name is no better.
    std::fs::copy(&files[5], &files[4]).unwrap();
    let unfinished = cache.join(format!(
        "+{}",
        files[0].file_name().unwrap().to_str().unwrap()
    ));
    std::fs::write(&unfinished, b"half").unwrap();
    std::fs::write(cache.join("not-ours"), b"").unwrap();
    s3.asked();
    let again = Cached::over(s3, directory, |settings| settings, 2);
    assert!(!unfinished.exists());
    assert!(cache.join("not-ours").exists());
    assert!(again.server.get(&again.server.sign("call.wav"), &[]).body == pattern(LENGTH));
    assert_eq!(again.fetched().len(), 5);
    assert_eq!(again.count(CacheOutcome::Miss), 5);
}

#[test]
fn a_directory_that_cannot_be_used_is_done_without() {
    let s3 = FaultyS3::start();
    s3.put(&key("call.wav"), &pattern(LENGTH));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("cache"), b"a file").unwrap();
    let cached = Cached::over(s3, directory, |settings| settings, 2);
    assert_eq!(cached.get_settled("0-9"), (206, pattern(10)));
    assert_eq!(cached.fetched(), ["0-9"]);
    assert_eq!(cached.count(CacheOutcome::Bypass), 1);
    assert_eq!(cached.count(CacheOutcome::Error), 1);
    // It is looked at again.
    std::fs::remove_file(cached.directory.path().join("cache")).unwrap();
    tidy(&cached.slices);
    poll("the cache is used", || {
        assert_eq!(cached.get_settled("0-9"), (206, pattern(10)));
        (cached.count(CacheOutcome::Hit) > 0).then_some(())
    });
}

#[test]
fn a_disk_that_takes_nothing_is_done_without() {
    let cached = Cached::new();
    assert_eq!(cached.get_settled("0-9").0, 206);
    std::fs::remove_dir_all(cached.directory.path().join("cache")).unwrap();
    // In the middle of a body: the first slice is open, the others cannot be written.
    let answer = cached.server.get(&cached.server.sign("call.wav"), &[]);
    assert!(answer.body == pattern(LENGTH));
    assert!(cached.count(CacheOutcome::Bypass) > 0);
    assert!(cached.count(CacheOutcome::Error) > 0);
    cached.s3.asked();
    assert_eq!(cached.get_settled("300000-300009").0, 206);
    assert_eq!(cached.fetched(), ["300000-300009"]);
    tidy(&cached.slices);
    poll("the cache is used again", || {
        let before = cached.count(CacheOutcome::Hit);
        cached.get_settled("300000-300009");
        (cached.count(CacheOutcome::Hit) > before).then_some(())
    });
    assert!(!cached.files().is_empty());
}

#[test]
fn one_directory_has_one_user() {
    let cached = Cached::new();
    let other = Slices::open(
        settings(cached.directory.path()),
        "s3://bucket".into(),
        now(),
    );
    assert_eq!(other.count(CacheOutcome::Error), 1);
    assert_eq!(cached.get_settled("0-9").0, 206);
    assert_eq!(cached.files().len(), 1);
}

fn tidy(slices: &Arc<Slices>) {
    on_a_runtime(async { slices.tidy(now()) });
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(work)
}

#[test]
fn what_nobody_asks_for_goes() {
    let cached = Cached::new();
    assert_eq!(cached.get_settled("0-9").0, 206);
    let later = |seconds| on_a_runtime(async { cached.slices.tidy(UnixTime(now().0 + seconds)) });
    later(1800);
    assert_eq!(cached.get_settled("0-9").0, 206);
    // Used half an hour in.
    later(4000);
    assert_eq!(cached.files().len(), 1);
    later(1800 + 3700);
    poll("the slice goes", || cached.files().is_empty().then_some(()));
}

/// What the store says of a recording so many seconds after the beginning; and whether its first bytes are to be had.
fn look(cached: &Cached, at: u64) -> Result<(), StoreError> {
    let target = cached.server.sign("call.wav");
    let host = cached.server.addr.to_string();
    let request = SignedRequest {
        method: "GET",
        host: &host,
        target: &target,
    };
    let grant = verify(request, &keyring(), &Policy::default(), now()).unwrap();
    let at = cached.began.plus(at);
    on_a_runtime(async {
        let stored = cached.store.locate(&grant, at).await?;
        let range = ByteRange { first: 0, last: 9 };
        stored.open(Some(range)).await?;
        // A fetch ends with its runtime.
        while cached.slices.under_way() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    })
}

#[test]
fn without_the_store_what_is_held_is_served_for_as_long_as_is_trusted() {
    for (trust, later, served) in [
        (2, 1, true),
        (2, 3, false),
        (60, 3, true),
        (60, 59, true),
        (60, 61, false),
    ] {
        let cached = Cached::with(|settings| settings, trust);
        look(&cached, 0).unwrap();
        cached.s3.be_gone(true);
        // Many at once: none is left with nothing because another one asks.
        let together = || {
            std::thread::scope(|scope| {
                let looks: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| look(&cached, later)))
                    .collect();
                looks
                    .into_iter()
                    .map(|look| look.join().unwrap())
                    .collect::<Vec<_>>()
            })
        };
        for looked in together() {
            assert_eq!(looked.is_ok(), served, "{trust} {later}: {looked:?}");
            let unreachable = matches!(looked, Err(StoreError::Unreachable(_)));
            assert!(served || unreachable, "{looked:?}");
        }
    }
}

#[test]
fn who_asks_while_another_one_asks_is_left_with_something() {
    let cached = Cached::with(|settings| settings, 600);
    look(&cached, 0).unwrap();
    cached.s3.be_gone(true);
    // Every time nobody has asked lately.
    for later in (2..100).step_by(2) {
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    look(&cached, later).unwrap();
                });
            }
        });
    }
}

#[test]
fn an_erasure_shows_as_soon_as_the_store_can_be_asked() {
    let cached = Cached::with(|settings| settings, 600);
    look(&cached, 0).unwrap();
    assert_eq!(cached.files().len(), 1);
    cached.s3.be_gone(true);
    look(&cached, 10).unwrap();
    cached.s3.be_gone(false);
    cached.s3.put(
        &key("call.json"),
        br#"{"erased_at":"2026-01-01T00:00:00Z"}"#,
    );
    let looked = look(&cached, 13);
    assert!(matches!(looked, Err(StoreError::Erased)), "{looked:?}");
    // And its bytes go from the disk.
    poll("the slices go", || cached.files().is_empty().then_some(()));
    // What was refused is not remembered as good.
    cached.s3.be_gone(true);
    assert!(look(&cached, 14).is_err());
}

#[test]
fn an_erased_recordings_slices_go_however_long_it_was_not_asked_for() {
    let cached = Cached::new();
    look(&cached, 0).unwrap();
    assert_eq!(cached.files().len(), 1);
    on_a_runtime(async { cached.store.tidy(UnixTime(now().0 + 1000)) });
    cached.s3.put(
        &key("call.json"),
        br#"{"erased_at":"2026-01-01T00:00:00Z"}"#,
    );
    assert!(look(&cached, 1001).is_err());
    poll("the slices go", || cached.files().is_empty().then_some(()));
}

#[test]
fn slices_of_a_version_that_was_go() {
    let cached = Cached::new();
    look(&cached, 0).unwrap();
    let before = cached.files();
    cached.s3.put(&key("call.wav"), b"RIFF, and no more");
    look(&cached, 3).unwrap();
    poll("the former slice goes", || {
        (!before[0].exists()).then_some(())
    });
    assert_eq!(cached.files().len(), 1);
}
