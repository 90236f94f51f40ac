//! Certificates that are had and renewed by themselves: ACME (RFC 8555), by tls-alpn-01 (RFC 8737) or
//! http-01, renewed when the directory would like it (RFC 9773) or two thirds of their life are over.
//!
//! Decides when a certificate is asked for, and what a directory that looks is answered. What it gets it
//! puts into one file; it never puts anything into use, and never takes away what is.

mod answers;
mod client;
mod kept;
mod plan;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use self::answers::Answers;
pub use self::answers::Texts;
use self::client::Client;
use self::kept::{Held, Kept};
use self::plan::Span;
use crate::metrics::Metrics;
use crate::recording::UnixTime;
use crate::server::{Tls, TlsError, now};

/// Longest time from an order to its certificate.
const PATIENCE: Duration = Duration::from_mins(5);
/// How a directory is asked whether it is done: soon, then ever less often.
const POLLS: RetryPolicy = RetryPolicy::new().timeout(Duration::from_mins(2));
/// Longest sleep: clocks are set, and machines sleep.
const NAP: Duration = Duration::from_hours(1);

/// How a directory finds out whether a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// By a TLS handshake, on port 443 of each name.
    TlsAlpn,
    /// By plain HTTP on port 80 of each name, answered on a listener of its own.
    Http(SocketAddr),
}

/// What a certificate is asked for with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// URL of the ACME directory.
    pub directory: String,
    /// Where its owner may write to, as URIs.
    pub contact: Vec<String>,
    /// The names the certificate is for; at least one.
    pub domains: Vec<String>,
    /// Where account and certificate are kept.
    pub cache: PathBuf,
    /// How the directory looks.
    pub challenge: Challenge,
    /// File with the certificates that the directory's own is checked by, where not by the system's.
    pub ca_file: Option<PathBuf>,
    /// What ties a new account to one that its owner has with whoever runs the directory.
    pub binding: Option<Binding>,
}

/// An external account (RFC 8555 §7.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The directory's name of the key.
    pub key_id: String,
    /// File with the key, in base64url, which is no matter of this module.
    pub key_file: PathBuf,
}

impl Settings {
    /// The file with certificates and key, where there are any yet.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        Kept::of(self).certificate().to_owned()
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.domains.join(", "), self.directory)
    }
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The directory said no, or nothing.
    #[error("the directory did not go along")]
    Directory(#[from] instant_acme::Error),
    /// It looked, and did not find what it should.
    #[error("the directory could not see that {name} is ours: {reason}")]
    Unproven {
        /// Which name.
        name: String,
        /// What it says of it.
        reason: String,
    },
    /// It would look in other ways only.
    #[error("the directory has no such challenge for {0}; try the other tls.acme.challenge")]
    NoChallenge(String),
    /// It took too long.
    #[error("the directory was not done after {} s", PATIENCE.as_secs())]
    Late,
    /// What was to be signed could not be made.
    #[error("the answer to a challenge could not be made")]
    Answer(#[from] rcgen::Error),
    /// What came is no certificate for the key, or the answer to a challenge none.
    #[error("a certificate will not do")]
    Certificate(#[from] TlsError),
    /// A file in the cache.
    #[error("{path}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key of an external account cannot be read.
    #[error("the key of the external account is not base64url")]
    Binding(#[source] base64::DecodeError),
    /// The certificates in `ca_file` will not do, or the system has none.
    #[error("the HTTP client cannot be made")]
    Client(#[from] reqwest::Error),
}

/// Keeps a certificate that holds.
pub struct Keeper {
    settings: Settings,
    kept: Kept,
    client: Client,
    answers: Answers,
    binding: Option<ExternalAccountKey>,
    account: Option<Account>,
    /// Failures in a row.
    failures: u32,
    /// Drawn anew for each certificate.
    lot: f64,
}

impl Keeper {
    /// Makes the cache's directory if need be; reads `ca_file`. Asks nobody yet. `key` is what is in the
    /// external account's file, where there is one.
    ///
    /// # Errors
    /// [`AcmeError`] where one of them cannot be done.
    pub fn new(settings: Settings, tls: Tls, key: Option<&str>) -> Result<Self, AcmeError> {
        let kept = Kept::of(&settings);
        let file = |path: &PathBuf| {
            let path = path.clone();
            move |source| AcmeError::File { path, source }
        };
        kept.make().map_err(file(&settings.cache))?;
        let roots = settings.ca_file.as_ref();
        let roots = roots
            .map(|path| std::fs::read(path).map_err(file(path)))
            .transpose()?;
        let binding = settings.binding.as_ref().zip(key);
        let binding = binding.map(|(binding, key)| {
            // Some are handed out with padding.
            let key = BASE64_URL_SAFE_NO_PAD.decode(key.trim_end_matches('='));
            key.map(|key| ExternalAccountKey::new(binding.key_id.clone(), &key))
        });
        Ok(Self {
            client: Client::new(roots.as_deref())?,
            binding: binding.transpose().map_err(AcmeError::Binding)?,
            answers: match settings.challenge {
                Challenge::TlsAlpn => Answers::Tls(tls),
                Challenge::Http(_) => Answers::Http(Arc::default()),
            },
            settings,
            kept,
            account: None,
            failures: 0,
            lot: fastrand::f64(),
        })
    }

    /// What answers http-01, where that is how the directory looks.
    #[must_use]
    pub fn texts(&self) -> Option<Arc<Texts>> {
        match &self.answers {
            Answers::Http(texts) => Some(Arc::clone(texts)),
            Answers::Tls(_) => None,
        }
    }

    /// Renews in time, for ever. `asked` has what failed tried again at once.
    pub async fn keep(mut self, metrics: Arc<Metrics>, asked: Arc<Notify>) {
        loop {
            let wait = self.turn(now(), &metrics).await;
            tokio::select! {
                () = sleep(wait) => {}
                () = asked.notified() => {}
            }
        }
    }

    /// Does what is due at `now`, and tells how long there is nothing to do.
    async fn turn(&mut self, now: UnixTime, metrics: &Metrics) -> Duration {
        let held = self.kept.held();
        let mut replaces = None;
        if let Some(held) = &held {
            let (window, again) = self.window(held).await;
            // Said once: a directory that knows of a successor already would refuse the next.
            replaces = window.and(held.id.clone()).filter(|_| self.failures == 0);
            let due = plan::due(held.life, window, self.lot);
            if now < due {
                return Duration::from_secs(now.until(due)).min(again).min(NAP);
            }
        }
        let got = timeout(PATIENCE, self.renew(replaces)).await;
        self.answers.forget();
        let got = got.unwrap_or(Err(AcmeError::Late));
        metrics.ordered(got.is_ok());
        match got {
            Ok(life) => {
                (self.failures, self.lot) = (0, fastrand::f64());
                tracing::info!(
                    ends = life.until.rfc3339(),
                    "a certificate has come: {}",
                    self.settings
                );
                plan::rest(life)
            }
            Err(error) => {
                if is_of_nobody(&error) {
                    // The directory has forgotten it; the next turn makes another.
                    self.account = None;
                    self.kept.forget_account();
                }
                self.failures = self.failures.saturating_add(1);
                self.complain(&error, held.as_ref());
                plan::pause(self.failures, fastrand::f64())
            }
        }
    }

    /// Says what is wrong, what is served meanwhile, and what somebody could do.
    fn complain(&self, error: &AcmeError, held: Option<&Held>) {
        let error = chain(error);
        let pause = plan::pause(self.failures, 1.0).as_secs() / 60;
        let remedy = match self.settings.challenge {
            Challenge::TlsAlpn => {
                "port 443 of each name has to lead here, through nothing that ends TLS"
            }
            Challenge::Http(_) => "port 80 of each name has to lead to tls.acme.http_listen",
        };
        let ends = held.map(|held| held.life.until.rfc3339());
        let meanwhile = if held.is_some() {
            "the old certificate stays"
        } else {
            "there is none to serve with"
        };
        tracing::error!(
            error,
            ends,
            "no certificate has come for {}; {meanwhile}; tried again in {pause} minutes at most, or at SIGHUP; {remedy}",
            self.settings
        );
    }

    /// When the directory would like a renewal, if it says so, and when to ask again.
    async fn window(&mut self, held: &Held) -> (Option<Span>, Duration) {
        let asked = async {
            let id = held.id.as_ref()?;
            let account = self.account().await.ok()?;
            account.renewal_info(id).await.ok()
        };
        let Ok(Some((info, again))) = timeout(PATIENCE, asked).await else {
            return (None, NAP);
        };
        let second = |time: i64| UnixTime(u64::try_from(time).unwrap_or(0));
        let window = Span {
            from: second(info.suggested_window.start.unix_timestamp()),
            until: second(info.suggested_window.end.unix_timestamp()),
        };
        (Some(window), plan::asking(again))
    }

    /// A new certificate, in place of the one there is; tells its life.
    async fn renew(
        &mut self,
        replaces: Option<CertificateIdentifier<'static>>,
    ) -> Result<Span, AcmeError> {
        let names = self.settings.domains.iter();
        let names: Vec<_> = names.map(|name| Identifier::Dns(name.clone())).collect();
        let account = self.account().await?;
        let order = NewOrder::new(&names);
        let order = match replaces {
            Some(id) => order.replaces(id),
            None => order,
        };
        let mut order = account.new_order(&order).await?;
        self.prove(&mut order).await?;
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&POLLS).await?;
        // What will not do must not take the place of what does.
        Tls::new(chain.as_bytes(), key.as_bytes())?;
        let kept = self.kept.clone();
        let put = tokio::task::spawn_blocking(move || {
            kept.put_certificate(&chain, &key)?;
            kept.held().ok_or(io::ErrorKind::InvalidData.into())
        });
        let held = put
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        Ok(held.map_err(|source| self.file(source))?.life)
    }

    /// Shows that every name is ours.
    async fn prove(&self, order: &mut Order) -> Result<(), AcmeError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = authorization.identifier().to_string();
            let challenge = authorization.challenge(self.answers.kind());
            let mut challenge = challenge.ok_or(AcmeError::NoChallenge(name))?;
            self.answers.give(&challenge)?;
            challenge.set_ready().await?;
        }
        match order.poll_ready(&POLLS).await {
            Ok(OrderStatus::Ready) => Ok(()),
            ended => {
                unproven(order).await?;
                ended?;
                Err(AcmeError::Late)
            }
        }
    }

    /// The account with the directory: the one that is kept, or else a new one.
    async fn account(&mut self) -> Result<Account, AcmeError> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let account = match self.kept.account().map_err(|source| self.file(source))? {
            Some(credentials) => builder.from_credentials(credentials).await?,
            None => {
                let contact: Vec<_> = self.settings.contact.iter().map(String::as_str).collect();
                let new = NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                let directory = self.settings.directory.clone();
                let (account, credentials) = builder
                    .create(&new, directory, self.binding.as_ref())
                    .await?;
                let put = self.kept.put_account(&credentials);
                put.map_err(|source| self.file(source))?;
                account
            }
        };
        Ok(self.account.insert(account).clone())
    }

    fn file(&self, source: io::Error) -> AcmeError {
        let path = self.settings.cache.clone();
        AcmeError::File { path, source }
    }
}

/// What the directory found where it looked, if it says so of any name.
async fn unproven(order: &mut Order) -> Result<(), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let state = authorization.refresh().await?;
        let failed =
            |challenge: &&instant_acme::Challenge| challenge.status == ChallengeStatus::Invalid;
        if let Some(challenge) = state.challenges.iter().find(failed) {
            let reason = challenge
                .error
                .as_ref()
                .map_or_else(String::new, ToString::to_string);
            return Err(AcmeError::Unproven { name, reason });
        }
    }
    Ok(())
}

/// Whether the directory knows no such account (RFC 8555 §6.7).
fn is_of_nobody(error: &AcmeError) -> bool {
    let AcmeError::Directory(instant_acme::Error::Api(problem)) = error else {
        return false;
    };
    problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

/// An error with all that is behind it.
fn chain(error: &AcmeError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
