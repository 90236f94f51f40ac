//! Templates and routes. Input: template, LF, target, LF, `app/account/external` (the last two may
//! be missing).
//!
//! * A template that is taken answers the call it describes, with further parameters too.
//! * The ids of an answer are ids; asked for by the template's own target, they come out again.
//! * A media path has one spelling, and one that is short enough can be signed.
#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tonearm::recording::{MediaPath, RecordingId, UnixTime};
use tonearm::route::{Route, Template};
use tonearm::sign::{
    Audience, Claims, Key, Keyring, MAX_SEGMENT, Policy, Window, check_path, mint,
};

static RING: LazyLock<Keyring> = LazyLock::new(|| {
    let secret = b"tonearm-test-key-0123456789abcdef";
    let key = Key::new("k26a", secret, Window::default(), Audience::Origin).unwrap();
    Keyring::new(vec![key], HashSet::new(), &Policy::default()).unwrap()
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.splitn(3, '\n');
    let template = lines.next().unwrap_or_default();
    let target = lines.next().unwrap_or_default();
    let id = lines.next().and_then(recording);

    check_target(target, &Template::default());
    let Ok(parsed) = template.parse::<Template>() else {
        return;
    };
    assert_eq!(parsed.as_str(), template);
    assert_eq!(template.matches("%s").count(), 1);
    check_target(target, &parsed);
    let simple = RecordingId::new("1", "2", "x").unwrap();
    for id in [Some(simple), id].iter().flatten() {
        check_own_call(&parsed, id);
    }
});

fn recording(line: &str) -> Option<RecordingId> {
    let mut ids = line.splitn(3, '/');
    RecordingId::new(ids.next()?, ids.next()?, ids.next()?).ok()
}

fn route(target: &str, template: &Template) -> Route {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Route::of(path, query, template)
}

fn check_target(target: &str, template: &Template) {
    match route(target, template) {
        Route::Media => check_media(target.split_once('?').map_or(target, |(path, _)| path)),
        Route::Resolve(Ok(id)) => {
            assert_eq!(recording(&id.to_string()).as_ref(), Some(&id));
            check_own_call(template, &id);
        }
        Route::Resolve(Err(_)) | Route::Nothing => {}
    }
}

/// The target that the template itself describes leads back to the recording.
fn check_own_call(template: &Template, id: &RecordingId) {
    // HubSpot adds these two itself: of a template that has them already, one of them stands twice.
    if ["appId", "externalAccountId"]
        .iter()
        .any(|name| template.as_str().contains(name))
    {
        return;
    }
    let target = template.target(id);
    let path = target.split_once('?').map_or(&*target, |(path, _)| path);
    if MediaPath::parse(path).is_some() {
        return;
    }
    let expect = Route::Resolve(Ok(id.clone()));
    assert_eq!(route(&target, template), expect, "{target}");
    let further = format!("{target}&portalId=7");
    assert_eq!(route(&further, template), expect, "{further}");
}

fn check_media(path: &str) {
    let media = MediaPath::parse(path).expect("the route says so");
    assert_eq!(media.url_path(), path);
    // An id within a few bytes of the longest has no signable path, and is told so.
    if media.file_name().len() > MAX_SEGMENT {
        return;
    }
    assert_eq!(check_path(path), Ok(()));
    let now = UnixTime(1_767_225_600);
    let minted = mint(
        path,
        &Claims::until(now.plus(60)),
        "*",
        &RING,
        &Policy::default(),
        now,
    );
    assert!(minted.is_ok(), "{path}");
}
