//! Whether HubSpot can carry the ids.

use super::Check;
use crate::recording::RecordingId;

/// Holds ids against what HubSpot takes: the app's a number, the others of plain characters, since
/// nothing is published on how it escapes them.
#[must_use]
pub fn check_ids(id: &RecordingId) -> Vec<Check> {
    let app = id.app.as_str();
    let app = match app.parse::<i32>() {
        Ok(number) if number > 0 => Check::pass("app id", format!("{app} is a number")),
        _ => Check::warn(
            "app id",
            format!("{app} is no number"),
            "use the numeric app id of the developer account: HubSpot refuses a call with another (INVALID_INTEGER)",
        ),
    };
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let others = [
        ("externalAccountId", &id.account),
        ("externalId", &id.external),
    ];
    let odd: Vec<_> = others
        .iter()
        .filter(|(_, id)| !plain(id.as_str()))
        .map(|(name, _)| *name)
        .collect();
    let others = if odd.is_empty() {
        Check::pass(
            "ids",
            "externalId and externalAccountId are of A-Z a-z 0-9 - _",
        )
    } else {
        Check::warn(
            "ids",
            format!("{} has a . or a ~", odd.join(" and ")),
            "use A-Z a-z 0-9 - _ alone: HubSpot does not say how it escapes other characters",
        )
    };
    vec![app, others]
}
