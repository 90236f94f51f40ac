//! Recordings made by other programs, in a directory of their own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::harness::{has_peer, skips};

/// Whether the programs are there that make the recordings.
pub fn have_makers() -> bool {
    const INSTALL: &str = "apt-get install ffmpeg sox flac lame";
    // ffmpeg is alone in wanting one dash.
    let ffmpeg = Command::new("ffmpeg").arg("-version").output();
    let ffmpeg = ffmpeg.is_ok_and(|output| output.status.success());
    (ffmpeg || skips("ffmpeg", INSTALL))
        && ["sox", "flac", "lame"]
            .iter()
            .all(|program| has_peer(program, INSTALL))
}

/// A directory in which commands make files.
pub struct Made(tempfile::TempDir);

impl Made {
    /// With `call.wav` in it: 2.5 s, 8 kHz, 440 Hz on channel 1 and 600 Hz on channel 2.
    pub fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        made.sh(
            "sox -D -n -r 8000 -b 16 -c 2 call.wav synth 2.5 sine 440 sine 600 gain -6; \
             sox -D call.wav -c 1 mono.wav remix 1",
        );
        made
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Runs a command line in the directory.
    pub fn sh(&self, line: &str) -> String {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", line])
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{line}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// ffmpeg, quiet and without questions.
pub const FF: &str = "ffmpeg -v error -nostdin -y -fflags +bitexact";
