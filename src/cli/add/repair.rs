//! What is mended of a recording before it is stored: channels swapped, legs joined, another format.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::{Add, Format, Ready, facts_of};
use crate::audio::{Codec, Container, Facts};
use crate::cli::Failure;
use crate::cli::inspect::{Looked, open};
use crate::config::{Config, Storage, duration};
use crate::recording::MediaType;
use crate::sound::{Mended, Reader, SoundError, Target, write};

impl Add {
    /// Whether channels are to be swapped, by flag or by source.
    pub(super) fn swaps(&self) -> Result<bool, Failure> {
        match (self.source, self.direction) {
            (Some(source), Some(direction)) => source
                .swaps(direction, self.first_leg)
                .map_err(|unclear| Failure::new(Failure::USAGE, unclear)),
            _ => Ok(self.swap),
        }
    }

    /// Whether another format was asked for than the recording has, or a sound header.
    pub(super) fn converts(&self, facts: &Facts) -> bool {
        let whole = facts.oddities.is_empty();
        match self.to {
            None => false,
            Some(Format::Wav) => {
                !(whole && facts.container == Container::Wav && facts.codec == Codec::Pcm)
            }
            Some(Format::Flac) => !(whole && facts.container == Container::Flac),
        }
    }

    /// Mends into a file without a name, on the store's disk if it has one: killed, it leaves nothing
    /// behind.
    pub(super) fn mended(
        &self,
        path: &Path,
        file: &Arc<File>,
        facts: &Facts,
        swap: bool,
        config: &Config,
    ) -> Result<Ready, Failure> {
        let refused = |error| mending(path, error);
        let reader = Reader::open(file, facts).map_err(refused)?;
        let mut mended = match &self.join {
            Some(other) => self.joined(reader, other)?,
            None => Mended::plain(reader),
        };
        if swap {
            mended = mended.swapped().map_err(refused)?;
        }
        let target = match (self.to, facts.container) {
            (Some(Format::Flac), _) | (None, Container::Flac) => Target::Flac,
            _ => Target::Wav,
        };
        let mut scratch = match &config.storage {
            Storage::Directory(directory) => tempfile::tempfile_in(directory),
            Storage::Bucket(_) => tempfile::tempfile(),
        }
        .with_context(|| config.storage.to_string())
        .map_err(|error| Failure::new(Failure::IO, error))?;
        write(&mut mended, target, &mut scratch).map_err(refused)?;
        let file = Arc::new(scratch);
        let facts = facts_of(&file, path)?;
        let looked = Looked::at(&file, facts, false, 1)?;
        let media = match target {
            Target::Wav => MediaType::Wav,
            Target::Flac => MediaType::Flac,
        };
        Ok(Ready {
            file,
            media,
            looked,
        })
    }

    fn joined(&self, first: Reader, other: &Path) -> Result<Mended, Failure> {
        let file = open(other)?;
        let facts = facts_of(&file, other)?;
        let second = Reader::open(&file, &facts).map_err(|error| mending(other, error))?;
        let (earlier, text) = match self.offset.as_deref() {
            None => (false, "0s"),
            Some(text) => text
                .strip_prefix('-')
                .map_or((false, text), |text| (true, text)),
        };
        let offset = offset(text).map_err(|problem| Failure::new(Failure::USAGE, problem))?;
        let silences = if earlier {
            [offset, Duration::ZERO]
        } else {
            [Duration::ZERO, offset]
        };
        let [before_first, before_second] = silences;
        Mended::joined([(first, before_first), (second, before_second)])
            .map_err(|error| mending(other, error))
    }
}

/// A duration of milliseconds too: `250ms`, `1.5s`, else as everywhere.
fn offset(text: &str) -> Result<Duration, anyhow::Error> {
    let wrong = || anyhow!("--offset: {text} is no duration such as 250ms, 1.5s or 1m30s");
    if let Some(millis) = text.strip_suffix("ms") {
        return Ok(Duration::from_millis(millis.parse().map_err(|_| wrong())?));
    }
    if let Some((whole, rest)) = text.split_once('.') {
        let digits = rest.strip_suffix('s').ok_or_else(wrong)?;
        let millis = format!("{digits:0<3}");
        let millis = millis.get(..3).ok_or_else(wrong)?;
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let millis: u64 = millis.parse().map_err(|_| wrong())?;
        return Ok(Duration::from_secs(whole) + Duration::from_millis(millis));
    }
    duration(text).map_err(|_| wrong())
}

fn mending(path: &Path, error: SoundError) -> Failure {
    let code = match &error {
        SoundError::Io(_) => Failure::IO,
        _ => Failure::FINDINGS,
    };
    let error = anyhow::Error::new(error).context(path.display().to_string());
    Failure::new(code, error)
}
