//! `/edge/verify`: an edge asks whether a viewer may have what it asked for.
//!
//! Answers 204 or 403, whatever is asked and however: edges make an error of any other status.

use http::HeaderMap;
use http::request::Parts;

use super::App;
use super::access::Entry;
use super::request::Effective;
use crate::edge::{Asked, ORIGINAL_METHOD, ORIGINAL_URI, fresh_until, judge};
use crate::recording::MediaPath;
use crate::reject::Rejection;
use crate::respond::{Answer, allowed, denied};
use crate::server::Arrival;
use crate::store::StoreError;

impl App {
    /// The verdict, as the edge is told it.
    pub(super) async fn verdict(
        &self,
        head: &Parts,
        arrival: &Arrival,
        entry: &mut Entry,
    ) -> Answer {
        entry.route = "edge";
        match self.permit(head, arrival).await {
            Ok(answer) => answer,
            Err(rejection) => {
                self.note(&rejection, entry);
                let answer = denied(word(&rejection));
                if rejection.is_of_the_message() {
                    return answer.closing();
                }
                answer
            }
        }
    }

    async fn permit(&self, head: &Parts, arrival: &Arrival) -> Result<Answer, Rejection> {
        let request = Effective::of(head, arrival)?;
        let now = arrival.now;
        let asked = Asked {
            by: request.method.as_str(),
            method: only(request.fields, ORIGINAL_METHOD),
            target: only(request.fields, ORIGINAL_URI),
            host: request.host,
        };
        let grant = judge(asked, &self.keyring.load(), &self.policy, now)?;
        let path = MediaPath::parse(grant.path()).ok_or(Rejection::NoRoute)?;
        match self.store.locate(&grant, now).await {
            // Of what is not there the origin says so itself, by a 404.
            Ok(_) | Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(Rejection::Store(error)),
        }
        let claims = grant.claims();
        Ok(allowed(&path, claims, fresh_until(claims.exp, now), now))
    }
}

/// The value of a field that stands once, and is text.
fn only<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = fields.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// The reason in one word. The edge is no guesser: it is told exactly.
fn word(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::Refused(refusal) | Rejection::Store(StoreError::Refused(refusal)) => {
            refusal.word()
        }
        Rejection::NoRoute => "no_route",
        Rejection::Store(StoreError::Erased) => "erased",
        Rejection::Store(_) => "unavailable",
        _ => "malformed",
    }
}
