//! What every store makes of changes: the same, whatever it lies in.

use std::thread::scope;

use sha2::{Digest as _, Sha256};
use tonearm::ingest;
use tonearm::recording::{EntityTag, MediaPath, MediaType, RecordingId, UnixTime};
use tonearm::store::{ChangeError, Erased, Put, Replace, Store, StoreError};

use crate::harness::{OWNER, Server, Setup, TOKEN, pattern};
use crate::wire::ingest::wav;

/// A kind of store.
pub struct Kind<'a> {
    /// One more that shares nothing but what lies there.
    pub replica: &'a dyn Fn() -> Store,
    /// Puts bytes under a name of [`OWNER`] by other means.
    pub place: &'a dyn Fn(&str, &[u8]),
    /// Every name there is, beneath the root or the prefix.
    pub names: &'a dyn Fn() -> Vec<String>,
}

const TAKEN: &str = "another recording has this id";
const ERASED: &str = "the recording was erased";
const BUSY: &str = "somebody else is bringing or changing it";
const LIMIT: u64 = 64 << 20;

pub fn suite(kind: &Kind<'_>) {
    puts(kind);
    records(kind);
    formats(kind);
    races(kind);
    large(kind);
    erasures(kind);
    holds(kind);
    journals(kind);
    cut_off(kind);
    lists(kind);
    http(kind);
    parts(kind);
    let left: Vec<_> = (kind.names)()
        .into_iter()
        .filter(|name| name.contains('+'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

pub fn id(name: &str) -> RecordingId {
    let (app, account) = OWNER.split_once('/').unwrap();
    RecordingId::new(app, account, name).unwrap()
}

fn path(name: &str, media: MediaType) -> MediaPath {
    MediaPath {
        recording: id(name),
        media,
    }
}

pub fn put_as(
    store: &Store,
    path: &MediaPath,
    bytes: &[u8],
    replace: &Replace,
) -> Result<Put, ChangeError> {
    let mut incoming = store.begin(LIMIT)?;
    for part in bytes.chunks(1 << 20) {
        incoming.write(part)?;
    }
    incoming.put(path, replace, Some(serde_json::json!({"channels": 2})))
}

pub fn word(put: Result<Put, ChangeError>) -> String {
    match put {
        Ok(put) => format!("{:?}", put.done),
        Err(error) => error.to_string(),
    }
}

/// Puts a WAV, again while somebody else is at it: as a sender does.
pub fn put(store: &Store, name: &str, bytes: &[u8], replace: &Replace) -> String {
    loop {
        let word = word(put_as(store, &path(name, MediaType::Wav), bytes, replace));
        if word != BUSY {
            return word;
        }
    }
}

pub fn erase(store: &Store, name: &str) -> Result<Vec<Erased>, ChangeError> {
    store.erase(&id(name), None, "2026-01-01T00:00:00Z", |_| ())
}

impl Kind<'_> {
    /// A server that takes recordings in.
    fn server(&self) -> Server {
        Server::with(Setup {
            store: Some((self.replica)()),
            ingest: Some(ingest::Settings::default()),
            ..Setup::default()
        })
    }

    /// The names of a recording and its record.
    fn of(&self, name: &str) -> String {
        let mut found: Vec<_> = (self.names)()
            .into_iter()
            .filter_map(|key| {
                key.strip_prefix(&format!("{OWNER}/{name}."))
                    .map(str::to_owned)
            })
            .collect();
        found.sort();
        found.join(" ")
    }
}

fn puts(kind: &Kind<'_>) {
    let (one, other) = ((kind.replica)(), (kind.replica)());
    let tag = |bytes: &str| EntityTag::from_sha256(&Sha256::digest(bytes).into());
    for (name, puts) in [
        ("p1", &[("RIFF", Replace::Never, "Created")][..]),
        (
            "p2",
            &[
                ("RIFF", Replace::Never, "Created"),
                ("RIFF", Replace::Never, "Same"),
                ("RIFF", Replace::Always, "Same"),
                ("RIFF", Replace::Version(tag("other")), "Same"),
            ],
        ),
        (
            "p3",
            &[
                ("RIFF", Replace::Never, "Created"),
                ("RIFX", Replace::Never, TAKEN),
                ("RIFX", Replace::Version(tag("other")), TAKEN),
                ("RIFX", Replace::Version(tag("RIFF")), "Replaced"),
                ("RIFX", Replace::Never, "Same"),
                ("RIFF", Replace::Always, "Replaced"),
            ],
        ),
        (
            "p4",
            &[
                ("RIFF", Replace::Version(tag("RIFF")), TAKEN),
                ("RIFF", Replace::Always, "Created"),
            ],
        ),
        ("p5", &[("", Replace::Never, "Created")]),
    ] {
        for (turn, (bytes, replace, expect)) in puts.iter().enumerate() {
            let store = if turn % 2 == 0 { &one } else { &other };
            let (before, _) = store.present(&id(name)).unwrap();
            assert_eq!(
                put(store, name, bytes.as_bytes(), replace),
                *expect,
                "{name} {turn}"
            );
            let (there, _) = store.present(&id(name)).unwrap();
            if *expect == TAKEN {
                let [there, before] =
                    [there.first(), before.first()].map(|file| file.map(|file| &file.etag));
                assert_eq!(there, before, "{name} {turn}");
            } else {
                assert_eq!(there[0].etag, tag(bytes), "{name} {turn}");
                assert_eq!(kind.of(name), "json wav", "{name} {turn}");
            }
        }
    }
    let mut incoming = one.begin(3).unwrap();
    assert!(matches!(
        incoming.write(b"RIFF"),
        Err(ChangeError::TooLarge(3))
    ));
}

fn records(kind: &Kind<'_>) {
    let store = (kind.replica)();
    let known = r#"{"generation":7,"hubspot":{"callId":"9"},"theirs":[1,{"x":null}]}"#;
    (kind.place)("r1.json", known.as_bytes());
    assert_eq!(put(&store, "r1", b"RIFF", &Replace::Never), "Created");
    let (there, record) = (kind.replica)().present(&id("r1")).unwrap();
    let record = serde_json::to_value(record).unwrap();
    assert_eq!(record["generation"], 7);
    assert_eq!(record["hubspot"]["callId"], "9");
    assert_eq!(record["theirs"][1], serde_json::json!({"x": null}));
    assert_eq!(record["audio"]["channels"], 2);
    assert_eq!(record["file"]["size"], 4);
    assert_eq!(record["file"]["sha256"], there[0].etag.opaque());
    assert_eq!(record.get("incoming"), None);
    // What came by other means is no longer what the record was made for.
    (kind.place)("r1.wav", b"RIFX.");
    let (there, _) = store.present(&id("r1")).unwrap();
    assert_ne!(record["file"]["sha256"], there[0].etag.opaque());
    assert_eq!(put(&store, "r1", b"RIFX.", &Replace::Never), "Same");
}

fn formats(kind: &Kind<'_>) {
    let store = (kind.replica)();
    assert_eq!(put(&store, "f1", b"RIFF", &Replace::Never), "Created");
    let flac = |replace| {
        word(put_as(
            &store,
            &path("f1", MediaType::Flac),
            b"fLaC",
            &replace,
        ))
    };
    assert_eq!(flac(Replace::Never), TAKEN);
    assert_eq!(flac(Replace::Always), "Replaced");
    assert_eq!(kind.of("f1"), "flac json");
}

fn races(kind: &Kind<'_>) {
    let replicas = [(kind.replica)(), (kind.replica)()];
    let count = |words: &[String], word: &str| words.iter().filter(|found| *found == word).count();
    for round in 0..3 {
        let name = format!("race{round}");
        let words: Vec<String> = scope(|scope| {
            let puts = [0_usize, 1, 2, 3, 4, 5, 6, 7].map(|number| {
                let (store, name) = (&replicas[number / 2 % 2], &name);
                let bytes = format!("bytes {}", number % 2);
                scope.spawn(move || put(store, name, bytes.as_bytes(), &Replace::Never))
            });
            puts.map(|put| put.join().unwrap()).into()
        });
        assert_eq!(count(&words, "Created"), 1, "{words:?}");
        assert_eq!(count(&words, "Same"), 3, "{words:?}");
        assert_eq!(count(&words, TAKEN), 4, "{words:?}");
        assert_eq!(kind.of(&name), "json wav");
        // In another format each: one of them, and no trace of the others.
        let name = format!("format{round}");
        let words: Vec<String> = scope(|scope| {
            let puts = [MediaType::Wav, MediaType::Flac, MediaType::Mp3].map(|media| {
                let (store, path) = (&replicas[round % 2], path(&name, media));
                scope.spawn(move || {
                    loop {
                        let bytes = path.file_name().into_bytes();
                        let word = word(put_as(store, &path, &bytes, &Replace::Never));
                        if word != BUSY {
                            return word;
                        }
                    }
                })
            });
            puts.map(|put| put.join().unwrap()).into()
        });
        assert_eq!(count(&words, "Created"), 1, "{words:?}");
        assert_eq!(count(&words, TAKEN), 2, "{words:?}");
        assert_eq!(kind.of(&name).split(' ').count(), 2, "{}", kind.of(&name));
        // An erasure among puts: what is there behind it is nothing.
        let name = format!("gone{round}");
        assert_eq!(
            put(&replicas[0], &name, b"RIFF", &Replace::Never),
            "Created"
        );
        let words: Vec<String> = scope(|scope| {
            let puts = [0_usize, 1].map(|number| {
                let (store, name) = (&replicas[number], &name);
                scope.spawn(move || put(store, name, &[b'0'; 9], &Replace::Always))
            });
            while matches!(erase(&replicas[1], &name), Err(ChangeError::Busy)) {}
            puts.map(|put| put.join().unwrap()).into()
        });
        assert_eq!(kind.of(&name), "json", "{words:?}");
        assert_eq!(put(&replicas[0], &name, b"RIFF", &Replace::Always), ERASED);
    }
}

/// More than one request puts.
fn large(kind: &Kind<'_>) {
    let store = (kind.replica)();
    let (first, second) = (pattern(12_000_000), pattern(11_000_001));
    assert_eq!(put(&store, "big", &first, &Replace::Never), "Created");
    assert_eq!(put(&store, "big", &first, &Replace::Never), "Same");
    assert_eq!(put(&store, "big", &second, &Replace::Never), TAKEN);
    assert_eq!(put(&store, "big", &second, &Replace::Always), "Replaced");
    let mut file = store.file(&path("big", MediaType::Wav)).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    assert!(bytes == second);
    let (there, _) = store.present(&id("big")).unwrap();
    assert_eq!(
        there[0].etag,
        EntityTag::from_sha256(&Sha256::digest(&second).into())
    );
}

fn erasures(kind: &Kind<'_>) {
    let (store, other) = ((kind.replica)(), (kind.replica)());
    let missing = erase(&store, "e1").unwrap_err();
    assert!(
        matches!(missing, ChangeError::Store(StoreError::NotFound(_))),
        "{missing}"
    );
    let known = r#"{"generation":7,"hubspot":{"callId":"9"},"theirs":1}"#;
    assert_eq!(put(&store, "e1", b"RIFF", &Replace::Never), "Created");
    (kind.place)("e1.json", known.as_bytes());
    (kind.place)("e1.mp3", b"another");
    let mut told = Vec::new();
    let audit = |file: &Erased| told.push(file.clone());
    let erased = store.erase(&id("e1"), None, "2026-01-01T00:00:00Z", audit);
    let erased = erased.unwrap();
    assert_eq!((told, erased.len()), (erased.clone(), 2));
    let digest: String = Sha256::digest("RIFF")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!((erased[0].length, &erased[0].sha256), (4, &digest));
    assert_eq!(kind.of("e1"), "json");
    let (there, record) = other.present(&id("e1")).unwrap();
    assert!(there.is_empty());
    let left = serde_json::json!({"generation": 7, "erased_at": "2026-01-01T00:00:00Z"});
    assert_eq!(serde_json::to_value(record).unwrap(), left);
    // Again, and a file that came back by other means.
    assert_eq!(erase(&other, "e1").unwrap(), []);
    (kind.place)("e1.wav", b"back");
    assert_eq!(put(&store, "e1", b"RIFF", &Replace::Always), ERASED);
    assert!(store.present(&id("e1")).unwrap().0.is_empty());
    assert_eq!(erase(&store, "e1").unwrap().len(), 1);
    // The young are spared.
    assert_eq!(put(&store, "e2", b"RIFF", &Replace::Never), "Created");
    let modified = store.present(&id("e2")).unwrap().0[0].modified.unwrap();
    for (before, spared) in [(modified.0, true), (modified.0 + 1, false)] {
        let erased = store.erase(
            &id("e2"),
            Some(UnixTime(before)),
            "2026-01-01T00:00:00Z",
            |_| (),
        );
        assert_eq!(
            matches!(erased, Err(ChangeError::Young)),
            spared,
            "{before}"
        );
    }
}

fn holds(kind: &Kind<'_>) {
    let (store, other) = ((kind.replica)(), (kind.replica)());
    assert!(store.hold(&id("h1"), true).is_err());
    assert_eq!(put(&store, "h1", b"RIFF", &Replace::Never), "Created");
    store.hold(&id("h1"), true).unwrap();
    assert!(matches!(erase(&other, "h1"), Err(ChangeError::Held)));
    let held = "the recording is under legal hold";
    assert_eq!(put(&other, "h1", b"RIFX", &Replace::Always), held);
    assert_eq!(put(&other, "h1", b"RIFF", &Replace::Always), "Same");
    assert!(store.present(&id("h1")).unwrap().1.legal_hold);
    other.hold(&id("h1"), false).unwrap();
    assert_eq!(erase(&store, "h1").unwrap().len(), 1);
    assert!(store.hold(&id("h1"), true).is_err());
}

/// Of two who read the same of HubSpot, one may go on.
fn journals(kind: &Kind<'_>) {
    let replicas = [(kind.replica)(), (kind.replica)()];
    assert_eq!(put(&replicas[0], "j1", b"RIFF", &Replace::Never), "Created");
    let mut was = None;
    for round in 0..4 {
        // They write the very same, as two do that begin in the same second.
        let next = serde_json::json!({"log": {"begun": round}});
        let kept = scope(|scope| {
            let (was, next) = (&was, &next);
            let both = replicas
                .each_ref()
                .map(|store| scope.spawn(move || store.remember(&id("j1"), was.as_ref(), next)));
            both.map(|one| one.join().unwrap())
        });
        let busy = kept
            .iter()
            .filter(|kept| matches!(kept, Err(ChangeError::Busy)))
            .count();
        let ok = kept.iter().filter(|kept| kept.is_ok()).count();
        assert_eq!((ok, busy), (1, 1), "{kept:?}");
        was = Some(next);
    }
    let (there, record) = replicas[0].present(&id("j1")).unwrap();
    assert_eq!(record.hubspot, was);
    assert_eq!(
        there[0].etag,
        EntityTag::from_sha256(&Sha256::digest("RIFF").into())
    );
}

/// What a killed process leaves is gone on with by the same put.
fn cut_off(kind: &Kind<'_>) {
    let store = (kind.replica)();
    (kind.place)("c1.wav", b"RIFF");
    assert_eq!(put(&store, "c1", b"RIFX", &Replace::Never), TAKEN);
    assert_eq!(put(&store, "c1", b"RIFF", &Replace::Never), "Same");
    assert!(store.present(&id("c1")).unwrap().1.file.is_some());
    // Behind the record, before the former format is gone.
    (kind.place)("c1.mp3", b"old");
    assert_eq!(put(&store, "c1", b"RIFF", &Replace::Never), "Same");
    assert_eq!(kind.of("c1"), "json mp3 wav");
    assert_eq!(put(&store, "c1", b"RIFF", &Replace::Always), "Same");
    assert_eq!(kind.of("c1"), "json wav");
    assert_eq!(store.sweep(UnixTime(0)).unwrap(), 0);
}

fn lists(kind: &Kind<'_>) {
    let store = (kind.replica)();
    // By name, and whatever stands between its files, each once.
    let by_hand = ["l-m.wav", "l.flac", "l.m.wav", "l.wav", "lm.wav"];
    for name in by_hand {
        (kind.place)(name, b"RIFF");
    }
    let (mut ids, mut listed) = (Vec::new(), Vec::new());
    let visit = |path: MediaPath| {
        listed.extend(Some(path.file_name()).filter(|name| by_hand.contains(&&**name)));
        ids.push(path.recording);
    };
    store.each(visit).unwrap();
    assert_eq!(listed, ["l-m.wav", "l.flac", "l.m.wav", "lm.wav"]);
    let all = store.all().unwrap();
    for name in ["p1", "c1", "big"] {
        let there = |found: &RecordingId| *found == id(name);
        assert_eq!(ids.iter().filter(|id| there(id)).count(), 1, "{name}");
        assert_eq!(
            all.iter().filter(|path| there(&path.recording)).count(),
            1,
            "{name}"
        );
    }
    assert!(!ids.contains(&id("e1")));
}

/// The same over HTTP: from a sender to a listener.
fn http(kind: &Kind<'_>) {
    let (server, replica) = (kind.server(), kind.server());
    let target = format!("/api/v1/recordings/{OWNER}/http");
    let bring = |server: &Server, fields: &[&str], bytes: &[u8]| {
        let mut client = server.connect();
        client.bring("PUT", &target, &[&[TOKEN], fields].concat(), bytes);
        client.response("PUT")
    };
    let (first, second) = (wav(300_000), wav(6_000_000));
    assert_eq!(
        bring(&server, &["Content-Digest: sha-256=:aaaa:"], &first).status,
        400
    );
    assert_eq!(bring(&server, &[], b"{\"error\":1}").status, 422);
    assert_eq!(
        bring(&server, &["Content-Type: text/html"], &first).status,
        415
    );
    assert_eq!(server.ask("GET", &target, &[TOKEN]).status, 404);
    let created = bring(&server, &["If-None-Match: *"], &first);
    assert_eq!(created.status, 201, "{created:?}");
    let etag = created.field("etag").unwrap().to_owned();
    let heard = replica.get(&replica.sign("http.wav"), &[]);
    assert!(heard.status == 200 && heard.body == first, "{heard:?}");
    assert_eq!(heard.field("etag"), Some(&*etag));
    assert_eq!(bring(&replica, &[], &first).status, 200);
    assert_eq!(bring(&replica, &["If-None-Match: *"], &first).status, 412);
    assert_eq!(bring(&replica, &[], &second).status, 409);
    let replaced = bring(&server, &[&format!("If-Match: {etag}")], &second);
    assert_eq!(replaced.status, 200, "{replaced:?}");
    let heard = server.get(&server.sign("http.wav"), &["Range: bytes=5999990-"]);
    assert!(heard.status == 206 && heard.body == second[5_999_990..]);
    assert_eq!(heard.field("etag"), replaced.field("etag"));
    let told = server.ask("GET", &target, &[TOKEN]);
    assert!(told.text().contains("\"channels\":2"), "{told:?}");
    assert_eq!(server.ask("DELETE", &target, &[TOKEN]).status, 204);
    assert_eq!(server.get(&server.sign("http.wav"), &[]).status, 410);
    assert_eq!(bring(&replica, &[], &first).status, 410);
}

/// A recording in parts, which replicas take turns with.
fn parts(kind: &Kind<'_>) {
    use crate::wire::uploads::{begin, offset, part};

    let (server, replica) = (kind.server(), kind.server());
    let bytes = wav(6_500_000);
    let upload = begin(&server, "parts", bytes.len());
    assert_eq!(offset(&replica, &upload), Some(0));
    let mut sent = 0;
    for (turn, length) in [300_001, 1, 5_800_000].into_iter().enumerate() {
        let (one, other) = if turn % 2 == 0 {
            (&server, &replica)
        } else {
            (&replica, &server)
        };
        let piece = &bytes[sent..sent + length];
        let wrong = "Upload-Checksum: sha256 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        assert_eq!(part(one, &upload, sent, &[wrong], piece).status, 460);
        assert_eq!(offset(other, &upload), Some(sent));
        let taken = part(other, &upload, sent, &[], piece);
        assert_eq!(taken.status, 204, "{taken:?}");
        // The same once more, by one that did not hear.
        assert_eq!(part(one, &upload, sent, &[], piece).status, 409);
        sent += length;
        assert_eq!(offset(one, &upload), Some(sent));
    }
    assert_eq!(server.get(&server.sign("parts.wav"), &[]).status, 404);
    let taken = part(&replica, &upload, sent, &[], &bytes[sent..]);
    assert_eq!(taken.status, 204, "{taken:?}");
    assert!(server.get(&server.sign("parts.wav"), &[]).body == bytes);
    assert_eq!(offset(&server, &upload), Some(bytes.len()));
    assert_eq!(part(&server, &upload, bytes.len(), &[], b"x").status, 413);
    let store = (kind.replica)();
    assert_eq!(store.sweep(UnixTime(0)).unwrap(), 0);
    let left = format!("+incoming/{}", upload.rsplit('/').next().unwrap());
    let pieces = || {
        (kind.names)()
            .iter()
            .filter(|name| name.starts_with(&left))
            .count()
    };
    assert_eq!(pieces(), 1);
    assert!(store.sweep(UnixTime(1 << 40)).unwrap() > 0);
    assert_eq!((pieces(), offset(&server, &upload)), (0, None));
    // What is no sound is given up; so is what nobody wants any more.
    let upload = begin(&server, "junk", 9);
    assert_eq!(part(&server, &upload, 0, &[], b"{\"not\": 1").status, 422);
    assert_eq!(offset(&server, &upload), None);
    let upload = begin(&server, "ended", 1000);
    assert_eq!(part(&server, &upload, 0, &[], &bytes[..500]).status, 204);
    assert_eq!(
        replica
            .ask("DELETE", &upload, &[TOKEN, "Tus-Resumable: 1.0.0"])
            .status,
        204
    );
    assert_eq!(part(&server, &upload, 500, &[], &bytes[..500]).status, 404);
}
