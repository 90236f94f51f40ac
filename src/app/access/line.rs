//! The access log's line: as an event for whoever listens, or written by hand, which is many times
//! cheaper and gives the same bytes as the program's log makes of the event.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;

use crate::recording::UnixTime;

/// The shape of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// For people, without colours.
    Text,
    /// An object.
    Json,
}

/// Takes whole lines, each with its line feed.
type Take = Box<dyn Fn(&str) + Send + Sync>;

/// Where lines of the access log go without having been events.
pub struct AccessLog {
    shape: Shape,
    take: Take,
}

impl AccessLog {
    /// Lines of this shape, each with its line feed, for `take`, which must not wait: it is called
    /// where connections are served.
    #[must_use]
    pub fn new(shape: Shape, take: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let take = Box::new(take);
        Self { shape, take }
    }

    pub(super) fn tell(&self, told: &Told<'_>, now: SystemTime) {
        PAPER.with(|paper| match paper.try_borrow_mut() {
            Ok(mut paper) => (self.take)(paper.line(told, self.shape, now)),
            // Whoever takes a line has something to tell himself.
            Err(_) => (self.take)(Paper::blank().line(told, self.shape, now)),
        });
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut log = f.debug_struct("AccessLog");
        log.field("shape", &self.shape).finish_non_exhaustive()
    }
}

thread_local! {
    static PAPER: RefCell<Paper> = const { RefCell::new(Paper::blank()) };
}

/// What is told of a response.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub peer: SocketAddr,
    pub client: Option<IpAddr>,
    pub method: &'a Method,
    pub route: &'a str,
    pub path: &'a str,
    pub status: u16,
    pub reason: Option<&'a str>,
    pub range: Option<&'a str>,
    pub token: Option<Token<'a>>,
    pub request_id: Option<&'a str>,
    pub trace_id: Option<&'a str>,
    pub promised: u64,
    pub sent: u64,
    pub outcome: &'a str,
    pub micros: u64,
}

/// What is told of a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub kid: &'a str,
    pub exp: UnixTime,
    pub options: &'a str,
    pub mac: &'a str,
}

impl Told<'_> {
    /// Tells whoever listens.
    pub(super) fn event(&self) {
        tracing::info!(
            target: "tonearm::access",
            peer = %self.peer,
            client = self.client.map(tracing::field::display),
            method = %self.method,
            route = self.route,
            path = self.path,
            status = self.status,
            reason = self.reason,
            range = self.range,
            kid = self.token.map(|token| token.kid),
            exp = self.token.map(|token| token.exp.0),
            options = self.token.map(|token| token.options),
            mac = self.token.map(|token| token.mac),
            request_id = self.request_id,
            trace_id = self.trace_id,
            promised = self.promised,
            sent = self.sent,
            outcome = self.outcome,
            micros = self.micros,
        );
    }
}

/// Room for a line, used again and again, and the calendar's text of this second.
struct Paper {
    line: String,
    second: UnixTime,
    /// `YYYY-MM-DDThh:mm:ss`.
    date: String,
}

impl Paper {
    /// Room that is kept, in bytes; a longer line is a rare one.
    const KEPT: usize = 4096;

    const fn blank() -> Self {
        Self {
            line: String::new(),
            second: UnixTime(u64::MAX),
            date: String::new(),
        }
    }

    fn line(&mut self, told: &Told<'_>, shape: Shape, now: SystemTime) -> &str {
        self.line.clear();
        self.line.shrink_to(Self::KEPT);
        let text = &mut self.line;
        match shape {
            Shape::Text => {
                stamp(text, now, &mut self.second, &mut self.date);
                text.push_str("  INFO tonearm::access:");
                Fields { text, shape }.all(told);
                text.push('\n');
            }
            Shape::Json => {
                text.push_str("{\"timestamp\":\"");
                stamp(text, now, &mut self.second, &mut self.date);
                text.push_str("\",\"level\":\"INFO\"");
                Fields { text, shape }.all(told);
                text.push_str(",\"target\":\"tonearm::access\"}\n");
            }
        }
        text
    }
}

/// Appends a time in UTC, in microseconds. The text of its second is made once.
fn stamp(text: &mut String, now: SystemTime, second: &mut UnixTime, date: &mut String) {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let this = UnixTime(since.as_secs());
    if *second != this {
        *second = this;
        date.clear();
        date.push_str(this.rfc3339().trim_end_matches('Z'));
    }
    text.push_str(date);
    text.push('.');
    // The 1 in front keeps the zeros.
    let micros = 1_000_000 + since.subsec_micros();
    text.push_str(&itoa::Buffer::new().format(micros)[1..]);
    text.push('Z');
}

/// A field's name with all that stands between the value before it and its own.
#[derive(Clone, Copy)]
struct Name {
    text: &'static str,
    json: &'static str,
    /// Before a value in quotes.
    text_quoted: &'static str,
    json_quoted: &'static str,
}

macro_rules! name {
    ($name:literal) => {
        Name {
            text: concat!(" ", $name, "="),
            json: concat!(",\"", $name, "\":"),
            text_quoted: concat!(" ", $name, "=\""),
            json_quoted: concat!(",\"", $name, "\":\""),
        }
    };
}

struct Fields<'a> {
    text: &'a mut String,
    shape: Shape,
}

impl Fields<'_> {
    fn all(&mut self, told: &Told<'_>) {
        self.bare(name!("peer"), |text| push_socket(text, told.peer));
        if let Some(client) = told.client {
            self.bare(name!("client"), |text| push_ip(text, client));
        }
        self.bare(name!("method"), |text| text.push_str(told.method.as_str()));
        self.word(name!("route"), told.route);
        self.string(name!("path"), told.path);
        self.number(name!("status"), told.status.into());
        if let Some(reason) = told.reason {
            self.string(name!("reason"), reason);
        }
        if let Some(range) = told.range {
            self.word(name!("range"), range);
        }
        if let Some(token) = told.token {
            self.word(name!("kid"), token.kid);
            self.number(name!("exp"), token.exp.0);
            self.word(name!("options"), token.options);
            self.word(name!("mac"), token.mac);
        }
        if let Some(id) = told.request_id {
            self.string(name!("request_id"), id);
        }
        if let Some(id) = told.trace_id {
            self.word(name!("trace_id"), id);
        }
        self.number(name!("promised"), told.promised);
        self.number(name!("sent"), told.sent);
        self.word(name!("outcome"), told.outcome);
        self.number(name!("micros"), told.micros);
    }

    fn name(&mut self, name: Name) {
        self.text.push_str(match self.shape {
            Shape::Text => name.text,
            Shape::Json => name.json,
        });
    }

    fn number(&mut self, name: Name, number: u64) {
        self.name(name);
        self.text.push_str(itoa::Buffer::new().format(number));
    }

    /// A value that by its grammar has nothing to escape.
    fn word(&mut self, name: Name, word: &str) {
        self.text.push_str(match self.shape {
            Shape::Text => name.text_quoted,
            Shape::Json => name.json_quoted,
        });
        self.text.push_str(word);
        self.text.push('"');
    }

    fn string(&mut self, name: Name, string: &str) {
        if is_plain(string) {
            return self.word(name, string);
        }
        self.name(name);
        match self.shape {
            // Writing to a String cannot fail.
            Shape::Text => drop(write!(self.text, "{string:?}")),
            // Nor can a text fail to be JSON.
            Shape::Json => self
                .text
                .push_str(&serde_json::to_string(string).unwrap_or_default()),
        }
    }

    /// A value that stands in text without quotes: addresses and methods, which hold nothing that
    /// JSON escapes.
    fn bare(&mut self, name: Name, push: impl FnOnce(&mut String)) {
        self.name(name);
        match self.shape {
            Shape::Text => push(self.text),
            Shape::Json => {
                self.text.push('"');
                push(self.text);
                self.text.push('"');
            }
        }
    }
}

/// Whether neither shape escapes anything of a text.
fn is_plain(text: &str) -> bool {
    let plain = |byte| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    // To the end in any case, which is many bytes at a time.
    text.bytes().fold(true, |all, byte| all & plain(byte))
}

fn push_socket(text: &mut String, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            push_ip(text, (*address.ip()).into());
            text.push(':');
            text.push_str(itoa::Buffer::new().format(address.port()));
        }
        // Writing to a String cannot fail.
        SocketAddr::V6(address) => drop(write!(text, "{address}")),
    }
}

fn push_ip(text: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            text.push_str(itoa::Buffer::new().format(first));
            for octet in rest {
                text.push('.');
                text.push_str(itoa::Buffer::new().format(octet));
            }
        }
        // Writing to a String cannot fail.
        IpAddr::V6(address) => drop(write!(text, "{address}")),
    }
}

#[cfg(test)]
mod tests;
