//! A connection's bytes as h2 wants them, and the buffers they are received into.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::{ROOM, Wire, is_early};

/// Bytes that are received at once.
const PIECE: usize = 64 << 10;

/// Buffers that nobody uses, of one thread.
#[derive(Clone, Default)]
pub(super) struct Buffers {
    spare: Rc<RefCell<Vec<Vec<u8>>>>,
    /// Whether a server may send little ahead, since what it sends waits in memory for who plays it.
    pub(super) small_windows: bool,
}

impl Buffers {
    fn take(&self) -> Vec<u8> {
        let spare = self.spare.borrow_mut().pop();
        spare.unwrap_or_else(|| vec![0; ROOM])
    }
}

/// A wire as h2 wants it. Nobody is woken by it: its link is looked at when the poll says so.
pub(super) struct Pipe {
    wire: Wire,
    /// Only while there is something in it: most connections are quiet most of the time.
    buffer: Vec<u8>,
    buffers: Buffers,
    /// What was received and not yet taken.
    at: usize,
    end: usize,
}

impl Pipe {
    pub(super) fn over(wire: Wire, buffers: Buffers) -> Self {
        Self {
            wire,
            buffer: Vec::new(),
            buffers,
            at: 0,
            end: 0,
        }
    }
}

fn polled<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if is_early(&error) => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = &mut *self;
        if pipe.at == pipe.end {
            if pipe.buffer.is_empty() {
                pipe.buffer = pipe.buffers.take();
            }
            let read = pipe.wire.read(&mut pipe.buffer, PIECE, RecvFlags::empty());
            match polled(read) {
                Poll::Ready(Ok(count)) => (pipe.at, pipe.end) = (0, count),
                nothing => {
                    let buffer = std::mem::take(&mut pipe.buffer);
                    pipe.buffers.spare.borrow_mut().push(buffer);
                    return nothing.map_ok(drop);
                }
            }
        }
        let count = into.remaining().min(pipe.end - pipe.at);
        into.put_slice(&pipe.buffer[pipe.at..pipe.at + count]);
        pipe.at += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        polled(self.wire.write(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.wire.flush() {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
