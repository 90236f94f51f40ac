//! An open file as those read it who look for its sound.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use super::Version;
use crate::audio::{self, Content, Effort, Ranged};

/// An open file, to be read at any offset.
#[derive(Debug)]
pub struct Opened<'a> {
    file: &'a File,
    length: u64,
}

impl<'a> Opened<'a> {
    /// Takes an open file of the length it has now.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(file: &'a File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }
}

impl Ranged for Opened<'_> {
    type Error = io::Error;

    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// How long an open file plays, as far as its header tells.
pub(super) fn duration(file: &File, version: Version) -> io::Result<Option<Duration>> {
    let opened = Opened {
        file,
        length: version.length,
    };
    Ok(match audio::inspect(&opened, Effort::Header)? {
        Content::Recording(facts) => facts.duration,
        Content::Other(_) => None,
    })
}
