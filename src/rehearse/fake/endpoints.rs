//! Each endpoint: what it takes, what it remembers, what it answers.

use http::{Method, header};
use serde_json::{Value, json};

use super::super::check;
use super::super::fault::Operation;
use super::route::Route;
use super::{ACCESS_TOKEN, Asked, Association, Call, Fake, No, Reply, answer, empty, no};
use crate::hubspot::names::ObjectType;

const FIRST_CALL: u64 = 17_591_596_434;

impl Fake {
    pub(super) fn carry_out(&mut self, route: &Route<'_>, asked: &Asked<'_>) -> Result<Reply, No> {
        if route.operation == Operation::Token {
            return token(asked);
        }
        self.authorize(route, asked)?;
        let parts: Vec<&str> = route.rest.split('/').collect();
        match (route.operation, asked.method, parts.as_slice()) {
            (Operation::Settings, method, [app, ..]) => self.settings(method, app, asked),
            (Operation::Log, ..) => self.log(asked),
            (Operation::Update, _, [call]) => self.update(call, asked),
            (Operation::Read, _, [call]) => self.read(call, asked),
            (Operation::Search, ..) => self.search(asked),
            (Operation::Associate, _, [call, _, "default", object, id]) => {
                let object = object_type(object)?;
                self.associate(call, object, id, &[object.association], 200)
            }
            (Operation::Associate, _, [call, _, object, id]) => {
                let types = check::association_types(&json(asked)?)?;
                self.associate(call, object_type(object)?, id, &types, 201)
            }
            // The guide's own.
            (Operation::Associate, _, [call, _, object, id, number]) => {
                let object = object_type(object)?;
                let named = format!("call_to_{}", object.name());
                if *number != named && number.parse() != Ok(object.association) {
                    return Err(no(
                        400,
                        "VALIDATION_ERROR",
                        format!("{number} is no association type of calls"),
                    ));
                }
                self.associate(call, object, id, &[object.association], 200)
            }
            (Operation::Ready, ..) => self.ready(asked),
            (Operation::Transcript, &Method::POST, _) => self.post_transcript(asked),
            (Operation::Transcript, method, [id]) => self.transcript(method, id),
            _ => Err(no(404, "OBJECT_NOT_FOUND", "No such endpoint")),
        }
    }

    fn settings(&mut self, method: &Method, app: &str, asked: &Asked<'_>) -> Result<Reply, No> {
        let app: u32 = app
            .parse()
            .ok()
            .filter(|app| i32::try_from(*app).is_ok())
            .ok_or_else(|| {
                no(
                    400,
                    "VALIDATION_ERROR",
                    format!("{app} is not a valid app id: INVALID_INTEGER"),
                )
            })?;
        let there = self.settings.contains_key(&app);
        if *method != Method::GET {
            let url = check::recording_url(&json(asked)?)?;
            match (method, there) {
                (&Method::POST, true) => {
                    return Err(no(
                        409,
                        "CONFLICT",
                        "Recording settings already exist for this app",
                    ));
                }
                (&Method::PATCH, false) => {
                    return Err(no(
                        404,
                        "OBJECT_NOT_FOUND",
                        "No recording settings for this app",
                    ));
                }
                _ => self.settings.insert(app, url),
            };
        }
        match self.settings.get(&app) {
            Some(url) => Ok(answer(200, json!({ "urlToRetrieveAuthedRecording": url }))),
            None => Err(no(
                404,
                "OBJECT_NOT_FOUND",
                "No recording settings for this app",
            )),
        }
    }

    fn log(&mut self, asked: &Asked<'_>) -> Result<Reply, No> {
        let body = json(asked)?;
        let properties = check::properties(body.get("properties"), true)?;
        let associations = check::associations(body.get("associations"))?;
        for (_, id, _) in &associations {
            self.record(*id)?;
        }
        let id = self
            .calls
            .last_key_value()
            .map_or(FIRST_CALL, |(last, _)| last + 1);
        let call = Call {
            id,
            properties,
            created_at: rfc3339(asked.now_ms),
            created_ms: asked.now_ms,
        };
        let reply = answer(201, object(&call));
        self.calls.insert(id, call);
        for (object, to, number) in associations {
            self.associations.insert(Association {
                call_id: id,
                to_object_type: object,
                to_object_id: to,
                kind: number,
            });
        }
        Ok(reply)
    }

    fn update(&mut self, call: &str, asked: &Asked<'_>) -> Result<Reply, No> {
        let id = self.call(call)?;
        let properties = check::properties(json(asked)?.get("properties"), false)?;
        let call = self.calls.get_mut(&id).ok_or_else(unknown)?;
        call.properties.extend(properties);
        Ok(answer(200, object(call)))
    }

    fn read(&self, call: &str, asked: &Asked<'_>) -> Result<Reply, No> {
        let id = self.call(call)?;
        let call = self.calls.get(&id).ok_or_else(unknown)?;
        let mut body = object(call);
        if let Some(names) = asked
            .query
            .split('&')
            .find_map(|pair| pair.strip_prefix("properties="))
            && let Some(properties) = body.get_mut("properties").and_then(Value::as_object_mut)
        {
            let wanted: Vec<_> = names.split(',').collect();
            properties.retain(|name, _| wanted.contains(&name.as_str()));
        }
        Ok(answer(200, body))
    }

    fn search(&self, asked: &Asked<'_>) -> Result<Reply, No> {
        let body = json(asked)?;
        let filters = body
            .pointer("/filterGroups/0/filters")
            .and_then(Value::as_array);
        let filters =
            filters.ok_or_else(|| no(400, "VALIDATION_ERROR", "filterGroups is required"))?;
        if body
            .get("limit")
            .and_then(Value::as_u64)
            .is_some_and(|limit| limit > 200)
        {
            return Err(no(400, "VALIDATION_ERROR", "limit is at most 200"));
        }
        let lag = u64::try_from(self.options.index_lag.as_millis()).unwrap_or(u64::MAX);
        let mut results = Vec::new();
        for call in self
            .calls
            .values()
            .filter(|call| call.created_ms.saturating_add(lag) <= asked.now_ms)
        {
            let mut fits = true;
            for filter in filters {
                let text = |name: &str| filter.get(name).and_then(Value::as_str);
                let (Some(name), Some("EQ"), Some(value)) =
                    (text("propertyName"), text("operator"), text("value"))
                else {
                    return Err(no(
                        400,
                        "VALIDATION_ERROR",
                        "this rehearsal knows filters of EQ alone",
                    ));
                };
                fits &= call.properties.get(name).and_then(Value::as_str) == Some(value);
            }
            if fits {
                results.push(object(call));
            }
        }
        Ok(answer(
            200,
            json!({"total": results.len(), "results": results}),
        ))
    }

    fn associate(
        &mut self,
        call: &str,
        object: ObjectType,
        id: &str,
        types: &[u32],
        status: u16,
    ) -> Result<Reply, No> {
        let call_id = self.call(call)?;
        let to = id.parse().map_err(|_| {
            no(
                400,
                "VALIDATION_ERROR",
                format!("{id} is not a valid record id"),
            )
        })?;
        self.record(to)?;
        for number in types {
            self.associations.insert(Association {
                call_id,
                to_object_type: object.plural().to_owned(),
                to_object_id: to,
                kind: *number,
            });
        }
        Ok(answer(
            status,
            json!({"status": "COMPLETE", "results": [{"from": {"id": call_id.to_string()}, "to": {"id": id}}]}),
        ))
    }

    fn ready(&mut self, asked: &Asked<'_>) -> Result<Reply, No> {
        let id = check::engagement(&json(asked)?)?;
        let call = self.calls.get_mut(&id).ok_or_else(unknown)?;
        let missing = [
            "hs_call_app_id",
            "hs_call_external_id",
            "hs_call_external_account_id",
            "hs_call_source",
        ]
        .into_iter()
        .find(|name| !call.properties.contains_key(*name));
        if let Some(name) = missing {
            return Err(no(
                400,
                "VALIDATION_ERROR",
                format!("the recording cannot be fetched: the call has no {name}"),
            ));
        }
        // Real calls have this once their recording was taken.
        let duration = call.properties.get("hs_call_duration").cloned();
        call.properties.insert(
            "hs_call_recording_duration".to_owned(),
            duration.unwrap_or_else(|| "1".into()),
        );
        self.ready.push(id);
        Ok(empty(204))
    }

    fn post_transcript(&mut self, asked: &Asked<'_>) -> Result<Reply, No> {
        let body = json(asked)?;
        let engagement = check::engagement(&body)?;
        let call = self.calls.get_mut(&engagement).ok_or_else(unknown)?;
        let utterances = check::utterances(&body)?;
        let id = format!("{}", self.transcripts.len() + 1);
        call.properties
            .insert("hs_call_transcription_id".to_owned(), id.clone().into());
        let kept = json!({"id": id, "engagementId": engagement, "transcriptSource": "INTEGRATOR_GENERATED", "transcriptUtterances": utterances});
        self.transcripts.insert(id.clone(), kept);
        Ok(answer(200, json!({ "id": id })))
    }

    fn transcript(&mut self, method: &Method, id: &str) -> Result<Reply, No> {
        let there = self
            .transcripts
            .get(id)
            .cloned()
            .ok_or_else(|| no(404, "OBJECT_NOT_FOUND", "No such transcript"))?;
        if *method != Method::DELETE {
            return Ok(answer(200, there));
        }
        self.transcripts.remove(id);
        Ok(empty(204))
    }

    fn call(&self, id: &str) -> Result<u64, No> {
        let known = id.parse().ok().filter(|id| self.calls.contains_key(id));
        known.ok_or_else(unknown)
    }

    fn record(&self, id: u64) -> Result<(), No> {
        if self.options.records.is_empty() || self.options.records.contains(&id) {
            return Ok(());
        }
        Err(no(
            404,
            "OBJECT_NOT_FOUND",
            format!("No record with the id {id} exists"),
        ))
    }
}

fn token(asked: &Asked<'_>) -> Result<Reply, No> {
    let form = std::str::from_utf8(asked.body).unwrap_or_default();
    let has = |name: &str| {
        form.split('&').any(|pair| {
            pair.split_once('=')
                .is_some_and(|(found, value)| found == name && !value.is_empty())
        })
    };
    let is_form =
        content_type(asked).is_some_and(|kind| kind == "application/x-www-form-urlencoded");
    if !is_form
        || !has("client_id")
        || !has("client_secret")
        || !form
            .split('&')
            .any(|pair| pair == "grant_type=refresh_token")
    {
        return Err(no(
            400,
            "VALIDATION_ERROR",
            "a form of grant_type, client_id, client_secret and refresh_token is needed",
        ));
    }
    if !has("refresh_token") || form.contains("refresh_token=revoked") {
        let more = json!({"status": "BAD_REFRESH_TOKEN", "error": "invalid_grant", "error_description": "refresh token is invalid, expired or revoked"});
        return Err(No {
            more,
            ..no(
                400,
                "BAD_REFRESH_TOKEN",
                "refresh token is invalid, expired or revoked",
            )
        });
    }
    Ok(answer(
        200,
        json!({"access_token": ACCESS_TOKEN, "token_type": "bearer", "expires_in": 1800}),
    ))
}

fn content_type<'a>(asked: &Asked<'a>) -> Option<&'a str> {
    let text = asked.fields.get(header::CONTENT_TYPE)?.to_str().ok()?;
    text.split(';').next().map(str::trim)
}

fn json(asked: &Asked<'_>) -> Result<Value, No> {
    if content_type(asked) != Some("application/json") {
        return Err(no(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "the body has to be application/json",
        ));
    }
    serde_json::from_slice(asked.body).map_err(|error| {
        no(
            400,
            "VALIDATION_ERROR",
            format!("Invalid input JSON: {error}"),
        )
    })
}

fn object(call: &Call) -> Value {
    json!({
        "id": call.id.to_string(),
        "properties": call.properties,
        "createdAt": call.created_at,
        "updatedAt": call.created_at,
        "archived": false,
    })
}

fn object_type(text: &str) -> Result<ObjectType, No> {
    text.parse().map_err(|_| {
        no(
            400,
            "VALIDATION_ERROR",
            format!("Unable to infer object type from: {text}"),
        )
    })
}

fn unknown() -> No {
    no(404, "OBJECT_NOT_FOUND", "No such call")
}

fn rfc3339(ms: u64) -> String {
    let time = i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.unwrap_or_default().to_string()
}
