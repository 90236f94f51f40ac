//! The admin listener: health, readiness, metrics, version. Knows nothing of recordings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::app::assemble;
use crate::body::FileBody;
use crate::metrics::Metrics;
use crate::reject::{ALLOW, Rejection};
use crate::respond::{Answer, json, options, text};
use crate::server::{Arrival, Handler};
use crate::sign::Refusal;
use crate::store::Store;

const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The admin listener's side of the server.
#[derive(Debug)]
pub struct Admin {
    store: Store,
    metrics: Arc<Metrics>,
    stopping: AtomicBool,
}

impl Admin {
    /// Puts the parts together.
    #[must_use]
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            metrics,
            stopping: AtomicBool::new(false),
        }
    }

    /// Says from now on that this server is not ready: it is about to stop.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    async fn ready(&self) -> Answer {
        let unavailable =
            |body: &str| text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{body}\n"));
        if self.stopping.load(Ordering::Relaxed) {
            return unavailable("stopping");
        }
        match self.store.check().await {
            Ok(()) => text(StatusCode::OK, PLAIN, "ready\n".to_owned()),
            Err(error) => {
                tracing::error!(%error, "the store does not answer");
                unavailable("store")
            }
        }
    }

    async fn answer(&self, method: &Method, path: &str) -> Answer {
        match (method, path) {
            (&Method::OPTIONS, _) => options(ALLOW),
            (&Method::GET | &Method::HEAD, "/healthz") => {
                text(StatusCode::OK, PLAIN, "ok\n".to_owned())
            }
            (&Method::GET | &Method::HEAD, "/readyz") => self.ready().await,
            (&Method::GET | &Method::HEAD, "/metrics") => {
                text(StatusCode::OK, OPEN_METRICS, self.metrics.exposition())
            }
            (&Method::GET | &Method::HEAD, "/version") => {
                json(format!("{{\"version\":\"{}\"}}\n", env!("CARGO_PKG_VERSION")).into_bytes())
            }
            (&Method::GET | &Method::HEAD, _) => Rejection::NoRoute.answer(),
            _ => Rejection::Refused(Refusal::Method).answer(),
        }
    }
}

impl Handler for Admin {
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _: Arrival,
    ) -> impl Future<Output = Response<FileBody>> + Send + Unpin {
        let (head, _) = request.into_parts();
        Box::pin(async move {
            let mut answer = self.answer(&head.method, head.uri.path()).await;
            if head.method == Method::HEAD {
                answer = answer.without_payload();
            }
            let body = FileBody::new(std::mem::take(&mut answer.payload), None);
            assemble(answer, body)
        })
    }
}
