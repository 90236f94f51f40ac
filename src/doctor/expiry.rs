//! When a signed URL ends, as far as it tells.

use crate::recording::UnixTime;

/// The time at which a URL ends, by what its query says: tonearm's own token, the stores' `Expires`
/// and `X-Amz-Date` with `X-Amz-Expires`, and the names others use.
pub(super) fn of_url(url: &str) -> Option<UnixTime> {
    let (_, query) = url.split_once('?')?;
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    let of_token = value("sig").and_then(|sig| unix(sig.strip_prefix("1.")?.split('.').nth(1)?));
    let of_amazon = || {
        let from: jiff::Timestamp = spaced(value("X-Amz-Date").or_else(|| value("X-Goog-Date"))?)?
            .parse()
            .ok()?;
        let life: u64 = value("X-Amz-Expires")
            .or_else(|| value("X-Goog-Expires"))?
            .parse()
            .ok()?;
        Some(UnixTime(u64::try_from(from.as_second()).ok()?).plus(life))
    };
    let named = || {
        ["Expires", "exp", "expiry", "se"]
            .iter()
            .find_map(|name| unix(value(name)?))
    };
    of_token.or_else(of_amazon).or_else(named)
}

/// The time that a resolver's answer gives beside the URL.
pub(super) fn of_answer(answer: &serde_json::Value) -> Option<UnixTime> {
    let names = ["expiresAt", "expires_at", "expires"];
    let time = names
        .iter()
        .find_map(|name| answer.get(name)?.as_str()?.parse::<jiff::Timestamp>().ok())?;
    u64::try_from(time.as_second()).ok().map(UnixTime)
}

fn unix(text: &str) -> Option<UnixTime> {
    (text.len() == 10).then(|| text.parse().ok().map(UnixTime))?
}

/// `20261123T145000Z` with the marks that RFC 3339 has.
fn spaced(compact: &str) -> Option<String> {
    let part = |from, to| compact.get(from..to);
    (compact.len() == 16).then_some(())?;
    Some(format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(9, 11)?,
        part(11, 13)?,
        part(13, 15)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_urls() {
        for (query, ends) in [
            ("sig=1.k1.1795445400.mac", Some(1_795_445_400)),
            ("a=b&sig=1.k1.1795445400.di.mac", Some(1_795_445_400)),
            (
                "X-Amz-Date=20261123T145000Z&X-Amz-Expires=60",
                Some(1_795_445_460),
            ),
            ("Expires=1795445400&Signature=x", Some(1_795_445_400)),
            ("exp=1795445400", Some(1_795_445_400)),
            ("sig=2.k1.1795445400.mac", None),
            ("exp=soon", None),
            ("", None),
        ] {
            assert_eq!(
                of_url(&format!("https://a.example/x?{query}")),
                ends.map(UnixTime),
                "{query}"
            );
        }
        assert_eq!(of_url("https://a.example/x"), None);
        let answer =
            serde_json::json!({"authenticatedUrl": "x", "expiresAt": "2026-11-23T14:50:00Z"});
        assert_eq!(of_answer(&answer), Some(UnixTime(1_795_445_400)));
        assert_eq!(of_answer(&serde_json::json!([])), None);
    }
}
