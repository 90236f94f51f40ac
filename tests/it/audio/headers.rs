//! What the header tells, held against how the file was made and against other readers.

use std::cell::Cell;
use std::convert::Infallible;

use tonearm::audio::{
    Codec, Container, Content, Effort, Facts, Known, Oddity, Other, Ranged, inspect,
};

use super::made::{FF, Made, have_makers};

pub fn facts(bytes: &[u8], effort: Effort) -> Facts {
    match content(bytes, effort) {
        Content::Recording(facts) => facts,
        Content::Other(other) => panic!("{other}"),
    }
}

fn content(bytes: &[u8], effort: Effort) -> Content {
    let Ok(content) = inspect(bytes, effort);
    content
}

/// Counts what is read.
struct Metered<'a>(&'a [u8], Cell<usize>);

impl Ranged for Metered<'_> {
    type Error = Infallible;

    fn length(&self) -> u64 {
        self.0.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let count = self.0.read_at(offset, buffer)?;
        self.1.set(self.1.get() + count);
        Ok(count)
    }
}

/// How a file is made of `call.wav`, and what it is. Durations are 2.5 s within a tolerance in ms.
struct Row {
    name: &'static str,
    made: &'static str,
    container: Container,
    codec: Codec,
    bits: Option<u16>,
    known: Known,
    off: u128,
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    use Container::{Flac, Mp3, Mp4, Rf64, W64, Wav};
    use Known::{Counted, Header};
    let row = |name, made, container, codec, bits, known, off| Row { name, made, container, codec, bits, known, off };
    vec![
        row("u8.wav", "FF -i call.wav -c:a pcm_u8 OUT", Wav, Codec::Pcm, Some(8), Header, 0),
        row("s16.wav", "FF -i call.wav -c:a pcm_s16le OUT", Wav, Codec::Pcm, Some(16), Header, 0),
        row("s24.wav", "FF -i call.wav -c:a pcm_s24le OUT", Wav, Codec::Pcm, Some(24), Header, 0),
        row("s32.wav", "FF -i call.wav -c:a pcm_s32le OUT", Wav, Codec::Pcm, Some(32), Header, 0),
        row("f32.wav", "FF -i call.wav -c:a pcm_f32le OUT", Wav, Codec::Float, Some(32), Header, 0),
        row("f64.wav", "FF -i call.wav -c:a pcm_f64le OUT", Wav, Codec::Float, Some(64), Header, 0),
        row("ulaw.wav", "FF -i call.wav -c:a pcm_mulaw OUT", Wav, Codec::MuLaw, Some(8), Header, 0),
        row("alaw.wav", "FF -i call.wav -c:a pcm_alaw OUT", Wav, Codec::ALaw, Some(8), Header, 0),
        row("extensible.wav", "sox call.wav -b 24 OUT", Wav, Codec::Pcm, Some(24), Header, 0),
        row("sox-ulaw.wav", "sox call.wav -e mu-law OUT", Wav, Codec::MuLaw, Some(8), Header, 0),
        row("ima.wav", "FF -i call.wav -c:a adpcm_ima_wav OUT", Wav, Codec::ImaAdpcm, Some(4), Header, 130),
        row("ms.wav", "FF -i call.wav -c:a adpcm_ms OUT", Wav, Codec::MsAdpcm, Some(4), Header, 130),
        row("sox-ima.wav", "sox call.wav -e ima-adpcm OUT", Wav, Codec::ImaAdpcm, Some(4), Header, 0),
        row("sox-ms.wav", "sox call.wav -e ms-adpcm OUT", Wav, Codec::MsAdpcm, Some(4), Header, 0),
        row("gsm.wav", "sox mono.wav -e gsm-full-rate OUT", Wav, Codec::Gsm, None, Header, 40),
        row("ff-gsm.wav", "FF -i mono.wav -c:a libgsm_ms -f wav OUT", Wav, Codec::Gsm, None, Header, 40),
        row("rf64.wav", "FF -i call.wav -rf64 always OUT", Rf64, Codec::Pcm, Some(16), Header, 0),
        row("w64.w64", "FF -i call.wav OUT", W64, Codec::Pcm, Some(16), Header, 0),
        row("sox.w64", "sox call.wav OUT", W64, Codec::Pcm, Some(16), Header, 0),
        row("pipe.wav", "FF -i call.wav -f wav - > OUT", Wav, Codec::Pcm, Some(16), Counted, 0),
        row("sox-pipe.wav", "sox call.wav -t raw - | sox -t raw -r 8000 -c 2 -b 16 -e signed - -t wav - | cat > OUT", Wav, Codec::Pcm, Some(16), Counted, 0),
        row("list.wav", "FF -i call.wav -metadata title=$(printf 'x%.0s' {1..9000}) OUT", Wav, Codec::Pcm, Some(16), Header, 0),
        row("mp3in.wav", "FF -i call.wav -c:a libmp3lame OUT", Wav, Codec::Mpeg(3), None, Header, 150),
        row("plain.flac", "flac -s call.wav -o OUT", Flac, Codec::Flac, Some(16), Header, 0),
        row("ff.flac", "FF -i call.wav OUT", Flac, Codec::Flac, Some(16), Header, 0),
        row("pipe.flac", "FF -i call.wav -f flac - > OUT", Flac, Codec::Flac, Some(16), Counted, 0),
        row("flac-pipe.flac", "cat call.wav | flac -s -c --ignore-chunk-sizes - > OUT", Flac, Codec::Flac, Some(16), Counted, 0),
        row("24.flac", "sox call.wav -b 24 OUT", Flac, Codec::Flac, Some(24), Header, 0),
        row("cbr.mp3", "lame --quiet -b 32 call.wav OUT", Mp3, Codec::Mpeg(3), None, Header, 0),
        row("cbr-bare.mp3", "lame --quiet -t -b 32 call.wav OUT", Mp3, Codec::Mpeg(3), None, Counted, 220),
        row("vbr.mp3", "lame --quiet -V 5 call.wav OUT", Mp3, Codec::Mpeg(3), None, Header, 0),
        row("vbr-bare.mp3", "lame --quiet -t -V 5 call.wav OUT", Mp3, Codec::Mpeg(3), None, Counted, 220),
        row("44.mp3", "lame --quiet --resample 44.1 -b 64 call.wav OUT", Mp3, Codec::Mpeg(3), None, Header, 1),
        row("tagged.mp3", "FF -i call.wav -metadata title=Call -id3v2_version 3 -write_id3v1 1 OUT", Mp3, Codec::Mpeg(3), None, Header, 1),
        row("last.m4a", "FF -i call.wav -c:a aac OUT", Mp4, Codec::Aac, None, Header, 2),
        row("first.mp4", "FF -i call.wav -c:a aac -movflags faststart OUT", Mp4, Codec::Aac, None, Header, 2),
        row("fragmented.mp4", "FF -i call.wav -c:a aac -movflags frag_keyframe+empty_moov+default_base_moof -frag_duration 500000 OUT", Mp4, Codec::Aac, None, Counted, 260),
        row("dash.mp4", "FF -i call.wav -c:a aac -movflags dash+delay_moov -frag_duration 500000 OUT", Mp4, Codec::Aac, None, Counted, 260),
        row("alac.m4a", "FF -i call.wav -c:a alac OUT", Mp4, Codec::Alac, Some(16), Header, 1),
        row("flac.mp4", "FF -i call.wav -c:a flac -strict -2 OUT", Mp4, Codec::Flac, Some(16), Header, 1),
    ]
}

#[test]
fn recordings_are_told() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    for row in rows() {
        let line = row.made.replace("FF", FF).replace("OUT", row.name);
        made.sh(&line);
        let bytes = made.read(row.name);
        let name = row.name;
        // WAVE_FORMAT_EXTENSIBLE, which hides what the format is.
        let hides = name == "extensible.wav";
        assert!(!hides || bytes[20..22] == [0xfe, 0xff], "{name}");
        let facts = facts(&bytes, Effort::Count);
        assert_eq!(facts.container, row.container, "{name}");
        assert_eq!(facts.codec, row.codec, "{name}");
        assert_eq!(facts.bits, row.bits, "{name}");
        assert_eq!(facts.duration_known, row.known, "{name}: {facts:?}");
        let channels = if row.codec == Codec::Gsm { 1 } else { 2 };
        assert_eq!(facts.channels, channels, "{name}");
        let rate = if name == "44.mp3" { 44_100 } else { 8000 };
        assert_eq!(facts.sample_rate, rate, "{name}");
        let millis = facts.duration.unwrap().as_millis();
        assert!(millis.abs_diff(2500) <= row.off, "{name}: {millis}");
        agrees_with_ffprobe(&made, name, &facts);
        agrees_with_lofty(&bytes, name, &facts);
    }
}

/// ffprobe reads the same, and within what it rounds to, the same duration.
fn agrees_with_ffprobe(made: &Made, name: &str, facts: &Facts) {
    let line = format!(
        "ffprobe -v error -select_streams a:0 -of json \
         -show_entries stream=channels,sample_rate,duration:format=duration {name}"
    );
    let told: serde_json::Value = serde_json::from_str(&made.sh(&line)).unwrap();
    let stream = &told["streams"][0];
    assert_eq!(stream["channels"], facts.channels, "{name}");
    assert_eq!(
        stream["sample_rate"],
        facts.sample_rate.to_string(),
        "{name}"
    );
    // Where a pipe left no size, and where the encoder's padding is in the file, ffprobe has other
    // rules; the exact lengths are held against the samples above.
    let seconds = told["format"]["duration"].as_str();
    let Some(seconds) = seconds.and_then(|text| text.parse::<f64>().ok()) else {
        return;
    };
    let ours = facts.duration.unwrap().as_secs_f64();
    assert!((ours - seconds).abs() < 0.3, "{name}: {ours} and {seconds}");
}

/// lofty, where it reads the format and the header says how long it plays.
fn agrees_with_lofty(bytes: &[u8], name: &str, facts: &Facts) {
    use lofty::file::AudioFile as _;

    let plain = matches!(
        facts.codec,
        Codec::Pcm | Codec::Flac | Codec::Aac | Codec::Alac
    ) || facts.codec == Codec::Mpeg(3) && facts.container == Container::Mp3;
    // Of an MP3 without a Xing header lofty takes the first frame for all; ours are counted.
    let known = facts.duration_known == Known::Header;
    let wave = matches!(facts.container, Container::Rf64 | Container::W64);
    if !plain || !known || wave {
        return;
    }
    let file = lofty::probe::Probe::new(std::io::Cursor::new(bytes));
    let file = file.guess_file_type().unwrap().read().unwrap();
    let told = file.properties();
    let ours = facts.duration.unwrap();
    assert!(
        told.duration().abs_diff(ours).as_millis() < 200,
        "{name}: {ours:?}, {told:?}"
    );
    assert_eq!(told.sample_rate(), Some(facts.sample_rate), "{name}");
    assert_eq!(
        told.channels().map(u16::from),
        Some(facts.channels),
        "{name}"
    );
}

#[test]
fn a_header_costs_64_kib_at_most() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    made.sh(
        "sox -n -r 8000 -c 2 -b 16 long.wav synth 600 whitenoise vol 0.3; flac -s long.wav; \
         flac -s -c long.wav > pipe.flac; flac -s --picture=3\\|image/png\\|\\|16x16x24\\|call.wav long.wav -o art.flac",
    );
    for name in ["long.wav", "long.flac", "pipe.flac", "art.flac"] {
        let bytes = made.read(name);
        assert!(bytes.len() > 1 << 20);
        let metered = Metered(&bytes, Cell::new(0));
        let Ok(Content::Recording(facts)) = inspect(&metered, Effort::Header) else {
            panic!("{name}");
        };
        assert_eq!(facts.duration.unwrap().as_secs(), 600, "{name}");
        assert!(metered.1.get() <= 64 << 10, "{name}: {}", metered.1.get());
    }
}

#[test]
fn cut_files_say_how_much_is_left() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    made.sh(&format!(
        "sox -n -r 8000 -c 2 -b 16 noise.wav synth 20 pinknoise vol 0.3; flac -s noise.wav; \
         lame --quiet -b 32 noise.wav noise.mp3; {FF} -i noise.wav -c:a aac -movflags faststart noise.mp4"
    ));
    for (name, known) in [
        ("noise.wav", Known::Counted),
        ("noise.flac", Known::Counted),
        ("noise.mp3", Known::Estimated),
        ("noise.mp4", Known::Estimated),
    ] {
        let bytes = made.read(name);
        let facts = facts(&bytes[..bytes.len() / 2], Effort::Header);
        let seconds = facts.duration.unwrap().as_secs_f64();
        assert!((seconds - 10.0).abs() < 1.1, "{name}: {seconds}");
        assert_eq!(facts.duration_known, known, "{name}");
        assert!(
            matches!(facts.oddities[..], [Oddity::Truncated(_)]),
            "{name}"
        );
    }
}

#[test]
fn an_estimate_is_near() {
    if !have_makers() {
        return;
    }
    let made = Made::new();
    made.sh(
        "sox -n -r 8000 -c 2 -b 16 noise.wav synth 60 pinknoise vol 0.3; \
         lame --quiet -t -b 32 noise.wav cbr.mp3; lame --quiet -t -V 5 noise.wav vbr.mp3",
    );
    for name in ["cbr.mp3", "vbr.mp3"] {
        let facts = facts(&made.read(name), Effort::Header);
        assert_eq!(facts.duration_known, Known::Estimated, "{name}");
        let seconds = facts.duration.unwrap().as_secs_f64();
        assert!((seconds - 60.0).abs() < 1.5, "{name}: {seconds}");
    }
}

#[test]
fn what_is_no_recording_is_named() {
    let page = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>";
    let mut zip = b"PK\x03\x04\x14\0\x01\0\x08\0".to_vec();
    let locked = zip.clone();
    zip[6] = 0;
    let wav = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x40\x1f\0\0\0\x7d\0\0\x04\0\x10\0";
    for (bytes, what) in [
        (&b""[..], Other::Empty),
        (&[0; 5000], Other::Zeros),
        (page.as_bytes(), Other::Html),
        (b"\xef\xbb\xbf  <html lang=\"en\">", Other::Html),
        (
            b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
            Other::Xml,
        ),
        (
            b"{\"code\": 20404, \"message\": \"not found\"}",
            Other::Json,
        ),
        (b"404 page not found\n", Other::Text),
        (&zip, Other::Zip),
        (&locked, Other::EncryptedZip),
        (wav, Other::WavWithoutSound),
        (b"fLaC\0\0\0", Other::FlacWithoutHeader),
        (
            b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08mdat",
            Other::Mp4WithoutIndex,
        ),
        (b"OggS\0\x02", Other::Known("Ogg (Opus, Vorbis or Speex)")),
        (b"#!AMR\n\x3c", Other::Known("AMR")),
        (b"\xff\xf1\x50\x80", Other::Known("AAC in ADTS frames")),
        (b"\x01\x02\x03\x04\x05\xf0\xff", Other::Unknown),
    ] {
        assert_eq!(
            content(bytes, Effort::Count),
            Content::Other(what),
            "{what}"
        );
    }
}
