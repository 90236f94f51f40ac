//! tonearm
#![forbid(unsafe_code)]
pub mod audio;
pub mod recording;
pub mod respond;
pub mod route;
pub mod select;
pub mod sign;
pub mod store;
