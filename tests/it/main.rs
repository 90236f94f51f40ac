//! The tests that need a running server, in one binary.

mod harness;
mod wire;
