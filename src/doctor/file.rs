//! Whether HubSpot can use a recording's bytes.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Check, Named};
use crate::audio::{Concern, Container, Content, Effort, Facts, Use, Verdict, inspect};
use crate::recording::MediaType;
use crate::sound::{Reader, SoundError, Survey};
use crate::store::Opened;

/// What of a recording HubSpot could use, and how long it plays.
pub struct Heard {
    /// Each point.
    pub checks: Vec<Check>,
    /// How long it plays, where it tells.
    pub duration: Option<Duration>,
}

/// Checks a file by its name and its bytes.
///
/// # Errors
/// It cannot be read.
pub fn check_file(named: &Named<'_>) -> io::Result<Heard> {
    check_opened(File::open(named.path)?, named)
}

/// Checks an open file, and the name it came under.
///
/// # Errors
/// It cannot be read.
pub fn check_opened(file: File, named: &Named<'_>) -> io::Result<Heard> {
    checked(&Arc::new(file), named)
}

/// Checks bytes, and the name they came under.
///
/// # Errors
/// They cannot be put into a file, from which they are decoded.
pub fn check_bytes(bytes: &[u8], named: &Named<'_>) -> io::Result<Heard> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    checked(&Arc::new(file), named)
}

const FORMATS: &str = "record WAV or FLAC with two channels";
/// As much of the sound as is listened to, in seconds: enough for both to have said something.
const LISTENING: u64 = 600;

fn checked(file: &Arc<File>, named: &Named<'_>) -> io::Result<Heard> {
    let facts = match inspect(&Opened::new(file)?, Effort::Header)? {
        Content::Recording(facts) => facts,
        Content::Other(other) => {
            let checks = vec![Check::fail(
                "format",
                format!("no recording: {other}"),
                FORMATS,
            )];
            return Ok(Heard {
                checks,
                duration: None,
            });
        }
    };
    let mut verdict = Verdict::of(&facts);
    let mut channels = None;
    if facts.channels == 2 && verdict.good_for != Use::Nothing {
        channels = Some(match listen(file, &facts) {
            Ok(survey) => {
                survey.judge(&mut verdict);
                Check::pass(
                    "two channels",
                    "the caller's has to be 1, the recipient's 2",
                )
            }
            Err(error) => Check::fail("decoding", error.to_string(), FORMATS),
        });
    }
    // One command mends all of it, whichever point it is read at.
    let mended = named.mended(&verdict).unwrap_or_else(|| FORMATS.to_owned());
    let mut checks = vec![format(&facts, &mended)];
    checks.extend(name(&facts, named.path));
    checks.extend(channels);
    let concerns = verdict.concerns.into_iter();
    checks.extend(concerns.filter_map(|found| concern(found, &mended)));
    if let Some(duration) = facts.duration.filter(|duration| !duration.is_zero()) {
        checks.push(Check::pass(
            "duration",
            format!("{:.1} s, {}", duration.as_secs_f64(), facts.duration_known),
        ));
    }
    Ok(Heard {
        checks,
        duration: facts.duration,
    })
}

fn listen(file: &Arc<File>, facts: &Facts) -> Result<Survey, SoundError> {
    let mut reader = Reader::open(file, facts)?;
    let most = u64::from(reader.rate) * LISTENING;
    let mut survey = Survey::new(reader.channels, reader.rate, most);
    let mut samples = Vec::new();
    while survey.frames < most {
        reader.read(&mut samples)?;
        if samples.is_empty() {
            break;
        }
        survey.add(&samples);
    }
    Ok(survey)
}

/// HubSpot's list for transcription: WAV, FLAC, MP4.
fn format(facts: &Facts, mended: &str) -> Check {
    let (container, codec) = (facts.container.to_string(), facts.codec.to_string());
    let saw = if container == codec {
        codec
    } else {
        format!("{container}, {codec}")
    };
    match facts.container {
        Container::Wav | Container::Flac => Check::pass("format", saw),
        Container::Mp3 => Check::warn(
            "format",
            format!(
                "{saw}: it plays, and is not on HubSpot's list of what it transcribes (WAV, FLAC, MP4)"
            ),
            mended,
        ),
        Container::Mp4 => Check::warn(
            "format",
            format!("{saw}: on HubSpot's list, which does not say what may be in it"),
            FORMATS,
        ),
        Container::Rf64 | Container::W64 => Check::warn(
            "format",
            format!("{saw}: HubSpot says WAV, and browsers do not play this kind of it"),
            mended,
        ),
    }
}

/// A name that says something else than the bytes.
fn name(facts: &Facts, path: &Path) -> Option<Check> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let said = MediaType::from_extension(&extension);
    let fits = match facts.container {
        Container::Wav | Container::Rf64 | Container::W64 => said == Some(MediaType::Wav),
        Container::Flac => said == Some(MediaType::Flac),
        Container::Mp3 => said == Some(MediaType::Mp3),
        Container::Mp4 => matches!(said, Some(MediaType::Mp4 | MediaType::M4a)),
    };
    Some(match (fits, said) {
        (true, _) => Check::pass("name", format!("ends in .{extension}, which it is")),
        (false, None) => Check::fail(
            "name",
            format!("ends in .{extension}, and is {}", facts.container),
            "name it after its format",
        ),
        (false, Some(_)) => Check::fail(
            "name",
            format!("ends in .{extension}, and is {}", facts.container),
            "name it after its format, or convert it",
        ),
    })
}

/// What the format says already is not said twice.
fn concern(concern: Concern, mended: &str) -> Option<Check> {
    let saw = concern.to_string();
    let fix = concern.remedy().map_or(FORMATS, |_| mended);
    let check = match concern {
        Concern::NotListed | Concern::NotPlainWav | Concern::OrderUnknown => return None,
        Concern::Mono
        | Concern::ManyChannels(_)
        | Concern::Identical
        | Concern::Silent(_)
        | Concern::AllSilent => "channels",
        Concern::NoSound => "duration",
        _ => "codec",
    };
    Some(match concern.leaves() {
        // It plays, and is not what transcription needs; a caution is a warning.
        Use::Nothing | Use::Playback => Check::fail(check, saw, fix),
        Use::Transcription => Check::warn(check, saw, fix),
    })
}
