//! HubSpot rehearsed: a fake of its API that is as strict as what is documented.
//!
//! `fake` decides, without a socket and without a clock, what HubSpot would answer, and remembers
//! what it was told; `check` says what is wrong with a body; `fault` is a script of failures;
//! `serve` puts it on a port. Knows nothing of the client that it rehearses with: what goes over
//! the wire is read here a second time, by other code.

mod check;
mod fake;
mod fault;
mod serve;

pub use self::fake::Options;
pub use self::fault::{BadFault, Fault};
pub use self::serve::serve;
