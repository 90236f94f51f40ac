//! What it costs to know a recording, and to mend one.
//!
//! `cargo bench --bench sound`. Rates are in frames of the result a second: by 8000, that is how
//! many times faster than a call plays.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use tonearm::audio::{Content, Effort, Facts, inspect};
use tonearm::sound::{Mended, Reader, Target, write};
use tonearm::store::Opened;

const SAMPLES: [&str; 4] = [
    "test-call-01.wav",
    "test-call-02.wav",
    "test-call-03.flac",
    "test-call-04.mp3",
];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    headers(&mut criterion);
    mending(&mut criterion);
    criterion.final_summary();
}

fn open(name: &str) -> Arc<File> {
    Arc::new(File::open(format!("storage/app-101/test-account-01/{name}")).unwrap())
}

fn facts(file: &File, effort: Effort) -> Facts {
    match inspect(&Opened::new(file).unwrap(), effort).unwrap() {
        Content::Recording(facts) => facts,
        Content::Other(other) => unreachable!("{other}"),
    }
}

fn headers(criterion: &mut Criterion) {
    for name in SAMPLES {
        let file = open(name);
        criterion.bench_function(&format!("inspect {name}"), |bencher| {
            bencher.iter(|| facts(&file, Effort::Header));
        });
    }
}

fn reader(file: &Arc<File>) -> Reader {
    Reader::open(file, &facts(file, Effort::Header)).unwrap()
}

/// One channel of a recording, as a file of its own.
fn leg() -> Arc<File> {
    let mut bytes = std::fs::read("storage/app-101/test-account-01/test-call-01.wav").unwrap();
    // A header of 44 bytes that says one channel; its sound is then twice as long.
    bytes[22] = 1;
    bytes[32] = 2;
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    Arc::new(file)
}

fn mending(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("to");
    for name in SAMPLES {
        for (target, word) in [(Target::Wav, "wav"), (Target::Flac, "flac")] {
            let file = open(name);
            let known = facts(&file, Effort::Header);
            let frames = known.duration.unwrap().as_millis() * u128::from(known.sample_rate) / 1000;
            group.throughput(Throughput::Elements(u64::try_from(frames).unwrap()));
            let mut out = tempfile::tempfile().unwrap();
            group.bench_function(format!("{word}, {name}"), |bencher| {
                bencher.iter(|| write(&mut Mended::plain(reader(&file)), target, &mut out));
            });
        }
    }
    let (first, second) = (leg(), leg());
    let known = facts(&first, Effort::Header);
    let frames = known.duration.unwrap().as_millis() * 8;
    group.throughput(Throughput::Elements(u64::try_from(frames).unwrap()));
    let mut out = tempfile::tempfile().unwrap();
    group.bench_function("wav, two legs joined", |bencher| {
        bencher.iter(|| {
            let legs = [&first, &second].map(|leg| (reader(leg), Duration::ZERO));
            write(&mut Mended::joined(legs).unwrap(), Target::Wav, &mut out)
        });
    });
    group.finish();
}
