//! What samples say of the channels: whether they differ, who is silent, what is cut off.
//!
//! Who speaks on which channel is beyond it: a voice does not say whose it is.

use crate::audio::{Concern, Verdict};

/// Sound is judged in steps of a fiftieth of a second.
const STEPS_A_SECOND: u32 = 50;
/// Full scale is 2^31. A channel that never reaches -60 dBFS is silent: line noise lies below.
const SILENCE: i32 = i32::MAX / 1000;
/// A stretch whose peak stays below -50 dBFS looks silent: there is line noise in it at most.
const QUIET: i32 = i32::MAX / 316;
/// A step is speech from a root mean square of -45 dBFS on.
const SPEECH: f64 = 2_147_483_648.0 / 177.8;
/// Samples from here on are at full scale.
const FULL: i32 = i32::MAX / 1000 * 998;
/// So many in a row are cut off, rather than a peak that just fits.
const CUT: u32 = 3;
/// From this squared correlation on, two channels carry the same sound, maybe at another level.
const SAME: f64 = 0.998;

/// What was seen of one channel.
#[derive(Debug, Clone, Default)]
pub struct Channel {
    /// The largest sample's size, of 2^31.
    pub peak: i32,
    /// Steps in which there was speech.
    pub speech: u64,
    /// Samples that were cut off at full scale.
    pub clipped: u64,
    energy: f64,
    run: u32,
    step: f64,
}

/// One column of a picture: what a stretch of time looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Column {
    /// The largest sample's size on channels 1 and 2, of 2^31.
    pub peaks: [i32; 2],
    /// Both channels were the same, sample by sample, and not silent.
    pub same: bool,
    frames: u64,
}

impl Column {
    /// Whether this channel, 0 or 1, was silent.
    #[must_use]
    pub fn is_silent(&self, channel: usize) -> bool {
        self.peaks.get(channel).is_none_or(|peak| *peak < QUIET)
    }
}

/// What was seen of a recording.
#[derive(Debug, Clone)]
pub struct Survey {
    /// One a channel.
    pub channels: Vec<Channel>,
    /// Frames that were looked at.
    pub frames: u64,
    /// Steps that were looked at, and those in which both of two channels had speech.
    pub steps: u64,
    /// See `steps`.
    pub overlap: u64,
    /// The stretches of time, for a picture.
    pub columns: Vec<Column>,
    /// Sum of products of channels 1 and 2.
    product: f64,
    step_frames: u32,
    in_step: u32,
    column_frames: u64,
}

impl Survey {
    /// For sound of so many channels and this rate, with a column every `column_frames` frames.
    #[must_use]
    pub fn new(channels: u16, rate: u32, column_frames: u64) -> Self {
        Self {
            channels: vec![Channel::default(); usize::from(channels)],
            frames: 0,
            steps: 0,
            overlap: 0,
            columns: Vec::new(),
            product: 0.0,
            step_frames: (rate / STEPS_A_SECOND).max(1),
            in_step: 0,
            column_frames: column_frames.max(1),
        }
    }

    /// Looks at samples, every channel's in turn.
    pub fn add(&mut self, samples: &[i32]) {
        let count = self.channels.len().max(1);
        for frame in samples.chunks_exact(count) {
            for (channel, sample) in self.channels.iter_mut().zip(frame) {
                channel.add(*sample);
            }
            if let [first, second, ..] = frame {
                self.product += f64::from(*first) * f64::from(*second);
            }
            self.column(frame);
            self.frames += 1;
            self.in_step += 1;
            if self.in_step == self.step_frames {
                self.end_step();
            }
        }
    }

    /// The next samples are of another place: what is half looked at is let go.
    pub fn skip(&mut self) {
        self.in_step = 0;
        for channel in &mut self.channels {
            (channel.step, channel.run) = (0.0, 0);
        }
        if let Some(column) = self.columns.last_mut() {
            column.frames = self.column_frames;
        }
    }

    fn column(&mut self, frame: &[i32]) {
        let same = matches!(frame, [first, second] if first == second);
        let full = |column: &Column| column.frames == self.column_frames;
        if self.columns.last().is_none_or(full) {
            self.columns.push(Column {
                same: true,
                ..Column::default()
            });
        }
        if let Some(column) = self.columns.last_mut() {
            for (peak, sample) in column.peaks.iter_mut().zip(frame) {
                *peak = (*peak).max(sample.saturating_abs());
            }
            column.same &= same;
            column.frames += 1;
        }
    }

    fn end_step(&mut self) {
        let enough = SPEECH * SPEECH * f64::from(self.step_frames);
        let mut speaking = 0;
        for channel in &mut self.channels {
            if channel.step > enough {
                channel.speech += 1;
                speaking += 1;
            }
            channel.step = 0.0;
        }
        self.steps += 1;
        self.overlap += u64::from(speaking > 1);
        self.in_step = 0;
    }

    /// Whether two channels carry the same sound.
    #[must_use]
    pub fn is_same(&self) -> bool {
        let [first, second] = &self.channels[..] else {
            return false;
        };
        let energies = first.energy * second.energy;
        !first.is_silent() && !second.is_silent() && self.product * self.product >= SAME * energies
    }

    /// Percent of all samples that are cut off.
    #[must_use]
    pub fn clipped_percent(&self) -> u64 {
        let clipped = self.channels.iter().map(|channel| channel.clipped).max();
        percent(clipped.unwrap_or(0), self.frames)
    }

    /// Percent of the time in which both speak.
    #[must_use]
    pub fn overlap_percent(&self) -> u64 {
        percent(self.overlap, self.steps)
    }

    /// Adds what was seen to a verdict on the header.
    pub fn judge(&self, verdict: &mut Verdict) {
        let silent: Vec<_> = self.channels.iter().map(Channel::is_silent).collect();
        if self.frames > 0 && silent.iter().all(|silent| *silent) {
            verdict.add(Concern::AllSilent);
        } else if let [first, second] = silent[..] {
            if self.is_same() {
                verdict.add(Concern::Identical);
            } else if first || second {
                verdict.add(Concern::Silent(if first { 1 } else { 2 }));
            } else {
                verdict.add(Concern::OrderUnknown);
            }
        }
        if self.clipped_percent() > 0 {
            verdict.add(Concern::Clipped);
        }
    }
}

impl Channel {
    fn add(&mut self, sample: i32) {
        let size = sample.saturating_abs();
        self.peak = self.peak.max(size);
        let square = f64::from(sample) * f64::from(sample);
        self.energy += square;
        self.step += square;
        self.run = if size >= FULL { self.run + 1 } else { 0 };
        self.clipped += match self.run {
            ..CUT => 0,
            CUT => u64::from(CUT),
            _ => 1,
        };
    }

    /// Whether there is nothing to hear.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.peak < SILENCE
    }

    /// The largest sample in dB below full scale, 0 or less; `None` where all are 0.
    #[must_use]
    pub fn peak_db(&self) -> Option<f64> {
        let peak = f64::from(self.peak) / f64::from(i32::MAX);
        (self.peak > 0).then(|| (peak.log10() * 200.0).round() / 10.0)
    }

    /// Percent of so many steps in which there was speech.
    #[must_use]
    pub fn speech_percent(&self, steps: u64) -> u64 {
        percent(self.speech, steps)
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    (part.saturating_mul(100) + whole / 2)
        .checked_div(whole)
        .unwrap_or(0)
}
