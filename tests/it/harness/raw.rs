//! A client that sends what it is told, and reads strictly.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

/// A blocking connection; every read ends within ten seconds.
pub struct Client {
    pub stream: TcpStream,
    #[cfg(feature = "tls")]
    pub tls: Option<rustls::ClientConnection>,
    host: String,
    unread: Vec<u8>,
}

/// A response as it came.
#[derive(Debug)]
pub struct Response {
    pub version: String,
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a field that stands once; the test fails when it is repeated.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self
            .fields
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is repeated: {self:?}");
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// All fields but Date, in a fixed order, for comparing two responses.
    pub fn undated(&self) -> Vec<(String, String)> {
        let mut fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .filter(|(name, _)| name != "date")
            .collect();
        fields.sort();
        fields
    }

    /// When the response was made, by its own Date.
    pub fn date(&self) -> SystemTime {
        let text = self.field("date");
        let text = text.unwrap_or_else(|| panic!("no Date: {self:?}"));
        let date = httpdate::parse_http_date(text).unwrap();
        // RFC 9110 §5.6.7: a sender writes the one preferred form.
        assert_eq!(httpdate::fmt_http_date(date), text, "{self:?}");
        date
    }

    /// The reason that a refusal tells, if it tells one.
    pub fn told(&self) -> Option<String> {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        Some(problem.get("error")?.as_str().unwrap().to_owned())
    }

    /// What holds for every response of this server, whatever was asked.
    pub fn check(&self, method: &str) {
        let known = matches!(&*self.version, "HTTP/1.0" | "HTTP/1.1" | "HTTP/2.0");
        assert!(known, "{self:?}");
        self.date();
        for name in ["vary", "set-cookie", "content-encoding"] {
            assert_eq!(self.field(name), None, "{self:?}");
        }
        assert_eq!(self.field("location").is_some(), self.status == 201);
        assert!(
            self.status < 300 || self.status == 304 || self.status >= 400,
            "a redirection: {self:?}"
        );
        if self.is_hypers_own() {
            assert_eq!(self.field("connection"), Some("close"), "{self:?}");
            assert_eq!(self.field("cache-control"), Some("no-store"), "{self:?}");
            return;
        }
        for (name, value) in [
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-robots-tag", "noindex"),
        ] {
            assert_eq!(self.field(name), Some(value), "{name} of {self:?}");
        }
        if self.status >= 400 {
            self.check_problem(method);
        }
    }

    /// The answer to a head that hyper could not parse, which no handler ever sees.
    fn is_hypers_own(&self) -> bool {
        matches!(self.status, 400 | 414 | 431) && self.field("content-length") == Some("0")
    }

    fn check_problem(&self, method: &str) {
        assert_eq!(self.field("cache-control"), Some("no-store"), "{self:?}");
        assert_eq!(
            self.field("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        for name in ["etag", "last-modified", "content-disposition"] {
            assert_eq!(self.field(name), None, "{self:?}");
        }
        if self.status == 405 {
            use tonearm::ingest;
            let allow = ["GET, HEAD, OPTIONS", ingest::ALLOW, ingest::UPLOADS_ALLOW];
            assert!(allow.contains(&self.field("allow").unwrap()), "{self:?}");
        }
        if method == "HEAD" {
            return;
        }
        let text = self.text();
        assert!(!text.contains("sig="), "repeats the query: {text}");
        let problem: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(problem["status"], self.status, "{text}");
        assert!(problem["title"].is_string(), "{text}");
    }
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Self {
            stream,
            #[cfg(feature = "tls")]
            tls: None,
            host: addr.to_string(),
            unread: Vec::new(),
        }
    }

    /// Bounds what the kernel takes for this client before it is read.
    pub fn set_receive_buffer(&self, bytes: usize) {
        rustix::net::sockopt::set_socket_recv_buffer_size(&self.stream, bytes).unwrap();
    }

    /// Sends bytes as they are. A server that has already closed is found out by the next read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            let _ = rustls::Stream::new(tls, &mut self.stream).write_all(bytes.as_ref());
            return;
        }
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Shakes hands; all that follows is inside TLS.
    #[cfg(feature = "tls")]
    pub fn begin_tls(&mut self, mut session: rustls::ClientConnection) -> std::io::Result<()> {
        while session.is_handshaking() {
            session.complete_io(&mut self.stream)?;
        }
        self.tls = Some(session);
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return rustls::Stream::new(tls, &mut self.stream).read(buffer);
        }
        self.stream.read(buffer)
    }

    /// Sends a request without content, with Host and these field lines.
    pub fn ask(&mut self, method: &str, target: &str, fields: &[&str]) {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for field in fields {
            text.push_str(field);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        self.send(text);
    }

    /// Sends a request with this content, told by its length.
    pub fn bring(&mut self, method: &str, target: &str, fields: &[&str], content: &[u8]) {
        let length = format!("Content-Length: {}", content.len());
        self.ask(method, target, &[fields, &[&length]].concat());
        self.send(content);
    }

    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads one response to `method`, head and body, and checks that it delimits itself.
    pub fn response(&mut self, method: &str) -> Response {
        let mut response = self.head();
        let length = response
            .field("content-length")
            .map(|text| text.parse::<usize>().unwrap());
        assert_eq!(response.field("transfer-encoding"), None, "{response:?}");
        let bodiless = method == "HEAD" || matches!(response.status, 204 | 304);
        if matches!(response.status, 204 | 304) {
            assert_eq!(length, None, "{response:?}");
        }
        let length = if bodiless {
            0
        } else {
            length.expect("a Content-Length")
        };
        response.body = self.exactly(length);
        response.check(method);
        response
    }

    /// Reads responses until the server closes, each of them to GET and delimiting itself.
    pub fn responses(&mut self) -> Vec<Response> {
        let mut responses = Vec::new();
        while !self.is_closed() {
            responses.push(self.response("GET"));
        }
        responses
    }

    /// Asks and reads the answer, on this connection.
    pub fn get(&mut self, target: &str, fields: &[&str]) -> Response {
        self.ask("GET", target, fields);
        self.response("GET")
    }

    /// Reads a response's head only.
    pub fn head(&mut self) -> Response {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at + 4;
            }
            let more = self.more();
            assert!(more, "closed within a head: {}", ends(&self.unread));
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let status_line = lines.next().unwrap();
        let (version, rest) = status_line.split_once(' ').unwrap();
        let fields = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Response {
            version: version.to_owned(),
            status: rest[..3].parse().unwrap(),
            fields,
            body: Vec::new(),
        }
    }

    /// Reads so many bytes.
    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(
                self.more(),
                "closed after {} of {length} bytes",
                self.unread.len()
            );
        }
        self.unread.drain(..length).collect()
    }

    /// Reads to the end of the connection; a reset is an end too.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.unread)
    }

    /// Reads away what has come, and tells whether the server has closed; waits for nothing.
    pub fn is_gone(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let mut sink = [0; 4096];
        let gone = loop {
            match self.stream.read(&mut sink) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => break error.kind() != ErrorKind::WouldBlock,
            }
        };
        self.stream.set_nonblocking(false).unwrap();
        gone
    }

    /// Whether the server has closed, with nothing left to read.
    pub fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.more()
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            // A debugger or a sandbox was here; socket time-outs exclude SA_RESTART (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => self.more(),
            Err(error) => panic!("no answer: {error}; so far {}", ends(&self.unread)),
        }
    }
}

/// How many bytes there are, and as many of them as anybody reads.
fn ends(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy;
    match (bytes.first_chunk::<1000>(), bytes.last_chunk::<200>()) {
        (Some(first), Some(last)) if bytes.len() > 1200 => {
            let (first, last) = (text(first), text(last));
            format!("{} bytes: {first:?} ... {last:?}", bytes.len())
        }
        _ => format!("{} bytes: {:?}", bytes.len(), text(bytes)),
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
