//! Every setting there is: its name, its default, and what it means. How its text is read is not
//! known here.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key in the file, with the section before the dot.
    pub key: &'static str,
    /// Its default as text; empty is none.
    pub default: &'static str,
    /// What it means, with unit and bounds.
    pub help: &'static str,
}

impl Setting {
    /// Its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!(
            "TONEARM_{}",
            self.key.replace('.', "_").to_ascii_uppercase()
        )
    }
}

/// Every setting there is.
pub const SETTINGS: &[Setting] = &[
    row(
        "storage",
        "storage",
        "directory, or s3://, gs:// or az:// with bucket and prefix, of recordings: {appId}/{externalAccountId}/{externalId}.{wav,flac,mp3,mp4,m4a}",
    ),
    row(
        "listen",
        "127.0.0.1:8080",
        "address and port of the public listener; port 0 takes a free one",
    ),
    row(
        "admin_listen",
        "127.0.0.1:9090",
        "address and port of health, readiness and metrics",
    ),
    row(
        "public_base_url",
        "",
        "where clients reach this server, such as https://rec.example.com; without it, what the request's Host says",
    ),
    row(
        "keyring",
        "keyring.toml",
        "file of signing keys, mode 0600; made on first start",
    ),
    row(
        "workers",
        "0",
        "threads that serve connections; 0 is one a core",
    ),
    row(
        "confine",
        "auto",
        "after the start, the kernel (Landlock) lets the server reach its store and keys alone: auto (where it can), off, required",
    ),
    row(
        "trusted_proxies",
        "",
        "list of addresses and networks such as 10.0.0.0/8 whose word on a client's address is taken",
    ),
    row(
        "forwarded_field",
        "X-Forwarded-For",
        "field in which trusted proxies name clients: X-Forwarded-For, or Forwarded",
    ),
    row(
        "proxy_protocol",
        "off",
        "off, or required: each connection is of a trusted proxy and begins with its PROXY header, version 1 or 2",
    ),
    row(
        "tls.certificate",
        "",
        "file of certificates in PEM, the server's own first; with it the public listener speaks TLS",
    ),
    row(
        "tls.key",
        "",
        "file with the certificate's key in PEM; read again at SIGHUP and when it changes, as the certificate is",
    ),
    row(
        "tls.acme.domains",
        "",
        "list of names to have a certificate for by ACME, whose directory's terms are agreed to by it; with it the public listener speaks TLS",
    ),
    row(
        "tls.acme.directory",
        "https://acme-v02.api.letsencrypt.org/directory",
        "URL of the ACME directory",
    ),
    row(
        "tls.acme.contact",
        "",
        "list of addresses of mail that the directory may write to",
    ),
    row(
        "tls.acme.cache",
        "acme",
        "directory that account and certificate are kept in, mode 0700; made if need be",
    ),
    row(
        "tls.acme.challenge",
        "tls-alpn-01",
        "how the directory sees that a name is ours: tls-alpn-01 (on port 443, which has to lead to listen) or http-01 (on port 80, which has to lead to tls.acme.http_listen)",
    ),
    row(
        "tls.acme.http_listen",
        "0.0.0.0:80",
        "address and port of what answers http-01 and nothing else",
    ),
    row(
        "tls.acme.ca_file",
        "",
        "file of certificates in PEM that a private directory's own is checked by; without it, the system's",
    ),
    row(
        "tls.acme.eab_key_id",
        "",
        "name of the key by which a new account is bound to one with the directory's owner (external account binding), where that is asked for",
    ),
    row(
        "tls.acme.eab_key_file",
        "",
        "file with that key, in base64url; read at the start",
    ),
    row(
        "url.base_ttl",
        "15m",
        "life of a signed URL, to which the recording's duration is added",
    ),
    row(
        "url.max_ttl",
        "12h",
        "longest life of a signed URL, at least 5m",
    ),
    row(
        "url.bucket",
        "5m",
        "expiries are rounded up to multiples of this, so that caches can hit; at least 1s",
    ),
    row(
        "url.format",
        "native",
        "whose URLs the resolver gives: native, or a CDN's, of which docs/cdn.md has the list",
    ),
    row(
        "url.cdn_base_url",
        "",
        "where the CDN is, such as https://d111111abcdef8.cloudfront.net; for every format but native",
    ),
    row(
        "url.key_file",
        "",
        "file with the CDN's key as its console shows it, mode 0600; for every format but native",
    ),
    row(
        "url.key_id",
        "",
        "name of that key, where the format has one: CloudFront's Key-Pair-Id, Google's KeyName, Azure's account",
    ),
    row(
        "resolver.path",
        "/retrieve/authenticated/recordings/%s",
        "path HubSpot calls, with %s once where it puts the externalId; may hold a query",
    ),
    row(
        "resolver.allowed_app_ids",
        "",
        "list of app ids that are answered; without it, any",
    ),
    row(
        "resolver.allowed_account_ids",
        "",
        "list of external account ids that are answered; without it, any",
    ),
    row(
        "resolver.secret_file",
        "",
        "file whose text stands for {secret} in resolver.path: letters, digits, - and _, at least 16",
    ),
    row(
        "resolver.per_caller",
        "0",
        "questions that one address may ask a minute; 0 is any number",
    ),
    row(
        "resolver.per_recording",
        "0",
        "questions that may be asked for one recording a minute; 0 is any number",
    ),
    row(
        "hubspot.base_url",
        "https://api.hubapi.com",
        "where HubSpot's API is; http only on this machine, for a rehearsal",
    ),
    row(
        "hubspot.api_version",
        "v3",
        "version of HubSpot's API: v3, or a month such as 2026-03 or 2026-09",
    ),
    row(
        "hubspot.token_file",
        "",
        "file with the access token of a private app or a service key",
    ),
    row(
        "hubspot.oauth_file",
        "",
        "TOML file with client_id, client_secret and refresh_token of an installed app",
    ),
    row(
        "hubspot.developer_key_file",
        "",
        "file with the developer API key, for register and show where the token may not",
    ),
    row(
        "hubspot.index_wait",
        "45s",
        "how long a call that may have been logged is looked for before it is logged again; up to 30s of lag have been seen",
    ),
    row(
        "hubspot.signature",
        "off",
        "HubSpot's signature on questions: off, observe (log whether it holds), require",
    ),
    row(
        "hubspot.client_secret_file",
        "",
        "file with the app's client secret, for its signature",
    ),
    row(
        "ingest.tokens",
        "",
        "file of tokens that may bring and erase recordings, mode 0600; without it, nobody may",
    ),
    row(
        "ingest.max_size",
        "2GiB",
        "largest recording that is taken in",
    ),
    row(
        "ingest.stall_timeout",
        "30s",
        "longest wait for more of a recording that is being brought",
    ),
    row(
        "ingest.upload_ttl",
        "24h",
        "how long an upload in parts is kept when no part comes",
    ),
    row(
        "limits.header_timeout",
        "10s",
        "longest time from accept, or from the first byte of a later request, to the end of its head",
    ),
    row(
        "limits.idle_timeout",
        "60s",
        "longest time that a connection is kept between requests",
    ),
    row(
        "limits.write_timeout",
        "30s",
        "longest time that a reader may take less than limits.least_pace",
    ),
    row(
        "limits.least_pace",
        "256",
        "slowest reader, in bytes a second, such as 256 or 1KiB",
    ),
    row(
        "limits.connections",
        "0",
        "most connections at a time, more wait; 0 is what the open files allow",
    ),
    row(
        "limits.connections_per_address",
        "0",
        "most connections of one address, or one /64 of IPv6; 0 is any number, as behind a proxy",
    ),
    row(
        "limits.responses",
        "0",
        "most responses under way, more are told to come back; 0 is any number",
    ),
    row(
        "limits.shutdown_delay",
        "0s",
        "how long is served on, not ready, after a stop was asked for: until balancers know",
    ),
    row(
        "limits.drain",
        "30s",
        "longest time running responses get to finish after a stop was asked for",
    ),
    row(
        "object.endpoint",
        "",
        "where the bucket is, path style, if not at its cloud: such as http://127.0.0.1:9000",
    ),
    row(
        "object.timeout",
        "10s",
        "longest wait for an answer of the bucket, and for more of one",
    ),
    row(
        "object.max_requests",
        "1024",
        "requests to the bucket that may be under way, streams among them",
    ),
    row(
        "object.delivery",
        "proxy",
        "how a bucket's bytes reach listeners: proxy, cache (by slices on local disk) or presign (URLs of the bucket's own)",
    ),
    row(
        "object.session_ttl",
        "5m",
        "longest life of a presigned URL where the bucket's credentials are of a session, whose end nobody tells",
    ),
    row(
        "cache.directory",
        "cache",
        "directory of slices, of one process alone; made if need be; for object.delivery = cache",
    ),
    row(
        "cache.size",
        "10GiB",
        "most bytes that slices take up, at least 16 slices",
    ),
    row(
        "cache.slice",
        "1MiB",
        "bytes that are fetched and kept together, from 64KiB to 64MiB",
    ),
    row(
        "cache.keep",
        "24h",
        "how long a slice is kept that nobody asks for, of an erased recording too",
    ),
    row(
        "cache.trust",
        "2s",
        "how long what the bucket said of a recording is believed while it cannot be asked; no revocation or erasure shows for so long then",
    ),
    row(
        "log.filter",
        "info",
        "what is logged: error, warn, info, debug, trace, or directives such as info,tonearm::access=off",
    ),
    row("log.format", "text", "text or json"),
];

const fn row(key: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, default, help }
}
