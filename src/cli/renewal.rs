//! ACME beside a server that runs: what has to be had before it is confined, and what runs then.

use std::net::TcpListener;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Failure;
use super::serve::bind;
use crate::acme::{Challenge, Keeper};
use crate::config::{Config, secret};
use crate::metrics::Metrics;
use crate::server::{self, Share, Tls};

pub(super) struct Renewal {
    keeper: Keeper,
    /// Where http-01 is answered.
    listener: Option<TcpListener>,
}

impl Renewal {
    /// What keeps the certificate, where that is ACME's.
    pub(super) fn of(
        config: &Config,
        tls: Option<&Tls>,
        handed: Option<TcpListener>,
    ) -> Result<Option<Self>, Failure> {
        let (Some(settings), Some(tls)) = (&config.acme, tls) else {
            return Ok(None);
        };
        let wrong = |error| Failure::new(Failure::CONFIGURATION, error);
        let key = settings.binding.as_ref();
        let key = key.map(|binding| secret::line(&binding.key_file));
        let key = key.transpose()?;
        let key = key.as_ref().map(|key| key.as_str());
        let keeper = Keeper::new(settings.clone(), tls.clone(), key).map_err(wrong)?;
        let listener = match (settings.challenge, handed) {
            (Challenge::TlsAlpn, _) => None,
            (Challenge::Http(_), Some(handed)) => Some(handed),
            (Challenge::Http(address), None) => Some(bind(address, "tls.acme.http_listen")?),
        };
        if tls.ends().is_none() {
            tracing::warn!(
                "there is no certificate yet: every TLS handshake is refused until one has come for {settings}"
            );
        }
        Ok(Some(Self { keeper, listener }))
    }

    /// Begins. `asked` has what failed tried again at once.
    pub(super) fn begin(
        self,
        settings: server::Settings,
        metrics: Arc<Metrics>,
        asked: Arc<Notify>,
        shutdown: CancellationToken,
    ) {
        let Self { keeper, listener } = self;
        if let Some((listener, texts)) = listener.zip(keeper.texts()) {
            if let Ok(address) = listener.local_addr() {
                tracing::info!("http-01 is answered on http://{address}");
            }
            tokio::spawn(server::run(
                listener,
                texts,
                settings,
                shutdown,
                Share::alone(),
            ));
        }
        tokio::spawn(keeper.keep(metrics, asked));
    }
}
