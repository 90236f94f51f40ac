//! What is left to a server that has started, by the kernel's own rule (Landlock).
//!
//! Decides what it may still reach: its store, and the directories of what SIGHUP reads again. It
//! runs no program, listens on nothing further and, unless its store is a bucket or its certificate ACME's,
//! connects to nothing. What is open stays open. Holds for this thread and those it starts.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::Failure;
use crate::config::{Config, Confine, Delivery, Storage};

/// What a server may still reach.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reach {
    /// Directories it reads.
    read: Vec<PathBuf>,
    /// Directories it writes, too.
    write: Vec<PathBuf>,
    /// Whether it connects to anybody.
    connects: bool,
}

/// How far the kernel goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Full,
    /// An older kernel, which has not every rule.
    Partial,
    /// A kernel without Landlock, or one that is told not to use it.
    None,
}

impl Reach {
    fn of(config: &Config) -> Self {
        let mut reach = Self::default();
        match (&config.storage, &config.ingest_tokens) {
            (Storage::Directory(path), None) => reach.read.push(path.clone()),
            (Storage::Directory(path), Some(_)) => reach.write.push(path.clone()),
            // Its client reads names, certificates and credentials where system and cloud put them.
            (Storage::Bucket(_), tokens) => {
                reach.read.push("/".into());
                reach.connects = true;
                // What is brought lies there until it is judged.
                if tokens.is_some() {
                    reach.write.push(tempfile::env::temp_dir());
                }
                // One that cannot be used now stays unused until the next start.
                if let Delivery::Cache(cache, _) = &config.delivery
                    && cache.directory.is_dir()
                {
                    reach.write.push(cache.directory.clone());
                }
            }
        }
        if let Some(acme) = &config.acme {
            reach.write.push(acme.cache.clone());
            reach.connect();
        }
        #[cfg(feature = "otel")]
        if super::otel::is_wanted() {
            reach.connect();
        }
        // The directory, since another file is renamed into place; and the one that a link leads to.
        let tls = config.tls.as_ref();
        for file in [
            Some(&config.keyring),
            config.ingest_tokens.as_ref(),
            tls.map(|files| &files.certificate),
            tls.map(|files| &files.key),
        ] {
            let linked = file.and_then(|file| file.canonicalize().ok());
            let both = file.into_iter().chain(&linked);
            reach.read.extend(both.map(|file| directory(file)));
        }
        reach
    }
}

impl Reach {
    /// Connects to hosts, whose names are resolved by what the system's files say.
    fn connect(&mut self) {
        self.connects = true;
        let system = ["/etc", "/usr", "/run/systemd/resolve"].map(PathBuf::from);
        self.read
            .extend(system.into_iter().filter(|path| path.is_dir()));
    }
}

fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(directory) if directory != Path::new("") => directory.to_owned(),
        _ => ".".into(),
    }
}

/// Has the kernel keep this thread, and those it starts from now on, to what the server needs. Says
/// in a word how far that went.
///
/// # Errors
/// Confinement is required and cannot be had, or a directory is not there.
pub(super) fn enter(config: &Config) -> Result<&'static str, Failure> {
    if config.confine == Confine::Off {
        return Ok("off");
    }
    let state = enforce(&Reach::of(config));
    let required = config.confine == Confine::Required;
    match state {
        Ok(State::Full) => Ok("full"),
        Ok(State::Partial) => {
            tracing::info!("this kernel confines the server in part: it knows an older Landlock");
            Ok("partial")
        }
        Ok(State::None) if required => Err(Failure::new(
            Failure::UNAVAILABLE,
            anyhow!("confine = \"required\", and this kernel has no Landlock"),
        )),
        Err(error) if required => Err(Failure::new(Failure::UNAVAILABLE, error)),
        Ok(State::None) => {
            tracing::info!("the server is not confined: this kernel has no Landlock");
            Ok("none")
        }
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "the server is not confined");
            Ok("none")
        }
    }
}

#[cfg(target_os = "linux")]
fn enforce(reach: &Reach) -> anyhow::Result<State> {
    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath,
        PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
    };

    // The newest whose rules are known here; the crate leaves out what the kernel does not know.
    const KNOWN: ABI = ABI::V6;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let writing: BitFlags<AccessFs> = reading
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let mut rules = Ruleset::default();
    if !reach.write.is_empty() {
        // A recording is renamed from one directory into another: Landlock without this right
        // forbids that, and would end ingest.
        rules = rules
            .set_compatibility(CompatLevel::SoftRequirement)
            .handle_access(AccessFs::Refer)?
            .set_compatibility(CompatLevel::BestEffort);
    }
    rules = rules
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::Signal)?;
    if !reach.connects {
        rules = rules.handle_access(AccessNet::ConnectTcp)?;
    }
    let mut rules = rules.create()?;
    let paths = reach.read.iter().map(|path| (path, reading));
    for (path, access) in paths.chain(reach.write.iter().map(|path| (path, writing))) {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(path)?, access))?;
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => State::Full,
        RulesetStatus::PartiallyEnforced => State::Partial,
        RulesetStatus::NotEnforced => State::None,
    })
}

#[cfg(not(target_os = "linux"))]
fn enforce(_: &Reach) -> anyhow::Result<State> {
    Ok(State::None)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// What the kernel refuses, on a thread of its own that ends with its confinement.
    #[test]
    fn nothing_else_can_be_reached() {
        let tmp = tempfile::tempdir().unwrap();
        let path = |name: &str| tmp.path().join(name);
        for name in ["keys", "store/a", "outside"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("keys/ring"), "ring").unwrap();
        fs::write(path("outside/file"), "secret").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reach = Reach {
            read: vec![path("keys")],
            write: vec![path("store")],
            connects: false,
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let state = enforce(&reach).unwrap();
                if state != State::Full {
                    eprintln!("SKIPPED: this kernel's Landlock is {state:?}");
                    return;
                }
                assert_eq!(fs::read(path("keys/ring")).unwrap(), b"ring");
                fs::write(path("store/new"), "x").unwrap();
                fs::rename(path("store/new"), path("store/a/b")).unwrap();
                fs::remove_file(path("store/a/b")).unwrap();
                let refused = [
                    fs::read(path("outside/file")).map(drop),
                    fs::read_dir("/etc").map(drop),
                    fs::write(path("keys/ring"), "x"),
                    fs::write(path("outside/new"), "x"),
                    fs::hard_link(path("keys/ring"), path("store/ring")),
                    fs::remove_file(path("outside/file")),
                    std::os::unix::fs::symlink("/etc", path("store/link")),
                    std::process::Command::new("/bin/true").status().map(drop),
                    TcpListener::bind("127.0.0.1:0").map(drop),
                    TcpStream::connect(address).map(drop),
                ];
                for (at, result) in refused.into_iter().enumerate() {
                    let kind = result.expect_err(&format!("{at} is let through")).kind();
                    let refusal = [ErrorKind::PermissionDenied, ErrorKind::CrossesDevices];
                    assert!(refusal.contains(&kind), "{at}: {kind}");
                }
            });
        });
    }

    #[test]
    fn a_file_is_in_a_directory() {
        for (file, in_directory) in [("a", "."), ("a/b", "a"), ("/a", "/"), ("../a", "..")] {
            assert_eq!(directory(Path::new(file)), Path::new(in_directory));
        }
    }
}
