//! HTTP/2 frame by frame, for requests that no client would send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM_AND_HEADERS: u8 = 0x5;

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
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
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

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A literal field without indexing and without Huffman (RFC 7541 §6.2.2).
fn literal((name, value): (&str, &str)) -> Vec<u8> {
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
