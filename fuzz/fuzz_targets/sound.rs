//! Samples of recordings: WAV, FLAC, MP3, MP4. Input: a file.
//!
//! * No file panics more than a decoder, which the reader bears, or gives more samples than its blocks can hold.
//! * What is decoded comes in whole frames; what the survey saw is what came.
//! * What was mended and written is a recording of the same channels and as many frames.
#![no_main]

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Once};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tonearm::audio::{Content, Effort, Facts, inspect};
use tonearm::sound::{Mended, Reader, Survey, Target, write};

/// The longest sound that is written again: what is slow finds little.
const WRITTEN: u64 = 100_000;

fuzz_target!(|data: &[u8]| {
    static HOOK: Once = Once::new();
    HOOK.call_once(forgive);
    let Ok(Content::Recording(facts)) = inspect(data, Effort::Count) else {
        return;
    };
    let file = Arc::new(in_memory());
    file.write_all_at(data, 0).unwrap();
    let Some(frames) = decoded(&file, &facts, data.len()) else {
        return;
    };
    sought(&file, &facts);
    if frames <= WRITTEN {
        written(&file, &facts);
    }
});

/// The library's panics are the reader's to catch; all others end the run, as ever.
fn forgive() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or("", |place| place.file());
        if !place.contains("/symphonia") {
            usual(panic);
        }
    }));
}

fn in_memory() -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    rustix::fs::memfd_create("sound", flags).unwrap().into()
}

/// Decodes it to its end, and says how many frames there were.
fn decoded(file: &Arc<File>, facts: &Facts, length: usize) -> Option<u64> {
    let mut reader = Reader::open(file, facts).ok()?;
    assert_eq!((reader.channels, reader.rate), (facts.channels, facts.sample_rate));
    let mut survey = Survey::new(reader.channels, reader.rate, 1000);
    let mut samples = Vec::new();
    let mut frames = 0;
    loop {
        reader.read(&mut samples).ok()?;
        if samples.is_empty() {
            break;
        }
        let channels = usize::from(reader.channels);
        assert_eq!(samples.len() % channels, 0, "a frame is cut");
        survey.add(&samples);
        frames += u64::try_from(samples.len() / channels).unwrap();
    }
    assert_eq!(survey.frames, frames);
    // FLAC tells a block of 65,535 equal samples in 9 bytes; nothing packs tighter.
    assert!(frames <= (u64::try_from(length).unwrap() / 9 + 1) * 65_536, "{frames} frames");
    Some(frames)
}

fn sought(file: &Arc<File>, facts: &Facts) {
    let Ok(mut reader) = Reader::open(file, facts) else {
        return;
    };
    let mut samples = Vec::new();
    for time in [facts.duration.unwrap_or_default() / 2, Duration::ZERO, Duration::MAX] {
        if reader.seek(time).is_ok() && reader.read(&mut samples).is_ok() {
            assert_eq!(samples.len() % usize::from(reader.channels), 0);
        }
    }
}

fn written(file: &Arc<File>, facts: &Facts) {
    for target in [Target::Wav, Target::Flac] {
        let Ok(reader) = Reader::open(file, facts) else {
            return;
        };
        let mut mended = Mended::plain(reader);
        let mut out = in_memory();
        if write(&mut mended, target, &mut out).is_err() {
            continue;
        }
        out.flush().unwrap();
        let mut bytes = vec![0; usize::try_from(out.metadata().unwrap().len()).unwrap()];
        out.read_exact_at(&mut bytes, 0).unwrap();
        let Ok(Content::Recording(again)) = inspect(&bytes[..], Effort::Count) else {
            panic!("what was written is no recording");
        };
        assert_eq!((again.channels, again.sample_rate), (facts.channels, facts.sample_rate));
    }
}
