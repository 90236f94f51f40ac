//! An HTTP/2 client with prior knowledge: hyper's.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::Runtime;

use super::raw::Response;

/// One connection, which runs while something is awaited.
pub struct Http2 {
    pub runtime: Runtime,
    pub sender: SendRequest<Full<Bytes>>,
    authority: String,
}

impl Http2 {
    pub fn connect(addr: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
            let io = TokioIo::new(stream);
            let (sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        Self {
            runtime,
            sender,
            authority: addr.to_string(),
        }
    }

    /// A request for `target` at this server, with further field lines.
    pub fn request(&self, method: &str, target: &str, fields: &[&str]) -> Request<Full<Bytes>> {
        let uri = format!("http://{}{target}", self.authority);
        request(method, &uri, fields)
    }

    pub fn ask(&mut self, method: &str, target: &str, fields: &[&str]) -> Response {
        let request = self.request(method, target, fields);
        self.answer(request)
    }

    /// Sends a request, and reads all of the answer.
    pub fn answer(&mut self, request: Request<Full<Bytes>>) -> Response {
        let method = request.method().to_string();
        let asked = self.sender.send_request(request);
        let response = self.runtime.block_on(async {
            let response = asked.await.expect("an answer over HTTP/2");
            whole(response).await
        });
        response.check(&method);
        response
    }
}

/// A request with whatever target and fields; a path alone sends no `:authority`.
pub fn request(method: &str, uri: &str, fields: &[&str]) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = uri.parse().unwrap();
    for field in fields {
        let (name, value) = field.split_once(": ").unwrap();
        let name = HeaderName::try_from(name).unwrap();
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().append(name, value);
    }
    request
}

/// Head and body in the form of the raw client's.
pub async fn whole(response: http::Response<Incoming>) -> Response {
    let (head, body) = response.into_parts();
    let fields = head.headers.iter();
    let fields = fields
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let body = body.collect().await.expect("a whole body").to_bytes();
    Response {
        version: format!("{:?}", head.version),
        status: head.status.as_u16(),
        fields,
        body: body.to_vec(),
    }
}
