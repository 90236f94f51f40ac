//! The tests that need a running server, in one binary.

mod harness;
#[cfg(feature = "cli")]
mod program;
mod wire;
