//! Publishing as the commands share it: the store, the journal in its records, what is left to send.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::call::{CallFlags, Whose};
use super::{Manner, client, described, show_request, show_requests};
use crate::cli::storage::{not_had, open_store};
use crate::cli::{Failure, Outcome, now, print};
use crate::config::{Config, Storage};
use crate::doctor::{Grade, Heard, Named, check_file, check_opened};
use crate::hubspot::client::Client;
use crate::hubspot::journal::{Journal, Step};
use crate::hubspot::names::Status;
use crate::hubspot::publish::{Keeper, Publication, PublishError, Until};
use crate::hubspot::request::Request;
use crate::hubspot::wire::{self, Details};
use crate::recording::{MediaPath, RecordingId, UnixTime};
use crate::store::{ChangeError, Found, Publishing, Store, StoreError};

/// What all of these commands need.
pub(super) struct Work<'a> {
    pub(super) config: &'a Config,
    pub(super) store: Store,
    pub(super) call: &'a CallFlags,
    pub(super) until: Until,
    /// Whether the file is checked before its call is logged; if so, whether playing is enough.
    pub(super) check: Option<bool>,
    /// When the file was last modified that was put into the store just now.
    pub(super) modified: Option<UnixTime>,
}

impl<'a> Work<'a> {
    pub(super) fn of(
        config: &'a Config,
        call: &'a CallFlags,
        until: Until,
    ) -> Result<Self, Failure> {
        Ok(Self {
            config,
            store: open_store(config)?,
            call,
            until,
            check: None,
            modified: None,
        })
    }

    pub(super) async fn one(&self, app: u32, recording: &RecordingId, manner: Manner) -> Outcome {
        let found = self.find(recording)?;
        let _claim = self.claim(&found.path, manner.dry_run)?;
        let (mut journal, keeper) = self.journal(recording)?;
        self.plan(&mut journal, app, &found)?;
        if manner.dry_run {
            return Ok(show_requests(
                &self.config.hubspot,
                &requests(self.config, &journal, self.until),
                manner.json,
            ));
        }
        let client = client(&self.config.hubspot)?;
        self.run(&client, app, &mut journal, keeper).await?;
        report(recording, &journal, manner.json);
        Ok(0)
    }

    pub(super) async fn run(
        &self,
        client: &Client,
        app: u32,
        journal: &mut Journal,
        mut keeper: RecordKeeper<'_>,
    ) -> Result<(), PublishError<ChangeError>> {
        let index_wait = self.config.hubspot.index_wait;
        let publication = Publication {
            client,
            recording: keeper.recording,
            app,
            index_wait,
            until: self.until,
        };
        publication.run(journal, &mut keeper).await
    }

    /// Every recording that is not published, one after the other: HubSpot counts requests.
    pub(super) async fn all(&self, whose: &Whose, manner: Manner) -> Outcome {
        let recordings = self.wanted(whose)?;
        // It draws on a terminal only.
        let bar = indicatif::ProgressBar::new(u64::try_from(recordings.len()).unwrap_or(u64::MAX));
        let client = if manner.dry_run {
            None
        } else {
            Some(client(&self.config.hubspot)?)
        };
        let (mut published, mut failed) = (Vec::new(), Vec::new());
        for recording in &recordings {
            match self.pending(client.as_ref(), recording).await {
                Ok(said) => published.extend(said),
                Err(failure) if failure.code() == Failure::FINDINGS => {
                    bar.suspend(|| tracing::error!(%recording, "{}", failure.message()));
                    failed.push(
                        json!({"recording": recording.to_string(), "error": failure.message()}),
                    );
                }
                // The next one would meet the same.
                Err(failure) => {
                    bar.abandon();
                    return Err(failure);
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let (count, failures) = (published.len(), failed.len());
        if manner.dry_run && !manner.json {
            let requests = published
                .iter()
                .filter_map(|said| said["requests"].as_array());
            requests.flatten().for_each(show_request);
        }
        if manner.json {
            print(&json!({"published": published, "failed": failed}).to_string());
        } else {
            let word = if manner.dry_run {
                "to be published"
            } else {
                "published"
            };
            let before = recordings.len() - count - failures;
            print(&format!(
                "{count} {word}, {before} published before, {failures} failed"
            ));
        }
        Ok(if failures == 0 { 0 } else { Failure::FINDINGS })
    }

    fn wanted(&self, whose: &Whose) -> Result<Vec<RecordingId>, Failure> {
        let app = whose.app.map(|app| app.to_string());
        let is_wanted = |id: &RecordingId| {
            app.as_ref().is_none_or(|app| id.app.as_str() == app)
                && whose
                    .account
                    .as_ref()
                    .is_none_or(|account| id.account == *account)
        };
        let all = self.store.all()?.into_iter().map(|path| path.recording);
        let mut wanted: Vec<_> = all.filter(is_wanted).collect();
        // One that lies there in two formats is one recording.
        wanted.dedup();
        Ok(wanted)
    }

    /// Publishes one recording, if it is not; without a client says what would be sent.
    async fn pending(
        &self,
        client: Option<&Client>,
        recording: &RecordingId,
    ) -> Result<Option<Value>, Failure> {
        let (mut journal, keeper) = self.journal(recording)?;
        if journal.is_complete() {
            return Ok(None);
        }
        let app = super::app_number(recording.app.as_str())
            .map_err(|problem| Failure::new(Failure::FINDINGS, anyhow!(problem)))?;
        let found = self.find(recording)?;
        let _claim = self.claim(&found.path, client.is_none())?;
        self.plan(&mut journal, app, &found)?;
        match client {
            Some(client) => {
                self.run(client, app, &mut journal, keeper).await?;
                Ok(Some(said(recording, &journal)))
            }
            None => {
                let requests: Vec<_> = requests(self.config, &journal, self.until)
                    .iter()
                    .map(|request| described(&self.config.hubspot, request))
                    .collect();
                Ok(Some(
                    json!({"recording": recording.to_string(), "requests": requests}),
                ))
            }
        }
    }

    pub(super) fn find(&self, recording: &RecordingId) -> Result<Found, Failure> {
        let found = self.store.found(recording);
        found.map_err(|error| not_had(recording, &self.config.storage, error))
    }

    /// Keeps others from publishing a recording; in a dry run there is no need to.
    pub(super) fn claim(
        &self,
        path: &MediaPath,
        dry_run: bool,
    ) -> Result<Option<Publishing>, Failure> {
        if dry_run {
            return Ok(None);
        }
        let claimed = self.store.claim(path)?;
        let claimed = claimed.ok_or_else(|| {
            let error = anyhow!("another process is publishing {}", path.recording);
            Failure::new(Failure::TRY_AGAIN, error)
        })?;
        Ok(Some(claimed))
    }

    /// What is known of a recording's way, and who keeps what becomes of it.
    pub(super) fn journal<'b>(
        &'b self,
        recording: &'b RecordingId,
    ) -> Result<(Journal, RecordKeeper<'b>), Failure> {
        let (_, record) = self.store.present(recording)?;
        let journal = Journal::read(record.hubspot.as_ref())
            .with_context(|| {
                format!("the record of {recording}: what it says of HubSpot cannot be read")
            })
            .map_err(|error| Failure::new(Failure::IO, error))?;
        let keeper = RecordKeeper {
            store: &self.store,
            recording,
            was: record.hubspot,
        };
        Ok((journal, keeper))
    }

    pub(super) fn plan(
        &self,
        journal: &mut Journal,
        app: u32,
        found: &Found,
    ) -> Result<(), Failure> {
        let recording = &found.path.recording;
        if let Some(playback_only) = self.check.filter(|_| journal.call_id.is_none()) {
            let (place, name) = (self.config.storage.to_string(), found.path.store_path());
            let path = match &self.config.storage {
                Storage::Directory(directory) => directory.join(&name),
                // Whoever brought it has it under some name.
                Storage::Bucket(_) => name.rsplit('/').next().unwrap_or_default().into(),
            };
            let named = Named::stored(&path, recording, &place);
            let heard = check_opened(self.store.file(&found.path)?, &named);
            fit(Path::new(&name), heard, playback_only)?;
        }
        let (there, _) = self.store.present(recording)?;
        let stored = there
            .iter()
            .find(|present| present.path == found.path)
            .and_then(|present| present.modified);
        let file = FileFacts {
            modified: self.modified.or(stored).unwrap_or_else(now),
            duration: found.duration,
        };
        plan(self.call, journal, (app, recording), &file)
    }

    /// Whether the recording is in the store.
    pub(super) fn has(&self, recording: &RecordingId) -> bool {
        self.store
            .present(recording)
            .is_ok_and(|(there, _)| !there.is_empty())
    }
}

/// What is known of the file, when nothing else is said of the call.
pub(super) struct FileFacts {
    /// When it was last modified: when the call was over.
    pub(super) modified: UnixTime,
    /// How long it plays.
    pub(super) duration: Option<Duration>,
}

/// What the call is logged with: what was typed, then what was typed before, then the file's.
pub(super) fn plan(
    call: &CallFlags,
    journal: &mut Journal,
    (app, recording): (u32, &RecordingId),
    file: &FileFacts,
) -> Result<(), Failure> {
    let defaults = Details {
        timestamp: Some(file.modified.rfc3339()),
        duration_ms: file
            .duration
            .and_then(|length| u64::try_from(length.as_millis()).ok()),
        status: Some(Status::COMPLETED),
        ..Details::default()
    };
    let mut given = call.given()?;
    given.extend(wire::identity(recording, app));
    journal.plan(given, defaults.properties());
    if let Some(records) = call.records() {
        journal.plan_associations(&records);
    }
    Ok(())
}

/// Refuses what HubSpot could not use, and gives the duration of what it can.
pub(super) fn checked(
    file: &Path,
    recording: &RecordingId,
    storage: &Storage,
    playback_only: bool,
) -> Result<Option<Duration>, Failure> {
    let named = Named {
        path: file,
        recording: Some(recording),
        storage: Some(&storage.to_string()),
        is_stored: false,
    };
    fit(file, check_file(&named), playback_only)
}

fn fit(
    file: &Path,
    heard: io::Result<Heard>,
    playback_only: bool,
) -> Result<Option<Duration>, Failure> {
    let heard = heard.map_err(Failure::at(file))?;
    let failed = heard
        .checks
        .into_iter()
        .find(|check| check.grade == Grade::Fail && !playback_only);
    match failed {
        None => Ok(heard.duration),
        Some(check) => {
            let fix = check.fix.unwrap_or_default();
            let error = anyhow!("{}: {}\nfix: {fix}", file.display(), check.saw);
            Err(Failure::new(
                Failure::FINDINGS,
                error.context("HubSpot could not transcribe it, and nothing was sent"),
            ))
        }
    }
}

/// What is left to send, with 0 for a call that is not there yet.
pub(super) fn requests(config: &Config, journal: &Journal, until: Until) -> Vec<Request> {
    let version = &config.hubspot.version;
    let open: Vec<_> = journal.open_associations().collect();
    let call = journal.call_id.unwrap_or(0);
    let inline = until == Until::Logged && journal.call_id.is_none();
    let mut all = Vec::new();
    if journal.call_id.is_none() {
        all.push(version.log(&journal.properties, if inline { &open } else { &[] }));
    }
    if !inline {
        all.extend(open.iter().map(|to| version.associate(call, *to)));
    }
    if until == Until::Ready && journal.ready != Step::Done {
        all.push(version.ready(call));
    }
    all
}

/// Keeps the journal in the recording's record, as long as nobody else keeps another one there.
pub(super) struct RecordKeeper<'a> {
    store: &'a Store,
    recording: &'a RecordingId,
    /// What the record says.
    was: Option<Value>,
}

impl Keeper for RecordKeeper<'_> {
    type Error = ChangeError;

    fn keep(&mut self, journal: &Journal) -> Result<(), ChangeError> {
        let value = journal.value();
        self.store
            .remember(self.recording, self.was.as_ref(), &value)?;
        self.was = Some(value);
        Ok(())
    }

    fn now(&self) -> UnixTime {
        now()
    }
}

pub(super) fn report(recording: &RecordingId, journal: &Journal, as_json: bool) {
    if as_json {
        print(&said(recording, journal).to_string());
        return;
    }
    let call = journal
        .call_id
        .map(|call| call.to_string())
        .unwrap_or_default();
    let mut parts = vec![format!("call {call}: logged")];
    parts.extend(
        journal
            .associated_with()
            .map(|to| format!("associated with {to}")),
    );
    if journal.ready == Step::Done {
        parts.push("ready".to_owned());
    }
    print(&parts.join(", "));
}

fn said(recording: &RecordingId, journal: &Journal) -> Value {
    let to: Vec<_> = journal.associated_with().collect();
    json!({
        "recording": recording.to_string(),
        "callId": journal.call_id.map(|call| call.to_string()),
        "associations": to,
        "ready": journal.ready == Step::Done,
    })
}

impl From<PublishError<ChangeError>> for Failure {
    fn from(error: PublishError<ChangeError>) -> Self {
        match error {
            PublishError::HubSpot { step, error } => {
                let Self { code, error } = Self::from(*error);
                Self::new(code, error.context(step))
            }
            PublishError::Journal(error) => error.into(),
        }
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        let code = match &error {
            ChangeError::Taken
            | ChangeError::Held
            | ChangeError::Young
            | ChangeError::TooLarge(_)
            | ChangeError::Store(
                StoreError::NotFound(_) | StoreError::Erased | StoreError::Damaged,
            ) => Self::FINDINGS,
            ChangeError::Busy | ChangeError::Store(StoreError::Busy | StoreError::Replaced) => {
                Self::TRY_AGAIN
            }
            ChangeError::Unguarded
            | ChangeError::Store(
                StoreError::Unreachable(_) | StoreError::TimedOut | StoreError::Upstream(_),
            ) => Self::UNAVAILABLE,
            ChangeError::Full(_) | ChangeError::Store(_) => Self::IO,
        };
        Self::new(code, error)
    }
}
