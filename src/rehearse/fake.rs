//! What HubSpot would answer, and what it would remember.

mod endpoints;
mod route;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderMap, Method, header};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::route::Route;
use super::check;
use super::fault::{Fault, Kind, Operation, take};

/// What the rehearsed account is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// The bearer token that opens it; `None` takes any.
    pub token: Option<String>,
    /// What that token may do.
    pub scopes: BTreeSet<String>,
    /// The ids of its records; empty has every id.
    pub records: BTreeSet<u64>,
    /// How long a new call stays out of searches.
    pub index_lag: Duration,
    /// Requests in ten seconds.
    pub limit: usize,
    /// What goes wrong, from the first request on.
    pub faults: Vec<Fault>,
}

impl Options {
    /// The scopes that everything here takes.
    pub const SCOPES: [&'static str; 6] = [
        "crm.objects.contacts.read",
        "crm.objects.contacts.write",
        "crm.extensions_calling_transcripts.read",
        "crm.extensions_calling_transcripts.write",
        "developers-read",
        "developers-write",
    ];
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: None,
            scopes: Self::SCOPES.map(str::to_owned).into(),
            records: BTreeSet::new(),
            index_lag: Duration::ZERO,
            limit: 190,
            faults: Vec::new(),
        }
    }
}

/// A request as it came.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) fields: &'a HeaderMap,
    pub(super) body: &'a [u8],
    /// Milliseconds since 1970.
    pub(super) now_ms: u64,
}

/// What goes back.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Answer {
        status: u16,
        fields: Vec<(&'static str, String)>,
        body: Option<Value>,
    },
    Cut,
    Hold,
}

fn answer(status: u16, body: Value) -> Reply {
    Reply::Answer {
        status,
        fields: Vec::new(),
        body: Some(body),
    }
}

const fn empty(status: u16) -> Reply {
    Reply::Answer {
        status,
        fields: Vec::new(),
        body: None,
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    id: u64,
    properties: Map<String, Value>,
    created_at: String,
    #[serde(skip)]
    created_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Association {
    call_id: u64,
    to_object_type: String,
    to_object_id: u64,
    #[serde(rename = "associationTypeId")]
    kind: u32,
}

#[derive(Debug, Serialize)]
struct Seen {
    request: String,
    status: Option<u16>,
}

/// The rehearsed HubSpot.
#[derive(Debug, Default)]
pub(super) struct Fake {
    options: Options,
    settings: BTreeMap<u32, String>,
    calls: BTreeMap<u64, Call>,
    associations: BTreeSet<Association>,
    /// Every time a recording was said to be ready.
    ready: Vec<u64>,
    transcripts: BTreeMap<String, Value>,
    requests: Vec<Seen>,
    /// When the requests of the last ten seconds came.
    lately: VecDeque<u64>,
    searches: VecDeque<u64>,
    correlation: u64,
}

/// A request that is not carried out.
struct No {
    status: u16,
    category: &'static str,
    message: String,
    more: Value,
}

fn no(status: u16, category: &'static str, message: impl Into<String>) -> No {
    No {
        status,
        category,
        message: message.into(),
        more: json!({}),
    }
}

impl From<Vec<check::Fault>> for No {
    fn from(faults: Vec<check::Fault>) -> Self {
        let details: Vec<_> = faults
            .iter()
            .map(|fault| json!({"message": fault.message, "code": fault.code, "in": fault.name, "context": {"propertyName": [fault.name]}}))
            .collect();
        let mut message = "Property values were not valid:".to_owned();
        for fault in &faults {
            // Writing to a String cannot fail.
            let _ = write!(
                message,
                " [{} {}: {}]",
                fault.name, fault.code, fault.message
            );
        }
        Self {
            more: json!({"errors": details}),
            ..no(400, "VALIDATION_ERROR", message)
        }
    }
}

const WINDOW_MS: u64 = 10_000;
const CONTACTS_READ: &str = "crm.objects.contacts.read";
const CONTACTS_WRITE: &str = "crm.objects.contacts.write";
const ACCESS_TOKEN: &str = "rehearsed-access-token";

impl Fake {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// Everything it knows.
    pub(super) fn state(&self) -> Value {
        json!({
            "settings": self.settings,
            "calls": self.calls.values().collect::<Vec<_>>(),
            "associations": self.associations,
            "ready": self.ready,
            "transcripts": self.transcripts,
            "requests": self.requests,
        })
    }

    pub(super) fn add_faults(&mut self, faults: Vec<Fault>) {
        self.options.faults.extend(faults);
    }

    /// Answers one request.
    pub(super) fn ask(&mut self, asked: &Asked<'_>) -> Reply {
        let route = Route::of(asked.method, asked.path);
        let fault = route
            .as_ref()
            .and_then(|route| take(&mut self.options.faults, route.operation));
        let reply = match fault {
            Some(fault) => {
                if fault.acted {
                    self.act(route, asked);
                }
                self.fail(fault.kind)
            }
            None => self.act(route, asked),
        };
        let status = if let Reply::Answer { status, .. } = &reply {
            Some(*status)
        } else {
            None
        };
        self.requests.push(Seen {
            request: format!("{} {}", asked.method, asked.path),
            status,
        });
        reply
    }

    fn act(&mut self, route: Option<Route<'_>>, asked: &Asked<'_>) -> Reply {
        let searching = matches!(
            &route,
            Some(Route {
                operation: Operation::Search,
                ..
            })
        );
        let done = self
            .limited(searching, asked.now_ms)
            .and_then(|()| match route {
                Some(route) => self.carry_out(&route, asked),
                None => Err(no(404, "OBJECT_NOT_FOUND", "No such endpoint")),
            });
        let mut reply = done.unwrap_or_else(|no| self.refuse(&no));
        // Searches answer without these.
        if let (Reply::Answer { fields, .. }, false) = (&mut reply, searching) {
            let left = self.options.limit.saturating_sub(self.lately.len());
            fields.extend([
                ("x-hubspot-ratelimit-max", self.options.limit.to_string()),
                ("x-hubspot-ratelimit-remaining", left.to_string()),
                (
                    "x-hubspot-ratelimit-interval-milliseconds",
                    WINDOW_MS.to_string(),
                ),
                ("x-hubspot-ratelimit-daily", "250000".to_owned()),
                ("x-hubspot-ratelimit-daily-remaining", "249000".to_owned()),
            ]);
        }
        reply
    }

    fn limited(&mut self, searching: bool, now: u64) -> Result<(), No> {
        let (times, window, most) = if searching {
            (&mut self.searches, 1000, 5)
        } else {
            (&mut self.lately, WINDOW_MS, self.options.limit)
        };
        times.retain(|time| time + window > now);
        if times.len() >= most {
            return Err(no(429, "RATE_LIMITS", "You have reached your limit."));
        }
        times.push_back(now);
        Ok(())
    }

    fn fail(&mut self, kind: Kind) -> Reply {
        let status = match kind {
            Kind::Cut => return Reply::Cut,
            Kind::Hold => return Reply::Hold,
            Kind::Daily => {
                let mut limit = no(429, "RATE_LIMITS", "You have reached your daily limit.");
                limit.more = json!({"policyName": "DAILY"});
                return self.refuse(&limit);
            }
            Kind::Status(status) => status,
        };
        let mut reply = self.refuse(&match status {
            401 => no(
                401,
                "EXPIRED_AUTHENTICATION",
                "The OAuth token used to make this call expired.",
            ),
            423 => no(
                423,
                "LOCKED",
                "The record is being changed by somebody else.",
            ),
            429 => no(
                429,
                "RATE_LIMITS",
                "You have reached your ten_secondly_rolling limit.",
            ),
            477 => no(
                477,
                "MIGRATION_IN_PROGRESS",
                "The account is moving to another data center.",
            ),
            status => no(status, "INTERNAL_ERROR", "internal error"),
        });
        if let Reply::Answer { fields, .. } = &mut reply {
            match status {
                429 => fields.push((
                    "x-hubspot-ratelimit-interval-milliseconds",
                    "1000".to_owned(),
                )),
                477 => fields.push(("retry-after", "1".to_owned())),
                _ => {}
            }
        }
        reply
    }

    fn refuse(&mut self, no: &No) -> Reply {
        self.correlation += 1;
        let id = format!("5e4ea25e-0000-4000-8000-{:012x}", self.correlation);
        let mut body = json!({"status": "error", "message": no.message, "correlationId": id, "category": no.category});
        if no.status == 429 {
            body = json!({
                "status": "error",
                "message": no.message,
                "errorType": "RATE_LIMIT",
                "correlationId": id,
                "policyName": "TEN_SECONDLY_ROLLING",
                "requestId": id,
            });
        }
        if let (Value::Object(body), Value::Object(more)) = (&mut body, no.more.clone()) {
            body.extend(more);
        }
        answer(no.status, body)
    }

    fn authorize(&self, route: &Route<'_>, asked: &Asked<'_>) -> Result<(), No> {
        let writes = asked.method != Method::GET;
        let of_app = route.operation == Operation::Settings;
        if of_app
            && asked.query.split('&').any(|pair| {
                pair.strip_prefix("hapikey=")
                    .is_some_and(|key| !key.is_empty())
            })
        {
            return Ok(());
        }
        let bearer = asked
            .fields
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let Some(bearer) = bearer.filter(|token| !token.is_empty()) else {
            return Err(no(
                401,
                "INVALID_AUTHENTICATION",
                "Authentication credentials not found.",
            ));
        };
        // What the token endpoint of this fake gives opens it too.
        if self
            .options
            .token
            .as_ref()
            .is_some_and(|token| token != bearer)
            && bearer != ACCESS_TOKEN
        {
            return Err(no(
                401,
                "INVALID_AUTHENTICATION",
                "Authentication credentials not found. This API supports OAuth 2.0 authentication.",
            ));
        }
        let scope = match (route.operation, writes) {
            (Operation::Settings, true) => "developers-write",
            (Operation::Settings, false) => "developers-read",
            (Operation::Transcript, true) => "crm.extensions_calling_transcripts.write",
            (Operation::Transcript, false) => "crm.extensions_calling_transcripts.read",
            (Operation::Search, _) | (_, false) => CONTACTS_READ,
            _ => CONTACTS_WRITE,
        };
        if self.options.scopes.contains(scope) {
            return Ok(());
        }
        let message = "This app hasn't been granted all required scopes to make this call.";
        Err(No {
            more: json!({"context": {"missingScopes": [scope]}}),
            ..no(403, "MISSING_SCOPES", message)
        })
    }
}

#[cfg(test)]
mod tests;
