//! Where values come from, and how a wrong one is shown.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{SETTINGS, Setting};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said otherwise.
    Default,
    /// The command line, by the setting's key.
    Flag(&'static str),
    /// An environment variable.
    Environment(String),
    /// The configuration file.
    File(Place),
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    file: PathBuf,
    text: Arc<str>,
    span: Range<usize>,
}

impl Place {
    /// 1-based, columns in characters.
    fn line_and_column(&self) -> (usize, usize) {
        let before = &self.text[..self.span.start.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        (line, column)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(key) => write!(f, "--{}", key.replace(['_', '.'], "-")),
            Self::Environment(variable) => f.write_str(variable),
            Self::File(place) => {
                let (line, _) = place.line_and_column();
                write!(f, "{}:{line}", place.file.display())
            }
        }
    }
}

/// A setting's text, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// As it was written; the members of a list are parted by commas.
    pub text: String,
    /// Where.
    pub source: Source,
}

impl Value {
    pub(super) fn new(text: impl Into<String>, source: Source) -> Self {
        Self {
            text: text.into(),
            source,
        }
    }

    pub(super) fn error(&self, key: &str, problem: &str) -> ConfigError {
        let message = format!("{key} = {:?}: {problem}", self.text);
        match &self.source {
            Source::File(place) => ConfigError::at(place, &message),
            Source::Flag(_) => ConfigError::Usage(format!("{}: {message}", self.source)),
            source => ConfigError::Setting(format!("{source}: {message}")),
        }
    }
}

/// A configuration that will not do, ready to be shown: place, problem, and the line with a caret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It was typed so.
    #[error("{0}")]
    Usage(String),
    /// It is set so, in the environment or in a file.
    #[error("{0}")]
    Setting(String),
}

impl ConfigError {
    fn at(place: &Place, message: &str) -> Self {
        let (number, column) = place.line_and_column();
        let line = place.text.lines().nth(number - 1).unwrap_or_default();
        let inside = line.chars().count() + 1 - column.min(line.chars().count() + 1);
        let carets = "^".repeat(place.span.len().clamp(1, inside.max(1)));
        let margin = " ".repeat(number.to_string().len());
        Self::Setting(format!(
            "{}:{number}:{column}: {message}\n{margin} |\n{number} | {line}\n{margin} | {}{carets}",
            place.file.display(),
            " ".repeat(column - 1),
        ))
    }
}

/// Reads a configuration file: sections of settings, and nothing else.
pub(super) fn read_file(path: &Path) -> Result<Vec<(&'static str, Value)>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Setting(format!("{}: {error}", path.display())))?;
    parse(path, &text)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<(&'static str, Value)>, ConfigError> {
    let shared: Arc<str> = text.into();
    let place = |span: Range<usize>| Place {
        file: path.to_owned(),
        text: Arc::clone(&shared),
        span,
    };
    let table = DeTable::parse(text)
        .map_err(|error| ConfigError::at(&place(error.span().unwrap_or(0..0)), error.message()))?;
    let mut values = Vec::new();
    flatten("", table.get_ref(), &place, &mut values)?;
    Ok(values)
}

fn flatten(
    section: &str,
    table: &DeTable<'_>,
    place: &impl Fn(Range<usize>) -> Place,
    values: &mut Vec<(&'static str, Value)>,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let key = format!("{section}{}", name.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            let below = format!("{key}.");
            if !SETTINGS
                .iter()
                .any(|setting| setting.key.starts_with(&below))
            {
                return Err(unknown(&key, &place(name.span())));
            }
            flatten(&below, inner, place, values)?;
            continue;
        }
        let setting = SETTINGS
            .iter()
            .find(|setting| setting.key == key)
            .ok_or_else(|| unknown(&key, &place(name.span())))?;
        if value
            .get_ref()
            .as_array()
            .is_some_and(|list| list.is_empty())
        {
            let problem =
                format!("{key}: an empty list allows nobody; leave the line out to allow any");
            return Err(ConfigError::at(&place(value.span()), &problem));
        }
        let text = plain(value).ok_or_else(|| {
            let problem = format!("{key}: a text, a number or a list of texts is needed");
            ConfigError::at(&place(value.span()), &problem)
        })?;
        let source = Source::File(place(value.span()));
        values.push((setting.key, Value { text, source }));
    }
    Ok(())
}

fn plain(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Array(members) => {
            let texts: Option<Vec<&str>> = members
                .iter()
                .map(|member| member.get_ref().as_str())
                .collect();
            Some(texts?.join(","))
        }
        _ => None,
    }
}

/// Whether a variable with our prefix is somebody else's: what Kubernetes sets in every pod beside a
/// service called `tonearm`, and what the tests set.
fn is_foreign(variable: &str) -> bool {
    ["TONEARM_SERVICE_", "TONEARM_PORT"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
        || ["TONEARM_REQUIRE_PEERS", "TONEARM_KILLS"].contains(&variable)
}

/// The setting that a variable of the environment stands for; `None` where it is none of ours.
pub(super) fn setting_of(variable: &str) -> Result<Option<&'static Setting>, ConfigError> {
    let known = SETTINGS
        .iter()
        .find(|setting| setting.variable() == variable);
    if known.is_some() || !variable.starts_with("TONEARM_") || is_foreign(variable) {
        return Ok(known);
    }
    let nearest = SETTINGS
        .iter()
        .map(Setting::variable)
        .map(|known| (distance(&known, variable), known))
        .min()
        // Beyond that it would be a guess.
        .filter(|(distance, known)| *distance <= known.len() / 4)
        .map(|(_, known)| format!("; did you mean {known}?"));
    let hint = nearest.unwrap_or_else(|| "; `tonearm config show` lists all there are".to_owned());
    Err(ConfigError::Setting(format!(
        "{variable} is no setting{hint}"
    )))
}

/// How many bytes have to be put in, left out or changed to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

/// An unknown key, with the one that was probably meant.
fn unknown(key: &str, place: &Place) -> ConfigError {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let meant = SETTINGS
        .iter()
        .find(|setting| last(setting.key) == last(key))
        .map(|setting| format!("; did you mean {}?", setting.key));
    let hint = meant.unwrap_or_else(|| "; `tonearm config show` lists all there are".to_owned());
    ConfigError::at(place, &format!("{key} is no setting{hint}"))
}
