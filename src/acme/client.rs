//! The HTTP of ACME: HTTPS alone (RFC 8555 §6.1), no redirects, each answer bounded in time and size.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use reqwest::Certificate;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of an answer. A chain of certificates has about ten thousand.
const MAX_ANSWER: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(super) struct Client(reqwest::Client);

impl Client {
    /// A client that trusts the system's certificates, or `roots` (in PEM) alone.
    pub(super) fn new(roots: Option<&[u8]>) -> Result<Self, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT);
        let builder = match roots {
            Some(roots) => builder.tls_certs_only(Certificate::from_pem_bundle(roots)?),
            None => builder,
        };
        builder.build().map(Self)
    }
}

async fn ask(
    http: reqwest::Client,
    request: Request<BodyWrapper<Bytes>>,
) -> Result<BytesResponse, Error> {
    let other = |error: reqwest::Error| Error::Other(Box::new(error));
    let (head, body) = request.into_parts();
    // A body of memory cannot fail.
    let Ok(body) = body.collect().await;
    let request = Request::from_parts(head, body.to_bytes());
    let request = reqwest::Request::try_from(request).map_err(other)?;
    let response = Response::from(http.execute(request).await.map_err(other)?);
    Ok(response.map(|body| Limited::new(body, MAX_ANSWER)).into())
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(ask(self.0.clone(), request))
    }
}
