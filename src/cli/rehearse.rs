//! `tonearm rehearse`: HubSpot, played.

use std::net::SocketAddr;

use clap::Args;

use super::{Failure, Outcome, now, print};
use crate::config::{Values, duration, secret};
use crate::rehearse::{Fault, Options, serve};

/// Flags of `tonearm rehearse`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a URL it serves the API: point hubspot.base_url at it. GET /_rehearse/state shows what it was told,
and POST /_rehearse/faults takes a list of faults, such as [\"log=cut:acted\"].
With a URL it asks for a recording as HubSpot does, plays it, seeks, stops, downloads it, and says what it met.")]
pub(super) struct Rehearse {
    /// The registered URL, with %s (then --app, --account and --id are needed), or the URL HubSpot would ask
    url: Option<String>,
    #[command(flatten)]
    ids: super::doctor::Ids,
    /// Print one JSON object
    #[arg(long, requires = "url")]
    json: bool,
    /// Address of the fake API
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// File with the only token that is let in [default: any token is]
    #[arg(long, value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,
    /// What the token may do; may be given more than once [default: everything]
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// An id of a record of the account; may be given more than once [default: every id is one]
    #[arg(long, value_name = "ID")]
    record: Vec<u64>,
    /// How long a new call stays out of searches
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    index_lag: String,
    /// Requests in ten seconds
    #[arg(long, value_name = "COUNT", default_value_t = 190)]
    limit: usize,
    /// What goes wrong, such as log=cut:acted, ready=429:2, search=hold; may be given more than once
    #[arg(long, value_name = "FAULT")]
    fault: Vec<Fault>,
}

impl Rehearse {
    pub(super) fn run(&self, values: &Values) -> Outcome {
        let config = values.config()?;
        super::log::begin(&config);
        match &self.url {
            Some(url) => super::doctor::call(url, &self.ids, &config, self.json),
            None => self.serve(),
        }
    }

    fn serve(&self) -> Outcome {
        let defaults = Options::default();
        let lag = duration(&self.index_lag).map_err(|problem| {
            Failure::new(Failure::USAGE, anyhow::anyhow!("--index-lag: {problem}"))
        })?;
        let token = self.token_file.as_deref().map(secret::line).transpose()?;
        let options = Options {
            token: token.map(|token| token.to_string()),
            scopes: if self.scope.is_empty() {
                defaults.scopes
            } else {
                self.scope.iter().cloned().collect()
            },
            records: self.record.iter().copied().collect(),
            index_lag: lag,
            limit: self.limit,
            faults: self.fault.clone(),
        };
        let unavailable = |error: std::io::Error| Failure::new(Failure::UNAVAILABLE, error);
        let listener = super::serve::listen(self.listen).map_err(unavailable)?;
        let address = listener.local_addr().map_err(unavailable)?;
        print(&format!("rehearsing HubSpot on http://{address}"));
        print(&format!("curl -s http://{address}/_rehearse/state"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(unavailable)?;
        match runtime.block_on(serve(listener, options, now())) {
            Err(error) => Err(unavailable(error)),
        }
    }
}
