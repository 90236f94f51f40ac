//! `tonearm completions` and `tonearm man`: what a shell and `man` know of the commands.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure, Outcome, print};

/// Flags of `tonearm completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Flags of `tonearm man`.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write a page for each command into this directory, instead of the first one to standard output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Completions {
    pub(super) fn run(&self) {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tonearm", &mut script);
        show(&script);
    }
}

impl Man {
    pub(super) fn run(&self) -> Outcome {
        match &self.dir {
            Some(dir) => write_pages(dir),
            None => first_page(),
        }
        .map_err(|error| Failure::new(Failure::IO, error))?;
        Ok(0)
    }
}

fn first_page() -> anyhow::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    show(&page);
    Ok(())
}

fn write_pages(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .with_context(|| dir.display().to_string())?;
    print(&dir.display().to_string());
    Ok(())
}

/// To standard output; a reader that has gone away is no failure of ours.
fn show(text: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text).and_then(|()| out.flush());
}
