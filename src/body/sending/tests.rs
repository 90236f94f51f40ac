//! What comes out of the page cache, and what does not.

use std::fs::File;

use bytes::Buf as _;
use futures_util::FutureExt as _;
use http_body::Frame;
use http_body_util::BodyExt as _;

use super::super::FileBody;
use super::*;

const PART: usize = 16 * 1024;

/// A body of all of a file, on no lane.
fn copied(handle: Handle) -> FileBody {
    let last = handle.version.length - 1;
    let whole = Piece::Stored(ByteRange { first: 0, last });
    let mut body = FileBody::new([whole], Some(Source::File(handle)));
    body.attach(Arc::default(), Some(16 * 1024));
    body
}

/// Takes the next part, and compares it.
fn part(frame: Option<io::Result<Frame<Segment>>>, expect: &[u8]) -> usize {
    let mut data = frame.unwrap().unwrap().into_data().unwrap();
    let bytes = data.copy_to_bytes(data.remaining());
    assert!(bytes == expect[..bytes.len()]);
    bytes.len()
}

#[tokio::test]
async fn what_is_copied_is_brought_into_the_page_cache_a_window_at_a_time() {
    use rustix::fs::{Advice, fadvise, fsync};

    const WINDOW: usize = 256 * 1024;
    let expect: Vec<u8> = (0..251).cycle().take(4 << 20).collect();
    let named = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(named.path(), &expect).unwrap();
    let handle = Handle::new(named.reopen().unwrap()).unwrap();
    fsync(&*handle.file).unwrap();
    // Nothing is read ahead but what is asked for.
    fadvise(&*handle.file, 0, None, Advice::Random).unwrap();
    let is_cached = |at| {
        handle.has_come(ByteRange {
            first: at,
            last: at,
        })
    };
    // What the kernel still holds elsewhere it forgets only when it is told again.
    let is_cold = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        fadvise(&*handle.file, 0, None, Advice::DontNeed).unwrap();
        !is_cached(0) && !is_cached(handle.version.length - 1)
    });
    if !is_cold {
        eprintln!("skipped: what was written cannot be made cold here");
        return;
    }
    let mut body = copied(handle);
    assert!(body.frame().now_or_never().is_none(), "waits for no disk");
    let mut sent = part(body.frame().await, &expect);
    while sent < WINDOW {
        let at_hand = body.frame().now_or_never().expect("in the page cache");
        sent += part(at_hand, &expect[sent..]);
    }
    assert_eq!(body.0.page_cache, PageCache::Brought);
    while sent < expect.len() {
        sent += part(body.frame().await, &expect[sent..]);
    }
    assert!(body.frame().await.is_none());
}

/// Of a file system that does not say what it has in memory.
#[tokio::test]
async fn what_cannot_be_had_from_the_page_cache_is_read_one_part_ahead() {
    let Ok(file) = File::open("/sys/kernel/btf/vmlinux") else {
        return eprintln!("skipped: no file here of which the kernel tells nothing");
    };
    let mut expect = Vec::new();
    io::Read::read_to_end(&mut &file, &mut expect).unwrap();
    let mut body = copied(Handle::new(file).unwrap());
    let (mut sent, mut parts, mut ahead) = (0, 0, 0);
    while sent < expect.len() {
        let length = part(body.frame().await, &expect[sent..]);
        assert_eq!(length, PART.min(expect.len() - sent));
        sent += length;
        parts += 1;
        ahead += usize::from(body.0.work.is_some());
        assert_eq!(body.0.page_cache, PageCache::Silent);
    }
    assert!(body.frame().await.is_none());
    // All but the last part of each window.
    assert!(ahead >= parts * 9 / 10, "{ahead} of {parts}");
}

#[test]
fn a_body_is_sought_that_begins_behind_the_first_byte() {
    let stored = |first, last| Piece::Stored(ByteRange { first, last });
    let delimiter = || Piece::Bytes("--a".into());
    for (pieces, is_sought) in [
        (vec![], false),
        (vec![delimiter()], false),
        (vec![stored(0, 9)], false),
        (vec![stored(1, 9)], true),
        (
            vec![delimiter(), stored(0, 1), delimiter(), stored(5, 9)],
            false,
        ),
        (
            vec![delimiter(), stored(5, 9), delimiter(), stored(0, 1)],
            true,
        ),
    ] {
        let body = FileBody::new(pieces.clone(), None);
        assert_eq!(body.is_sought(), is_sought, "{pieces:?}");
    }
}
