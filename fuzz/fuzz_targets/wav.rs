//! WAV headers. Input: the file's length as 8 bytes, least significant first, then its first bytes.
//!
//! * No header panics, and what is no RIFF WAVE has no duration.
//! * What a beginning tells, no further byte takes back; a longer file is never shorter.
//! * With any chunks before it, a well-formed sound lasts as long as it does.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tonearm::audio::wav_duration;

fuzz_target!(|data: &[u8]| {
    let Some((length, head)) = data.split_first_chunk::<8>() else {
        return;
    };
    let length = u64::from_le_bytes(*length);
    let own = u64::try_from(head.len()).unwrap();
    for length in [length, own, length % 100_000] {
        check(head, length);
    }
    wrapped(head);
});

fn check(head: &[u8], length: u64) {
    let told = wav_duration(head, length);
    let wave = head.len() >= 12 && head.starts_with(b"RIFF") && head[8..12] == *b"WAVE";
    assert!(told.is_none() || wave);
    if let Some(duration) = told {
        // At one byte a second at least.
        assert!(u128::from(length) * 1_000_000_000 >= duration.as_nanos());
        let longer = wav_duration(head, length.saturating_add(1_000));
        assert!(longer.is_none_or(|longer| longer >= duration));
        let more = [head, b"LIST\x04\0\0\0more"].concat();
        assert_eq!(wav_duration(&more, length), told);
    }
    for cut in [head.len() / 2, head.len().saturating_sub(1)] {
        let earlier = wav_duration(&head[..cut], length);
        assert!(earlier.is_none() || earlier == told, "it changed its mind");
    }
}

/// A file made of chunks cut out of the input, then a format and a sound.
fn wrapped(data: &[u8]) {
    let [low, high, lengths @ ..] = data else {
        return;
    };
    let byte_rate = u32::from_le_bytes([*low, *high, 0, 0]) + 1;
    let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
    let mut rest = lengths;
    while let [size, id, after @ ..] = rest {
        let body = &after[..usize::from(*size).min(after.len())];
        push_chunk(&mut file, [b'x', *id, b'y', b'z'], body);
        rest = &after[body.len()..];
    }
    let mut format = *b"\x01\0\x02\0\x40\x1f\0\0rate\x04\0\x10\0";
    format[8..12].copy_from_slice(&byte_rate.to_le_bytes());
    push_chunk(&mut file, *b"fmt ", &format);
    let sound = u32::from_le_bytes([*high, *low, 1, 0]);
    file.extend(b"data");
    file.extend(sound.to_le_bytes());
    let begins = u64::try_from(file.len()).unwrap();

    let lasts = |bytes: u64| {
        Some(Duration::from_nanos(
            bytes * 1_000_000_000 / u64::from(byte_rate),
        ))
    };
    let bytes = u64::from(sound);
    assert_eq!(wav_duration(&file, begins + bytes), lasts(bytes));
    assert_eq!(wav_duration(&file, begins + bytes + 9), lasts(bytes));
    assert_eq!(wav_duration(&file, begins + bytes / 2), lasts(bytes / 2));
    assert_eq!(wav_duration(&file, begins - 1), None);
}

fn push_chunk(file: &mut Vec<u8>, id: [u8; 4], body: &[u8]) {
    file.extend(id);
    file.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    file.extend(body);
    if body.len() % 2 == 1 {
        file.push(0);
    }
}
