//! The calls to HubSpot: credentials, attempts, and what an answer means.
//!
//! Decides by [`retry`](super::retry) whether a call is made again. Never makes a creation again
//! that may have happened: that ends in [`ClientError::Unclear`], and whoever asked looks first.
//! Follows no redirect: a token goes to the host it was given for and to no other.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::io;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use http::{HeaderMap, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::api_error::ApiError;
use super::path::ApiVersion;
use super::request::{Auth, Request};
use super::retry::{Policy, Repeat, Verdict, What};
use super::wire::AccessToken;

/// HubSpot's own answers end after 100 s (its status 524).
const TIMEOUT: Duration = Duration::from_secs(105);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 8 << 20;
/// An access token is renewed this long before its end.
const RENEWAL: Duration = Duration::from_mins(1);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);

/// What opens an account.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// A bearer token: of a private app, or a service key.
    Token(Zeroizing<String>),
    /// What access tokens are had with.
    OAuth(OAuth),
}

/// An installed app's way to access tokens.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth {
    /// The app's.
    pub client_id: String,
    /// The app's.
    pub client_secret: Zeroizing<String>,
    /// The account's.
    pub refresh_token: Zeroizing<String>,
}

/// What a client is made of.
#[derive(Clone, Default)]
pub struct Setup {
    /// Scheme and host, such as `https://api.hubapi.com`, without a slash at the end.
    pub base: String,
    /// Which paths.
    pub version: ApiVersion,
    /// What opens the account.
    pub credentials: Credentials,
    /// What opens the app's settings, where the account's credentials do not.
    pub developer_key: Option<Zeroizing<String>>,
    /// How often and how long a call is tried.
    pub policy: Policy,
}

/// Why a call has no answer that will do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// HubSpot said no.
    #[error(transparent)]
    Refused(Box<ApiError>),
    /// HubSpot asks for a longer wait than is allowed for, or went on failing.
    #[error("{answer}; try again in {} s", wait.as_secs())]
    Later {
        /// What it said last.
        answer: Box<ApiError>,
        /// The wait.
        wait: Duration,
    },
    /// No connection.
    #[error("{0} cannot be reached")]
    Unreachable(String, #[source] reqwest::Error),
    /// A connection was had and no whole answer.
    #[error("HubSpot's answer did not come")]
    Cut(#[source] reqwest::Error),
    /// It may have happened, and HubSpot did not say so.
    #[error("HubSpot may or may not have done it: {0}")]
    Unclear(String),
    /// An answer that lacks what it is asked for.
    #[error("HubSpot's answer has no {0}")]
    Lacking(&'static str),
    /// There is nothing to identify oneself with.
    #[error("{0} is not set: HubSpot wants credentials for this call")]
    NoCredentials(&'static str),
    /// The client cannot be built.
    #[error("the HTTP client cannot be made")]
    Broken(#[source] reqwest::Error),
}

/// An answer that will do.
#[derive(Debug)]
pub struct Answer {
    /// Its status, 2xx.
    pub status: u16,
    /// Its JSON; `Null` where it has none.
    pub body: Value,
}

/// How one attempt failed.
enum Failure {
    Answered(Box<Refusal>),
    NotSent(reqwest::Error),
    Unclear(reqwest::Error),
    /// It was not tried.
    Early(ClientError),
}

struct Refusal {
    status: u16,
    fields: HeaderMap,
    body: Vec<u8>,
}

impl Refusal {
    fn is_days_limit(&self) -> bool {
        let policy = || ApiError::read(self.status, &self.body).policy_name;
        self.status == 429 && policy().is_some_and(|name| name.eq_ignore_ascii_case("DAILY"))
    }
}

impl Failure {
    fn what(&self) -> Option<What<'_>> {
        Some(match self {
            Self::Answered(refusal) if refusal.is_days_limit() => What::DaysLimit,
            Self::Answered(refusal) => What::Answered(refusal.status, &refusal.fields),
            Self::NotSent(error) if is_untrusted(error) => return None,
            Self::NotSent(_) => What::NotSent,
            Self::Unclear(_) => What::Unclear,
            Self::Early(_) => return None,
        })
    }

    fn into_error(self, verdict: Verdict, base: &str) -> ClientError {
        match (self, verdict) {
            (Self::Early(error), _) => error,
            (Self::Answered(refusal), verdict) => {
                let status = refusal.status;
                let answer = Box::new(ApiError::read(status, &refusal.body));
                match verdict {
                    Verdict::Look => ClientError::Unclear(answer.to_string()),
                    Verdict::TooLong(wait) => ClientError::Later { answer, wait },
                    _ if status == 429 || status >= 500 => ClientError::Later {
                        answer,
                        wait: LONGEST_BACKOFF,
                    },
                    _ => ClientError::Refused(answer),
                }
            }
            (Self::NotSent(error), _) => ClientError::Unreachable(base.to_owned(), error),
            (Self::Unclear(error), Verdict::Look) => ClientError::Unclear(cause(&error)),
            (Self::Unclear(error), _) => ClientError::Cut(error),
        }
    }
}

/// A client of one account.
pub struct Client {
    http: reqwest::Client,
    setup: Setup,
    /// OAuth's access token, and when it is to be renewed.
    access: RefCell<Option<(Zeroizing<String>, Instant)>>,
}

impl Client {
    /// Makes a client; sends nothing.
    ///
    /// # Errors
    /// [`ClientError::Broken`].
    pub fn new(setup: Setup) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("tonearm/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()
            .map_err(ClientError::Broken)?;
        Ok(Self {
            http,
            setup,
            access: RefCell::new(None),
        })
    }

    /// The paths this client uses.
    #[must_use]
    pub const fn version(&self) -> &ApiVersion {
        &self.setup.version
    }

    /// Makes a call, again where that is right.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(&self, request: &Request) -> Result<Answer, ClientError> {
        let credentials = self.credentials(request.auth).await?;
        self.persist(request.repeat, &request.path, || {
            self.attempt(request, &credentials)
        })
        .await
    }

    /// Tries until there is an answer, or the policy says that it is enough.
    async fn persist<F>(
        &self,
        repeat: Repeat,
        path: &str,
        attempt: impl Fn() -> F,
    ) -> Result<Answer, ClientError>
    where
        F: Future<Output = Result<Answer, Failure>>,
    {
        let (began, attempts, verdict) = (Instant::now(), Cell::new(0), Cell::new(Verdict::Final));
        let tries = || {
            attempts.set(attempts.get() + 1);
            attempt()
        };
        let backoff = ExponentialBuilder::new()
            .with_min_delay(FIRST_BACKOFF)
            .with_max_delay(LONGEST_BACKOFF)
            .with_jitter()
            .without_max_times();
        let answer = tries
            .retry(backoff)
            .adjust(|failure: &Failure, proposed| {
                let proposed = proposed.unwrap_or(LONGEST_BACKOFF);
                let judged = self.setup.policy.verdict(
                    attempts.get(),
                    failure.what()?,
                    repeat,
                    began.elapsed(),
                    proposed,
                );
                verdict.set(judged);
                let Verdict::Wait(wait) = judged else {
                    return None;
                };
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(
                    path,
                    attempt = attempts.get(),
                    wait_ms,
                    "HubSpot is asked again"
                );
                Some(wait)
            })
            .await;
        answer.map_err(|failure| failure.into_error(verdict.get(), &self.setup.base))
    }

    async fn attempt(
        &self,
        request: &Request,
        credentials: &Credential,
    ) -> Result<Answer, Failure> {
        let mut url = format!("{}{}", self.setup.base, request.path);
        let mut builder = match credentials {
            Credential::Bearer(token) => self
                .http
                .request(request.method.clone(), &url)
                .bearer_auth(token.as_str()),
            Credential::DeveloperKey(key) => {
                let joint = if url.contains('?') { '&' } else { '?' };
                url = format!(
                    "{url}{joint}hapikey={}",
                    utf8_percent_encode(key, NON_ALPHANUMERIC)
                );
                self.http.request(request.method.clone(), &url)
            }
        };
        if let Some(body) = &request.body {
            builder = builder
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        answer(builder.header(header::ACCEPT, "application/json")).await
    }

    async fn credentials(&self, auth: Auth) -> Result<Credential, ClientError> {
        if let (Auth::App, Some(key)) = (auth, &self.setup.developer_key) {
            return Ok(Credential::DeveloperKey(key.clone()));
        }
        match &self.setup.credentials {
            Credentials::Token(token) => Ok(Credential::Bearer(token.clone())),
            Credentials::OAuth(oauth) => self.access_token(oauth).await.map(Credential::Bearer),
            Credentials::None => Err(ClientError::NoCredentials(
                "hubspot.token_file or hubspot.oauth_file",
            )),
        }
    }

    /// The access token, renewed by its own lifetime: a 401 does not say that it has ended.
    async fn access_token(&self, oauth: &OAuth) -> Result<Zeroizing<String>, ClientError> {
        if let Some((token, until)) = &*self.access.borrow()
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let path = self.setup.version.oauth_token();
        let renewed = self
            .persist(Repeat::Safe, path, || self.refresh(oauth, path))
            .await?;
        let token = AccessToken::read(&renewed.body).ok_or(ClientError::Lacking("access_token"))?;
        let life = Duration::from_secs(token.expires_in).saturating_sub(RENEWAL);
        let access = Zeroizing::new(token.token);
        *self.access.borrow_mut() = Some((access.clone(), Instant::now() + life));
        Ok(access)
    }

    async fn refresh(&self, oauth: &OAuth, path: &str) -> Result<Answer, Failure> {
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let form = format!(
            "grant_type=refresh_token&client_id={}&client_secret={}&refresh_token={}",
            escaped(&oauth.client_id),
            escaped(&oauth.client_secret),
            escaped(&oauth.refresh_token),
        );
        let request = self.http.post(format!("{}{path}", self.setup.base));
        answer(
            request
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form),
        )
        .await
    }
}

enum Credential {
    Bearer(Zeroizing<String>),
    DeveloperKey(Zeroizing<String>),
}

/// Sends, and reads what comes.
async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
    // A developer key stands in the URL.
    let sent = request.send().await.map_err(reqwest::Error::without_url);
    let mut response = sent.map_err(|error| {
        if error.is_connect() || error.is_builder() {
            Failure::NotSent(error)
        } else {
            Failure::Unclear(error)
        }
    })?;
    let (status, fields) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Failure::Unclear(error.without_url()))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(Failure::Early(ClientError::Lacking("end")));
        }
    }
    let status = status.as_u16();
    if !(200..300).contains(&status) {
        return Err(Failure::Answered(Box::new(Refusal {
            status,
            fields,
            body,
        })));
    }
    Ok(Answer {
        status,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

/// Whether a certificate will not do: the next one would be the same.
fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // An I/O error's source is its inner error's.
        next = match error.downcast_ref::<io::Error>() {
            Some(outer) => outer
                .get_ref()
                .map(|inner| -> &(dyn Error + 'static) { inner }),
            None => error.source(),
        };
    }
    false
}

/// What lies at the bottom of an error: the layers above only say that something was sent.
fn cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
