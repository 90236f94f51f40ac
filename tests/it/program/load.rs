//! `tonearm load` against servers that are right, slow, wrong or gone.

mod chunks;
mod crowds;
mod protocols;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::has_peer;
use crate::harness::program::{Place, Ran, TONEARM, poll};

const LENGTH: usize = 300_000;

/// A request as a server of these tests sees it.
struct Asked {
    /// Requests before this one, of all connections.
    nth: usize,
    target: String,
    range: Option<(usize, usize)>,
}

type Serve = dyn Fn(&Asked, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

/// A server of this process, ended with this value.
struct Fake {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
}

impl Fake {
    fn start(
        serve: impl Fn(&Asked, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self {
            addr: listener.local_addr().unwrap(),
            stop: Arc::default(),
            served: Arc::default(),
        };
        let (stop, served) = (Arc::clone(&fake.stop), Arc::clone(&fake.served));
        let serve: Arc<Serve> = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (served, serve) = (Arc::clone(&served), Arc::clone(&serve));
                // A client that goes away is part of the tests.
                std::thread::spawn(move || connection(&stream.unwrap(), &served, &*serve).ok());
            }
        });
        fake
    }

    fn url(&self) -> String {
        format!("http://{}/a.wav", self.addr)
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
    }
}

fn connection(stream: &TcpStream, served: &AtomicUsize, serve: &Serve) -> std::io::Result<()> {
    // Or the last packet of each answer waits 40 ms for an acknowledgement.
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next() {
        let line = line?;
        let target = line.split(' ').nth(1).unwrap().to_owned();
        let mut range = None;
        for field in lines.by_ref() {
            let field = field?;
            if field.is_empty() {
                break;
            }
            if let Some(bytes) = field.strip_prefix("Range: bytes=") {
                let (first, last) = bytes.split_once('-').unwrap();
                let last = last.parse().unwrap_or(LENGTH - 1).min(LENGTH - 1);
                range = Some((first.parse().unwrap(), last));
            }
        }
        let nth = served.fetch_add(1, Ordering::Relaxed);
        let asked = Asked { nth, target, range };
        serve(&asked, &mut stream.try_clone()?)?;
    }
    Ok(())
}

static RECORDING: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let byte = |at: usize| u8::try_from((at * 7 + at / 256 * 13) % 256).unwrap();
    (0..LENGTH).map(byte).collect()
});

/// The right answer, changed by `spoil`: head and body.
fn answer(asked: &Asked, spoil: impl Fn(&mut String, &mut Vec<u8>)) -> Vec<u8> {
    let (mut head, mut body) = match asked.range {
        Some((first, last)) => (
            format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{LENGTH}\r\nContent-Length: {}\r\nETag: \"a\"\r\n",
                last + 1 - first
            ),
            RECORDING[first..=last].to_vec(),
        ),
        None => (
            format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\nETag: \"a\"\r\n"),
            RECORDING.clone(),
        ),
    };
    spoil(&mut head, &mut body);
    [format!("{head}\r\n").into_bytes(), body].concat()
}

fn right(asked: &Asked, stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&answer(asked, |_, _| {}))
}

/// Runs `tonearm load --json` for a moment.
fn load(place: &Place, args: &[&str]) -> Ran {
    let mut all = vec!["load", "--json"];
    if !args.contains(&"--duration") {
        all.extend(["--duration", "400ms"]);
    }
    all.extend(args);
    place.run(&all)
}

/// Runs it until `enough`, then interrupts it: what a busy machine takes longer for comes all the same.
fn load_until(place: &Place, args: &[&str], enough: impl Fn() -> bool) -> Ran {
    let all = [&["load", "--json", "--duration", "1h"], args].concat();
    let mut command = place.command(&all);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    poll("requests", || {
        (enough() || child.try_wait().unwrap().is_some()).then_some(())
    });
    let _ = kill_process(Pid::from_child(&child), Signal::INT);
    Ran::of(child.wait_with_output().unwrap())
}

fn count(ran: &Ran, kind: &str) -> u64 {
    let count = &ran.json()["sides"][0]["failures"][kind]["count"];
    count.as_u64().unwrap_or(0)
}

fn percentile(ran: &Ran, name: &str) -> f64 {
    let json = ran.json();
    let percentiles = &json["sides"][0]["first_byte"]["percentiles"];
    percentiles[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{ran:?}"))
}

#[test]
fn a_right_server_is_found_right_in_every_scenario() {
    let place = Place::new();
    place.write("a.wav", &*RECORDING, 0o644);
    let fake = Fake::start(right);
    for scenario in [
        "seek",
        "player",
        "storm",
        "download",
        "cdn",
        "seek=2,download=1",
    ] {
        for file in [&["--file", "a.wav"][..], &[]] {
            let url = fake.url();
            let mut args = vec!["--scenario", scenario, "--range-size", "20KiB", &url];
            args.extend([
                "--dwell",
                "20ms",
                "--bitrate",
                "200KiB",
                "--duration",
                "500ms",
            ]);
            args.extend(file);
            let ran = load(&place, &args);
            assert_eq!(ran.code, Some(0), "{scenario}: {ran:?}");
            let json = ran.json();
            let side = &json["sides"][0];
            let number = |key: &str| side[key].as_u64().unwrap();
            assert!(number("requests") >= 10, "{scenario}: {side}");
            assert_eq!(side["failures"].as_object().unwrap().len(), 0, "{scenario}");
            if file.is_empty() {
                assert!(number("bytes_compared") > 0, "{scenario}: {side}");
            } else {
                // What was under way at the end is read and not counted as compared.
                let most = number("bytes") - number("bytes_compared");
                assert!(most <= 8 * 300_000, "{scenario}: {side}");
            }
            let aborts = matches!(scenario, "player" | "storm");
            assert_eq!(number("aborted") > 0, aborts, "{scenario}: {side}");
        }
    }
}

#[test]
fn known_delays_give_known_percentiles() {
    // Every tenth request takes 300 ms, the others 100 ms.
    let fake = Fake::start(|asked, stream| {
        let slow = asked.nth % 10 == 9;
        std::thread::sleep(Duration::from_millis(if slow { 300 } else { 100 }));
        right(asked, stream)
    });
    let place = Place::new();
    let ran = load(
        &place,
        &["--listeners", "4", "--duration", "2s", &fake.url()],
    );
    let near = |name, least: f64| {
        let found = percentile(&ran, name);
        assert!((least..least + 0.09).contains(&found), "{name}: {found}");
    };
    near("p50", 0.1);
    near("p99", 0.3);
}

/// A server that stands still for 600 ms, once: what comes meanwhile waits.
fn stalling() -> Fake {
    let gate = Arc::new(std::sync::RwLock::new(()));
    Fake::start(move |asked, stream| {
        if asked.nth == 50 {
            let _closed = gate.write().unwrap();
            std::thread::sleep(Duration::from_millis(600));
        }
        drop(gate.read().unwrap());
        right(asked, stream)
    })
}

#[test]
fn a_stall_shows_in_the_percentiles_of_a_rate() {
    let place = Place::new();
    let fake = stalling();
    // 200 visits in 2 s, of which 60 are due while the server stands still.
    let args = ["--rate", "100", "--listeners", "4", "--duration", "2s"];
    let ran = load(&place, &[&args[..], &[&fake.url()]].concat());
    let json = ran.json();
    let counted = json["sides"][0]["first_byte"]["count"].as_u64().unwrap();
    assert!((195..=200).contains(&counted), "{ran:?}");
    // A quarter of them waited for 100 ms and more, though only four were under way.
    assert!(percentile(&ran, "p90") > 0.25, "{ran:?}");
    assert!(percentile(&ran, "max") > 0.5, "{ran:?}");
    assert!(percentile(&ran, "p50") < 0.1, "{ran:?}");
    assert!(json["sides"][0]["queued"].as_u64().unwrap() > 20, "{ran:?}");
}

#[test]
fn a_wrong_server_is_caught_however_fast() {
    type Spoil = fn(&mut String, &mut Vec<u8>);
    let place = Place::new();
    place.write("a.wav", &*RECORDING, 0o644);
    let flip: Spoil = |_, body| {
        if let Some(byte) = body.get_mut(9000) {
            *byte ^= 1;
        }
    };
    let other_range: Spoil = |head, _| *head = head.replacen("bytes 1", "bytes 2", 1);
    let other_total: Spoil = |head, _| *head = head.replace("/300000", "/300001");
    let whole: Spoil = |head, body| {
        *body = RECORDING.clone();
        *head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n");
    };
    // Both a length and chunks: RFC 9112 §6.2.
    let chunked: Spoil = |head, _| head.push_str("Transfer-Encoding: chunked\r\n");
    let long: Spoil = |_, body| body.push(b'x');
    let error: Spoil = |head, _| *head = head.replace("206 Partial Content", "503 Busy");
    let cases: [(&str, Spoil, &[&str]); 8] = [
        ("wrong bytes", flip, &["--file", "a.wav"]),
        // Without the file, the same bytes differ between two responses that hold them both.
        ("wrong bytes", flip, &[]),
        ("wrong range", other_range, &[]),
        ("wrong range", other_total, &["--file", "a.wav"]),
        ("200 for a range", whole, &[]),
        ("malformed answer", chunked, &[]),
        ("long body", long, &[]),
        ("status 503", error, &[]),
    ];
    for (kind, spoil, flags) in cases {
        // One in three is wrong; an error only where all are.
        let always = kind == "status 503";
        let fake = Fake::start(move |asked, stream| {
            if asked.nth % 3 == 2 || always {
                stream.write_all(&answer(asked, spoil))
            } else {
                right(asked, stream)
            }
        });
        let ran = load(
            &place,
            &[flags, &["--range-size", "32KiB", &fake.url()]].concat(),
        );
        assert_eq!(ran.code, Some(1), "{kind}: {ran:?}");
        assert!(count(&ran, kind) > 0, "{kind}: {ran:?}");
    }
}

#[test]
fn a_changed_tag_a_cut_body_and_another_digest_are_caught() {
    let place = Place::new();
    let fake = Fake::start(|asked, stream| {
        let tag = format!("ETag: \"{}\"", asked.nth % 7);
        stream.write_all(&answer(asked, |head, _| {
            *head = head.replace("ETag: \"a\"", &tag);
        }))
    });
    let ran = load(&place, &[&fake.url()]);
    assert!(
        ran.code == Some(1) && count(&ran, "ETag changed") > 0,
        "{ran:?}"
    );

    let fake = Fake::start(|asked, stream| {
        let all = answer(asked, |_, _| {});
        stream.write_all(&all[..all.len() - 1])?;
        Err(std::io::ErrorKind::Other.into())
    });
    let ran = load(&place, &[&fake.url()]);
    assert!(
        ran.code == Some(1) && count(&ran, "short body") > 0,
        "{ran:?}"
    );

    let fake = Fake::start(right);
    let wrong = "0".repeat(64);
    let args = ["--scenario", "download", "--sha256", &wrong, &fake.url()];
    let ran = load(&place, &args);
    assert!(
        ran.code == Some(1) && count(&ran, "wrong digest") > 0,
        "{ran:?}"
    );
}

#[test]
fn nobody_there_and_nobody_who_answers_are_counted() {
    let place = Place::new();
    let gone = Fake::start(right).url();
    let ran = poll("refused", || {
        let ran = load(&place, &[&gone]);
        (count(&ran, "refused") > 0).then_some(ran)
    });
    assert_eq!(ran.code, Some(1), "{ran:?}");
    // Listeners rest in between, or this would be a busy loop.
    assert!(count(&ran, "refused") < 200, "{ran:?}");

    // The kernel makes no connection to everybody, and sends nothing.
    let args = ["--listeners", "2", "--duration", "300ms"];
    let ran = load(&place, &[&args[..], &["http://255.255.255.255/a"]].concat());
    assert!(
        ran.code == Some(1) && count(&ran, "unreachable") > 0,
        "{ran:?}"
    );

    let hanging = Fake::start(|_, _| {
        std::thread::sleep(Duration::from_secs(5));
        Ok(())
    });
    let args = ["--timeout", "100ms", "--duration", "1s", &hanging.url()];
    let ran = load(&place, &args);
    assert!(
        ran.code == Some(1) && count(&ran, "timed out") >= 8,
        "{ran:?}"
    );
    // At a rate, those who wait at the end count with what they have waited.
    let args = ["--rate", "100", "--duration", "1s", &hanging.url()];
    let ran = load(&place, &args);
    assert!(
        ran.code == Some(1) && percentile(&ran, "p50") > 0.4,
        "{ran:?}"
    );
    assert_eq!(ran.json()["sides"][0]["unanswered"], 100, "{ran:?}");
}

#[test]
fn an_expired_url_is_renewed() {
    renewed("chain", "8KiB");
    // Less than the resolver's answer has.
    renewed("chain", "8");
    renewed("player", "8KiB");
}

fn renewed(scenario: &str, range_size: &str) {
    let questions = Arc::new(AtomicUsize::new(0));
    let asked_for = Arc::clone(&questions);
    let fake = Fake::start(move |asked, stream| {
        let addr = stream.local_addr()?;
        if asked.target.starts_with("/resolve/a?") {
            let number = questions.fetch_add(1, Ordering::Relaxed);
            let body = format!("{{\"authenticatedUrl\":\"http://{addr}/media?sig={number}\"}}");
            let length = body.len();
            return write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
            );
        }
        // Every URL dies with the next one's birth, and in the middle of a visit now and then.
        if asked.nth % 10 == 3 {
            return stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        }
        right(asked, stream)
    });
    let place = Place::new();
    let resolver = format!("http://{}/resolve/%s?appId=1", fake.addr);
    let args = [
        "--scenario",
        scenario,
        "--range-size",
        range_size,
        "--listeners",
        "1",
        "--dwell",
        "10ms",
    ];
    let ran = load(
        &place,
        &[&args[..], &["--resolver", &resolver, "--id", "a"]].concat(),
    );
    let json = ran.json();
    let side = &json["sides"][0];
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(side["renewed"].as_u64().unwrap() > 0, "{ran:?}");
    let answers = side["resolver"]["count"].as_u64().unwrap();
    let questions = u64::try_from(asked_for.load(Ordering::Relaxed)).unwrap();
    assert!(answers > 1 && answers <= questions, "{ran:?}");
    assert!(
        !ran.out.contains("sig=") && !ran.err.contains("sig="),
        "{ran:?}"
    );
}

#[test]
fn a_seed_repeats_a_run() {
    let place = Place::new();
    let targets = |seed: &str| {
        let ranges = Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = Arc::clone(&ranges);
        let fake = Fake::start(move |asked, stream| {
            kept.lock().unwrap().push(asked.range);
            right(asked, stream)
        });
        let args = ["--listeners", "1", "--seed", seed, &fake.url()];
        assert_eq!(load(&place, &args).code, Some(0));
        let ranges = ranges.lock().unwrap().clone();
        ranges[..20].to_vec()
    };
    let once = targets("5");
    assert_eq!(targets("5"), once);
    assert_ne!(targets("6"), once);
}

#[test]
fn ctrl_c_ends_it_with_the_summary_so_far() {
    let fake = Fake::start(right);
    let place = Place::new();
    let mut command = place.command(&["load", "--duration", "1h", &fake.url()]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    poll("some requests", || (fake.served() > 20).then_some(()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.out.contains(" requests in ") && ran.out.contains("first byte"),
        "{ran:?}"
    );
}

#[test]
fn a_terminal_sees_how_it_goes_on_one_line() {
    if !has_peer("script", "apt-get install bsdutils") {
        return;
    }
    let fake = Fake::start(right);
    let command = format!("{TONEARM} load --duration 2s {}", fake.url());
    let output = std::process::Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (live, summary) = text.rsplit_once("\r\x1b[K").expect(&text);
    let lines: Vec<_> = live.split("\r\x1b[K").skip(1).collect();
    assert!(lines.len() >= 2, "{text:?}");
    for line in lines {
        assert!(
            line.contains("/2 s ") && line.contains(" req/s"),
            "{line:?}"
        );
        // Cut where the terminal ends, and never broken.
        assert!(line.starts_with("\x1b[?7l") && line.ends_with("\x1b[?7h"));
        assert!(!line.contains('\n'), "{line:?}");
    }
    assert!(summary.starts_with("target: "), "{summary:?}");
}

#[test]
fn objectives_decide_the_exit_code() {
    let fake = Fake::start(|asked, stream| {
        std::thread::sleep(Duration::from_millis(10));
        right(asked, stream)
    });
    let place = Place::new();
    for (slo, code) in [("p50<5s,errors<1%", 0), ("p50<1ms", 1), ("rate>1000000", 1)] {
        let ran = load(&place, &["--slo", slo, &fake.url()]);
        assert_eq!(ran.code, Some(code), "{slo}: {ran:?}");
        let json = ran.json();
        assert_eq!(
            json["slo"].as_array().unwrap().len(),
            slo.split(',').count()
        );
        assert_eq!(json["ok"], code == 0);
    }
}

#[test]
fn two_servers_take_turns_and_their_ratio_is_given() {
    let place = Place::new();
    let fast = Fake::start(right);
    let slow = Fake::start(|asked, stream| {
        std::thread::sleep(Duration::from_millis(30));
        right(asked, stream)
    });
    let versus = format!("slow={}", slow.url());
    let args = [
        "--duration",
        "1500ms",
        "--rounds",
        "3",
        "--versus",
        &versus,
        "--report",
        "r.html",
    ];
    let ran = load(&place, &[&args[..], &[&fast.url()]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let json = ran.json();
    let ratios = json["ratios"].as_array().unwrap();
    let of = |figure: &str| {
        let ratio = ratios
            .iter()
            .find(|ratio| ratio["figure"] == figure)
            .unwrap();
        let number = |key: &str| ratio[key].as_f64().unwrap();
        (number("least"), number("median"), number("most"))
    };
    let (least, median, most) = of("requests a second");
    assert!(1.0 < least && least <= median && median <= most, "{ran:?}");
    assert!(of("p50 of the first byte").1 < 1.0, "{ran:?}");

    place.write("earlier.json", &ran.out, 0o644);
    let args = [
        "--report",
        "r.html",
        "--compare",
        "earlier.json",
        &fast.url(),
    ];
    assert_eq!(load(&place, &args).code, Some(0));
    let page = place.read("r.html");
    for needle in ["<svg", "slow, earlier", "99 %", "What one listener read"] {
        assert!(page.contains(needle), "{needle}");
    }
    for needle in ["<script", "src=", "href=", "url("] {
        assert!(
            !page.contains(needle),
            "{needle}: the page needs something else"
        );
    }
}

#[test]
fn only_this_machine_is_loaded_without_being_told_how_much() {
    let place = Place::new();
    for (args, said) in [
        (&["http://192.0.2.1/a"][..], "not on this machine"),
        (
            &["http://192.0.2.1/a", "--rate", "5"],
            "not on this machine",
        ),
        (&["ftp://127.0.0.1/a"], "only http:// and https://"),
        (&["--streams", "2", "http://127.0.0.1/a"], "--http2"),
        (&["--scenario", "chain", "http://127.0.0.1/a"], "--resolver"),
        (
            &["--scenario", "walk", "http://127.0.0.1/a"],
            "none of seek",
        ),
        (&["--slo", "p99", "http://127.0.0.1/a"], "no clause"),
        (
            &["--versus", "http://127.0.0.1/?a=b", "http://127.0.0.1/a"],
            "NAME=URL",
        ),
        (&["nonsense?sig=secret"], "is not a URL"),
        (&[], "a URL is needed"),
    ] {
        let ran = place.run(&[&["load"][..], args].concat());
        assert_eq!(ran.code, Some(2), "{args:?}: {ran:?}");
        assert!(
            ran.err.contains(said) && !ran.err.contains("secret"),
            "{args:?}: {ran:?}"
        );
    }
}

#[test]
fn tonearms_own_server_passes() {
    let place = Place::new();
    place.put("call.wav", &RECORDING);
    let program = place.serve();
    let url = place.url("call", &program, &[]);
    let resolver = format!(
        "http://{}/retrieve/authenticated/recordings/%s?appId=app-101&externalAccountId=test-account-01",
        program.public
    );
    let file = "storage/app-101/test-account-01/call.wav";
    let mix = "seek=3,storm=1,download=1,cdn=1";
    let mixed = ["--scenario", mix, "--file", file, &url];
    let chain = ["--scenario", "chain", "--resolver", &resolver, "--id"];
    let chain = [&chain[..], &["call", "--file", file]].concat();
    for protocol in [&[][..], &["--http2", "--streams", "4"]] {
        for args in [&mixed[..], &chain] {
            let ran = load(&place, &[protocol, args].concat());
            assert_eq!(ran.code, Some(0), "{TONEARM}: {ran:?}");
            assert!(
                !ran.out.contains("sig=") && !ran.err.contains("sig="),
                "{ran:?}"
            );
        }
    }
}
