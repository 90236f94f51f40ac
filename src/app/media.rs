//! The way of a recording: who may read it, where it lies, what is said of it.

use http::Method;

use super::access::Entry;
use super::request::Effective;
use super::step::{Later, Step};
use super::{App, Outgoing};
use crate::recording::UnixTime;
use crate::reject::Rejection;
use crate::respond::{Answer, Described, Keeper, Terms, respond};
use crate::select::select;
use crate::server::Arrival;
use crate::sign::{Grant, Refusal, SignedRequest, pull, verify};
use crate::store::StoreError;

impl App {
    /// The way of a recording.
    pub(super) fn media(
        &self,
        request: &Effective<'_>,
        arrival: &Arrival,
        entry: &mut Entry,
    ) -> Step {
        let now = arrival.now;
        let (grant, keeper) = match self.authorize(request, now) {
            Ok(authorized) => authorized,
            Err(refusal) => return Err(refusal.into()).into(),
        };
        match self.store.at_hand(&grant, now, Some(arrival.at)) {
            Ok(Some((stored, source))) => {
                let answer = told(request, stored.described(), &grant, keeper, now, entry);
                Ok((answer, Some(source))).into()
            }
            Ok(None) => Later::Media(grant, keeper).into(),
            Err(error) => Err(Rejection::Store(error)).into(),
        }
    }

    /// The same of a recording that has to be waited for.
    pub(super) async fn look_for(
        &self,
        grant: Grant,
        keeper: Keeper,
        request: Effective<'_>,
        now: UnixTime,
        entry: &mut Entry,
    ) -> Result<Outgoing, Rejection> {
        let mut again = false;
        loop {
            match self.send(&grant, keeper, &request, now, entry).await {
                // What was known of it is a moment old; now it is known anew.
                Err(StoreError::Replaced) if !again => again = true,
                sent => return sent.map_err(Rejection::Store),
            }
        }
    }

    async fn send(
        &self,
        grant: &Grant,
        keeper: Keeper,
        request: &Effective<'_>,
        now: UnixTime,
        entry: &mut Entry,
    ) -> Result<Outgoing, StoreError> {
        let stored = self.store.locate(grant, now).await?;
        let answer = told(request, stored.described(), grant, keeper, now, entry);
        let first = answer
            .first_stored()
            .filter(|_| request.method != Method::HEAD);
        Ok((answer, Some(stored.open(first).await?)))
    }

    /// Who may read, and so who may keep what is read: an edge that shows its secret, else a viewer
    /// whose URL holds.
    fn authorize(
        &self,
        request: &Effective<'_>,
        now: UnixTime,
    ) -> Result<(Grant, Keeper), Refusal> {
        let ring = self.keyring.load();
        let field = |name: &str| {
            let values = request.fields.get_all(name).iter();
            values.map(http::HeaderValue::as_bytes)
        };
        if let Some(grant) = pull(request.path, field, &ring, now) {
            return Ok((grant, Keeper::Edge));
        }
        let signed = SignedRequest {
            method: request.method.as_str(),
            host: request.host,
            target: request.target,
        };
        let grant = verify(signed, &ring, &self.policy, now)?;
        let left = now.until(grant.claims().exp);
        Ok((grant, Keeper::Viewer(left)))
    }
}

/// What is said of a recording: which of its bytes, under which fields.
fn told(
    request: &Effective<'_>,
    described: &Described,
    grant: &Grant,
    keeper: Keeper,
    now: UnixTime,
    entry: &mut Entry,
) -> Answer {
    let representation = described.representation();
    let selection = select(request.method, request.fields, representation, now);
    entry.selected(&selection);
    let terms = Terms {
        disposition: grant.claims().disposition.as_ref(),
        keeper,
        now,
    };
    respond(&selection, described, terms)
}
