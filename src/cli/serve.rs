//! `tonearm serve`: from a configuration to a running server, and to its end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::certificate::Certificate;
use super::handed::Handed;
use super::{
    Failure, Outcome, confine, environment, load_keyring, log, now, print, reachable, service,
};
use crate::admin::Admin;
use crate::app::App;
use crate::config::{Config, Delivery, Flags, Storage, Values, keyring};
use crate::edge::cdn::Signer;
use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::recording::{RecordingId, UnixTime};
use crate::server::{self, Drained, Listener, Share};
use crate::sign::Keyring;
use crate::store::{Bucket, BucketError, CacheOutcome, Local, Object, Slices, Store};

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

/// Flags of `tonearm serve`; every other setting is the file's or the environment's.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Directory of recordings, or s3://, gs:// or az:// with bucket and prefix [default: storage]
    #[arg(long, value_name = "DIR-OR-URL")]
    storage: Option<String>,
    /// Address of the public listener [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of the admin listener [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Where clients reach this server, such as https://rec.example.com
    #[arg(long, value_name = "URL")]
    public_base_url: Option<String>,
    #[command(flatten)]
    keyring: super::KeyringFlag,
    /// File of tokens that may bring recordings [default: nobody may]
    #[arg(long, value_name = "FILE")]
    ingest_tokens: Option<String>,
    /// Threads that serve connections [default: one a core]
    #[arg(long, value_name = "COUNT")]
    workers: Option<String>,
}

impl Serve {
    pub(super) fn flags(&self) -> Flags {
        vec![
            ("storage", self.storage.clone()),
            ("listen", self.listen.clone()),
            ("admin_listen", self.admin_listen.clone()),
            ("public_base_url", self.public_base_url.clone()),
            ("keyring", self.keyring.keyring.clone()),
            ("ingest.tokens", self.ingest_tokens.clone()),
            ("workers", self.workers.clone()),
        ]
    }

    pub(super) fn run(values: &Values) -> Outcome {
        let mut config = values.config()?;
        let handed = Handed::take(&environment())
            .map_err(|error| Failure::new(Failure::CONFIGURATION, error))?;
        let log = log::begin_apart(&config);
        let descriptors = raise_descriptor_limit();
        if config.server.connections == 0 {
            config.server.connections = most_connections(descriptors);
        }
        let store = open_to_serve(&config)?;
        let ingest = open_ingest(&config, &store)?;
        let cdn = signer(&config)?;
        let pair = config.tls.as_ref().map(Certificate::load).transpose()?;
        let or_bind = |handed: Option<TcpListener>, address, flag| match handed {
            Some(listener) => Ok(listener),
            None => bind(address, flag),
        };
        let public = or_bind(handed.public, config.listen, "listen")?;
        let admin = or_bind(handed.admin, config.admin_listen, "admin-listen")?;
        // Last, so that a start that fails leaves no file behind.
        let ring = ring_of_first_start(&config)?;
        let unavailable = |error| Failure::new(Failure::UNAVAILABLE, error);
        // Before anybody learns that we run: a signal must not find its default, which is to kill.
        let own = Own::new().map_err(unavailable)?;
        let confined = confine::enter(&config)?;
        announce(&config, &store, &public, &admin)?;
        let metrics = Metrics::default()
            .of_server(log.dropped(), now().0)
            .confined(confined);
        let metrics = Arc::new(of_cache(metrics, &store));
        let certificate = config.tls.clone().zip(pair);
        let certificate =
            certificate.map(|(files, pair)| Certificate::new(files, pair, Arc::clone(&metrics)));
        let admin_app = Arc::new(Admin::new(store.clone(), Arc::clone(&metrics)));
        let mut app = App::new(
            store,
            ring,
            config.policy,
            config.resolver.clone(),
            Arc::clone(&metrics),
        )
        .with_most_responses(config.responses)
        .with_forwarding(config.forwarding.clone());
        if let Some(ingest) = ingest {
            app = app.with_ingest(ingest);
        }
        if let Some(cdn) = cdn {
            app = app.with_cdn(cdn);
        }
        let app = Arc::new(app);
        Running {
            config,
            app,
            admin: admin_app,
            metrics,
        }
        .until_stopped(own, public, admin, certificate)
        .map_err(unavailable)
    }
}

/// Allows as many descriptors as this process may have, and says how many: a listener costs one,
/// and a response one more. Shells and service managers start with few.
fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Connections that so many descriptors bear: some are for recordings, records, logs, and those who
/// look after the server.
fn most_connections(descriptors: u64) -> usize {
    usize::try_from(descriptors / 8 * 5)
        .unwrap_or(usize::MAX)
        .max(1)
}

/// What signs for the CDN, if there is one.
fn signer(config: &Config) -> Result<Option<Signer>, Failure> {
    let Some(cdn) = &config.cdn else {
        return Ok(None);
    };
    if let Some(weakness) = cdn.format.weakness() {
        tracing::warn!(format = %cdn.format, "url.format is weak: {weakness}");
    }
    Ok(Some(cdn.signer(&config.policy)?))
}

pub(super) fn open_store(config: &Config) -> Result<Store, Failure> {
    match &config.storage {
        Storage::Directory(path) => open_directory(path),
        Storage::Bucket(bucket) => Ok(Store::Object(Arc::new(open_bucket(bucket, config)?))),
    }
}

/// The same with a cache, where there is to be one: it is the server's alone.
fn open_to_serve(config: &Config) -> Result<Store, Failure> {
    let (Storage::Bucket(bucket), Delivery::Cache(cache, trust)) =
        (&config.storage, &config.delivery)
    else {
        return open_store(config);
    };
    let object = open_bucket(bucket, config)?;
    let name = format!("{bucket} {}", config.endpoint.as_deref().unwrap_or(""));
    let slices = Slices::open(cache.clone(), name, now());
    Ok(Store::Object(Arc::new(object.with_slices(slices, *trust))))
}

fn open_bucket(bucket: &Bucket, config: &Config) -> Result<Object, Failure> {
    let (endpoint, limits) = (config.endpoint.as_deref(), config.bucket_limits);
    let presigner = match config.delivery {
        Delivery::Presign(session) => Some(bucket.presigner(endpoint, limits, session)),
        Delivery::Proxy | Delivery::Cache(..) => None,
    };
    let open = || {
        let object = bucket.open(endpoint, limits)?;
        Ok::<_, BucketError>(match presigner.transpose()? {
            Some(presigner) => object.with_presigner(presigner),
            None => object,
        })
    };
    open()
        .with_context(|| bucket.to_string())
        .map_err(|error| Failure::new(Failure::CONFIGURATION, error))
}

/// Tells of the cache, where there is one.
fn of_cache(metrics: Metrics, store: &Store) -> Metrics {
    let Store::Object(object) = store else {
        return metrics;
    };
    let Some(slices) = object.slices().cloned() else {
        return metrics;
    };
    let held = Arc::clone(&slices);
    metrics.of_cache(
        move || CacheOutcome::ALL.map(|outcome| (outcome.word(), slices.count(outcome))),
        move || held.bytes(),
    )
}

/// A directory that a command reads file by file, and where it is.
pub(super) fn open_files(config: &Config) -> Result<(Store, &Path), Failure> {
    match &config.storage {
        Storage::Directory(path) => Ok((open_directory(path)?, path)),
        Storage::Bucket(bucket) => Err(Failure::new(
            Failure::USAGE,
            anyhow!("{bucket} is a bucket; name a directory with --storage"),
        )),
    }
}

fn open_directory(path: &Path) -> Result<Store, Failure> {
    let local = Local::open(path)
        .with_context(|| {
            let path = path.display();
            format!("the store {path} cannot be read; make the directory, or name another with --storage")
        })
        .map_err(|error| Failure::new(Failure::IO, error))?;
    Ok(Store::Local(Arc::new(local)))
}

/// Takes away what is left of unfinished recordings.
fn sweep(store: &Store, upload_ttl: Duration) {
    let kept = match store {
        Store::Local(_) => upload_ttl,
        // Nothing but its age tells there that somebody is at it.
        Store::Object(_) => upload_ttl.max(Duration::from_hours(1)),
    };
    let before = UnixTime(now().0.saturating_sub(kept.as_secs()));
    match store.sweep(before) {
        Ok(0) => {}
        Ok(files) => tracing::info!(files, "took away what was left of unfinished recordings"),
        Err(error) => tracing::warn!(%error, "what is left of unfinished recordings stays"),
    }
}

/// The way in, where tokens are configured; and nothing left of ways in that were cut off.
fn open_ingest(config: &Config, store: &Store) -> Result<Option<Ingest>, Failure> {
    // Nobody waits for a bucket here; it is swept when the server runs.
    if matches!(config.storage, Storage::Directory(_)) {
        sweep(store, config.ingest.upload_ttl);
    }
    let Some(path) = &config.ingest_tokens else {
        return Ok(None);
    };
    let tokens = keyring::load_tokens(path)?;
    Ok(Some(Ingest::new(store.clone(), tokens, config.ingest)))
}

/// The keyring; where there is none yet, a new one.
fn ring_of_first_start(config: &Config) -> Result<Keyring, Failure> {
    if !config.keyring.exists() {
        match keyring::create(&config.keyring, now()) {
            Ok(kid) => {
                let file = config.keyring.display();
                tracing::warn!(%file, kid, "made a new keyring; other servers that are to accept these URLs need this file");
            }
            // Another server of this machine was faster.
            Err(error) if config.keyring.exists() => {
                tracing::debug!(%error, "the keyring is there");
            }
            Err(error) => return Err(Failure::new(Failure::IO, error)),
        }
    }
    load_keyring(config)
}

/// Connections that may wait to be accepted: a burst of listeners after a reload of everything.
const BACKLOG: i32 = 4096;

pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    // A server that starts again need not wait for the connections of the one before.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    listen(address)
        .with_context(|| format!("cannot listen on {address}; choose another with --{flag}"))
        .map_err(|error| Failure::new(Failure::UNAVAILABLE, error))
}

/// Says where the server is, and what to try.
fn announce(
    config: &Config,
    store: &Store,
    public: &TcpListener,
    admin: &TcpListener,
) -> Result<(), Failure> {
    let address = |listener: &TcpListener| {
        listener
            .local_addr()
            .map_err(|error| Failure::new(Failure::UNAVAILABLE, error))
    };
    let (public, admin) = (address(public)?, address(admin)?);
    let scheme = config.scheme();
    print(&format!("listening on {scheme}://{public}"));
    print(&format!("admin on http://{admin}"));
    match store.example() {
        Some(path) => {
            let id: &RecordingId = &path.recording;
            let template = &config.resolver.template;
            let target = template.masked(&template.target(id));
            // The certificate is hardly for this address.
            let flags = if config.tls.is_some() { "-sk" } else { "-s" };
            let address = reachable(public);
            print(&format!("curl {flags} '{scheme}://{address}{target}'"));
        }
        None => {
            if let Storage::Directory(path) = &config.storage {
                let directory = path.display();
                tracing::warn!(%directory, "there is no recording yet: put one at {{appId}}/{{externalAccountId}}/{{externalId}}.wav");
            }
            print(&format!("curl -s 'http://{}/healthz'", reachable(admin)));
        }
    }
    if config.resolver.public_base_url.is_none() && !public.ip().is_loopback() {
        tracing::warn!(
            "public_base_url is not set: signed URLs name whatever host a request names; set it before HubSpot is told of this server"
        );
    }
    Ok(())
}

/// The runtime of signals and of the admin listener, with the signals taken.
struct Own {
    runtime: Runtime,
    signals: Signals,
}

impl Own {
    fn new() -> anyhow::Result<Self> {
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

struct Running {
    config: Config,
    app: Arc<App>,
    admin: Arc<Admin>,
    metrics: Arc<Metrics>,
}

impl Running {
    /// One runtime a worker, so that no connection's work wakes another core; signals and the
    /// admin listener on a runtime of their own.
    fn until_stopped(
        self,
        own: Own,
        public: TcpListener,
        admin: TcpListener,
        mut certificate: Option<Certificate>,
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
            tokio::spawn(serve_admin);
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

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
        }
    }

    async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Reload,
    Stop,
}
