//! What is asked for, and what is known of it, by which each answer is checked.
//!
//! A whole file known beforehand is compared byte by byte. Without one, responses are compared with
//! each other: each aligned block of 4 KiB is remembered by its CRC-32 when it is first seen.

use std::net::ToSocketAddrs as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::Uri;
use rustls::pki_types::ServerName;
use sha2::{Digest as _, Sha256};

use super::tally::Failure;
use super::wire::Origin;
use super::{USER, size, wide};

/// Responses are compared in blocks of so many bytes.
pub(super) const BLOCK: u64 = 4 << 10;
/// Longest recording whose blocks are remembered; the table then takes 8 MiB.
const MAX_REMEMBERED: u64 = 4 << 30;

/// Why a URL cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It is no URL.
    #[error("{0} is not a URL such as http://127.0.0.1:8080/a.wav")]
    Malformed(String),
    /// Only HTTP is spoken.
    #[error("{0}: only http:// and https:// are spoken here")]
    Scheme(String),
    /// Its host has no address.
    #[error("{host} cannot be looked up")]
    Lookup {
        /// Host and port.
        host: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Its host has no address at all.
    #[error("{0} has no address")]
    NoAddress(String),
}

/// A request up to its range, and where it goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) origin: Origin,
    /// Of HTTP/1.1: each line ended; the range and an empty line are still to come.
    pub(super) head: Vec<u8>,
    /// Of HTTP/2.
    pub(super) uri: Uri,
    label: String,
}

impl Request {
    /// A `GET` of `url`, whose host is looked up here.
    ///
    /// # Errors
    /// [`TargetError`]
    pub(super) fn new(url: &str) -> Result<Self, TargetError> {
        let label = without_query(url);
        let malformed = || TargetError::Malformed(label.clone());
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        let (scheme, authority) = (uri.scheme_str(), uri.authority());
        let authority = authority.ok_or_else(malformed)?;
        let port = match scheme {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(TargetError::Scheme(label)),
        };
        // A port that is no number, or a user's name.
        let plain = authority.port_u16().is_some() || authority.as_str() == authority.host();
        if !plain || authority.as_str().contains('@') {
            return Err(malformed());
        }
        let host = format!(
            "{}:{}",
            authority.host(),
            authority.port_u16().unwrap_or(port)
        );
        let mut found = host.to_socket_addrs().map_err(|source| {
            let host = host.clone();
            TargetError::Lookup { host, source }
        })?;
        let address = found.next().ok_or(TargetError::NoAddress(host))?;
        let server = match port {
            443 => Some(server(authority.host()).ok_or_else(malformed)?),
            _ => None,
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {USER}\r\nAccept: */*\r\n"
        );
        Ok(Self {
            origin: Origin { address, server },
            head: head.into_bytes(),
            label,
            uri,
        })
    }
}

/// A host as a certificate names it, an IPv6 address without its brackets.
fn server(host: &str) -> Option<ServerName<'static>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).ok()
}

/// A URL as it may be shown: a query may hold a signature.
fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// What a recording is known to hold, before the first request.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// All of its bytes.
    pub file: Option<Bytes>,
    /// SHA-256 of all of its bytes.
    pub sha256: Option<[u8; 32]>,
}

/// One recording: how its URL is had, and what is known of it.
#[derive(Debug)]
pub struct Recording {
    /// Its own URL, or the resolver's question for it.
    pub(super) request: Arc<Request>,
    /// Whether `request` asks a resolver for the URL.
    pub(super) resolved: bool,
    expected: Expected,
    length: OnceLock<u64>,
    etag: OnceLock<Box<[u8]>>,
    /// By block: 0, or 2^32 more than its CRC-32.
    seen: OnceLock<Box<[AtomicU64]>>,
}

impl Recording {
    /// A recording behind a URL.
    ///
    /// # Errors
    /// [`TargetError`]
    pub fn at(url: &str, expected: Expected) -> Result<Self, TargetError> {
        Ok(Self::new(Request::new(url)?, false, expected))
    }

    /// A recording whose URL a resolver tells; `url` is the resolver's, with the id in its place.
    ///
    /// # Errors
    /// [`TargetError`]
    pub fn behind(url: &str, expected: Expected) -> Result<Self, TargetError> {
        Ok(Self::new(Request::new(url)?, true, expected))
    }

    fn new(request: Request, resolved: bool, expected: Expected) -> Self {
        let recording = Self {
            request: Arc::new(request),
            resolved,
            length: OnceLock::new(),
            etag: OnceLock::new(),
            seen: OnceLock::new(),
            expected,
        };
        if let Some(file) = &recording.expected.file {
            recording.learn(wide(file.len()));
        }
        recording
    }

    /// The URL without its query, which may hold a signature.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.request.label
    }

    /// Whether asking for it leaves this machine.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        !self.request.origin.address.ip().is_loopback()
    }

    /// Whether it is asked for over TLS.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.request.origin.server.is_some()
    }

    /// Its length in bytes, once known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length.get().copied()
    }

    /// Whether it has as many bytes as was known before, if it was.
    pub(super) fn learn(&self, length: u64) -> bool {
        *self.length.get_or_init(|| length) == length
    }

    /// Whether it has the entity tag that it had before.
    pub(super) fn has_tag(&self, etag: Option<&[u8]>) -> bool {
        let etag = etag.unwrap_or_default();
        &**self.etag.get_or_init(|| etag.into()) == etag
    }

    fn seen(&self) -> Option<&[AtomicU64]> {
        let length = self.length().filter(|length| *length <= MAX_REMEMBERED)?;
        Some(self.seen.get_or_init(|| {
            let blocks = 0..length.div_ceil(BLOCK);
            blocks.map(|_| AtomicU64::new(0)).collect()
        }))
    }

    /// Whether a block has the sum that it had before; none if it is seen for the first time.
    fn agrees(&self, block: u64, sum: u32) -> Option<bool> {
        let slot = self.seen()?.get(size(block))?;
        let sum = (1 << 32) | u64::from(sum);
        match slot.compare_exchange(0, sum, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => None,
            Err(before) => Some(before == sum),
        }
    }
}

/// Compares one response's body as it comes.
pub(super) struct Checker {
    at: u64,
    /// The sum of the block that `at` is in, if it was read from its first byte.
    sum: Option<crc32fast::Hasher>,
    /// Of a whole recording whose digest is known.
    digest: Option<Sha256>,
    /// Bytes that were compared with something.
    pub(super) compared: u64,
}

impl Checker {
    /// For a body that begins at byte `first`.
    pub(super) fn new(recording: &Recording, first: u64, whole: bool) -> Self {
        let digest = whole && recording.expected.sha256.is_some();
        Self {
            at: first,
            sum: None,
            digest: digest.then(Sha256::new),
            compared: 0,
        }
    }

    /// The next bytes.
    pub(super) fn feed(&mut self, recording: &Recording, bytes: &[u8]) -> Result<(), Failure> {
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        match &recording.expected.file {
            Some(file) => self.compare(file, bytes),
            None => self.remember(recording, bytes),
        }
    }

    fn compare(&mut self, file: &[u8], bytes: &[u8]) -> Result<(), Failure> {
        let first = size(self.at);
        self.at += wide(bytes.len());
        self.compared += wide(bytes.len());
        match file.get(first..first.saturating_add(bytes.len())) {
            Some(right) if right == bytes => Ok(()),
            _ => Err(Failure::WrongBytes),
        }
    }

    fn remember(&mut self, recording: &Recording, mut bytes: &[u8]) -> Result<(), Failure> {
        let length = recording.length().unwrap_or(u64::MAX);
        while !bytes.is_empty() {
            let block = self.at / BLOCK;
            let end = ((block + 1) * BLOCK).min(length);
            let (now, later) = bytes.split_at(bytes.len().min(size(end.saturating_sub(self.at))));
            if now.is_empty() {
                return Ok(());
            }
            if self.at.is_multiple_of(BLOCK) {
                self.sum = Some(crc32fast::Hasher::new());
            }
            if let Some(sum) = &mut self.sum {
                sum.update(now);
            }
            self.at += wide(now.len());
            bytes = later;
            if self.at == end {
                self.close_block(recording, block, end)?;
            }
        }
        Ok(())
    }

    fn close_block(&mut self, recording: &Recording, block: u64, end: u64) -> Result<(), Failure> {
        let Some(sum) = self.sum.take() else {
            return Ok(());
        };
        match recording.agrees(block, sum.finalize()) {
            Some(true) => self.compared += end - block * BLOCK,
            Some(false) => return Err(Failure::WrongBytes),
            None => {}
        }
        Ok(())
    }

    /// After the last byte of a whole body.
    pub(super) fn finish(&mut self, recording: &Recording) -> Result<(), Failure> {
        let Some(digest) = self.digest.take() else {
            return Ok(());
        };
        let digest: [u8; 32] = digest.finalize().into();
        self.compared = self.at;
        match recording.expected.sha256 {
            Some(right) if right != digest => Err(Failure::WrongDigest),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recording(expected: Expected) -> Recording {
        Recording::at("http://127.0.0.1:1/a.wav?sig=secret", expected).unwrap()
    }

    fn bytes() -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(1);
        (0..20_000).map(|_| random.u8(..)).collect()
    }

    #[test]
    fn a_query_is_never_shown() {
        let recording = recording(Expected::default());
        assert_eq!(recording.label(), "http://127.0.0.1:1/a.wav");
        assert!(String::from_utf8_lossy(&recording.request.head).contains("?sig=secret "));
        let error = Request::new("ftp://example.com/a?sig=secret").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for bad in [
            "",
            "/a.wav",
            "example.com/a",
            "ftp://127.0.0.1/a",
            "http://127.0.0.1:x/",
        ] {
            assert!(Request::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_changed_tag_or_length_shows() {
        let recording = recording(Expected::default());
        assert!(recording.has_tag(Some(b"\"a\"")) && recording.has_tag(Some(b"\"a\"")));
        assert!(!recording.has_tag(Some(b"\"b\"")) && !recording.has_tag(None));
        assert!(recording.learn(5) && recording.learn(5) && !recording.learn(6));
    }

    #[test]
    fn an_absurd_length_takes_no_memory() {
        let recording = recording(Expected::default());
        recording.learn(u64::MAX);
        assert!(
            Checker::new(&recording, 0, false)
                .feed(&recording, &bytes())
                .is_ok()
        );
        assert!(recording.seen.get().is_none());
    }

    #[test]
    fn a_digest_is_of_the_whole() {
        let sha256 = Some(Sha256::digest(bytes()).into());
        let recording = recording(Expected { file: None, sha256 });
        recording.learn(20_000);
        let mut checker = Checker::new(&recording, 0, true);
        assert!(checker.feed(&recording, &bytes()).is_ok());
        assert!(checker.finish(&recording).is_ok());
        assert_eq!(checker.compared, 20_000);
        let mut checker = Checker::new(&recording, 0, true);
        let mut wrong = bytes();
        wrong[3] ^= 1;
        // The very same blocks were seen before, so either of the two checks may be first.
        let found = checker.feed(&recording, &wrong);
        assert!(found.and_then(|()| checker.finish(&recording)).is_err());
    }

    /// Reads `range` in pieces of these sizes, with one byte flipped.
    fn read(
        recording: &Recording,
        first: usize,
        last: usize,
        cut: usize,
        flip: Option<usize>,
    ) -> bool {
        let mut served = bytes();
        if let Some(at) = flip {
            served[at] ^= 0x10;
        }
        let mut checker = Checker::new(recording, wide(first), false);
        let mut pieces = served[first..=last].chunks(cut);
        pieces.all(|piece| checker.feed(recording, piece).is_ok())
    }

    proptest! {
        #[test]
        fn right_bytes_pass_and_a_flip_shows(
            (first, last) in (0_usize..20_000).prop_flat_map(|a| (Just(a), a..20_000)),
            cut in 1_usize..9000,
            place in 0_usize..20_000,
        ) {
            let known = recording(Expected { file: Some(bytes().into()), sha256: None });
            prop_assert!(read(&known, first, last, cut, None));
            let inside = (first..=last).contains(&place);
            prop_assert_eq!(read(&known, first, last, cut, Some(place)), !inside);

            let unknown = recording(Expected::default());
            unknown.learn(20_000);
            prop_assert!(read(&unknown, 0, 19_999, cut, None));
            prop_assert!(read(&unknown, first, last, cut, None));
            let block = place / 4096 * 4096;
            let read_whole = first <= block && (block + 4095).min(19_999) <= last;
            prop_assert_eq!(read(&unknown, first, last, cut, Some(place)), !read_whole);
        }
    }
}
