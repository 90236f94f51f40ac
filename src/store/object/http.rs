//! The HTTP client that the bucket is asked with.
//!
//! reqwest's reads ahead as much as hyper lets it, which is 400 KiB a connection, twice: too much
//! for each listener who reads slowly. This one is the same hyper and rustls with small buffers. It
//! knows connections, names and TLS; whoever needs more (a proxy, HTTP/2, certificates that are not
//! checked) gets reqwest. How long an answer may take is whoever asks to say.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService, ReqwestConnector,
};
use object_store::{ClientConfigKey, ClientOptions};

/// Most bytes that hyper reads before somebody takes them. The head of an answer fits.
const READ_AHEAD: usize = 64 * 1024;
/// What the kernel may hold of an answer before it is read; left alone, it holds six megabytes. It
/// counts its own bookkeeping, and so takes the half.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// What this client does not know how to do.
const REQWEST: [ClientConfigKey; 7] = [
    ClientConfigKey::AllowInvalidCertificates,
    ClientConfigKey::Http1Only,
    ClientConfigKey::Http2Only,
    ClientConfigKey::NoSystemCertificates,
    ClientConfigKey::ProxyCaCertificate,
    ClientConfigKey::ProxyUrl,
    ClientConfigKey::ReadTimeout,
];
const AGENT: &str = concat!("tonearm/", env!("CARGO_PKG_VERSION"));

/// Makes clients that read no more ahead than a slow listener may cost.
#[derive(Debug, Clone, Copy)]
pub struct Lean;

impl HttpConnector for Lean {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let full = ReqwestConnector::default().connect(options)?;
        let usual = ClientOptions::default();
        let is_usual = |key| options.get_config_value(key) == usual.get_config_value(key);
        if !REQWEST.iter().all(is_usual) {
            return Ok(full);
        }
        let lean =
            LeanClient::new(options, full).map_err(|source| object_store::Error::Generic {
                store: "HTTP",
                source,
            })?;
        Ok(HttpClient::new(lean))
    }
}

#[derive(Debug)]
struct LeanClient {
    client: Client<HttpsConnector<TcpConnector>, HttpRequestBody>,
    /// For what has to go through a proxy.
    full: HttpClient,
    proxies: Matcher,
    agent: HeaderValue,
}

impl LeanClient {
    fn new(
        options: &ClientOptions,
        full: HttpClient,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let span = |key| {
            options
                .get_config_value(&key)
                .and_then(|text| duration(&text))
        };
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_recv_buffer_size(Some(RECEIVE_BUFFER));
        tcp.set_keepalive(Some(Duration::from_secs(15)));
        tcp.set_connect_timeout(span(ClientConfigKey::ConnectTimeout));
        let tls = HttpsConnectorBuilder::new().try_with_platform_verifier()?;
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let schemes = if allow_http.as_deref() == Some("true") {
            tls.https_or_http()
        } else {
            tls.https_only()
        };
        let agent = options.get_config_value(&ClientConfigKey::UserAgent);
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .timer(TokioTimer::new())
                .pool_idle_timeout(
                    span(ClientConfigKey::PoolIdleTimeout).unwrap_or(Duration::from_secs(90)),
                )
                .http1_max_buf_size(READ_AHEAD)
                .build(schemes.enable_http1().wrap_connector(tcp)),
            full,
            proxies: Matcher::from_system(),
            agent: HeaderValue::from_str(agent.as_deref().unwrap_or(AGENT))?,
        })
    }

    async fn ask(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if self.proxies.intercept(request.uri()).is_some() {
            return self.full.execute(request).await;
        }
        let fields = request.headers_mut();
        if !fields.contains_key(USER_AGENT) {
            fields.insert(USER_AGENT, self.agent.clone());
        }
        let answer = self.client.request(request).await;
        let answer =
            answer.map_err(|error| HttpError::new(kind(&error, error.is_connect()), error))?;
        let broke_off = |error: hyper::Error| HttpError::new(kind(&error, false), error);
        Ok(answer.map(|body| HttpResponseBody::new(body.map_err(broke_off))))
    }
}

impl HttpService for LeanClient {
    // What the trait's own macro makes of an async fn.
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.ask(request))
    }
}

/// What failed, which decides whether it is tried again.
fn kind(error: &(dyn Error + 'static), connecting: bool) -> HttpErrorKind {
    let mut next = Some(error);
    while let Some(error) = next {
        next = error.source();
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_timeout() {
                return HttpErrorKind::Timeout;
            }
            if error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted() {
                return HttpErrorKind::Request;
            }
        }
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => return HttpErrorKind::Timeout,
            Some(
                io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof,
            ) if !connecting => return HttpErrorKind::Interrupted,
            _ => {}
        }
    }
    if connecting {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Unknown
    }
}

/// A span as object_store writes it back.
fn duration(text: &str) -> Option<Duration> {
    Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok()
}
