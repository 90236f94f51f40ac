//! The published vectors of each format, and those made for this project.

use std::collections::BTreeMap;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// Signs with a vector's key, however short it is.
fn with_key(format: Format, base: &str, key_id: &str, key: &[u8]) -> Signer {
    Signer {
        format,
        base: base.to_owned(),
        key_id: key_id.to_owned(),
        secret: Secret::Shared(key.to_vec().into()),
        lifetime: HOUR,
    }
}

fn url(signer: &Signer, path: &str, exp: u64) -> String {
    let (exp, now) = (UnixTime(exp), UnixTime(exp - 600));
    signer.url(path, &Claims::until(exp), now).unwrap()
}

/// The path and the expiry of the vectors that were made for this project.
const PATH: &str = "/rec/5f0c3a1e/audio.wav";
const EXP: u64 = 1_767_229_200;
const CLOUDFRONT: &str = "https://d111111abcdef8.cloudfront.net";

fn cloudfront(vector: &Value) {
    if vector["test_private_key_pkcs8_b64"].is_null() {
        return published_cloudfront(vector);
    }
    let it = signer(
        Format::CloudFront,
        CLOUDFRONT,
        "K2JCJMDEHXQW5F",
        &pem(vector),
    );
    let made = url(&it, PATH, EXP);
    let policy = it.policy(PATH, &Claims::until(UnixTime(EXP)));
    assert_eq!(policy, text(vector, "signed_bytes"));
    if text(vector, "scheme").contains("rsa") {
        assert_eq!(made, text(vector, "url"));
        verifies(
            &RSA_PKCS1_2048_8192_SHA256,
            &it,
            policy.as_bytes(),
            parameter(&made, "Signature"),
        );
    } else {
        let signature = parameter(&made, "Signature");
        verifies(&ECDSA_P256_SHA256_ASN1, &it, policy.as_bytes(), signature);
        assert!(made.ends_with("&Key-Pair-Id=K2JCJMDEHXQW5F&Hash-Algorithm=SHA256"));
    }
}

/// Nobody has the private key: what was signed, and how it is written, can be told.
fn published_cloudfront(vector: &Value) {
    assert_eq!(
        aws64(&bytes(text(&vector["check"], "out_hex"))),
        text(vector, "signature")
    );
    if let Some(policy) = vector["policy_param"].as_str() {
        assert_eq!(aws64(text(vector, "signed_bytes").as_bytes()), policy);
        return;
    }
    let it = with_key(
        Format::CloudFront,
        "http://d604721fxaaqy9.cloudfront.net",
        "PK123456789754",
        b"",
    );
    let policy = it.policy(
        "/horizon.jpg?large=yes&license=yes",
        &Claims::until(UnixTime(1_258_237_200)),
    );
    assert_eq!(policy, text(vector, "signed_bytes"));
}

fn google(vector: &Value) {
    let base = "http://35.186.234.33";
    let it = if text(vector, "scheme") == "google-cloud-cdn-hmac-sha1" {
        signer(
            Format::GoogleCdn,
            base,
            "my-key",
            text(vector, "key_b64url"),
        )
    } else {
        signer(
            Format::GoogleMedia,
            base,
            "my-key",
            text(vector, "private_seed_b64url"),
        )
    };
    let signed = text(vector, "signed_bytes");
    if let Some(exp) = signed.strip_prefix("http://35.186.234.33/index.html?Expires=") {
        let exp = exp.split('&').next().unwrap().parse().unwrap();
        let expect = format!("{signed}&Signature={}", text(vector, "signature"));
        assert_eq!(url(&it, "/index.html", exp), expect);
    } else {
        // A grant of a prefix, which is never minted here: the key alone.
        let signature = it.secret.signature(signed.as_bytes()).unwrap();
        assert_eq!(
            BASE64URL_PADDED.encode(signature),
            text(vector, "signature")
        );
    }
}

fn google_token(vector: &Value) {
    let it = signer(
        Format::GoogleMediaToken,
        "https://media.example",
        "",
        text(vector, "key_b64url"),
    );
    let (signed, token) = (text(vector, "signed_bytes"), text(vector, "token"));
    if signed.starts_with("FullPath") {
        let made = url(&it, "/example.m3u8", 1_663_070_400);
        assert_eq!(parameter(&made, "edge-cache-token"), token);
    } else {
        let tag = it.secret.hmac_sha256(signed.as_bytes()).unwrap();
        assert_eq!(format!("{signed}~hmac={}", hex(&tag)), token);
    }
}

/// What an early sample signed covers no path: no token of ours is of that kind.
fn wrongly_published(vector: &Value) {
    let it = signer(
        Format::GoogleMedia,
        "https://media.example",
        "k",
        text(vector, "private_seed_b64url"),
    );
    let signature = it
        .secret
        .signature(text(vector, "signed_bytes").as_bytes())
        .unwrap();
    let published = text(vector, "signature");
    assert_eq!(BASE64URL.encode(signature), published);
    let made = url(&it, "/shankar/a", 1_664_290_336);
    assert!(!made.contains(published));
    assert_ne!(
        url(&it, "/shankar/b", 1_664_290_336),
        made.replace("/a?", "/b?")
    );
}

fn akamai(vector: &Value) {
    let it = signer(
        Format::Akamai,
        "https://a.example",
        "",
        text(vector, "key_hex"),
    );
    let tag = it
        .secret
        .hmac_sha256(text(vector, "signed_bytes").as_bytes())
        .unwrap();
    let (signed, mac) = text(vector, "token").rsplit_once("~hmac=").unwrap();
    assert_eq!(hex(&tag), mac);
    // Ours: the same fields in the same order, as many as are said.
    let claims = Claims {
        not_before: Some(NOW),
        ..Claims::until(UnixTime(EXP))
    };
    let made = it.url(PATH, &claims, NOW).unwrap();
    let token = parameter(&made, "__token__");
    let (ours, mac) = token.rsplit_once("~hmac=").unwrap();
    assert_eq!(mac, hex(&it.secret.hmac_sha256(ours.as_bytes()).unwrap()));
    assert_eq!(ours, format!("st=1767225600~exp=1767229200~acl={PATH}"));
    let names = |text: &str| {
        text.split('~')
            .map(|field| field.split('=').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let kept: Vec<_> = names(signed)
        .into_iter()
        .filter(|name| ["st", "exp", "acl"].contains(&name.as_str()))
        .collect();
    assert_eq!(names(ours), kept);
}

fn cloudflare(vector: &Value) {
    let key = text(vector, "key").as_bytes();
    let it = with_key(Format::Cloudflare, "", "", key);
    match vector["url_flag_s"].as_str() {
        // The rule adds the lifetime: 1767225600 is an hour before the end.
        Some(expect) => assert_eq!(url(&it, PATH, EXP), expect),
        None => {
            let path = "/case-studies/12345678-90ab-4cde-f012-3456789abcde/";
            let made = it.cloudflare(path, 1_755_877_101).unwrap();
            assert_eq!(
                made,
                format!("verify={}", text(vector, "query_urlsafe_flag_s"))
            );
        }
    }
}

fn fastly(vector: &Value) {
    let it = signer(
        Format::Fastly,
        "https://f.example",
        "",
        text(vector, "key_b64"),
    );
    let made = url(&it, "/foo/bar.html", EXP);
    assert_eq!(parameter(&made, "token"), text(vector, "token"));
}

fn bunny(vector: &Value) {
    let key = text(vector, "key").as_bytes();
    let legacy = text(vector, "scheme") == "bunny-sha256-v2-legacy";
    let format = if legacy {
        Format::BunnyV2
    } else {
        Format::Bunny
    };
    let it = with_key(format, "https://b.example", "", key);
    if matches!(
        text(vector, "name"),
        "plain" | "sha256(key+path+expires), not HMAC"
    ) {
        let made = url(&it, "/300kb.jpg", 1_598_024_587);
        assert_eq!(
            made,
            format!(
                "https://b.example/300kb.jpg?token={}&expires=1598024587",
                text(vector, "token")
            )
        );
        return;
    }
    // Directories and addresses are never signed for here: the key alone.
    let message = bytes(text(&vector["check"], "message_hex"));
    let tag = BASE64URL.encode(it.secret.hmac_sha256(&message).unwrap());
    assert!(text(vector, "token").ends_with(&tag), "{tag}");
}

fn keycdn(vector: &Value) {
    let it = with_key(Format::KeyCdn, "", "", text(vector, "key").as_bytes());
    assert_eq!(url(&it, "/path/to/file1.jpg", EXP), text(vector, "url"));
}

/// nginx's example binds the client's address too, which stands behind the path.
fn secure_link(vector: &Value) {
    let it = with_key(Format::NginxSecureLink, "", "", b"secret");
    let made = url(&it, "/s/link127.0.0.1", 2_147_483_647);
    assert_eq!(made.replace("127.0.0.1", ""), text(vector, "url"));
}

fn nginx_hmac(vector: &Value) {
    let it = with_key(Format::NginxHmac, "", "", text(vector, "key").as_bytes());
    assert_eq!(url(&it, "/files/top_secret.pdf", EXP), text(vector, "url"));
}

fn azure(vector: &Value) {
    let sas = Sas {
        start: NOW.rfc3339(),
        end: UnixTime(EXP).rfc3339(),
        addresses: "203.0.113.0-203.0.113.255",
        version: "2026-10-06",
        disposition: "attachment; filename=\"call.wav\"",
        ..Sas::default()
    };
    let message = sas.message("/blob/acct/rec/5f0c3a1e/audio.wav");
    assert_eq!(message, text(vector, "string_to_sign"));
    let it = signer(
        Format::Azure,
        "https://acct.blob.core.windows.net",
        "acct",
        text(vector, "key_b64"),
    );
    let tag = it.secret.hmac_sha256(message.as_bytes()).unwrap();
    assert_eq!(sas.query(&BASE64.encode(tag)), text(vector, "query"));
    let made = url(&it, "/media/a/b/c.wav", EXP);
    assert_eq!(parameter(&made, "se"), "2026-01-01T01%3A00%3A00Z");
    assert_eq!((parameter(&made, "sp"), parameter(&made, "sr")), ("r", "b"));
    assert!(!made.contains("st="), "{made}");
}

#[test]
fn every_vector_is_met_or_is_of_a_scheme_that_is_not_spoken() {
    let mut met = BTreeMap::<String, usize>::new();
    for vector in vectors() {
        let scheme = text(&vector, "scheme");
        let check: fn(&Value) = match scheme {
            _ if scheme.starts_with("cloudfront-") => cloudfront,
            "google-cloud-cdn-hmac-sha1"
            | "google-media-cdn-ed25519-url"
            | "google-media-cdn-ed25519-prefix" => google,
            "google-media-cdn-token-hmac-sha256" => google_token,
            "google-media-cdn-token-ed25519" => wrongly_published,
            "akamai-edgeauth-2" => akamai,
            "cloudflare-timed-hmac-v0" => cloudflare,
            "fastly-token-hmac-sha256" => fastly,
            "bunny-hmac-sha256" | "bunny-sha256-v2-legacy" => bunny,
            "keycdn-md5" => keycdn,
            "nginx-secure-link-md5" => secure_link,
            "nginx-secure-link-hmac" => nginx_hmac,
            "azure-service-sas-blob" => azure,
            "aws-s3-sigv4-query"
            | "cloudflare-stream-jwt-rs256"
            | "mux-jwt-rs256"
            | "fastly-token-hmac-sha1"
            | "bunny-md5-basic"
            | "cdn77-md5"
            | "imgproxy-hmac-sha256"
            | "wowza-securetoken-2"
            | "openstack-swift-tempurl" => continue,
            _ => panic!("a scheme that nobody has looked at: {scheme}"),
        };
        check(&vector);
        *met.entry(scheme.to_owned()).or_default() += 1;
    }
    assert_eq!(met.values().sum::<usize>(), 22, "{met:?}");
}
