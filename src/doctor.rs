//! What HubSpot needs, held against a file, a directory, or any vendor's endpoint.
//!
//! Each point is looked at on its own and graded: [`Grade::Pass`], [`Grade::Warn`] where HubSpot may
//! do with it or nobody knows, [`Grade::Fail`] where playing or transcribing breaks. What HubSpot
//! has published decides; where it has published nothing, nothing is invented.

mod check;
mod expiry;
mod file;
mod ids;
mod media;
mod mend;
mod probe;
mod record;
mod resolver;

pub use self::check::{Check, Grade, worst};
pub use self::file::{Heard, check_bytes, check_file, check_opened};
pub use self::ids::check_ids;
pub use self::mend::Named;
pub use self::probe::{Broken, Probe};
pub use self::record::check_record;
pub use self::resolver::{Question, Signer};
