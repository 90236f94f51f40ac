//! Recordings as they come: what ffmpeg, SoX, flac and LAME write, told by its header.

mod headers;
mod made;
mod sound;
