//! A server that runs: its workers, what it does now and then, and its end.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::anyhow;
use tokio::runtime::{self, Runtime};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::signals::{Asked, Signals};
use super::sweep;
use crate::admin::Admin;
use crate::app::App;
use crate::cli::certificate::Certificate;
use crate::cli::renewal::Renewal;
use crate::cli::{Failure, now, service};
use crate::config::{Config, keyring};
use crate::metrics::Metrics;
use crate::server::{self, Drained, Listener, Share};

/// How often recordings that nobody asks for any more are let go.
const TIDYING: Duration = Duration::from_secs(10);
/// How often the certificate's files are looked at.
const LOOKING: Duration = Duration::from_secs(2);
/// How often uploads in parts that nobody goes on with are taken away.
const SWEEPING: Duration = Duration::from_mins(10);
/// Descriptors that only the admin listener's connections get.
const ADMIN_RESERVE: usize = 8;
/// Threads of one worker that may wait for the disk at a time.
const READERS: usize = 64;

/// Has the threads that wait for the disk step back behind those that serve: whoever asks for what is in memory
/// feels nothing of whoever does not.
fn step_back() {
    /// Of a core that both want, a tenth.
    const NICE: i32 = 10;
    // The calling thread's alone, as Linux has it. Without it, both are served alike.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// The runtime of signals and of the admin listener, with the signals taken.
pub(super) struct Own {
    runtime: Runtime,
    signals: Signals,
}

impl Own {
    pub(super) fn new() -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let signals = {
            let _inside = runtime.enter();
            Signals::new()?
        };
        Ok(Self { runtime, signals })
    }
}

pub(super) struct Running {
    pub(super) config: Config,
    pub(super) app: Arc<App>,
    pub(super) admin: Arc<Admin>,
    pub(super) metrics: Arc<Metrics>,
    /// Has a certificate that did not come asked for again.
    pub(super) asked: Arc<Notify>,
}

impl Running {
    /// One runtime a worker, so that no connection's work wakes another core; signals and the
    /// admin listener on a runtime of their own.
    pub(super) fn until_stopped(
        self,
        own: Own,
        public: TcpListener,
        admin: TcpListener,
        mut certificate: Option<Certificate>,
        renewal: Option<Renewal>,
    ) -> anyhow::Result<u8> {
        let shutdown = CancellationToken::new();
        let workers = Share::among(self.config.workers)
            .into_iter()
            .map(|share| {
                let listener = self.listener(public.try_clone()?, certificate.as_ref());
                self.worker(listener, share, shutdown.clone())
            })
            .collect::<io::Result<Vec<_>>>()?;
        // The port is closed when the last worker closes its share; one kept here would go on
        // queueing connections that nobody accepts.
        drop(public);
        let end_of_admin = CancellationToken::new();
        let Own {
            runtime,
            mut signals,
        } = own;
        let ended = runtime.block_on(async {
            let serve_admin = server::run(
                admin,
                Arc::clone(&self.admin),
                server::Settings {
                    reserve: ADMIN_RESERVE,
                    ..self.config.server
                },
                end_of_admin.clone(),
                Share::alone(),
            );
            tokio::spawn(async move {
                if let Err(error) = serve_admin.await {
                    tracing::error!(%error, "the admin listener cannot be used");
                }
            });
            if let Some(renewal) = renewal {
                let (metrics, asked) = (Arc::clone(&self.metrics), Arc::clone(&self.asked));
                renewal.begin(self.config.server, metrics, asked, end_of_admin.clone());
            }
            service::ready();
            self.wait_for_stop(&mut signals, certificate.as_mut()).await;
            service::stopping();
            self.admin.stop();
            self.serve_on(&mut signals).await;
            shutdown.cancel();
            self.join(workers, &mut signals).await
        });
        // After a second signal a thread still waits for the workers; nobody waits for it.
        runtime.shutdown_background();
        ended
    }

    fn listener(&self, socket: TcpListener, certificate: Option<&Certificate>) -> Listener {
        let proxies = self.config.forwarding.proxies.clone();
        let listener = Listener::from(socket).with_proxies(proxies, self.config.proxy_protocol);
        match certificate {
            Some(certificate) => listener.with_tls(certificate.tls.clone()),
            None => listener,
        }
    }

    fn worker(
        &self,
        listener: Listener,
        share: Share,
        shutdown: CancellationToken,
    ) -> io::Result<JoinHandle<io::Result<Drained>>> {
        let (app, settings) = (Arc::clone(&self.app), self.config.server);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(READERS)
            .on_thread_start(step_back)
            .build()?;
        std::thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || runtime.block_on(server::run(listener, app, settings, shutdown, share)))
    }

    async fn wait_for_stop(
        &self,
        signals: &mut Signals,
        mut certificate: Option<&mut Certificate>,
    ) {
        let mut looking = tokio::time::interval(LOOKING);
        let mut tidying = tokio::time::interval(TIDYING);
        let mut sweeping = tokio::time::interval(SWEEPING);
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Reload => {
                        self.reload();
                        self.asked.notify_one();
                        if let Some(certificate) = &mut certificate {
                            certificate.look(true).await;
                        }
                    }
                    Asked::Stop => return,
                },
                _ = looking.tick() => if let Some(certificate) = &mut certificate {
                    certificate.look(false).await;
                },
                // Nobody else leaves anything, or may write.
                _ = sweeping.tick(), if self.config.ingest_tokens.is_some() => {
                    let (store, ttl) = (self.app.store().clone(), self.config.ingest.upload_ttl);
                    drop(tokio::task::spawn_blocking(move || sweep(&store, ttl)));
                }
                _ = tidying.tick() => {
                    self.app.tidy(now());
                    service::alive();
                }
            }
        }
    }

    /// Lets those who send listeners here know before nobody is served any more; a second signal
    /// ends the wait.
    async fn serve_on(&self, signals: &mut Signals) {
        tokio::select! {
            () = tokio::time::sleep(self.config.shutdown_delay) => {}
            () = signals.stop() => {}
        }
    }

    /// Takes the keyring's file as it is now, or keeps the old ring.
    fn reload(&self) {
        if let (Some(path), Some(ingest)) = (&self.config.ingest_tokens, self.app.ingest()) {
            match keyring::load_tokens(path) {
                Ok(tokens) => {
                    let count = tokens.count();
                    ingest.replace_tokens(tokens);
                    tracing::info!(tokens = count, "the tokens were read again");
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::error!(error, "the tokens will not do; the old ones stay");
                }
            }
        }
        let loaded = keyring::load(&self.config.keyring, &self.config.policy);
        self.metrics.reloaded(loaded.is_ok());
        match loaded {
            Ok(ring) => {
                let keys = ring.keys().len();
                self.app.replace_keyring(ring);
                tracing::info!(keys, "the keyring was read again");
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(error, "the keyring will not do; the old one stays");
            }
        }
    }

    /// Waits for the workers; a second signal ends the wait.
    async fn join(
        &self,
        workers: Vec<JoinHandle<io::Result<Drained>>>,
        signals: &mut Signals,
    ) -> anyhow::Result<u8> {
        tracing::info!(deadline = ?self.config.server.drain, "stopping; running responses may finish");
        let joined = tokio::task::spawn_blocking(move || {
            workers
                .into_iter()
                .map(JoinHandle::join)
                .collect::<Vec<_>>()
        });
        let results = tokio::select! {
            results = joined => results?,
            () = signals.stop() => return Err(anyhow!("stopped by a second signal before every response was finished")),
        };
        let mut cut = 0;
        for result in results {
            let drained = result.map_err(|_| anyhow!("a worker panicked"))??;
            cut += drained.cut;
        }
        if cut > 0 {
            tracing::warn!(
                cut,
                "connections were still busy at the deadline and were cut"
            );
        }
        tracing::info!("stopped");
        Ok(if cut > 0 { Failure::TRY_AGAIN } else { 0 })
    }
}
