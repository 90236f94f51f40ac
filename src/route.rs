//! Method and target to a route. Decides what is asked for, never whether it may be had.

use std::borrow::Cow;
use std::collections::HashSet;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::recording::{Id, IdError, MediaPath, RecordingId};

/// Where a target leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A recording's bytes.
    Media,
    /// The question which URL a recording has.
    Resolve(Result<RecordingId, BadQuestion>),
    /// Nowhere.
    Nothing,
}

impl Route {
    /// The route's name in logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Resolve(_) => "resolve",
            Self::Nothing => "none",
        }
    }

    /// Where `path` with `query` leads.
    #[must_use]
    pub fn of(path: &str, query: &str, resolver: &Template) -> Self {
        if MediaPath::is_one(path) {
            return Self::Media;
        }
        resolver
            .question(path, query)
            .map_or(Self::Nothing, Self::Resolve)
    }
}

/// Where a target leads of those who bring recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ingest {
    /// A recording and its record.
    Recording(Result<RecordingId, IdError>),
    /// Where an upload of a recording in parts begins.
    Uploads(Result<RecordingId, IdError>),
    /// An upload in parts, by its name.
    Upload(String),
}

impl Ingest {
    const RECORDINGS: &'static str = "/api/v1/recordings/";
    const UPLOADS: &'static str = "/api/v1/uploads/";

    /// The route's name in logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Recording(_) => "recordings",
            Self::Uploads(_) | Self::Upload(_) => "uploads",
        }
    }

    /// Whether tus is spoken there.
    #[must_use]
    pub const fn is_upload(&self) -> bool {
        !matches!(self, Self::Recording(_))
    }

    /// Where `path` leads; `None` where it is none of these.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        if let Some(ids) = path.strip_prefix(Self::RECORDINGS) {
            return recording_of(ids).map(Self::Recording);
        }
        let rest = path.strip_prefix(Self::UPLOADS)?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if rest.len() == 32 && rest.bytes().all(is_digit) {
            return Some(Self::Upload(rest.to_owned()));
        }
        recording_of(rest).map(Self::Uploads)
    }

    /// The path of a recording and its record.
    #[must_use]
    pub fn path(recording: &RecordingId) -> String {
        format!("{}{recording}", Self::RECORDINGS)
    }

    /// The path of an upload.
    #[must_use]
    pub fn upload_path(name: &str) -> String {
        format!("{}{name}", Self::UPLOADS)
    }
}

/// Three segments as a recording's id; `None` where they are not three.
fn recording_of(ids: &str) -> Option<Result<RecordingId, IdError>> {
    let mut segments = ids.split('/');
    let (app, account, external) = (segments.next()?, segments.next()?, segments.next()?);
    let more = segments.next().is_some();
    (!more).then(|| RecordingId::new(app, account, external))
}

/// Why a call of the resolver asks for no recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuestion {
    /// A parameter is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A parameter stands twice.
    #[error("{0} stands more than once")]
    Repeated(&'static str),
    /// A value is no id.
    #[error("{name}: {source}")]
    Id {
        /// Which parameter.
        name: &'static str,
        /// What is wrong with it.
        source: IdError,
    },
}

const EXTERNAL: &str = "externalId";
const APP: &str = "appId";
const ACCOUNT: &str = "externalAccountId";

/// The resolver's path as it is registered with HubSpot, with `%s` where HubSpot puts the
/// `externalId`; it may stand anywhere, in the query too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    /// What stands for [`Template::SECRET`] in the text.
    secret: Option<String>,
    path: Pattern,
    query: Vec<(String, Pattern)>,
}

/// The hole of a [`Pattern`] in a text that fits it.
enum Hole<'a> {
    None,
    Filled(&'a str),
}

/// Text with at most one hole.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Whole(String),
    Around(String, String),
}

impl Pattern {
    fn new(text: &str) -> Self {
        match text.split_once(Template::HOLE) {
            Some((before, after)) => Self::Around(before.to_owned(), after.to_owned()),
            None => Self::Whole(text.to_owned()),
        }
    }

    /// What stands in the hole of a text that matches; a pattern without one has nothing there.
    fn fit<'a>(&self, text: &'a str) -> Option<Hole<'a>> {
        match self {
            Self::Whole(whole) => (text == whole).then_some(Hole::None),
            Self::Around(before, after) => text
                .strip_prefix(before.as_str())?
                .strip_suffix(after.as_str())
                .map(Hole::Filled),
        }
    }
}

/// Why a text is no resolver template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Not a path.
    #[error("a resolver path begins with \"/\"; scheme and host belong into public_base_url")]
    NotAPath,
    /// No hole, or more than one.
    #[error("a resolver path has %s once, where HubSpot puts the externalId")]
    Holes,
    /// The hole is in a parameter's name, or a parameter stands twice.
    #[error("a resolver path has %s in its path or in a value, and names no parameter twice")]
    Parameters,
    /// A byte that no request target has.
    #[error("a resolver path is visible ASCII without \"#\"")]
    Charset,
    /// A secret without its place, a place without its secret, or a secret that is easily guessed.
    #[error(
        "a resolver path has {{secret}} once where there is a secret, of at least 16 letters, digits, - and _"
    )]
    Secret,
    /// It would hide recordings.
    #[error("a resolver path cannot lie under {}", MediaPath::PREFIX)]
    Media,
}

impl Template {
    /// The path of HubSpot's own guide.
    pub const DEFAULT: &'static str = "/retrieve/authenticated/recordings/%s";
    const HOLE: &'static str = "%s";
    /// Where a secret stands that whoever asks has to know.
    pub const SECRET: &'static str = "{secret}";

    /// Reads a template in which `secret` stands for [`Template::SECRET`].
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn with_secret(text: &str, secret: &str) -> Result<Self, TemplateError> {
        let of_secret = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if secret.len() < 16
            || !secret.bytes().all(of_secret)
            || text.matches(Self::SECRET).count() != 1
        {
            return Err(TemplateError::Secret);
        }
        let mut template: Self = text.replace(Self::SECRET, secret).parse()?;
        template.secret = Some(secret.to_owned());
        Ok(template)
    }

    /// A text without the secret.
    #[must_use]
    pub fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.secret {
            Some(secret) if text.contains(secret.as_str()) => {
                text.replace(secret, Self::SECRET).into()
            }
            _ => text.into(),
        }
    }

    /// The template as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The target that HubSpot would call for this recording.
    #[must_use]
    pub fn target(&self, recording: &RecordingId) -> String {
        let target = self.text.replace(Self::HOLE, recording.external.as_str());
        let joint = if target.contains('?') { '&' } else { '?' };
        format!(
            "{target}{joint}{APP}={}&{ACCOUNT}={}",
            recording.app, recording.account
        )
    }

    /// The recording that a target asks for, if it is one of this template.
    fn question(&self, path: &str, query: &str) -> Option<Result<RecordingId, BadQuestion>> {
        let mut fits = vec![self.path.fit(path)?];
        let parameters: Vec<_> = parameters(query).collect();
        for (name, pattern) in &self.query {
            let (_, value) = parameters.iter().find(|(found, _)| found == name)?;
            fits.push(pattern.fit(value)?);
        }
        let external = fits.iter().find_map(|fit| match fit {
            Hole::Filled(external) => Some(*external),
            Hole::None => None,
        })?;
        Some(recording(external, &parameters))
    }
}

impl Default for Template {
    fn default() -> Self {
        Self {
            text: Self::DEFAULT.to_owned(),
            secret: None,
            path: Pattern::new(Self::DEFAULT),
            query: Vec::new(),
        }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if !text.starts_with('/') {
            return Err(TemplateError::NotAPath);
        }
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#')
        {
            return Err(TemplateError::Charset);
        }
        if text.matches(Self::HOLE).count() != 1 {
            return Err(TemplateError::Holes);
        }
        if text.contains(Self::SECRET) {
            return Err(TemplateError::Secret);
        }
        if text.starts_with(MediaPath::PREFIX) {
            return Err(TemplateError::Media);
        }
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let mut names = HashSet::new();
        // A name is looked up, and the first of that name found: neither could be answered.
        if parameters(query).any(|(name, _)| name.contains(Self::HOLE) || !names.insert(name)) {
            return Err(TemplateError::Parameters);
        }
        Ok(Self {
            text: text.to_owned(),
            secret: None,
            path: Pattern::new(path),
            query: parameters(query)
                .map(|(name, value)| (name.to_owned(), Pattern::new(value)))
                .collect(),
        })
    }
}

/// The parameters of a query, undecoded. How HubSpot joins its own to a template that already has
/// a query is documented nowhere, so a further `?` parts them as `&` does; no id holds either.
fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split(['&', '?'])
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
}

fn recording(external: &str, parameters: &[(&str, &str)]) -> Result<RecordingId, BadQuestion> {
    let one = |name: &'static str| {
        let mut values = parameters.iter().filter(|(found, _)| *found == name);
        let (_, value) = values.next().ok_or(BadQuestion::Missing(name))?;
        match values.next() {
            Some(_) => Err(BadQuestion::Repeated(name)),
            None => id(name, value),
        }
    };
    Ok(RecordingId {
        external: id(EXTERNAL, external)?,
        app: one(APP)?,
        account: one(ACCOUNT)?,
    })
}

/// An id out of a target. HubSpot may or may not escape it: an escape is undone once, and what
/// comes out has to be an id, which holds no escape.
fn id(name: &'static str, text: &str) -> Result<Id, BadQuestion> {
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .unwrap_or(Cow::Borrowed("%"));
    Id::new(&decoded).map_err(|source| BadQuestion::Id { name, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(template: &str, target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match Route::of(path, query, &template.parse().unwrap()) {
            Route::Media => "media".into(),
            Route::Nothing => "nothing".into(),
            Route::Resolve(Ok(id)) => id.to_string(),
            Route::Resolve(Err(error)) => error.to_string(),
        }
    }

    #[test]
    fn the_guides_own_call() {
        let target = "/retrieve/authenticated/recordings/test-call-01?appId=app-101&externalAccountId=test-account-01";
        let expect = "app-101/test-account-01/test-call-01";
        assert_eq!(asks(Template::DEFAULT, target), expect);
        let id = RecordingId::new("app-101", "test-account-01", "test-call-01").unwrap();
        let template: Template = Template::DEFAULT.parse().unwrap();
        assert_eq!(template, Template::default());
        assert_eq!(template.target(&id), target);
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn targets() {
        const Q: &str = "appId=1&externalAccountId=2";
        for (template, target, expect) in [
            ("/r/%s", format!("/r/x?{Q}"), "1/2/x"),
            ("/r/%s", format!("/r/x?a=b&{Q}&portalId=7"), "1/2/x"),
            ("/r/%s", "/r/x?externalAccountId=2&appId=1".into(), "1/2/x"),
            ("/r/%s", format!("/r/x%2Ey%7Ez?{Q}"), "1/2/x.y~z"),
            (
                "/r/%s",
                "/r/x?appId=%31&externalAccountId=2".into(),
                "1/2/x",
            ),
            ("/r/%s.json", format!("/r/x.json?{Q}"), "1/2/x"),
            ("/r/%s/url", format!("/r/x/url?{Q}"), "1/2/x"),
            ("/r/a-%s", format!("/r/a-x?{Q}"), "1/2/x"),
            ("/r?id=%s", format!("/r?id=x&{Q}"), "1/2/x"),
            ("/r?id=%s", format!("/r?{Q}&id=x"), "1/2/x"),
            ("/r?id=%s", format!("/r?id=x?{Q}"), "1/2/x"),
            ("/r?id=%s&t=7", format!("/r?id=x&t=7&{Q}"), "1/2/x"),
            ("/r?id=call-%s", format!("/r?id=call-x&{Q}"), "1/2/x"),
            ("/%s", format!("/x?{Q}"), "1/2/x"),
            // Not this template.
            ("/r?id=%s&t=7", format!("/r?id=x&t=8&{Q}"), "nothing"),
            ("/r?id=%s&t=7", format!("/r?id=x&{Q}"), "nothing"),
            ("/r?id=%s", format!("/r/x?{Q}"), "nothing"),
            ("/r/%s.json", format!("/r/x?{Q}"), "nothing"),
            ("/r/%s", format!("/R/x?{Q}"), "nothing"),
            ("/r/%s", "/".into(), "nothing"),
            ("/r/%s", "/media/a/b/c".into(), "nothing"),
            ("/%s", "/media/a/b/c.wav".into(), "media"),
            // This template, and wrong.
            ("/r/%s", "/r/x".into(), "appId is missing"),
            (
                "/r/%s",
                "/r/x?appId=1".into(),
                "externalAccountId is missing",
            ),
            (
                "/r/%s",
                format!("/r/x?{Q}&appId=1"),
                "appId stands more than once",
            ),
            (
                "/r/%s",
                format!("/r/?{Q}"),
                "externalId: an id is empty; it takes 1 to 128 of A-Z a-z 0-9 . _ ~ -",
            ),
            (
                "/r/%s",
                format!("/r/..?{Q}"),
                "externalId: an id cannot be \".\" or \"..\"",
            ),
            (
                "/r/%s",
                format!("/r/%2e%2e?{Q}"),
                "externalId: an id cannot be \".\" or \"..\"",
            ),
            (
                "/r/%s",
                format!("/r/a/b?{Q}"),
                "externalId: an id has a byte at offset 1 that is none of A-Z a-z 0-9 . _ ~ -",
            ),
            (
                "/r/%s",
                format!("/r/a%2Fb?{Q}"),
                "externalId: an id has a byte at offset 1 that is none of A-Z a-z 0-9 . _ ~ -",
            ),
            (
                "/r/%s",
                format!("/r/a%252Fb?{Q}"),
                "externalId: an id has a byte at offset 1 that is none of A-Z a-z 0-9 . _ ~ -",
            ),
            (
                "/r/%s",
                format!("/r/%ff?{Q}"),
                "externalId: an id has a byte at offset 0 that is none of A-Z a-z 0-9 . _ ~ -",
            ),
            (
                "/r/%s",
                "/r/x?appId=&externalAccountId=2".into(),
                "appId: an id is empty; it takes 1 to 128 of A-Z a-z 0-9 . _ ~ -",
            ),
        ] {
            assert_eq!(asks(template, &target), expect, "{template} {target}");
        }
    }

    #[test]
    fn ways_in() {
        let upload = "0123456789abcdef".repeat(2);
        for (path, expect) in [
            ("/api/v1/recordings/a/b/c", "recordings a/b/c"),
            ("/api/v1/recordings/a/b/c.wav", "recordings a/b/c.wav"),
            ("/api/v1/recordings/a/../c", "recordings no id"),
            ("/api/v1/recordings/a//c", "recordings no id"),
            ("/api/v1/recordings/a/b/%63", "recordings no id"),
            ("/api/v1/recordings/a/b", "none"),
            ("/api/v1/recordings/a/b/c/d", "none"),
            ("/api/v1/recordings/a/b/c/", "none"),
            ("/api/v2/recordings/a/b/c", "none"),
            ("/api/v1/uploads/a/b/c", "uploads a/b/c"),
            (&format!("/api/v1/uploads/{upload}"), "uploads by name"),
            (
                &format!("/api/v1/uploads/{}", upload.to_uppercase()),
                "none",
            ),
            (&format!("/api/v1/uploads/{upload}0"), "none"),
            ("/api/v1/uploads/", "none"),
            ("/media/a/b/c.wav", "none"),
        ] {
            let of = |id: &Result<RecordingId, IdError>| match id {
                Ok(id) => id.to_string(),
                Err(_) => "no id".to_owned(),
            };
            let found = Ingest::of(path).map_or("none".to_owned(), |route| match &route {
                Ingest::Recording(id) | Ingest::Uploads(id) => {
                    format!("{} {}", route.name(), of(id))
                }
                Ingest::Upload(name) => {
                    assert_eq!(Ingest::upload_path(name), path);
                    format!("{} by name", route.name())
                }
            });
            assert_eq!(found, expect, "{path}");
        }
    }

    #[test]
    fn templates_whose_parameters_could_never_be_told_apart() {
        for text in [
            "/r?%s",
            "/r?a%s=1",
            "/r?a=1&a=%s",
            "/r?a=%s&a=1",
            "/r?a=%s?a",
        ] {
            let error = Err(TemplateError::Parameters);
            assert_eq!(text.parse::<Template>(), error, "{text}");
        }
    }

    #[test]
    fn a_secret_part_is_asked_for_and_never_shown() {
        let secret = "0123456789abcdef";
        let template = Template::with_secret("/r/{secret}/%s", secret).unwrap();
        let target = "/r/0123456789abcdef/x?appId=1&externalAccountId=2";
        let id = RecordingId::new("1", "2", "x").unwrap();
        assert_eq!(template.target(&id), target);
        assert_eq!(
            template.masked(target),
            "/r/{secret}/x?appId=1&externalAccountId=2"
        );
        let route = |path| Route::of(path, "appId=1&externalAccountId=2", &template);
        assert_eq!(route("/r/0123456789abcdef/x"), Route::Resolve(Ok(id)));
        assert_eq!(route("/r/0123456789abcdeg/x"), Route::Nothing);
        assert_eq!(route("/r/{secret}/x"), Route::Nothing);
        for (text, secret) in [
            ("/r/%s", secret),
            ("/{secret}/%s", "short"),
            ("/{secret}/%s", "0123456789abcde/"),
        ] {
            assert_eq!(
                Template::with_secret(text, secret),
                Err(TemplateError::Secret),
                "{text} {secret}"
            );
        }
    }

    #[test]
    fn templates_that_will_not_do() {
        for (text, error) in [
            ("", TemplateError::NotAPath),
            ("https://h/%s", TemplateError::NotAPath),
            ("/r", TemplateError::Holes),
            ("/%s/%s", TemplateError::Holes),
            ("/r#%s", TemplateError::Charset),
            ("/r %s", TemplateError::Charset),
            ("/media/%s", TemplateError::Media),
            ("/{secret}/%s", TemplateError::Secret),
        ] {
            assert_eq!(text.parse::<Template>(), Err(error), "{text}");
        }
    }
}
