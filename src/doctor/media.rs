//! A recording's URL, as a player and a transcriber use it.

use std::path::Path;
use std::time::Duration;

use http::{Method, header};

use super::file::check_bytes;
use super::probe::{Broken, Probe, Seen, tls};
use super::{Check, Named, expiry};
use crate::recording::UnixTime;

/// What a player reads before its user seeks or leaves.
const FIRST: usize = 64 * 1024;
/// What is asked for in one closed range, and from the end.
const PIECE: usize = 1000;

const RANGE_FIX: &str = "answer Range with 206 (nginx: take out max_ranges 0; a proxy or CDN before it must pass Range on)";

impl Probe {
    /// Checks a recording's URL. `ends` is when it ends, where its resolver said so.
    ///
    /// # Errors
    /// [`Broken`]: it cannot be asked at all.
    pub async fn check_media(
        &self,
        url: &str,
        ends: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<Vec<Check>, Broken> {
        let mut checks = vec![tls("media TLS", url)?];
        let whole = self.whole(url).await?;
        checks.extend(clock(&whole, now));
        if whole.status != 200 {
            checks.push(Check::fail(
                "download",
                format!("GET without Range answered {}", whole.status_line()),
                match whole.status {
                    300..=399 => "name the recording's own URL: nothing says that HubSpot follows redirects",
                    401 | 403 => "the URL alone has to open the recording, without cookies or fields, and must not have ended",
                    _ => "the recording has to be at its URL",
                },
            ));
            return Ok(checks);
        }
        checks.extend(download(&whole));
        if whole.body.is_empty() {
            return Ok(checks);
        }
        checks.extend(self.ranges(url, &whole.body).await?);
        checks.extend(self.preconditions(url, &whole).await?);
        checks.push(self.head(url, &whole).await?);
        checks.extend(fields(&whole));
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let name = path.rsplit('/').next().filter(|name| !name.is_empty());
        let heard = check_bytes(&whole.body, &Named::file(Path::new(name.unwrap_or("FILE"))))
            .map_err(Broken::Io)?;
        checks.extend(heard.checks);
        checks.push(life(
            ends.or_else(|| expiry::of_url(url)),
            heard.duration,
            now,
        ));
        Ok(checks)
    }

    async fn ranges(&self, url: &str, whole: &[u8]) -> Result<Vec<Check>, Broken> {
        let length = whole.len();
        let (middle, piece) = (length / 2, PIECE.min(length / 4).max(1));
        let mut checks = Vec::new();
        for (check, range, from, to) in [
            ("play", "bytes=0-".to_owned(), 0, length),
            ("seek", format!("bytes={middle}-"), middle, length),
            (
                "range",
                format!("bytes={middle}-{}", middle + piece - 1),
                middle,
                middle + piece,
            ),
            (
                "suffix",
                format!("bytes=-{piece}"),
                length - piece.min(length),
                length,
            ),
        ] {
            let seen = self
                .ask(Method::GET, url, &[("range", &range)], FIRST)
                .await?;
            checks.push(partial(check, &range, &seen, whole, from..to));
            if checks.iter().any(|check| check.grade == super::Grade::Fail) {
                // All of them would say the same.
                return Ok(checks);
            }
        }
        let past = self
            .ask(
                Method::GET,
                url,
                &[("range", &format!("bytes={length}-"))],
                FIRST,
            )
            .await?;
        let (expect, found) = (
            format!("bytes */{length}"),
            past.field(header::CONTENT_RANGE)
                .unwrap_or("no Content-Range")
                .to_owned(),
        );
        checks.push(if past.status == 416 && found == expect {
            Check::pass("past the end", "416, with the length there is")
        } else {
            Check::warn(
                "past the end",
                format!("{}, {found}", past.status_line()),
                format!("answer 416 with Content-Range: {expect}"),
            )
        });
        Ok(checks)
    }

    /// A player that goes on after a pause asks for a range of the version it has.
    async fn preconditions(&self, url: &str, whole: &Seen) -> Result<Vec<Check>, Broken> {
        const CHECK: &str = "If-Range";
        let etag = whole
            .field(header::ETAG)
            .filter(|etag| !etag.starts_with("W/"));
        let Some(etag) = etag else {
            let fix = "send a strong ETag, so that a player can go on where it was";
            return Ok(vec![Check::warn(CHECK, "no strong ETag", fix)]);
        };
        let ask = |validator| async move {
            let fields = [("range", "bytes=0-0"), ("if-range", validator)];
            self.ask(Method::GET, url, &fields, 1).await
        };
        let (same, other) = (
            ask(etag).await?.status,
            ask("\"tonearm-doctor\"").await?.status,
        );
        Ok(vec![match (same, other) {
            (206, 200) => Check::pass(CHECK, "206 for this version, 200 for another"),
            (206, other) => Check::fail(
                CHECK,
                format!("{other} for another version"),
                "send the whole (200) where If-Range names another version: two would be spliced",
            ),
            (same, _) => Check::warn(
                CHECK,
                format!("{same} for this very version"),
                "answer 206 where If-Range names the ETag of the file",
            ),
        }])
    }

    async fn head(&self, url: &str, whole: &Seen) -> Result<Check, Broken> {
        let seen = self.ask(Method::HEAD, url, &[], FIRST).await?;
        let same = |name: header::HeaderName| seen.field(&name) == whole.field(&name);
        Ok(
            if seen.status == 200
                && seen.body.is_empty()
                && same(header::CONTENT_LENGTH)
                && same(header::CONTENT_TYPE)
            {
                Check::pass("HEAD", "200, with the fields of GET")
            } else {
                let length = seen.field(header::CONTENT_LENGTH).unwrap_or("none");
                Check::warn(
                    "HEAD",
                    format!("{}, Content-Length {length}", seen.status_line()),
                    "answer HEAD as GET, without the body",
                )
            },
        )
    }
}

/// The transcriber's download.
fn download(whole: &Seen) -> Vec<Check> {
    let (length, kind) = (
        whole.body.len(),
        whole.field(header::CONTENT_TYPE).unwrap_or("none"),
    );
    let said = whole.length();
    let complete = if length == 0 {
        Check::fail(
            "download",
            "200, and no bytes",
            "the recording has to be at its URL",
        )
    } else if whole.cut || said.is_some_and(|said| Ok(said) != u64::try_from(length)) {
        let said = said.map_or_else(
            || "an unknown number of".to_owned(),
            |said| said.to_string(),
        );
        Check::fail(
            "download",
            format!("{length} bytes came of {said}"),
            "the whole file has to come, as long as Content-Length says",
        )
    } else if said.is_none() {
        Check::warn(
            "download",
            format!("{length} bytes, and no Content-Length"),
            "send Content-Length, so that a player knows the length",
        )
    } else {
        Check::pass("download", format!("200, all {length} bytes"))
    };
    let octets = if kind
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim() == "application/octet-stream")
    {
        Check::pass("octet-stream", kind)
    } else {
        Check::fail(
            "octet-stream",
            format!("Content-Type: {kind}"),
            "send Content-Type: application/octet-stream: HubSpot wants to download it as one",
        )
    };
    vec![complete, octets]
}

/// Whether a range was answered with exactly its bytes.
fn partial(
    check: &'static str,
    range: &str,
    seen: &Seen,
    whole: &[u8],
    bytes: std::ops::Range<usize>,
) -> Check {
    let length = whole.len();
    let fail = |saw: String, fix: &str| Check::fail(check, format!("{range}: {saw}"), fix);
    match seen.status {
        206 => {}
        200 => {
            return fail(
                format!(
                    "200 and the whole file where 206 and a part belong: Range is ignored, so nobody can seek ({length} bytes)"
                ),
                RANGE_FIX,
            );
        }
        status => return fail(format!("{status} where 206 belongs"), RANGE_FIX),
    }
    let expect = format!("bytes {}-{}/{length}", bytes.start, bytes.end - 1);
    let found = seen.field(header::CONTENT_RANGE).unwrap_or("none");
    if found != expect {
        return fail(
            format!("Content-Range: {found}"),
            &format!("it has to be {expect}"),
        );
    }
    let asked = &whole[bytes];
    if seen
        .length()
        .is_some_and(|said| Ok(said) != u64::try_from(asked.len()))
    {
        return fail(
            format!(
                "Content-Length {} for {} bytes",
                seen.length().unwrap_or_default(),
                asked.len()
            ),
            "Content-Length is the part's, not the file's",
        );
    }
    let first = &asked[..asked.len().min(FIRST)];
    if seen.body != first {
        let at = seen
            .body
            .iter()
            .zip(first)
            .position(|(seen, expect)| seen != expect)
            .unwrap_or(seen.body.len().min(first.len()));
        return fail(
            format!("other bytes than the file's, {at} bytes in"),
            "a part has to be the bytes of the file it is said to be",
        );
    }
    Check::pass(check, format!("{range}: 206, {expect}, its bytes"))
}

/// What a browser asks of the fields, behind a redirect from another site.
fn fields(whole: &Seen) -> Vec<Check> {
    let origin = whole.field(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    let cors = match origin {
        Some("*") => Check::pass("CORS", "any origin may read it"),
        origin => Check::warn(
            "CORS",
            format!("Access-Control-Allow-Origin: {}", origin.unwrap_or("none")),
            "send Access-Control-Allow-Origin: *, since behind HubSpot's redirect the origin is null",
        ),
    };
    let accepts = match whole.field(header::ACCEPT_RANGES) {
        Some("bytes") => Check::pass("Accept-Ranges", "bytes"),
        found => Check::warn(
            "Accept-Ranges",
            found.unwrap_or("none"),
            "send Accept-Ranges: bytes, by which players know that they can seek",
        ),
    };
    let encoded = whole
        .field(header::CONTENT_ENCODING)
        .filter(|coding| *coding != "identity");
    let encoded = encoded.map(|coding| {
        Check::fail(
            "coding",
            format!("Content-Encoding: {coding}"),
            "send recordings uncompressed: ranges are of the file's bytes",
        )
    });
    [cors, accepts].into_iter().chain(encoded).collect()
}

/// Signatures and expiries are of the clock.
fn clock(seen: &Seen, now: UnixTime) -> Option<Check> {
    let date = httpdate::parse_http_date(seen.field(header::DATE)?).ok()?;
    let theirs = UnixTime(date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs());
    let apart = theirs.until(now).max(now.until(theirs));
    Some(match apart {
        0..=30 => Check::pass("clock", format!("{apart} s from this machine's")),
        31..=299 => Check::warn(
            "clock",
            format!("{apart} s from this machine's"),
            "set the clock by NTP",
        ),
        _ => Check::fail(
            "clock",
            format!("{apart} s from this machine's"),
            "set the clock by NTP: signatures hold for 5 minutes",
        ),
    })
}

/// Whether the URL lives as long as somebody listens.
fn life(ends: Option<UnixTime>, duration: Option<Duration>, now: UnixTime) -> Check {
    const CHECK: &str = "expiry";
    let Some(ends) = ends else {
        return Check::warn(
            CHECK,
            "the URL does not tell when it ends",
            "let it live for the call's length and some minutes",
        );
    };
    let (left, needed) = (now.until(ends), duration.unwrap_or_default().as_secs());
    let saw = format!("{left} s are left, the recording plays for {needed} s");
    if left < needed {
        Check::fail(
            CHECK,
            saw,
            "let it live longer than the recording plays: each seek asks for it again",
        )
    } else if left < needed + 60 {
        Check::warn(
            CHECK,
            saw,
            "let it live some minutes longer than the recording plays",
        )
    } else {
        Check::pass(CHECK, saw)
    }
}
