//! The tests that need a running server, in one binary.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::format_collect,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and shares its harness with its modules only; a table is as long as its rows are many"
)]

#[cfg(feature = "cli")]
mod audio;
#[cfg(feature = "cli")]
mod edges;
mod harness;
mod layers;
#[cfg(feature = "object")]
mod object;
#[cfg(feature = "cli")]
mod program;
#[cfg(feature = "cli")]
mod readme;
mod release;
mod wire;
mod zero_copy;
