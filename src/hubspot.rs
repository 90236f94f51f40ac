//! HubSpot: its words, its signature, and the calls to it.
//!
//! | module | decides |
//! |---|---|
//! | [`wire`] | the JSON that goes to HubSpot and what is read from its answers |
//! | [`names`] | HubSpot's names: dispositions, record types, statuses, directions |
//! | [`path`] | where each call goes, for each version of the API |
//! | [`request`] | every call as a value |
//! | [`signature`] | whether HubSpot signed a request |
//! | [`retry`] | whether a call is made again, and when |
//! | [`api_error`] | what HubSpot says of a failure, and what to do about it |
//! | [`journal`] | what has become of a recording at HubSpot, and what is to be done next |
//! | `client` | the calls (feature `hubspot`) |
//! | `publish` | a recording's way to a transcribed call, one journalled step after the other (feature `hubspot`) |
//!
//! All but the last two are pure.

pub mod api_error;
#[cfg(feature = "hubspot")]
pub mod client;
pub mod journal;
pub mod names;
pub mod path;
#[cfg(feature = "hubspot")]
pub mod publish;
pub mod request;
pub mod retry;
pub mod signature;
pub mod wire;
