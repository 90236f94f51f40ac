//! The PROXY protocol's header, as the server reads it: what it asks for, and no byte more.
//!
//! * It never asks for a byte behind the header: whatever follows, the same is found of the same bytes.
//! * It asks for so much at most, and always comes to an end.
//! * A header that is made for an address is read as that address, in either version.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use tonearm::server::{Decoded, decode};

/// Most bytes of a header: version 2's fixed part and what it may announce.
const MOST: usize = 16 + 2048;

fn read(bytes: &[u8]) -> (Decoded, usize) {
    let mut known = 0;
    loop {
        match decode(&bytes[..known]) {
            Decoded::Need(more) => {
                assert!(more > 0 && known + more <= MOST, "{known} and {more}");
                if known + more > bytes.len() {
                    return (Decoded::Need(more), known);
                }
                known += more;
            }
            decoded => return (decoded, known),
        }
    }
}

fn made(address: SocketAddr) -> [Vec<u8>; 2] {
    let port = address.port();
    let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
    let ip = address.ip();
    let line = format!("PROXY {family} {ip} {ip} {port} 443\r\n").into_bytes();
    let (kind, octets) = match ip {
        IpAddr::V4(ip) => (0x11, ip.octets().to_vec()),
        IpAddr::V6(ip) => (0x21, ip.octets().to_vec()),
    };
    let rest = [&octets[..], &octets, &port.to_be_bytes(), &[1, 0xbb]].concat();
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    binary.extend([kind, 0, u8::try_from(rest.len()).unwrap()]);
    binary.extend(rest);
    [line, binary]
}

fuzz_target!(|data: &[u8]| {
    let (decoded, known) = read(data);
    if !matches!(decoded, Decoded::Need(_)) {
        let longer = [&data[..known], b"\r\nGET / HTTP/1.1\r\n"].concat();
        assert_eq!(read(&longer), (decoded, known));
    }
    let address = data.first_chunk::<18>().map(|bytes| {
        let port = u16::from_be_bytes([bytes[0], bytes[1]]);
        let ip = match bytes[2] % 2 {
            0 => IpAddr::from(*bytes[2..].first_chunk::<4>().unwrap()),
            _ => IpAddr::from(*bytes[2..].first_chunk::<16>().unwrap()),
        };
        SocketAddr::new(ip, port)
    });
    for header in address.map(made).into_iter().flatten() {
        let length = header.len();
        let found = read(&[&header[..], data].concat());
        assert_eq!(found, (Decoded::Whole(address), length));
    }
});
