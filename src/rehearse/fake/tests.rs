//! The fake is as strict as HubSpot's documents, and answers as they say.

use super::*;

const TOKEN: (&str, &str) = ("authorization", "Bearer t");
const JSON: (&str, &str) = ("content-type", "application/json");

fn ask_at(
    fake: &mut Fake,
    now_ms: u64,
    request: &str,
    fields: &[(&'static str, &str)],
    body: &str,
) -> (u16, Value, Vec<(&'static str, String)>) {
    let (method, target) = request.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let fields: HeaderMap = fields
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    let asked = Asked {
        method: &method.parse().unwrap(),
        path,
        query,
        fields: &fields,
        body: body.as_bytes(),
        now_ms,
    };
    match fake.ask(&asked) {
        Reply::Answer {
            status,
            fields,
            body,
        } => (status, body.unwrap_or_default(), fields),
        other => panic!("{other:?}"),
    }
}

fn ask(fake: &mut Fake, request: &str, body: &str) -> (u16, Value) {
    let (status, body, _) = ask_at(fake, 0, request, &[TOKEN, JSON], body);
    (status, body)
}

const CALL: &str = r#"{"properties":{"hs_timestamp":"2021-03-17T01:32:44.872Z","hs_call_source":"INTEGRATIONS_PLATFORM","hs_call_app_id":"1","hs_call_external_id":"x","hs_call_external_account_id":"a"},"associations":[]}"#;
const SETTINGS: &str = "/crm/v3/extensions/calling/1/settings/recording";
const READY: &str = "POST /crm/v3/extensions/calling/recordings/ready";

#[test]
fn bodies_that_hubspot_would_refuse() {
    let url = |url: &str| format!(r#"{{"urlToRetrieveAuthedRecording":"{url}"}}"#);
    let with = |name: &str, value: &str| {
        CALL.replace(
            "\"hs_call_source\"",
            &format!("{name}:{value},\"hs_call_source\""),
        )
    };
    let (post, log) = (
        format!("POST {SETTINGS}"),
        "POST /crm/v3/objects/calls".to_owned(),
    );
    for (request, body, says) in [
        (&post, url("http://a.example/%s"), "https://"),
        (&post, url("https://a.example/"), "%s"),
        (&post, "{}".to_owned(), "is required"),
        (&"POST /crm/v3/extensions/calling/app-101/settings/recording".to_owned(), url("https://a.example/%s"), "INVALID_INTEGER"),
        (&log, "nothing".to_owned(), "Invalid input JSON"),
        (&log, "{}".to_owned(), "properties is not an object"),
        (&log, CALL.replace(",\"associations\":[]", ""), "associations is required"),
        (&log, CALL.replace("\"1\"", "\"app-101\""), "hs_call_app_id INVALID_INTEGER"),
        (&log, CALL.replace("\"1\"", "1"), "hs_call_app_id is not a string"),
        (&log, CALL.replace("INTEGRATIONS_PLATFORM", "VENDOR"), "hs_call_source INVALID_OPTION"),
        (&log, CALL.replace("hs_timestamp", "hs_call_title"), "hs_timestamp is required"),
        (&log, CALL.replace("2021-03-17T01:32:44.872Z", "yesterday"), "hs_timestamp INVALID_DATE"),
        (&log, with("\"hs_call_duration\"", "\"3.8\""), "hs_call_duration INVALID_INTEGER"),
        (&log, with("\"hs_call_status\"", "\"completed\""), "hs_call_status INVALID_OPTION"),
        (&log, with("\"hs_call_direction\"", "\"UP\""), "hs_call_direction INVALID_OPTION"),
        (&log, with("\"hs_call_disposition\"", "\"connected\""), "hs_call_disposition INVALID_OPTION"),
        (&log, with("\"hs_call_cost\"", "\"1\""), "does not exist"),
        (&log, CALL.replace("[]", r#"[{"to":{"id":"1"},"types":[]}]"#), "an association is"),
        (&log, CALL.replace("[]", r#"[{"to":{"id":"1"},"types":[{"associationCategory":"HUBSPOT_DEFINED","associationTypeId":193}]}]"#), "193 is no association type"),
        (&READY.to_owned(), r#"{"engagementId":"17591596434"}"#.to_owned(), "engagementId is a number"),
    ] {
        let (status, answer) = ask(&mut Fake::default(), request, &body);
        assert_eq!(status, 400, "{request} {body}: {answer}");
        let message = answer.to_string();
        assert!(message.contains(says), "{request} {body}: {answer}");
        for field in ["message", "category", "correlationId"] {
            assert!(answer[field].is_string(), "{answer}");
        }
    }
    let (status, ..) = ask_at(
        &mut Fake::default(),
        0,
        "POST /crm/v3/objects/calls",
        &[TOKEN],
        CALL,
    );
    assert_eq!(status, 415);
}

#[test]
fn who_may_ask() {
    let options = Options {
        token: Some("t".to_owned()),
        scopes: ["developers-read".to_owned()].into(),
        ..Options::default()
    };
    let mut fake = Fake::new(options);
    let mut status = |request: &str, fields: &[(&'static str, &str)]| {
        ask_at(&mut fake, 0, request, fields, "{}").0
    };
    let show = format!("GET {SETTINGS}");
    assert_eq!(status(&show, &[]), 401);
    assert_eq!(status(&show, &[("authorization", "Bearer other")]), 401);
    assert_eq!(status(&show, &[TOKEN]), 404);
    assert_eq!(status(&format!("{show}?hapikey=k"), &[]), 404);
    assert_eq!(status("GET /crm/v3/objects/calls/1?hapikey=k", &[]), 401);
    let (status, answer, _) = ask_at(
        &mut fake,
        0,
        "POST /crm/v3/objects/calls",
        &[TOKEN, JSON],
        CALL,
    );
    assert_eq!(
        (status, &answer["category"]),
        (403, &"MISSING_SCOPES".into())
    );
    assert_eq!(
        answer["context"]["missingScopes"],
        json!(["crm.objects.contacts.write"])
    );
}

#[test]
fn searches_lag_and_have_a_limit_of_their_own() {
    let mut fake = Fake::new(Options {
        index_lag: Duration::from_secs(2),
        limit: 3,
        ..Options::default()
    });
    let mut at =
        |now, request: &str, body: &str| ask_at(&mut fake, now, request, &[TOKEN, JSON], body);
    let (status, made, fields) = at(0, "POST /crm/objects/2026-03/calls", CALL);
    assert_eq!((status, &made["id"]), (201, &"17591596434".into()));
    assert!(
        fields.contains(&("x-hubspot-ratelimit-remaining", "2".to_owned())),
        "{fields:?}"
    );
    let search = r#"{"filterGroups":[{"filters":[{"propertyName":"hs_call_external_id","operator":"EQ","value":"x"}]}]}"#;
    for (now, total) in [(1999, 0), (2000, 1)] {
        let (status, found, fields) = at(now, "POST /crm/v3/objects/calls/search", search);
        assert_eq!(
            (status, &found["total"], fields),
            (200, &total.into(), vec![]),
            "{now}"
        );
    }
    let statuses: Vec<_> = (0..6)
        .map(|_| at(9000, "POST /crm/v3/objects/calls/search", search).0)
        .collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    let reads: Vec<_> = [9000, 9000, 9000, 10_001]
        .map(|now| at(now, "GET /crm/v3/objects/calls/17591596434", "").0)
        .into();
    assert_eq!(reads, [200, 200, 429, 200]);
    let (_, limited, fields) = at(10_001, "GET /crm/v3/objects/calls/1", "");
    assert_eq!(
        (&limited["errorType"], &limited["policyName"]),
        (&"RATE_LIMIT".into(), &"TEN_SECONDLY_ROLLING".into())
    );
    assert!(
        fields.contains(&(
            "x-hubspot-ratelimit-interval-milliseconds",
            "10000".to_owned()
        )),
        "{fields:?}"
    );
}

#[test]
fn what_was_done_is_remembered() {
    let mut fake = Fake::default();
    assert_eq!(
        ask(
            &mut fake,
            &format!("PATCH {SETTINGS}"),
            r#"{"urlToRetrieveAuthedRecording":"https://a.example/%s"}"#
        )
        .0,
        404
    );
    ask(&mut fake, "POST /crm/v3/objects/calls", CALL);
    let call = "/crm/v3/objects/calls/17591596434";
    for put in [
        format!(
            "{}/associations/default/contacts/7",
            call.replace("v3", "v4")
        ),
        format!("{call}/associations/contacts/7/194"),
        format!("{call}/associations/contacts/7/call_to_contact"),
        "/crm/objects/2026-09/calls/17591596434/associations/default/contact/7".to_owned(),
    ] {
        assert_eq!(ask(&mut fake, &format!("PUT {put}"), "").0, 200, "{put}");
    }
    assert_eq!(
        ask(
            &mut fake,
            "PUT /crm/v4/objects/calls/17591596434/associations/contacts/7",
            "[]"
        )
        .0,
        400
    );
    for (status, id) in [(204, "17591596434"), (404, "1")] {
        assert_eq!(
            ask(&mut fake, READY, &format!("{{\"engagementId\":{id}}}")).0,
            status
        );
    }
    let state = fake.state();
    let count = |name: &str| state[name].as_array().unwrap().len();
    assert_eq!(
        [count("calls"), count("associations"), count("ready")],
        [1, 1, 1],
        "{state:#}"
    );
    assert_eq!(ask(&mut fake, "GET /crm/v9/objects/calls/1", "").0, 404);
}
