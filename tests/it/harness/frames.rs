//! HTTP/2 frame by frame, for requests that no client would send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM_AND_HEADERS: u8 = 0x5;
/// Error codes of RFC 9113 §7.
pub const REFUSED_STREAM: u32 = 7;
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

/// A connection on which nothing but the preface and these settings has been said.
pub struct Raw {
    pub stream: TcpStream,
}

/// A frame as it came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a GOAWAY or RST_STREAM.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

impl Raw {
    pub fn connect(addr: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        let limit = Some(Duration::from_secs(10));
        stream.set_read_timeout(limit).unwrap();
        stream.set_write_timeout(limit).unwrap();
        let mut raw = Self { stream };
        let pairs = settings.iter();
        let payload: Vec<u8> = pairs
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        assert!(raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()));
        raw
    }

    /// Whether it could still be sent.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame; `None` when the server has closed.
    pub fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind: head[3],
            payload,
        })
    }

    /// How the connection ends: by a GOAWAY with this code, or without a word.
    pub fn end(&mut self) -> Option<u32> {
        let mut said = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                said = Some(frame.code());
            }
        }
        said
    }
}

/// A request's fields in one block.
pub fn block(method: &str, target: &str) -> Vec<u8> {
    let fields = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", target),
    ];
    fields.iter().flat_map(|field| literal(*field)).collect()
}

/// What became of stream 1.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// It, or the whole connection, was refused as malformed.
    Reset,
    /// A response came, with these bytes of a body.
    Answered(Vec<u8>),
}

/// Sends one request of these fields in this order, and waits for its end.
pub fn ask(addr: SocketAddr, fields: &[(&str, &str)]) -> Ending {
    let mut stream = TcpStream::connect(addr).unwrap();
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).unwrap();
    let mut out = PREFACE.to_vec();
    out.extend(frame(SETTINGS, 0, 0, &[]));
    let block: Vec<u8> = fields.iter().flat_map(|field| literal(*field)).collect();
    out.extend(frame(HEADERS, END_STREAM_AND_HEADERS, 1, &block));
    stream.write_all(&out).unwrap();
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return Ending::Reset;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).unwrap();
        let ends = head[4] & 1 == 1;
        match head[3] {
            RST_STREAM | GOAWAY => return Ending::Reset,
            DATA => body.extend(payload),
            _ => {}
        }
        if ends && matches!(head[3], DATA | HEADERS) {
            return Ending::Answered(body);
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A literal field without indexing and without Huffman (RFC 7541 §6.2.2).
pub fn literal((name, value): (&str, &str)) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        let mut length = text.len();
        if length < 127 {
            out.push(u8::try_from(length).unwrap());
        } else {
            out.push(127);
            length -= 127;
            while length >= 128 {
                out.push(u8::try_from(length % 128).unwrap() | 128);
                length /= 128;
            }
            out.push(u8::try_from(length).unwrap());
        }
        out.extend(text.as_bytes());
    }
    out
}
