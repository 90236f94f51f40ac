//! The command that mends a recording, as it can be pasted into a shell. What is to be mended is
//! [`Verdict`]'s to say.

use std::path::Path;

use crate::audio::Verdict;
use crate::recording::RecordingId;

/// What a command calls a recording.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Its file.
    pub path: &'a Path,
    /// What it is called in a store; where nobody knows, the command has words to be replaced.
    pub recording: Option<&'a RecordingId>,
    /// The store that it goes to, if one was named.
    pub storage: Option<&'a str>,
    /// Whether it lies there already.
    pub is_stored: bool,
}

impl<'a> Named<'a> {
    /// A file of which nothing else is known.
    #[must_use]
    pub const fn file(path: &'a Path) -> Self {
        Self {
            path,
            recording: None,
            storage: None,
            is_stored: false,
        }
    }

    /// A recording of a store.
    #[must_use]
    pub const fn stored(path: &'a Path, recording: &'a RecordingId, storage: &'a str) -> Self {
        Self {
            path,
            recording: Some(recording),
            storage: Some(storage),
            is_stored: true,
        }
    }

    /// The command that mends what can be mended.
    #[must_use]
    pub fn mended(&self, verdict: &Verdict) -> Option<String> {
        let remedies = verdict.remedies();
        (!remedies.is_empty()).then(|| self.added(&remedies))
    }

    /// The command that brings back what was put, where other bytes lie now.
    #[must_use]
    pub fn put_again(&self) -> String {
        let path = Path::new("FILE");
        Self { path, ..*self }.added(&[])
    }

    fn added(&self, flags: &[&str]) -> String {
        let [app, account, id] = match self.recording {
            Some(id) => [&id.app, &id.account, &id.external].map(|id| shell_word(id.as_str())),
            None => ["APP", "ACCOUNT", "ID"].map(str::to_owned),
        };
        let file = shell_word(&self.path.display().to_string());
        let mut command = format!("tonearm add {file} --app {app} --account {account} --id {id}");
        for flag in flags {
            command = format!("{command} {flag}");
        }
        if self.is_stored {
            command.push_str(" --replace");
        }
        if let Some(storage) = self.storage {
            command = format!("{command} --storage {}", shell_word(storage));
        }
        command
    }
}

/// As it can be pasted into a shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Concern, Use};

    #[test]
    fn a_command_is_one_that_a_shell_takes() {
        let mono = [Concern::Mono, Concern::CodecUnstated];
        let id = RecordingId::new("1", "~acc", "call").unwrap();
        for (path, recording, storage, is_stored, concerns, expect) in [
            (
                "call.wav",
                None,
                None,
                false,
                &mono[..],
                Some("call.wav --app APP --account ACCOUNT --id ID --join OTHER-LEG --to flac"),
            ),
            (
                "Bob's call.wav",
                Some(&id),
                None,
                false,
                &mono[..1],
                Some(r"'Bob'\''s call.wav' --app 1 --account '~acc' --id call --join OTHER-LEG"),
            ),
            (
                "a b/1/~acc/call.mp3",
                Some(&id),
                Some("a b"),
                true,
                &[Concern::NotListed],
                Some(
                    "'a b/1/~acc/call.mp3' --app 1 --account '~acc' --id call --to flac --replace --storage 'a b'",
                ),
            ),
            ("call.wav", None, None, false, &[Concern::Clipped], None),
            (
                "call.wav",
                None,
                None,
                false,
                &[Concern::Mono, Concern::AllSilent],
                None,
            ),
        ] {
            let named = Named {
                path: Path::new(path),
                recording,
                storage,
                is_stored,
            };
            let verdict = Verdict {
                good_for: Use::Transcription,
                concerns: concerns.to_vec(),
            };
            let expect = expect.map(|rest| format!("tonearm add {rest}"));
            assert_eq!(named.mended(&verdict), expect);
        }
    }
}
