//! Recordings in a bucket: what every store has to do alike, and what becomes of a store's faults.

mod cache;
mod changes;
#[cfg(feature = "cli")]
mod confine;
mod faults;
mod kills;
#[cfg(feature = "cli")]
mod presign;
#[cfg(feature = "cli")]
mod program;
#[cfg(feature = "cli")]
mod proxy;
#[cfg(feature = "cli")]
mod scrub;
mod stores;
