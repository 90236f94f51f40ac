//! Content-Disposition: the name under which a recording is saved (RFC 6266).

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// RFC 8187 §3.2.1: everything but `attr-char` is escaped.
const EXT_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The field's value for an attachment of this name.
pub(super) fn attachment(name: &str) -> String {
    // A name is a name, not a path, and holds nothing that could end a line.
    let safe = |c: char| match c {
        '/' | '\\' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    let name = || name.chars().map(safe);
    // RFC 6266 appendix D: no escapes in the quoted form; what would need one goes beside it.
    let plain = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '%');
    let mut value = String::from("attachment; filename=\"");
    value.extend(name().map(|c| if plain(c) { c } else { '_' }));
    value.push('"');
    if !name().all(plain) {
        let name: String = name().collect();
        // Writing to a String cannot fail.
        let _ = write!(
            value,
            "; filename*=UTF-8''{}",
            utf8_percent_encode(&name, EXT_VALUE)
        );
    }
    value
}
