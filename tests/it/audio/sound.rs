//! Samples, held against ffmpeg's and SoX's, and repairs, held against what they were made of.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tonearm::audio::{Concern, Effort, Use, Verdict};
use tonearm::sound::{Mended, Reader, SoundError, Survey, Target, write};

use super::headers::facts;
use super::made::{FF, Made, have_makers};

fn reader(made: &Made, name: &str) -> Reader {
    let facts = facts(&made.read(name), Effort::Count);
    let file = Arc::new(File::open(made.path(name)).unwrap());
    Reader::open(&file, &facts).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn all(mut mended: Mended) -> Vec<i32> {
    let (mut all, mut block) = (Vec::new(), Vec::new());
    loop {
        mended.read(&mut block).unwrap();
        if block.is_empty() {
            return all;
        }
        all.extend(&block);
    }
}

fn samples(made: &Made, name: &str) -> Vec<i32> {
    all(Mended::plain(reader(made, name)))
}

/// The same by ffmpeg.
fn by_ffmpeg(made: &Made, name: &str) -> Vec<i32> {
    made.sh(&format!("{FF} -i {name} -f s32le -c:a pcm_s32le raw.pcm"));
    let bytes = made.read("raw.pcm");
    let samples = bytes.chunks_exact(4);
    samples
        .map(|four| i32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

fn saved(made: &Made, name: &str, mut mended: Mended, target: Target) {
    let mut file = File::create(made.path(name)).unwrap();
    write(&mut mended, target, &mut file).unwrap();
}

/// Root mean square of the difference, in steps of 16 bits.
fn distance(a: &[i32], b: &[i32]) -> f64 {
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| ((f64::from(*a) - f64::from(*b)) / 65536.0).powi(2))
        .sum();
    (sum / f64::from(u32::try_from(a.len()).unwrap())).sqrt()
}

/// Something like speech: noise that comes and goes, each channel in turn.
fn conversation(made: &Made) {
    made.sh(
        "sox -D -n -r 8000 -b 16 a.wav synth 4 pinknoise tremolo 0.5 100 gain -6; \
         sox -D -n -r 8000 -b 16 b.wav synth 4 brownnoise tremolo 0.4 100 gain -6; \
         sox -D -M a.wav b.wav talk.wav",
    );
}

/// Found by the fuzzer: the demultiplexer asserts that it is no more than half of all numbers away.
#[test]
fn a_sample_that_lies_beyond_all_files_is_damage_and_no_panic() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    made.sh(&format!(
        "{FF} -i call.wav -c:a aac -movflags frag_keyframe+empty_moov+default_base_moof away.mp4"
    ));
    let mut bytes = made.read("away.mp4");
    let trun = bytes.windows(4).rposition(|four| four == b"trun").unwrap();
    // Flags, and where the samples begin, from the fragment on.
    assert_eq!(bytes[trun + 7] & 1, 1);
    bytes[trun + 12..trun + 16].copy_from_slice(&i32::MIN.to_be_bytes());
    std::fs::write(made.path("away.mp4"), bytes).unwrap();
    let mut reader = reader(&made, "away.mp4");
    let mut samples = Vec::new();
    for _ in 0..2 {
        let read = reader.read(&mut samples);
        assert!(matches!(read, Err(SoundError::Damaged)), "{read:?}");
    }
}

#[test]
fn lossless_formats_decode_bit_by_bit_as_ffmpeg_does() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    conversation(&made);
    for (name, line) in [
        ("u8.wav", "FF -i talk.wav -c:a pcm_u8 OUT"),
        ("s16.wav", "cp talk.wav OUT"),
        ("s24.wav", "sox talk.wav -b 24 OUT gain -0.1"),
        ("s32.wav", "sox talk.wav -b 32 OUT gain -0.1"),
        ("ulaw.wav", "FF -i talk.wav -c:a pcm_mulaw OUT"),
        ("alaw.wav", "FF -i talk.wav -c:a pcm_alaw OUT"),
        ("ima.wav", "FF -i talk.wav -c:a adpcm_ima_wav OUT"),
        ("ms.wav", "FF -i talk.wav -c:a adpcm_ms OUT"),
        ("mono-ima.wav", "FF -i a.wav -c:a adpcm_ima_wav OUT"),
        ("gsm.wav", "sox -D a.wav -e gsm-full-rate OUT"),
        ("rf64.wav", "FF -i talk.wav -rf64 always OUT"),
        ("w64.w64", "FF -i talk.wav OUT"),
        ("pipe.wav", "FF -i talk.wav -f wav - > OUT"),
        ("16.flac", "flac -s talk.wav -o OUT"),
        ("24.flac", "sox talk.wav -b 24 OUT gain -0.1"),
        ("pipe.flac", "FF -i talk.wav -f flac - > OUT"),
        ("flac.mp4", "FF -i talk.wav -c:a flac -strict -2 OUT"),
        ("alac.m4a", "FF -i talk.wav -c:a alac OUT"),
    ] {
        made.sh(&line.replace("FF", FF).replace("OUT", name));
        let (ours, theirs) = (samples(&made, name), by_ffmpeg(&made, name));
        // The last block of ADPCM and GSM is filled up; where `fact` says so, that is left out.
        assert!(
            ours.len() <= theirs.len() && ours.len() >= theirs.len() - 4096,
            "{name}: {} {}",
            ours.len(),
            theirs.len()
        );
        let same = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        assert_eq!(same, None, "{name}");
    }
}

#[test]
fn lossy_formats_decode_nearly_as_ffmpeg_does() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    conversation(&made);
    for (name, line) in [
        ("f32.wav", "FF -i talk.wav -c:a pcm_f32le OUT"),
        ("f64.wav", "FF -i talk.wav -c:a pcm_f64le OUT"),
        ("a.mp3", "lame --quiet -b 64 talk.wav OUT"),
        ("a.m4a", "FF -i talk.wav -c:a aac OUT"),
    ] {
        made.sh(&line.replace("FF", FF).replace("OUT", name));
        let (ours, theirs) = (samples(&made, name), by_ffmpeg(&made, name));
        let apart = ours.len().abs_diff(theirs.len());
        assert!(apart <= 2 * 1200, "{name}: {apart} samples apart");
        assert!(
            distance(&ours, &theirs) < 2.0,
            "{name}: {}",
            distance(&ours, &theirs)
        );
    }
}

#[test]
fn what_is_written_is_what_was_read() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    conversation(&made);
    made.sh("sox talk.wav -b 24 talk24.wav gain -0.1; sox talk.wav -e mu-law ulaw.wav; sox a.wav -e gsm-full-rate gsm.wav");
    for name in ["talk.wav", "talk24.wav", "ulaw.wav", "gsm.wav"] {
        let source = samples(&made, name);
        for (out, target) in [("out.wav", Target::Wav), ("out.flac", Target::Flac)] {
            saved(&made, out, Mended::plain(reader(&made, name)), target);
            assert!(samples(&made, out) == source, "{name} to {out}");
            assert!(
                by_ffmpeg(&made, out) == source,
                "{name} to {out}, by ffmpeg"
            );
            let facts = facts(&made.read(out), Effort::Header);
            assert!(facts.oddities.is_empty(), "{facts:?}");
        }
        let mut wav = hound::WavReader::open(made.path("out.wav")).unwrap();
        let shift = 32 - wav.spec().bits_per_sample;
        let by_hound = wav.samples::<i32>().map(|sample| sample.unwrap() << shift);
        assert!(by_hound.eq(source.iter().copied()), "{name}, by hound");
        // flac holds the samples against the MD5 in the header.
        made.sh("flac -s -t out.flac");
    }
}

/// A damaged header once made a FLAC of two channels out of 1,538.
#[test]
fn more_channels_than_the_format_has_are_refused() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    for (channels, target, fits) in [
        (8_u16, Target::Flac, true),
        (9, Target::Flac, false),
        (1538, Target::Flac, false),
        (1538, Target::Wav, true),
        (40_000, Target::Wav, false),
    ] {
        let sound = vec![0; usize::from(channels) * 100];
        // Mu-law: one byte a sample, which becomes two.
        let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x07\0".to_vec();
        wav.extend(channels.to_le_bytes());
        wav.extend(8000_u32.to_le_bytes());
        wav.extend(0_u32.to_le_bytes());
        wav.extend(channels.to_le_bytes());
        wav.extend(8_u16.to_le_bytes());
        wav.extend(b"data");
        wav.extend(u32::try_from(sound.len()).unwrap().to_le_bytes());
        wav.extend(sound);
        std::fs::write(made.path("many.wav"), wav).unwrap();
        let mut mended = Mended::plain(reader(&made, "many.wav"));
        let mut out = File::create(made.path("out")).unwrap();
        let written = write(&mut mended, target, &mut out).is_ok();
        assert_eq!(written, fits, "{channels} {target:?}");
    }
}

#[test]
fn legs_are_joined_in_step() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    conversation(&made);
    let late = Duration::from_millis(250);
    let legs = || {
        [
            (reader(&made, "a.wav"), Duration::ZERO),
            (reader(&made, "b.wav"), late),
        ]
    };
    let joined = all(Mended::joined(legs()).unwrap());
    let (first, second) = (samples(&made, "a.wav"), samples(&made, "b.wav"));
    assert_eq!(joined.len(), 2 * (32_000 + 2000));
    let channel = |at: usize| {
        joined
            .iter()
            .skip(at)
            .step_by(2)
            .copied()
            .collect::<Vec<_>>()
    };
    assert_eq!(channel(0)[..32_000], first);
    assert!(channel(0)[32_000..].iter().all(|sample| *sample == 0));
    assert!(channel(1)[..2000].iter().all(|sample| *sample == 0));
    assert_eq!(channel(1)[2000..], second);
    let swapped = all(Mended::joined(legs()).unwrap().swapped().unwrap());
    let pairs = joined.chunks(2).zip(swapped.chunks(2));
    assert!(pairs.into_iter().all(|(a, b)| a[0] == b[1] && a[1] == b[0]));
}

#[test]
fn legs_of_other_rates_are_resampled_and_stay_aligned() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    // A sine and a tone that begins in the middle, at 8 kHz and at 16, 44.1 and 11.025.
    made.sh(
        "sox -D -n -r 8000 -b 16 low.wav synth 1 sine 500 gain -6; \
         for r in 16000 44100 11025; do sox -D -n -r $r -b 16 $r.wav synth 1 sine 500 gain -6; done",
    );
    // A filter's delay of half a sample cannot be taken away: 0.14 of a radian here.
    for (rate, most) in [(16_000_u32, 60.0), (44_100, 60.0), (11_025, 2000.0)] {
        let other = format!("{rate}.wav");
        let legs = [
            (reader(&made, "low.wav"), Duration::ZERO),
            (reader(&made, &other), Duration::ZERO),
        ];
        let joined = Mended::joined(legs).unwrap();
        assert_eq!(joined.rate, rate);
        let joined = all(joined);
        assert_eq!(joined.len(), 2 * usize::try_from(rate).unwrap());
        let channel = |at| {
            joined
                .iter()
                .skip(at)
                .step_by(2)
                .copied()
                .collect::<Vec<i32>>()
        };
        // The very ends ring.
        let inner = 500..channel(0).len() - 500;
        let apart = distance(&channel(0)[inner.clone()], &channel(1)[inner]);
        assert!(apart < most, "{rate}: {apart} of 11600");
    }
}

fn judged(made: &Made, name: &str) -> Verdict {
    let facts = facts(&made.read(name), Effort::Count);
    let mut reader = reader(made, name);
    let mut survey = Survey::new(reader.channels, reader.rate, 100);
    let mut block = Vec::new();
    loop {
        reader.read(&mut block).unwrap();
        if block.is_empty() {
            break;
        }
        survey.add(&block);
    }
    let mut verdict = Verdict::of(&facts);
    survey.judge(&mut verdict);
    verdict
}

#[test]
fn channels_are_judged() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    conversation(&made);
    made.sh(&format!(
        "sox -D -n -r 8000 -b 16 quiet.wav synth 4 whitenoise gain -70; \
         sox -D -n -r 8000 -b 16 zeros.wav trim 0 4; \
         sox -D -M a.wav a.wav twice.wav; sox -D a.wav louder.wav gain 3; sox -D -M a.wav louder.wav levels.wav; \
         sox -D -M a.wav quiet.wav second.wav; sox -D -M zeros.wav b.wav first.wav; \
         sox -D -M zeros.wav zeros.wav none.wav; sox -D talk.wav loud.wav gain 30; \
         {FF} -i twice.wav -c:a libmp3lame -b:a 64k twice.mp3"
    ));
    for (name, good_for, concerns) in [
        ("talk.wav", Use::Transcription, &[Concern::OrderUnknown][..]),
        ("twice.wav", Use::Playback, &[Concern::Identical]),
        ("levels.wav", Use::Playback, &[Concern::Identical]),
        (
            "twice.mp3",
            Use::Playback,
            &[Concern::NotListed, Concern::Identical],
        ),
        ("second.wav", Use::Transcription, &[Concern::Silent(2)]),
        ("first.wav", Use::Transcription, &[Concern::Silent(1)]),
        ("none.wav", Use::Nothing, &[Concern::AllSilent]),
        (
            "loud.wav",
            Use::Transcription,
            &[Concern::OrderUnknown, Concern::Clipped],
        ),
        ("a.wav", Use::Playback, &[Concern::Mono]),
    ] {
        let verdict = judged(&made, name);
        assert_eq!(verdict.concerns, concerns, "{name}");
        assert_eq!(verdict.good_for, good_for, "{name}");
    }
}

#[test]
fn a_recording_that_is_cut_is_decoded_up_to_there() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    conversation(&made);
    made.sh(&format!("flac -s talk.wav; lame --quiet -b 64 talk.wav talk.mp3; {FF} -i talk.wav -movflags faststart talk.m4a"));
    for name in ["talk.wav", "talk.flac", "talk.mp3", "talk.m4a"] {
        made.sh(&format!(
            "head -c $(($(stat -c %s {name}) / 2)) {name} > cut-{name}"
        ));
        let count = samples(&made, &format!("cut-{name}")).len();
        assert!((24_000..40_000).contains(&count), "{name}: {count} samples");
    }
}

/// A tone, five minutes of silence, and a tone: what a seek finds tells where it went.
#[test]
fn seeks_of_long_recordings_find_their_place() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    made.sh(&format!(
        "sox -D -n -r 8000 -b 16 -c 2 tone.wav synth 200 sine 440 sine 600 gain -6; \
         sox -D -n -r 8000 -b 16 -c 2 silence.wav trim 0 300; \
         sox -D tone.wav silence.wav tone.wav long.wav; \
         flac -s -0 long.wav; lame --quiet -h -b 32 long.wav long.mp3; \
         {FF} -i long.wav -c:a aac -b:a 32k long.m4a; sox long.wav -e mu-law ulaw.wav; \
         sox long.wav -e ima-adpcm ima.wav"
    ));
    let names = [
        "long.wav",
        "ulaw.wav",
        "ima.wav",
        "long.flac",
        "long.mp3",
        "long.m4a",
    ];
    for name in names {
        let mut reader = reader(&made, name);
        // Forwards and back.
        for (seconds, sounds) in [
            (690, true),
            (210, false),
            (190, true),
            (490, false),
            (510, true),
            (0, true),
        ] {
            reader.seek(Duration::from_secs(seconds)).unwrap();
            let (mut block, mut heard) = (Vec::new(), Vec::<i32>::new());
            while heard.len() < 8000 {
                reader.read(&mut block).unwrap();
                assert!(!block.is_empty(), "{name} ends at {seconds} s");
                heard.extend(&block);
            }
            let peak = heard
                .iter()
                .map(|sample| sample.unsigned_abs())
                .max()
                .unwrap();
            assert_eq!(peak > 1 << 28, sounds, "{name} at {seconds} s: {peak}");
        }
    }
}
