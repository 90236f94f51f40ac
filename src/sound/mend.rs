//! Repairs: two legs to two channels, channels swapped.

use std::time::Duration;

use super::resample::Resampler;
use super::{Reader, SoundError};

/// Samples are handed on about so many frames at a time.
const FRAMES: usize = 4096;

/// Where the samples of a mended recording come from.
pub struct Mended {
    from: From,
    swap: bool,
    /// How many channels it has.
    pub channels: u16,
    /// In Hz.
    pub rate: u32,
    /// Bits that hold each sample.
    pub bits: u16,
}

enum From {
    One(Box<Reader>),
    Two(Box<[Leg; 2]>),
}

impl Mended {
    /// A recording as it is.
    #[must_use]
    pub fn plain(reader: Reader) -> Self {
        Self {
            channels: reader.channels,
            rate: reader.rate,
            bits: reader.bits,
            swap: false,
            from: From::One(Box::new(reader)),
        }
    }

    /// Two legs: the first on channel 1, the second on channel 2, at the higher of their rates, each
    /// after so much silence. The shorter one is followed by silence.
    ///
    /// # Errors
    /// [`SoundError::NotMono`], or that their rates cannot be brought together.
    pub fn joined(legs: [(Reader, Duration); 2]) -> Result<Self, SoundError> {
        let [first, second] = &legs;
        let rate = first.0.rate.max(second.0.rate);
        let bits = first.0.bits.max(second.0.bits);
        let [first, second] = legs.map(|(reader, silence)| Leg::new(reader, silence, rate));
        Ok(Self {
            from: From::Two(Box::new([first?, second?])),
            swap: false,
            channels: 2,
            rate,
            bits,
        })
    }

    /// With channels 1 and 2 in each other's place.
    ///
    /// # Errors
    /// [`SoundError::NotStereo`].
    pub fn swapped(self) -> Result<Self, SoundError> {
        if self.channels != 2 {
            return Err(SoundError::NotStereo(self.channels));
        }
        let swap = !self.swap;
        Ok(Self { swap, ..self })
    }

    /// Gives the next samples, every channel's in turn, at full scale of 32 bits; none at the end.
    ///
    /// # Errors
    /// [`SoundError`].
    pub fn read(&mut self, samples: &mut Vec<i32>) -> Result<(), SoundError> {
        match &mut self.from {
            From::One(reader) => reader.read(samples)?,
            From::Two(legs) => interleave(legs, samples)?,
        }
        if self.swap {
            for pair in samples.chunks_exact_mut(2) {
                pair.swap(0, 1);
            }
        }
        Ok(())
    }
}

fn interleave(legs: &mut [Leg; 2], samples: &mut Vec<i32>) -> Result<(), SoundError> {
    samples.clear();
    let [first, second] = legs;
    first.fill()?;
    second.fill()?;
    // A leg that has less has ended.
    let frames = first.ready.len().max(second.ready.len()).min(FRAMES);
    for at in 0..frames {
        let sample = |leg: &Leg| leg.ready.get(at).copied().unwrap_or(0);
        samples.extend([sample(first), sample(second)]);
    }
    for leg in [first, second] {
        leg.ready.drain(..frames.min(leg.ready.len()));
    }
    Ok(())
}

/// One side of a call, at the rate of the whole.
struct Leg {
    reader: Reader,
    resampler: Option<Resampler>,
    /// Frames of silence still to come before it.
    silence: u64,
    ready: Vec<i32>,
    block: Vec<i32>,
    ended: bool,
}

impl Leg {
    fn new(reader: Reader, silence: Duration, rate: u32) -> Result<Self, SoundError> {
        if reader.channels != 1 {
            return Err(SoundError::NotMono(reader.channels));
        }
        let resampler = if reader.rate == rate {
            None
        } else {
            Some(Resampler::new(reader.rate, rate)?)
        };
        let silence = silence.as_micros() * u128::from(rate) / 1_000_000;
        Ok(Self {
            reader,
            resampler,
            silence: u64::try_from(silence).unwrap_or(u64::MAX),
            ready: Vec::new(),
            block: Vec::new(),
            ended: false,
        })
    }

    /// Has a block of samples ready, or all that are left.
    fn fill(&mut self) -> Result<(), SoundError> {
        while self.ready.len() < FRAMES && !self.ended {
            if self.silence > 0 {
                let count = usize::try_from(self.silence).map_or(FRAMES, |left| left.min(FRAMES));
                self.ready.resize(self.ready.len() + count, 0);
                self.silence -= u64::try_from(count).unwrap_or(0);
                continue;
            }
            self.reader.read(&mut self.block)?;
            self.ended = self.block.is_empty();
            match &mut self.resampler {
                Some(resampler) if self.ended => resampler.finish(&mut self.ready)?,
                Some(resampler) => resampler.push(&self.block, &mut self.ready)?,
                None => self.ready.extend_from_slice(&self.block),
            }
        }
        Ok(())
    }
}
