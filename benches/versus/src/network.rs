//! The loopback of a run. Some machines default to BBR, which paces with timers even on loopback and
//! on a virtual machine costs a server as much as its work does; ratios then tell of timers. So a run
//! has a network namespace of its own, where loopback's routes ask for another congestion control.

use std::env;
use std::ffi::OsString;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use rustix::net::sockopt::tcp_congestion;

/// Set within the namespace, to the tonearm that was built outside, where there is a network.
const INSIDE: &str = "VERSUS_INSIDE";

/// What a server on loopback sends with.
pub(crate) fn congestion() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let _client = TcpStream::connect(listener.local_addr()?)?;
    let (accepted, _) = listener.accept()?;
    Ok(tcp_congestion(&accepted)?)
}

/// The tonearm that was built outside; none outside.
pub(crate) fn built() -> Option<PathBuf> {
    env::var_os(INSIDE).map(PathBuf::from)
}

/// Goes on in a namespace whose loopback has `wanted`, and does not come back if that worked.
pub(crate) fn enter(wanted: &str, tonearm: &Path) -> anyhow::Result<()> {
    if congestion()? == wanted {
        return Ok(());
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.arg("--net");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command
    };
    let probe = unshare().arg("true").stderr(Stdio::null()).status();
    ensure!(
        probe.context("unshare (util-linux)")?.success(),
        "a network namespace cannot be had"
    );
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let error = unshare()
        .arg(env::current_exe()?)
        .args(arguments)
        .env(INSIDE, tonearm)
        .exec();
    Err(error).context("unshare")
}

/// Sets up the namespace's loopback.
pub(crate) fn set_up(wanted: &str) -> anyhow::Result<()> {
    ip(&["link", "set", "lo", "up"])?;
    for destination in ["127.0.0.1", "127.0.0.0/8"] {
        let route = ["route", "replace", "local", destination, "dev", "lo"];
        let kind = ["table", "local", "proto", "kernel", "scope", "host"];
        let how = ["src", "127.0.0.1", "congctl", "lock", wanted];
        ip(&[&route[..], &kind, &how].concat())?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let paths = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"];
    let program = paths.iter().find(|path| Path::new(path).exists());
    let program = program.context("there is no ip (apt-get install iproute2)")?;
    let status = Command::new(program).args(arguments).status()?;
    ensure!(status.success(), "ip {} failed", arguments.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_a_congestion_control() {
        assert!(!congestion().unwrap().is_empty());
    }
}
