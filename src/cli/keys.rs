//! `tonearm keys`: the keyring's life.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Failure, KeyringFlag, Outcome, load_keyring, now, print};
use crate::config::keyring::{Change, Steps, create, date};
use crate::config::{Config, Flags, Values, duration};
use crate::recording::UnixTime;
use crate::sign::{Audience, Key, TokenId};

/// Commands of `tonearm keys`.
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Make a keyring with one new key
    Init {
        #[command(flatten)]
        keyring: KeyringFlag,
    },
    /// List the keys by id, fingerprint and window; never their secrets
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        keyring: KeyringFlag,
    },
    /// Add a key that signs a while from now, and let today's retire when their last URL has ended
    Rotate(Rotate),
    /// End a key at once, or one URL
    Revoke(Revoke),
}

/// Flags of `tonearm keys rotate`.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// When the new key begins to sign: leave time to copy the file to every server and reload it
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    after: String,
    #[command(flatten)]
    change: ChangeFlags,
}

/// Flags of `tonearm keys revoke`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(super) struct Revoke {
    /// The key to end, with every URL it signed
    #[arg(value_name = "KID", group = "what")]
    kid: Option<String>,
    /// The token id of the URL to end; `tonearm explain` shows it
    // One id in 64 begins with a hyphen.
    #[arg(long, value_name = "ID", group = "what", allow_hyphen_values = true)]
    url_id: Option<TokenId>,
    #[command(flatten)]
    change: ChangeFlags,
}

#[derive(Debug, Args)]
struct ChangeFlags {
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    keyring: KeyringFlag,
}

#[derive(Serialize)]
struct Row {
    kid: String,
    fingerprint: String,
    state: &'static str,
    audience: String,
    mint_from: Option<String>,
    mint_until: Option<String>,
    verify_until: Option<String>,
}

impl Keys {
    pub(super) fn flags(&self) -> Flags {
        let keyring = match self {
            Self::Init { keyring } | Self::List { keyring, .. } => keyring,
            Self::Rotate(rotate) => &rotate.change.keyring,
            Self::Revoke(revoke) => &revoke.change.keyring,
        };
        vec![("keyring", keyring.keyring.clone())]
    }

    pub(super) fn run(&self, values: &Values) -> Outcome {
        let config = values.config()?;
        match self {
            Self::Init { .. } => init(&config),
            Self::List { json, .. } => list(&config, *json),
            Self::Rotate(rotate) => rotate.run(&config),
            Self::Revoke(revoke) => revoke.run(&config),
        }
    }
}

fn init(config: &Config) -> Outcome {
    let kid = create(&config.keyring, now()).map_err(|error| Failure::new(Failure::IO, error))?;
    print(&format!("made {} with key {kid}", config.keyring.display()));
    Ok(0)
}

fn list(config: &Config, json: bool) -> Outcome {
    let ring = load_keyring(config)?;
    let now = now();
    let signing = ring.minting(now).map(Key::kid);
    let rows: Vec<Row> = ring
        .keys()
        .iter()
        .map(|key| Row::of(key, signing, now))
        .collect();
    if json {
        let text = serde_json::to_string_pretty(&rows)
            .map_err(|error| Failure::new(Failure::IO, error))?;
        print(&text);
        return Ok(0);
    }
    for row in rows {
        print(&row.text());
    }
    Ok(0)
}

impl Row {
    fn of(key: &Key, signing: Option<&str>, now: UnixTime) -> Self {
        let window = key.window();
        let state = if !window.verifies_at(now) {
            "retired"
        } else if signing == Some(key.kid()) {
            "signs"
        } else {
            "verifies"
        };
        Self {
            kid: key.kid().to_owned(),
            fingerprint: key.fingerprint().to_owned(),
            state,
            audience: match key.audience() {
                Audience::Origin => "origin".to_owned(),
                Audience::Edge(name) => format!("edge:{name}"),
            },
            mint_from: window.mint_from.map(date),
            mint_until: window.mint_until.map(date),
            verify_until: window.verify_until.map(date),
        }
    }

    fn text(&self) -> String {
        let times = [
            ("signs from", &self.mint_from),
            ("signs until", &self.mint_until),
            ("verifies until", &self.verify_until),
        ];
        let times: String = times
            .iter()
            .filter_map(|(name, time)| Some(format!(", {name} {}", time.as_ref()?)))
            .collect();
        format!(
            "{:16} {} {:8} {}{times}",
            self.kid, self.fingerprint, self.state, self.audience
        )
    }
}

impl Rotate {
    fn run(&self, config: &Config) -> Outcome {
        let lead = duration(&self.after)
            .map_err(|problem| Failure::new(Failure::USAGE, anyhow!("--after: {problem}")))?;
        let mut change = Change::of(&config.keyring, &config.policy, now())?;
        let steps = change.rotate(lead.as_secs())?;
        self.change.finish(change, &steps)
    }
}

impl Revoke {
    fn run(&self, config: &Config) -> Outcome {
        let mut change = Change::of(&config.keyring, &config.policy, now())?;
        let steps = match (&self.kid, self.url_id) {
            (Some(kid), _) => change.revoke_key(kid)?,
            (None, Some(id)) => change.revoke_url(id),
            (None, None) => Steps::new(),
        };
        self.change.finish(change, &steps)
    }
}

impl ChangeFlags {
    fn finish(&self, change: Change, steps: &Steps) -> Outcome {
        let prefix = if self.dry_run { "would do: " } else { "" };
        if !self.dry_run {
            change.commit()?;
        }
        for step in steps {
            print(&format!("{prefix}{step}"));
        }
        if !self.dry_run {
            print("copy the file to every server, then reload each: kill -HUP its pid");
        }
        Ok(0)
    }
}
