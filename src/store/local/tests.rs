use std::fs;
use std::os::unix::fs::symlink;

use rustix::io::Errno;

use super::*;
use crate::sign::Refusal;
use crate::store::beneath::open_stepwise;

struct Fixture {
    _tmp: tempfile::TempDir,
    store: Local,
    outside: PathBuf,
}

/// A store with one of everything that can stand where a recording is looked for.
fn fixture() -> Fixture {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path().join("store");
    let outside = tmp.path().join("outside");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("secret.wav"), "secret").unwrap();
    let here = |name: &str| root.join("a/b").join(name);
    fs::write(here("file.wav"), "RIFF").unwrap();
    symlink("file.wav", here("link-inside.wav")).unwrap();
    symlink("../../a/b/file.wav", here("link-around.wav")).unwrap();
    symlink(outside.join("secret.wav"), here("link-absolute.wav")).unwrap();
    symlink("../../../outside/secret.wav", here("link-relative.wav")).unwrap();
    symlink("link-loop.wav", here("link-loop.wav")).unwrap();
    symlink("/proc/self/fd/0", here("link-magic.wav")).unwrap();
    symlink("nowhere.wav", here("link-dangling.wav")).unwrap();
    symlink(&outside, root.join("a/linked")).unwrap();
    fs::create_dir(here("directory.wav")).unwrap();
    let fifo = here("fifo.wav");
    rustix::fs::mkfifoat(rustix::fs::CWD, fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(here("socket.wav")).unwrap();
    let store = Local::open(&root).unwrap();
    Fixture {
        _tmp: tmp,
        store,
        outside,
    }
}

fn outcome(fixture: &Fixture, account: &str, external: &str) -> &'static str {
    let path = MediaPath {
        recording: RecordingId::new("a", account, external).unwrap(),
        media: MediaType::Wav,
    };
    match fixture
        .store
        .open_recording(&path, &Record::default(), Patience::Waits)
    {
        Ok(_) => "ok",
        Err(StoreError::NotFound(why)) => why,
        Err(error) => panic!("{external}: {error}"),
    }
}

#[test]
fn only_regular_files_beneath_the_root_are_there() {
    let fixture = fixture();
    for (external, expect) in [
        ("file", "ok"),
        ("link-inside", "ok"),
        ("link-around", "ok"),
        ("missing", "no such file"),
        ("link-dangling", "no such file"),
        ("link-absolute", "a link leads out of the store"),
        ("link-relative", "a link leads out of the store"),
        ("link-loop", "a link that is not followed"),
        ("link-magic", "a link leads out of the store"),
        ("directory", "not a regular file"),
        ("fifo", "not a regular file"),
        ("socket", "not a regular file"),
    ] {
        assert_eq!(outcome(&fixture, "b", external), expect, "{external}");
    }
    assert_eq!(
        outcome(&fixture, "linked", "secret"),
        "a link leads out of the store"
    );
    assert!(fixture.outside.join("secret.wav").exists());
}

#[test]
fn without_openat2_no_link_is_followed() {
    let fixture = fixture();
    let open = |path: &str| open_stepwise(&fixture.store.root, path, READING).map(drop);
    assert_eq!(open("a/b/file.wav"), Ok(()));
    assert_eq!(open("a/b/missing.wav"), Err(Errno::NOENT));
    for link in ["inside", "around", "absolute", "relative", "loop"] {
        assert_eq!(
            open(&format!("a/b/link-{link}.wav")),
            Err(Errno::LOOP),
            "{link}"
        );
    }
    assert_eq!(open("a/linked/secret.wav"), Err(Errno::NOTDIR));
    assert_eq!(open("a/b/fifo.wav"), Ok(()));
}

#[test]
fn a_file_has_its_names_first_format() {
    let fixture = fixture();
    let root = fixture.store.path().join("a/b");
    fs::write(root.join("call.mp3"), "mp3").unwrap();
    let id = RecordingId::new("a", "b", "call").unwrap();
    assert_eq!(fixture.store.find(&id).unwrap().path.media, MediaType::Mp3);
    fs::write(root.join("call.flac"), "flac").unwrap();
    assert_eq!(fixture.store.find(&id).unwrap().path.media, MediaType::Flac);
    let missing = RecordingId::new("a", "b", "other").unwrap();
    assert!(matches!(
        fixture.store.find(&missing),
        Err(StoreError::NotFound(_))
    ));
}

#[test]
fn records_revoke_and_remember() {
    let fixture = fixture();
    let root = fixture.store.path().join("a/b");
    let id = RecordingId::new("a", "b", "file").unwrap();
    assert_eq!(fixture.store.record(&id).unwrap(), Record::default());
    fs::write(root.join("file.json"), r#"{"generation":3}"#).unwrap();
    assert_eq!(fixture.store.find(&id).unwrap().generation, 3);
    fs::write(root.join("file.json"), "{").unwrap();
    assert!(matches!(
        fixture.store.record(&id),
        Err(StoreError::Record(_))
    ));

    let gone = RecordingId::new("a", "b", "gone").unwrap();
    fs::write(
        root.join("gone.json"),
        r#"{"erased_at":"2026-01-01T00:00:00Z"}"#,
    )
    .unwrap();
    assert!(matches!(fixture.store.find(&gone), Err(StoreError::Erased)));
    let record = fixture.store.record(&gone).unwrap();
    let path = MediaPath {
        recording: gone,
        media: MediaType::Wav,
    };
    let erased = || {
        matches!(
            fixture
                .store
                .open_recording(&path, &record, Patience::Waits),
            Err(StoreError::Erased)
        )
    };
    assert!(erased());
    fs::write(root.join("gone.wav"), "back again").unwrap();
    assert!(erased());
}

#[test]
fn what_is_no_record_is_not_taken_for_an_absent_one() {
    let fixture = fixture();
    let root = fixture.store.path().join("a/b");
    let id = RecordingId::new("a", "b", "file").unwrap();
    let fails = || fixture.store.record(&id).is_err();
    fs::create_dir(root.join("file.json")).unwrap();
    assert!(fails());
    fs::remove_dir(root.join("file.json")).unwrap();
    symlink(fixture.outside.join("secret.wav"), root.join("file.json")).unwrap();
    assert!(fails());
    fs::remove_file(root.join("file.json")).unwrap();
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("file.json"), mode).unwrap();
    assert!(fails());
}

#[test]
fn the_etag_follows_the_bytes_and_the_digest_while_it_holds() {
    let fixture = fixture();
    let file = fixture.store.path().join("a/b/file.wav");
    let path = MediaPath {
        recording: RecordingId::new("a", "b", "file").unwrap(),
        media: MediaType::Wav,
    };
    let locate = || {
        let record = fixture.store.record(&path.recording).unwrap();
        fixture
            .store
            .open_recording(&path, &record, Patience::Waits)
            .unwrap()
            .described
            .representation()
            .clone()
    };
    let first = locate();
    assert_eq!((first.length, first.sha256), (4, None));
    let version = Version::of(&rustix::fs::stat(&file).unwrap());
    let facts = format!(
        r#"{{"file":{{"size":4,"modified_ns":{},"sha256":"{}"}}}}"#,
        version.modified_ns,
        "0c".repeat(32)
    );
    fs::write(file.with_extension("json"), facts).unwrap();
    let known = locate();
    assert_eq!(known.etag.as_str(), format!("\"{}\"", "0c".repeat(32)));
    assert_eq!(known.sha256, Some([0x0c; 32]));
    fs::write(&file, "other").unwrap();
    let changed = locate();
    assert_eq!(changed.sha256, None);
    assert_ne!(changed.etag, first.etag);
}

/// Whether a recording that was located is still held open.
fn is_held(fixture: &Fixture, grant: &Grant, now: UnixTime) -> bool {
    fixture.store.held(grant.path(), now, None).is_some()
}

type Change<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn what_is_held_open_is_let_go_when_anything_changes() {
    let now = UnixTime(1_000);
    let renamed = |from: &Path, to: &Path| fs::rename(from, to).unwrap();
    let changes: [Change<'_>; 7] = [
        ("rewritten", &|file| fs::write(file, "RIFX").unwrap()),
        ("truncated", &|file| {
            let open = File::options().write(true).open(file).unwrap();
            open.set_len(1).unwrap();
        }),
        ("removed", &|file| fs::remove_file(file).unwrap()),
        ("renamed", &|file| {
            renamed(file, &file.with_extension("old"));
        }),
        ("replaced", &|file| {
            fs::write(file.with_extension("new"), "NEWS").unwrap();
            renamed(&file.with_extension("new"), file);
        }),
        ("given a record", &|file| {
            fs::write(file.with_extension("json"), "{}").unwrap();
        }),
        ("given another mode", &|file| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(file, mode).unwrap();
        }),
    ];
    for (what, change) in changes {
        let fixture = fixture();
        let grant = crate::sign::tests::grant("/media/a/b/file.wav");
        fixture.store.locate(&grant, now, Patience::Waits).unwrap();
        assert!(is_held(&fixture, &grant, now), "{what}");
        change(&fixture.store.path().join("a/b/file.wav"));
        assert!(!is_held(&fixture, &grant, now), "{what}");
    }
}

#[test]
fn a_record_that_changes_lets_its_recording_go() {
    let fixture = fixture();
    let now = UnixTime(1_000);
    let record = fixture.store.path().join("a/b/file.json");
    fs::write(&record, r#"{"generation":0}"#).unwrap();
    let grant = crate::sign::tests::grant("/media/a/b/file.wav");
    fixture.store.locate(&grant, now, Patience::Waits).unwrap();
    assert!(is_held(&fixture, &grant, now));
    fs::write(&record, r#"{"generation":1}"#).unwrap();
    assert!(!is_held(&fixture, &grant, now));
    let revoked = fixture
        .store
        .locate(&grant, now, Patience::Waits)
        .unwrap_err();
    assert!(matches!(revoked, StoreError::Refused(Refusal::Revoked)));
}

#[test]
fn nothing_is_held_for_long_without_another_look() {
    let fixture = fixture();
    let grant = crate::sign::tests::grant("/media/a/b/file.wav");
    let at = |seconds: u64| is_held(&fixture, &grant, UnixTime(1_000 + seconds));
    let locate = || {
        fixture
            .store
            .locate(&grant, UnixTime(1_000), Patience::Waits)
            .unwrap()
    };
    locate();
    assert!(at(1));
    assert!(!at(2));
    locate();
    fixture.store.tidy(UnixTime(1_001));
    assert!(at(1));
    fixture.store.tidy(UnixTime(1_002));
    assert!(!at(0));
}

#[test]
fn what_is_asked_for_is_looked_up_again_before_it_has_to_be() {
    let fixture = fixture();
    let grant = crate::sign::tests::grant("/media/a/b/file.wav");
    let held = fixture
        .store
        .locate(&grant, UnixTime(1_000), Patience::Waits)
        .unwrap();
    assert!(!held.is_to_be_renewed(UnixTime(1_000)));
    assert!(held.is_to_be_renewed(UnixTime(1_001)));
    assert!(!held.is_to_be_renewed(UnixTime(1_001)), "once is enough");
    fixture
        .store
        .renew(grant.path(), UnixTime(1_001), Patience::Waits);
    assert!(is_held(&fixture, &grant, UnixTime(1_002)));
    fs::remove_file(fixture.store.path().join("a/b/file.wav")).unwrap();
    fixture
        .store
        .renew(grant.path(), UnixTime(1_002), Patience::Waits);
    assert!(!is_held(&fixture, &grant, UnixTime(1_002)));
}

#[test]
fn a_root_that_was_removed_is_noticed() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path().join("store");
    fs::create_dir(&root).unwrap();
    let store = Local::open(&root).unwrap();
    assert!(store.check().is_ok());
    fs::remove_dir(&root).unwrap();
    assert!(matches!(store.check(), Err(StoreError::Io(_))));
}

#[test]
fn the_example_is_a_recording() {
    let fixture = fixture();
    let example = fixture.store.example().unwrap();
    assert_eq!(example.recording.app.as_str(), "a");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(Local::open(empty.path()).unwrap().example(), None);
    assert!(Local::open(&empty.path().join("none")).is_err());
}

#[test]
fn witnesses_that_agreed_are_not_asked_again_for_as_long_as_is_allowed() {
    #[expect(clippy::disallowed_methods, reason = "a beginning to count from")]
    let begin = Instant::now();
    let Fixture { _tmp, store, .. } = fixture();
    let store = store.trusting(Duration::from_millis(10));
    let (now, id) = (UnixTime(1_000), RecordingId::new("a", "b", "file").unwrap());
    let grant = crate::sign::tests::grant("/media/a/b/file.wav");
    let file = store.path().join("a/b/file.wav");
    let at = |millis| Some(begin + Duration::from_millis(millis));
    let held = |at| store.held(grant.path(), now, at).is_some();
    for (moment, trusted) in [(at(9), true), (at(10), false), (None, false)] {
        store.locate(&grant, now, Patience::Waits).unwrap();
        assert!(held(at(0)));
        fs::write(&file, format!("another {moment:?}")).unwrap();
        assert_eq!(held(moment), trusted, "{moment:?}");
    }
    // Never what was changed here.
    store.locate(&grant, now, Patience::Waits).unwrap();
    assert!(held(at(20)));
    drop(crate::store::place::Place::find(&store, &id).unwrap());
    assert!(!held(at(21)));
}

#[test]
fn what_the_kernel_has_at_hand_is_located_without_waiting() {
    let fixture = fixture();
    let now = UnixTime(1_000);
    let record = fixture.store.path().join("a/b/file.json");
    let locate = |path: &str, patience| {
        let grant = crate::sign::tests::grant(path);
        let located = fixture.store.locate(&grant, now, patience);
        located.map(|held| (held.described.representation().clone(), held.generation))
    };
    let path = "/media/a/b/file.wav";
    for text in [None, Some(""), Some("{}"), Some(r#"{"generation":0}"#)] {
        if let Some(text) = text {
            fs::write(&record, text).unwrap();
        }
        let waited = locate(path, Patience::Waits);
        let at_hand = locate(path, Patience::Never);
        assert_eq!(format!("{at_hand:?}"), format!("{waited:?}"), "{text:?}");
    }
    for path in [
        "/media/a/b/none.wav",
        "/media/a/b/link-absolute.wav",
        "/media/a/b/fifo.wav",
    ] {
        let waited = locate(path, Patience::Waits);
        let at_hand = locate(path, Patience::Never);
        assert_eq!(format!("{at_hand:?}"), format!("{waited:?}"), "{path}");
    }
}

#[test]
fn a_directory_that_was_moved_away_is_not_asked_any_more() {
    let fixture = fixture();
    let now = UnixTime(1_000);
    let grant = crate::sign::tests::grant("/media/a/b/file.wav");
    let account = fixture.store.path().join("a/b");
    let located = || {
        let held = fixture.store.locate(&grant, now, Patience::Waits).unwrap();
        (held.handle.version.length, held.generation)
    };
    assert_eq!(located(), (4, 0));
    fs::rename(&account, account.with_extension("old")).unwrap();
    fs::create_dir(&account).unwrap();
    fs::write(account.join("file.wav"), "another").unwrap();
    assert!(!is_held(&fixture, &grant, now));
    assert_eq!(located(), (7, 0));
    assert!(is_held(&fixture, &grant, now));
    // What comes into the other directory is noticed.
    fs::write(account.join("file.json"), r#"{"generation":1}"#).unwrap();
    assert!(!is_held(&fixture, &grant, now));
    let revoked = fixture.store.locate(&grant, now, Patience::Waits);
    assert!(matches!(
        revoked,
        Err(StoreError::Refused(Refusal::Revoked))
    ));
}
