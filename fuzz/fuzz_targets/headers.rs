//! Headers of recordings: WAV, FLAC, MP3, MP4. Input: a file.
//!
//! * No file panics, loops, or is read over and over.
//! * However much may be read, it is one recording; a duration is there when it is said to be known.
//! * With any chunks before it, a well-formed sound lasts as long as it does.
#![no_main]

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tonearm::audio::{Content, Effort, Facts, Known, Ranged, Verdict, inspect};

fuzz_target!(|data: &[u8]| {
    let header = told(data, Effort::Header);
    let count = told(data, Effort::Count);
    match (header, count) {
        (Content::Recording(header), Content::Recording(count)) => {
            assert_eq!(
                (header.container, header.codec, header.channels, header.sample_rate),
                (count.container, count.codec, count.channels, count.sample_rate)
            );
        }
        (header, count) => assert_eq!(header, count),
    }
    wrapped(data);
});

/// Counts reads and bytes.
struct Metered<'a>(&'a [u8], Cell<usize>, Cell<usize>);

impl Ranged for Metered<'_> {
    type Error = Infallible;

    fn length(&self) -> u64 {
        self.0.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let count = self.0.read_at(offset, buffer)?;
        self.1.set(self.1.get() + 1);
        self.2.set(self.2.get() + count);
        Ok(count)
    }
}

fn told(data: &[u8], effort: Effort) -> Content {
    let source = Metered(data, Cell::new(0), Cell::new(0));
    let Ok(content) = inspect(&source, effort);
    let (reads, bytes) = (source.1.get(), source.2.get());
    // A box of 8 bytes may cost a read; none costs many.
    assert!(reads <= 64 + data.len() / 2, "{reads} reads of {}", data.len());
    assert!(bytes <= (64 + data.len() / 2) * 64 * 1024);
    if let Content::Recording(facts) = &content {
        plausible(facts);
    }
    content
}

fn plausible(facts: &Facts) {
    assert_eq!(facts.duration.is_none(), facts.duration_known == Known::Unknown);
    let verdict = Verdict::of(facts);
    for concern in &verdict.concerns {
        assert!(concern.leaves() >= verdict.good_for);
        assert!(!concern.to_string().is_empty());
    }
}

/// A file made of chunks cut out of the input, then a format and a sound.
fn wrapped(data: &[u8]) {
    let [low, high, lengths @ ..] = data else {
        return;
    };
    let rate = u32::from_le_bytes([*low, *high, 0, 0]) + 1;
    let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
    let mut rest = lengths;
    while let [size, id, after @ ..] = rest {
        let body = &after[..usize::from(*size).min(after.len())];
        push_chunk(&mut file, [b'x', *id, b'y', b'z'], body);
        rest = &after[body.len()..];
        // More chunks than a recording has.
        if file.len() > 8000 {
            break;
        }
    }
    let mut format = *b"\x01\0\x02\0rate\0\0\0\0\x04\0\x10\0";
    format[4..8].copy_from_slice(&rate.to_le_bytes());
    push_chunk(&mut file, *b"fmt ", &format);
    let sound = u32::from(*high) * 4 + 4;
    file.extend(b"data");
    file.extend(sound.to_le_bytes());
    file.resize(file.len() + usize::try_from(sound).unwrap(), 7);
    let Content::Recording(facts) = told(&file, Effort::Header) else {
        panic!("no recording");
    };
    let nanos = u64::from(sound / 4) * 1_000_000_000 / u64::from(rate);
    assert_eq!(facts.duration, Some(Duration::from_nanos(nanos)));
    assert_eq!(facts.duration_known, Known::Header);
}

fn push_chunk(file: &mut Vec<u8>, id: [u8; 4], body: &[u8]) {
    file.extend(id);
    file.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    file.extend(body);
    if body.len() % 2 == 1 {
        file.push(0);
    }
}
