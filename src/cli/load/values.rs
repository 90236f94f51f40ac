//! What flags of `tonearm load` may say.

use std::time::Duration;

use crate::config::duration;

pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    let fits = rate.filter(|rate| (0.001..=10_000_000.0).contains(rate));
    fits.ok_or_else(|| "visits a second are needed, from 0.001 to 10000000".to_owned())
}

pub(super) fn span(text: &str) -> Result<Duration, String> {
    let span = duration(text)?;
    let most = Duration::from_hours(7 * 24);
    let fits = (Duration::from_millis(1)..=most).contains(&span);
    fits.then_some(span)
        .ok_or_else(|| "1ms to 168h are needed".to_owned())
}

/// A number of bytes such as `65536`, `64KiB` or `1MiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("", 1),
    ];
    let (number, unit) = units
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
        .unwrap_or((text, 1_u64));
    let size = number
        .trim()
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(unit));
    size.filter(|size| (1..=1 << 40).contains(size))
        .ok_or_else(|| "a size from 1 to 1024GiB is needed, such as 64KiB or 1MiB".to_owned())
}

pub(super) fn digest(text: &str) -> Result<[u8; 32], String> {
    let wrong = || "64 hex digits are needed".to_owned();
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut digest = [0; 32];
    for (byte, place) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[place..place + 2], 16).map_err(|_| wrong())?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_units_and_bounds() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1"), Ok(1));
        assert_eq!(span("400ms"), Ok(Duration::from_millis(400)));
        assert_eq!(rate("0.5"), Ok(0.5));
        assert_eq!(digest(&"0a".repeat(32)), Ok([10; 32]));
        for bad in [
            "",
            "0",
            "-1",
            "64kb",
            "1TiB",
            "99999999999999999999",
            "2000GiB",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["0", "-1", "NaN", "inf", "1e9", ""] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert!(span("0s").is_err() && span("169h").is_err() && digest("0a").is_err());
    }
}
