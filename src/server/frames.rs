//! HTTP/2 frames on their way in, of which h2 tells nothing: how many say nothing of any content.
//!
//! Decides nothing, and reads no frame's payload.

/// Bytes of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;
/// Bytes of the client's preface, which is before the first frame.
const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
/// h2 counts these itself.
const CONTINUATION: u8 = 9;

/// Where in the frames the next byte is.
#[derive(Debug)]
pub(super) struct Frames {
    /// So much of a payload, or of the preface, is still to come.
    left: usize,
    head: [u8; HEAD],
    known: usize,
}

/// What came.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Came {
    /// Requests, or trailers.
    pub requests: usize,
    /// Bytes of contents.
    pub data: usize,
    /// Frames that bring neither a request nor a content: PING, SETTINGS, WINDOW_UPDATE, RST_STREAM and
    /// their like.
    pub control: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            left: PREFACE,
            head: [0; HEAD],
            known: 0,
        }
    }
}

impl Frames {
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Came {
        let mut came = Came::default();
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let taken = (HEAD - self.known).min(bytes.len());
            let (head, rest) = bytes.split_at(taken);
            self.head[self.known..][..taken].copy_from_slice(head);
            self.known += taken;
            bytes = rest;
            if self.known == HEAD {
                self.begin(&mut came);
            }
        }
        came
    }

    fn begin(&mut self, came: &mut Came) {
        self.known = 0;
        let [a, b, c, kind, ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.left = usize::try_from(length).unwrap_or(usize::MAX);
        match kind {
            DATA if length > 0 => came.data += self.left,
            HEADERS => came.requests += 1,
            CONTINUATION => {}
            _ => came.control += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        let mut frame = vec![size[1], size[2], size[3], kind, 0, 0, 0, 0, 1];
        // What looks like a PING's head.
        frame.extend([0, 0, 8, 6].iter().cycle().take(length));
        frame
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for (kind, length) in [
            (4, 12),
            (1, 300),
            (6, 8),
            (0, 70_000),
            (0, 0),
            (3, 4),
            (9, 5),
        ] {
            bytes.extend(frame(kind, length));
        }
        bytes.extend(&frame(8, 4)[..8]);
        let expect = Came {
            requests: 1,
            data: 70_000,
            control: 4,
        };
        for cut in [1, 2, 7, 9, 10, 64, 1000, bytes.len()] {
            let mut frames = Frames::default();
            let mut all = Came::default();
            for part in bytes.chunks(cut) {
                let came = frames.take(part);
                all.requests += came.requests;
                all.data += came.data;
                all.control += came.control;
            }
            assert_eq!(all, expect, "{cut}");
        }
    }
}
