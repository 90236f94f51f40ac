//! `tonearm inspect`: what a recording is, what is on its channels, and what HubSpot makes of it.

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use super::{Failure, Outcome, print};
use crate::audio::{Content, Effort, Facts, Use, Verdict, inspect};
use crate::doctor::Named;
use crate::sound::{Reader, SoundError, Survey, picture};
use crate::store::Opened;

/// Recordings that are longer are looked at here and there, unless all of it is asked for.
const LONG: Duration = Duration::from_mins(10);
/// So many places, and so much of each.
const PLACES: u32 = 64;
const PLACE: Duration = Duration::from_secs(2);

/// Flags of `tonearm inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0 says that HubSpot plays and transcribes it, as far as HubSpot has published what it
takes; 1 that it does not. Of recordings longer than 10 minutes 64 stretches of 2 seconds are
decoded, unless --whole or --svg asks for all.")]
pub(super) struct Inspect {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw the waveform of both channels, to look at in a browser
    #[arg(long, value_name = "OUT")]
    svg: Option<PathBuf>,
    /// Decode all of a long recording
    #[arg(long)]
    whole: bool,
}

/// A recording looked at.
pub(super) struct Looked {
    pub(super) facts: Facts,
    pub(super) verdict: Verdict,
    survey: Option<Survey>,
    /// Not all of it was decoded.
    sampled: bool,
    /// Why it was not decoded.
    problem: Option<SoundError>,
}

impl Inspect {
    pub(super) fn run(&self) -> Outcome {
        let file = open(&self.file)?;
        let facts = match content(&file, &self.file)? {
            Content::Recording(facts) => facts,
            Content::Other(other) => {
                if self.json {
                    let what = json!({"file": self.file, "other": other, "verdict": {"use": Use::Nothing}});
                    print(&what.to_string());
                } else {
                    print(&format!(
                        "{}: {other}\nHubSpot cannot use it.",
                        self.file.display()
                    ));
                }
                return Ok(Failure::FINDINGS);
            }
        };
        let columns = if self.svg.is_some() { 1200 } else { 96 };
        let whole = self.whole || self.svg.is_some();
        let looked = Looked::at(&file, facts, whole, columns)?;
        if let Some(out) = &self.svg {
            self.draw(&looked, out)?;
        }
        let text = if self.json {
            self.as_json(&looked).to_string()
        } else {
            self.text(&looked)
        };
        print(&text);
        let transcribed = looked.verdict.good_for == Use::Transcription;
        Ok(if transcribed { 0 } else { Failure::FINDINGS })
    }

    fn draw(&self, looked: &Looked, out: &Path) -> Result<(), Failure> {
        let Some(survey) = &looked.survey else {
            return Ok(());
        };
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let title = format!("{name}: {}", looked.summary());
        let duration = looked.facts.duration.unwrap_or_default();
        let svg = picture::svg(&title, &survey.columns, looked.facts.channels, duration);
        std::fs::write(out, svg).map_err(Failure::at(out))
    }

    fn as_json(&self, looked: &Looked) -> Value {
        let mut value = json!({
            "file": self.file,
            "facts": looked.facts,
            "verdict": looked.verdict,
            "fix": Named::file(&self.file).mended(&looked.verdict),
        });
        if let Some(survey) = &looked.survey {
            let channels = survey.channels.iter().map(|channel| {
                json!({
                    "peak_dbfs": channel.peak_db(),
                    "silent": channel.is_silent(),
                    "speech_percent": channel.speech_percent(survey.steps),
                })
            });
            value["sound"] = json!({
                "channels": channels.collect::<Vec<_>>(),
                "identical": survey.is_same(),
                "overlap_percent": survey.overlap_percent(),
                "clipped_percent": survey.clipped_percent(),
                "sampled": looked.sampled,
            });
        }
        if let Some(problem) = &looked.problem {
            value["problem"] = json!(problem.to_string());
        }
        value
    }

    fn text(&self, looked: &Looked) -> String {
        let mut lines = vec![format!("{}: {}", self.file.display(), looked.summary())];
        let odd = looked.facts.oddities.iter();
        lines.extend(odd.map(|odd| format!("  {odd}")));
        if let Some(problem) = &looked.problem {
            lines.push(format!("  it was not decoded: {problem}"));
        }
        if let Some(survey) = &looked.survey {
            lines.extend(channel_lines(survey, looked.sampled));
        }
        lines.push(String::new());
        lines.push(headline(&looked.verdict).to_owned());
        let concerns = looked.verdict.concerns.iter();
        lines.extend(concerns.map(|concern| format!("  - {concern}")));
        let fix = Named::file(&self.file).mended(&looked.verdict);
        lines.extend(fix.map(|fix| format!("  {fix}")));
        lines.join("\n")
    }
}

pub(super) const fn headline(verdict: &Verdict) -> &'static str {
    match verdict.good_for {
        Use::Transcription => "HubSpot plays it and transcribes it.",
        Use::Playback => "HubSpot plays it. It will not transcribe it, or does not promise to:",
        Use::Nothing => "HubSpot cannot use it:",
    }
}

fn channel_lines(survey: &Survey, sampled: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let draws = std::io::stdout().is_terminal() || survey.columns.len() < 200;
    for (at, channel) in survey.channels.iter().enumerate() {
        let peak = match channel.peak_db() {
            Some(peak) => format!("peak {peak:.1} dBFS"),
            None => "nothing but zeros".to_owned(),
        };
        let speech = channel.speech_percent(survey.steps);
        lines.push(format!(
            "  channel {}: {peak}, sound {speech} % of the time",
            at + 1
        ));
        if draws && at < 2 {
            lines.push(format!("  {}", picture::braille(&survey.columns, at)));
        }
    }
    if survey.channels.len() == 2 && !survey.is_same() {
        lines.push(format!(
            "  both at once {} % of the time",
            survey.overlap_percent()
        ));
    }
    if sampled {
        lines.push("  heard here and there only; --whole hears all of it".to_owned());
    }
    lines
}

impl Looked {
    /// Looks at a recording, in about so many columns.
    pub(super) fn at(
        file: &Arc<File>,
        facts: Facts,
        whole: bool,
        columns: u32,
    ) -> Result<Self, Failure> {
        let mut verdict = Verdict::of(&facts);
        let sampled = !whole && facts.duration.is_some_and(|duration| duration > LONG);
        let (survey, problem) = match survey(file, &facts, sampled, columns) {
            Ok(survey) => (Some(survey), None),
            Err(SoundError::Io(error)) => return Err(Failure::new(Failure::IO, error)),
            Err(problem) => (None, Some(problem)),
        };
        if let Some(survey) = &survey {
            survey.judge(&mut verdict);
        }
        Ok(Self {
            facts,
            verdict,
            survey,
            sampled,
            problem,
        })
    }

    pub(super) fn summary(&self) -> String {
        let facts = &self.facts;
        let mut parts = vec![facts.container.to_string()];
        if facts.container.to_string() != facts.codec.to_string() {
            parts.push(facts.codec.to_string());
        }
        parts.extend(facts.bits.map(|bits| format!("{bits} bits")));
        parts.push(match facts.channels {
            1 => "1 channel".to_owned(),
            count => format!("{count} channels"),
        });
        parts.push(format!("{} Hz", facts.sample_rate));
        parts.push(match facts.duration {
            Some(duration) => format!(
                "{}.{:03} ({})",
                picture::clock(duration.as_secs()),
                duration.subsec_millis(),
                facts.duration_known
            ),
            None => "of unknown duration".to_owned(),
        });
        parts.join(", ")
    }
}

fn survey(
    file: &Arc<File>,
    facts: &Facts,
    here_and_there: bool,
    columns: u32,
) -> Result<Survey, SoundError> {
    let mut reader = Reader::open(file, facts)?;
    let rate = u64::from(reader.rate);
    let duration = facts.duration.unwrap_or_default();
    let mut samples = Vec::new();
    if !here_and_there {
        let frames = duration.as_micros() * u128::from(rate) / 1_000_000;
        let column = u64::try_from(frames)
            .unwrap_or(u64::MAX)
            .div_ceil(u64::from(columns));
        let mut survey = Survey::new(reader.channels, reader.rate, column);
        loop {
            reader.read(&mut samples)?;
            if samples.is_empty() {
                return Ok(survey);
            }
            survey.add(&samples);
        }
    }
    let place = rate * PLACE.as_secs();
    let mut survey = Survey::new(reader.channels, reader.rate, place);
    for at in 0..PLACES {
        reader.seek(duration / PLACES * at)?;
        let end = survey.frames + place;
        while survey.frames < end {
            reader.read(&mut samples)?;
            if samples.is_empty() {
                break;
            }
            let left = usize::try_from(end - survey.frames).unwrap_or(usize::MAX);
            samples.truncate(left.saturating_mul(usize::from(reader.channels)));
            survey.add(&samples);
        }
        survey.skip();
    }
    Ok(survey)
}

pub(super) fn open(path: &Path) -> Result<Arc<File>, Failure> {
    let file = File::open(path).map_err(Failure::at(path))?;
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        let problem = anyhow!("{} is no regular file", path.display());
        return Err(Failure::new(Failure::USAGE, problem));
    }
    Ok(Arc::new(file))
}

pub(super) fn content(file: &File, path: &Path) -> Result<Content, Failure> {
    let content = Opened::new(file).and_then(|opened| inspect(&opened, Effort::Count));
    content.map_err(Failure::at(path))
}
