//! What a run has to reach, such as `p99<50ms,errors<0.1%`. Pure.

use std::str::FromStr;

use super::Outcome;
use super::summary::Summary;
use super::{float, words};

/// One clause.
#[derive(Debug, Clone, PartialEq)]
struct Clause {
    text: String,
    figure: Figure,
    less: bool,
    bound: f64,
}

#[derive(Debug, Clone, PartialEq)]
enum Figure {
    /// Seconds to the first byte.
    First(String),
    /// Seconds to the last byte that was wanted.
    Whole(String),
    /// Share of requests that went wrong, 0 to 1.
    Errors,
    /// Requests a second.
    Rate,
}

/// Clauses that have to hold for the first side of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo(Vec<Clause>);

/// A clause and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// As it was written.
    pub clause: String,
    /// What was measured.
    pub measured: String,
    /// Whether it holds; what was not measured does not.
    pub met: bool,
}

impl Slo {
    /// Each clause, for the first side of a run.
    #[must_use]
    pub fn judge(&self, outcome: &Outcome) -> Vec<Verdict> {
        let side = outcome.sides.first();
        let verdict = |clause: &Clause| {
            let measured = side.and_then(|side| clause.figure.of(side));
            Verdict {
                clause: clause.text.clone(),
                measured: measured.map_or("nothing".to_owned(), |value| clause.figure.text(value)),
                met: measured.is_some_and(|value| clause.holds(value)),
            }
        };
        self.0.iter().map(verdict).collect()
    }
}

impl Clause {
    fn holds(&self, value: f64) -> bool {
        if self.less {
            value < self.bound
        } else {
            value > self.bound
        }
    }
}

impl Figure {
    fn of(&self, side: &Summary) -> Option<f64> {
        match self {
            Self::First(name) => side.first_byte.as_ref()?.percentile(name),
            Self::Whole(name) => side.whole.as_ref()?.percentile(name),
            Self::Errors => {
                let wrong = side.failed();
                let all = side.requests + wrong;
                (all > 0).then(|| float(wrong) / float(all))
            }
            Self::Rate => Some(side.requests_per_second),
        }
    }

    fn text(&self, value: f64) -> String {
        match self {
            Self::First(_) | Self::Whole(_) => words::time_text(value),
            Self::Errors => format!("{:.3} %", value * 100.0),
            Self::Rate => format!("{value:.0}/s"),
        }
    }

    fn bound(&self, text: &str) -> Option<f64> {
        let scaled = |units: &[(&str, f64)]| {
            let (number, factor) = units
                .iter()
                .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
            let number: f64 = number.trim().parse().ok()?;
            (number.is_finite() && number >= 0.0).then_some(number * factor)
        };
        match self {
            Self::First(_) | Self::Whole(_) => scaled(&[("us", 1e-6), ("ms", 1e-3), ("s", 1.0)]),
            Self::Errors => scaled(&[("%", 0.01)]),
            Self::Rate => scaled(&[("/s", 1.0), ("", 1.0)]),
        }
    }
}

impl FromStr for Figure {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let percentile = |name: &str| {
            let known = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
            known.contains(&name).then(|| name.to_owned()).ok_or(())
        };
        match text {
            "errors" => Ok(Self::Errors),
            "rate" => Ok(Self::Rate),
            text => match text.strip_prefix("whole.") {
                Some(name) => percentile(name).map(Self::Whole),
                None => percentile(text).map(Self::First),
            },
        }
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(clause)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn clause(text: &str) -> Result<Clause, String> {
    let text = text.trim();
    let wrong = || {
        format!(
            "{text:?} is no clause such as p99<50ms, whole.p99.9<1s, errors<0.1% or rate>1000; \
            percentiles are p50, p90, p99, p99.9, p99.99 and max"
        )
    };
    let at = text.find(['<', '>']).ok_or_else(wrong)?;
    let (name, rest) = text.split_at(at);
    let figure: Figure = name.trim().parse().map_err(|()| wrong())?;
    let bound = figure.bound(rest[1..].trim()).ok_or_else(wrong)?;
    Ok(Clause {
        text: text.to_owned(),
        less: rest.starts_with('<'),
        figure,
        bound,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_are_read_with_their_units() {
        let slo: Slo = "p99<50ms, errors<0.1%,whole.p99.9<1.5s,rate>1000/s,max<900us"
            .parse()
            .unwrap();
        let bounds: Vec<_> = slo
            .0
            .iter()
            .map(|clause| (clause.less, clause.bound))
            .collect();
        let expect = [
            (true, 0.05),
            (true, 0.001),
            (true, 1.5),
            (false, 1000.0),
            (true, 0.0009),
        ];
        for ((less, bound), (is_less, value)) in bounds.iter().zip(expect) {
            assert_eq!(*less, is_less);
            assert!((bound - value).abs() < 1e-12, "{bound} {value}");
        }
        assert_eq!(slo.0[2].figure, Figure::Whole("p99.9".to_owned()));
    }

    #[test]
    fn what_is_no_clause_is_refused() {
        for bad in [
            "",
            "p99",
            "p98<1s",
            "p99<50",
            "p99=1s",
            "errors<1",
            "errors<-1%",
            "p99<NaNs",
            "<1s",
        ] {
            assert!(bad.parse::<Slo>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bound_is_not_within_itself() {
        let slo: Slo = "errors<1%".parse().unwrap();
        assert!(slo.0[0].holds(0.009) && !slo.0[0].holds(0.01) && !slo.0[0].holds(f64::NAN));
    }
}
