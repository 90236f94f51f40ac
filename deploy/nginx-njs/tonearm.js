// Checks tonearm's signed URLs inside nginx, so that the origin is asked for bytes alone.
//
// The same decision as the origin's, in the same order, but for a recording's generation, which
// only its record knows. njs 0.7.9 runs it, and Node does in the tests, against the published vectors.

import crypto from 'crypto';
import fs from 'fs';

const KEYS = '/etc/nginx/tonearm-keys.json';

const MAX_TARGET = 2048;
const MAX_PATH = 512;
const SKEW = 30;
const PATH = /^(\/[A-Za-z0-9._~-]{1,128})+$/;
const MEDIA = /^\/media\/[^/]+\/[^/]+\/([^/]+)\.(wav|flac|mp3|mp4|m4a)$/;
const TOKEN = /^1\.([A-Za-z0-9_-]{1,16})\.([1-9][0-9]{9})((?:\.[^.]*)*)\.([A-Za-z0-9_-]{43})$/;
const TYPES = {
    wav: 'audio/wav',
    flac: 'audio/flac',
    mp3: 'audio/mpeg',
    mp4: 'video/mp4',
    m4a: 'audio/m4a',
};

function no(reason) {
    return { reason: reason };
}

// What `nginx` calls: 204 with what the viewer is to be told, or 403.
function verdict(r) {
    const now = Math.floor(Date.now() / 1000);
    let keys;
    try {
        keys = JSON.parse(fs.readFileSync(KEYS));
    } catch (error) {
        r.error('tonearm: ' + KEYS + ': ' + error.message);
        return r.return(403);
    }
    const v = r.variables;
    const found = judge(v.request_method, v.http_host || '', v.request_uri, keys, now);
    const media = found.reason ? null : MEDIA.exec(found.path);
    if (!media) {
        r.log('tonearm: ' + (found.reason || 'no_route'));
        return r.return(403);
    }
    const inline = found.disposition === 'i';
    const name = found.name === undefined ? media[1] + '.' + media[2] : found.name;
    r.headersOut['X-Tonearm-Disposition'] = inline ? 'inline' : attachment(name);
    r.headersOut['X-Tonearm-Type'] = inline ? TYPES[media[2]] : 'application/octet-stream';
    r.headersOut['X-Tonearm-Keep'] =
        'private, no-transform, max-age=' + Math.min(600, found.exp - now);
    return r.return(204);
}

// Whether a request holds at `now`: { path, exp, ... } or { reason }.
function judge(method, host, target, keys, now) {
    if (method !== 'GET' && method !== 'HEAD') {
        return no('method');
    }
    if (target.length > MAX_TARGET) {
        return no('too_long');
    }
    const mark = target.indexOf('?');
    const path = mark < 0 ? target : target.slice(0, mark);
    const query = mark < 0 ? '' : target.slice(mark + 1);
    if (path.length > MAX_PATH || !PATH.test(path) || /\/\.{1,2}(\/|$)/.test(path)) {
        return no('bad_path');
    }
    const sigs = query.split('&').filter(function (pair) {
        return pair === 'sig' || pair.startsWith('sig=');
    });
    if (sigs.length !== 1) {
        return no(sigs.length ? 'duplicate' : 'missing');
    }
    const claims = read(sigs[0].slice(4));
    if (claims.reason) {
        return claims;
    }
    let signedPath = path;
    if (claims.prefix !== undefined) {
        signedPath = path.slice(0, claims.prefix);
        if (signedPath.length !== claims.prefix || !signedPath.endsWith('/')) {
            return no('malformed');
        }
    }
    const key = keys.keys.filter(function (key) {
        return key.kid === claims.kid;
    })[0];
    if (!key) {
        return no('unknown_key');
    }
    const lines = ['tonearm-url-v1', 'GET', claims.bound ? effective(host) : '*', signedPath, claims.signed];
    if (!same(mac(key.secret, lines.join('\n')), claims.mac)) {
        return no(path.indexOf('~') < 0 ? 'bad_signature' : 'bad_path');
    }
    return inTime(key, claims, path, keys, now);
}

function inTime(key, claims, path, keys, now) {
    // url.max_ttl and url.bucket of the origin, together.
    const longest = keys.longest === undefined ? 43500 : keys.longest;
    if (key.verify_until !== undefined && now >= key.verify_until) {
        return no('key_retired');
    }
    if (claims.exp <= now) {
        return no('expired');
    }
    if (claims.exp > now + longest) {
        return no('ttl_too_long');
    }
    if (claims.notBefore > now + SKEW) {
        return no('not_yet');
    }
    if (claims.id !== undefined && (keys.revoked || []).indexOf(claims.id) >= 0) {
        return no('revoked');
    }
    claims.path = path;
    return claims;
}

// A token's text as claims. Each option at most once, in alphabetical order.
function read(token) {
    const found = TOKEN.exec(token);
    // Of the last character's six bits two are none of the MAC's, and have one spelling.
    if (!found || 'AEIMQUYcgkosw048'.indexOf(found[4][42]) < 0) {
        return no('malformed');
    }
    const claims = {
        kid: found[1],
        exp: Number(found[2]),
        mac: found[4],
        signed: token.slice(0, token.lastIndexOf('.')),
        notBefore: 0,
    };
    let last = '';
    const options = found[3].split('.').slice(1);
    for (let i = 0; i < options.length; i++) {
        const letter = options[i].charAt(0);
        const reason = take(claims, letter, options[i].slice(1));
        if (reason || letter <= last) {
            return no(reason || 'malformed');
        }
        last = letter;
    }
    return claims;
}

// One option; the reason why not, or nothing.
function take(claims, letter, value) {
    if (letter === 'd') {
        return dispose(claims, value);
    }
    if (letter === 'g' && /^[0-9]{1,9}$/.test(value)) {
        return undefined;
    }
    if (letter === 'h' && value === '') {
        claims.bound = true;
        return undefined;
    }
    if (letter === 'j' && /^[A-Za-z0-9_-]{16}$/.test(value)) {
        claims.id = value;
        return undefined;
    }
    if (letter === 'n' && /^[0-9]{10}$/.test(value)) {
        claims.notBefore = Number(value);
        return undefined;
    }
    if (letter === 'p' && /^[0-9]{1,3}$/.test(value)) {
        claims.prefix = Number(value);
        return undefined;
    }
    // Refused, never skipped: an option may narrow what is granted.
    return /^[A-Za-z]$/.test(letter) && 'dghjnp'.indexOf(letter) < 0 ? 'unsupported_option' : 'malformed';
}

function dispose(claims, value) {
    claims.disposition = value.charAt(0);
    if (value === 'i' || value === 'a') {
        return undefined;
    }
    const encoded = value.slice(2);
    const name = Buffer.from(encoded, 'base64url');
    const whole = value.startsWith('a-') && name.toString('base64url') === encoded;
    if (!whole || name.length < 1 || name.length > 190) {
        return 'malformed';
    }
    claims.name = name.toString();
    return undefined;
}

function mac(secret, text) {
    return crypto.createHmac('sha256', Buffer.from(secret, 'base64url')).update(text).digest('base64url');
}

// In constant time for texts of one length, which 43 characters are.
function same(a, b) {
    let differ = a.length ^ b.length;
    for (let i = 0; i < a.length; i++) {
        differ |= a.charCodeAt(i) ^ b.charCodeAt(i);
    }
    return differ === 0;
}

function effective(host) {
    return host.toLowerCase().replace(/:(443|80)?$/, '');
}

// RFC 6266: a plain name, and beside it what needs more than that.
function attachment(name) {
    const safe = name.replace(/[\u0000-\u001f\u007f-\u009f/\\]/g, '_');
    const plain = safe.replace(/[^ -~]|["%]/g, '_');
    const value = 'attachment; filename="' + plain + '"';
    if (plain === safe) {
        return value;
    }
    const escaped = encodeURIComponent(safe).replace(/['()*]/g, function (c) {
        return '%' + c.charCodeAt(0).toString(16).toUpperCase();
    });
    return value + "; filename*=UTF-8''" + escaped;
}

export default { verdict, judge };
