//! New keyrings, and changes of one: a file is put into place whole or not at all.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};
use zeroize::Zeroizing;

use super::{BASE64URL, FileError, date, parse, read};
use crate::recording::UnixTime;
use crate::sign::{Audience, Key, Keyring, Policy, TokenId};

/// Bytes of a new secret: as many as the MAC has.
const SECRET: usize = 32;

const HEADER: &str = "\
# Signing keys of tonearm. Whoever reads this file can sign URLs: mode 0600.
# `tonearm keys rotate` changes keys without breaking a URL; a running server
# reads the file again at SIGHUP.
";

/// Makes a keyring with one new key; never over a file that is there.
///
/// # Errors
/// [`FileError::Io`], with `AlreadyExists` where the file is there.
pub fn create(path: &Path, now: UnixTime) -> Result<String, FileError> {
    let kid = new_kid(now, &HashSet::new())?;
    let mut document = DocumentMut::new();
    push(&mut document, &kid, None)?;
    let text = Zeroizing::new(format!("{HEADER}\n{document}"));
    match place(path, text.as_bytes()) {
        Ok(()) => Ok(kid),
        Err(source) => Err(FileError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Puts a new file into place whole or not at all, never over another: of two servers that start
/// at once, both read the ring of the first.
fn place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = beside(path, &format!(".{}.new", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // A link fails where the name is taken, which a rename does not.
        std::fs::hard_link(&beside, path)?;
        sync_directory(path)
    };
    let written = write();
    // It has two names now, or is of no use.
    let _ = std::fs::remove_file(&beside);
    written
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Makes a new name in a directory last.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// What a change does, for the operator to read.
pub type Steps = Vec<String>;

/// A keyring's file on its way to another state. Comments and order are kept.
pub struct Change {
    path: PathBuf,
    policy: Policy,
    now: UnixTime,
    before: Zeroizing<String>,
    document: DocumentMut,
    ring: Keyring,
}

impl Change {
    /// Reads the file to change.
    ///
    /// # Errors
    /// [`FileError`] where it will not do as it is.
    pub fn of(path: &Path, policy: &Policy, now: UnixTime) -> Result<Self, FileError> {
        let text = read(path)?;
        let ring = parse(path, &text, policy)?;
        let document = text
            .parse()
            .map_err(|_| FileError::Change("not TOML".into()))?;
        Ok(Self {
            path: path.to_owned(),
            policy: *policy,
            now,
            before: text,
            document,
            ring,
        })
    }

    /// Adds a key that signs `lead` seconds from now on, and lets those that sign today retire:
    /// each verifies until the last URL it can have signed has ended.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn rotate(&mut self, lead: u64) -> Result<Steps, FileError> {
        let taken = self
            .ring
            .keys()
            .iter()
            .map(|key| key.kid().to_owned())
            .collect();
        let kid = new_kid(self.now, &taken)?;
        let from = self.now.plus(lead);
        let until = from.plus(self.policy.max_ttl + self.policy.bucket);
        let mut steps = vec![format!(
            "new key {kid} verifies at once and signs from {}",
            date(from)
        )];
        // A key of an earlier rotation that is still to come takes over from this one in its turn.
        let leaves = |key: &&Key| {
            let window = key.window();
            *key.audience() == Audience::Origin
                && window.mint_until.is_none()
                && window.mint_from.is_none_or(|begins| begins < from)
        };
        let leaving: Vec<String> = self
            .ring
            .keys()
            .iter()
            .filter(leaves)
            .map(|key| key.kid().to_owned())
            .collect();
        for old in leaving {
            if let Some(entry) = self.entry(&old) {
                entry["mint_until"] = value(date(from));
                entry["verify_until"] = value(date(until));
            }
            steps.push(format!(
                "key {old} signs until then and verifies until {}",
                date(until)
            ));
        }
        push(&mut self.document, &kid, Some(from))?;
        Ok(steps)
    }

    /// Takes a key away at once, and with it every URL it signed.
    ///
    /// # Errors
    /// [`FileError::Change`] where there is no such key, or none would be left to sign.
    pub fn revoke_key(&mut self, kid: &str) -> Result<Steps, FileError> {
        if !self.ring.keys().iter().any(|key| key.kid() == kid) {
            return Err(FileError::Change(format!(
                "there is no key {kid:?}; `tonearm keys list` shows all"
            )));
        }
        let signs =
            |key: &&Key| *key.audience() == Audience::Origin && key.window().mints_at(self.now);
        if self
            .ring
            .keys()
            .iter()
            .filter(signs)
            .all(|key| key.kid() == kid)
        {
            return Err(FileError::Change(format!(
                "without key {kid:?} no key signs now; run first: tonearm keys rotate --after 0s"
            )));
        }
        if let Some(keys) = self.keys() {
            keys.retain(|entry| entry.get("kid").and_then(Item::as_str) != Some(kid));
        }
        Ok(vec![format!(
            "key {kid} is gone, and every URL it signed ends with the next reload"
        )])
    }

    /// Revokes one URL by its token id.
    pub fn revoke_url(&mut self, id: TokenId) -> Steps {
        let list = self.document["revoked"].or_insert(value(toml_edit::Array::new()));
        if let Some(list) = list.as_array_mut()
            && !list
                .iter()
                .any(|entry| entry.as_str() == Some(&id.to_string()))
        {
            list.push(id.to_string());
        }
        vec![format!(
            "the URL with token id {id} ends with the next reload"
        )]
    }

    /// Puts the new state in the file's place, if it is a keyring.
    ///
    /// # Errors
    /// [`FileError`]; the old file is then as it was.
    pub fn commit(self) -> Result<(), FileError> {
        let text = Zeroizing::new(self.document.to_string());
        parse(&self.path, &text, &self.policy)?;
        replace(&self.path, &self.before, text.as_bytes())
    }

    fn keys(&mut self) -> Option<&mut ArrayOfTables> {
        self.document.get_mut("key")?.as_array_of_tables_mut()
    }

    fn entry(&mut self, kid: &str) -> Option<&mut Table> {
        self.keys()?
            .iter_mut()
            .find(|entry| entry.get("kid").and_then(Item::as_str) == Some(kid))
    }
}

/// Writes beside the file, and renames: a reader sees the old file or the new one. Owner and mode
/// stay as they were, so that a server can still read what an administrator has changed. Whoever
/// has the file beside has the right to change; it is of use only where the change began from the
/// file as it still is.
fn replace(path: &Path, before: &str, bytes: &[u8]) -> Result<(), FileError> {
    let io_error = |path: &Path, source| FileError::Io {
        path: path.to_owned(),
        source,
    };
    // A link to the file stays one.
    let path = &std::fs::canonicalize(path).map_err(|error| io_error(path, error))?;
    let old = std::fs::metadata(path).map_err(|error| io_error(path, error))?;
    let beside = beside(path, ".new");
    // That it is there means that another change is under way, or was cut off.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(old.mode() & 0o777)
        .open(&beside)
        .map_err(|error| io_error(&beside, error))?;
    if *read(path)? != *before {
        let _ = std::fs::remove_file(&beside);
        let problem = format!("{} was changed meanwhile; run this again", path.display());
        return Err(FileError::Change(problem));
    }
    let mut write = || {
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        // The umask has had its say at opening.
        file.set_permissions(old.permissions())?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        sync_directory(path)
    };
    write().map_err(|error| {
        // What went wrong is already being told.
        let _ = std::fs::remove_file(&beside);
        io_error(path, error)
    })
}

fn push(document: &mut DocumentMut, kid: &str, from: Option<UnixTime>) -> Result<(), FileError> {
    let mut secret = Zeroizing::new([0; SECRET]);
    getrandom::fill(&mut *secret).map_err(FileError::Random)?;
    let mut entry = Table::new();
    entry["kid"] = value(kid);
    entry["secret"] = value(BASE64URL.encode(*secret));
    if let Some(from) = from {
        entry["mint_from"] = value(date(from));
    }
    let keys = document["key"].or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let Some(keys) = keys.as_array_of_tables_mut() else {
        return Err(FileError::Change(
            "write every key as its own [[key]]".to_owned(),
        ));
    };
    keys.push(entry);
    Ok(())
}

/// A key id that says when the key was made: `k261123-4f2a`.
fn new_kid(now: UnixTime, taken: &HashSet<String>) -> Result<String, FileError> {
    let day = date(now)[2..10].replace('-', "");
    loop {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(FileError::Random)?;
        let kid = format!("k{day}-{:04x}", u16::from_be_bytes(random));
        if !taken.contains(&kid) {
            return Ok(kid);
        }
    }
}
