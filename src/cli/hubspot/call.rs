//! What a call is logged with, as it is typed.

use anyhow::anyhow;
use clap::Args;

use super::app_number;
use crate::cli::Failure;
use crate::config::duration;
use crate::hubspot::names::{Direction, Disposition, Record, Status};
use crate::hubspot::wire::{self, Details, Properties};
use crate::recording::{Id, RecordingId};

/// Which recording.
#[derive(Debug, Args)]
pub(in crate::cli) struct Whose {
    /// The app's number
    #[arg(long, value_name = "NUMBER", value_parser = app_number)]
    pub(super) app: Option<u32>,
    /// The external account id
    #[arg(long, value_name = "ID")]
    pub(super) account: Option<Id>,
}

impl Whose {
    /// The app's number and the id of the whole.
    pub(super) fn recording(&self, external: &Id) -> Result<(u32, RecordingId), Failure> {
        let usage = |flag: &str| Failure::new(Failure::USAGE, anyhow!("{flag} is needed"));
        let app = self.app.ok_or_else(|| usage("--app"))?;
        let account = self.account.clone().ok_or_else(|| usage("--account"))?;
        let id = Id::new(&app.to_string()).map_err(|error| Failure::new(Failure::USAGE, error))?;
        Ok((
            app,
            RecordingId {
                app: id,
                account,
                external: external.clone(),
            },
        ))
    }
}

/// A call's properties and records.
#[derive(Debug, Args)]
pub(in crate::cli) struct CallFlags {
    /// When the call took place, as 2026-11-23T14:50:00Z or milliseconds since 1970 [default: when the file was last modified]
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    at: Option<String>,
    /// How long it was, such as 3m20s [default: what the file says]
    #[arg(long, value_name = "DURATION")]
    duration: Option<String>,
    /// What became of it, such as completed, busy, no-answer [default: completed]
    #[arg(long)]
    status: Option<Status>,
    /// inbound or outbound, seen from the HubSpot user
    #[arg(long)]
    direction: Option<Direction>,
    /// How it came out: connected, busy, no-answer, left-voicemail, left-live-message, wrong-number, or an id
    #[arg(long, value_name = "OUTCOME")]
    disposition: Option<Disposition>,
    /// The HubSpot owner's id; HubSpot transcribes for owners with a paid Sales or Service seat
    #[arg(long, value_name = "ID")]
    owner: Option<u64>,
    /// Title of the call
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Notes on the call (hs_call_body), up to 65535 characters
    #[arg(long, value_name = "TEXT", value_parser = notes)]
    notes: Option<String>,
    /// The caller's number
    #[arg(long, value_name = "NUMBER")]
    from: Option<String>,
    /// The number that was called
    #[arg(long, value_name = "NUMBER")]
    to: Option<String>,
    /// The contact on whose timeline the call belongs; may be given more than once
    #[arg(long, value_name = "ID")]
    contact: Vec<u64>,
    /// Another record, such as company:7 or deal:8; may be given more than once
    #[arg(long, value_name = "TYPE:ID")]
    associate: Vec<Record>,
}

impl CallFlags {
    /// The properties that were given.
    pub(super) fn given(&self) -> Result<Properties, Failure> {
        let problem = |problem| Failure::new(Failure::USAGE, anyhow!("--duration: {problem}"));
        let length = self
            .duration
            .as_deref()
            .map(duration)
            .transpose()
            .map_err(problem)?;
        let details = Details {
            timestamp: self.at.clone(),
            duration_ms: length.and_then(|length| u64::try_from(length.as_millis()).ok()),
            status: self.status,
            direction: self.direction,
            disposition: self.disposition.clone(),
            owner: self.owner,
            title: self.title.clone(),
            notes: self.notes.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
        };
        Ok(details.properties())
    }

    /// The records that were given; `None` where none was.
    pub(super) fn records(&self) -> Option<Vec<Record>> {
        let contacts = self
            .contact
            .iter()
            .map(|id| format!("contact:{id}").parse());
        // A number behind a known type is always a record.
        let contacts: Vec<Record> = contacts.filter_map(Result::ok).collect();
        let all = [contacts, self.associate.clone()].concat();
        (!all.is_empty()).then_some(all)
    }
}

/// HubSpot takes UTC and milliseconds.
fn timestamp(text: &str) -> Result<String, String> {
    if text.len() == 13 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    let time = text.parse::<jiff::Timestamp>();
    time.map(|time| time.to_string()).map_err(|_| {
        "a time is needed, such as 2026-11-23T14:50:00Z, or 13 digits of milliseconds".to_owned()
    })
}

fn notes(text: &str) -> Result<String, String> {
    match text.chars().count() {
        count if count > wire::MAX_NOTES => Err(format!(
            "{count} characters; HubSpot takes {}",
            wire::MAX_NOTES
        )),
        _ => Ok(text.to_owned()),
    }
}
