//! What HubSpot would find wrong with a body.

use serde_json::{Map, Value};

use crate::hubspot::names::{Direction, Disposition, ObjectType, Status};

/// One thing that is wrong: HubSpot's code for it, and the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) message: String,
    /// The property or field.
    pub(super) name: String,
}

fn wrong(code: &'static str, name: &str, message: impl Into<String>) -> Fault {
    Fault {
        code,
        name: name.to_owned(),
        message: message.into(),
    }
}

/// What a property's value has to be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Integer,
    Time,
    Notes,
    Source,
    Status,
    Direction,
    Disposition,
}

const PROPERTIES: &[(&str, Kind)] = &[
    ("hs_timestamp", Kind::Time),
    ("hs_call_title", Kind::Text),
    ("hs_call_body", Kind::Notes),
    ("hs_call_duration", Kind::Integer),
    ("hs_call_from_number", Kind::Text),
    ("hs_call_to_number", Kind::Text),
    ("hs_call_source", Kind::Source),
    ("hs_call_status", Kind::Status),
    ("hs_call_direction", Kind::Direction),
    ("hs_call_disposition", Kind::Disposition),
    ("hs_call_app_id", Kind::Integer),
    ("hs_call_external_id", Kind::Text),
    ("hs_call_external_account_id", Kind::Text),
    ("hubspot_owner_id", Kind::Integer),
    ("hs_call_recording_url", Kind::Text),
];

/// Checks a call's properties; `new` wants those that a call cannot be without.
pub(super) fn properties(
    given: Option<&Value>,
    new: bool,
) -> Result<Map<String, Value>, Vec<Fault>> {
    let Some(Value::Object(given)) = given else {
        return Err(vec![wrong(
            "INVALID_JSON",
            "properties",
            "properties is not an object",
        )]);
    };
    let mut faults: Vec<_> = given
        .iter()
        .filter_map(|(name, value)| property(name, value))
        .collect();
    if new && !given.contains_key("hs_timestamp") {
        faults.push(wrong(
            "REQUIRED_FIELD",
            "hs_timestamp",
            "hs_timestamp is required",
        ));
    }
    if faults.is_empty() {
        Ok(given.clone())
    } else {
        Err(faults)
    }
}

fn property(name: &str, value: &Value) -> Option<Fault> {
    let Some((_, kind)) = PROPERTIES.iter().find(|(known, _)| *known == name) else {
        return Some(wrong(
            "PROPERTY_DOESNT_EXIST",
            name,
            format!("Property \"{name}\" does not exist"),
        ));
    };
    let Some(text) = value.as_str() else {
        return Some(wrong(
            "INVALID_STRING",
            name,
            format!("{name} is not a string"),
        ));
    };
    let option = |known: bool| {
        (!known).then(|| {
            wrong(
                "INVALID_OPTION",
                name,
                format!("{text} was not one of the allowed options"),
            )
        })
    };
    match kind {
        Kind::Text => None,
        Kind::Integer if text.parse::<i64>().is_ok() => None,
        Kind::Integer => Some(wrong(
            "INVALID_INTEGER",
            name,
            format!("{text} was not a valid integer."),
        )),
        Kind::Time if text.parse::<i64>().is_ok() || text.parse::<jiff::Timestamp>().is_ok() => {
            None
        }
        Kind::Time => Some(wrong(
            "INVALID_DATE",
            name,
            format!("{text} was not a valid date."),
        )),
        Kind::Notes if text.chars().count() <= 65_535 => None,
        Kind::Notes => Some(wrong(
            "INVALID_LENGTH",
            name,
            "the text is longer than 65535 characters",
        )),
        Kind::Source => option(text == "INTEGRATIONS_PLATFORM"),
        // HubSpot takes its own spelling only.
        Kind::Status => option(
            text.parse::<Status>()
                .is_ok_and(|status| status.word() == text),
        ),
        Kind::Direction => option(
            text.parse::<Direction>()
                .is_ok_and(|direction| direction.word() == text),
        ),
        Kind::Disposition => option(
            text.parse::<Disposition>()
                .is_ok_and(|known| known.id() == text),
        ),
    }
}

/// Reads the associations of a creation: which record, by which type.
pub(super) fn associations(given: Option<&Value>) -> Result<Vec<(String, u64, u32)>, Vec<Fault>> {
    let Some(Value::Array(given)) = given else {
        return Err(vec![wrong(
            "REQUIRED_FIELD",
            "associations",
            "associations is required; [] is none",
        )]);
    };
    let mut read = Vec::new();
    for association in given {
        let id = association
            .pointer("/to/id")
            .and_then(Value::as_str)
            .and_then(|id| id.parse().ok());
        let types = association.get("types").map(association_types);
        let (Some(id), Some(Ok(types))) = (id, types) else {
            return Err(vec![wrong(
                "INVALID_ASSOCIATION",
                "associations",
                "an association is {\"to\":{\"id\":\"..\"},\"types\":[..]}",
            )]);
        };
        for number in types {
            let Some(object) = ObjectType::of_association(number) else {
                let message = format!("{number} is no association type of calls");
                return Err(vec![wrong(
                    "INVALID_ASSOCIATION_TYPE",
                    "associations",
                    message,
                )]);
            };
            read.push((object.plural().to_owned(), id, number));
        }
    }
    Ok(read)
}

/// Reads `[{associationCategory, associationTypeId}]`.
pub(super) fn association_types(given: &Value) -> Result<Vec<u32>, Vec<Fault>> {
    let one = |given: &Value| {
        let category = given.get("associationCategory")?.as_str()?;
        let known = matches!(
            category,
            "HUBSPOT_DEFINED" | "USER_DEFINED" | "INTEGRATOR_DEFINED"
        );
        let number = given.get("associationTypeId")?.as_u64()?;
        u32::try_from(number).ok().filter(|_| known)
    };
    let all: Option<Vec<_>> = given
        .as_array()
        .and_then(|list| list.iter().map(one).collect());
    all.filter(|all| !all.is_empty()).ok_or_else(|| {
        vec![wrong(
            "INVALID_ASSOCIATION",
            "types",
            "an array of {associationCategory, associationTypeId} is needed",
        )]
    })
}

/// Reads the URL to register.
pub(super) fn recording_url(body: &Value) -> Result<String, Vec<Fault>> {
    const FIELD: &str = "urlToRetrieveAuthedRecording";
    let fault = |message: &str| Err(vec![wrong("INVALID_URL", FIELD, message)]);
    let Some(url) = body.get(FIELD).and_then(Value::as_str) else {
        return fault("urlToRetrieveAuthedRecording is required");
    };
    if !url.starts_with("https://") {
        return fault("urlToRetrieveAuthedRecording must be a full URL with https://");
    }
    if !url.contains("%s") {
        return fault("urlToRetrieveAuthedRecording must contain %s");
    }
    Ok(url.to_owned())
}

/// Reads `engagementId`, an int64.
pub(super) fn engagement(body: &Value) -> Result<u64, Vec<Fault>> {
    let number = body.get("engagementId").and_then(Value::as_u64);
    number.ok_or_else(|| {
        vec![wrong(
            "INVALID_LONG",
            "engagementId",
            "engagementId is a number",
        )]
    })
}

/// Checks a transcript's utterances.
pub(super) fn utterances(body: &Value) -> Result<Value, Vec<Fault>> {
    const FIELD: &str = "transcriptCreateUtterances";
    let good = |utterance: &Value| {
        let text = |pointer: &str| utterance.pointer(pointer).is_some_and(Value::is_string);
        let number = |name: &str| utterance.get(name).and_then(Value::as_u64);
        let (Some(from), Some(to)) = (number("startTimeMillis"), number("endTimeMillis")) else {
            return false;
        };
        text("/speaker/id") && text("/speaker/name") && text("/text") && from <= to
    };
    match body.get(FIELD) {
        Some(Value::Array(all)) if !all.is_empty() && all.iter().all(good) => {
            Ok(Value::Array(all.clone()))
        }
        _ => Err(vec![wrong(
            "INVALID_UTTERANCE",
            FIELD,
            "utterances have speaker.id, speaker.name, text, startTimeMillis and endTimeMillis",
        )]),
    }
}
