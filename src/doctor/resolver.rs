//! The endpoint HubSpot asks for a recording's URL.

use std::time::Duration;

use http::{Method, header};
use serde_json::Value;
use zeroize::Zeroizing;

use super::probe::{Broken, Probe, Seen, tls};
use super::{Check, check_ids, expiry};
use crate::hubspot::signature;
use crate::hubspot::wire;
use crate::recording::{RecordingId, UnixTime};

/// HubSpot publishes no time-out for this; of its webhooks it says five seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any answer has.
const MOST: usize = 1 << 20;
/// An id that nobody has.
const NOBODY: &str = "tonearm-doctor-no-such-recording";

/// What HubSpot asks.
#[derive(Debug, Clone)]
pub enum Question {
    /// The registered URL, with `%s`, and for which recording it is asked.
    Registered(String, RecordingId),
    /// A URL with everything in it.
    Whole(String),
}

/// Signs questions as HubSpot would, for an endpoint that requires it.
pub struct Signer(pub Zeroizing<String>);

impl Question {
    /// The URL that is asked.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Registered(template, id) => filled(template, id),
            Self::Whole(url) => url.clone(),
        }
    }
}

/// As HubSpot fills it: the id where `%s` stands, the others behind.
fn filled(template: &str, id: &RecordingId) -> String {
    let url = template.replace("%s", id.external.as_str());
    let joint = if url.contains('?') { '&' } else { '?' };
    format!(
        "{url}{joint}appId={}&externalAccountId={}",
        id.app, id.account
    )
}

/// What a URL turned out to be.
enum Target {
    /// An endpoint that names a recording's URL, and when that ends.
    Resolver(Vec<Check>, Option<(String, Option<UnixTime>)>),
    /// A recording.
    Media,
}

impl Probe {
    /// Asks an endpoint as HubSpot does, follows to the recording, and checks all of it.
    ///
    /// # Errors
    /// [`Broken`]: it cannot be asked at all.
    pub async fn check(
        &self,
        question: &Question,
        signer: Option<&Signer>,
        now: UnixTime,
    ) -> Result<Vec<Check>, Broken> {
        match self.follow(question, signer, now).await {
            Err(Broken::Unreachable(origin, error)) => {
                let fix =
                    "it has to answer from the internet, with a certificate that browsers trust";
                Ok(vec![Check::fail(
                    "connection",
                    format!("{origin}: {}", cause(&error)),
                    fix,
                )])
            }
            other => other,
        }
    }

    async fn follow(
        &self,
        question: &Question,
        signer: Option<&Signer>,
        now: UnixTime,
    ) -> Result<Vec<Check>, Broken> {
        match self.resolve(question, signer, now).await? {
            Target::Media => self.check_media(&question.url(), None, now).await,
            Target::Resolver(checks, None) => Ok(checks),
            Target::Resolver(mut checks, Some((url, ends))) => {
                checks.extend(self.check_media(&url, ends, now).await?);
                Ok(checks)
            }
        }
    }

    async fn resolve(
        &self,
        question: &Question,
        signer: Option<&Signer>,
        now: UnixTime,
    ) -> Result<Target, Broken> {
        let url = question.url();
        let mut checks = match question {
            Question::Registered(template, id) => [registrable(template)?, check_ids(id)].concat(),
            Question::Whole(url) => vec![tls("resolver TLS", url)?],
        };
        let seen = self.question(&url, signer, now).await?;
        let answer: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        if let Question::Whole(url) = question
            && !is_question(url, &seen, &answer)
        {
            return Ok(Target::Media);
        }
        let (check, found) = answered(&seen, &answer);
        checks.push(check);
        let Some(found) = found else {
            return Ok(Target::Resolver(checks, None));
        };
        checks.push(if seen.took <= PATIENCE {
            Check::pass("resolver time", format!("{} ms", seen.took.as_millis()))
        } else {
            Check::fail(
                "resolver time",
                format!("{} ms", seen.took.as_millis()),
                "answer in well under 5 s",
            )
        });
        if let Question::Registered(template, id) = question {
            checks.extend(self.strangers(template, id, signer, now).await?);
        }
        Ok(Target::Resolver(
            checks,
            Some((found, expiry::of_answer(&answer))),
        ))
    }

    async fn question(
        &self,
        url: &str,
        signer: Option<&Signer>,
        now: UnixTime,
    ) -> Result<Seen, Broken> {
        let made = signer
            .map(|signer| signature::sign(&signer.0, "GET", url, b"", now.0.saturating_mul(1000)));
        let made = made.unwrap_or_default();
        let fields: Vec<_> = made
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.ask(Method::GET, url, &fields, MOST).await
    }

    /// Whoever knows the endpoint can ask it: another account's recording must not come of that.
    async fn strangers(
        &self,
        template: &str,
        id: &RecordingId,
        signer: Option<&Signer>,
        now: UnixTime,
    ) -> Result<Vec<Check>, Broken> {
        let with = |external: &str, account: &str| {
            RecordingId::new(id.app.as_str(), account, external).unwrap_or_else(|_| id.clone())
        };
        let mut checks = Vec::new();
        for (check, stranger, fix) in [
            (
                "unknown id",
                with(NOBODY, id.account.as_str()),
                "answer 404 for an id that there is not",
            ),
            (
                "other account",
                with(id.external.as_str(), NOBODY),
                "compare externalAccountId, and answer 404 where it is another's",
            ),
        ] {
            let seen = self
                .question(&filled(template, &stranger), signer, now)
                .await?;
            checks.push(match seen.status {
                400..=499 => Check::pass(check, format!("refused with {}", seen.status)),
                status => Check::warn(check, format!("answered {status}"), fix),
            });
        }
        Ok(checks)
    }
}

/// Whether a URL without `%s` is one that HubSpot asks, and not a recording's own.
fn is_question(url: &str, seen: &Seen, answer: &Value) -> bool {
    let is_json = seen
        .field(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.contains("json"));
    answer.get("authenticatedUrl").is_some()
        || url.contains("externalAccountId=")
        || seen.status == 200 && is_json
}

/// What lies at the bottom of an error: the certificate's fault, the refused connection.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn registrable(template: &str) -> Result<Vec<Check>, Broken> {
    let tls = tls("resolver TLS", template)?;
    // On this machine the scheme may be another; all else is what HubSpot asks for.
    let https = match template.strip_prefix("http://") {
        Some(rest) if tls.grade == super::Grade::Pass => format!("https://{rest}"),
        _ => template.to_owned(),
    };
    let url = match wire::check_registrable(&https) {
        Ok(()) => Check::pass("registered URL", "a full URL with %s once"),
        Err(error) => Check::fail(
            "registered URL",
            error.to_string(),
            "register a full https:// URL with %s: tonearm hubspot register",
        ),
    };
    Ok(vec![tls, url])
}

fn answered(seen: &Seen, answer: &Value) -> (Check, Option<String>) {
    const CHECK: &str = "resolver";
    let fail = |saw: String, fix: &str| (Check::fail(CHECK, saw, fix), None);
    if seen.status != 200 {
        return fail(
            format!("answered {}", seen.status_line()),
            match seen.status {
                300..=399 => {
                    "answer the question itself: nothing says that HubSpot follows redirects"
                }
                401 | 403 => {
                    "it wants something HubSpot may not send; nothing is published of a signature on this question"
                }
                404 => {
                    "there is no such recording, or no such path: compare it with the registered URL"
                }
                429 => "too many questions: raise the limit for HubSpot's addresses",
                _ => "answer 200 with {\"authenticatedUrl\": \"https://...\"}",
            },
        );
    }
    let Some(url) = answer.get("authenticatedUrl").and_then(Value::as_str) else {
        return fail(
            "200 without authenticatedUrl".to_owned(),
            "answer {\"authenticatedUrl\": \"https://...\"} as JSON",
        );
    };
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return fail(
            "authenticatedUrl is no full URL".to_owned(),
            "give the whole URL, with https://",
        );
    }
    let kind = seen.field(header::CONTENT_TYPE).unwrap_or("none");
    let check = if kind.contains("json") {
        Check::pass(CHECK, "200 with an authenticatedUrl")
    } else {
        Check::warn(
            CHECK,
            format!("200 with an authenticatedUrl, as Content-Type {kind}"),
            "send Content-Type: application/json",
        )
    };
    (check, Some(url.to_owned()))
}
