//! Requests as HubSpot and its players make them, and what came back.

use std::time::Duration;

use http::{HeaderMap, Method, header};
use tokio::time::Instant;

use super::Check;

/// Longest wait for anything.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Largest recording that is looked at whole, in bytes.
const LARGEST: usize = 1 << 30;

/// Asks an endpoint what HubSpot would.
pub struct Probe {
    http: reqwest::Client,
}

/// The endpoint cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// No answer.
    #[error("{0} does not answer")]
    Unreachable(String, #[source] reqwest::Error),
    /// No URL of HTTP.
    #[error("{0} is no URL of http or https")]
    Url(String),
    /// What came cannot be put into a file to be decoded.
    #[error("no room for what came")]
    Io(#[source] std::io::Error),
    /// The client cannot be built.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// What came back.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) fields: HeaderMap,
    pub(super) body: Vec<u8>,
    /// The connection ended before the body did.
    pub(super) cut: bool,
    pub(super) took: Duration,
}

impl Seen {
    pub(super) fn field(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.fields.get(name)?.to_str().ok()
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.field(header::CONTENT_LENGTH)?.parse().ok()
    }

    /// The status, and what of the fields says more.
    pub(super) fn status_line(&self) -> String {
        match self.field(header::LOCATION) {
            Some(_) => format!("{} with a Location", self.status),
            None => self.status.to_string(),
        }
    }
}

impl Probe {
    /// Makes one; sends nothing.
    ///
    /// # Errors
    /// [`Broken::Client`].
    pub fn new() -> Result<Self, Broken> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("tonearm-doctor/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(Broken::Client)?;
        Ok(Self { http })
    }

    /// Asks, and reads `most` bytes of the body; then lets go of the connection, as a player does
    /// that is stopped.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &str,
        fields: &[(&str, &str)],
        most: usize,
    ) -> Result<Seen, Broken> {
        let began = Instant::now();
        let mut request = self.http.request(method, url);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let sent = request.send().await;
        let mut response =
            sent.map_err(|error| Broken::Unreachable(origin(url).to_owned(), error.without_url()))?;
        let took = began.elapsed();
        let mut seen = Seen {
            status: response.status().as_u16(),
            fields: response.headers().clone(),
            body: Vec::new(),
            cut: false,
            took,
        };
        while seen.body.len() < most {
            match response.chunk().await {
                Ok(Some(chunk)) => seen.body.extend_from_slice(&chunk),
                Ok(None) => return Ok(seen),
                Err(_) => {
                    seen.cut = true;
                    return Ok(seen);
                }
            }
        }
        seen.body.truncate(most);
        Ok(seen)
    }

    pub(super) async fn whole(&self, url: &str) -> Result<Seen, Broken> {
        self.ask(Method::GET, url, &[], LARGEST).await
    }
}

/// Scheme and host, for a message: a query may hold a signature.
pub(super) fn origin(url: &str) -> &str {
    let behind = url.find("://").map_or(0, |at| at + 3);
    let end = url[behind..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| behind + at);
    &url[..end]
}

/// Whether TLS is spoken; a rehearsal on this machine need not.
pub(super) fn tls(check: &'static str, url: &str) -> Result<Check, Broken> {
    let origin = origin(url);
    let base: crate::app::BaseUrl = origin.parse().map_err(|_| Broken::Url(origin.to_owned()))?;
    Ok(if base.is_https() {
        Check::pass(check, format!("{origin}: its certificate holds"))
    } else if base.is_of_this_machine() {
        Check::pass(
            check,
            format!(
                "{origin} is this machine: a rehearsal without TLS, which HubSpot itself insists on"
            ),
        )
    } else {
        Check::fail(
            check,
            format!("{origin} speaks no TLS"),
            "HubSpot takes https:// alone: put TLS before it",
        )
    })
}
