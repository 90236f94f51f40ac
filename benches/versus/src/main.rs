//! tonearm beside nginx and others, measured in ratios. See README.md.

mod arrival;
mod bare;
mod gauge;
mod launch;
mod measure;
mod network;
mod over;
mod pattern;
mod peers;
mod report;
mod servedir;
mod store;
mod workload;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use gauge::Gauge;
use launch::{Cores, Hurry};
use over::{Over, Protocol};
use pattern::Pattern;
use peers::{DESCRIPTORS, Kind, Peer, Running};
use report::Results;
use store::Store;
use workload::{Bench, Leg, Workload};

/// Memory in which the page cache can keep the large recording and the warm ones.
const ROOM: u64 = 10 << 30;

/// Measures tonearm beside other servers, and prints ratios to the better of two nginx
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    options: Options,
}

/// What this program runs itself as.
#[derive(Debug, Subcommand)]
enum Part {
    /// Becomes a program that is held to some cores
    #[command(hide = true)]
    Launch {
        #[arg(long, value_delimiter = ',')]
        cores: Vec<usize>,
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// The tower-http peer
    #[command(hide = true)]
    ServeDir { root: PathBuf, address: SocketAddr },
    /// The bare peer
    #[command(hide = true)]
    ServeBare { root: PathBuf, address: SocketAddr },
}

#[derive(Debug, Args)]
struct Options {
    /// Peers by name [default: all that are there, without a log of each request]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    peers: Vec<String>,
    /// Workloads by the beginning of their keys [default: all]
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    workloads: Vec<String>,
    /// Length of one measurement [default: 2, quick 0.5]
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// How often each is measured [default: 5, quick 3]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// How often a measurement is taken again that other processes or a slow core disturbed; with 0, cores are not
    /// waited for either
    #[arg(long, value_name = "N", default_value_t = 2)]
    patience: usize,
    /// Shorter and fewer measurements
    #[arg(long)]
    quick: bool,
    /// Also write the report here, as Markdown: between the markers of an earlier one, if it has them
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// A tonearm that is built already [default: this repository's, built now]
    #[arg(long, value_name = "PATH")]
    tonearm: Option<PathBuf>,
    /// Another one to measure beside it
    #[arg(long, value_name = "PATH")]
    tonearm_other: Option<PathBuf>,
    /// TCP's congestion control on loopback; "" for what the system has
    #[arg(long, value_name = "NAME", default_value = "cubic")]
    congestion: String,
    /// What servers are spoken to over; whoever is not set up for it here is left out
    #[arg(long, value_name = "PROTOCOL", value_enum, default_value_t = Protocol::Tcp)]
    over: Protocol,
    /// Directory on a disk for 1.3 GB of recordings, of which the workload `files` makes 1,000,000
    /// hard links [default: that of temporary files]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.part {
        Some(Part::Launch { cores, command }) => launch::become_pinned(&cores, &command),
        Some(Part::ServeDir { root, address }) => servedir::serve(&root, address),
        Some(Part::ServeBare { root, address }) => bare::serve(&root, address),
        None => run(&cli.options),
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(file) = &options.report {
        // What cannot be written at the end is better known at the beginning.
        report::placed(file, options.over, "")?;
    }
    let mut workloads = Workload::select(&options.workloads)?;
    let tonearm = find_tonearm(options)?;
    let network = network(options, &tonearm);
    let (peers, mut missing) = find_peers(options, &tonearm)?;
    missing.extend(network.err().map(|error| format!("{error:#}")));
    let cores = Cores::find()?;
    raise_descriptors()?;
    let place = options.data.clone().unwrap_or_else(std::env::temp_dir);
    let data = tempfile::Builder::new()
        .prefix("versus-data-")
        .tempdir_in(place)?;
    let pattern = Pattern::new();
    if options.over != Protocol::Tcp {
        let why = "sought and cold: their listeners speak HTTP/1.1 without TLS";
        leave_out(&mut workloads, Workload::needs_tcp, &mut missing, why);
    }
    let store = write_recordings(data.path(), &pattern, &mut workloads, &mut missing)?;
    launch::pin(&[cores.generator])?;
    let _hurry = Hurry::begin();
    let (seconds, rounds) = if options.quick { (0.5, 3) } else { (2.0, 5) };
    let bench = Bench {
        store,
        pattern,
        over: Over::new(options.over)?,
        cores,
        gauge: Gauge::new(&[cores.server, cores.generator]),
        patience: options.patience,
        window: Duration::from_secs_f64(options.seconds.unwrap_or(seconds)),
    };
    let rounds = options.rounds.unwrap_or(rounds).max(1);
    let (peers, servers) = start_all(&bench, peers, &mut missing);
    ensure!(!peers.is_empty(), "there is nothing to measure");
    let legs = measure_all(&bench, &workloads, &peers, servers, rounds);
    let results = Results {
        peers,
        workloads,
        legs,
        missing,
        protocol: options.over,
        congestion: network::congestion()?,
        command: command_line(),
    };
    let text = results.markdown();
    if let Some(file) = &options.report {
        let text = report::placed(file, options.over, &text)?;
        std::fs::write(file, text).with_context(|| file.display().to_string())?;
    }
    println!("{text}");
    Ok(())
}

/// The recordings of the workloads, and a line for each of those that cannot be.
fn write_recordings(
    root: &Path,
    pattern: &Pattern,
    workloads: &mut Vec<Workload>,
    missing: &mut Vec<String>,
) -> anyhow::Result<Store> {
    eprintln!("writing recordings");
    if !measure::has_available(ROOM)? {
        let why = "the large recording: it takes 10 GiB of available memory";
        leave_out(workloads, Workload::needs_large, missing, why);
    }
    let most = workloads.iter().map(Workload::recordings).max();
    let store = Store::create(root.to_owned(), pattern, most.unwrap_or_default())?;
    if !store.has_disk()? {
        let why = "the cold workload: the recordings are on no disk (--data DIR)";
        leave_out(workloads, Workload::needs_disk, missing, why);
    }
    Ok(store)
}

/// Takes away the workloads that cannot be, and says why where there were some.
fn leave_out(
    workloads: &mut Vec<Workload>,
    which: fn(&Workload) -> bool,
    missing: &mut Vec<String>,
    why: &str,
) {
    let before = workloads.len();
    workloads.retain(|workload| !which(workload));
    if workloads.len() < before {
        missing.push(why.to_owned());
    }
}

/// A loopback that has the congestion control which was asked for.
fn network(options: &Options, tonearm: &Path) -> anyhow::Result<()> {
    let wanted = &options.congestion;
    let entered = match (network::built(), wanted.as_str()) {
        (_, "") => Ok(()),
        (None, _) => network::enter(wanted, tonearm),
        (Some(_), _) => network::set_up(wanted),
    };
    entered.with_context(|| format!("loopback without {wanted}"))
}

/// The tonearm to measure; an empty path where none was asked for.
fn find_tonearm(options: &Options) -> anyhow::Result<PathBuf> {
    match (network::built(), &options.tonearm) {
        (Some(path), _) => Ok(path),
        (None, Some(path)) => absolute(path),
        (None, None)
            if is_wanted(options, Kind::Tonearm) || is_wanted(options, Kind::TonearmLogged) =>
        {
            build_tonearm()
        }
        (None, None) => Ok(PathBuf::new()),
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize()
        .with_context(|| path.display().to_string())
}

fn is_wanted(options: &Options, kind: Kind) -> bool {
    match options.peers.is_empty() {
        true if kind == Kind::TonearmOther => options.tonearm_other.is_some(),
        true => !kind.is_logged(),
        false => options.peers.iter().any(|name| name == kind.name()),
    }
}

/// Those that were asked for and are there, and a line for each that is not.
fn find_peers(options: &Options, tonearm: &Path) -> anyhow::Result<(Vec<Peer>, Vec<String>)> {
    for name in &options.peers {
        let known = || Kind::ALL.iter().map(|kind| kind.name());
        ensure!(
            known().any(|one| one == name),
            "no peer {name}; there are {}",
            known().collect::<Vec<_>>().join(" ")
        );
    }
    let binaries = [
        Some(tonearm.to_owned()),
        options.tonearm_other.as_deref().map(absolute).transpose()?,
    ];
    let wanted = |kind: &Kind| is_wanted(options, *kind);
    let (mut peers, mut missing) = (Vec::new(), Vec::new());
    for kind in Kind::ALL.into_iter().filter(wanted) {
        if options.over != Protocol::Tcp && !kind.has_tls() {
            missing.push(format!("{} (not set up for TLS here)", kind.name()));
            continue;
        }
        match Peer::find(kind, &binaries) {
            Ok(peer) => peers.push(peer),
            Err(install) => missing.push(format!("{} ({install})", kind.name())),
        }
    }
    for line in &missing {
        eprintln!("missing: {line}");
    }
    Ok((peers, missing))
}

/// This repository's tonearm, as it is released.
fn build_tonearm() -> anyhow::Result<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    eprintln!("building tonearm");
    let output = Command::new("cargo")
        // Where cargo finds the repository's own settings, and with them the profile.
        .current_dir(repository)
        .args(["build", "--release", "--bin", "tonearm"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo")?;
    ensure!(output.status.success(), "tonearm does not build");
    let messages = String::from_utf8(output.stdout)?;
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    };
    messages
        .lines()
        .filter_map(executable)
        .next_back()
        .context("cargo names no executable")
}

/// As many descriptors as may be, for this process and the servers.
fn raise_descriptors() -> anyhow::Result<()> {
    let limit = |most| Rlimit {
        current: most,
        maximum: most,
    };
    // Only a privileged user may go beyond the limit there is.
    if setrlimit(Resource::Nofile, limit(Some(DESCRIPTORS))).is_err() {
        setrlimit(Resource::Nofile, limit(getrlimit(Resource::Nofile).maximum))?;
    }
    Ok(())
}

/// The peers that serve, and a line for each that does not.
fn start_all(
    bench: &Bench,
    peers: Vec<Peer>,
    missing: &mut Vec<String>,
) -> (Vec<Peer>, Vec<Option<Running>>) {
    let mut serving = (Vec::new(), Vec::new());
    for peer in peers {
        match bench.start(&peer) {
            Ok(server) => {
                serving.0.push(peer);
                serving.1.push(Some(server));
            }
            Err(error) => {
                let line = format!("{:#}", error.context("does not serve"));
                eprintln!("{line}");
                missing.push(line);
            }
        }
    }
    serving
}

/// By workload, peer and round; in each round every peer has its turn.
fn measure_all(
    bench: &Bench,
    workloads: &[Workload],
    peers: &[Peer],
    mut servers: Vec<Option<Running>>,
    rounds: usize,
) -> Vec<Vec<Vec<Option<Leg>>>> {
    let mut legs = Vec::new();
    for workload in workloads {
        let mut of_workload = vec![Vec::new(); peers.len()];
        let rounds = if workload.is_repeated() { rounds } else { 1 };
        for round in 1..=rounds {
            eprint!("{} {round}/{rounds}:", workload.key);
            for (number, peer) in peers.iter().enumerate() {
                let leg = workload
                    .is_for(peer)
                    .then(|| measure_one(bench, workload, peer, &mut servers[number]));
                of_workload[number].push(leg);
            }
            eprintln!();
        }
        legs.push(of_workload);
    }
    legs
}

/// One measurement; what goes wrong is a part of the result.
fn measure_one(
    bench: &Bench,
    workload: &Workload,
    peer: &Peer,
    server: &mut Option<Running>,
) -> Leg {
    let measured = ensure_running(bench, peer, server)
        .and_then(|running| bench.measure_in_quiet(workload, peer, running));
    let name = peer.kind.name();
    match measured {
        Ok(leg) => {
            let figure = leg.figures.first();
            let text = figure.map(|(measure, value)| measure.show(*value));
            eprint!(" {name} {}", text.unwrap_or_default());
            leg
        }
        Err(error) => {
            eprint!(" {name} failed ({error:#})");
            // Whatever state it is in, the next measurement gets a new one.
            *server = None;
            Leg {
                problems: vec![format!("not measured: {error:#}")],
                ..Leg::default()
            }
        }
    }
}

fn ensure_running<'a>(
    bench: &Bench,
    peer: &Peer,
    server: &'a mut Option<Running>,
) -> anyhow::Result<&'a Running> {
    if server.as_mut().is_some_and(Running::has_ended) {
        *server = None;
    }
    match server {
        Some(running) => Ok(running),
        None => Ok(server.insert(bench.start(peer)?)),
    }
}

/// How this run can be had again.
fn command_line() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut line = "cargo run --release --manifest-path benches/versus/Cargo.toml".to_owned();
    if !arguments.is_empty() {
        line = format!("{line} -- {}", arguments.join(" "));
    }
    line
}
