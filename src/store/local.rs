//! A directory of this machine.
//!
//! Every path is opened beneath the root by the kernel's own rule (openat2, `RESOLVE_BENEATH`), so
//! that no link leads out whatever happens between a check and its use. What is opened is what is
//! described and sent; nothing is looked up twice.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat};

use super::beneath::{
    LEADS_OUT, NO_FILE, Patience, READING, absent_or_failed, failure, open_at_hand, open_beneath,
    would_wait,
};
use super::cache::{Cache, Held, Witness};
use super::opened::duration;
use super::pace::Pace;
use super::{Found, Handle, Record, StoreError, Version};
use crate::recording::{MediaPath, MediaType, RecordingId, Representation, UnixTime};
use crate::respond::Described;
use crate::select::ByteRange;
use crate::sign::Grant;

/// Largest record that is read, in bytes.
const MAX_RECORD: u64 = 1 << 20;

/// Seconds after its last change at which a file is taken to be finished. Until then it is copied
/// before it is sent: a writer that cuts or rewrites it in place could otherwise reach bytes that
/// already wait in a socket.
const SETTLED: u64 = 5;

/// A store in a directory, laid out as `{appId}/{externalAccountId}/{externalId}.{ext}`.
#[derive(Debug)]
pub struct Local {
    root: OwnedFd,
    path: PathBuf,
    cache: Cache,
    pace: Pace,
}

/// A recording opened and described.
pub(super) struct Located {
    pub(super) described: Described,
    pub(super) handle: Handle,
    witness: Witness,
}

impl Local {
    /// Opens the directory at `path`. Everything is then looked up from this very directory, even
    /// when another one takes its place.
    ///
    /// # Errors
    /// Where there is no directory, or it cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: rustix::fs::open(path, flags, Mode::empty())?,
            path: path.to_owned(),
            cache: Cache::new(),
            pace: Pace::default(),
        })
    }

    /// Has what changes in the directory noticed within `trust`, and no longer at the very next request:
    /// of a recording that is asked for more often, fewer questions go to the file system.
    #[must_use]
    pub fn trusting(mut self, trust: Duration) -> Self {
        self.cache.trust = trust;
        self
    }

    /// Where the directory was when it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn root(&self) -> &OwnedFd {
        &self.root
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&self.root, ".", flags, Mode::empty())
            .and_then(fstat)
            .map_err(|errno| failure(errno.into()))?;
        if root.st_nlink == 0 {
            return Err(failure(io::ErrorKind::NotFound.into()));
        }
        Ok(())
    }

    /// The recording at `path`, if it is held open and still what it was.
    pub(super) fn held(&self, path: &str, now: UnixTime, at: Option<Instant>) -> Option<Arc<Held>> {
        self.cache.current(path, now, at)
    }

    pub(super) fn tidy(&self, now: UnixTime) {
        self.cache.tidy(now);
    }

    /// The recording of a grant, if it is held open or can be opened without waiting, and what is held
    /// renewed in time.
    pub(super) fn at_hand(
        self: &Arc<Self>,
        grant: &Grant,
        now: UnixTime,
        at: Option<Instant>,
    ) -> Result<Option<Arc<Held>>, StoreError> {
        let held = match self.held(grant.path(), now, at) {
            Some(held) => held,
            None => match self.locate_at_hand(grant, now) {
                Err(error) if would_wait(&error) => return Ok(None),
                located => located?,
            },
        };
        grant.check_generation(held.generation)?;
        if held.is_to_be_renewed(now) && !self.renew(grant.path(), now, Patience::Never) {
            let (local, path) = (Arc::clone(self), grant.path().to_owned());
            // Its result is in the cache when it is there; nobody waits for it.
            drop(tokio::task::spawn_blocking(move || {
                local.renew(&path, now, Patience::Waits)
            }));
        }
        Ok(Some(held))
    }

    /// [`locate`](Self::locate), as far as it is not likely to wait for a disk: what has to be read of a
    /// directory is in memory where all that was read of late was there at once.
    fn locate_at_hand(&self, grant: &Grant, now: UnixTime) -> Result<Arc<Held>, StoreError> {
        if self.pace.is_quick() {
            return self.locate_timed(grant, now);
        }
        self.locate(grant, now, Patience::Never)
    }

    /// [`locate`](Self::locate), however long it takes, which is noted.
    pub(super) fn locate_timed(
        &self,
        grant: &Grant,
        now: UnixTime,
    ) -> Result<Arc<Held>, StoreError> {
        self.pace.timed(|| self.locate(grant, now, Patience::Waits))
    }

    /// Opens the recording of a grant, and holds it for those who ask next.
    pub(super) fn locate(
        &self,
        grant: &Grant,
        now: UnixTime,
        patience: Patience,
    ) -> Result<Arc<Held>, StoreError> {
        self.look_up(grant.path(), now, patience, |record| {
            Ok(grant.check_generation(record.generation)?)
        })
    }

    /// Lets go of a recording that was changed here.
    pub(super) fn forget(&self, path: &MediaPath) {
        self.cache.release(&path.url_path());
    }

    /// Looks up again what is held open, or lets go of it. Whether that was done: it is not where it would
    /// have had to wait and must not.
    fn renew(&self, path: &str, now: UnixTime, patience: Patience) -> bool {
        match self.look_up(path, now, patience, |_| Ok(())) {
            Err(error) if patience == Patience::Never && would_wait(&error) => return false,
            Err(error) => {
                tracing::debug!(%error, "a recording is not held open any more");
                self.cache.release(path);
            }
            Ok(_) => {}
        }
        true
    }

    fn look_up(
        &self,
        url_path: &str,
        now: UnixTime,
        patience: Patience,
        permits: impl FnOnce(&Record) -> Result<(), StoreError>,
    ) -> Result<Arc<Held>, StoreError> {
        let path = MediaPath::parse(url_path)
            .ok_or(StoreError::NotFound("the grant is not for a recording"))?;
        // Before all else, so that whatever comes later into the directory is noticed.
        let directory = self.directory(&path.recording, now, patience)?;
        let (record, witness) = self.witnessed_record(&path.recording, patience)?;
        permits(&record)?;
        let Located {
            described,
            mut handle,
            witness: file,
        } = self.open_recording(&path, &record, patience)?;
        let modified = described.representation().last_modified;
        handle.settled = modified.is_none_or(|modified| modified.until(now) >= SETTLED);
        self.cache.go_on(url_path, &mut handle);
        // A record that is there is witness enough: none can come beside it, and of what has been
        // replaced since it was opened the directory has told by now.
        let directory = Some(directory).filter(|it| witness.is_none() || !it.agrees());
        let held = Arc::new(Held {
            described,
            handle,
            generation: record.generation,
            witnesses: [Some(file), witness, directory]
                .into_iter()
                .flatten()
                .collect(),
            located: now,
            renewing: AtomicBool::new(false),
            agreed: AtomicU64::new(0),
        });
        self.cache.hold(url_path, &held);
        Ok(held)
    }

    fn directory(
        &self,
        id: &RecordingId,
        now: UnixTime,
        patience: Patience,
    ) -> Result<Witness, StoreError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = id.directory();
        if let Some(directory) = self.cache.directory(&path, now) {
            return Ok(directory);
        }
        let directory = self.open_beneath(&path, flags, patience)?;
        let directory = Witness::of(Arc::new(directory)).map_err(failure)?;
        self.cache.hold_directory(&path, &directory, now);
        Ok(directory)
    }

    /// The record beside a recording; one that is not there says nothing.
    pub(super) fn record(&self, id: &RecordingId) -> Result<Record, StoreError> {
        Ok(self.witnessed_record(id, Patience::Waits)?.0)
    }

    fn witnessed_record(
        &self,
        id: &RecordingId,
        patience: Patience,
    ) -> Result<(Record, Option<Witness>), StoreError> {
        let witness = match self.open_regular(&id.with_extension("json"), patience) {
            Ok((file, stat)) => Witness::as_it_was(Arc::new(file), &stat),
            Err(StoreError::NotFound(NO_FILE)) => return Ok((Record::default(), None)),
            // The whole directory may lie outside; the recording is then no more there than this.
            Err(StoreError::NotFound(LEADS_OUT)) => return Err(StoreError::NotFound(LEADS_OUT)),
            // Something is there that cannot be read as a record: it could be what revokes.
            Err(StoreError::NotFound(why)) => return Err(StoreError::Io(io::Error::other(why))),
            Err(error) => return Err(error),
        };
        let text = match patience {
            Patience::Waits => whole(witness.file(), MAX_RECORD),
            Patience::Never => whole_at_hand(witness.file(), MAX_RECORD),
        };
        let text = text.map_err(failure)?;
        let record = Record::read(&text).map_err(StoreError::Record)?;
        Ok((record, Some(witness)))
    }

    pub(super) fn open_recording(
        &self,
        path: &MediaPath,
        record: &Record,
        patience: Patience,
    ) -> Result<Located, StoreError> {
        // Whatever lies there now: what was erased stays erased until its record says otherwise.
        if record.erased_at.is_some() {
            return Err(StoreError::Erased);
        }
        let (file, stat) = self.open_regular(&path.store_path(), patience)?;
        let version = Version::of(&stat);
        leave_no_trace(&file);
        let file = Arc::new(file);
        if record.is_damaged(version) {
            return Err(StoreError::Damaged);
        }
        let sha256 = record.sha256(version);
        let representation = Representation {
            length: version.length,
            etag: version.etag(record),
            last_modified: version.modified(),
            media: path.media,
            file_name: path.file_name(),
            sha256,
        };
        Ok(Located {
            described: representation.into(),
            witness: Witness::as_it_was(Arc::clone(&file), &stat),
            handle: Handle {
                file,
                version,
                settled: false,
                grows: false,
                warmth: Arc::default(),
            },
        })
    }

    pub(super) fn find(&self, id: &RecordingId) -> Result<Found, StoreError> {
        let record = self.record(id)?;
        if record.erased_at.is_some() {
            return Err(StoreError::Erased);
        }
        for media in MediaType::ALL {
            let path = MediaPath {
                recording: id.clone(),
                media,
            };
            match self.open_file(&path.store_path()) {
                Ok((_, version)) if record.is_damaged(version) => {
                    return Err(StoreError::Damaged);
                }
                Ok((file, version)) => {
                    return Ok(Found {
                        duration: duration(&file, version).map_err(failure)?,
                        path,
                        generation: record.generation,
                    });
                }
                Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::NotFound("no file of a known format"))
    }

    pub(super) fn example(&self) -> Option<MediaPath> {
        /// More entries than this in a directory are not worth sorting for an example.
        const FEW: usize = 1000;
        let names = |path: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(path).into_iter().flatten().take(FEW);
            let mut names: Vec<_> = entries
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect();
            names.sort_unstable();
            names
        };
        for app in names(&self.path) {
            for account in names(&self.path.join(&app)) {
                for file in names(&self.path.join(&app).join(&account)) {
                    let path = format!("{}{app}/{account}/{file}", MediaPath::PREFIX);
                    if let Some(found) = MediaPath::parse(&path) {
                        return Some(found);
                    }
                }
            }
        }
        None
    }

    fn open_beneath(
        &self,
        path: &str,
        flags: OFlags,
        patience: Patience,
    ) -> Result<File, StoreError> {
        let opened = match patience {
            Patience::Waits => open_beneath(&self.root, path, flags),
            Patience::Never => open_at_hand(&self.root, path, flags),
        };
        Ok(opened.map_err(absent_or_failed)?.into())
    }

    /// Opens a regular file beneath the root; anything else is not there.
    pub(super) fn open_file(&self, path: &str) -> Result<(File, Version), StoreError> {
        let (file, stat) = self.open_regular(path, Patience::Waits)?;
        Ok((file, Version::of(&stat)))
    }

    fn open_regular(&self, path: &str, patience: Patience) -> Result<(File, Stat), StoreError> {
        let file = self.open_beneath(path, READING, patience)?;
        let stat = fstat(&file).map_err(|errno| failure(errno.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(StoreError::NotFound("not a regular file"));
        }
        Ok((file, stat))
    }
}

/// Reading a recording does not change its inode, where we may ask for that: it is the owner's to ask, and
/// whoever is not reads all the same.
fn leave_no_trace(file: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fcntl_setfl(file, READING | OFlags::NOATIME);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// A small file's text, as far as `most` bytes.
fn whole(mut file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.by_ref().take(most).read_to_end(&mut text)?;
    Ok(text)
}

/// The same, where all of it lies in the page cache; else an error that says that it would be waited for.
fn whole_at_hand(file: &Arc<File>, most: u64) -> io::Result<Vec<u8>> {
    let handle = Handle::of_shared(Arc::clone(file))?;
    let Some(last) = handle.version.length.min(most).checked_sub(1) else {
        return Ok(Vec::new());
    };
    let text = handle.read_cached(ByteRange { first: 0, last });
    let text = text.ok_or(io::ErrorKind::WouldBlock)?;
    handle.check()?;
    Ok(text.into())
}

#[cfg(test)]
mod tests;
