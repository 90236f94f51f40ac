//! One request to one response, infallible.
//!
//! ```text
//! parse -> route -> authorize -> locate -> select -> respond -> write
//! ```
//!
//! Each step consumes the value of the one before it, and none looks back.

mod access;
mod base_url;
mod edge;
mod forwarded;
#[cfg(feature = "hubspot")]
mod guard;
mod media;
mod request;
mod resolver;
#[cfg(feature = "otel")]
mod spans;
mod step;
mod trace;
mod unread;

use std::future::{Future, ready};
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::Either;
use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::{Body as _, Incoming};
#[cfg(feature = "otel")]
use opentelemetry_sdk::trace::SdkTracer;

pub use self::access::{AccessLog, Shape};
use self::access::{Delivery, Entry};
pub use self::base_url::{BaseUrl, BaseUrlError};
pub use self::forwarded::{Field, Forwarding};
#[cfg(feature = "hubspot")]
pub use self::guard::{Guard, Mode, Signatures};
use self::request::Effective;
pub use self::resolver::Resolver;
use self::step::{Later, Step};
use self::unread::discard;
use crate::body::FileBody;
use crate::edge::VERIFY_PATH;
#[cfg(feature = "cdn")]
use crate::edge::cdn::Signer;
use crate::ingest::{self, Ingest};
use crate::metrics::{Keys, Metrics};
use crate::recording::{MediaPath, UnixTime};
use crate::reject::{ALLOW, Rejection};
use crate::respond::{Answer, options, preflight};
use crate::route::{self, Route};
use crate::server::{Arrival, Cut, Handler};
use crate::sign::{Audience, Key, Keyring, Policy, Refusal, check_path};
use crate::store::{Source, Store};

/// The public listener's side of the server.
#[derive(Debug)]
pub struct App {
    store: Store,
    keyring: ArcSwap<Keyring>,
    policy: Policy,
    resolver: Resolver,
    metrics: Arc<Metrics>,
    ingest: Option<Ingest>,
    forwarding: Forwarding,
    /// Most responses under way; 0 is any number.
    most_responses: usize,
    /// As many as there are responses under way, and this one.
    under_way: Arc<()>,
    access: Option<AccessLog>,
    #[cfg(feature = "cdn")]
    cdn: Option<Signer>,
    #[cfg(feature = "otel")]
    tracer: Option<SdkTracer>,
}

/// An answer, and what its stored pieces are read from.
type Outgoing = (Answer, Option<Source>);

impl App {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        store: Store,
        keyring: Keyring,
        policy: Policy,
        resolver: Resolver,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            keyring: ArcSwap::from_pointee(keyring),
            policy,
            resolver,
            metrics,
            ingest: None,
            forwarding: Forwarding::default(),
            most_responses: 0,
            under_way: Arc::default(),
            access: None,
            #[cfg(feature = "cdn")]
            cdn: None,
            #[cfg(feature = "otel")]
            tracer: None,
        }
    }

    /// Has lines of the access log written by hand. Without it, and where more than `info` is heard,
    /// they are events of the target `tonearm::access`; in either case there are those that a
    /// subscriber of `tracing` wants.
    #[must_use]
    pub fn with_access_log(mut self, log: impl Into<Option<AccessLog>>) -> Self {
        self.access = log.into();
        self
    }

    /// Has the resolver give URLs of a CDN, which checks them itself.
    #[cfg(feature = "cdn")]
    #[must_use]
    pub fn with_cdn(mut self, signer: impl Into<Option<Signer>>) -> Self {
        self.cdn = signer.into();
        self
    }

    /// Has each request leave a span.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn with_tracer(mut self, tracer: impl Into<Option<SdkTracer>>) -> Self {
        self.tracer = tracer.into();
        self
    }

    /// Has no more than so many responses under way; 0 is any number.
    #[must_use]
    pub fn with_most_responses(mut self, most: usize) -> Self {
        self.most_responses = most;
        self
    }

    /// Believes these proxies in whose name they ask.
    #[must_use]
    pub fn with_forwarding(mut self, forwarding: Forwarding) -> Self {
        self.forwarding = forwarding;
        self
    }

    /// Takes recordings in as well.
    #[must_use]
    pub fn with_ingest(mut self, ingest: impl Into<Option<Ingest>>) -> Self {
        self.ingest = ingest.into();
        self
    }

    /// The way in, where there is one.
    #[must_use]
    pub const fn ingest(&self) -> Option<&Ingest> {
        self.ingest.as_ref()
    }

    /// Puts another keyring into place; requests under way keep the one they began with.
    pub fn replace_keyring(&self, keyring: Keyring) {
        self.keyring.store(Arc::new(keyring));
    }

    /// The store that recordings are served from.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Lets go of what nobody asks for any more. To be called now and then.
    pub fn tidy(&self, now: UnixTime) {
        self.store.tidy(now);
        self.metrics.keys(keys(&self.keyring.load(), now));
        #[cfg(feature = "hubspot")]
        self.resolver.guard.tidy();
    }

    /// What is answered, or why not, or what that waits for.
    fn outgoing(&self, head: &Parts, arrival: &Arrival, entry: &mut Entry) -> Step {
        match self.way_in(head.uri.path()) {
            // Never too busy: it is small, and an edge knows two answers.
            _ if head.uri.path() == VERIFY_PATH => Later::Verdict.into(),
            _ if self.is_busy() => Err(Rejection::Busy).into(),
            Some(route) => {
                entry.route = route.name();
                Later::Ingest(route).into()
            }
            None => match Effective::answerable(head, arrival) {
                Ok(request) => self.answer(&request, arrival, entry),
                Err(rejection) => Err(rejection).into(),
            },
        }
    }

    /// What is answered, or why not, once it is known.
    async fn wait(
        &self,
        later: Later,
        head: &Parts,
        content: &mut Incoming,
        arrival: &Arrival,
        entry: &mut Entry,
    ) -> Result<Outgoing, Rejection> {
        let request = || Effective::of(head, arrival);
        match later {
            Later::Verdict => Ok((self.verdict(head, arrival, entry).await, None)),
            Later::Media(grant, keeper) => {
                self.look_for(grant, keeper, request()?, arrival.now, entry)
                    .await
            }
            Later::Resolve(question) => self.resolved(question, request()?, arrival).await,
            Later::Ingest(route) => {
                let Some(ingest) = &self.ingest else {
                    return Err(Rejection::NoRoute);
                };
                let request = request()?;
                let request = ingest::Request {
                    method: request.method,
                    fields: request.fields,
                    now: arrival.now,
                };
                Ok((ingest.answer(route, request, content).await?, None))
            }
        }
    }

    /// The whole answer, with what every one has.
    fn finished(
        &self,
        outgoing: Result<Outgoing, Rejection>,
        head: &Parts,
        stays: bool,
        entry: &mut Entry,
    ) -> Outgoing {
        let (mut answer, source) = outgoing.unwrap_or_else(|rejection| {
            self.note(&rejection, entry);
            (rejection.answer(), None)
        });
        if !stays {
            answer = answer.closing();
        }
        let path = head.uri.path();
        // Where there is a recording, `respond` has said so.
        if source.is_none() && path.starts_with(MediaPath::PREFIX) {
            answer = answer.readable_from_any_origin();
        }
        if self.way_in(path).is_some_and(|route| route.is_upload()) {
            answer = answer.resumable();
        }
        if head.method == Method::HEAD {
            answer = answer.without_payload();
        }
        if let Some(id) = trace::request_id(&head.headers) {
            answer.fields.insert(trace::REQUEST_ID, id.clone());
        }
        (answer, source)
    }

    fn answer(&self, request: &Effective<'_>, arrival: &Arrival, entry: &mut Entry) -> Step {
        if request.target == "*" {
            return Ok((options(ALLOW), None)).into();
        }
        let route = Route::of(request.path, request.query, &self.resolver.template);
        entry.route = route.name();
        match route {
            Route::Media if request.method == Method::OPTIONS => {
                Ok((preflight(ALLOW), None)).into()
            }
            Route::Resolve(_) if request.method == Method::OPTIONS => {
                Ok((options(ALLOW), None)).into()
            }
            Route::Media => self.media(request, arrival, entry),
            Route::Resolve(question) => Later::Resolve(question).into(),
            // A path with another spelling of a place is refused, not found missing.
            Route::Nothing
                if request.method != Method::OPTIONS
                    && request.path != "/"
                    && check_path(request.path).is_err() =>
            {
                Err(Refusal::BadPath.into()).into()
            }
            Route::Nothing => Err(Rejection::NoRoute).into(),
        }
    }

    /// The response that sends an answer, and counts and logs it when it ends.
    fn response(
        self: Arc<Self>,
        (mut answer, source): Outgoing,
        arrival: Arrival,
        entry: Entry,
        under_way: Arc<()>,
    ) -> Response<FileBody> {
        let delivery = Delivery::new(entry, answer.status, &arrival, self);
        let body = FileBody::new(std::mem::take(&mut answer.payload), source)
            .on_lane(arrival.lane)
            .timed(arrival.at)
            .on_end(move |ended| {
                delivery.ended(ended);
                drop(under_way);
            });
        assemble(answer, body)
    }

    /// The route of the way in for this path, where there is one.
    fn way_in(&self, path: &str) -> Option<route::Ingest> {
        self.ingest.as_ref()?;
        route::Ingest::of(path)
    }

    /// Whether one response too many is under way.
    fn is_busy(&self) -> bool {
        self.most_responses > 0 && Arc::strong_count(&self.under_way) - 1 > self.most_responses
    }

    /// What becomes of a failure besides its answer.
    fn note(&self, rejection: &Rejection, entry: &mut Entry) {
        entry.reason = Some(rejection.reason());
        self.metrics.refused(rejection.kind());
        if rejection.is_ours() {
            tracing::error!(reason = %rejection.reason(), "a request failed on our side");
        }
    }
}

/// What is counted of a keyring at `now`.
fn keys(ring: &Keyring, now: UnixTime) -> Keys {
    let signs = |key: &&Key| *key.audience() == Audience::Origin && key.window().mints_at(now);
    let window = ring.minting(now).map(|key| *key.window());
    let seconds = |time: Option<UnixTime>| time.map_or(0, |time| time.0);
    Keys {
        count: ring.keys().len(),
        signing: ring.keys().iter().filter(signs).count(),
        signs_since: seconds(window.and_then(|window| window.mint_from)),
        signs_until: seconds(window.and_then(|window| window.mint_until)),
    }
}

impl Handler for App {
    fn opened(&self) {
        self.metrics.opened();
    }

    fn closed(&self) {
        self.metrics.closed();
    }

    fn shook_hands(&self, version: &'static str, kind: &'static str) {
        self.metrics.shook_hands(version, kind);
    }

    fn cut(&self, reason: Cut) {
        self.metrics.cut(reason.word());
    }

    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        mut arrival: Arrival,
    ) -> impl Future<Output = Response<FileBody>> + Send + Unpin {
        let (head, mut content) = request.into_parts();
        arrival.client = self.forwarding.client(arrival.client, &head.headers);
        let mut entry = Entry::of(&head, &arrival, &self.resolver.template);
        #[cfg(feature = "otel")]
        {
            let begin = |tracer| spans::Open::begin(tracer, &head.method, &head.headers);
            entry.span = self.tracer.as_ref().map(begin);
        }
        let under_way = Arc::clone(&self.under_way);
        match self.outgoing(&head, &arrival, &mut entry) {
            Step::Now(outgoing) if content.is_end_stream() => {
                let answer = self.finished(outgoing, &head, true, &mut entry);
                Either::Left(ready(self.response(answer, arrival, entry, under_way)))
            }
            step => Either::Right(Box::pin(async move {
                let outgoing = match step {
                    Step::Now(outgoing) => outgoing,
                    Step::Later(later) => {
                        let content = &mut content;
                        self.wait(later, &head, content, &arrival, &mut entry).await
                    }
                };
                // RFC 9110 §10.1.1: who answers without reading the content says what becomes of the
                // connection.
                let stays = content.is_end_stream() || discard(content, &head).await;
                let answer = self.finished(outgoing, &head, stays, &mut entry);
                self.response(answer, arrival, entry, under_way)
            })),
        }
    }
}

/// Puts an answer into hyper's form.
pub(crate) fn assemble(answer: Answer, body: FileBody) -> Response<FileBody> {
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.fields;
    response
}
