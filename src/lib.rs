//! tonearm
#![forbid(unsafe_code)]
pub mod recording;
pub mod sign;
