//! Azure's service SAS: the query that lets one blob be read.
//!
//! Decides what is signed, in which order, and how it is spelled. Whose key signs, and until when, is
//! decided before.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// RFC 3986's unreserved bytes stay as they are in a query.
pub(crate) const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What a SAS says; what is empty, it does not.
#[derive(Debug)]
pub(crate) struct Sas<'a> {
    /// RFC 3339, as is `end`.
    pub(crate) start: String,
    pub(crate) end: String,
    pub(crate) addresses: &'a str,
    pub(crate) protocols: &'a str,
    pub(crate) version: &'a str,
    /// The answer's Content-Disposition and Content-Type, in the place of the blob's.
    pub(crate) disposition: &'a str,
    pub(crate) media_type: &'a str,
}

impl Default for Sas<'_> {
    fn default() -> Self {
        Self {
            start: String::new(),
            end: String::new(),
            addresses: "",
            protocols: "https",
            version: "2022-11-02",
            disposition: "",
            media_type: "",
        }
    }
}

impl Sas<'_> {
    /// What is signed: the sixteen lines of versions from 2020-12-06 on. `resource` is
    /// `/blob/{account}/{container}/{blob}`.
    pub(crate) fn message(&self, resource: &str) -> String {
        let Self {
            start,
            end,
            addresses,
            protocols,
            version,
            disposition,
            media_type,
        } = self;
        format!(
            "r\n{start}\n{end}\n{resource}\n\n{addresses}\n{protocols}\n{version}\nb\n\n\n\n{disposition}\n\n\n{media_type}"
        )
    }

    /// The query, with the base64 of the message's HMAC-SHA256 under the account's key.
    pub(crate) fn query(&self, signature: &str) -> String {
        let mut query = String::new();
        for (name, value) in [
            ("st", &*self.start),
            ("se", &self.end),
            ("sp", "r"),
            ("sip", self.addresses),
            ("spr", self.protocols),
            ("sv", self.version),
            ("sr", "b"),
            ("rscd", self.disposition),
            ("rsct", self.media_type),
            ("sig", signature),
        ] {
            if !value.is_empty() {
                let joint = if query.is_empty() { "" } else { "&" };
                // Writing to a String cannot fail.
                let _ = write!(query, "{joint}{name}={}", utf8_percent_encode(value, QUERY));
            }
        }
        query
    }
}
