//! http-semantics and the signed URL, row by row, over sockets.
//!
//! Written from the RFCs and the project's pages, not from the code. What holds for every response
//! is checked wherever one is read, in `harness::raw`.

mod connection;
mod edge;
mod faults;
mod fields;
mod floods;
mod forged;
mod framing;
mod http2;
pub mod ingest;
mod limits;
mod mutated;
mod preconditions;
#[cfg(feature = "hubspot")]
mod proxies;
mod ranges;
mod resolver;
mod signed_url;
#[cfg(feature = "tls")]
mod tls;
pub mod uploads;
