//! The JSON that goes to HubSpot, and what is read from its answers.
//!
//! What goes out is written as the documents have it. What comes back is read one field at a time,
//! every one of them optional, so that an answer that lacks or changes one still says the rest.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::names::{Direction, Disposition, Record, Status};
use crate::recording::RecordingId;

/// The most characters of `hs_call_body` that HubSpot takes (as reported by users).
pub const MAX_NOTES: usize = 65_535;

/// The property by which a call is found again.
pub const EXTERNAL_ID: &str = "hs_call_external_id";
/// Whose id that is: an app may use one id in several accounts.
pub const EXTERNAL_ACCOUNT_ID: &str = "hs_call_external_account_id";
/// The app's number.
pub const APP_ID: &str = "hs_call_app_id";
/// The transcript's id, once there is one.
pub const TRANSCRIPT_ID: &str = "hs_call_transcription_id";
/// Properties of real calls that tell that HubSpot has taken their recording.
pub const READY_SIGNS: [&str; 4] = [
    TRANSCRIPT_ID,
    "hs_call_has_transcript",
    "hs_call_transcript_audio_num_channels",
    "hs_call_recording_duration",
];

/// What a call is logged with, besides whose recording it has. What is `None` is not sent.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// `hs_timestamp`, when it took place: UTC, RFC 3339, or milliseconds since 1970.
    pub timestamp: Option<String>,
    /// `hs_call_duration`, in milliseconds.
    pub duration_ms: Option<u64>,
    /// `hs_call_status`.
    pub status: Option<Status>,
    /// `hs_call_direction`.
    pub direction: Option<Direction>,
    /// `hs_call_disposition`.
    pub disposition: Option<Disposition>,
    /// `hubspot_owner_id`: HubSpot transcribes for owners with a paid Sales or Service seat.
    pub owner: Option<u64>,
    /// `hs_call_title`.
    pub title: Option<String>,
    /// `hs_call_body`, of at most [`MAX_NOTES`] characters.
    pub notes: Option<String>,
    /// `hs_call_from_number`.
    pub from: Option<String>,
    /// `hs_call_to_number`.
    pub to: Option<String>,
}

/// A call's properties by HubSpot's names; every value is a text.
pub type Properties = BTreeMap<String, String>;

impl Details {
    /// The properties that are given.
    #[must_use]
    pub fn properties(&self) -> Properties {
        let word = |word: &str| word.to_owned();
        let all = [
            ("hs_timestamp", self.timestamp.clone()),
            (
                "hs_call_status",
                self.status.map(|status| word(status.word())),
            ),
            (
                "hs_call_duration",
                self.duration_ms.map(|ms| ms.to_string()),
            ),
            (
                "hs_call_direction",
                self.direction.map(|direction| word(direction.word())),
            ),
            (
                "hs_call_disposition",
                self.disposition.as_ref().map(|known| word(known.id())),
            ),
            (
                "hubspot_owner_id",
                self.owner.map(|owner| owner.to_string()),
            ),
            ("hs_call_title", self.title.clone()),
            ("hs_call_body", self.notes.clone()),
            ("hs_call_from_number", self.from.clone()),
            ("hs_call_to_number", self.to.clone()),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}

/// The four properties without which HubSpot does not ask for a call's recording. The only legal
/// source is `INTEGRATIONS_PLATFORM`; an app id that is no number is refused (`INVALID_INTEGER`).
#[must_use]
pub fn identity(recording: &RecordingId, app: u32) -> Properties {
    [
        ("hs_call_source", "INTEGRATIONS_PLATFORM".to_owned()),
        (APP_ID, app.to_string()),
        (EXTERNAL_ID, recording.external.to_string()),
        (EXTERNAL_ACCOUNT_ID, recording.account.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The body that creates a call. The specification wants `associations`, be there any or none.
#[must_use]
pub fn create(properties: &Properties, associations: &[Record]) -> Value {
    let associations: Vec<_> = associations
        .iter()
        .map(|to| json!({ "to": { "id": to.id.to_string() }, "types": types(HUBSPOT_DEFINED, to.object.association) }))
        .collect();
    json!({ "properties": properties, "associations": associations })
}

/// The body that changes a call.
#[must_use]
pub fn update(properties: &Properties) -> Value {
    json!({ "properties": properties })
}

/// The category of HubSpot's own association types; an account's own are `USER_DEFINED`.
pub const HUBSPOT_DEFINED: &str = "HUBSPOT_DEFINED";

/// The body that gives an association its type.
#[must_use]
pub fn types(category: &str, association: u32) -> Value {
    json!([{ "associationCategory": category, "associationTypeId": association }])
}

/// The body that looks for the calls of a recording.
#[must_use]
pub fn search(recording: &RecordingId, app: u32) -> Value {
    let equal = |property: &str, value: String| json!({ "propertyName": property, "operator": "EQ", "value": value });
    json!({
        "filterGroups": [{ "filters": [
            equal(EXTERNAL_ID, recording.external.to_string()),
            equal(EXTERNAL_ACCOUNT_ID, recording.account.to_string()),
            equal(APP_ID, app.to_string()),
        ] }],
        "properties": [EXTERNAL_ID, EXTERNAL_ACCOUNT_ID, APP_ID],
        "sorts": [],
        "limit": 10,
        "after": "0",
    })
}

/// The body that registers where recordings are asked for.
#[must_use]
pub fn recording_settings(url: &str) -> Value {
    json!({ "urlToRetrieveAuthedRecording": url })
}

/// The body that says that a call's recording can be fetched. The id is a number here, though
/// creating the call gave it as a text.
#[must_use]
pub fn ready(call: u64) -> Value {
    json!({ "engagementId": call })
}

/// One thing said, in a transcript of the app's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Utterance {
    /// By whom.
    pub speaker: Speaker,
    /// What.
    pub text: String,
    /// From when on, in milliseconds of the recording.
    pub start_time_millis: u64,
    /// Until when.
    pub end_time_millis: u64,
    /// In which language, such as `en-US`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language_code: Option<String>,
}

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speaker {
    /// The app's id for the person.
    pub id: String,
    /// The person's name.
    pub name: String,
    /// The person's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// The body that hands in a transcript.
#[must_use]
pub fn transcript(call: u64, utterances: &[Utterance]) -> Value {
    json!({ "engagementId": call, "transcriptCreateUtterances": utterances })
}

/// A URL that can be registered.
///
/// # Errors
/// What HubSpot would refuse, or would find no recording with.
pub fn check_registrable(url: &str) -> Result<(), BadUrl> {
    let rest = url.strip_prefix("https://").ok_or(BadUrl::NotHttps)?;
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains('#') {
        return Err(BadUrl::Charset);
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains(['@', '%']) {
        return Err(BadUrl::Host);
    }
    if url.matches("%s").count() != 1 {
        return Err(BadUrl::Holes);
    }
    Ok(())
}

/// Why a URL cannot be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// HubSpot wants the whole URL, and TLS.
    #[error("HubSpot takes a full URL that begins with https://")]
    NotHttps,
    /// There is no host.
    #[error("the URL has no host")]
    Host,
    /// Nowhere, or in more than one place, to put the id.
    #[error("the URL needs %s once, where HubSpot puts the externalId")]
    Holes,
    /// A byte that has to be escaped.
    #[error("the URL holds a byte that no URL has, or a fragment")]
    Charset,
}

/// Reads the id of what was created, which HubSpot writes as a text and may one day as a number.
#[must_use]
pub fn id(answer: &Value) -> Option<u64> {
    number(answer.get("id")?)
}

/// The first created of the calls that a search found: ids count up.
#[must_use]
pub fn found(answer: &Value) -> Option<u64> {
    let results = answer.get("results").and_then(Value::as_array);
    results.into_iter().flatten().filter_map(id).min()
}

/// Reads a property of a call.
#[must_use]
pub fn property(answer: &Value, name: &str) -> Option<String> {
    text(answer.get("properties")?.get(name)?)
}

/// Whether a call's properties tell that HubSpot has taken its recording.
#[must_use]
pub fn is_heard(answer: &Value) -> bool {
    let tells = |value: String| value != "false" && value != "0";
    READY_SIGNS
        .iter()
        .any(|name| property(answer, name).is_some_and(tells))
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// An access token, and how long it lasts.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The bearer token.
    pub token: String,
    /// In seconds; HubSpot's last 1800.
    pub expires_in: u64,
}

impl AccessToken {
    /// Reads the token endpoint's answer.
    #[must_use]
    pub fn read(answer: &Value) -> Option<Self> {
        let expires_in = answer.get("expires_in").and_then(number).unwrap_or(1800);
        Some(Self {
            token: text(answer.get("access_token")?)?,
            expires_in,
        })
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken(.., {} s)", self.expires_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> RecordingId {
        RecordingId::new("123", "test-account-01", "test-call-01").unwrap()
    }

    #[test]
    fn a_call_as_the_guide_has_it() {
        let details = Details {
            timestamp: Some("2021-03-17T01:32:44.872Z".to_owned()),
            duration_ms: Some(3800),
            status: Some(Status::COMPLETED),
            owner: Some(11_526_487),
            title: Some("Test v3 API".to_owned()),
            notes: Some("Decision maker out, will call back tomorrow".to_owned()),
            from: Some("(555) 555 5555".to_owned()),
            to: Some("(555) 555 5555".to_owned()),
            ..Details::default()
        };
        let mut properties = identity(&recording(), 123);
        properties.extend(details.properties());
        let expect = json!({
            "properties": {
                "hs_timestamp": "2021-03-17T01:32:44.872Z",
                "hs_call_title": "Test v3 API",
                "hubspot_owner_id": "11526487",
                "hs_call_body": "Decision maker out, will call back tomorrow",
                "hs_call_duration": "3800",
                "hs_call_from_number": "(555) 555 5555",
                "hs_call_to_number": "(555) 555 5555",
                "hs_call_source": "INTEGRATIONS_PLATFORM",
                "hs_call_status": "COMPLETED",
                "hs_call_app_id": "123",
                "hs_call_external_id": "test-call-01",
                "hs_call_external_account_id": "test-account-01"
            },
            "associations": []
        });
        assert_eq!(create(&properties, &[]), expect);
        let contact = "contact:104901".parse().unwrap();
        let types = json!([{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 194}]);
        assert_eq!(
            create(&Properties::new(), &[contact]),
            json!({"properties": {}, "associations": [{"to": {"id": "104901"}, "types": types}]})
        );
        assert_eq!(
            ready(17_591_596_434).to_string(),
            r#"{"engagementId":17591596434}"#
        );
    }

    #[test]
    fn urls_to_register() {
        for good in [
            "https://a.example/r/%s",
            "https://a.example:8443/r?id=%s&x=%20",
            "https://a.example?%s",
        ] {
            assert_eq!(check_registrable(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("http://a.example/%s", BadUrl::NotHttps),
            ("a.example/%s", BadUrl::NotHttps),
            ("https://a.example/r", BadUrl::Holes),
            ("https://a.example/%s/%s", BadUrl::Holes),
            ("https:///r/%s", BadUrl::Host),
            ("https://u@a.example/%s", BadUrl::Host),
            ("https://%s/r", BadUrl::Host),
            ("https://a.example/ %s", BadUrl::Charset),
            ("https://a.example/%s#x", BadUrl::Charset),
        ] {
            assert_eq!(check_registrable(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn answers_with_and_without_their_fields() {
        assert_eq!(id(&json!({"id": "17"})), Some(17));
        assert_eq!(id(&json!({"id": 17})), Some(17));
        for none in [
            json!({}),
            json!([]),
            json!(null),
            json!({"id": "x"}),
            json!({"id": -1}),
        ] {
            assert_eq!(id(&none), None, "{none}");
        }
        assert_eq!(
            found(&json!({"total": 2, "results": [{"id": "3"}, {}, {"id": 1}]})),
            Some(1)
        );
        assert_eq!(found(&json!({"results": null})), None);
        let token = AccessToken::read(&json!({"access_token": "t", "expires_in": 60})).unwrap();
        assert_eq!((token.token.as_str(), token.expires_in), ("t", 60));
        assert!(!format!("{token:?}").contains("\"t\""));
        assert_eq!(AccessToken::read(&json!({"token_type": "bearer"})), None);
    }
}
