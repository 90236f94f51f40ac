//! Which files that were left in a spool are in the store already.
//!
//! A line of JSON a file, in the spool itself. Lost or cut off, nothing is lost: the file is
//! brought again, and is the same recording. What the ledger spares is bringing again what has
//! since been erased.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::spool::Stamp;

/// Hidden, so that it is no file of the phone system.
const NAME: &str = ".tonearm-added";

pub(super) struct Ledger {
    /// `None` in a dry run.
    file: Option<File>,
    known: HashMap<String, (u64, i64)>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    file: String,
    size: u64,
    modified_ns: i64,
}

impl Ledger {
    /// That of the spool at `root`, without files that are gone or others by now.
    pub(super) fn open(root: &Path, dry_run: bool) -> io::Result<Self> {
        let path = root.join(NAME);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            text => text?,
        };
        let lines = text
            .split(|byte| *byte == b'\n')
            // The last line of one that was killed may be half a line.
            .filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let mut ledger = Self {
            file: None,
            known: HashMap::new(),
        };
        let mut text = Vec::new();
        for line in lines {
            let stamp = Stamp::at(&root.join(&line.file))?;
            if stamp.is_some_and(|stamp| (stamp.size, stamp.modified_ns) == line.state()) {
                text.extend(line.text()?);
                ledger.known.insert(line.file.clone(), line.state());
            }
        }
        if !dry_run {
            let fresh = root.join(format!("{NAME}.new"));
            std::fs::write(&fresh, text)?;
            std::fs::rename(fresh, &path)?;
            ledger.file = Some(OpenOptions::new().append(true).open(path)?);
        }
        Ok(ledger)
    }

    pub(super) fn has(&self, name: &Path, stamp: &Stamp) -> bool {
        let known = name.to_str().and_then(|name| self.known.get(name));
        known == Some(&(stamp.size, stamp.modified_ns))
    }

    pub(super) fn add(&mut self, name: &Path, stamp: &Stamp) -> io::Result<()> {
        let line = Line {
            file: name.to_string_lossy().into_owned(),
            size: stamp.size,
            modified_ns: stamp.modified_ns,
        };
        if let Some(file) = &mut self.file {
            file.write_all(&line.text()?)?;
        }
        let state = line.state();
        self.known.insert(line.file, state);
        Ok(())
    }
}

impl Line {
    const fn state(&self) -> (u64, i64) {
        (self.size, self.modified_ns)
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok(text)
    }
}
