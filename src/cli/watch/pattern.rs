//! Which part of a file's name in a spool is the recording's id, and which its app's and account's.
//!
//! Never guesses: a name that can be read in two ways is not read at all.

use std::ops::RangeInclusive;
use std::str::FromStr;

/// A pattern such as `{id}-{caller}.wav`. A field stands for one or more bytes other than `/`, or
/// with a width, as in `{id:36}`, for so many. The fields `app`, `account` and `id` are taken, all
/// others passed over. With a `/` in it, it is held against the directories above the file too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Field { name: String, width: Option<usize> },
}

/// What a name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) app: Option<&'a str>,
    pub(super) account: Option<&'a str>,
    pub(super) id: &'a str,
}

/// Why a name says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    #[error("its name does not fit the pattern")]
    Unfit,
    #[error(
        "its name fits the pattern in more than one way; give a field its width, as in {{id:36}}"
    )]
    Ambiguous,
}

impl Pattern {
    /// Whether this field is in it.
    pub(super) fn has(&self, field: &str) -> bool {
        self.count(field) > 0
    }

    fn count(&self, field: &str) -> usize {
        let named = |piece: &&Piece| matches!(piece, Piece::Field { name, .. } if name == field);
        self.0.iter().filter(named).count()
    }

    /// What the file of this path below the spool is called.
    pub(super) fn read<'a>(&self, path: &'a str) -> Result<Named<'a>, Unread> {
        let text = self.tail(path).ok_or(Unread::Unfit)?;
        let ways = self.ways(text.as_bytes()).ok_or(Unread::Unfit)?;
        let id = self.field("id", text, &ways)?.ok_or(Unread::Unfit)?;
        Ok(Named {
            app: self.field("app", text, &ways)?,
            account: self.field("account", text, &ways)?,
            id,
        })
    }

    /// The end of a path that has as many segments as the pattern.
    fn tail<'a>(&self, path: &'a str) -> Option<&'a str> {
        let slashes = |piece: &Piece| match piece {
            Piece::Literal(text) => text.matches('/').count(),
            Piece::Field { .. } => 0,
        };
        let above: usize = self.0.iter().map(slashes).sum();
        match path.rmatch_indices('/').nth(above) {
            Some((at, _)) => path.get(at + 1..),
            None => (path.matches('/').count() == above).then_some(path),
        }
    }

    /// For every place between two pieces, the offsets at which it can lie when all of the text
    /// fits; `None` where it does not.
    fn ways(&self, text: &[u8]) -> Option<Vec<Vec<bool>>> {
        let mut ways = vec![vec![false; text.len() + 1]; self.0.len() + 1];
        *ways.last_mut()?.last_mut()? = true;
        // From the end: where the rest fits.
        for (at, piece) in self.0.iter().enumerate().rev() {
            for start in 0..=text.len() {
                let fits = piece.ends(text, start);
                ways[at][start] = fits.is_some_and(|mut ends| ends.any(|end| ways[at + 1][end]));
            }
        }
        // From the beginning: where what is before fits as well.
        ways[0].iter_mut().skip(1).for_each(|way| *way = false);
        for (at, piece) in self.0.iter().enumerate() {
            let mut reached = vec![false; text.len() + 1];
            for start in (0..=text.len()).filter(|start| ways[at][*start]) {
                for end in piece.ends(text, start).into_iter().flatten() {
                    reached[end] = true;
                }
            }
            let next = ways[at + 1].iter_mut();
            next.zip(reached).for_each(|(way, reached)| *way &= reached);
        }
        ways[0][0].then_some(ways)
    }

    fn field<'a>(
        &self,
        field: &str,
        text: &'a str,
        ways: &[Vec<bool>],
    ) -> Result<Option<&'a str>, Unread> {
        let named = |piece: &Piece| matches!(piece, Piece::Field { name, .. } if name == field);
        let Some(at) = self.0.iter().position(named) else {
            return Ok(None);
        };
        let start = only(&ways[at]).ok_or(Unread::Ambiguous)?;
        let end = only(&ways[at + 1]).ok_or(Unread::Ambiguous)?;
        text.get(start..end).map(Some).ok_or(Unread::Unfit)
    }
}

/// Where the one true of these is.
fn only(ways: &[bool]) -> Option<usize> {
    let mut found = ways.iter().enumerate().filter(|(_, way)| **way);
    let (at, _) = found.next()?;
    found.next().is_none().then_some(at)
}

impl Piece {
    /// Where it can end when it begins at `start`.
    fn ends(&self, text: &[u8], start: usize) -> Option<RangeInclusive<usize>> {
        let rest = text.get(start..)?;
        let room = rest.iter().take_while(|byte| **byte != b'/').count();
        match self {
            Self::Literal(literal) => rest
                .starts_with(literal.as_bytes())
                .then(|| start + literal.len()..=start + literal.len()),
            Self::Field { width: None, .. } => (room > 0).then(|| start + 1..=start + room),
            Self::Field {
                width: Some(width), ..
            } => (*width <= room).then(|| start + width..=start + width),
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let literal = rest.split('{').next().unwrap_or_default();
            if literal.contains('}') {
                return Err("a } closes nothing".to_owned());
            }
            if literal.is_empty() {
                let (field, after) = rest[1..].split_once('}').ok_or("a { is not closed")?;
                pieces.push(field_of(field)?);
                rest = after;
            } else {
                pieces.push(Piece::Literal(literal.to_owned()));
                rest = &rest[literal.len()..];
            }
        }
        let free = |piece: &Piece| matches!(piece, Piece::Field { width: None, .. });
        if pieces.windows(2).any(|two| two.iter().all(free)) {
            return Err("between two fields there has to be text, or one has to have its width, as in {date:8}".to_owned());
        }
        let pattern = Self(pieces);
        if pattern.count("id") != 1 || pattern.count("app") > 1 || pattern.count("account") > 1 {
            return Err("it takes {id} once, and {app} and {account} at most once".to_owned());
        }
        Ok(pattern)
    }
}

fn field_of(text: &str) -> Result<Piece, String> {
    let (name, width) = match text.split_once(':') {
        None => (text, None),
        Some((name, width)) => {
            let width = width.parse().ok().filter(|width| *width > 0);
            (name, Some(width.ok_or("a width is a number from 1 on")?))
        }
    };
    if name.is_empty() || name.contains(['{', '/']) {
        return Err(format!("{{{text}}} is no field; its name is missing"));
    }
    Ok(Piece::Field {
        name: name.to_owned(),
        width,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pattern: &str, path: &str) -> Result<(String, String, String), Unread> {
        let pattern: Pattern = pattern.parse().unwrap();
        let named = pattern.read(path)?;
        let or_none = |text: Option<&str>| text.unwrap_or("-").to_owned();
        Ok((
            or_none(named.app),
            or_none(named.account),
            named.id.to_owned(),
        ))
    }

    #[test]
    fn names_of_spools() {
        const UUID: &str = "0b4c9a52-58d6-4b3e-8d4e-2f6b2b7c9a11";
        let uuid = |text: &str| text.replace("UUID", UUID);
        #[rustfmt::skip]
        let table = [
            // FreeSWITCH: the channel's UUID; behind it a number, which takes a width to tell apart.
            ("{id}.wav", uuid("UUID.wav"), Ok(("-", "-", UUID))),
            ("{id}-{caller}.wav", uuid("UUID-4930123.wav"), Err(Unread::Ambiguous)),
            ("{id:36}-{caller}.wav", uuid("UUID-4930123.wav"), Ok(("-", "-", UUID))),
            ("{id:36}_{rest}", uuid("UUID_4930123.wav"), Ok(("-", "-", UUID))),
            // Asterisk's uniqueid.
            ("{id}-{caller}.wav", "1700000000.12-4930123.wav".into(), Ok(("-", "-", "1700000000.12"))),
            // FreePBX, in directories of days.
            ("{kind}-{to}-{from}-{date}-{time}-{id}.wav", "2026/11/23/out-100-0301234-20261123-181500-1700000000.7.wav".into(), Ok(("-", "-", "1700000000.7"))),
            ("{kind}-{to}-{from}-{date}-{time}-{id}.wav", "out-1-00-0301234-20261123-181500-17.7.wav".into(), Err(Unread::Ambiguous)),
            // What varies where nothing is taken is no matter.
            ("{a}-{b}_{id}.wav", "1-2-3_4.wav".into(), Ok(("-", "-", "4"))),
            ("{app}/{account}/{id}.{ending}", "x/12345/acme/c1.flac".into(), Ok(("12345", "acme", "c1"))),
            ("{account}/{id}.wav", "c1.wav".into(), Err(Unread::Unfit)),
            ("{date:8}{id}.wav", "20261123c1.wav".into(), Ok(("-", "-", "c1"))),
            ("{id}.wav", "c1.wav.tmp".into(), Err(Unread::Unfit)),
            ("{id}.wav", ".wav".into(), Err(Unread::Unfit)),
            ("{id}.wav", String::new(), Err(Unread::Unfit)),
            ("{id}.wav", "a.wav.wav".into(), Ok(("-", "-", "a.wav"))),
            ("{id:1}{rest}", "äb".into(), Err(Unread::Unfit)),
        ];
        for (pattern, path, expect) in table {
            let expect = expect.map(|(app, account, id): (&str, &str, &str)| {
                (app.to_owned(), account.to_owned(), id.to_owned())
            });
            assert_eq!(read(pattern, &path), expect, "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_that_are_none() {
        for (text, says) in [
            ("", "{id} once"),
            ("{caller}.wav", "{id} once"),
            ("{id}-{id}.wav", "{id} once"),
            ("{app}{id}.wav", "text"),
            ("{id.wav", "not closed"),
            ("id}.wav", "closes nothing"),
            ("{}.wav", "name is missing"),
            ("{id:0}.wav", "width"),
            ("{id:x}.wav", "width"),
        ] {
            let problem = text.parse::<Pattern>().unwrap_err();
            assert!(problem.contains(says), "{text}: {problem}");
        }
    }

    #[test]
    fn the_longest_name_takes_no_time() {
        let pattern = "{a}-{b}-{c}-{d}-{e}-{f}-{g}-{id:3}";
        let name = "-".repeat(254);
        assert_eq!(read(pattern, &name).unwrap().2, "---");
    }
}
