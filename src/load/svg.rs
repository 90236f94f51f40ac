//! Charts of a run as SVG, without a script. Pure.

use std::f64::consts::LOG10_2;
use std::fmt::Write as _;

use super::summary::{Played, Summary};
use super::words::{bytes_text, time_text};
use super::{float, wide};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;
/// Curves that have a colour of their own.
const COLOURS: usize = 6;

/// A curve and what it is called.
struct Line {
    name: String,
    /// Earlier runs are dashed.
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// Where values lie on an axis.
struct Axis {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// From left to right, as wide as every picture is.
    const fn across(most: f64) -> Self {
        Self {
            least: 0.0,
            most,
            from: LEFT,
            to: WIDTH - RIGHT,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let span = (self.most - self.least).max(f64::MIN_POSITIVE);
        self.from + (value - self.least) / span * (self.to - self.from)
    }
}

/// Text that is shown as it is.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Times over shares, both logarithmic: each step to the right is a tenth of the requests before.
pub(super) fn percentiles(sides: &[&Summary], earlier: &[&Summary]) -> Option<String> {
    let line = |side: &Summary, dashed| {
        let times = side.first_byte.as_ref()?;
        let points = times.curve.iter().filter(|(_, time)| *time > 0.0);
        let points = points.map(|(share, time)| (-(1.0 - share).log10(), time.log10()));
        Some(Line {
            name: name(side, dashed),
            dashed,
            points: points.collect(),
        })
    };
    let now = sides.iter().filter_map(|side| line(side, false));
    let lines: Vec<_> = now
        .chain(earlier.iter().filter_map(|side| line(side, true)))
        .collect();
    let all = || lines.iter().flat_map(|line| &line.points);
    let height = 320.0;
    let x = Axis::across(all().map(|point| point.0).fold(1.0, f64::max));
    let low = all().map(|point| point.1).reduce(f64::min)?;
    let high = all().map(|point| point.1).reduce(f64::max)?;
    let y = Axis {
        least: low.floor(),
        most: high.max(low.floor() + 0.1) + 0.05,
        from: height - BOTTOM,
        to: TOP,
    };
    let mut svg = open(height, "Time to the first byte over the share of requests");
    for decade in [0.0, LOG10_2, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0] {
        if decade <= x.most {
            upright(&mut svg, &x, height, decade, &share_text(decade));
        }
    }
    for exponent in -7..=4 {
        for factor in [1.0_f64, 2.0, 5.0] {
            let value = f64::from(exponent) + factor.log10();
            if (y.least..=y.most).contains(&value) {
                level(
                    &mut svg,
                    &y,
                    value,
                    &tick_text(10_f64.powf(value)),
                    factor > 1.0,
                );
            }
        }
    }
    curves(&mut svg, &lines, &x, &y);
    svg.push_str("</svg>");
    Some(svg)
}

/// A round time.
fn tick_text(seconds: f64) -> String {
    time_text(seconds).replace(".00 ", " ")
}

/// The share that is done, for the tenths of the tenths that are not.
fn share_text(decade: f64) -> String {
    let percent = (1.0 - 10_f64.powf(-decade)) * 100.0;
    match decade {
        ..2.5 => format!("{percent:.0} %"),
        ..3.5 => format!("{percent:.1} %"),
        ..4.5 => format!("{percent:.2} %"),
        _ => format!("{percent:.3} %"),
    }
}

/// Requests a second, second by second.
pub(super) fn throughput(sides: &[&Summary], earlier: &[&Summary]) -> Option<String> {
    let line = |side: &Summary, dashed| {
        let moments = side.timeline.iter().enumerate();
        let points: Vec<_> = moments
            .map(|(at, moment)| (float(wide(at)) + 0.5, float(moment.requests)))
            .collect();
        (points.len() > 1).then(|| Line {
            name: name(side, dashed),
            dashed,
            points,
        })
    };
    let now = sides.iter().filter_map(|side| line(side, false));
    let lines: Vec<_> = now
        .chain(earlier.iter().filter_map(|side| line(side, true)))
        .collect();
    let all = || lines.iter().flat_map(|line| &line.points);
    let height = 240.0;
    let last = all().map(|point| point.0).reduce(f64::max)? + 0.5;
    let high = all().map(|point| point.1).fold(1.0, f64::max);
    let x = Axis::across(last);
    let y = Axis {
        least: 0.0,
        most: high * 1.08,
        from: height - BOTTOM,
        to: TOP,
    };
    let mut svg = open(height, "Requests a second over time");
    for value in steps(last, 1.0) {
        upright(&mut svg, &x, height, value, &format!("{value} s"));
    }
    for value in steps(y.most, 1.0) {
        level(&mut svg, &y, value, &count_text(value), false);
    }
    curves(&mut svg, &lines, &x, &y);
    svg.push_str("</svg>");
    Some(svg)
}

/// Which bytes one listener read when: time goes down, the recording goes right.
pub(super) fn bytes(plays: &[Played]) -> Option<String> {
    let last = plays.iter().map(|play| play.ended).reduce(f64::max)?;
    let end = plays.iter().map(|play| float(play.end)).fold(1.0, f64::max);
    let height = 360.0;
    let x = Axis::across(end);
    let y = Axis {
        least: 0.0,
        most: last,
        from: TOP,
        to: height - BOTTOM,
    };
    let mut svg = open(height, "Bytes that one listener read over time");
    // Round in the units of bytes, at most five.
    let step = 2_f64.powf((end / 5.0).log2().ceil());
    for value in (0..=5_u32).map(|number| step * f64::from(number)) {
        if value <= end {
            let text = bytes_text(value).replace(".0 ", " ");
            upright(&mut svg, &x, height, value, &text);
        }
    }
    for value in steps(last, 0.0) {
        let text = if value == 0.0 {
            "0 s".to_owned()
        } else {
            tick_text(value)
        };
        level(&mut svg, &y, value, &text, false);
    }
    for play in plays {
        let (left, right) = (x.at(float(play.first)), x.at(float(play.end)));
        let (top, bottom) = (y.at(play.began), y.at(play.ended));
        let kind = if play.aborted { "aborted" } else { "played" };
        // A circle where it begins, since most of them are only a few pixels.
        let _ = write!(
            svg,
            "<g class=\"{kind}\"><line x1=\"{left:.1}\" y1=\"{top:.1}\" x2=\"{:.1}\" y2=\"{bottom:.1}\"/>\
             <circle cx=\"{left:.1}\" cy=\"{top:.1}\" r=\"2\"/></g>",
            right.max(left + 2.0)
        );
    }
    svg.push_str("</svg>");
    Some(svg)
}

fn name(side: &Summary, earlier: bool) -> String {
    if earlier {
        format!("{}, earlier", side.name)
    } else {
        side.name.clone()
    }
}

fn open(height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">\
         <title>{title}</title>"
    )
}

/// A line across, at a value of the upright axis.
fn level(svg: &mut String, y: &Axis, value: f64, text: &str, minor: bool) {
    let (at, right) = (y.at(value), WIDTH - RIGHT);
    let class = if minor { "grid minor" } else { "grid" };
    let _ = write!(
        svg,
        "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
         <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
        LEFT - 8.0,
        at + 4.0
    );
}

/// A line down, at a value of the level axis.
fn upright(svg: &mut String, x: &Axis, height: f64, value: f64, text: &str) {
    let (at, bottom) = (x.at(value), height - BOTTOM);
    let _ = write!(
        svg,
        "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
         <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
        bottom + 18.0
    );
}

/// The curves, with their names at their ends, apart from each other.
fn curves(svg: &mut String, lines: &[Line], x: &Axis, y: &Axis) {
    let mut ends: Vec<(f64, usize)> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let mut path = String::new();
        for (at, value) in &line.points {
            let letter = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", x.at(*at), y.at(*value));
        }
        let dash = if line.dashed { " dashed" } else { "" };
        let colour = number % COLOURS;
        let _ = write!(svg, "<path class=\"curve c{colour}{dash}\" d=\"{path}\"/>");
        if let Some((_, value)) = line.points.last() {
            ends.push((y.at(*value), number));
        }
    }
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut free = f64::MIN;
    for (at, number) in ends {
        let at = at.max(free);
        free = at + 15.0;
        let colour = number % COLOURS;
        let _ = write!(
            svg,
            "<text class=\"name c{colour}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT + 8.0,
            at + 4.0,
            escape(&lines[number].name)
        );
    }
}

/// Round values from 0 up to `most`, at most six, and at least so far apart.
fn steps(most: f64, least: f64) -> impl Iterator<Item = f64> {
    let rough = (most / 5.0).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let fits = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power);
    let step = fits.fold(
        f64::MAX,
        |best, step| if step >= rough { best.min(step) } else { best },
    );
    let step = step.max(least);
    (0..)
        .map(move |number| f64::from(number) * step)
        .take_while(move |value| *value <= most)
}

fn count_text(value: f64) -> String {
    match value {
        1e6.. => format!("{:.1}M/s", value / 1e6),
        10_000.0.. => format!("{:.0}k/s", value / 1e3),
        _ => format!("{value}/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        assert_eq!(
            steps(10.0, 1.0).collect::<Vec<_>>(),
            [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        );
        for most in [0.002, 1.0, 3.0, 7.5, 123.0, 61_234.0] {
            assert!((2..=7).contains(&steps(most, 0.0).count()), "{most}");
        }
    }

    #[test]
    fn names_cannot_break_out() {
        assert_eq!(
            escape("<a href=\"x\">&\n"),
            "&lt;a href=&quot;x&quot;&gt;&amp;"
        );
    }

    #[test]
    fn shares_have_the_digits_they_need() {
        let texts = [LOG10_2, 1.0, 2.0, 3.0, 4.0].map(share_text);
        assert_eq!(texts, ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn nothing_measured_draws_nothing() {
        assert!(percentiles(&[], &[]).is_none() && throughput(&[], &[]).is_none());
        assert!(bytes(&[]).is_none());
    }
}
