//! Opening beneath a directory, and nowhere else, whatever links lie there; and what it says that
//! something cannot be opened.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::StoreError;

/// Why a file is not there that is simply not there.
pub(super) const NO_FILE: &str = "no such file";
pub(super) const LEADS_OUT: &str = "a link leads out of the store";

/// Reading, and never waiting: opening a FIFO or a device must not hang.
pub(super) const READING: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// Whether a disk may be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Waits,
    /// What would have to be waited for is [`Errno::AGAIN`], and says nothing of whether it is there.
    Never,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn open_beneath(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;

    /// openat2 gives up with EAGAIN when a rename races with a `..` it has to check.
    const RACES: usize = 8;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RACES {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Before Linux 5.6, and where a sandbox hides the call.
            Err(Errno::NOSYS | Errno::PERM) => return open_stepwise(root, path, flags),
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// The same of names that the kernel has at hand (`RESOLVE_CACHED`), whatever they name.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn open_at_hand(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;

    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        // Before Linux 5.12, and where a sandbox hides the call.
        Err(Errno::INTR | Errno::INVAL | Errno::NOSYS | Errno::PERM) => Err(Errno::AGAIN),
        opened => opened,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn open_at_hand(_: &OwnedFd, _: &str, _: OFlags) -> Result<OwnedFd, Errno> {
    Err(Errno::AGAIN)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn open_beneath(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_stepwise(root, path, flags)
}

/// The same without openat2: one directory after the other, following no link at all.
pub(super) fn open_stepwise(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let step = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut parts = path.split('/');
    let name = parts.next_back().unwrap_or_default();
    let mut directory = None;
    for part in parts {
        let from = directory.as_ref().unwrap_or(root);
        directory = Some(rustix::fs::openat(from, part, step, Mode::empty())?);
    }
    let from = directory.as_ref().unwrap_or(root);
    rustix::fs::openat(from, name, flags | OFlags::NOFOLLOW, Mode::empty())
}

/// What an errno of opening says: that there is no such recording, or that we cannot tell.
pub(super) fn absent_or_failed(errno: Errno) -> StoreError {
    match errno {
        Errno::NOENT | Errno::NOTDIR => StoreError::NotFound(NO_FILE),
        // RESOLVE_BENEATH: the path leaves the root.
        Errno::XDEV => StoreError::NotFound(LEADS_OUT),
        Errno::LOOP => StoreError::NotFound("a link that is not followed"),
        Errno::NAMETOOLONG => StoreError::NotFound("longer than file names are here"),
        // A socket, or a device without a driver.
        Errno::NXIO | Errno::NODEV => StoreError::NotFound("not a regular file"),
        other => failure(other.into()),
    }
}

/// Whether a look with [`Patience::Never`] would have had to wait.
pub(super) fn would_wait(error: &StoreError) -> bool {
    matches!(error, StoreError::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}

pub(super) fn failure(error: io::Error) -> StoreError {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
            StoreError::Exhausted(error)
        }
        _ => StoreError::Io(error),
    }
}
