//! tonearm serves call recordings to HubSpot: short-lived signed URLs, true byte ranges.
//!
//! The program is `tonearm serve`; this crate is what it is made of, for a hyper server that wants
//! to do the same. A request goes one way, and each step consumes the value of the one before it:
//!
//! ```text
//! accept -> parse -> route -> authorize -> locate -> select -> respond -> write
//! ```
//!
//! | module | decides |
//! |---|---|
//! | [`recording`] | which ids exist, and what stands for a recording |
//! | [`sign`] | what is signed, by which key, and whether it holds |
//! | [`select`](mod@select) | which bytes answer this request |
//! | [`respond`](mod@respond) | status and fields |
//! | [`route`] | where a target leads |
//! | [`edge`] | what an edge that asks is told, and the tokens of those that check by themselves |
//! | [`audio`] | what a recording's header tells, and what HubSpot makes of it |
//! | `sound` | what is on the channels, and how a recording is mended (feature `sound`) |
//! | [`hubspot`] | HubSpot's words, its signature, and the calls to it |
//! | [`store`] | whether a recording is there, and which version |
//! | [`body`] | that exactly the promised bytes are sent |
//! | [`ingest`] | what is taken in, from whom |
//! | [`reject`] | what a failure looks like from outside |
//! | `load` | what listeners ask of a server, and whether it answers right (feature `load`) |
//! | [`metrics`] | what is counted |
//! | [`server`] | when a connection begins and ends |
//! | [`app`] | one request to one response |
//! | [`admin`] | health, readiness, metrics |
//! | `acme` | when a certificate is asked for, and how that a name is ours is shown (feature `acme`) |
//! | `rehearse`, `doctor` | a fake HubSpot; what an endpoint lacks for the real one (feature `hubspot`) |
//! | `config`, `cli` | what was typed to what is done (feature `cli`) |
//!
//! The pure modules (`recording` to `audio`) know no clock, no files and no sockets: the time is an
//! argument. To check a URL and select the bytes of a range in a server of one's own:
//!
//! ```
//! use std::collections::HashSet;
//! use tonearm::recording::UnixTime;
//! use tonearm::sign::{Audience, Claims, Key, Keyring, Policy, SignedRequest, Window, mint, verify};
//!
//! let secret: Vec<u8> = (0..32).collect(); // from a file of your own
//! let key = Key::new("k1", &secret, Window::default(), Audience::Origin)?;
//! let policy = Policy::default();
//! let ring = Keyring::new(vec![key], HashSet::new(), &policy)?;
//!
//! let now = UnixTime(1_767_225_600);
//! let claims = Claims::until(policy.expiry(now, policy.ttl(None)));
//! let url = mint("/media/app-101/test-account-01/test-call-01.wav", &claims, "*", &ring, &policy, now)?;
//!
//! let request = SignedRequest { method: "GET", host: "rec.example.com", target: &url.target };
//! let grant = verify(request, &ring, &policy, now)?;
//! assert_eq!(grant.path(), "/media/app-101/test-account-01/test-call-01.wav");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

#[cfg(feature = "acme")]
pub mod acme;
pub mod admin;
pub mod app;
pub mod audio;
pub mod body;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "hubspot")]
pub mod doctor;
pub mod edge;
pub mod hubspot;
pub mod ingest;
#[cfg(feature = "load")]
pub mod load;
pub mod metrics;
pub mod recording;
#[cfg(feature = "hubspot")]
pub mod rehearse;
pub mod reject;
pub mod respond;
pub mod route;
pub mod select;
pub mod server;
pub mod sign;
#[cfg(feature = "sound")]
pub mod sound;
pub mod store;
