//! Who may ask the resolver: HubSpot's signature, and how often.
//!
//! HubSpot documents no signature on this question, so that `require` is nobody's default; `observe`
//! tells from the log what a real account sends. Never decides which recordings there are.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use zeroize::Zeroizing;

use super::BaseUrl;
use super::request::Effective;
use crate::hubspot::signature::{self, Signed, Unsigned, Version};
use crate::recording::{RecordingId, UnixTime};
use crate::reject::Rejection;

/// What is done about HubSpot's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is looked at and logged.
    Observe,
    /// Without one that holds there is no answer.
    Require,
}

/// How HubSpot's signature is checked.
pub struct Signatures {
    /// What is done about it.
    pub mode: Mode,
    /// The app's client secret.
    pub secret: Zeroizing<String>,
    /// Scheme and host that HubSpot calls: behind a proxy, Host may say otherwise.
    pub base: BaseUrl,
}

/// The resolver's guard. The default lets everybody in.
#[derive(Default)]
pub struct Guard {
    signatures: Option<Signatures>,
    callers: Option<DefaultKeyedRateLimiter<IpAddr>>,
    recordings: Option<DefaultKeyedRateLimiter<RecordingId>>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mode = self.signatures.as_ref().map(|signatures| signatures.mode);
        f.debug_struct("Guard")
            .field("signatures", &mode)
            .finish_non_exhaustive()
    }
}

impl Guard {
    /// Makes a guard; `per_caller` and `per_recording` are questions a minute.
    #[must_use]
    pub fn new(
        signatures: Option<Signatures>,
        per_caller: Option<NonZeroU32>,
        per_recording: Option<NonZeroU32>,
    ) -> Self {
        Self {
            signatures,
            callers: per_caller.map(|most| RateLimiter::keyed(Quota::per_minute(most))),
            recordings: per_recording.map(|most| RateLimiter::keyed(Quota::per_minute(most))),
        }
    }

    /// Whether this question is answered; which signature it has, for the log.
    pub(super) fn check(
        &self,
        request: &Effective<'_>,
        caller: IpAddr,
        id: &RecordingId,
        now: UnixTime,
    ) -> Result<&'static str, Rejection> {
        within(self.callers.as_ref(), &caller)?;
        within(self.recordings.as_ref(), id)?;
        let Some(signatures) = &self.signatures else {
            return Ok("unchecked");
        };
        let verdict = signatures.verdict(request, now);
        if signatures.mode == Mode::Observe {
            observe(request.fields, verdict);
        }
        match (verdict, signatures.mode) {
            (Ok(version), _) => Ok(version.name()),
            (Err(unsigned), Mode::Require) => Err(Rejection::Unsigned(unsigned)),
            (Err(Unsigned::Missing), Mode::Observe) => Ok("none"),
            (Err(_), Mode::Observe) => Ok("bad"),
        }
    }

    /// Forgets callers and recordings that have not been asked for lately.
    pub(super) fn tidy(&self) {
        if let Some(callers) = &self.callers {
            callers.retain_recent();
        }
        if let Some(recordings) = &self.recordings {
            recordings.retain_recent();
        }
    }
}

impl Signatures {
    fn verdict(&self, request: &Effective<'_>, now: UnixTime) -> Result<Version, Unsigned> {
        // A field that stands twice is none: which one would be meant?
        let field = |name: &str| {
            let mut values = request.fields.get_all(name).iter();
            values
                .next()
                .filter(|_| values.next().is_none())?
                .to_str()
                .ok()
        };
        let signed = Signed {
            method: request.method.as_str(),
            uri: &format!("{}{}", self.base, request.target),
            body: b"",
            signature: field(signature::FIELD),
            version: field(signature::VERSION_FIELD),
            signature_v3: field(signature::V3_FIELD),
            timestamp: field(signature::TIMESTAMP_FIELD),
        };
        signature::check(&self.secret, &signed, now.0.saturating_mul(1000))
    }
}

/// What a real account sends: names, and nothing that could be used.
fn observe(fields: &HeaderMap, verdict: Result<Version, Unsigned>) {
    let names: Vec<_> = fields.keys().map(http::HeaderName::as_str).collect();
    let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    tracing::info!(
        target: "tonearm::signature",
        verdict = verdict.map_or_else(|unsigned| unsigned.to_string(), |version| version.name().to_owned()),
        fields = names.join(" "),
        agent = text("user-agent"),
        timestamp = text(signature::TIMESTAMP_FIELD),
    );
}

fn within<K: std::hash::Hash + Eq + Clone>(
    limiter: Option<&DefaultKeyedRateLimiter<K>>,
    key: &K,
) -> Result<(), Rejection> {
    let Some(limiter) = limiter else {
        return Ok(());
    };
    limiter.check_key(key).map_err(|until| {
        let wait = until.wait_time_from(DefaultClock::default().now());
        Rejection::TooMany(
            wait.saturating_add(Duration::from_millis(999))
                .as_secs()
                .max(1),
        )
    })
}
