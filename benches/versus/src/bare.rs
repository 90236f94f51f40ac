//! The bare peer: what is left of a server when all it does is epoll, recv, send and sendfile. It is no
//! HTTP server: it believes each request to be one head in one read, forgets nothing it has opened, and knows
//! of one length, one directory and GET. What it takes is what the system takes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fs::sendfile;
use rustix::net::{SendFlags, send};

use crate::pattern::FILE_LENGTH;

/// Ranges up to this are sent in one piece with their head.
const SMALL: u64 = 16 << 10;
const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// What could not be sent of a head and what goes with it.
    unsent: Vec<u8>,
    /// What is to be sent of a file, behind that.
    file: Option<Rc<File>>,
    at: u64,
    left: u64,
}

pub(crate) fn serve(root: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &poll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut files = HashMap::new();
    let (mut next, mut events) = (0, Vec::with_capacity(512));
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            let number = event.data.u64();
            if number == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                    epoll::add(&poll, &stream, EventData::new_u64(next), flags)?;
                    connections.insert(next, Connection::new(stream));
                    next += 1;
                }
            } else if let Some(connection) = connections.get_mut(&number)
                && let Err(error) = connection.advance(root, &mut files)
                && !is_early(&error)
            {
                connections.remove(&number);
            }
        }
    }
}

fn is_early(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            unsent: Vec::new(),
            file: None,
            at: 0,
            left: 0,
        }
    }

    /// Until nothing more can be done; never without an error.
    fn advance(
        &mut self,
        root: &Path,
        files: &mut HashMap<String, Rc<File>>,
    ) -> io::Result<std::convert::Infallible> {
        loop {
            while !self.unsent.is_empty() {
                let count = self.stream.write(&self.unsent)?;
                self.unsent.drain(..count);
            }
            while let Some(file) = self.file.as_ref().filter(|_| self.left > 0) {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX);
                match sendfile(&self.stream, file, Some(&mut self.at), most)? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    count => self.left -= count as u64,
                }
            }
            let mut head = [0; 4096];
            let count = self.stream.read(&mut head)?;
            let head = std::str::from_utf8(&head[..count]).unwrap_or_default();
            let asked = Asked::of(head).ok_or(ErrorKind::InvalidData)?;
            self.answer(&asked, root, files)?;
        }
    }

    fn answer(
        &mut self,
        asked: &Asked<'_>,
        root: &Path,
        files: &mut HashMap<String, Rc<File>>,
    ) -> io::Result<()> {
        let file = match files.get(asked.path) {
            Some(file) => Rc::clone(file),
            None => {
                let file = Rc::new(File::open(root.join(asked.path))?);
                files.insert(asked.path.to_owned(), Rc::clone(&file));
                file
            }
        };
        let (first, last) = asked.range.unwrap_or((0, FILE_LENGTH - 1));
        let length = (last + 1)
            .checked_sub(first)
            .ok_or(ErrorKind::InvalidData)?;
        let mut bytes = Vec::with_capacity(512 + SMALL as usize);
        match asked.range {
            None => bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
            Some(_) => write!(
                bytes,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{FILE_LENGTH}\r\n"
            )?,
        }
        write!(
            bytes,
            "Content-Length: {length}\r\nContent-Type: audio/wav\r\nETag: \"{}\"\r\n\r\n",
            asked.path
        )?;
        let mut flags = SendFlags::NOSIGNAL;
        if length <= SMALL {
            let head = bytes.len();
            bytes.resize(head + length as usize, 0);
            file.read_exact_at(&mut bytes[head..], first)?;
            self.left = 0;
        } else {
            flags |= SendFlags::MORE;
            (self.at, self.left) = (first, length);
            self.file = Some(file);
        }
        let sent = match send(&self.stream, &bytes, flags) {
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN) => 0,
            Err(error) => return Err(error.into()),
        };
        if sent < bytes.len() {
            self.unsent = bytes.split_off(sent);
        }
        Ok(())
    }
}

/// A request, as far as it is read.
struct Asked<'a> {
    path: &'a str,
    range: Option<(u64, u64)>,
}

impl<'a> Asked<'a> {
    fn of(head: &'a str) -> Option<Self> {
        let path = head.strip_prefix("GET /")?.split(' ').next()?;
        let range = head.split_once("\r\nRange: bytes=");
        let range = match range {
            None => None,
            Some((_, rest)) => {
                let (first, rest) = rest.split_once('-')?;
                let last = rest.split_once("\r\n")?.0;
                let last = match last {
                    "" => FILE_LENGTH - 1,
                    last => last.parse().ok()?,
                };
                Some((first.parse().ok()?, last))
            }
        };
        Some(Self { path, range })
    }
}

pub(crate) fn version() -> String {
    "a loop of epoll, recv, send and sendfile that is no HTTP server (bare.rs)".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_the_load_are_read() {
        let of = |range: &str| {
            let head = format!("GET /a/b.wav HTTP/1.1\r\nHost: x\r\n{range}\r\n");
            let asked = Asked::of(&head).unwrap();
            assert_eq!(asked.path, "a/b.wav");
            asked.range
        };
        assert_eq!(of(""), None);
        assert_eq!(of("Range: bytes=5-9\r\n"), Some((5, 9)));
        assert_eq!(of("Range: bytes=5-\r\n"), Some((5, FILE_LENGTH - 1)));
        assert!(Asked::of("POST / HTTP/1.1\r\n\r\n").is_none());
    }
}
