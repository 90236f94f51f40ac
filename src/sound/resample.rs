//! From one sample rate to another, block by block.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler as _};
use symphonia::core::audio::conv::FromSample as _;

use super::SoundError;

/// Input frames that are resampled at once.
const CHUNK: usize = 1024;

/// Resamples one channel. The delay of its filter is taken away, so that legs stay aligned.
pub(super) struct Resampler {
    fft: Fft<f64>,
    waiting: Vec<f64>,
    out: Vec<f64>,
    /// Output frames that are still the filter's delay.
    early: usize,
    from: u64,
    to: u64,
    taken: u64,
    given: u64,
}

impl Resampler {
    pub(super) fn new(from: u32, to: u32) -> Result<Self, SoundError> {
        let size = |rate: u32| usize::try_from(rate).unwrap_or(usize::MAX);
        let fft = Fft::new(size(from), size(to), CHUNK, 1, FixedSync::Input)
            .map_err(|error| SoundError::Resample(error.to_string()))?;
        Ok(Self {
            early: fft.output_delay(),
            out: vec![0.0; fft.output_frames_max()],
            fft,
            waiting: Vec::new(),
            from: u64::from(from),
            to: u64::from(to),
            taken: 0,
            given: 0,
        })
    }

    /// Takes some samples, and appends those that come out.
    pub(super) fn push(&mut self, samples: &[i32], out: &mut Vec<i32>) -> Result<(), SoundError> {
        self.taken += u64::try_from(samples.len()).unwrap_or(0);
        self.waiting
            .extend(samples.iter().map(|sample| f64::from_sample(*sample)));
        let mut used = 0;
        loop {
            let next = self.fft.input_frames_next();
            let Some(chunk) = self.waiting.get(used..used + next) else {
                break;
            };
            let chunk = chunk.to_vec();
            self.chunk(&chunk, out)?;
            used += next;
        }
        self.waiting.drain(..used);
        Ok(())
    }

    /// Appends what is still in the filter.
    pub(super) fn finish(&mut self, out: &mut Vec<i32>) -> Result<(), SoundError> {
        let all = (self.taken * self.to).div_ceil(self.from);
        while self.given < all {
            let mut chunk = std::mem::take(&mut self.waiting);
            chunk.resize(self.fft.input_frames_next(), 0.0);
            self.chunk(&chunk, out)?;
        }
        let over = usize::try_from(self.given - all).unwrap_or(0);
        out.truncate(out.len().saturating_sub(over));
        Ok(())
    }

    fn chunk(&mut self, chunk: &[f64], out: &mut Vec<i32>) -> Result<(), SoundError> {
        let failed = |error: String| SoundError::Resample(error);
        let input = InterleavedSlice::new(chunk, 1, chunk.len())
            .map_err(|error| failed(error.to_string()))?;
        let room = self.out.len();
        let mut output = InterleavedSlice::new_mut(&mut self.out, 1, room)
            .map_err(|error| failed(error.to_string()))?;
        let (_, made) = self
            .fft
            .process_into_buffer(&input, &mut output, None::<&Indexing>)
            .map_err(|error| failed(error.to_string()))?;
        let skip = made.min(self.early);
        self.early -= skip;
        self.given += u64::try_from(made - skip).unwrap_or(0);
        out.extend(
            self.out[skip..made]
                .iter()
                .map(|sample| i32::from_sample(*sample)),
        );
        Ok(())
    }
}
