//! One point, and how it stands.

use serde::Serialize;

/// How a point stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As HubSpot needs it.
    Pass,
    /// It may do, or nobody knows.
    Warn,
    /// Something breaks.
    Fail,
}

impl Grade {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which, in a word or two.
    pub check: &'static str,
    /// How it stands.
    pub grade: Grade,
    /// What was seen.
    pub saw: String,
    /// What to do about it, in a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    pub(super) fn pass(check: &'static str, saw: impl Into<String>) -> Self {
        Self {
            check,
            grade: Grade::Pass,
            saw: saw.into(),
            fix: None,
        }
    }

    pub(super) fn warn(
        check: &'static str,
        saw: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            check,
            grade: Grade::Warn,
            saw: saw.into(),
            fix: Some(fix.into()),
        }
    }

    pub(super) fn fail(
        check: &'static str,
        saw: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            grade: Grade::Fail,
            ..Self::warn(check, saw, fix)
        }
    }
}

/// The worst grade there is.
#[must_use]
pub fn worst(checks: &[Check]) -> Grade {
    checks
        .iter()
        .map(|check| check.grade)
        .max()
        .unwrap_or(Grade::Pass)
}
