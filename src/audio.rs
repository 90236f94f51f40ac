//! What a recording's first bytes tell of it: today the duration of a WAV.
//!
//! Pure: bytes are handed in. Every size in a header is a claim, held against the file's length.

use std::time::Duration;

/// How many of a file's first bytes [`wav_duration`] wants to see. Headers are far smaller; writers
/// that put metadata before the sound need some room.
pub const WAV_HEAD: usize = 4096;

/// The duration of a WAV of `length` bytes that begins with `head`; `None` where it is no WAV or
/// its header does not say.
#[must_use]
pub fn wav_duration(head: &[u8], length: u64) -> Option<Duration> {
    let mut chunks = Chunks::of_wave(head)?;
    let mut byte_rate = None;
    loop {
        let chunk = chunks.next()?;
        match &chunk.id {
            b"fmt " => byte_rate = u32_at(chunk.body, 8).filter(|rate| *rate > 0),
            b"data" => {
                let rest = length.checked_sub(chunk.offset)?;
                // Streamed writers leave 0 or 0xFFFFFFFF, crashed ones what they hoped for.
                let sound = match chunk.size {
                    0 => rest,
                    size => u64::from(size).min(rest),
                };
                let rate = u64::from(byte_rate?);
                let nanos = u128::from(sound) * 1_000_000_000 / u128::from(rate);
                return u64::try_from(nanos).ok().map(Duration::from_nanos);
            }
            _ => {}
        }
    }
}

/// A RIFF chunk, as far as it lies in the bytes at hand.
struct Chunk<'a> {
    id: [u8; 4],
    size: u32,
    /// Where its body begins in the file.
    offset: u64,
    body: &'a [u8],
}

struct Chunks<'a> {
    rest: &'a [u8],
    offset: u64,
}

impl<'a> Chunks<'a> {
    /// RIFF, size, WAVE, then chunks.
    fn of_wave(head: &'a [u8]) -> Option<Self> {
        let (riff, rest) = head.split_at_checked(12)?;
        let wave = riff.starts_with(b"RIFF") && riff.ends_with(b"WAVE");
        wave.then_some(Self { rest, offset: 12 })
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let (header, body) = self.rest.split_at_checked(8)?;
        let id = header.first_chunk::<4>()?;
        let size = u32_at(header, 4)?;
        let offset = self.offset + 8;
        // Bodies are padded to an even length.
        let step = u64::from(size) + u64::from(size % 2);
        let inside = usize::try_from(step).unwrap_or(usize::MAX).min(body.len());
        let chunk = Chunk {
            id: *id,
            size,
            offset,
            body: &body[..inside],
        };
        self.rest = &body[inside..];
        self.offset = offset + step;
        Some(chunk)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(byte_rate: u32, extra: &[u8], data_size: u32) -> Vec<u8> {
        let mut out = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x40\x1f\0\0".to_vec();
        out.extend(byte_rate.to_le_bytes());
        out.extend(b"\x04\0\x10\0");
        out.extend(extra);
        out.extend(b"data");
        out.extend(data_size.to_le_bytes());
        out
    }

    #[test]
    fn durations() {
        let second = Some(Duration::from_secs(1));
        for (what, head, length, expect) in [
            ("plain", wav(32_000, b"", 32_000), 32_044, second),
            ("streamed, 0", wav(32_000, b"", 0), 32_044, second),
            (
                "streamed, all ones",
                wav(32_000, b"", u32::MAX),
                32_044,
                second,
            ),
            ("cut short", wav(32_000, b"", 64_000), 32_044, second),
            (
                "a chunk after the sound",
                wav(32_000, b"", 32_000),
                99_999,
                second,
            ),
            (
                "an odd chunk between",
                wav(32_000, b"LIST\x03\0\0\0abc\0", 32_000),
                32_056,
                second,
            ),
            ("no rate", wav(0, b"", 32_000), 32_044, None),
            (
                "header alone",
                wav(32_000, b"", 0),
                44,
                Some(Duration::ZERO),
            ),
            ("shorter than its header", wav(32_000, b"", 9), 10, None),
            (
                "cut in the header",
                wav(32_000, b"", 9)[..40].to_vec(),
                40,
                None,
            ),
            ("a page", b"<!doctype html>".to_vec(), 15, None),
            ("nothing", vec![], 0, None),
        ] {
            assert_eq!(wav_duration(&head, length), expect, "{what}");
        }
    }

    #[test]
    fn the_samples() {
        for (name, millis) in [("test-call-01", 23_632), ("test-call-02", 23_860)] {
            let path = format!("storage/app-101/test-account-01/{name}.wav");
            let bytes = std::fs::read(path).unwrap();
            let length = u64::try_from(bytes.len()).unwrap();
            let duration = wav_duration(&bytes[..WAV_HEAD], length).unwrap();
            assert_eq!(duration.as_millis(), millis, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(tail: Vec<u8>, length: u64) {
            let mut head = b"RIFF\0\0\0\0WAVE".to_vec();
            head.extend(tail);
            let _ = wav_duration(&head, length);
        }
    }
}
