//! How workers share connections: each connection goes to the worker that has the fewest.
//!
//! Workers accept from one listener, and the kernel wakes whom it likes: left to that, one core
//! would serve everybody while the other sleeps.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream as StdStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long what others have accepted is waited for at the end: they hear of it at the same time.
const LAST: Duration = Duration::from_millis(100);

/// A worker's share of the connections that it and its fellows accept.
#[derive(Debug)]
pub struct Share {
    door: Door,
    inbox: Inbox,
}

/// Where a worker decides what becomes of the connections it accepts.
#[derive(Debug)]
pub(super) struct Door {
    house: Arc<House>,
    own: usize,
}

/// What other workers have accepted for this one.
#[derive(Debug)]
pub(super) struct Inbox(UnboundedReceiver<Handed>);

/// What the workers have in common.
#[derive(Debug)]
struct House {
    workers: Vec<Worker>,
    /// How many connections each address has.
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

impl House {
    fn of(workers: Vec<Worker>) -> Arc<Self> {
        Arc::new(Self {
            workers,
            addresses: Mutex::default(),
        })
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing that holds the lock can panic half-way.
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
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
    house: Arc<House>,
    worker: usize,
    /// Whose it is, as far as that is known.
    address: Option<IpAddr>,
}

impl Place {
    /// Counts this connection among those of its address; false where it is one too many. 0 is any
    /// number.
    pub(super) fn claim(&mut self, address: IpAddr, most: usize) -> bool {
        let address = of_one_host(address);
        self.address = Some(address);
        let mut addresses = self.house.addresses();
        let count = addresses.entry(address).or_default();
        *count += 1;
        most == 0 || *count <= most
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let worker = &self.house.workers[self.worker];
        worker.open.fetch_sub(1, Ordering::Relaxed);
        let Some(address) = self.address else { return };
        let mut addresses = self.house.addresses();
        match addresses.get_mut(&address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(addresses.remove(&address)),
        }
    }
}

impl Share {
    /// The share of one who serves alone.
    #[must_use]
    pub fn alone() -> Self {
        let (worker, inbox) = worker();
        Self::of(&House::of(vec![worker]), 0, inbox)
    }

    /// One share for each of so many workers.
    #[must_use]
    pub fn among(count: usize) -> Vec<Self> {
        let (workers, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| worker()).unzip();
        let house = House::of(workers);
        let share = |(own, inbox)| Self::of(&house, own, inbox);
        inboxes.into_iter().enumerate().map(share).collect()
    }

    fn of(house: &Arc<House>, own: usize, inbox: UnboundedReceiver<Handed>) -> Self {
        Self {
            door: Door {
                house: Arc::clone(house),
                own,
            },
            inbox: Inbox(inbox),
        }
    }

    /// Begins to serve.
    pub(super) fn open(self) -> (Door, Inbox) {
        (self.door, self.inbox)
    }
}

impl Door {
    /// Whether all workers together have so many connections; 0 is any number.
    pub(super) fn is_full(&self, most: usize) -> bool {
        let workers = self.house.workers.iter();
        let open: usize = workers
            .map(|worker| worker.open.load(Ordering::Relaxed))
            .sum();
        most > 0 && open >= most
    }

    /// Keeps a connection that was accepted here, or hands it to a worker with fewer.
    pub(super) fn keep(&self, stream: TcpStream, peer: SocketAddr) -> Option<Kept> {
        let place = self.place();
        if place.worker == self.own {
            return Some((stream, peer, place));
        }
        let fellow = &self.house.workers[place.worker];
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

    /// A place with the worker that has the fewest connections; with this one, if it is one of them.
    fn place(&self) -> Place {
        let workers = &self.house.workers;
        let open = |worker: usize| workers[worker].open.load(Ordering::Relaxed);
        let fewest = (0..workers.len())
            .min_by_key(|worker| (open(*worker), *worker != self.own))
            .unwrap_or(self.own);
        workers[fewest].open.fetch_add(1, Ordering::Relaxed);
        Place {
            house: Arc::clone(&self.house),
            worker: fewest,
            address: None,
        }
    }
}

impl Inbox {
    /// The next connection that another worker has accepted for this one.
    pub(super) async fn handed(&mut self) -> std::io::Result<Kept> {
        match self.0.recv().await {
            Some(handed) => {
                let stream = TcpStream::from_std(handed.stream)?;
                Ok((stream, handed.peer, handed.place))
            }
            // There is a sender as long as there is this share.
            None => std::future::pending().await,
        }
    }

    /// The next one that still comes when all are about to stop; `None` when there will be no other.
    pub(super) async fn last(&mut self, door: &Door) -> Option<Kept> {
        if door.house.workers.len() == 1 {
            return None;
        }
        let handed = tokio::time::timeout(LAST, self.handed()).await;
        handed.ok()?.ok()
    }
}

/// What one host has: an address, or of IPv6 a network of 64 bits (RFC 4291 §2.5.4).
fn of_one_host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
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

    const HOST: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn a_connection_goes_to_the_worker_with_the_fewest() {
        let shares = Share::among(3);
        let placed = |own: usize| shares[own].door.place();
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
        let places: Vec<_> = (0..3).map(|_| share.door.place()).collect();
        assert!(places.iter().all(|place| place.worker == 0));
    }

    #[test]
    fn hosts_are_told_apart() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::2:3", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            let [one, other] = [one, other].map(|text| of_one_host(text.parse().unwrap()));
            assert_eq!(one == other, same, "{one} {other}");
        }
    }

    #[test]
    fn what_is_closed_is_forgotten() {
        let share = Share::alone();
        let mut places = [share.door.place(), share.door.place()];
        let kept = places.each_mut().map(|place| place.claim(HOST, 1));
        assert_eq!(kept, [true, false]);
        assert!(share.door.is_full(2) && !share.door.is_full(3));
        assert_eq!(share.door.house.addresses().len(), 1);
        drop(places);
        assert!(share.door.house.addresses().is_empty());
    }
}
