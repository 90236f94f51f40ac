//! The audit line: every erasure leaves one, and every legal hold that begins or ends, on the log's
//! target `audit`.

use crate::recording::RecordingId;
use crate::store::Erased;

/// Says that a file was erased, by whom and why.
pub fn erased(file: &Erased, who: &str, why: &str) {
    tracing::info!(
        target: "audit",
        who,
        why,
        recording = %file.path.recording,
        format = file.path.media.extension(),
        bytes = file.length,
        sha256 = file.sha256,
        "erased"
    );
}

/// Says that a legal hold began or ended, by whom.
pub fn held(recording: &RecordingId, legal_hold: bool, who: &str) {
    let done = if legal_hold { "held" } else { "released" };
    tracing::info!(target: "audit", who, %recording, "{done}");
}
