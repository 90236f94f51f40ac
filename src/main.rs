//! The `tonearm` program: parses, runs, and turns the end into an exit code.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use tonearm::cli::{Cli, run};

fn main() -> ExitCode {
    #[cfg(all(feature = "jemalloc", target_os = "linux"))]
    allocator::give_back();
    match run(Cli::parse()) {
        Ok(code) => code.into(),
        Err(failure) => {
            // eprintln! would panic where standard error is gone; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "{}", failure.message());
            failure.code().into()
        }
    }
}

/// Where many connections had something at once, glibc keeps its pages for good; jemalloc gives them back.
#[cfg(all(feature = "jemalloc", target_os = "linux"))]
mod allocator {
    use tikv_jemalloc_ctl::{Access as _, AsName as _, background_thread};
    use tikv_jemallocator::Jemalloc;

    #[global_allocator]
    static JEMALLOC: Jemalloc = Jemalloc;

    /// How long a page that nobody uses is kept, in milliseconds.
    const KEPT: isize = 1000;
    /// Of arenas to come, and of the one there is.
    const NAMES: [&str; 2] = ["arenas.dirty_decay_ms\0", "arena.0.dirty_decay_ms\0"];

    /// Has pages given back a second after they were used last. What cannot be set costs memory, and nothing else.
    pub(super) fn give_back() {
        for name in NAMES {
            let _ = name.name().write(KEPT);
        }
        // By a thread that opens nothing. With musl there is none, and who allocates gives back.
        let _ = background_thread::write(true);
    }
}
