//! Bytes on their way into a bucket, in memory of constant size, and the wait for it.
//!
//! Changes of a store wait, as they do for a disk; a thread of its own speaks to the bucket
//! meanwhile, so that whoever waits may be a thread of a server or a command without a runtime.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, MultipartUpload, ObjectStoreExt as _, PutMode, PutMultipartOptions,
    PutPayload, UpdateVersion,
};
use tokio::runtime::{Builder, Handle};
use tokio::time::timeout;

use super::{Client, Object, failure};
use crate::store::incoming::{random_name, size};
use crate::store::{ChangeError, StoreError};

/// Bytes of a part, and the most that are put at once: what S3 wants at least.
pub(super) const PART: u64 = 5 << 20;
/// Parts of one recording under way at a time.
const ABREAST: usize = 2;
/// A sender slower than this, in bytes a second, is given up.
const SLOWEST: u64 = 128 << 10;
/// Longest wait for a copy that the store makes by itself.
const COPYING: Duration = Duration::from_mins(2);

/// Where what is no recording yet lies: no id can spell it.
pub(super) const INCOMING: &str = "+incoming";

/// Waits for work of the bucket.
pub(super) fn wait<T, E>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, ChangeError>
where
    T: Send + 'static,
    E: Into<ChangeError> + Send + 'static,
{
    Begun::new(work)?.wait()
}

/// Work that goes on while something else is done.
struct Begun<T, E>(Receiver<Result<T, E>>);

impl<T: Send + 'static, E: Into<ChangeError> + Send + 'static> Begun<T, E> {
    fn new(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<Self, ChangeError> {
        let (sender, receiver) = sync_channel(1);
        drop(runtime()?.spawn(async move {
            // Who does not wait any more misses nothing.
            drop(sender.send(work.await));
        }));
        Ok(Self(receiver))
    }

    fn wait(self) -> Result<T, ChangeError> {
        let done = self.0.recv();
        let done = done.map_err(|error| StoreError::Exhausted(io::Error::other(error)))?;
        done.map_err(Into::into)
    }
}

/// The runtime of all buckets, which lasts as long as the process.
fn runtime() -> Result<&'static Handle, StoreError> {
    static RUNTIME: OnceLock<io::Result<Handle>> = OnceLock::new();
    let begun = RUNTIME.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("bucket".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        Ok(handle)
    });
    begun
        .as_ref()
        .map_err(|error| StoreError::Exhausted(error.kind().into()))
}

impl Client {
    /// Asks for something that takes so long at most.
    pub(super) async fn within<T>(
        &self,
        longest: Duration,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        self.attempt(longest, request).await?.map_err(failure)
    }

    async fn attempt<T>(
        &self,
        longest: Duration,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<object_store::Result<T>, StoreError> {
        let _permit = self.permit().await?;
        timeout(longest, request)
            .await
            .map_err(|_| StoreError::TimedOut)
    }

    /// Longest wait until so many bytes have been taken.
    fn taking(&self, length: u64) -> Duration {
        self.timeout + Duration::from_secs(length / SLOWEST)
    }

    /// Puts an object; `None` where the mode's condition does not hold.
    pub(super) async fn put(
        &self,
        key: &Path,
        bytes: Bytes,
        mode: PutMode,
    ) -> Result<Option<UpdateVersion>, StoreError> {
        let longest = self.taking(size(&bytes));
        let put = self.store.put_opts(key, bytes.into(), mode.into());
        Ok(conditional(self.attempt(longest, put).await?)?.map(Into::into))
    }

    /// Has an object copied by the store; `None` where something is there that must not be lost.
    pub(super) async fn copy(
        &self,
        from: &Path,
        to: &Path,
        mode: CopyMode,
    ) -> Result<Option<()>, StoreError> {
        let copy = CopyOptions::new().with_mode(mode);
        let copied = self.store.copy_opts(from, to, copy);
        conditional(self.attempt(COPYING.max(self.timeout), copied).await?)
    }

    /// Takes an object away; one that is not there is no matter.
    pub(super) async fn delete(&self, key: &Path) -> Result<(), StoreError> {
        match self.within(self.timeout, self.store.delete(key)).await {
            Err(StoreError::NotFound(_)) => Ok(()),
            deleted => deleted,
        }
    }
}

/// What a request came to that has a condition.
fn conditional<T>(result: object_store::Result<T>) -> Result<Option<T>, StoreError> {
    use object_store::Error as E;

    match result {
        Err(E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. }) => Ok(None),
        result => result.map(Some).map_err(failure),
    }
}

/// What is to be an object: its bytes where they are few, else where they lie in the bucket.
pub(super) enum Staged {
    Few(Bytes),
    Many(Parked),
}

/// An object beneath [`INCOMING`], which is taken away when this is dropped.
pub(super) struct Parked {
    object: Arc<Object>,
    pub(super) key: Path,
}

impl Drop for Parked {
    fn drop(&mut self) {
        let (object, key) = (Arc::clone(&self.object), self.key.clone());
        if let Err(error) = wait(async move { object.client.delete(&key).await }) {
            tracing::warn!(%error, key = %self.key, "an object stays that is no recording; a sweep takes it");
        }
    }
}

impl Object {
    /// A name beneath [`INCOMING`] that nothing has.
    pub(super) fn parking(&self) -> Result<Path, ChangeError> {
        Ok(self.key(&format!("{INCOMING}/{}", random_name()?))?)
    }

    /// Brings a file's bytes to where they can become an object in one step.
    pub(super) fn stage(self: &Arc<Self>, file: &File, length: u64) -> Result<Staged, ChangeError> {
        if length <= PART {
            return Ok(Staged::Few(part(file, 0, length)?));
        }
        let key = self.parking()?;
        let (object, begin) = (Arc::clone(self), key.clone());
        let upload = wait(async move {
            let client = &object.client;
            let options = PutMultipartOptions::default();
            let upload = client.store.put_multipart_opts(&begin, options);
            client.within(client.timeout, upload).await
        })?;
        self.send(file, length, upload)?;
        Ok(Staged::Many(Parked {
            object: Arc::clone(self),
            key,
        }))
    }

    /// Sends a file in parts; what cannot be sent whole is given up.
    fn send(
        self: &Arc<Self>,
        file: &File,
        length: u64,
        mut upload: Box<dyn MultipartUpload>,
    ) -> Result<(), ChangeError> {
        let sent = self.send_parts(file, length, &mut *upload);
        let object = Arc::clone(self);
        wait(async move {
            let client = &object.client;
            let longest = COPYING.max(client.timeout);
            let done = match sent {
                Ok(()) => client
                    .within(longest, upload.complete())
                    .await
                    .map_err(ChangeError::from),
                Err(error) => Err(error),
            };
            if done.is_err()
                && let Err(error) = client.within(client.timeout, upload.abort()).await
            {
                tracing::warn!(%error, "an unfinished multipart upload may stay in the bucket");
            }
            done.map(drop)
        })
    }

    fn send_parts(
        self: &Arc<Self>,
        file: &File,
        length: u64,
        upload: &mut dyn MultipartUpload,
    ) -> Result<(), ChangeError> {
        let mut under_way = VecDeque::new();
        let mut offset = 0;
        while offset < length {
            let bytes = part(file, offset, PART.min(length - offset))?;
            offset += size(&bytes);
            if under_way.len() == ABREAST
                && let Some(first) = under_way.pop_front()
            {
                Begun::wait(first)?;
            }
            let object = Arc::clone(self);
            let longest = object.client.taking(size(&bytes));
            let sending = upload.put_part(PutPayload::from_bytes(bytes));
            under_way.push_back(Begun::new(async move {
                object.client.within(longest, sending).await
            })?);
        }
        under_way.into_iter().try_for_each(Begun::wait)
    }
}

/// Some bytes of a file, all of which are there.
pub(super) fn part(file: &File, offset: u64, length: u64) -> io::Result<Bytes> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = BytesMut::zeroed(length);
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.freeze())
}
