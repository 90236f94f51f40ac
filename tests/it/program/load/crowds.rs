//! The load as a library: several crowds at once, a warm-up, and what is told at its moments.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tonearm::load::{
    Crowd, Expected, Moments, Pace, Plan, Recording, Scenario, Shape, Side, Watch,
};

use super::{Fake, RECORDING, right};

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<&'static str>>);

impl Notes {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }
}

impl Moments for Notes {
    fn begins(&self) {
        self.note("begins");
    }

    fn ends(&self) {
        self.note("ends");
    }

    fn answered(&self, recording: usize) {
        self.note(if recording == 0 { "first" } else { "second" });
    }
}

fn crowd(scenario: Scenario, pace: Pace, listeners: usize, recording: usize) -> Crowd {
    Crowd {
        mix: scenario.into(),
        shape: Shape {
            range_size: 20 << 10,
            bitrate: 1,
            dwell: Duration::ZERO,
            stride: None,
        },
        pace,
        listeners,
        recordings: Some(recording..recording + 1),
    }
}

fn plan(crowds: Vec<Crowd>, warm_up: Duration, duration: Duration) -> Plan {
    Plan {
        sides: Vec::new(),
        crowds,
        duration,
        warm_up,
        rounds: 1,
        ramp: Duration::ZERO,
        timeout: Duration::from_secs(10),
        seed: 1,
        check_every: 1,
        threads: 1,
        tls: None,
    }
}

fn side(fake: &Fake) -> Side {
    let recording = || {
        let file = Some(RECORDING.clone().into());
        Recording::at(&fake.url(), Expected { file, sha256: None }).unwrap()
    };
    let recordings = vec![recording(), recording()];
    Side {
        name: "fake".to_owned(),
        recordings,
        http2: None,
    }
}

#[test]
fn crowds_are_counted_apart_and_a_warm_up_is_not() {
    let fake = Fake::start(right);
    let crowds = vec![
        crowd(Scenario::Seek, Pace::Open(200.0), 4, 0),
        crowd(Scenario::Download, Pace::Closed, 1, 1),
    ];
    let plan = plan(crowds, Duration::from_millis(300), Duration::from_secs(1));
    let notes = Arc::new(Notes::default());
    let mut watch = Watch::unseen();
    watch.moments = Some(Arc::<Notes>::clone(&notes));
    let found = tonearm::load::once(&plan, &side(&fake), &watch).unwrap();
    let (seeks, downloads) = (&found[0], &found[1]);
    assert!(seeks.failures.is_empty() && downloads.failures.is_empty());
    assert_eq!(seeks.statuses.keys().collect::<Vec<_>>(), [&206]);
    assert_eq!(downloads.statuses.keys().collect::<Vec<_>>(), [&200]);
    // At a rate, all that was due is counted, and nothing that was due before.
    let counted = seeks.first_byte.as_ref().unwrap().count;
    assert!((195..=205).contains(&counted), "{counted}");
    let notes = notes.0.lock().unwrap();
    let at = |what| notes.iter().position(|note| *note == what).unwrap();
    let (begins, ends) = (at("begins"), at("ends"));
    assert_eq!(ends, notes.len() - 1, "it is not over before its end");
    let of = |what| notes[begins..].iter().filter(|note| **note == what).count();
    assert_eq!(of("first"), usize::try_from(seeks.requests).unwrap());
    assert_eq!(of("second"), usize::try_from(downloads.requests).unwrap());
    assert!(notes[..begins].contains(&"first"), "there was a warm-up");
}

#[test]
fn asked_once_each_stays_until_all_are_answered() {
    let fake = Fake::start(right);
    let crowds = vec![crowd(Scenario::Seek, Pace::Once, 20, 0)];
    let plan = plan(crowds, Duration::ZERO, Duration::from_hours(1));
    let began = Instant::now();
    let found = tonearm::load::once(&plan, &side(&fake), &Watch::unseen()).unwrap();
    assert_eq!((found[0].requests, found[0].connections), (20, 20));
    assert_eq!(fake.served(), 20);
    assert!(began.elapsed() < Duration::from_mins(1));
}

#[test]
fn a_player_reads_at_its_bitrate_with_a_second_ahead() {
    let fake = Fake::start(right);
    let mut player = crowd(Scenario::Player, Pace::Closed, 1, 0);
    (player.shape.bitrate, player.shape.dwell) = (40_000, Duration::from_hours(1));
    let plan = plan(vec![player], Duration::ZERO, Duration::from_secs(1));
    let found = tonearm::load::once(&plan, &side(&fake), &Watch::unseen()).unwrap();
    // What came with the head was not asked for so early.
    let most = (found[0].seconds + 1.0) * 40_000.0 + 4096.0;
    let bytes = f64::from(u32::try_from(found[0].bytes).unwrap());
    assert!((40_000.0..=most).contains(&bytes), "{bytes} of {most}");
    assert_eq!(fake.served(), 1);
}
