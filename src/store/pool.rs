//! Memory that windows of files are read into, used again.
//!
//! A fresh window costs more than its bytes: the kernel zeroes its pages as they are touched, and
//! takes them back when it is freed. What one window leaves the next one overwrites: a buffer shows
//! only what was read into it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Size of a pooled buffer, in bytes.
const POOLED: usize = 128 * 1024;

/// The largest window that finds room in one.
pub(crate) const LARGEST_READ: u64 = 128 * 1024;

/// Windows smaller than this are cheaper made than shared; a frame of HTTP/2 is, of which many may wait.
const SHARED: usize = 16 * 1024 + 1;

/// Most buffers that wait to be used again: 8 MiB of them.
const WAITING: usize = 64;

static POOL: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

fn pool() -> MutexGuard<'static, Vec<Box<[u8]>>> {
    // Nothing that holds the lock can panic half-way.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets half of what waits go. To be called now and then.
pub(super) fn tidy() {
    let mut pool = pool();
    let keep = pool.len() / 2;
    let gone = pool.split_off(keep);
    drop(pool);
    drop(gone);
}

/// A window's memory.
pub(super) struct Buffer {
    memory: Box<[u8]>,
    length: usize,
}

impl Buffer {
    /// Memory for `length` bytes.
    pub(super) fn of(length: usize) -> Self {
        let memory = if (SHARED..=POOLED).contains(&length) {
            pool().pop().unwrap_or_else(|| vec![0; POOLED].into())
        } else {
            vec![0; length].into()
        };
        Self { memory, length }
    }

    /// What `fill` has filled to the last byte.
    pub(super) fn filled<E>(
        mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        let length = self.length;
        fill(&mut self.memory[..length])?;
        if self.memory.len() != POOLED {
            return Ok(std::mem::take(&mut self.memory).into());
        }
        Ok(Bytes::from_owner(self))
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.memory.len() != POOLED {
            return;
        }
        let memory = std::mem::take(&mut self.memory);
        let mut pool = pool();
        if pool.len() < WAITING {
            pool.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_shows_what_was_read_into_it_and_nothing_else() {
        for (length, byte) in [
            (POOLED, 1),
            (SHARED, 2),
            (POOLED, 3),
            (SHARED - 1, 4),
            (0, 5),
        ] {
            let bytes = Buffer::of(length)
                .filled(|memory| {
                    memory.fill(byte);
                    Ok::<_, ()>(())
                })
                .unwrap();
            assert_eq!(bytes, vec![byte; length]);
        }
        assert_eq!(
            Buffer::of(POOLED).filled(|_| Err("the disk's")),
            Err("the disk's")
        );
    }

    #[test]
    fn the_largest_window_finds_room() {
        let largest = Buffer::of(usize::try_from(LARGEST_READ).unwrap());
        assert_eq!(largest.memory.len(), POOLED);
    }

    #[test]
    fn what_waits_is_bounded() {
        let many: Vec<_> = (0..2 * WAITING).map(|_| Buffer::of(POOLED)).collect();
        drop(many);
        assert!(pool().len() <= WAITING);
    }
}
