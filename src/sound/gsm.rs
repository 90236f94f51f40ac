//! GSM 06.10 full rate, as recordings in WAV have it: Microsoft's pairs of frames in 65 bytes.
//!
//! The arithmetic is that of ETSI EN 300 961, 16 bits with saturation, so that it gives the same
//! samples as any other exact decoder. The names are the standard's.

/// Bytes of a pair of frames.
pub(super) const BLOCK: usize = 65;
/// Samples of a pair of frames.
pub(super) const BLOCK_SAMPLES: usize = 320;

/// Samples of one frame.
const FRAME: usize = 160;
/// Samples of one of its four parts.
const PART: usize = 40;
/// How far back the long-term predictor reaches.
const PAST: usize = 120;

/// A decoder's memory from frame to frame.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    /// The reconstructed short-term residual: past, then the part at hand.
    residual: [i16; PAST + PART],
    lag: usize,
    log_area: [i16; 8],
    lattice: [i16; 9],
    emphasis: i16,
}

/// One frame's parameters.
struct Frame {
    log_area: [i16; 8],
    parts: [Part; 4],
}

struct Part {
    lag: i16,
    gain: i16,
    grid: i16,
    maximum: i16,
    pulses: [i16; 13],
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self {
            residual: [0; PAST + PART],
            lag: 40,
            log_area: [0; 8],
            lattice: [0; 9],
            emphasis: 0,
        }
    }

    /// Decodes a pair of frames.
    pub(super) fn block(&mut self, block: &[u8; BLOCK]) -> [i16; BLOCK_SAMPLES] {
        let mut bits = Bits {
            bytes: block,
            at: 0,
        };
        let mut out = [0; BLOCK_SAMPLES];
        let (first, second) = out.split_at_mut(FRAME);
        for half in [first, second] {
            let frame = Frame::read(&mut bits);
            self.frame(&frame, half);
        }
        out
    }

    fn frame(&mut self, frame: &Frame, out: &mut [i16]) {
        for (part, out) in frame.parts.iter().zip(out.chunks_mut(PART)) {
            self.long_term(part);
            out.copy_from_slice(&self.residual[PAST..]);
            self.residual.copy_within(PART.., 0);
        }
        self.short_term(&frame.log_area, out);
        for sample in out {
            self.emphasis = sample.saturating_add(times(self.emphasis, 28180));
            *sample = self.emphasis.saturating_add(self.emphasis) & !7;
        }
    }

    /// §5.3.2: the pulses, and what the part a lag ago predicts.
    fn long_term(&mut self, part: &Part) {
        const GAINS: [i16; 4] = [3277, 11469, 21299, 32767];
        let pulses = part.excitation();
        if let Ok(lag @ 40..=120) = usize::try_from(part.lag) {
            self.lag = lag;
        }
        let gain = GAINS[usize::try_from(part.gain & 3).unwrap_or(0)];
        for (at, pulse) in pulses.iter().enumerate() {
            let predicted = times(gain, self.residual[PAST + at - self.lag]);
            self.residual[PAST + at] = pulse.saturating_add(predicted);
        }
    }

    /// §5.3.3: the lattice filter, its coefficients moving from the last frame's to this one's.
    fn short_term(&mut self, coded: &[i16; 8], out: &mut [i16]) {
        let old = std::mem::replace(&mut self.log_area, log_area(coded));
        let new = self.log_area;
        let (mut rest, mut done) = (out, 0);
        // Up to which sample, and by how much of each (in shifts) the old and new ones count.
        let steps: [(usize, &[u32], &[u32]); 4] = [
            (13, &[2, 1], &[2]),
            (27, &[1], &[1]),
            (40, &[2], &[2, 1]),
            (FRAME, &[], &[0]),
        ];
        for (until, of_old, of_new) in steps {
            let mut reflection = [0_i16; 8];
            for (at, value) in reflection.iter_mut().enumerate() {
                let old = of_old.iter().map(|shift| old[at] >> shift);
                let new = of_new.iter().map(|shift| new[at] >> shift);
                *value = old.chain(new).fold(0, i16::saturating_add);
                *value = reflect(*value);
            }
            let (now, later) = rest.split_at_mut(until - done);
            self.filter(&reflection, now);
            (rest, done) = (later, until);
        }
    }

    fn filter(&mut self, reflection: &[i16; 8], samples: &mut [i16]) {
        for sample in samples {
            let mut value = *sample;
            for at in (0..8).rev() {
                value = value.saturating_sub(times(reflection[at], self.lattice[at]));
                let back = times(reflection[at], value);
                self.lattice[at + 1] = self.lattice[at].saturating_add(back);
            }
            self.lattice[0] = value;
            *sample = value;
        }
    }
}

impl Frame {
    /// 260 bits, the least significant of each byte first.
    fn read(bits: &mut Bits<'_>) -> Self {
        let log_area = [6, 6, 5, 5, 4, 4, 3, 3].map(|width| bits.take(width));
        let parts = std::array::from_fn(|_| Part {
            lag: bits.take(7),
            gain: bits.take(2),
            grid: bits.take(2),
            maximum: bits.take(6),
            pulses: std::array::from_fn(|_| bits.take(3)),
        });
        Self { log_area, parts }
    }
}

impl Part {
    /// §5.3.1: 13 pulses of a common size on one of four grids.
    fn excitation(&self) -> [i16; PART] {
        const FACTORS: [i16; 8] = [18431, 20479, 22527, 24575, 26623, 28671, 30719, 32767];
        let (exponent, mantissa) = self.size();
        let shift = 6 - exponent;
        let half = if shift > 0 { 1 << (shift - 1) } else { 0 };
        let factor = FACTORS[mantissa];
        let mut out = [0; PART];
        let grid = usize::try_from(self.grid).unwrap_or(0);
        for (slot, pulse) in out[grid..].iter_mut().step_by(3).zip(self.pulses) {
            let value = times(factor, (pulse * 2 - 7) << 12);
            *slot = value.saturating_add(half) >> shift;
        }
        out
    }

    /// The coded maximum as an exponent and a mantissa.
    fn size(&self) -> (i16, usize) {
        let mut exponent = if self.maximum > 15 {
            (self.maximum >> 3) - 1
        } else {
            0
        };
        let mut mantissa = self.maximum - (exponent << 3);
        if mantissa == 0 {
            return (-4, 7);
        }
        while mantissa <= 7 {
            mantissa = mantissa << 1 | 1;
            exponent -= 1;
        }
        (exponent, usize::try_from(mantissa - 8).unwrap_or(0))
    }
}

/// §5.2.8: from their codes to log-area ratios.
fn log_area(coded: &[i16; 8]) -> [i16; 8] {
    const TABLE: [(i16, i16, i16); 8] = [
        (0, -32, 13107),
        (0, -32, 13107),
        (2048, -16, 13107),
        (-2560, -16, 13107),
        (94, -8, 19223),
        (-1792, -8, 17476),
        (-341, -4, 31454),
        (-1144, -4, 29708),
    ];
    std::array::from_fn(|at| {
        let (offset, least, inverse) = TABLE[at];
        let value = ((coded[at] + least) << 10).saturating_sub(offset << 1);
        let value = times(inverse, value);
        value.saturating_add(value)
    })
}

/// §5.2.9.2: from a log-area ratio to a reflection coefficient.
fn reflect(ratio: i16) -> i16 {
    let size = ratio.checked_abs().unwrap_or(i16::MAX);
    let value = match size {
        ..11059 => size << 1,
        11059..20070 => size + 11059,
        _ => (size >> 2).saturating_add(26112),
    };
    if ratio < 0 { -value } else { value }
}

/// The rounded product of two fractions.
fn times(a: i16, b: i16) -> i16 {
    let product = (i32::from(a) * i32::from(b) + (1 << 14)) >> 15;
    i16::try_from(product).unwrap_or(i16::MAX)
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> i16 {
        let mut value = 0;
        for bit in 0..count {
            let byte = self.bytes.get(self.at / 8).copied().unwrap_or(0);
            value |= i16::from(byte >> (self.at % 8) & 1) << bit;
            self.at += 1;
        }
        value
    }
}
