//! The audit line: every erasure leaves one, on the log's target `audit`.

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
