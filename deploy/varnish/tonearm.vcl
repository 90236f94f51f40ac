vcl 4.1;

# Varnish in front of tonearm: asks tonearm for each URL, keeps whole recordings.
#
# For Varnish 6.0 LTS and later; Debian's 7.1 runs it. docs/cdn.md says what each part is for.
# A request comes through twice: first as a question to /edge/verify, kept under the whole URL;
# after a yes, restarted, as the path alone, kept for everybody who may have it.

import std;

backend default {
    .host = "127.0.0.1";
    .port = "8080";
    .first_byte_timeout = 10s;
}

sub vcl_recv {
    if (req.restarts == 0) {
        # What only this file sets, nobody sends.
        unset req.http.X-Tonearm-Step;
        unset req.http.X-Tonearm-Disposition;
        unset req.http.X-Tonearm-Type;
        unset req.http.X-Tonearm-Pull;
        unset req.http.X-Original-URI;
        unset req.http.X-Original-Method;
        unset req.http.Cookie;

        # HubSpot's question, and a page's preflight, which carries no token.
        if (req.url ~ "^/retrieve/" ||
            (req.method == "OPTIONS" && req.url ~ "^/media/")) {
            return (pass);
        }
        if (req.url !~ "^/media/") {
            return (synth(404));
        }
        if (req.method != "GET" && req.method != "HEAD") {
            return (synth(403));
        }
        set req.http.X-Tonearm-Step = "ask";
        set req.http.X-Original-URI = req.url;
        set req.http.X-Original-Method = req.method;
        set req.http.X-Tonearm-Range = req.http.Range;
        set req.http.X-Tonearm-If-None-Match = req.http.If-None-Match;
        set req.http.X-Tonearm-If-Modified-Since = req.http.If-Modified-Since;
        unset req.http.Range;
        unset req.http.If-None-Match;
        unset req.http.If-Modified-Since;
        set req.url = "/edge/verify";
        return (hash);
    }
    return (hash);
}

sub vcl_hash {
    if (req.http.X-Tonearm-Step == "ask") {
        # Under the whole URL. Under the path, one viewer's yes would be everybody's.
        hash_data("ask " + req.http.X-Original-Method + " " + req.http.Host + " " +
                  req.http.X-Original-URI);
    } else {
        hash_data("have " + req.url);
    }
    return (lookup);
}

sub vcl_miss {
    # A miss fetches the whole recording, and a seek waits until the fetch has come to its place.
    # One that lies 20 MB in, or further, goes to the origin by itself.
    if (req.http.X-Tonearm-Step == "have" && req.http.Range ~ "^bytes=([2-9][0-9]{7}|[0-9]{9,})-") {
        return (pass);
    }
}

sub vcl_backend_fetch {
    if (bereq.http.X-Tonearm-Step == "have") {
        # The `secret` of this edge's key in tonearm's keyring.
        set bereq.http.X-Tonearm-Pull = "SECRET";
        set bereq.method = "GET";
    }
    unset bereq.http.X-Tonearm-Step;
    unset bereq.http.X-Tonearm-Range;
}

sub vcl_backend_response {
    # Nothing outlives its time: neither a verdict its URL, nor by ten seconds of grace.
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    if (beresp.status >= 400) {
        set beresp.uncacheable = true;
        set beresp.ttl = 0s;
    }
    return (deliver);
}

sub vcl_backend_error {
    # Of the origin that is gone nothing is kept, not even for a moment.
    set beresp.ttl = 0s;
    set beresp.grace = 0s;
    set beresp.uncacheable = true;
    return (deliver);
}

sub vcl_deliver {
    if (req.http.X-Tonearm-Step == "ask") {
        # A yes has a time; it may have lain in the cache for a while.
        if (resp.status != 204 || std.time(resp.http.X-Tonearm-Exp, now) <= now) {
            return (synth(403));
        }
        set req.http.X-Tonearm-Step = "have";
        set req.http.X-Tonearm-Disposition = resp.http.X-Tonearm-Disposition;
        set req.http.X-Tonearm-Type = resp.http.X-Tonearm-Type;
        set req.url = regsub(req.http.X-Original-URI, "\?.*$", "");
        if (req.http.X-Tonearm-Range != "") {
            set req.http.Range = req.http.X-Tonearm-Range;
        }
        if (req.http.X-Tonearm-If-None-Match != "") {
            set req.http.If-None-Match = req.http.X-Tonearm-If-None-Match;
        }
        if (req.http.X-Tonearm-If-Modified-Since != "") {
            set req.http.If-Modified-Since = req.http.X-Tonearm-If-Modified-Since;
        }
        return (restart);
    }
    if (req.http.X-Tonearm-Step == "have") {
        # Kept for all, so said for each. A viewer's own cache asks each time, and gets a 304.
        unset resp.http.CDN-Cache-Control;
        unset resp.http.Surrogate-Control;
        unset resp.http.X-Accel-Expires;
        if (resp.status < 400) {
            set resp.http.Cache-Control = "private, no-cache, no-transform";
            set resp.http.Content-Disposition = req.http.X-Tonearm-Disposition;
            set resp.http.Content-Type = req.http.X-Tonearm-Type;
        } else {
            set resp.http.Cache-Control = "no-store";
        }
    }
    unset resp.http.Age;
    unset resp.http.Via;
    unset resp.http.X-Varnish;
}

sub vcl_synth {
    set resp.http.Cache-Control = "no-store";
    set resp.http.Content-Type = "text/plain";
    synthetic(resp.reason);
    return (deliver);
}
