//! The request as every later step sees it: one method, one host, one target.
//!
//! Settles what hyper leaves to its user (RFC 9112 §3.2, §6.3), so that no two readers of a message
//! can disagree about it.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version, header};

use super::base_url::is_host;
use crate::reject::Rejection;
use crate::server::Arrival;
use crate::sign::{MAX_TARGET, Refusal, split_target};

/// Most bytes of field names and values.
const MAX_FIELDS: usize = 16 * 1024;

/// A request that can be read in one way only.
#[derive(Debug)]
pub(super) struct Effective<'a> {
    pub method: &'a Method,
    /// The authority that was asked, as sent.
    pub host: &'a str,
    /// Path and query, as sent.
    pub target: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub fields: &'a HeaderMap,
}

impl<'a> Effective<'a> {
    /// The request, if it is one that can be answered at all.
    pub(super) fn answerable(head: &'a Parts, arrival: &Arrival) -> Result<Self, Rejection> {
        let request = Self::of(head, arrival)?;
        if request.target == "*" {
            return Ok(request);
        }
        if !matches!(
            *request.method,
            Method::GET | Method::HEAD | Method::OPTIONS
        ) {
            return Err(Refusal::Method.into());
        }
        if request.target.len() > MAX_TARGET {
            return Err(Refusal::TooLong.into());
        }
        Ok(request)
    }

    pub(super) fn of(head: &'a Parts, arrival: &Arrival) -> Result<Self, Rejection> {
        let fields = Fields::of(&head.headers);
        check_framing(&head.headers, arrival)?;
        let host = host(head, &fields)?;
        let target = target(head, arrival)?;
        if fields.size > MAX_FIELDS {
            return Err(Rejection::FieldsTooLarge(fields.size));
        }
        let (path, query) = split_target(target);
        Ok(Self {
            method: &head.method,
            host,
            target,
            path,
            query,
            fields: &head.headers,
        })
    }
}

/// What is asked of the fields as a whole, found in one pass over them.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a HeaderValue>,
    hosts: usize,
    /// Their bytes on the wire: `name: value CRLF`.
    size: usize,
}

impl<'a> Fields<'a> {
    fn of(fields: &'a HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in fields {
            found.size += name.as_str().len() + value.len() + 4;
            if name == header::HOST {
                found.host = Some(value);
                found.hosts += 1;
            }
        }
        found
    }
}

/// RFC 9112 §6.1: a message with both Transfer-Encoding and Content-Length is an attempt to
/// smuggle a request. hyper drops the one and goes on, so the bytes themselves are asked.
fn check_framing(fields: &HeaderMap, arrival: &Arrival) -> Result<(), Rejection> {
    if arrival.content_length_seen && fields.contains_key(header::TRANSFER_ENCODING) {
        return Err(Rejection::Framing(
            "A request has Transfer-Encoding or Content-Length, not both.",
        ));
    }
    Ok(())
}

/// The effective host (RFC 9110 §7.2, RFC 9113 §8.3.1).
fn host<'a>(head: &'a Parts, fields: &Fields<'a>) -> Result<&'a str, Rejection> {
    if fields.hosts > 1 {
        return Err(Rejection::Host("A request has one Host."));
    }
    let field = fields
        .host
        .map(|value| value.to_str().ok().filter(|text| is_host(text)))
        .map(|host| host.ok_or(Rejection::Host("Host names no host.")))
        .transpose()?;
    // The target's own authority goes before Host (RFC 9112 §3.2.2).
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    match (head.version, authority, field) {
        (_, Some(authority), _) if !is_host(authority) => {
            Err(Rejection::Host("The target's authority names no host."))
        }
        (Version::HTTP_2, Some(authority), Some(field))
            if !authority.eq_ignore_ascii_case(field) =>
        {
            Err(Rejection::Host(":authority and Host differ."))
        }
        (Version::HTTP_11, _, None) => Err(Rejection::Host("A request needs a Host.")),
        (Version::HTTP_2, None, None) => Err(Rejection::Host("A request needs an :authority.")),
        (_, authority, field) => Ok(authority.or(field).unwrap_or_default()),
    }
}

/// Path and query of a target in origin or absolute form, or the `*` of OPTIONS.
fn target<'a>(head: &'a Parts, arrival: &Arrival) -> Result<&'a str, Rejection> {
    if arrival.fragment_seen {
        return Err(Rejection::Target("A request target has no fragment."));
    }
    // RFC 9110 §4.2: `://host/` has no scheme, and of the others none is ours.
    let scheme = head.uri.scheme_str();
    if head.uri.authority().is_some() && !matches!(scheme, Some("http" | "https")) {
        return Err(Rejection::Target("A request target is of http or https."));
    }
    let target = head
        .uri
        .path_and_query()
        .map(http::uri::PathAndQuery::as_str);
    match target {
        Some("*") if head.method == Method::OPTIONS => Ok("*"),
        Some(target) if target.starts_with('/') && head.method != Method::CONNECT => Ok(target),
        _ => Err(Rejection::Target(
            "A request target is a path, or a URL with scheme and host.",
        )),
    }
}
