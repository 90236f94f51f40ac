//! A recording to look at: two lanes in SVG, and a small waveform in braille for a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use super::Column;

/// Sizes in SVG units.
const WIDTH: u32 = 1200;
const LANE: u32 = 120;
const LEFT: u32 = 96;
const TOP: u32 = 44;
const GAP: u32 = 12;

/// A picture of two lanes: channel 1 above, channel 2 below, a time axis, and what is silent or the
/// same on both marked. `title` is any text.
#[must_use]
pub fn svg(title: &str, columns: &[Column], channels: u16, duration: Duration) -> String {
    let lanes = u32::from(channels.clamp(1, 2));
    let bottom = TOP + lanes * LANE + (lanes - 1) * GAP;
    let (width, height) = (LEFT + WIDTH + 24, bottom + 64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"15\" fill=\"#1f2933\">{}</text>\n",
        escaped(title)
    );
    for lane in 0..lanes {
        push_lane(&mut out, columns, lane);
    }
    push_axis(&mut out, duration, bottom);
    push_legend(&mut out, bottom + 52, lanes);
    out.push_str("</svg>\n");
    out
}

fn push_lane(out: &mut String, columns: &[Column], lane: u32) {
    const COLOURS: [&str; 2] = ["#0b6e99", "#b4540a"];
    let (index, top) = (
        usize::try_from(lane).unwrap_or(0),
        TOP + lane * (LANE + GAP),
    );
    let middle = f64::from(top) + f64::from(LANE) / 2.0;
    let label = f64::from(top) + f64::from(LANE) / 2.0 + 4.0;
    // Writing to a String cannot fail; so throughout.
    let _ = writeln!(
        out,
        "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{LANE}\" fill=\"#f5f7fa\"/>\n\
         <text x=\"{}\" y=\"{label}\" text-anchor=\"end\" fill=\"#1f2933\">channel {}</text>",
        LEFT - 10,
        lane + 1
    );
    push_marks(out, columns, top, "#dde3ea", |column| {
        column.is_silent(index)
    });
    push_marks(out, columns, top, "#f9e2e2", |column| {
        column.same && !column.is_silent(0)
    });
    let mut path = String::new();
    for (x, column) in places(columns) {
        let peak = column.peaks.get(index).copied().unwrap_or(0);
        let half = (f64::from(peak) / f64::from(i32::MAX) * f64::from(LANE) / 2.0).max(0.4);
        let _ = write!(path, "M{x:.1} {:.1}V{:.1}", middle - half, middle + half);
    }
    let _ = writeln!(
        out,
        "<path d=\"{path}\" stroke=\"{}\" stroke-width=\"1\" fill=\"none\"/>",
        COLOURS[index % 2]
    );
}

/// Each column and the middle of its place.
fn places(columns: &[Column]) -> impl Iterator<Item = (f64, &Column)> {
    let step = f64::from(WIDTH) / count(columns.len());
    let middles = (0_u32..).map(move |at| f64::from(LEFT) + (f64::from(at) + 0.5) * step);
    middles.zip(columns)
}

fn count(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX).max(1))
}

/// Bands behind the longer stretches of which something holds.
fn push_marks(
    out: &mut String,
    columns: &[Column],
    top: u32,
    colour: &str,
    holds: impl Fn(&Column) -> bool,
) {
    /// Pauses between words are narrower.
    const NARROWEST: f64 = 12.0;
    let step = f64::from(WIDTH) / count(columns.len());
    let mut begins: Option<f64> = None;
    let ends = places(columns).map(Some).chain([None]);
    let mut last = f64::from(LEFT);
    for place in ends {
        let inside = place.is_some_and(|(_, column)| holds(column));
        if inside {
            begins = begins.or(Some(last));
        } else if let Some(from) = begins.take().filter(|from| last - from >= NARROWEST) {
            let _ = writeln!(
                out,
                "<rect x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{LANE}\" fill=\"{colour}\"/>",
                last - from
            );
        }
        last = place.map_or(last, |(x, _)| x + step / 2.0);
    }
}

fn push_axis(out: &mut String, duration: Duration, bottom: u32) {
    // The first of these is taken that gives at most a dozen ticks.
    const STEPS: [u32; 13] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
    let seconds = duration.as_secs_f64();
    let step = STEPS
        .into_iter()
        .find(|step| seconds / f64::from(*step) <= 12.0);
    let step = step.unwrap_or(7200);
    for tick in (0_u32..).step_by(usize::try_from(step).unwrap_or(1)) {
        if f64::from(tick) > seconds || seconds == 0.0 {
            break;
        }
        let x = f64::from(LEFT) + f64::from(tick) / seconds * f64::from(WIDTH);
        let _ = writeln!(
            out,
            "<path d=\"M{x:.1} {bottom}v6\" stroke=\"#7b8794\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#52606d\">{}</text>",
            bottom + 20,
            clock(u64::from(tick))
        );
    }
}

fn push_legend(out: &mut String, y: u32, lanes: u32) {
    let mut x = LEFT;
    let marks = [("#dde3ea", "silent"), ("#f9e2e2", "both channels the same")];
    for (colour, text) in marks.into_iter().take(usize::try_from(lanes).unwrap_or(1)) {
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{}\" width=\"14\" height=\"12\" fill=\"{colour}\" stroke=\"#b0bac5\"/>\
             <text x=\"{}\" y=\"{y}\" fill=\"#52606d\">{text}</text>",
            y - 11,
            x + 20
        );
        x += 90;
    }
}

/// `m:ss`, or `h:mm:ss`.
#[must_use]
pub fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A line a channel, of braille: each character is two columns of up to four dots.
#[must_use]
pub fn braille(columns: &[Column], channel: usize) -> String {
    columns
        .chunks(2)
        .map(|pair| {
            let dots = pair.iter().zip([LEFT_DOTS, RIGHT_DOTS]);
            let dots = dots.map(|(column, dots)| dots[height(column, channel)]);
            let code = 0x2800 + dots.fold(0, |all, dots| all | dots);
            char::from_u32(code).unwrap_or(' ')
        })
        .collect()
}

/// Dots of a column of each height, from the bottom up.
const LEFT_DOTS: [u32; 5] = [0, 0x40, 0x44, 0x46, 0x47];
const RIGHT_DOTS: [u32; 5] = [0, 0x80, 0xa0, 0xb0, 0xb8];

/// 0 for silence (below -50 dBFS), then steps of 12 dB to full scale: so is loudness heard.
const fn height(column: &Column, channel: usize) -> usize {
    let peak = if channel < 2 {
        column.peaks[channel]
    } else {
        0
    };
    match peak {
        ..6_795_900 => 0,
        6_795_900..67_637_000 => 1,
        67_637_000..269_000_000 => 2,
        269_000_000..1_073_000_000 => 3,
        _ => 4,
    }
}
