//! The `tonearm` program: parses, runs, and turns the end into an exit code.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use tonearm::cli::{Cli, run};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code.into(),
        Err(failure) => {
            // eprintln! would panic where standard error is gone; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "{}", failure.message());
            failure.code().into()
        }
    }
}
