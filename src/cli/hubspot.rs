//! `tonearm hubspot`: the way from a recording to a transcribed call, step by step or as one.

mod call;
mod publish;
mod transcript;
mod work;

use std::num::NonZeroU64;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Failure, Outcome, print};
use crate::config::secret::{self, SecretError};
use crate::config::{Config, Flags, HubSpot, Values};
use crate::hubspot::client::{Client, ClientError, Credentials, Setup};
use crate::hubspot::names::Record;
use crate::hubspot::request::Request;
use crate::hubspot::wire;

/// Commands of `tonearm hubspot`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Tell HubSpot the URL at which it asks for recordings; the one it has is replaced
    Register(Register),
    /// Show the URL that HubSpot has
    Show(Show),
    /// Log a call for a recording of the store, and print the call's id
    Log(publish::Log),
    /// Give a call that HubSpot made (by its calling SDK) its recording
    Attach(publish::Attach),
    /// Associate a call with records, so that it is on their timelines
    Associate(Associate),
    /// Say that a call's recording can be fetched, which begins its transcription
    Ready(Ready),
    /// Hand in, read or delete a call's transcript
    #[command(subcommand)]
    Transcript(transcript::Command),
    /// Store a recording, log its call, associate it, mark it ready; run again, it goes on where it was
    Publish(publish::Publish),
}

impl Command {
    pub(super) fn flags(&self) -> Flags {
        match self {
            Self::Log(command) => command.flags(),
            Self::Attach(command) => command.flags(),
            Self::Publish(command) => command.flags(),
            _ => Flags::new(),
        }
    }

    pub(super) fn run(&self, values: &Values) -> Outcome {
        let config = values.config()?;
        super::log::begin(&config);
        match self {
            Self::Register(command) => command.run(&config),
            Self::Show(command) => command.run(&config),
            Self::Log(command) => command.run(&config),
            Self::Attach(command) => command.run(&config),
            Self::Associate(command) => command.run(&config),
            Self::Ready(command) => command.run(&config),
            Self::Transcript(command) => command.run(&config),
            Self::Publish(command) => command.run(&config),
        }
    }
}

/// How a command's result is shown, and whether there is to be one.
#[derive(Debug, Clone, Copy, Args)]
struct Manner {
    /// Print the requests that would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Register {
    /// Full URL with %s where HubSpot puts the externalId, such as https://rec.example.com/retrieve/authenticated/recordings/%s
    url: String,
    /// The app's number
    #[arg(long, value_name = "NUMBER", value_parser = app_number)]
    app: u32,
    #[command(flatten)]
    manner: Manner,
}

impl Register {
    fn run(&self, config: &Config) -> Outcome {
        wire::check_registrable(&self.url).map_err(|error| Failure::new(Failure::USAGE, error))?;
        let version = &config.hubspot.version;
        let (post, patch) = (
            version.register(self.app, &self.url),
            version.change(self.app, &self.url),
        );
        if self.manner.dry_run {
            return Ok(show_requests(&config.hubspot, &[post], self.manner.json));
        }
        block_on(async {
            let client = client(&config.hubspot)?;
            let answer = match client.send(&post).await {
                // There is a URL already, and HubSpot says so in one of these two ways.
                Err(ClientError::Refused(refusal)) if matches!(refusal.status, 400 | 409) => {
                    match client.send(&patch).await {
                        // There was none: what the first answer said is what is wrong.
                        Err(ClientError::Refused(second)) if second.status == 404 => {
                            Err(ClientError::Refused(refusal))
                        }
                        patched => patched,
                    }
                }
                posted => posted,
            };
            registered(&answer?.body, self.manner.json);
            Ok(0)
        })
    }
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The app's number
    #[arg(long, value_name = "NUMBER", value_parser = app_number)]
    app: u32,
    #[command(flatten)]
    manner: Manner,
}

impl Show {
    fn run(&self, config: &Config) -> Outcome {
        let request = config.hubspot.version.show(self.app);
        if self.manner.dry_run {
            return Ok(show_requests(&config.hubspot, &[request], self.manner.json));
        }
        block_on(async {
            let answer = client(&config.hubspot)?.send(&request).await?;
            registered(&answer.body, self.manner.json);
            Ok(0)
        })
    }
}

fn registered(body: &Value, as_json: bool) {
    let url = body
        .get("urlToRetrieveAuthedRecording")
        .and_then(Value::as_str);
    if as_json {
        print(&body.to_string());
    } else {
        print(url.unwrap_or("HubSpot took it, and its answer names no URL"));
    }
}

#[derive(Debug, Args)]
pub(super) struct Associate {
    /// The call's id
    call: NonZeroU64,
    /// The records, such as contact:104901 company:7
    #[arg(required = true, value_name = "TYPE:ID")]
    to: Vec<Record>,
    /// Association type id, for a label of the account's own [default: no label]
    #[arg(long, value_name = "NUMBER")]
    label: Option<u32>,
    /// Use the path of HubSpot's guide of 2024
    #[arg(long, conflicts_with = "label")]
    guide: bool,
    #[command(flatten)]
    manner: Manner,
}

impl Associate {
    fn run(&self, config: &Config) -> Outcome {
        let (version, call) = (&config.hubspot.version, self.call.get());
        let requests: Vec<_> = self
            .to
            .iter()
            .map(|to| match self.label {
                // HubSpot's own types have the numbers it has published; all others are the account's.
                Some(label) if label == to.object.association => {
                    version.associate_as(call, *to, wire::HUBSPOT_DEFINED, label)
                }
                Some(label) => version.associate_as(call, *to, "USER_DEFINED", label),
                None if self.guide => version.associate_as_in_2024(call, *to),
                None => version.associate(call, *to),
            })
            .collect();
        let to: Vec<_> = self.to.iter().map(ToString::to_string).collect();
        send_all(
            config,
            &requests,
            self.manner,
            || json!({"callId": call, "associated": to}),
        )
    }
}

#[derive(Debug, Args)]
pub(super) struct Ready {
    /// The call's id
    call: NonZeroU64,
    #[command(flatten)]
    manner: Manner,
}

impl Ready {
    fn run(&self, config: &Config) -> Outcome {
        let call = self.call.get();
        let request = config.hubspot.version.ready(call);
        send_all(
            config,
            &[request],
            self.manner,
            || json!({"callId": call, "ready": true}),
        )
    }
}

/// Sends one request after the other, and says what was done.
fn send_all(
    config: &Config,
    requests: &[Request],
    manner: Manner,
    done: impl Fn() -> Value,
) -> Outcome {
    if manner.dry_run {
        return Ok(show_requests(&config.hubspot, requests, manner.json));
    }
    block_on(async {
        let client = client(&config.hubspot)?;
        for request in requests {
            client.send(request).await?;
        }
        if manner.json {
            print(&done().to_string());
        }
        Ok(0)
    })
}

/// Prints requests as they would be sent; credentials are no part of a [`Request`].
fn show_requests(hubspot: &HubSpot, requests: &[Request], as_json: bool) -> u8 {
    let all: Vec<_> = requests
        .iter()
        .map(|request| described(hubspot, request))
        .collect();
    if as_json {
        print(&json!({ "requests": all }).to_string());
    } else {
        all.iter().for_each(show_request);
    }
    0
}

fn show_request(request: &Value) {
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    print(&format!("{} {}", text("method"), text("url")));
    if !request["body"].is_null() {
        print(&format!("{:#}", request["body"]));
    }
}

/// A request with a name in the place of the call's id where that is 0: not known yet.
fn described(hubspot: &HubSpot, request: &Request) -> Value {
    let path = request.path.replace("/calls/0/", "/calls/{callId}/");
    let mut body = request.body.clone();
    if let Some(id) = body
        .as_mut()
        .and_then(|body| body.get_mut("engagementId"))
        .filter(|id| **id == 0)
    {
        *id = "{callId}".into();
    }
    json!({"method": request.method.as_str(), "url": format!("{}{path}", hubspot.base), "body": body})
}

/// A client with the credentials of the configured files.
fn client(hubspot: &HubSpot) -> Result<Client, Failure> {
    let credentials = match (&hubspot.token_file, &hubspot.oauth_file) {
        (Some(file), None) => Credentials::Token(secret::line(file)?),
        (None, Some(file)) => {
            let problem = "client_id, client_secret and refresh_token are needed, and nothing else";
            Credentials::OAuth(secret::table(file, problem)?)
        }
        (None, None) => Credentials::None,
        (Some(_), Some(_)) => {
            let error = anyhow!(
                "hubspot.token_file and hubspot.oauth_file are both set; one of them is needed"
            );
            return Err(Failure::new(Failure::CONFIGURATION, error));
        }
    };
    let developer_key = hubspot
        .developer_key_file
        .as_deref()
        .map(secret::line)
        .transpose()?;
    let setup = Setup {
        base: hubspot.base.clone(),
        version: hubspot.version.clone(),
        credentials,
        developer_key,
        ..Setup::default()
    };
    Ok(Client::new(setup)?)
}

/// An app's number. HubSpot's own guide shows texts here, and its API refuses them.
fn app_number(text: &str) -> Result<u32, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| i32::try_from(*number).is_ok());
    number.filter(|number| *number > 0).ok_or_else(|| {
        format!("HubSpot's app ids are numbers, and {text:?} is none: it is on the app's page in the developer account")
    })
}

fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .map_err(|error| Failure::new(Failure::UNAVAILABLE, error))?
        .block_on(work)
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self::new(Self::CONFIGURATION, error)
    }
}

/// What an end means for the exit code.
impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Refused(refusal) if refusal.is_of_credentials() => Self::CONFIGURATION,
            ClientError::NoCredentials(_) => Self::CONFIGURATION,
            ClientError::Refused(_) | ClientError::Lacking(_) => Self::FINDINGS,
            ClientError::Later { .. } | ClientError::Unclear(_) | ClientError::Cut(_) => {
                Self::TRY_AGAIN
            }
            ClientError::Unreachable(..) | ClientError::Broken(_) => Self::UNAVAILABLE,
        };
        Self::new(code, error)
    }
}
