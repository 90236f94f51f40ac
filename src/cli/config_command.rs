//! `tonearm config`: is it right, and where does each value come from?

use clap::Subcommand;
use serde::Serialize;

use super::certificate::Certificate;
use super::{Failure, Outcome, load_keyring, print};
use crate::config::Values;
use crate::config::keyring::load_tokens;
use crate::recording::UnixTime;

/// Commands of `tonearm config`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check every value, the keyring if it is there, certificate and tokens; exit 78 if one will not do
    Check,
    /// Show every setting with its value and where that comes from
    Show {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Row<'a> {
    key: &'static str,
    value: &'a str,
    source: String,
    variable: String,
    help: &'static str,
}

impl ConfigCommand {
    pub(super) fn run(&self, values: &Values) -> Outcome {
        match self {
            Self::Check => check(values),
            Self::Show { json: true } => show_json(values),
            Self::Show { json: false } => {
                print(&show(values));
                Ok(0)
            }
        }
    }
}

fn check(values: &Values) -> Outcome {
    let config = values.config()?;
    if config.keyring.exists() {
        let ring = load_keyring(&config)?;
        print(&format!(
            "{}: {} keys",
            config.keyring.display(),
            ring.keys().len()
        ));
    }
    if let Some(files) = &config.tls {
        let (tls, _) = Certificate::load(files, config.acme.as_ref())?;
        match (&config.acme, tls.ends()) {
            (None, ends) => print(&format!("{files}: until {}", date(ends))),
            (Some(acme), None) => print(&format!("{acme}: no certificate yet")),
            (Some(acme), ends) => print(&format!("{acme}: until {}", date(ends))),
        }
    }
    if let Some(path) = &config.ingest_tokens {
        let tokens = load_tokens(path)?;
        print(&format!("{}: {} tokens", path.display(), tokens.count()));
    }
    if let Some(cdn) = &config.cdn {
        cdn.signer(&config.policy)?;
        print(&format!(
            "{}: a key of {}",
            cdn.key_file.display(),
            cdn.format
        ));
        if let Some(weakness) = cdn.format.weakness() {
            print(&format!("url.format = {} is weak: {weakness}", cdn.format));
        }
    }
    print("the configuration is right");
    Ok(0)
}

fn date(time: Option<UnixTime>) -> String {
    time.map(UnixTime::rfc3339).unwrap_or_default()
}

/// A file that says the same, with each value's source behind it.
fn show(values: &Values) -> String {
    let mut lines = Vec::new();
    let mut section = "";
    for (setting, value) in values.rows() {
        let (above, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
        if above != section {
            section = above;
            lines.push(format!("\n[{section}]"));
        }
        // What is not set has no line of its own to copy.
        let unset = if value.text.is_empty() { "# " } else { "" };
        let line = format!("{unset}{name} = {}", written(setting.key, &value.text));
        lines.push(format!("{line:52} # {}", value.source));
    }
    lines.join("\n")
}

fn written(key: &str, text: &str) -> String {
    if key.starts_with("resolver.allowed")
        || ["trusted_proxies", "tls.acme.domains", "tls.acme.contact"].contains(&key)
    {
        let members: Vec<_> = text.split(',').filter(|id| !id.is_empty()).collect();
        return format!("{members:?}");
    }
    format!("{text:?}")
}

fn show_json(values: &Values) -> Outcome {
    let rows: Vec<_> = values
        .rows()
        .map(|(setting, value)| Row {
            key: setting.key,
            value: &value.text,
            source: value.source.to_string(),
            variable: setting.variable(),
            help: setting.help,
        })
        .collect();
    let text =
        serde_json::to_string_pretty(&rows).map_err(|error| Failure::new(Failure::IO, error))?;
    print(&text);
    Ok(0)
}
