//! Every call to HubSpot as a value: method, path, body, whose credentials, and whether it may be
//! made twice. What `--dry-run` prints is what `client` sends.

use http::Method;
use serde_json::Value;

use super::names::Record;
use super::path::ApiVersion;
use super::retry::Repeat;
use super::wire::{self, Properties, Utterance};
use crate::recording::RecordingId;

/// Whose credentials a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// An account's: a bearer token, or one that OAuth gives.
    Account,
    /// The app's: a developer key where there is one, else the bearer token.
    App,
}

/// One call to HubSpot.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path below the base URL, perhaps with a query.
    pub path: String,
    /// The JSON body.
    pub body: Option<Value>,
    /// Whose credentials.
    pub auth: Auth,
    /// Whether it may be made twice.
    pub repeat: Repeat,
}

impl Request {
    fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            body: None,
            auth: Auth::Account,
            repeat: Repeat::Safe,
        }
    }

    fn with(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    const fn of_the_app(mut self) -> Self {
        self.auth = Auth::App;
        self
    }

    const fn once(mut self) -> Self {
        self.repeat = Repeat::Unsafe;
        self
    }
}

impl ApiVersion {
    /// Registers the URL at which recordings are asked for. Registering twice is refused, so that
    /// it may be tried twice.
    #[must_use]
    pub fn register(&self, app: u32, url: &str) -> Request {
        Request::new(Method::POST, self.recording_settings(app))
            .with(wire::recording_settings(url))
            .of_the_app()
    }

    /// Changes the registered URL.
    #[must_use]
    pub fn change(&self, app: u32, url: &str) -> Request {
        Request {
            method: Method::PATCH,
            ..self.register(app, url)
        }
    }

    /// Reads the registered URL.
    #[must_use]
    pub fn show(&self, app: u32) -> Request {
        Request::new(Method::GET, self.recording_settings(app)).of_the_app()
    }

    /// Logs a call.
    #[must_use]
    pub fn log(&self, properties: &Properties, associations: &[Record]) -> Request {
        Request::new(Method::POST, self.calls())
            .with(wire::create(properties, associations))
            .once()
    }

    /// Changes a call's properties.
    #[must_use]
    pub fn update(&self, call: u64, properties: &Properties) -> Request {
        Request::new(Method::PATCH, self.call(call)).with(wire::update(properties))
    }

    /// Reads a call's properties.
    #[must_use]
    pub fn read(&self, call: u64, properties: &[&str]) -> Request {
        Request::new(
            Method::GET,
            format!("{}?properties={}", self.call(call), properties.join(",")),
        )
    }

    /// Looks for the calls of a recording.
    #[must_use]
    pub fn find(&self, recording: &RecordingId, app: u32) -> Request {
        Request::new(Method::POST, self.search()).with(wire::search(recording, app))
    }

    /// Associates a call with a record, without a label.
    #[must_use]
    pub fn associate(&self, call: u64, to: Record) -> Request {
        Request::new(Method::PUT, self.default_association(call, to))
    }

    /// Associates a call with a record by a type, a label of the account's own perhaps.
    #[must_use]
    pub fn associate_as(&self, call: u64, to: Record, category: &str, association: u32) -> Request {
        let types = wire::types(category, association);
        Request::new(Method::PUT, self.labelled_association(call, to)).with(types)
    }

    /// Associates a call with a record as the guide of 2024 has it.
    #[must_use]
    pub fn associate_as_in_2024(&self, call: u64, to: Record) -> Request {
        Request::new(Method::PUT, self.guides_association(call, to))
    }

    /// Says that a call's recording can be fetched. Whether that may be said twice is documented
    /// nowhere, so it is not said twice without a look.
    #[must_use]
    pub fn ready(&self, call: u64) -> Request {
        Request::new(Method::POST, self.recordings_ready())
            .with(wire::ready(call))
            .once()
    }

    /// Hands in a transcript.
    #[must_use]
    pub fn post_transcript(&self, call: u64, utterances: &[Utterance]) -> Request {
        Request::new(Method::POST, self.transcripts())
            .with(wire::transcript(call, utterances))
            .once()
    }

    /// Reads a transcript.
    #[must_use]
    pub fn read_transcript(&self, id: &str) -> Request {
        Request::new(Method::GET, self.transcript(id))
    }

    /// Deletes a transcript.
    #[must_use]
    pub fn delete_transcript(&self, id: &str) -> Request {
        Request::new(Method::DELETE, self.transcript(id))
    }
}
