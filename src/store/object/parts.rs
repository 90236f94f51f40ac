//! An upload in parts that lies in a bucket, so that any replica goes on where another one was.
//!
//! `{name}.upload` beneath `+incoming` says what it is to be, and `{name}/{offset}` holds bytes from
//! there on: what counts is what follows on without a gap. A piece is put on condition that nothing
//! lies at its offset: of two replicas that bring the same part, the second one stops. Pieces come
//! to the bucket as soon as they are as large as a part of its own, so that a replica that is killed
//! loses no more; those that are to be checked wait in a file of the machine until they have been.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, PutMode};

use super::send::{INCOMING, PART, part, wait};
use super::{Object, modified};
use crate::recording::UnixTime;
use crate::store::incoming::size;
use crate::store::{ChangeError, StoreError};

/// The bytes of an upload, as far as they have come.
#[derive(Debug)]
pub(in crate::store) struct Parts {
    pub(in crate::store) object: Arc<Object>,
    name: String,
    /// What lies there, and how long it is.
    pieces: Vec<(Path, u64)>,
    /// So many bytes lie in the bucket; those behind them, in a file of this machine.
    kept: u64,
    spool: File,
    spooled: u64,
    unchecked: bool,
}

impl Parts {
    pub(in crate::store) fn begin(object: &Arc<Object>, name: &str) -> Result<Self, ChangeError> {
        Ok(Self {
            object: Arc::clone(object),
            name: name.to_owned(),
            pieces: Vec::new(),
            kept: 0,
            spool: tempfile::tempfile()?,
            spooled: 0,
            unchecked: false,
        })
    }

    /// Those of this name, the state as it was saved, and when the last of it all came.
    pub(in crate::store) fn resume(
        object: &Arc<Object>,
        name: &str,
    ) -> Result<(Self, Vec<u8>, Option<UnixTime>), ChangeError> {
        let mut parts = Self::begin(object, name)?;
        let (asked, key) = (Arc::clone(object), parts.key(".upload")?);
        let (state, meta) = wait(async move {
            let (result, _permit) = asked.client.ask(&key, GetOptions::default()).await?;
            let meta = result.meta.clone();
            let text = asked.client.within(asked.client.timeout, result.bytes());
            Ok::<_, StoreError>((text.await?.to_vec(), meta))
        })?;
        let (mut last, mut pieces) = (modified(&meta), Vec::new());
        object.list(Some(&format!("{INCOMING}/{name}")), |piece| {
            last = last.max(modified(&piece));
            pieces.push((piece.location, piece.size));
            Ok(())
        })?;
        pieces.sort_unstable();
        for piece in pieces {
            if piece.0 == parts.piece(parts.kept)? {
                parts.kept += piece.1;
                parts.pieces.push(piece);
            }
        }
        Ok((parts, state, last))
    }

    /// Bytes that have come.
    pub(in crate::store) const fn length(&self) -> u64 {
        self.kept + self.spooled
    }

    fn key(&self, ending: &str) -> Result<Path, StoreError> {
        self.object
            .key(&format!("{INCOMING}/{}{ending}", self.name))
    }

    /// Where the bytes from an offset on lie; the order of names is that of offsets.
    fn piece(&self, offset: u64) -> Result<Path, StoreError> {
        self.key(&format!("/{offset:020}"))
    }

    /// Saves the state, and says when that was.
    pub(in crate::store) fn save(&self, text: Vec<u8>) -> Result<Option<UnixTime>, ChangeError> {
        let (object, key) = (Arc::clone(&self.object), self.key(".upload")?);
        wait(async move {
            let client = &object.client;
            client.put(&key, text.into(), PutMode::Overwrite).await?;
            Ok::<_, StoreError>(modified(&client.head(key).await?))
        })
    }

    pub(in crate::store) fn write(&mut self, bytes: &[u8]) -> Result<(), ChangeError> {
        self.spool.write_all(bytes)?;
        self.spooled += size(bytes);
        if self.spooled >= PART && !self.unchecked {
            self.send()?;
        }
        Ok(())
    }

    /// What is written from now on counts only when the part has ended.
    pub(in crate::store) const fn mark(&mut self) {
        self.unchecked = true;
    }

    /// Ends a part: everything of it lies in the bucket then.
    pub(in crate::store) fn end(&mut self) -> Result<(), ChangeError> {
        self.unchecked = false;
        self.send()
    }

    /// Forgets what has not come to the bucket; what is left.
    pub(in crate::store) fn forget(&mut self) -> Result<u64, ChangeError> {
        self.spool.set_len(0)?;
        self.spool.seek(SeekFrom::Start(0))?;
        (self.spooled, self.unchecked) = (0, false);
        Ok(self.kept)
    }

    fn send(&mut self) -> Result<(), ChangeError> {
        let mut offset = 0;
        while offset < self.spooled {
            let bytes = part(&self.spool, offset, PART.min(self.spooled - offset))?;
            offset += size(&bytes);
            self.send_piece(bytes)?;
        }
        self.forget()?;
        Ok(())
    }

    fn send_piece(&mut self, bytes: Bytes) -> Result<(), ChangeError> {
        let (object, key) = (Arc::clone(&self.object), self.piece(self.kept)?);
        let (length, to) = (size(&bytes), key.clone());
        let put = wait(async move { object.client.put(&to, bytes, PutMode::Create).await })?;
        put.ok_or(ChangeError::Busy)?;
        self.pieces.push((key, length));
        self.kept += length;
        Ok(())
    }

    /// All bytes in the bucket, in a file without a name.
    pub(in crate::store) fn gathered(&self) -> Result<File, ChangeError> {
        let mut file = tempfile::tempfile()?;
        for (key, _) in &self.pieces {
            let (object, key) = (Arc::clone(&self.object), key.clone());
            // A listing may spell a tag in another way than what is pinned by it.
            let meta = wait(async move { object.client.head(key).await })?;
            self.object.read(meta, |bytes| file.write_all(bytes))?;
        }
        Ok(file)
    }

    /// Takes the bytes away.
    pub(in crate::store) fn remove(&self) -> Result<(), ChangeError> {
        for piece in &self.pieces {
            self.delete(piece.0.clone())?;
        }
        Ok(())
    }

    /// Takes all of it away; bytes without a state are nothing.
    pub(in crate::store) fn give_up(&self) -> Result<(), ChangeError> {
        self.delete(self.key(".upload")?)?;
        self.remove()
    }

    fn delete(&self, key: Path) -> Result<(), ChangeError> {
        let object = Arc::clone(&self.object);
        wait(async move { object.client.delete(&key).await })
    }
}
