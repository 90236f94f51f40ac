//! `tonearm explain`: a signed URL, clause by clause.

use std::io::Read as _;

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use super::{Failure, Outcome, load_keyring, now, print};
use crate::config::keyring::date;
use crate::config::{Config, Flags, Values};
use crate::recording::UnixTime;
use crate::sign::{Claims, Disposition, Keyring, Refusal, SignedRequest, Token, verify};

/// Flags of `tonearm explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The URL, or its path and query; - reads it from standard input
    url: String,
    /// The time to judge it at [default: now]
    #[arg(long, value_name = "UNIX")]
    now: Option<u64>,
    /// The method to judge it for
    #[arg(long, default_value = "GET")]
    method: String,
    /// The host to judge it for [default: the URL's]
    #[arg(long)]
    host: Option<String>,
    /// The recording's grant generation
    #[arg(long, default_value_t = 0)]
    generation: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    keyring: super::KeyringFlag,
}

/// What a verdict rests on, in the order in which the server looks.
const CHECKS: [(&str, &[Refusal]); 11] = [
    ("method", &[Refusal::Method]),
    ("length", &[Refusal::TooLong]),
    ("path", &[Refusal::BadPath]),
    ("one sig", &[Refusal::Missing, Refusal::Duplicate]),
    ("token", &[Refusal::Malformed, Refusal::UnsupportedOption]),
    ("key", &[Refusal::UnknownKey]),
    ("signature", &[Refusal::BadSignature]),
    ("key's window", &[Refusal::KeyRetired]),
    ("expiry", &[Refusal::Expired, Refusal::TtlTooLong]),
    ("not before", &[Refusal::NotYet]),
    ("revocation", &[Refusal::Revoked]),
];

#[derive(Serialize)]
struct Explanation {
    verdict: &'static str,
    meaning: &'static str,
    method: String,
    host: String,
    path: String,
    now: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Decoded>,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    check: &'static str,
    /// `None`: not looked at any more.
    holds: Option<bool>,
}

/// A token's clauses, whether its MAC holds or not.
#[derive(Serialize)]
struct Decoded {
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_fingerprint: Option<String>,
    exp: u64,
    expires_at: String,
    seconds_left: i128,
    disposition: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u32>,
    host_bound: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<u16>,
}

impl Explain {
    pub(super) fn flags(&self) -> Flags {
        vec![("keyring", self.keyring.keyring.clone())]
    }

    pub(super) fn run(&self, values: &Values) -> Outcome {
        let config = values.config()?;
        let ring = load_keyring(&config)?;
        let url = self.url()?;
        let (host, target) = split(&url)?;
        let request = SignedRequest {
            method: &self.method,
            host: self.host.as_deref().unwrap_or(host),
            target,
        };
        let explanation = self.explain(request, &ring, &config);
        if self.json {
            let json = serde_json::to_string_pretty(&explanation)
                .map_err(|error| Failure::new(Failure::IO, error))?;
            print(&json);
        } else {
            print(&explanation.text());
        }
        Ok(if explanation.verdict == "ok" {
            0
        } else {
            Failure::FINDINGS
        })
    }

    fn url(&self) -> Result<String, Failure> {
        if self.url != "-" {
            return Ok(self.url.clone());
        }
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(Failure::IO, error))?;
        Ok(text.trim_end().to_owned())
    }

    fn explain(&self, request: SignedRequest<'_>, ring: &Keyring, config: &Config) -> Explanation {
        let now = self.now.map_or_else(now, UnixTime);
        let verdict = verify(request, ring, &config.policy, now)
            .and_then(|grant| grant.check_generation(self.generation))
            .err();
        let (path, query) = request
            .target
            .split_once('?')
            .unwrap_or((request.target, ""));
        Explanation {
            verdict: verdict.map_or("ok", Refusal::word),
            meaning: verdict.map_or("The URL opens the recording.", meaning),
            method: request.method.to_owned(),
            host: request.host.to_owned(),
            path: path.to_owned(),
            now: now.0,
            token: decode(query, ring, now),
            checks: checks(verdict),
        }
    }
}

/// Host and target of a URL, as they are written: nothing may be normalised before it is judged.
fn split(url: &str) -> Result<(&str, &str), Failure> {
    let Some((_, rest)) = url.split_once("://").filter(|_| !url.starts_with('/')) else {
        if url.starts_with('/') {
            return Ok(("", url));
        }
        let problem = anyhow!("a URL is needed, https://host/path?sig=..., or its path and query");
        return Err(Failure::new(Failure::USAGE, problem));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Ok(rest.split_at(end))
}

/// The first token of a query that can be read at all.
fn decode(query: &str, ring: &Keyring, now: UnixTime) -> Option<Decoded> {
    let text = query
        .split('&')
        .find_map(|part| part.strip_prefix("sig="))?;
    let token = Token::parse(text).ok()?;
    let Claims {
        exp,
        disposition,
        generation,
        host_bound,
        token_id,
        not_before,
        prefix,
    } = token.claims;
    let key = ring.keys().iter().find(|key| key.kid() == token.kid);
    let (disposition, file_name) = match disposition {
        Some(Disposition::Inline) => ("inline", None),
        Some(Disposition::Attachment(name)) => ("attachment", name),
        None => ("attachment", None),
    };
    Some(Decoded {
        kid: token.kid.to_owned(),
        key_fingerprint: key.map(|key| key.fingerprint().to_owned()),
        exp: exp.0,
        expires_at: date(exp),
        seconds_left: i128::from(exp.0) - i128::from(now.0),
        disposition: disposition.to_owned(),
        file_name,
        generation,
        host_bound,
        token_id: token_id.map(|id| id.to_string()),
        not_before: not_before.map(|time| time.0),
        prefix,
    })
}

fn checks(verdict: Option<Refusal>) -> Vec<Check> {
    let failed = CHECKS
        .iter()
        .position(|(_, reasons)| verdict.is_some_and(|verdict| reasons.contains(&verdict)));
    let holds = |at: usize| match failed {
        Some(failed) if at > failed => None,
        Some(failed) => Some(at < failed),
        None => Some(true),
    };
    CHECKS
        .iter()
        .enumerate()
        .map(|(at, (check, _))| Check {
            check,
            holds: holds(at),
        })
        .collect()
}

/// What a reason means, and what to do about it.
const fn meaning(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Method => "Only GET and HEAD open a recording.",
        Refusal::TooLong => "Path and query have more than 2048 bytes.",
        Refusal::BadPath => {
            "The path is not spelled as it was signed: no escapes, no empty or dot segments, at most 512 bytes."
        }
        Refusal::Missing => "The query has no sig parameter; was the URL cut at its \"?\"?",
        Refusal::Duplicate => "The query has more than one sig parameter.",
        Refusal::Malformed => {
            "The sig parameter is not a token of version 1; was it cut or re-encoded on its way?"
        }
        Refusal::UnsupportedOption => "The token has an option of another version.",
        Refusal::UnknownKey => {
            "The keyring has no such key for this server; compare `tonearm keys list` on both sides."
        }
        Refusal::BadSignature => {
            "Path, host or token differ from what was signed, or the key's secret does."
        }
        Refusal::KeyRetired => "The key's verify_until has passed.",
        Refusal::Expired => "The URL has expired; ask the resolver for a new one.",
        Refusal::TtlTooLong => {
            "The URL ends later than this server ever signs; compare url.max_ttl on both sides, and the clocks."
        }
        Refusal::NotYet => "The URL holds later; compare the clocks.",
        Refusal::Revoked => "The recording's URLs, or this one, have been revoked.",
    }
}

impl Explanation {
    fn text(&self) -> String {
        use std::fmt::Write as _;

        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:13} {} {}", "request", self.method, self.path);
        if !self.host.is_empty() {
            let _ = writeln!(out, "{:13} {}", "host", self.host);
        }
        if let Some(token) = &self.token {
            for (name, value) in token.rows() {
                let _ = writeln!(out, "{name:13} {value}");
            }
        }
        for Check { check, holds } in &self.checks {
            let word = match holds {
                Some(true) => "holds",
                Some(false) => "FAILS",
                None => "not reached",
            };
            let _ = writeln!(out, "  {check:13} {word}");
        }
        let _ = write!(out, "{:13} {}: {}", "verdict", self.verdict, self.meaning);
        out
    }
}

impl Decoded {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let print = self.key_fingerprint.as_deref();
        let mut rows = vec![
            (
                "key",
                format!("{} ({})", self.kid, print.unwrap_or("not in this keyring")),
            ),
            (
                "expires",
                format!("{} ({} s left)", self.expires_at, self.seconds_left),
            ),
            (
                "disposition",
                match &self.file_name {
                    Some(name) => format!("{}, {name:?}", self.disposition),
                    None => self.disposition.clone(),
                },
            ),
        ];
        let optional = [
            (
                "generation",
                self.generation.map(|number| number.to_string()),
            ),
            ("host-bound", self.host_bound.then(|| "yes".to_owned())),
            ("token id", self.token_id.clone()),
            (
                "not before",
                self.not_before.map(|time| date(UnixTime(time))),
            ),
            (
                "prefix",
                self.prefix
                    .map(|bytes| format!("{bytes} bytes of the path")),
            ),
        ];
        rows.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        rows
    }
}
