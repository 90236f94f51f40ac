//! The rehearsed HubSpot on a port.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::fake::{Asked, Fake, Options, Reply};
use super::fault::Fault;
use crate::recording::UnixTime;

/// Most bytes of a request that are read.
const MAX_REQUEST: usize = 8 << 20;

struct Rehearsal {
    fake: Mutex<Fake>,
    /// The calendar at the start, and a clock that goes on from there.
    began: (UnixTime, Instant),
}

/// A connection that is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut as the script says")]
struct Cut;

/// Serves a fake HubSpot that began at `now`, until the process ends.
///
/// # Errors
/// Only where the listener cannot be used at all.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    now: UnixTime,
) -> io::Result<Infallible> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let rehearsal = Arc::new(Rehearsal {
        fake: Mutex::new(Fake::new(options)),
        began: (now, Instant::now()),
    });
    loop {
        let (stream, _) = listener.accept().await?;
        let rehearsal = Arc::clone(&rehearsal);
        tokio::spawn(async move {
            let service = service_fn(|request| rehearsal.handle(request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
}

impl Rehearsal {
    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_REQUEST)
            .collect()
            .await
            .map_err(|_| Cut)?
            .to_bytes();
        let reply = match (&head.method, head.uri.path()) {
            (&Method::GET, "/_rehearse/state") => page(200, &self.lock().state()),
            (&Method::POST, "/_rehearse/faults") => self.take_faults(&body),
            (method, path) => {
                let elapsed = u64::try_from(self.began.1.elapsed().as_millis()).unwrap_or(u64::MAX);
                let asked = Asked {
                    method,
                    path,
                    query: head.uri.query().unwrap_or_default(),
                    fields: &head.headers,
                    body: &body,
                    now_ms: self.began.0.0.saturating_mul(1000).saturating_add(elapsed),
                };
                self.lock().ask(&asked)
            }
        };
        match reply {
            Reply::Answer {
                status,
                fields,
                body,
            } => Ok(response(status, fields, body)),
            Reply::Cut => Err(Cut),
            Reply::Hold => std::future::pending().await,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Fake> {
        self.fake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A list of faults as texts: `["log=cut:acted"]`.
    fn take_faults(&self, body: &[u8]) -> Reply {
        let texts: Vec<String> = serde_json::from_slice(body).unwrap_or_default();
        let faults: Result<Vec<Fault>, _> = texts.iter().map(|text| text.parse()).collect();
        match faults {
            Ok(faults) if !faults.is_empty() => {
                let count = faults.len();
                self.lock().add_faults(faults);
                page(200, &json!({ "faults": count }))
            }
            Ok(_) => page(
                400,
                &json!({"message": "a list of faults is needed, such as [\"log=cut:acted\"]"}),
            ),
            Err(error) => page(400, &json!({"message": error.to_string()})),
        }
    }
}

fn page(status: u16, body: &Value) -> Reply {
    Reply::Answer {
        status,
        fields: Vec::new(),
        body: Some(body.clone()),
    }
}

fn response(
    status: u16,
    fields: Vec<(&'static str, String)>,
    body: Option<Value>,
) -> Response<Full<Bytes>> {
    let mut builder = Response::builder().status(status);
    for (name, value) in fields {
        builder = builder.header(name, value);
    }
    if body.is_some() {
        builder = builder.header(header::CONTENT_TYPE, "application/json;charset=utf-8");
    }
    let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(format!("{body}\n")));
    // Names and values are our own, and valid.
    builder.body(Full::new(bytes)).unwrap_or_default()
}
