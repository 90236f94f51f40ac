//! The path's one spelling.

use crate::recording::is_unreserved;

/// Longest path, in bytes.
pub const MAX_PATH: usize = 512;
/// Longest segment, in bytes.
pub const MAX_SEGMENT: usize = 128;

/// Why a path is refused rather than normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Empty, or not beginning with `/`.
    #[error("the path does not begin with \"/\"")]
    NotAbsolute,
    /// More than [`MAX_PATH`] bytes.
    #[error("the path has {0} bytes, more than {MAX_PATH}")]
    TooLong(usize),
    /// `//`, or a `/` at the end.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A segment of more than [`MAX_SEGMENT`] bytes.
    #[error("a path segment has {0} bytes, more than {MAX_SEGMENT}")]
    LongSegment(usize),
    /// `.` or `..`.
    #[error("the path has a dot segment")]
    DotSegment,
    /// A byte outside the set, `%` among them, at this offset.
    #[error("the path has a byte at offset {0} that is none of A-Z a-z 0-9 - _ . ~")]
    Charset(usize),
}

/// Checks a path against `1*( "/" segment )`.
///
/// # Errors
/// The first rule it breaks.
pub fn check_path(path: &str) -> Result<(), PathError> {
    if path.len() > MAX_PATH {
        return Err(PathError::TooLong(path.len()));
    }
    let segments = path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
    let outside = |byte: u8| byte != b'/' && !is_unreserved(byte);
    if let Some(at) = path.bytes().position(outside) {
        return Err(PathError::Charset(at));
    }
    let mut segments = segments.as_bytes().split(|byte| *byte == b'/');
    segments.try_for_each(|segment| match segment {
        b"" => Err(PathError::EmptySegment),
        b"." | b".." => Err(PathError::DotSegment),
        _ if segment.len() > MAX_SEGMENT => Err(PathError::LongSegment(segment.len())),
        _ => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        let segment = "s".repeat(128);
        let four = format!("/{segment}/{segment}/{segment}/{}", &segment[..125]);
        assert_eq!(four.len(), 513);
        for good in [
            "/a",
            "/a/b",
            "/...",
            "/a~b",
            &format!("/{segment}"),
            &four[..512],
        ] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("/", PathError::EmptySegment),
            ("/a/", PathError::EmptySegment),
            ("//a", PathError::EmptySegment),
            ("/a//b", PathError::EmptySegment),
            ("/./a", PathError::DotSegment),
            ("/a/..", PathError::DotSegment),
            ("/%61", PathError::Charset(1)),
            ("/a;b", PathError::Charset(2)),
            ("/a b", PathError::Charset(2)),
            ("/ä", PathError::Charset(1)),
            (&format!("/{segment}s"), PathError::LongSegment(129)),
            (&four, PathError::TooLong(513)),
        ] {
            assert_eq!(check_path(bad), Err(why), "{bad}");
        }
    }
}
