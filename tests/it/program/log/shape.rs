//! A line of the access log to the byte: others have written parsers for it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use sha2::{Digest as _, Sha256};

use crate::harness::program::{Place, Program, ask};
use crate::harness::{OWNER, pattern};

const SECRET: &str = "0123456789abcdef";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A request's method, target and further fields, and its line behind the address, up to what is
/// told of the body's time; `key="text"` and `key=1`, as text has it.
type Case = (&'static str, String, Vec<String>, String);

/// What the line says of a URL's token with these options.
fn token(place: &Place, url: &str, options: &str) -> String {
    let explained = place.run(&["explain", "--json", url]).json();
    let mac = BASE64URL.decode(url.rsplit('.').next().unwrap()).unwrap();
    let digest = Sha256::digest(mac);
    let mac = u32::from_be_bytes(digest[..4].try_into().unwrap());
    let (kid, exp) = (&explained["token"]["kid"], &explained["token"]["exp"]);
    format!("kid={kid} exp={exp} options=\"{options}\" mac=\"{mac:08x}\"")
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases(place: &Place, program: &Program) -> Vec<Case> {
    let media = format!("/media/{OWNER}/call.wav");
    let bare = place.url("call", program, &[]);
    let rich = place.url("call", program, &["--revocable", "--filename", "A b.wav"]);
    let explained = place.run(&["explain", "--json", &rich]).json();
    let id = explained["token"]["token_id"].as_str().unwrap();
    let (plain, optioned) = (
        token(place, &bare, ""),
        token(place, &rich, &format!("da.j{id}")),
    );
    let [bare, rich] = [&bare, &rich].map(|url| program.target(url).to_owned());
    let (app, account) = OWNER.split_once('/').unwrap();
    let none = Vec::new;
    vec![
        (
            "GET",
            bare.clone(),
            none(),
            format!(
                "method=GET route=\"media\" path=\"{media}\" status=200 {plain} promised=1000 sent=1000"
            ),
        ),
        (
            "GET",
            rich.clone(),
            vec![
                "Range: bytes=10-19".into(),
                "X-Request-Id: 7f\\3\"a".into(),
                format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01"),
            ],
            format!(
                "method=GET route=\"media\" path=\"{media}\" status=206 range=\"single\" {optioned} request_id=\"7f\\\\3\\\"a\" trace_id=\"{TRACE}\" promised=10 sent=10"
            ),
        ),
        (
            "GET",
            bare.clone(),
            vec!["Range: bytes=5000-".into()],
            format!(
                "method=GET route=\"media\" path=\"{media}\" status=416 range=\"unsatisfiable\" {plain} promised=* sent=*"
            ),
        ),
        (
            "HEAD",
            bare.clone(),
            none(),
            format!(
                "method=HEAD route=\"media\" path=\"{media}\" status=200 {plain} promised=0 sent=0"
            ),
        ),
        (
            "OPTIONS",
            bare.clone(),
            none(),
            format!(
                "method=OPTIONS route=\"media\" path=\"{media}\" status=204 {plain} promised=0 sent=0"
            ),
        ),
        (
            "GET",
            bare.replace("call.wav", "cell.wav"),
            none(),
            format!(
                "method=GET route=\"media\" path=\"/media/{OWNER}/cell.wav\" status=403 reason=\"bad_signature\" {plain} promised=* sent=*"
            ),
        ),
        (
            "GET",
            format!("{bare}&{}", bare.split_once('?').unwrap().1),
            none(),
            format!(
                "method=GET route=\"media\" path=\"{media}\" status=403 reason=\"duplicate\" promised=* sent=*"
            ),
        ),
        (
            "GET",
            format!("/r/{SECRET}/none?appId={app}&externalAccountId={account}"),
            none(),
            "method=GET route=\"resolve\" path=\"/r/{secret}/none\" status=404 reason=\"unknown recording: no recording: no file of a known format\" promised=* sent=*".into(),
        ),
        (
            "GET",
            "/a\"b\\c?sig=x".into(),
            none(),
            "method=GET route=\"none\" path=\"/a\\\"b\\\\c\" status=403 reason=\"bad_path\" promised=* sent=*".into(),
        ),
        (
            "GET",
            format!("/x%3Fsig%3D{}", bare.rsplit('.').next().unwrap()),
            none(),
            "method=GET route=\"none\" path=\"/x%3Fsig%3D[redacted]\" status=403 reason=\"bad_path\" promised=* sent=*".into(),
        ),
        (
            "M-SEARCH",
            "/".into(),
            vec!["X-Forwarded-For: 2001:db8::7".into()],
            "method=M-SEARCH route=\"none\" path=\"/\" status=405 reason=\"method\" promised=* sent=*".into(),
        ),
    ]
}

/// The line as an object: what stands between names is the same.
fn as_json(text: &str) -> String {
    let mut rest = text;
    let mut json = String::new();
    while let Some((name, value)) = rest.split_once('=') {
        let mut escaped = false;
        let mut inside = false;
        let end = value.find(|c: char| {
            let ends = c == ' ' && !inside;
            inside ^= c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let (value, more) = value.split_at(end.unwrap_or(value.len()));
        let bare = matches!(name, "peer" | "client" | "method");
        let quote = if bare { "\"" } else { "" };
        json.extend([",\"", name, "\":", quote, value, quote]);
        rest = more.trim_start_matches(' ');
    }
    json
}

/// Whether a line is as the pattern, whose `*` are times, ports and lengths.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap()) else {
        return false;
    };
    for part in parts {
        let varies = |c: char| !(c.is_ascii_digit() || "-:.TZ".contains(c));
        let end = rest.find(varies).unwrap_or(rest.len());
        let Some(after) = rest[end..].strip_prefix(part).filter(|_| end > 0) else {
            return false;
        };
        rest = after;
    }
    rest.is_empty()
}

#[test]
fn lines_have_their_shape_to_the_byte() {
    for format in ["text", "json"] {
        let place = Place::new();
        place.put("call.wav", &pattern(1000));
        place.write("secret", SECRET, 0o600);
        let program = place.serve_with(
            &[],
            &[
                ("TONEARM_LOG_FORMAT", format),
                ("TONEARM_RESOLVER_SECRET_FILE", "secret"),
                ("TONEARM_RESOLVER_PATH", "/r/{secret}/%s"),
                ("TONEARM_TRUSTED_PROXIES", "127.0.0.1"),
            ],
        );
        let cases = cases(&place, &program);
        for (method, target, fields, _) in &cases {
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            ask(program.public, method, target, &fields);
        }
        let log = program.wait_log("tonearm::access", cases.len());
        let lines = log.lines().filter(|line| line.contains("tonearm::access"));
        for (line, (_, _, fields, expect)) in lines.zip(&cases) {
            let client = fields
                .iter()
                .find_map(|field| field.strip_prefix("X-Forwarded-For: "))
                .map_or(String::new(), |client| format!("client={client} "));
            let fields = format!("peer=127.0.0.1:* {client}{expect} outcome=\"complete\" micros=*");
            let pattern = match format {
                "text" => format!("*  INFO tonearm::access: {fields}"),
                _ => format!(
                    "{{\"timestamp\":\"*\",\"level\":\"INFO\"{},\"target\":\"tonearm::access\"}}",
                    as_json(&fields)
                ),
            };
            assert!(fits(&pattern, line), "\n{pattern}\n{line}");
        }
    }
}

#[test]
fn a_pattern_can_fail() {
    assert!(fits("a=* b=\"c\"", "a=2026-01-01T00:00:00.000000Z b=\"c\""));
    for line in ["a= b=\"c\"", "a=1 b=\"c\" d", "a=1 b=\"d\"", "a=x b=\"c\""] {
        assert!(!fits("a=* b=\"c\"", line), "{line}");
    }
    let json = ",\"peer\":\"1\",\"path\":\"a \\\" =\",\"sent\":2";
    assert_eq!(as_json("peer=1 path=\"a \\\" =\" sent=2"), json);
}
