use std::time::Duration;

use super::*;

const EPOCH: SystemTime = UNIX_EPOCH;

/// The least that is told.
fn least() -> Told<'static> {
    Told {
        peer: "192.0.2.10:49152".parse().unwrap(),
        client: None,
        method: &Method::GET,
        route: "none",
        path: "/",
        status: 404,
        reason: None,
        range: None,
        token: None,
        request_id: None,
        trace_id: None,
        promised: 0,
        sent: 0,
        outcome: "complete",
        micros: 7,
    }
}

/// The most.
fn most() -> Told<'static> {
    Told {
        peer: "[2001:db8::1]:65535".parse().unwrap(),
        client: Some("203.0.113.7".parse().unwrap()),
        method: &Method::HEAD,
        route: "media",
        path: "/media/app-101/test-account-01/test-call-01.wav",
        status: 206,
        reason: Some("bad_signature"),
        range: Some("single"),
        token: Some(Token {
            kid: "k26a",
            exp: UnixTime(1_767_229_200),
            options: "",
            mac: "0a1b2c3d",
        }),
        request_id: Some("Root=1-67891233;~"),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
        promised: u64::MAX,
        sent: 65_536,
        outcome: "aborted",
        micros: 12_345_678,
    }
}

fn line(told: &Told<'_>, shape: Shape, now: SystemTime) -> String {
    Paper::blank().line(told, shape, now).to_owned()
}

#[test]
fn every_field_stands_in_its_place_and_what_is_not_there_is_absent() {
    let now = EPOCH + Duration::from_micros(1_767_225_600_000_042);
    assert_eq!(
        line(&least(), Shape::Text, now),
        "2026-01-01T00:00:00.000042Z  INFO tonearm::access: peer=192.0.2.10:49152 method=GET \
         route=\"none\" path=\"/\" status=404 promised=0 sent=0 outcome=\"complete\" micros=7\n"
    );
    assert_eq!(
        line(&most(), Shape::Text, now),
        "2026-01-01T00:00:00.000042Z  INFO tonearm::access: peer=[2001:db8::1]:65535 \
         client=203.0.113.7 method=HEAD route=\"media\" \
         path=\"/media/app-101/test-account-01/test-call-01.wav\" status=206 \
         reason=\"bad_signature\" range=\"single\" kid=\"k26a\" exp=1767229200 options=\"\" \
         mac=\"0a1b2c3d\" request_id=\"Root=1-67891233;~\" \
         trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\" promised=18446744073709551615 sent=65536 \
         outcome=\"aborted\" micros=12345678\n"
    );
    assert_eq!(
        line(&most(), Shape::Json, now),
        "{\"timestamp\":\"2026-01-01T00:00:00.000042Z\",\"level\":\"INFO\",\
         \"peer\":\"[2001:db8::1]:65535\",\"client\":\"203.0.113.7\",\"method\":\"HEAD\",\
         \"route\":\"media\",\"path\":\"/media/app-101/test-account-01/test-call-01.wav\",\
         \"status\":206,\"reason\":\"bad_signature\",\"range\":\"single\",\"kid\":\"k26a\",\
         \"exp\":1767229200,\"options\":\"\",\"mac\":\"0a1b2c3d\",\
         \"request_id\":\"Root=1-67891233;~\",\
         \"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"promised\":18446744073709551615,\
         \"sent\":65536,\"outcome\":\"aborted\",\"micros\":12345678,\
         \"target\":\"tonearm::access\"}\n"
    );
}

#[test]
fn the_time_is_told_to_the_microsecond_and_its_second_written_anew() {
    let mut paper = Paper::blank();
    for (micros, expect) in [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (999_999, "1970-01-01T00:00:00.999999Z"),
        (1_000_000, "1970-01-01T00:00:01.000000Z"),
        (951_868_799_999_999, "2000-02-29T23:59:59.999999Z"),
        (951_868_800_000_000, "2000-03-01T00:00:00.000000Z"),
        (253_370_764_800_000_010, "9999-01-01T00:00:00.000010Z"),
        // The clock was set back.
        (1_000_001, "1970-01-01T00:00:01.000001Z"),
    ] {
        let now = EPOCH + Duration::from_micros(micros);
        let line = paper.line(&least(), Shape::Text, now);
        assert_eq!(line.split(' ').next(), Some(expect));
    }
}

#[test]
fn a_line_is_taken_whole_by_whoever_tells_one_of_his_own() {
    use std::sync::{Arc, Mutex};

    let (lines, inner) = (Arc::new(Mutex::new(Vec::new())), Arc::default());
    let (kept, within): (_, Arc<Mutex<Vec<String>>>) = (Arc::clone(&lines), Arc::clone(&inner));
    let quiet = AccessLog::new(Shape::Json, move |line| {
        within.lock().unwrap().push(line.to_owned());
    });
    let log = AccessLog::new(Shape::Text, move |line| {
        quiet.tell(&most(), EPOCH);
        kept.lock().unwrap().push(line.to_owned());
    });
    log.tell(&least(), EPOCH);
    log.tell(&most(), EPOCH);
    let texts = [&least(), &most()].map(|told| line(told, Shape::Text, EPOCH));
    assert_eq!(*lines.lock().unwrap(), texts);
    let jsons = [(); 2].map(|()| line(&most(), Shape::Json, EPOCH));
    assert_eq!(*inner.lock().unwrap(), jsons);
}

/// Holds what is written by hand against what the program's log makes of the event.
#[cfg(feature = "cli")]
mod against_tracing {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn event(told: &Told<'_>, shape: Shape) -> String {
        let written = Written::default();
        let out = written.clone();
        let builder = tracing_subscriber::fmt()
            .with_writer(move || out.clone())
            .with_ansi(false);
        match shape {
            Shape::Text => {
                tracing::subscriber::with_default(builder.finish(), || told.event());
            }
            Shape::Json => {
                let subscriber = builder.json().flatten_event(true).finish();
                tracing::subscriber::with_default(subscriber, || told.event());
            }
        }
        let text = written.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    /// The same, at the beginning of time.
    fn undated(line: &str, shape: Shape) -> String {
        let at = match shape {
            Shape::Text => 0,
            Shape::Json => "{\"timestamp\":\"".len(),
        };
        let epoch = "1970-01-01T00:00:00.000000Z";
        let date = &line[at..at + epoch.len()];
        let form = |c: char| if c.is_ascii_digit() { '0' } else { c };
        let forms = [date, epoch].map(|date| date.chars().map(form).collect::<String>());
        assert_eq!(forms[0], forms[1]);
        line.replacen(date, epoch, 1)
    }

    fn assert_same(told: &Told<'_>) {
        for shape in [Shape::Text, Shape::Json] {
            let event = event(told, shape);
            let by_hand = line(told, shape, EPOCH);
            assert_eq!(by_hand, undated(&event, shape));
        }
    }

    #[test]
    fn fields_and_their_order_are_the_events() {
        assert_same(&least());
        assert_same(&most());
        let methods = ["OPTIONS", "M-SEARCH", "!#$%&'*+-.^_`|~0aZ"];
        for method in methods.map(|name| name.parse().unwrap()) {
            let method = &method;
            assert_same(&Told { method, ..least() });
        }
        for address in ["[::]:1", "[fe80::1%7]:80", "[::ffff:192.0.2.1]:80"] {
            let peer: SocketAddr = address.parse().unwrap();
            let client = Some(peer.ip());
            assert_same(&Told {
                peer,
                client,
                ..least()
            });
        }
    }

    #[test]
    fn what_is_escaped_is_escaped_alike() {
        // Each byte of ASCII between two others, and what lies beyond.
        let ascii = (0..128_u8).map(|byte| format!("/a{}b", char::from(byte)));
        let beyond = [
            "/é",
            "/e\u{301}",
            "/\u{80}",
            "/\u{2028}",
            "/\u{feff}",
            "/🎧",
            "'",
        ];
        for path in ascii.chain(beyond.map(str::to_owned)) {
            let path = path.as_str();
            let reason = Some(path);
            assert_same(&Told {
                path,
                reason,
                ..most()
            });
        }
    }
}
