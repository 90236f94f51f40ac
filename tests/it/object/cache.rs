//! Slices of a bucket on local disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tonearm::server::now;
use tonearm::store::{CacheOutcome, CacheSettings, Limits, Slices, Store};

use crate::harness::bucket::{Fault, FaultyS3, key};
use crate::harness::raw::Client;
use crate::harness::{Server, Setup, pattern};

const SLICE: u64 = 100_000;
const LENGTH: usize = 640_123;

fn settings(directory: &Path) -> CacheSettings {
    CacheSettings {
        directory: directory.join("cache"),
        size: 100 << 20,
        slice: SLICE,
        keep: Duration::from_secs(3600),
    }
}

/// A server over slices.
struct Cached {
    s3: FaultyS3,
    server: Server,
    slices: Arc<Slices>,
    store: Store,
    directory: tempfile::TempDir,
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
        }
    }

    fn get(&self, range: &str) -> (u16, Vec<u8>) {
        let field = format!("Range: bytes={range}");
        let answer = self.server.get(&self.server.sign("call.wav"), &[&field]);
        (answer.status, answer.body)
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
        let (status, body) = cached.get(&format!("{}-{}", range.0, range.1));
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
            let (status, body) = cached.get(&format!("{first}-{last}"));
            assert_eq!(status, 206);
            assert!(body == pattern(LENGTH)[first..=last], "{first}-{last}");
        }
    }
    let fetched = cached.fetched();
    assert_eq!(fetched.len(), 7, "{fetched:?}");
    assert_eq!(cached.count(CacheOutcome::Miss), 7);
    assert_eq!(cached.count(CacheOutcome::Bypass), 0);
}
