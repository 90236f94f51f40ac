//! `tonearm hubspot transcript`: an app's own transcript of a call.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Manner, block_on, client, send_all, show_requests};
use crate::cli::{Failure, Outcome, print};
use crate::config::Config;
use crate::hubspot::wire::{self, Utterance};
use crate::recording::Id;

/// Commands of `tonearm hubspot transcript`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Hand in a transcript, and print its id
    Post(Post),
    /// Print a transcript: by its id, or the one of a call
    Show(Show),
    /// Delete a transcript
    Delete(Delete),
}

impl Command {
    pub(super) fn run(&self, config: &Config) -> Outcome {
        match self {
            Self::Post(command) => command.run(config),
            Self::Show(command) => command.run(config),
            Self::Delete(command) => command.run(config),
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Post {
    /// The call's id
    call: NonZeroU64,
    /// JSON file: a list of {"speaker": {"id", "name", "email"?}, "text", "startTimeMillis", "endTimeMillis", "languageCode"?}
    file: PathBuf,
    #[command(flatten)]
    manner: Manner,
}

impl Post {
    fn run(&self, config: &Config) -> Outcome {
        let utterances = read(&self.file)?;
        let request = config
            .hubspot
            .version
            .post_transcript(self.call.get(), &utterances);
        if self.manner.dry_run {
            return Ok(show_requests(&config.hubspot, &[request], self.manner.json));
        }
        block_on(async {
            let answer = client(&config.hubspot)?.send(&request).await?;
            let id = answer
                .body
                .get("id")
                .map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
            match id {
                _ if self.manner.json => print(&answer.body.to_string()),
                Some(id) => print(&id),
                None => print("HubSpot took it, and its answer has no id"),
            }
            Ok(0)
        })
    }
}

/// Reads utterances, and refuses what HubSpot could make nothing of.
fn read(file: &Path) -> Result<Vec<Utterance>, Failure> {
    let name = || file.display().to_string();
    let text = std::fs::read(file)
        .with_context(name)
        .map_err(|error| Failure::new(Failure::IO, error))?;
    let findings = |error: anyhow::Error| Failure::new(Failure::FINDINGS, error.context(name()));
    let utterances: Vec<Utterance> =
        serde_json::from_slice(&text).map_err(|error| findings(error.into()))?;
    if utterances.is_empty() {
        return Err(findings(anyhow!("there is no utterance in it")));
    }
    match utterances
        .iter()
        .position(|said| said.start_time_millis > said.end_time_millis)
    {
        Some(at) => Err(findings(anyhow!(
            "utterance {} ends before it begins",
            at + 1
        ))),
        None => Ok(utterances),
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Show {
    /// The transcript's id
    #[arg(required_unless_present = "call")]
    id: Option<Id>,
    /// The call's id, to ask which transcript it has
    #[arg(long, value_name = "ID", conflicts_with = "id")]
    call: Option<NonZeroU64>,
    #[command(flatten)]
    manner: Manner,
}

impl Show {
    fn run(&self, config: &Config) -> Outcome {
        let version = &config.hubspot.version;
        let ask = self
            .call
            .map(|call| version.read(call.get(), &[wire::TRANSCRIPT_ID]));
        let known = self
            .id
            .as_ref()
            .map(|id| version.read_transcript(id.as_str()));
        if self.manner.dry_run {
            let requests: Vec<_> = ask.into_iter().chain(known).collect();
            return Ok(show_requests(&config.hubspot, &requests, self.manner.json));
        }
        block_on(async {
            let client = client(&config.hubspot)?;
            let request = match (ask, known) {
                (Some(ask), _) => {
                    let call = client.send(&ask).await?.body;
                    let id =
                        wire::property(&call, wire::TRANSCRIPT_ID).and_then(|id| Id::new(&id).ok());
                    let none = || {
                        Failure::new(Failure::FINDINGS, anyhow!("the call has no transcript yet"))
                    };
                    version.read_transcript(id.ok_or_else(none)?.as_str())
                }
                (None, Some(known)) => known,
                (None, None) => return Ok(0),
            };
            let body = client.send(&request).await?.body;
            print(&if self.manner.json {
                body.to_string()
            } else {
                spoken(&body)
            });
            Ok(0)
        })
    }
}

/// One line an utterance; an answer that has none is shown as it is.
fn spoken(body: &Value) -> String {
    let lists = body
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.values());
    let said = lists
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|utterance| {
            let text = |pointer: &str| utterance.pointer(pointer).and_then(Value::as_str);
            let start = utterance
                .get("startTimeMillis")
                .and_then(Value::as_u64)
                .unwrap_or_default();
            let speaker = text("/speaker/name").or(text("/speaker/id")).unwrap_or("?");
            Some(format!(
                "{:>3}:{:02} {speaker}: {}",
                start / 60_000,
                start / 1000 % 60,
                text("/text")?
            ))
        });
    let lines: Vec<_> = said.collect();
    if lines.is_empty() {
        format!("{body:#}")
    } else {
        lines.join("\n")
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Delete {
    /// The transcript's id
    id: Id,
    #[command(flatten)]
    manner: Manner,
}

impl Delete {
    fn run(&self, config: &Config) -> Outcome {
        let request = config.hubspot.version.delete_transcript(self.id.as_str());
        send_all(
            config,
            &[request],
            self.manner,
            || serde_json::json!({"deleted": self.id.as_str()}),
        )
    }
}
