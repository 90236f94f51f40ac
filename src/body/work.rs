//! Reading on the blocking pool, so that no disk is waited for on a thread that serves connections.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::select::ByteRange;
use crate::store::Handle;

/// What the blocking pool does for a body.
pub(super) enum Work {
    /// Reads the next window.
    Read(JoinHandle<io::Result<Bytes>>),
    /// Brings a window into the page cache.
    Warm(ByteRange, JoinHandle<io::Result<()>>),
}

/// Has the disk begin to read a window, of which nobody is told.
pub(super) fn ask_for(handle: &Handle, window: ByteRange) {
    let handle = handle.clone();
    drop(spawn_blocking(move || handle.ask_for(window)));
}

/// What the blocking pool has done.
pub(super) enum Done {
    Read(Bytes),
    Warm(ByteRange),
}

impl Work {
    /// Begins to read a window.
    pub(super) fn read(handle: &Handle, window: ByteRange) -> Self {
        let handle = handle.clone();
        Self::Read(spawn_blocking(move || handle.read(window)))
    }

    /// Begins to bring a window into the page cache; `next` may come as well.
    pub(super) fn warm(handle: &Handle, window: ByteRange, next: Option<ByteRange>) -> Self {
        let handle = handle.clone();
        Self::Warm(window, spawn_blocking(move || handle.warm(window, next)))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Done>> {
        Poll::Ready(match self {
            Self::Read(reading) => match ready!(Pin::new(reading).poll(cx)) {
                Ok(read) => read.map(Done::Read),
                Err(error) => Err(io::Error::other(error)),
            },
            Self::Warm(window, warming) => match ready!(Pin::new(warming).poll(cx)) {
                Ok(warmed) => warmed.map(|()| Done::Warm(*window)),
                Err(error) => Err(io::Error::other(error)),
            },
        })
    }
}
