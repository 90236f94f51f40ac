//! The answer to HubSpot's question: for whom there is one, and which URL it gives.

#[cfg(feature = "hubspot")]
use std::sync::Arc;
#[cfg(feature = "object")]
use std::time::Duration;

use serde::Serialize;

#[cfg(feature = "hubspot")]
use super::guard::Guard;
use super::request::Effective;
use super::{App, BaseUrl, Outgoing};
use crate::recording::{Id, RecordingId, UnixTime};
use crate::reject::Rejection;
use crate::respond::json;
use crate::route::{BadQuestion, Template};
use crate::server::Arrival;
use crate::sign::{Claims, mint};
use crate::store::Found;
#[cfg(feature = "object")]
use crate::store::{Presigned, UrlTerms};

/// The resolver's settings: what HubSpot calls, and for whom it is answered.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    /// The path registered with HubSpot.
    pub template: Template,
    /// Apps that are served; `None` is any.
    pub allowed_apps: Option<Vec<Id>>,
    /// Accounts that are served; `None` is any.
    pub allowed_accounts: Option<Vec<Id>>,
    /// Where clients reach this server; without it, where the request's Host says.
    pub public_base_url: Option<BaseUrl>,
    /// Who may ask, and how often.
    #[cfg(feature = "hubspot")]
    pub guard: Arc<Guard>,
}

impl Resolver {
    fn check_allowed(&self, id: &RecordingId) -> Result<(), Rejection> {
        let allows =
            |list: &Option<Vec<Id>>, id| list.as_ref().is_none_or(|list| list.contains(id));
        if !allows(&self.allowed_apps, &id.app) {
            return Err(Rejection::NotAllowed("app"));
        }
        if !allows(&self.allowed_accounts, &id.account) {
            return Err(Rejection::NotAllowed("account"));
        }
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resolved {
    authenticated_url: String,
    expires_at: String,
}

impl App {
    /// The answer to what was asked, counted.
    pub(super) async fn resolved(
        &self,
        question: Result<RecordingId, BadQuestion>,
        request: Effective<'_>,
        arrival: &Arrival,
    ) -> Result<Outgoing, Rejection> {
        let answer = match question {
            Ok(question) => self.resolve(&question, &request, arrival).await,
            Err(bad) => Err(bad.into()),
        };
        self.metrics.question(match &answer {
            Ok(_) => "answered",
            Err(rejection) => rejection.kind(),
        });
        answer
    }

    /// The answer to HubSpot's question: a URL that opens this recording for a while.
    async fn resolve(
        &self,
        id: &RecordingId,
        request: &Effective<'_>,
        arrival: &Arrival,
    ) -> Result<Outgoing, Rejection> {
        let now = arrival.now;
        #[cfg(feature = "hubspot")]
        let signature = self
            .resolver
            .guard
            .check(request, arrival.client, id, now)
            .inspect_err(|rejection| {
                if matches!(rejection, Rejection::Unsigned(_)) {
                    self.metrics.signature("refused");
                }
            })?;
        #[cfg(not(feature = "hubspot"))]
        let signature = "unchecked";
        self.metrics.signature(signature);
        self.resolver.check_allowed(id)?;
        let found = self.store.find(id).await.map_err(Rejection::Unknown)?;
        let claims = Claims {
            generation: (found.generation > 0).then_some(found.generation),
            ..Claims::until(self.policy.expiry(now, self.policy.ttl(found.duration)))
        };
        let (url, exp) = match self.presigned(&found, &claims, now).await? {
            Some(presigned) => presigned,
            None => {
                let url = self.url(&found.path.url_path(), &claims, request, arrival)?;
                (url, claims.exp)
            }
        };
        tracing::info!(target: "tonearm::mint", recording = %id, exp = exp.0, caller = %arrival.client, signature);
        let resolved = Resolved {
            authenticated_url: url,
            expires_at: exp.rfc3339(),
        };
        // Two strings always serialise.
        Ok((
            json(serde_json::to_vec(&resolved).unwrap_or_default()),
            None,
        ))
    }

    /// The bucket's own URL and its end, where such are given out.
    #[cfg(feature = "object")]
    async fn presigned(
        &self,
        found: &Found,
        claims: &Claims,
        now: UnixTime,
    ) -> Result<Option<(String, UnixTime)>, Rejection> {
        let terms = UrlTerms {
            disposition: None,
            life: Duration::from_secs(now.until(claims.exp)),
            now,
        };
        let presigned = self.store.presigned(&found.path, terms).await;
        let presigned = presigned.map_err(Rejection::Unknown)?;
        Ok(presigned.map(|Presigned { url, life }| (url, now.plus(life.as_secs()))))
    }

    #[cfg(not(feature = "object"))]
    #[expect(clippy::unused_async, reason = "a bucket's credentials are waited for")]
    async fn presigned(
        &self,
        _: &Found,
        _: &Claims,
        _: UnixTime,
    ) -> Result<Option<(String, UnixTime)>, Rejection> {
        Ok(None)
    }

    /// A URL that opens `path` as `claims` say: of the CDN, where one checks URLs itself.
    fn url(
        &self,
        path: &str,
        claims: &Claims,
        request: &Effective<'_>,
        arrival: &Arrival,
    ) -> Result<String, Rejection> {
        let now = arrival.now;
        #[cfg(feature = "cdn")]
        if let Some(cdn) = &self.cdn {
            return Ok(cdn.url(path, claims, now)?);
        }
        let minted = mint(path, claims, "*", &self.keyring.load(), &self.policy, now)?;
        let base = match &self.resolver.public_base_url {
            Some(base) => base.to_string(),
            // RFC 9112 §3.2: only HTTP/1.1 has to name a host, and `http:///` is no URL.
            None if request.host.is_empty() => {
                return Err(Rejection::Host("A URL needs the Host it is for."));
            }
            None if arrival.is_secure => format!("https://{}", request.host),
            None => format!("http://{}", request.host),
        };
        Ok(format!("{base}{}", minted.target))
    }
}
