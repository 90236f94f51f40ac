use std::time::Duration;

use super::*;

fn facts(bytes: &[u8]) -> Option<Facts> {
    let Ok(content) = inspect(bytes, Effort::Count);
    match content {
        Content::Recording(facts) => Some(facts),
        Content::Other(_) => None,
    }
}

/// A WAV of two channels of 16 bits at 8 kHz, of these sizes.
fn wav(extra: &[u8], claimed: u32, sound: usize, behind: &[u8]) -> Vec<u8> {
    let mut out = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x40\x1f\0\0\0\x7d\0\0".to_vec();
    out.extend(b"\x04\0\x10\0");
    out.extend(extra);
    out.extend(b"data");
    out.extend(claimed.to_le_bytes());
    out.resize(out.len() + sound, 0);
    out.extend(behind);
    out
}

#[test]
fn sizes_are_claims() {
    let odd = b"LIST\x03\0\0\0abc\0";
    for (what, bytes, known, oddities) in [
        (
            "plain",
            wav(b"", 32_000, 32_000, b""),
            Known::Header,
            vec![],
        ),
        (
            "streamed, 0",
            wav(b"", 0, 32_000, b""),
            Known::Counted,
            vec![Oddity::SizeUnset],
        ),
        (
            "streamed, all ones",
            wav(b"", u32::MAX, 32_000, b""),
            Known::Counted,
            vec![Oddity::SizeUnset],
        ),
        (
            "streamed, nearly 2 GiB",
            wav(b"", 0x7fff_f000, 32_000, b""),
            Known::Counted,
            vec![Oddity::SizeUnset],
        ),
        (
            "cut short",
            wav(b"", 64_000, 32_000, b""),
            Known::Counted,
            vec![Oddity::Truncated(Some(32_000))],
        ),
        (
            "an odd chunk before",
            wav(odd, 32_000, 32_000, b""),
            Known::Header,
            vec![],
        ),
        (
            "one behind",
            wav(b"", 32_000, 32_000, odd),
            Known::Header,
            vec![],
        ),
        (
            "sound behind the sound",
            wav(b"", 32_000, 32_000, &[0; 800]),
            Known::Header,
            vec![Oddity::Trailing(800)],
        ),
    ] {
        let facts = facts(&bytes).unwrap();
        assert_eq!(facts.duration, Some(Duration::from_secs(1)), "{what}");
        assert_eq!(facts.duration_known, known, "{what}");
        assert_eq!(facts.oddities, oddities, "{what}");
    }
}

#[test]
fn a_header_alone_plays_for_no_time() {
    let facts = facts(&wav(b"", 0, 0, b"")).unwrap();
    assert_eq!(facts.duration, Some(Duration::ZERO));
    let verdict = Verdict::of(&facts);
    assert_eq!(verdict.good_for, Use::Nothing);
    assert_eq!(verdict.concerns, [Concern::NoSound]);
}

#[test]
fn a_header_without_a_rate_tells_no_duration() {
    let mut bytes = wav(b"", 8, 8, b"");
    bytes[24..28].fill(0);
    let facts = facts(&bytes).unwrap();
    assert_eq!(
        (facts.duration, facts.duration_known),
        (None, Known::Unknown)
    );
    assert_eq!(Verdict::of(&facts).concerns, [Concern::NoFormat]);
}

#[test]
fn every_cut_of_the_samples_is_told_or_named() {
    for name in ["test-call-02.wav", "test-call-03.flac", "test-call-04.mp3"] {
        let path = format!("storage/app-101/test-account-01/{name}");
        let bytes = std::fs::read(path).unwrap();
        for cut in (0..300).chain([bytes.len() / 2, bytes.len() - 1]) {
            let Ok(_) = inspect(&bytes[..cut], Effort::Count);
        }
    }
}

#[test]
fn the_samples() {
    for (name, millis, good_for) in [
        ("test-call-01.wav", 23_632, Use::Transcription),
        ("test-call-02.wav", 23_860, Use::Transcription),
        ("test-call-03.flac", 17_844, Use::Transcription),
        ("test-call-04.mp3", 24_668, Use::Playback),
    ] {
        let path = format!("storage/app-101/test-account-01/{name}");
        let facts = facts(&std::fs::read(path).unwrap()).unwrap();
        let duration = facts.duration.unwrap().as_millis();
        assert!(duration.abs_diff(millis) < 100, "{name}: {duration}");
        assert_eq!(facts.duration_known, Known::Header, "{name}");
        assert_eq!(Verdict::of(&facts).good_for, good_for, "{name}");
    }
}

#[test]
fn facts_as_json() {
    let facts = facts(&wav(b"", 64_000, 32_000, b"")).unwrap();
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(
        text,
        r#"{"container":"wav","codec":"pcm","channels":2,"sample_rate":8000,"bits":16,"duration_ms":1000,"duration_known":"counted","oddities":[{"kind":"truncated","bytes":32000}]}"#
    );
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(start in 0..4_usize, tail: Vec<u8>) {
        let start: &[u8] = [&b"RIFF\0\0\0\0WAVE"[..], b"fLaC\0\0\0\x22", b"\0\0\0\x08ftyp", b"\xff\xfb\x90\0"][start];
        let _ = facts(&[start, &tail].concat());
    }
}

/// Found by fuzzing: sizes of 64 bits that add up to more than 64 bits hold.
#[test]
fn sizes_near_2_to_the_64_do_not_overflow() {
    const TAIL: [u8; 12] = *b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";
    let chunk = |id: &[u8; 4], size: u64| [&id[..], &TAIL, &size.to_le_bytes()].concat();
    for size in [
        u64::MAX,
        u64::MAX - 7,
        u64::MAX - 24,
        u64::MAX - 63,
        1 << 63,
    ] {
        let mut w64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0".to_vec();
        w64.extend(size.to_le_bytes());
        w64.extend(b"wave");
        w64.extend(TAIL);
        w64.extend(chunk(b"junk", size));
        w64.resize(w64.len() + 100, 0);
        assert_eq!(facts(&w64), None, "{size}");
        let mut rf64 = b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0".to_vec();
        rf64.extend(size.to_le_bytes());
        rf64.extend(size.to_le_bytes());
        rf64.extend([0; 12]);
        rf64.extend(&wav(b"", u32::MAX, 3200, b"")[12..]);
        // A claim that no file can meet: what is there is counted.
        let facts = facts(&rf64).unwrap();
        assert_eq!(facts.duration, Some(Duration::from_millis(100)), "{size}");
    }
}
