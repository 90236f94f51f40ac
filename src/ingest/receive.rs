//! A body on its way to the disk: one buffer fills while the other is written.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming as Content;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::Refused;
use crate::store::{ChangeError, StoreError};

/// Size of a buffer; an upload has two.
const BUFFER: usize = 128 * 1024;

/// What may wait for the disk at a time, of all that are brought: far fewer than the threads that
/// listeners' reads have, so that no listener waits for an upload.
static DISK: Semaphore = Semaphore::const_new(16);

/// Where a body goes. Waits for the disk.
pub(super) trait Sink: Send + 'static {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Refused>;
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// As it should.
    Whole,
    /// The connection ended first, or broke the framing.
    Cut,
    /// Nothing came for too long.
    Stalled,
}

/// A write under way, which gives back what it was given.
type Write<S> = JoinHandle<Result<(S, Vec<u8>), Refused>>;

async fn write<S: Sink>(mut sink: S, mut buffer: Vec<u8>) -> Write<S> {
    let permit = DISK.acquire().await;
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        sink.write(&buffer)?;
        buffer.clear();
        Ok((sink, buffer))
    })
}

async fn written<S: Sink>(write: Write<S>) -> Result<(S, Vec<u8>), Refused> {
    match write.await {
        Ok(done) => done,
        Err(error) => Err(failed(error)),
    }
}

/// Reads a body to its end, into `sink`. Reading waits while both buffers are full, and with it the
/// sender. What came before a cut or a stall is in the sink as well.
pub(super) async fn receive<S: Sink>(
    content: &mut Content,
    sink: S,
    stall: Duration,
) -> Result<(S, Ending), Refused> {
    let mut filling = Vec::with_capacity(BUFFER);
    let mut writing = write(sink, Vec::with_capacity(BUFFER)).await;
    let ending = loop {
        let frame = match tokio::time::timeout(stall, content.frame()).await {
            Err(_) => break Ending::Stalled,
            Ok(None) => break Ending::Whole,
            Ok(Some(Err(_))) => break Ending::Cut,
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let mut rest = &data[..];
        while !rest.is_empty() {
            let room = (BUFFER - filling.len()).min(rest.len());
            filling.extend_from_slice(&rest[..room]);
            rest = &rest[room..];
            if filling.len() == BUFFER {
                let (sink, empty) = written(writing).await?;
                writing = write(sink, std::mem::replace(&mut filling, empty)).await;
            }
        }
    };
    let (sink, _) = written(writing).await?;
    let (sink, _) = written(write(sink, filling).await).await?;
    Ok((sink, ending))
}

/// No call of the file system is made on a thread that serves connections.
pub(super) async fn off_reactor<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    let permit = DISK.acquire().await;
    let work = move || {
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

fn failed(error: tokio::task::JoinError) -> Refused {
    ChangeError::from(StoreError::Io(std::io::Error::other(error))).into()
}
