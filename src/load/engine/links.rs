//! Connections of HTTP/2: which listeners share one, and who is called when something comes.

use std::io;
use std::sync::Arc;
use std::task::Waker;

use super::Worker;
use crate::load::exchange::Exchange;
use crate::load::pipe::Buffers;
use crate::load::stream::{Bell, Link, Ready, Stream};
use crate::load::tally::Failure;
use crate::load::wire::Origin;

/// Connections of the same listeners that are kept though nobody uses them.
const KEPT: usize = 4;

/// Those of one thread. Their numbers follow those of its listeners.
pub(super) struct Links {
    listeners: usize,
    all: Vec<Option<Link>>,
    /// By listeners that share: the numbers of their links.
    groups: Vec<Vec<usize>>,
    ready: Arc<Ready>,
    buffers: Buffers,
}

impl Links {
    /// `play` tells whether there are players among the listeners.
    pub(super) fn new(listeners: usize, play: bool) -> Self {
        let mut buffers = Buffers::default();
        buffers.small_windows = play;
        Self {
            listeners,
            all: Vec::new(),
            groups: Vec::new(),
            ready: Arc::default(),
            buffers,
        }
    }

    pub(super) fn at(&mut self, number: usize) -> Option<&mut Link> {
        self.all.get_mut(number)?.as_mut()
    }

    pub(super) fn nothing_waits(&self) -> bool {
        self.all.is_empty() || self.ready.is_empty()
    }

    /// After a silence: what has never been open is not waited for any longer.
    pub(super) fn give_up(&mut self, number: usize) {
        if let Some(link) = self.at(number)
            && link.is_opening()
        {
            link.retired = true;
        }
    }

    fn usable(&mut self, group: usize, origin: &Origin) -> Option<usize> {
        let links = &self.all;
        let fits = |number: &&usize| {
            let link = links.get(**number).and_then(Option::as_ref);
            link.is_some_and(|link| link.is_usable() && link.origin == *origin)
        };
        self.groups.get(group)?.iter().find(fits).copied()
    }

    /// Lets go of what nobody uses and nobody can.
    fn tidy(&mut self, group: usize, used: impl Fn(usize) -> bool) {
        if self.groups.len() <= group {
            self.groups.resize_with(group + 1, Vec::new);
        }
        let mut kept = 0;
        let links = &mut self.all;
        self.groups[group].retain(|number| {
            let usable = links[*number].as_ref().is_some_and(Link::is_usable);
            let stays = used(*number) || usable && kept < KEPT;
            kept += usize::from(stays);
            if !stays {
                links[*number] = None;
            }
            stays
        });
    }

    fn free(&mut self) -> usize {
        let free = self.all.iter().position(Option::is_none);
        free.unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() - 1
        })
    }
}

impl Worker<'_> {
    /// Sends a request as a stream, on a link that so many listeners share.
    pub(super) fn send_on_link(&mut self, index: usize, exchange: Exchange, streams: usize) {
        let place = self.listeners[index].part;
        let link = self.link(place, index / streams, &exchange.request.origin, streams);
        let listener = &mut self.listeners[index];
        listener.exchange = Some(exchange);
        listener.bell.get_or_insert_with(|| {
            let bell = Bell::new(index, &self.links.ready);
            (Arc::clone(&bell), Waker::from(bell))
        });
        match link {
            Ok(link) => {
                listener.stream = Some(Stream::new(link));
                self.queue(index);
            }
            Err(error) => {
                let wrong = (Failure::of(&error), error.to_string());
                self.unsent.push((index, wrong));
            }
        }
    }

    /// The link of some listeners to a server, opened where there is none.
    fn link(
        &mut self,
        place: usize,
        group: usize,
        origin: &Origin,
        streams: usize,
    ) -> io::Result<usize> {
        if let Some(number) = self.links.usable(group, origin) {
            return Ok(number);
        }
        let end = self.listeners.len().min((group + 1) * streams);
        let members = group * streams..end;
        let theirs = &self.listeners[members.clone()];
        let streams_of = || theirs.iter().filter_map(|member| member.stream.as_ref());
        self.links.tidy(group, |number| {
            streams_of().any(|stream| stream.link == number)
        });
        let number = self.links.free();
        let bell = Bell::new(self.links.listeners + number, &self.links.ready);
        self.parts[place].tally.connections += 1;
        let tls = self.plan.tls.as_ref();
        let (registry, buffers) = (self.poll.registry(), &self.links.buffers);
        let link = Link::open(origin, tls, registry, bell, members, buffers)?;
        self.links.all[number] = Some(link);
        self.links.groups[group].push(number);
        self.look_after(self.links.listeners + number);
        Ok(number)
    }

    /// Looks after a listener, or after a link.
    pub(super) fn look_after(&mut self, number: usize) {
        let Some(number) = number.checked_sub(self.listeners.len()) else {
            return self.advance(number);
        };
        let Some(link) = self.links.at(number) else {
            return;
        };
        if link.advance() {
            // Opened, or over: those who wait for it find out which.
            for index in link.members.clone() {
                let stream = self.listeners[index].stream.as_ref();
                if stream.is_some_and(|stream| stream.link == number) {
                    self.queue(index);
                }
            }
        }
    }

    /// Those that h2 calls for: first who has something to read, then the links by which the next
    /// requests go.
    pub(super) fn answer(&mut self) {
        for _ in 0..2 {
            let mut ready = self.links.ready.take();
            ready.sort_unstable();
            for number in ready {
                self.look_after(number);
            }
        }
    }
}
