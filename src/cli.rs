//! What was typed to what is done, and how it ended to an exit code.

mod add;
mod certificate;
mod config_command;
mod confine;
mod doctor;
mod explain;
mod handed;
mod hubspot;
mod inspect;
mod keys;
mod load;
mod log;
#[cfg(feature = "otel")]
mod otel;
mod panics;
mod rehearse;
mod renewal;
mod retention;
mod scrub;
mod serve;
mod service;
mod shell;
mod status;
mod storage;
mod url;
mod watch;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::keyring::FileError;
use crate::config::{Config, ConfigError, Flags, Values};
use crate::recording::UnixTime;
use crate::sign::Keyring;

/// Serves call recordings to HubSpot: short-lived signed URLs, true byte ranges.
#[derive(Debug, Parser)]
#[command(
    name = "tonearm",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_help = "\
Exit codes: 0 ok, 1 findings, 2 usage, 69 unavailable, 74 input or output,
75 try again, 78 configuration.
Every setting can stand in tonearm.toml or in the environment; `tonearm config show` lists them.")]
pub struct Cli {
    /// Configuration file [default: tonearm.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve recordings until SIGTERM or Ctrl-C; SIGHUP reads keyring and tokens again
    Serve(serve::Serve),
    /// Sign a URL for one recording and print it
    Url(url::Url),
    /// Decode a signed URL and say why it holds or not; exit 0 if it does, 1 if not
    Explain(explain::Explain),
    /// Check a recording, mend it as asked, and put it into the store
    Add(Box<add::Add>),
    /// Tell what a recording is and what HubSpot makes of it; exit 0 if it transcribes it, 1 if not
    Inspect(inspect::Inspect),
    /// Make, list, rotate and revoke signing keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Erase recordings past an age, and leave an audit line for each
    Expire(retention::Expire),
    /// Put recordings under legal hold, so that nothing erases or replaces them
    Hold(retention::Hold),
    /// Hold every recording against its record's digest; exit 1 if one is not as it was put
    Scrub(scrub::Scrub),
    /// Tell on one screen how a running server is; exit 1 if something should be looked at
    Status(status::Status),
    /// Bring recordings into HubSpot: register, log, associate, ready, transcript; publish does all
    #[command(subcommand)]
    Hubspot(hubspot::Command),
    /// Play HubSpot: serve a fake of its API, or call an endpoint as HubSpot does
    Rehearse(rehearse::Rehearse),
    /// Grade an endpoint, a recording's URL, a file or a directory by what HubSpot needs; exit 1 on a fail
    Doctor(doctor::Doctor),
    /// Load a server with concurrent listeners, check every answer, and say how it held
    Load(Box<load::Load>),
    /// Check the configuration, or show where each value comes from
    #[command(subcommand, name = "config")]
    Config(config_command::ConfigCommand),
    /// Print what a shell needs to complete commands and flags
    Completions(shell::Completions),
    /// Print or write the man pages
    Man(shell::Man),
}

/// The keyring's flag, which several commands have.
#[derive(Debug, Args)]
struct KeyringFlag {
    /// File of signing keys [default: keyring.toml]
    #[arg(long, value_name = "FILE")]
    keyring: Option<String>,
}

/// Why a command did not do what was asked, by exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// Something is not as it should be, and that is the answer.
    const FINDINGS: u8 = 1;
    /// The command was used wrongly.
    const USAGE: u8 = 2;
    /// An address or another resource cannot be had.
    const UNAVAILABLE: u8 = 69;
    /// A file cannot be read or written.
    const IO: u8 = 74;
    /// It may do the next time.
    const TRY_AGAIN: u8 = 75;
    /// The configuration or the keyring will not do.
    const CONFIGURATION: u8 = 78;

    fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self {
            code,
            error: error.into(),
        }
    }

    /// What becomes of a file or directory that cannot be read or written.
    fn at(path: &Path) -> impl Fn(io::Error) -> Self {
        |error| Self::new(Self::IO, error).context(path.display().to_string())
    }

    /// The same, with what was at hand.
    fn context(self, what: impl std::fmt::Display + Send + Sync + 'static) -> Self {
        Self::new(self.code, self.error.context(what))
    }

    /// The process's exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.code
    }

    /// The line for standard error.
    #[must_use]
    pub fn message(&self) -> String {
        format!("tonearm: {:#}", self.error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = match error {
            ConfigError::Usage(_) => Self::USAGE,
            ConfigError::Setting(_) => Self::CONFIGURATION,
        };
        Self::new(code, error)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let code = match &error {
            FileError::Change(_) => Self::FINDINGS,
            error if error.is_io() && !error.is_not_found() => Self::IO,
            _ => Self::CONFIGURATION,
        };
        Self::new(code, error)
    }
}

/// What a command's end means for the exit code.
type Outcome = Result<u8, Failure>;

/// Runs the command.
///
/// # Errors
/// [`Failure`], with the exit code and the line to print.
pub fn run(cli: Cli) -> Outcome {
    let file = cli.config.as_deref();
    let values = |flags| Values::collect(flags, &environment(), file);
    match cli.command {
        Command::Serve(command) => serve::Serve::run(&values(command.flags())?),
        Command::Url(command) => command.run(&values(command.flags())?),
        Command::Explain(command) => command.run(&values(command.flags())?),
        Command::Add(command) => command.run(&values(command.flags())?),
        Command::Inspect(command) => command.run(),
        Command::Keys(command) => command.run(&values(command.flags())?),
        Command::Expire(command) => command.run(&values(command.flags())?),
        Command::Hold(command) => command.run(&values(command.flags())?),
        Command::Scrub(command) => command.run(&values(command.flags())?),
        Command::Status(command) => command.run(&values(command.flags())?),
        Command::Completions(command) => {
            command.run();
            Ok(0)
        }
        Command::Man(command) => command.run(),
        Command::Hubspot(command) => command.run(&values(command.flags())?),
        Command::Rehearse(command) => command.run(&values(Flags::new())?),
        Command::Doctor(command) => command.run(&values(Flags::new())?),
        Command::Load(command) => command.run(),
        Command::Config(command) => command.run(&values(Flags::new())?),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text)))
        .filter(|(name, _)| {
            name.starts_with("TONEARM_") || name.starts_with("OTEL_") || name == handed::NAMES
        })
        // What is no text will do for no setting, and is shown.
        .map(|(name, text)| (name, text.to_string_lossy().into_owned()))
        .collect()
}

/// Prints to standard output; a reader that has gone away is no failure of ours.
fn print(text: &str) {
    use io::Write as _;

    let mut out = io::stdout().lock();
    // `tonearm keys list | head -1` closes the pipe before we are done.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn load_keyring(config: &Config) -> Result<Keyring, Failure> {
    crate::config::keyring::load(&config.keyring, &config.policy).map_err(|error| {
        if error.is_not_found() {
            let hint = anyhow::anyhow!(
                "{:#}; make one: tonearm keys init",
                anyhow::Error::from(error)
            );
            return Failure::new(Failure::CONFIGURATION, hint);
        }
        error.into()
    })
}

/// The address to connect to for one that was bound.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

fn now() -> UnixTime {
    crate::server::now()
}
