//! Memory that windows of files are read into, used again.
//!
//! A fresh window costs more than its bytes: the kernel zeroes its pages as they are touched, and
//! takes them back when it is freed. What one window leaves the next one overwrites: a buffer shows
//! only what was read into it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, Bytes};

/// Where a window begins in its buffer. Large memory begins with a page, as does that which TLS encrypts in, where the copy
/// of a window lies behind the 5 bytes of a record's header, or 14 with a frame's. glibc's copy of 16 KiB takes ten times
/// as long on an AMD EPYC where the destination is 1 to 16 bytes behind the source modulo 4096.
const SKEW: usize = 64;

/// Size of a pooled buffer, in bytes.
const POOLED: usize = SKEW + 128 * 1024;

/// The largest window that finds room in one.
pub(crate) const LARGEST_READ: u64 = 128 * 1024;

/// The largest one that takes 16 KiB of memory, with what is before it: a frame of HTTP/2, of which many may wait.
pub(crate) const SMALL_READ: u64 = 16 * 1024 - 64;

/// Windows smaller than this are cheaper made than shared.
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
        let size = SKEW + length;
        let memory = if length >= SHARED && size <= POOLED {
            pool().pop().unwrap_or_else(|| vec![0; POOLED].into())
        } else {
            vec![0; size].into()
        };
        Self { memory, length }
    }

    /// What `fill` has filled to the last byte.
    pub(super) fn filled<E>(
        mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        let length = self.length;
        fill(&mut self.memory[SKEW..][..length])?;
        if self.memory.len() != POOLED {
            let mut memory: Bytes = std::mem::take(&mut self.memory).into();
            memory.advance(SKEW);
            return Ok(memory);
        }
        Ok(Bytes::from_owner(self))
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[SKEW..][..self.length]
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
            (POOLED - SKEW, 1),
            (SHARED, 2),
            (POOLED - SKEW, 3),
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
            Buffer::of(SHARED).filled(|_| Err("the disk's")),
            Err("the disk's")
        );
    }

    #[test]
    fn windows_find_room() {
        for (window, memory) in [(LARGEST_READ, POOLED), (SMALL_READ, 16 * 1024)] {
            let buffer = Buffer::of(usize::try_from(window).unwrap());
            assert_eq!(buffer.memory.len(), memory);
        }
    }

    #[test]
    fn what_tls_puts_before_a_window_makes_no_copy_slow() {
        for header in [5, 5 + 9] {
            let behind = (header + 4096 - SKEW) % 4096;
            assert!(behind == 0 || behind >= 32, "{header}");
        }
        let buffer = Buffer::of(SHARED);
        let begins = buffer.as_ref().as_ptr().addr() - buffer.memory.as_ptr().addr();
        assert_eq!(begins, SKEW);
    }

    #[test]
    fn what_waits_is_bounded() {
        let many: Vec<_> = (0..2 * WAITING).map(|_| Buffer::of(SHARED)).collect();
        drop(many);
        assert!(pool().len() <= WAITING);
    }
}
