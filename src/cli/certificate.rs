//! The certificate in use and its files: read at start, again at SIGHUP, and when what is in them
//! changes.

use std::sync::Arc;

use anyhow::Context as _;

use super::{Failure, now};
use crate::config::tls::{Files, Pair};
use crate::metrics::Metrics;
use crate::recording::UnixTime;
use crate::server::Tls;

pub(super) struct Certificate {
    files: Files,
    pub(super) tls: Tls,
    /// What was last tried, so that the same is not tried again and again.
    tried: Result<Pair, String>,
    metrics: Arc<Metrics>,
}

impl Certificate {
    /// The pair of a start, which has to do.
    pub(super) fn load(files: &Files) -> Result<(Tls, Pair), Failure> {
        let wrong = |error| Failure::new(Failure::CONFIGURATION, error);
        let pair = files.read().map_err(|error| wrong(error.into()))?;
        let tls = Tls::new(&pair.chain, &pair.key).with_context(|| files.to_string());
        Ok((tls.map_err(wrong)?, pair))
    }

    pub(super) fn new(files: Files, (tls, pair): (Tls, Pair), metrics: Arc<Metrics>) -> Self {
        let tried = Ok(pair);
        let certificate = Self {
            files,
            tls,
            tried,
            metrics,
        };
        certificate.tell();
        certificate
    }

    /// Says how much longer it holds.
    fn tell(&self) {
        let seconds = |time: UnixTime| i64::try_from(time.0).unwrap_or(i64::MAX);
        let left = seconds(self.tls.ends()).saturating_sub(seconds(now()));
        let days = jiff::SignedDuration::from_secs(left).as_secs_f64() / 86_400.0;
        self.metrics.certificate_days(days);
    }

    /// Takes what is in the files now, or keeps the old pair. Unless `asked`, only what was not there
    /// before.
    pub(super) async fn look(&mut self, asked: bool) {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        let Ok(read) = read else { return };
        let read = read.map_err(|error| format!("{:#}", anyhow::Error::from(error)));
        if read == self.tried && !asked {
            return self.tell();
        }
        let taken = match &read {
            Ok(pair) => self
                .tls
                .replace(&pair.chain, &pair.key)
                .map_err(|error| format!("{}: {:#}", self.files, anyhow::Error::from(error))),
            Err(error) => Err(error.clone()),
        };
        self.tried = read;
        self.metrics.certificate_reloaded(taken.is_ok());
        self.tell();
        let ends = self.tls.ends().rfc3339();
        match taken {
            Ok(()) => tracing::info!(ends, "the certificate was read again"),
            Err(error) => {
                tracing::error!(
                    error,
                    ends,
                    "the certificate will not do; the old one stays"
                );
            }
        }
    }
}
