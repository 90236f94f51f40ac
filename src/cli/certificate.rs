//! The certificate in use and its files: read at start, again at SIGHUP, and when what is in them
//! changes, whoever changes it.

use std::io;
use std::sync::Arc;

use anyhow::Context as _;

use super::{Failure, now};
use crate::acme;
use crate::config::secret::SecretError;
use crate::config::tls::{Files, Pair};
use crate::metrics::Metrics;
use crate::recording::UnixTime;
use crate::server::Tls;

/// What was last tried, so that the same is not tried again and again.
pub(super) type Tried = Result<Pair, String>;

pub(super) struct Certificate {
    files: Files,
    pub(super) tls: Tls,
    tried: Tried,
    metrics: Arc<Metrics>,
}

impl Certificate {
    /// The pair of a start. It has to do, unless ACME will bring one that does.
    pub(super) fn load(
        files: &Files,
        acme: Option<&acme::Settings>,
    ) -> Result<(Tls, Tried), Failure> {
        let wrong = |error| Failure::new(Failure::CONFIGURATION, error);
        let tls = Tls::without_certificate().map_err(|error| wrong(error.into()))?;
        let taken = take(files, &tls);
        if acme.is_none() {
            return Ok((tls, Ok(taken.map_err(wrong)?)));
        }
        Ok((tls, taken.map_err(|error| format!("{error:#}"))))
    }

    pub(super) fn new(files: Files, (tls, tried): (Tls, Tried), metrics: Arc<Metrics>) -> Self {
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
        let left = self
            .tls
            .ends()
            .map_or(0, |ends| seconds(ends).saturating_sub(seconds(now())));
        let days = jiff::SignedDuration::from_secs(left).as_secs_f64() / 86_400.0;
        self.metrics.certificate_days(days);
    }

    /// Takes what is in the files now, or keeps the old pair. Unless `asked`, only what was not there
    /// before.
    pub(super) async fn look(&mut self, asked: bool) {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        let Ok(read) = read else { return };
        if self.tls.ends().is_none() && read.as_ref().is_err_and(is_absent) {
            return self.tell();
        }
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
        let ends = self.tls.ends().map(UnixTime::rfc3339);
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

fn take(files: &Files, tls: &Tls) -> anyhow::Result<Pair> {
    let pair = files.read()?;
    tls.replace(&pair.chain, &pair.key)
        .with_context(|| files.to_string())?;
    Ok(pair)
}

fn is_absent(error: &SecretError) -> bool {
    matches!(error, SecretError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}
