//! Samples: what they say of a recording's channels, and how a recording is mended.
//!
//! Decodes ([`Reader`]), looks ([`Survey`], [`picture`]), and mends ([`Mended`], [`write()`]). Everything
//! goes block by block at constant memory, however long a recording is. Which repairs are wanted is
//! decided by whoever calls; where the result goes, too.

mod gsm;
mod mend;
pub mod picture;
mod reader;
mod resample;
mod survey;
mod view;
mod write;

use std::io;

pub use self::mend::Mended;
pub use self::reader::Reader;
pub use self::survey::{Channel, Column, Survey};
pub use self::write::{Target, write};

use crate::audio::Codec;

/// Why sound cannot be decoded, mended or written.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    /// The header lacks what a decoder needs.
    #[error("the header does not say enough to decode it")]
    NoFormat,
    /// No decoder for it.
    #[error("tonearm does not decode {0}")]
    Codec(Codec),
    /// Far more than the odd packet is broken.
    #[error("too much of it cannot be decoded")]
    Damaged,
    /// The decoder's or the demultiplexer's complaint.
    #[error("it cannot be decoded")]
    Decode(#[source] symphonia::core::errors::Error),
    /// Two legs are joined of one channel each.
    #[error("only legs of one channel can be joined; this one has {0}")]
    NotMono(u16),
    /// There is nothing to swap.
    #[error("only two channels can be swapped; this recording has {0}")]
    NotStereo(u16),
    /// The format has no room for it.
    #[error("{0}")]
    Format(&'static str),
    /// The FLAC encoder's complaint.
    #[error("it cannot be encoded: {0}")]
    Encode(String),
    /// The resampler's complaint.
    #[error("it cannot be resampled: {0}")]
    Resample(String),
    /// The disk.
    #[error("reading or writing failed")]
    Io(#[from] io::Error),
}

impl SoundError {
    fn decoding(error: symphonia::core::errors::Error) -> Self {
        match error {
            symphonia::core::errors::Error::IoError(error) => Self::Io(error),
            error => Self::Decode(error),
        }
    }
}
