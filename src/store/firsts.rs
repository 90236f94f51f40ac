//! Recordings out of a listing of files by their names.

use crate::recording::MediaPath;

/// Tells a recording's first file from its others, in a listing in the order of names.
///
/// A recording's files are named by its id, a dot and a format, and only names that begin with that id
/// and that dot stand between them (`a.flac`, `a.b.wav`, `a.wav`). So of those that went by, only such
/// are kept whose others can still come: no more than the name has dots.
#[derive(Debug, Default)]
pub(super) struct Firsts(Vec<String>);

impl Firsts {
    pub(super) fn is_first(&mut self, path: &MediaPath) -> bool {
        let name = path.store_path();
        while self.0.pop_if(|begun| !name.starts_with(&**begun)).is_some() {}
        let begun = format!("{}.", path.recording);
        let is_first = self.0.last() != Some(&begun);
        if is_first {
            self.0.push(begun);
        }
        is_first
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::recording::RecordingId;

    fn path(account: &str, name: &str) -> MediaPath {
        MediaPath::parse(&format!("/media/app/{account}/{name}")).unwrap()
    }

    #[test]
    fn of_recordings_whose_files_do_not_stand_side_by_side() {
        let mut firsts = Firsts::default();
        for (name, is_first) in [
            ("a-b.wav", true),
            ("a.b.c.wav", true),
            ("a.b.flac", true),
            ("a.b.wav", false),
            ("a.flac", true),
            ("a.mp3.wav", true),
            ("a.mp3", false),
            ("a.wav", false),
            ("ab.wav", true),
        ] {
            assert_eq!(firsts.is_first(&path("acc", name)), is_first, "{name}");
        }
    }

    proptest! {
        #[test]
        fn of_each_recording_one(names in prop::collection::btree_set("(a|b)/[ab.-]{1,6}\\.(wav|flac|m4a)", 0..60)) {
            let paths: Vec<_> = names
                .iter()
                .filter_map(|name| MediaPath::parse(&format!("/media/app/{name}")))
                .collect();
            let mut firsts = Firsts::default();
            let mut seen: BTreeSet<RecordingId> = BTreeSet::new();
            for path in &paths {
                prop_assert_eq!(firsts.is_first(path), seen.insert(path.recording.clone()), "{}", path.store_path());
                prop_assert!(firsts.0.len() <= path.file_name().matches('.').count());
            }
        }
    }
}
