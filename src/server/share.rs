//! How workers share connections: each connection goes to the worker that has the fewest.
//!
//! Workers accept from one listener, and the kernel wakes whom it likes: left to that, one core
//! would serve everybody while the other sleeps.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A worker's share of the connections that it and its fellows accept.
#[derive(Debug)]
pub struct Share {
    workers: Arc<[Worker]>,
    own: usize,
    inbox: UnboundedReceiver<Handed>,
}

#[derive(Debug)]
struct Worker {
    open: AtomicUsize,
    /// What others have accepted for it.
    inbox: UnboundedSender<Handed>,
}

/// A connection on its way to another worker.
#[derive(Debug)]
struct Handed {
    stream: StdStream,
    peer: SocketAddr,
    place: Place,
}

/// A connection to be served here.
pub(super) type Kept = (TcpStream, SocketAddr, Place);

/// A connection's place among those of its worker, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    workers: Arc<[Worker]>,
    worker: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.workers[self.worker]
            .open
            .fetch_sub(1, Ordering::Relaxed);
    }
}

impl Share {
    /// The share of one who serves alone.
    #[must_use]
    pub fn alone() -> Self {
        let (worker, inbox) = worker();
        Self {
            workers: Arc::new([worker]),
            own: 0,
            inbox,
        }
    }

    /// One share for each of so many workers.
    #[must_use]
    pub fn among(count: usize) -> Vec<Self> {
        let (workers, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| worker()).unzip();
        let workers: Arc<[Worker]> = workers.into();
        let share = |(own, inbox)| Self {
            workers: Arc::clone(&workers),
            own,
            inbox,
        };
        inboxes.into_iter().enumerate().map(share).collect()
    }

    /// Keeps a connection that was accepted here, or hands it to a worker with fewer.
    pub(super) fn keep(&self, stream: TcpStream, peer: SocketAddr) -> Option<Kept> {
        let place = self.place();
        if place.worker == self.own {
            return Some((stream, peer, place));
        }
        let fellow = &self.workers[place.worker];
        // A worker that has ended, or a socket its runtime does not give back: the client sees a
        // closed connection, as it does from any server that is stopping.
        let stream = stream.into_std().ok()?;
        let _ = fellow.inbox.send(Handed {
            stream,
            peer,
            place,
        });
        None
    }

    /// The next connection that another worker has accepted for this one.
    pub(super) async fn handed(&mut self) -> std::io::Result<Kept> {
        match self.inbox.recv().await {
            Some(handed) => {
                let stream = TcpStream::from_std(handed.stream)?;
                Ok((stream, handed.peer, handed.place))
            }
            // There is a sender as long as there is this share.
            None => std::future::pending().await,
        }
    }

    /// A place with the worker that has the fewest connections; with this one, if it is one of them.
    fn place(&self) -> Place {
        let open = |worker: usize| self.workers[worker].open.load(Ordering::Relaxed);
        let fewest = (0..self.workers.len())
            .min_by_key(|worker| (open(*worker), *worker != self.own))
            .unwrap_or(self.own);
        self.workers[fewest].open.fetch_add(1, Ordering::Relaxed);
        Place {
            workers: Arc::clone(&self.workers),
            worker: fewest,
        }
    }
}

fn worker() -> (Worker, UnboundedReceiver<Handed>) {
    let (inbox, handed) = unbounded_channel();
    let open = AtomicUsize::new(0);
    (Worker { open, inbox }, handed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_to_the_worker_with_the_fewest() {
        let shares = Share::among(3);
        let placed = |own: usize| shares[own].place();
        let first = placed(1);
        assert_eq!(first.worker, 1, "one's own, while all have none");
        let second = placed(1);
        assert_ne!(second.worker, 1);
        let third = placed(1);
        assert!(![first.worker, second.worker].contains(&third.worker));
        assert_eq!(placed(2).worker, 2);
        drop(first);
        assert_eq!(placed(2).worker, 1, "what was closed leaves a place");
    }

    #[test]
    fn one_alone_keeps_all() {
        let share = Share::alone();
        let places: Vec<_> = (0..3).map(|_| share.place()).collect();
        assert!(places.iter().all(|place| place.worker == 0));
    }
}
