//! Recordings as they come: what ffmpeg, SoX, flac and LAME write, told by its header.

mod headers;
pub mod made;
mod sound;

/// docs/audio.md lists the sources that the program knows.
#[test]
fn the_table_of_sources_is_the_programs() {
    let docs = include_str!("../../docs/audio.md");
    for source in tonearm::audio::SOURCES {
        let row = format!(
            "| `{}` | {} | {} |",
            source.name, source.order, source.stated
        );
        assert!(docs.lines().any(|line| line == row), "{row}");
    }
}
