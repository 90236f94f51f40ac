//! tonearm
#![forbid(unsafe_code)]
pub mod admin;
pub mod app;
pub mod audio;
pub mod body;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod config;
pub mod metrics;
pub mod recording;
pub mod reject;
pub mod respond;
pub mod route;
pub mod select;
pub mod server;
pub mod sign;
pub mod store;
