//! What a request costs before any byte is read: the pure steps, each timed on its own, and the
//! allocations that one run of it makes.
//!
//! `cargo bench --bench core` times all of them; `-- NAME` behind it only what the name matches.
//! The table of allocations at the end is always whole. It comes from one run of each step, with what
//! the blocking pool does for it; the counting allocator is there while the steps are timed, and adds a
//! little to each allocation. What a whole request allocates is bounded by `tests/allocations.rs`.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;

use alloc_tracker::{Allocator, Session};
use criterion::Criterion;
use http::{HeaderMap, HeaderValue, Method, header};
use tonearm::recording::{EntityTag, MediaType, RecordingId, Representation, UnixTime};
use tonearm::respond::{Described, Keeper, Terms, respond};
use tonearm::route::{Route, Template};
use tonearm::select::{Selection, select};
use tonearm::sign::{Audience, Claims, Key, Keyring, Policy, SignedRequest, Window, mint, verify};
use tonearm::store::{Local, Store};

#[global_allocator]
static ALLOCATOR: Allocator<std::alloc::System> = Allocator::system();

const NOW: UnixTime = UnixTime(1_767_225_600);
const HOST: &str = "calls.example";
const MEDIA: &str = "/media/app-101/test-account-01/test-call-01.wav";

fn main() {
    let mut steps = Steps {
        criterion: Criterion::default().configure_from_args(),
        session: Session::new().no_file(),
    };
    sign(&mut steps);
    select_and_respond(&mut steps);
    route(&mut steps);
    store(&mut steps);
    steps.criterion.final_summary();
}

/// Where steps are timed and counted; prints the counts when it is dropped.
struct Steps {
    criterion: Criterion,
    session: Session,
}

impl Steps {
    fn add<T>(&mut self, name: &str, mut step: impl FnMut() -> T) {
        // Not the first run, which may fill what is filled once.
        drop(step());
        {
            // Nothing else runs here but the blocking pool, whose work belongs to the step.
            let operation = self.session.operation(name);
            let _span = operation.measure_process().iterations(1);
            black_box(step());
        }
        self.criterion
            .bench_function(name, |bencher| bencher.iter(&mut step));
    }
}

fn sign(steps: &mut Steps) {
    let policy = Policy::default();
    let keys = ["k26a", "k26b"].map(|kid| {
        let secret = b"tonearm-test-key-0123456789abcdef";
        Key::new(kid, secret, Window::default(), Audience::Origin).unwrap()
    });
    let ring = Keyring::new(keys.to_vec(), HashSet::new(), &policy).unwrap();
    let claims = Claims::until(policy.expiry(NOW, 900));
    let signed = || mint(black_box(MEDIA), &claims, HOST, &ring, &policy, NOW);
    steps.add("sign", signed);

    let target = signed().unwrap().target;
    let request = SignedRequest {
        method: "GET",
        host: HOST,
        target: &target,
    };
    assert!(verify(request, &ring, &policy, NOW).is_ok());
    steps.add("verify", || verify(black_box(request), &ring, &policy, NOW));
}

fn select_and_respond(steps: &mut Steps) {
    let representation = Representation {
        length: 57_600_044,
        etag: EntityTag::from_sha256(&[7; 32]),
        last_modified: Some(UnixTime(1_767_000_000)),
        media: MediaType::Wav,
        file_name: "test-call-01.wav".into(),
        sha256: Some([7; 32]),
    };
    let selected = |fields: &HeaderMap, parts: usize| {
        let selection = select(&Method::GET, fields, &representation, NOW);
        assert!(
            matches!(&selection, Selection::Partial(ranges) if ranges.as_slice().len() == parts)
        );
        selection
    };
    let single = asking("bytes=1048576-2097151");
    let single_part = selected(&single, 1);
    steps.add("select (single range)", || {
        select(&Method::GET, black_box(&single), &representation, NOW)
    });

    let set: Vec<_> = (0..16)
        .map(|at| format!("{}-{}", at * 3000, at * 3000 + 999))
        .collect();
    let sixteen = asking(&format!("bytes={}", set.join(", ")));
    selected(&sixteen, 16);
    steps.add("select (16 ranges)", || {
        select(&Method::GET, black_box(&sixteen), &representation, NOW)
    });

    let described = Described::from(representation.clone());
    let terms = Terms {
        disposition: None,
        keeper: Keeper::Viewer(900),
        now: NOW,
    };
    steps.add("respond (206)", || {
        respond(black_box(&single_part), &described, terms)
    });
}

/// The fields that a browser's player sends as it seeks.
fn asking(range: &str) -> HeaderMap {
    HeaderMap::from_iter([
        (header::HOST, HeaderValue::from_static(HOST)),
        (
            header::USER_AGENT,
            HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64)"),
        ),
        (header::ACCEPT, HeaderValue::from_static("*/*")),
        (
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity;q=1, *;q=0"),
        ),
        (header::ORIGIN, HeaderValue::from_static("null")),
        (header::RANGE, HeaderValue::from_str(range).unwrap()),
    ])
}

fn route(steps: &mut Steps) {
    let template = Template::default();
    steps.add("route", || Route::of(black_box(MEDIA), "sig=1", &template));

    let id = RecordingId::new("app-101", "test-account-01", "test-call-01").unwrap();
    let target = template.target(&id);
    let (path, query) = target.split_once('?').unwrap();
    assert_eq!(Route::of(path, query, &template), Route::Resolve(Ok(id)));
    steps.add("resolver question", || {
        Route::of(black_box(path), query, &template)
    });
}

/// The store's part: a recording that is held open, and the question where one is.
fn store(steps: &mut Steps) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("app-101/test-account-01");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("test-call-01.wav"), [0; 4096]).unwrap();
    let store = Store::Local(Arc::new(Local::open(root.path()).unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();

    let policy = Policy::default();
    let secret = b"tonearm-test-key-0123456789abcdef";
    let key = Key::new("k26a", secret, Window::default(), Audience::Origin).unwrap();
    let ring = Keyring::new(vec![key], HashSet::new(), &policy).unwrap();
    let claims = Claims::until(policy.expiry(NOW, 900));
    let target = mint(MEDIA, &claims, HOST, &ring, &policy, NOW)
        .unwrap()
        .target;
    let request = SignedRequest {
        method: "GET",
        host: HOST,
        target: &target,
    };
    let grant = verify(request, &ring, &policy, NOW).unwrap();
    steps.add("locate (held open)", || {
        runtime
            .block_on(store.locate(black_box(&grant), NOW))
            .unwrap()
    });

    let id = RecordingId::new("app-101", "test-account-01", "test-call-01").unwrap();
    steps.add("resolve", || {
        let found = runtime.block_on(store.find(black_box(&id))).unwrap();
        mint(&found.path.url_path(), &claims, "*", &ring, &policy, NOW).unwrap()
    });
}
