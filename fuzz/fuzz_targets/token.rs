//! Tokens and signed targets. Input: host, LF, target (without LF: all of it is the target).
//!
//! * What is invented without the key never verifies.
//! * Signed by an oracle that builds the string-to-sign on its own, a target verifies where the
//!   grammar and the clock allow it; minted from its claims, the very same target comes out.
//! * One other character anywhere in a true token, and it does not hold.
//! * Whatever is minted from any claims verifies.
//! * No MAC and no file name reaches a log.
#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hmac::{Hmac, KeyInit as _, Mac as _};
use libfuzzer_sys::arbitrary::{self, Unstructured};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;
use tonearm::recording::UnixTime;
use tonearm::sign::{
    Audience, Claims, Disposition, Grant, Key, Keyring, MintError, Policy, Refusal, SignedRequest,
    Token, TokenId, TokenTrace, Window, check_path, mint, redact, verify,
};

const NOW: UnixTime = UnixTime(1_767_225_600);
/// The vectors' key, so that their targets are seeds that hold.
const KNOWN: &[u8] = b"tonearm-test-key-0123456789abcdef";
/// Signs nothing, here or in a seed.
const UNKNOWN: &[u8] = b"a key that signs nothing: 9376452801";

static POLICY: LazyLock<Policy> = LazyLock::new(Policy::default);
static RING: LazyLock<Keyring> = LazyLock::new(|| ring(KNOWN));
static OTHER_RING: LazyLock<Keyring> = LazyLock::new(|| ring(UNKNOWN));

fn ring(secret: &[u8]) -> Keyring {
    let key = Key::new("k26a", secret, Window::default(), Audience::Origin).unwrap();
    Keyring::new(vec![key], HashSet::new(), &POLICY).unwrap()
}

fn ask(host: &str, target: &str, ring: &Keyring, now: UnixTime) -> Result<Grant, Refusal> {
    let request = SignedRequest {
        method: "GET",
        host,
        target,
    };
    verify(request, ring, &POLICY, now)
}

fuzz_target!(|data: &[u8]| {
    let _ = any_claims(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (host, target) = text.split_once('\n').unwrap_or(("calls.example", text));
    let _ = Token::parse(target);
    logged(target);
    for now in [NOW, UnixTime(NOW.0 + 600)] {
        assert!(ask(host, target, &OTHER_RING, now).is_err(), "a forgery");
        let _ = ask(host, target, &RING, now);
    }
    if let Some(signed) = Signed::of(host, target) {
        signed.check(host);
    }
});

/// A target with a true MAC over whatever stands in its token.
struct Signed<'a> {
    path: &'a str,
    /// The token with its MAC.
    token: String,
    target: String,
    /// Where in the target the token begins.
    at: usize,
}

impl<'a> Signed<'a> {
    fn of(host: &str, target: &'a str) -> Option<Self> {
        let (path, query) = target.split_once('?')?;
        let from = if query.starts_with("sig=") {
            0
        } else {
            query.find("&sig=")? + 1
        };
        let (before, rest) = query.split_at(from + "sig=".len());
        let (value, after) = rest.split_at(rest.find('&').unwrap_or(rest.len()));
        let covered = value.rsplit_once('.').map_or(value, |(covered, _)| covered);
        let token = format!("{covered}.{}", mac(host, path, covered));
        Some(Self {
            path,
            target: format!("{path}?{before}{token}{after}"),
            at: path.len() + 1 + before.len(),
            token,
        })
    }

    fn check(&self, host: &str) {
        let parsed = Token::parse(&self.token);
        let now = parsed
            .as_ref()
            .map_or(NOW, |token| UnixTime(token.claims.exp.0 - 600));
        let grant = match ask(host, &self.target, &RING, now) {
            Ok(grant) => grant,
            Err(Refusal::BadSignature) => panic!("the oracle signs another text"),
            Err(Refusal::Expired | Refusal::TtlTooLong | Refusal::KeyRetired) => {
                panic!("600 s are left")
            }
            Err(_) => return,
        };
        let claims = parsed.expect("what verifies parses").claims;
        assert_eq!(*grant.claims(), claims);
        assert_eq!(grant.path(), self.path);
        assert_eq!(check_path(self.path), Ok(()));
        self.check_times(host, &claims);
        self.check_round_trip(host, &claims, now);
        self.check_alterations(host, now);
        self.check_logs(&claims);
    }

    fn check_times(&self, host: &str, claims: &Claims) {
        let at = |now| ask(host, &self.target, &RING, UnixTime(now));
        let exp = claims.exp.0;
        assert_eq!(at(exp), Err(Refusal::Expired));
        assert_eq!(at(exp + 1), Err(Refusal::Expired));
        let most = POLICY.max_ttl + POLICY.bucket;
        assert_eq!(at(exp - most - 1), Err(Refusal::TtlTooLong));
        let early = claims.not_before.map_or(u64::MAX, |start| start.0);
        let too_early = early.saturating_sub(POLICY.nbf_skew + 1);
        if too_early >= exp - most && too_early < exp {
            assert_eq!(at(too_early), Err(Refusal::NotYet));
        }
    }

    fn check_round_trip(&self, host: &str, claims: &Claims, now: UnixTime) {
        match mint(self.path, claims, host, &RING, &POLICY, now) {
            Ok(minted) if is_plain(&self.token) => {
                assert_eq!(minted.target, format!("{}?sig={}", self.path, self.token));
            }
            Ok(minted) => {
                let again = ask(host, &minted.target, &RING, now).expect("minted, so it holds");
                assert_eq!(again.claims(), claims);
            }
            // A name with a slash or a control character may come from another signer, and is made
            // harmless where it is used.
            Err(MintError::Name(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn check_alterations(&self, host: &str, now: UnixTime) {
        for step in [1, 7, 31] {
            let at = self.at + (self.path.len() * step) % self.token.len();
            for other in ["A", "0", "_"] {
                let mut altered = self.target.clone();
                altered.replace_range(at..=at, other);
                if altered != self.target {
                    assert!(ask(host, &altered, &RING, now).is_err(), "{altered}");
                }
            }
        }
    }

    fn check_logs(&self, claims: &Claims) {
        let mac = self.token.rsplit_once('.').expect("a token has a MAC").1;
        // The fuzzer reads along in comparisons, and puts the MAC into other parameters too.
        if self.target.matches(mac).count() == 1 {
            assert!(!redact(&self.target).contains(mac));
            let escaped = self.target.replace('?', "%3F").replace('=', "%3D");
            assert!(!redact(&escaped).contains(mac));
        }
        let (_, query) = self.target.split_once('?').expect("a target has a query");
        let trace = TokenTrace::of_query(query).expect("what verifies can be traced");
        assert_eq!((trace.kid, trace.exp), ("k26a", claims.exp));
        if let Some(Disposition::Attachment(Some(name))) = &claims.disposition {
            let named = format!("da-{}", BASE64URL.encode(name));
            // Not anywhere: another option's value may be spelled like it.
            let mut options = String::new();
            trace.push_options(&mut options);
            assert!(options.split('.').all(|option| option != named));
        }
        let mut print = String::new();
        trace.push_mac_print(&mut print);
        assert_eq!(print.len(), 8);
    }
}

/// The signature by the page that describes it, and by nothing of the crate.
fn mac(host: &str, path: &str, covered: &str) -> String {
    let mut options = covered.split('.').skip(3);
    let host = if options.clone().any(|option| option == "h") {
        let host = host.to_ascii_lowercase();
        let end = [":443", ":80", ":"]
            .iter()
            .find(|port| host.ends_with(**port));
        host[..host.len() - end.map_or(0, |port| port.len())].to_owned()
    } else {
        "*".to_owned()
    };
    let prefix = options
        .find_map(|option| option.strip_prefix('p'))
        .and_then(|bytes| path.get(..bytes.parse().ok()?))
        .unwrap_or(path);
    let mut mac = Hmac::<Sha256>::new_from_slice(KNOWN).unwrap();
    mac.update(format!("tonearm-url-v1\nGET\n{host}\n{prefix}\n{covered}").as_bytes());
    BASE64URL.encode(mac.finalize().into_bytes())
}

/// Whether the numbers of `g` and `p` have no leading zeros: the grammar allows them, and nobody
/// mints them.
fn is_plain(token: &str) -> bool {
    token.split('.').skip(3).all(|option| {
        let digits = option.strip_prefix(['g', 'p']).unwrap_or("0");
        digits == "0" || !digits.starts_with('0')
    })
}

/// What would not verify is never minted.
fn any_claims(data: &[u8]) -> arbitrary::Result<()> {
    let mut data = Unstructured::new(data);
    let now = UnixTime(match data.arbitrary::<u8>()? {
        0 => data.arbitrary()?,
        _ => NOW.0,
    });
    let near = |seconds: u16| UnixTime(now.0.saturating_add(u64::from(seconds)));
    let claims = Claims {
        exp: near(data.arbitrary()?),
        disposition: match data.arbitrary::<u8>()? % 4 {
            0 => None,
            1 => Some(Disposition::Inline),
            2 => Some(Disposition::Attachment(None)),
            _ => Some(Disposition::Attachment(Some(data.arbitrary()?))),
        },
        generation: data.arbitrary()?,
        host_bound: data.arbitrary()?,
        token_id: data.arbitrary::<Option<[u8; 12]>>()?.map(TokenId),
        not_before: data.arbitrary::<Option<u64>>()?.map(UnixTime),
        prefix: data.arbitrary::<Option<u16>>()?.map(|bytes| bytes % 32),
    };
    let path = "/media/app/account/id.wav";
    let Ok(minted) = mint(path, &claims, "Calls.example:443", &RING, &POLICY, now) else {
        return Ok(());
    };
    match ask("calls.example", &minted.target, &RING, now) {
        Ok(grant) => assert_eq!(*grant.claims(), claims),
        Err(Refusal::NotYet) => assert!(claims.not_before > Some(now)),
        Err(refusal) => panic!("minted, and refused as {refusal}: {}", minted.target),
    }
    Ok(())
}

/// No text keeps a `sig` through redaction, and a trace is only of a well-formed token.
fn logged(text: &str) {
    let redacted = redact(text);
    for name in ["sig=", "sig%3D", "sig%253d"] {
        for (at, _) in redacted.match_indices(name) {
            let value = &redacted[at + name.len()..];
            assert!(value.starts_with("[redacted]"), "{redacted}");
        }
    }
    let query = text.split_once('?').map_or(text, |(_, query)| query);
    if let Some(trace) = TokenTrace::of_query(query) {
        assert!(trace.kid.len() <= 16);
        assert!((1_000_000_000..10_000_000_000).contains(&trace.exp.0));
    }
}
