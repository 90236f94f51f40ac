//! Method and path to an endpoint, in every version of the API.

use http::Method;

use super::super::fault::Operation;

/// Which endpoint, and what is left of its path.
pub(super) struct Route<'a> {
    pub(super) operation: Operation,
    pub(super) rest: &'a str,
}

impl<'a> Route<'a> {
    pub(super) fn of(method: &Method, path: &'a str) -> Option<Self> {
        let to = |operation, rest| Some(Self { operation, rest });
        if *method == Method::POST && matches!(path, "/oauth/v1/token" | "/oauth/2026-03/token") {
            return to(Operation::Token, "");
        }
        if let Some(rest) = versioned(
            path,
            "/crm/v3/extensions/calling/",
            "/crm/extensions/calling/",
        ) {
            return match *method {
                Method::POST if rest == "recordings/ready" => to(Operation::Ready, ""),
                Method::POST if rest == "transcripts" => to(Operation::Transcript, ""),
                Method::GET | Method::DELETE if rest.starts_with("transcripts/") => {
                    to(Operation::Transcript, rest.strip_prefix("transcripts/")?)
                }
                Method::GET | Method::POST | Method::PATCH => to(
                    Operation::Settings,
                    rest.strip_suffix("/settings/recording")?,
                ),
                _ => None,
            };
        }
        let labelled = path.strip_prefix("/crm/v4/objects/calls/");
        let rest = labelled.or_else(|| versioned(path, "/crm/v3/objects/calls", "/crm/objects/"));
        let rest = rest
            .map(|rest| rest.strip_prefix("calls").unwrap_or(rest))?
            .trim_start_matches('/');
        match *method {
            Method::PUT if rest.contains("/associations/") => to(Operation::Associate, rest),
            Method::POST if rest.is_empty() => to(Operation::Log, rest),
            Method::POST if rest == "search" => to(Operation::Search, rest),
            Method::PATCH if !rest.contains('/') => to(Operation::Update, rest),
            Method::GET if !rest.contains('/') => to(Operation::Read, rest),
            _ => None,
        }
    }
}

/// What follows a numbered path, or a dated one behind its month.
fn versioned<'a>(path: &'a str, numbered: &str, dated: &str) -> Option<&'a str> {
    path.strip_prefix(numbered).or_else(|| {
        let (month, rest) = path.strip_prefix(dated)?.split_once('/')?;
        matches!(month, "2026-03" | "2026-09").then_some(rest)
    })
}
