//! What HubSpot says of a failure, and what to do about it.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::wire::text;

/// What HubSpot says of a failure. Every field may be absent, an answer of no JSON has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What is wrong, in a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// What is wrong, in a narrower word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_category: Option<String>,
    /// What HubSpot's support asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Which limit was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_name: Option<String>,
    /// Scopes that the credentials lack.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_scopes: Vec<String>,
    /// Each thing that is wrong: its message, and its code where it has one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

impl ApiError {
    /// Reads an answer's body.
    #[must_use]
    pub fn read(status: u16, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let field = |names: &[&str]| names.iter().find_map(|name| text(body.get(name)?));
        let details: Vec<&Value> = body
            .get("errors")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .collect();
        let mut missing_scopes = Vec::new();
        for place in std::iter::once(&body).chain(details.iter().copied()) {
            missing_scopes.extend(scopes(place));
        }
        missing_scopes.dedup();
        Self {
            status,
            // The token endpoint says `error` and `error_description`.
            message: field(&["message", "error_description"]),
            category: field(&["category", "errorType", "error"]),
            sub_category: field(&["subCategory"])
                .or_else(|| text(body.get("subCategory")?.get("name")?)),
            correlation_id: field(&["correlationId", "correlation_id"]),
            policy_name: field(&["policyName"]),
            missing_scopes,
            errors: details.into_iter().filter_map(detail).collect(),
        }
    }

    /// Whether credentials, and not the request, are what is wrong.
    #[must_use]
    pub fn is_of_credentials(&self) -> bool {
        matches!(self.status, 401 | 403)
            || matches!(
                self.category.as_deref(),
                Some("invalid_grant" | "BAD_REFRESH_TOKEN")
            )
    }

    /// What to do about it.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        let says = |word: &str| {
            let all = [&self.message, &self.category, &self.sub_category];
            let texts = all.into_iter().flatten().chain(&self.errors);
            texts
                .map(|text| text.to_ascii_uppercase())
                .any(|text| text.contains(word))
        };
        if !self.missing_scopes.is_empty() {
            let scopes = self.missing_scopes.join(", ");
            return Some(format!(
                "give the app the scope {scopes}, and install it again"
            ));
        }
        if says("INVALID_GRANT") || says("BAD_REFRESH_TOKEN") {
            return Some("the account has to install the app again; then put its new refresh token into the file".to_owned());
        }
        let step = match self.status {
            401 => "the token is wrong or has expired: put a current one into the token file",
            403 => "the credentials may not do this: look at the app's scopes",
            404 => "check the ids: the call, the record or the app is not in this account",
            409 => "it is there already",
            429 => "HubSpot's limit is reached: try again later",
            400 if says("INVALID_INTEGER") => "an id has to be a number: the app id above all",
            _ => return None,
        };
        Some(step.to_owned())
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubSpot answered {}", self.status)?;
        if let Some(category) = &self.category {
            write!(f, " {category}")?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        for error in self
            .errors
            .iter()
            .filter(|error| Some(*error) != self.message.as_ref())
        {
            write!(f, "; {error}")?;
        }
        if let Some(step) = self.next_step() {
            write!(f, "; next: {step}")?;
        }
        if let Some(id) = &self.correlation_id {
            write!(f, " (correlation id {id})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ApiError {}

fn scopes(place: &Value) -> Vec<String> {
    const NAMES: [&str; 3] = ["missingScopes", "requiredGranularScopes", "requiredScopes"];
    let Some(context) = place.get("context") else {
        return Vec::new();
    };
    let listed = NAMES.iter().filter_map(|name| context.get(name));
    listed
        .flat_map(|list| match list {
            Value::Array(members) => members.iter().filter_map(text).collect(),
            other => text(other).into_iter().collect::<Vec<_>>(),
        })
        .collect()
}

fn detail(error: &Value) -> Option<String> {
    let code = error.get("code").and_then(text);
    match (error.get("message").and_then(text), code) {
        (Some(message), Some(code)) => Some(format!("{message} ({code})")),
        (message, code) => message.or(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_as_far_as_they_go() {
        let scopes = ApiError::read(
            403,
            br#"{"status":"error","message":"This app hasn't been granted all required scopes","correlationId":"c-1","category":"MISSING_SCOPES","errors":[{"message":"one","context":{"requiredGranularScopes":["crm.objects.contacts.write"]}}]}"#,
        );
        assert_eq!(scopes.missing_scopes, ["crm.objects.contacts.write"]);
        assert_eq!(
            scopes.to_string(),
            "HubSpot answered 403 MISSING_SCOPES: This app hasn't been granted all required scopes; one; next: give the app the scope crm.objects.contacts.write, and install it again (correlation id c-1)"
        );
        let grant = ApiError::read(400, br#"{"status":"BAD_REFRESH_TOKEN","message":"refresh token is invalid","error":"invalid_grant"}"#);
        assert!(grant.is_of_credentials());
        assert!(
            grant.to_string().contains("install the app again"),
            "{grant}"
        );
        for body in [
            &b""[..],
            b"<html>",
            b"[]",
            b"null",
            br#"{"message":3,"errors":{},"context":[]}"#,
        ] {
            assert_eq!(ApiError::read(502, body).status, 502);
        }
        assert_eq!(
            ApiError::read(502, b"<html>").to_string(),
            "HubSpot answered 502"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(status: u16, body: Vec<u8>) {
            let _ = ApiError::read(status, &body).to_string();
        }
    }
}
