//! Attacks on a running tonearm, and faults around it; each prints its figure.
//!
//! `soak --program target/release/tonearm [--minutes N] [--only NAME] [--small]`

mod client;
mod connections;
mod faults;
mod subject;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use self::connections::Scale;
use self::subject::{Place, Subject};

const FULL: Scale = Scale {
    drips: 600,
    slow: 200,
    idle: 10_000,
    resets: 5000,
    kills: 200,
    mutated: 200_000,
    time: Duration::from_secs(15),
};
const SMALL: Scale = Scale {
    drips: 60,
    slow: 20,
    idle: 500,
    resets: 500,
    kills: 5,
    mutated: 2000,
    time: Duration::from_secs(4),
};

struct Asked {
    program: PathBuf,
    minutes: u64,
    only: Option<String>,
    scale: Scale,
}

fn asked() -> Result<Asked> {
    let mut asked = Asked {
        program: "target/release/tonearm".into(),
        minutes: 1,
        only: None,
        scale: FULL,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{flag} needs a value"))
        };
        match flag.as_str() {
            "--program" => asked.program = value()?.into(),
            "--minutes" => asked.minutes = value()?.parse()?,
            "--only" => asked.only = Some(value()?),
            "--small" => asked.scale = SMALL,
            _ => bail!("--program FILE, --minutes N, --only NAME or --small, and not {flag}"),
        }
    }
    asked.program = asked
        .program
        .canonicalize()
        .context("--program names no file")?;
    Ok(asked)
}

type Attack = fn(&Subject, &str, Scale) -> Result<String>;

fn main() -> Result<()> {
    let asked = asked()?;
    let scale = asked.scale;
    let place = Place::new(&asked.program)?;
    let (call, big) = (place.target("call")?, place.target("big")?);
    let plain = ("/1/2/call.wav", "/1/2/big.wav");
    println!("| what | server | figures |\n|---|---|---|");
    let wanted = |name: &str| {
        let only = asked.only.as_deref();
        only.is_none_or(|only| only.split(',').any(|only| only == name))
    };
    // Of both servers, each on its own and just started.
    let both: [(&str, Attack, bool); 4] = [
        ("drips", connections::drips, false),
        ("slow readers", connections::slow_readers, true),
        ("idle flood", connections::idle_flood, false),
        ("resets", connections::resets, true),
    ];
    for (name, attack, is_big) in both.into_iter().filter(|row| wanted(row.0)) {
        let ours = place.serve(20_000, &[])?;
        let target = if is_big { &big } else { &call };
        print(name, "tonearm", attack(&ours, target, scale));
        drop(ours);
        if let Some(nginx) = place.nginx()? {
            let target = if is_big { plain.1 } else { plain.0 };
            print(name, nginx.name, attack(&nginx, target, scale));
        }
    }
    let fresh = || place.serve(20_000, &[]);
    if wanted("descriptors") {
        print("descriptors", "tonearm", connections::descriptors(&place));
    }
    if wanted("range bombs") {
        print(
            "range bombs",
            "tonearm",
            connections::range_bombs(&fresh()?, &place.target("small")?),
        );
    }
    if wanted("stop") {
        print("stop", "tonearm", faults::stop_under_load(&place, &call));
    }
    if wanted("reloads") {
        print("reloads", "tonearm", faults::reloads(&fresh()?, &call));
    }
    if wanted("full disk") {
        print("full disk", "tonearm", faults::full_disk(&place));
    }
    if wanted("kills") {
        print("kills", "tonearm", faults::kills(&place, scale));
    }
    if wanted("mutated") {
        print(
            "mutated",
            "tonearm",
            faults::mutated(&mut fresh()?, &call, scale),
        );
    }
    if wanted("tls") {
        for (what, server, figures) in tls::beside_nginx(&place)? {
            print(&what, server, Ok(figures));
        }
    }
    if wanted("soak") && asked.minutes > 0 {
        let time = Duration::from_secs(asked.minutes * 60);
        print("soak", "tonearm", faults::soak(&mut fresh()?, &call, time));
    }
    Ok(())
}

fn print(what: &str, server: &str, figures: Result<String>) {
    let figures = figures.unwrap_or_else(|error| format!("FAILED: {error:#}"));
    println!("| {what} | {server} | {figures} |");
}
