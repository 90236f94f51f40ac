//! `tonearm serve`: from a configuration to a running server, and to its end.

mod running;
mod signals;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use self::running::{Own, Running};
use super::certificate::Certificate;
use super::handed::Handed;
#[cfg(feature = "otel")]
use super::otel::Exporter;
use super::renewal::Renewal;
use super::storage::open_to_serve;
use super::{
    Failure, Outcome, confine, environment, load_keyring, log, now, panics, print, reachable,
};
use crate::admin::Admin;
use crate::app::App;
use crate::config::{Config, Flags, Storage, Values, keyring};
use crate::edge::cdn::Signer;
use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::recording::{RecordingId, UnixTime};
use crate::sign::Keyring;
use crate::store::{CacheOutcome, Store};

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
        let log =
            log::begin_apart(&config).map_err(|error| Failure::new(Failure::UNAVAILABLE, error))?;
        panics::watch();
        let descriptors = raise_descriptor_limit();
        if config.server.connections == 0 {
            config.server.connections = most_connections(descriptors);
        }
        let store = open_to_serve(&config)?;
        let ingest = open_ingest(&config, &store)?;
        let cdn = signer(&config)?;
        let tls = config.tls.as_ref();
        let pair = tls.map(|files| Certificate::load(files, config.acme.as_ref()));
        let pair = pair.transpose()?;
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
        let tls = pair.as_ref().map(|(tls, _)| tls);
        let renewal = Renewal::of(&config, tls, handed.acme)?;
        let confined = confine::enter(&config)?;
        #[cfg(feature = "otel")]
        let exporter = Exporter::begin()?;
        announce(&config, &store, &public, &admin)?;
        let metrics = Metrics::default()
            .of_server(log.dropped(), now().0)
            .of_panics(panics::count)
            .confined(confined);
        let metrics = Arc::new(of_cache(metrics, &store));
        let certificate = config.tls.clone().zip(pair);
        let certificate =
            certificate.map(|(files, pair)| Certificate::new(files, pair, Arc::clone(&metrics)));
        let admin_app = Arc::new(Admin::new(store.clone(), Arc::clone(&metrics)));
        let app = public_side(&config, store, ring, &metrics)
            .with_access_log(log.access())
            .with_ingest(ingest)
            .with_cdn(cdn);
        #[cfg(feature = "otel")]
        let app = app.with_tracer(exporter.as_ref().map(Exporter::tracer));
        let app = Arc::new(app);
        let ended = Running {
            config,
            app,
            admin: admin_app,
            metrics,
            asked: Arc::default(),
        }
        .until_stopped(own, public, admin, certificate, renewal);
        #[cfg(feature = "otel")]
        if let Some(exporter) = exporter {
            exporter.end();
        }
        ended.map_err(unavailable)
    }
}

/// What answers on the public listener.
fn public_side(config: &Config, store: Store, ring: Keyring, metrics: &Arc<Metrics>) -> App {
    let (resolver, metrics) = (config.resolver.clone(), Arc::clone(metrics));
    App::new(store, ring, config.policy, resolver, metrics)
        .with_most_responses(config.responses)
        .with_forwarding(config.forwarding.clone())
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

pub(super) fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
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
            let target = template.target(id);
            let target = template.masked(&target);
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
