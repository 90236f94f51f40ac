use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::sign::{Claims, Refusal, SignedRequest, mint, verify};

const NOW: UnixTime = UnixTime(1_767_225_600);

fn place() -> (tempfile::TempDir, PathBuf) {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("keyring.toml");
    (tmp, path)
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn ring(path: &Path) -> Keyring {
    load(path, &Policy::default()).unwrap()
}

fn change(path: &Path, now: UnixTime) -> Change {
    Change::of(path, &Policy::default(), now).unwrap()
}

#[test]
fn a_new_ring_is_its_owners_alone_and_signs() {
    let (_tmp, path) = place();
    let kid = create(&path, NOW).unwrap();
    assert!(kid.starts_with("k260101-"), "{kid}");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(ring(&path).minting(NOW).unwrap().kid(), kid);
    let again = create(&path, NOW).unwrap_err();
    assert!(again.is_io());
    let shown = format!("{:#}", anyhow::Error::from(again));
    assert!(shown.contains("exists"), "{shown}");
    assert_eq!(ring(&path).minting(NOW).unwrap().kid(), kid);
}

#[test]
fn modes() {
    let (_tmp, path) = place();
    create(&path, NOW).unwrap();
    for (mode, ok) in [
        (0o600, true),
        (0o640, true),
        (0o400, true),
        (0o440, true),
        (0o644, false),
        (0o660, false),
        (0o604, false),
        (0o602, false),
        (0o620, false),
    ] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = load(&path, &Policy::default());
        assert_eq!(loaded.is_ok(), ok, "{mode:o}");
        if let Err(error) = loaded {
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }
}

#[test]
fn rotation_breaks_no_url() {
    let (_tmp, path) = place();
    let old = create(&path, NOW).unwrap();
    let policy = Policy::default();
    let signed_by = |now: UnixTime| {
        let claims = Claims::until(now.plus(600));
        mint("/a", &claims, "*", &ring(&path), &policy, now).unwrap()
    };
    let before = signed_by(NOW);
    let mut rotation = change(&path, NOW);
    let steps = rotation.rotate(60).unwrap();
    assert_eq!(steps.len(), 2, "{steps:?}");
    rotation.commit().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .starts_with("# Signing keys")
    );

    assert_eq!(signed_by(NOW.plus(59)).kid, old);
    let new = signed_by(NOW.plus(60)).kid;
    assert_ne!(new, old);
    let request = SignedRequest {
        method: "GET",
        host: "h",
        target: &before.target,
    };
    let at = |seconds| verify(request, &ring(&path), &policy, NOW.plus(seconds)).map(drop);
    assert_eq!(at(500), Ok(()));

    change(&path, NOW.plus(100)).revoke_key(&old).unwrap();
    let mut revocation = change(&path, NOW.plus(100));
    revocation.revoke_key(&old).unwrap();
    revocation.commit().unwrap();
    assert_eq!(at(500), Err(Refusal::UnknownKey));
    let last = change(&path, NOW.plus(100)).revoke_key(&new).unwrap_err();
    assert!(
        last.to_string().contains("keys rotate --after 0s"),
        "{last}"
    );
    let none = change(&path, NOW).revoke_key("other").unwrap_err();
    assert!(none.to_string().contains("keys list"), "{none}");
}

#[test]
fn one_url_is_revoked_by_its_id() {
    let (_tmp, path) = place();
    create(&path, NOW).unwrap();
    let id = TokenId([7; 12]);
    let claims = Claims {
        token_id: Some(id),
        ..Claims::until(NOW.plus(600))
    };
    let policy = Policy::default();
    let url = mint("/a", &claims, "*", &ring(&path), &policy, NOW).unwrap();
    for _ in 0..2 {
        let mut revocation = change(&path, NOW);
        revocation.revoke_url(id);
        revocation.commit().unwrap();
    }
    let request = SignedRequest {
        method: "GET",
        host: "h",
        target: &url.target,
    };
    assert_eq!(
        verify(request, &ring(&path), &policy, NOW),
        Err(Refusal::Revoked)
    );
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches(&id.to_string()).count(), 1, "{text}");
}

#[test]
fn times_are_seconds_dates_or_texts() {
    let (_tmp, path) = place();
    let secret = BASE64URL.encode((0..32).collect::<Vec<u8>>());
    for moment in [
        "1767225600",
        "2026-01-01T00:00:00Z",
        "\"2026-01-01T01:00:00+01:00\"",
    ] {
        let text = format!("[[key]]\nkid = \"a\"\nsecret = \"{secret}\"\nmint_from = {moment}\n");
        write(&path, &text, 0o600);
        assert_eq!(
            ring(&path).keys()[0].window().mint_from,
            Some(NOW),
            "{moment}"
        );
    }
}

#[test]
fn a_wrong_file_is_named_and_never_shown() {
    let (_tmp, path) = place();
    let secret = BASE64URL.encode((0..32).collect::<Vec<u8>>());
    let key = format!("[[key]]\nkid = \"a\"\nsecret = \"{secret}\"\n");
    let unquoted = format!("[[key]]\nkid = \"a\"\nsecret = {secret}\n");
    for (text, expect) in [
        ("", "the keyring has no key"),
        ("# nothing\n", "the keyring has no key"),
        (&format!("{key}{key}"), "two keys \"a\""),
        (&format!("{key}colour = 1\n"), ":4: unknown field `colour`"),
        ("[[key]]\nkid = \"a\"\n", "missing field `secret`"),
        (&unquoted, ":3: this is not a keyring's TOML"),
        (
            "[[key]]\nkid = \"a\"\nsecret = 12345\n",
            ":3: this is not a keyring's TOML",
        ),
        (
            "[[key]]\nkid = \"a\"\nsecret = \"AAAA\"\n",
            "the secret has 3 bytes",
        ),
        (
            "[[key]]\nkid = \"a\"\nsecret = \"!!!\"\n",
            "it is not base64url",
        ),
        (
            &format!("{key}mint_from = \"soon\"\n"),
            "mint_from: write it as",
        ),
        (
            &format!("{key}mint_from = 2026-01-01\n"),
            "mint_from: write it as",
        ),
        (
            &format!("{key}audience = \"cdn\"\n"),
            "audience: it is origin, or edge:NAME",
        ),
        (
            &format!("{key}mint_until = 100\nverify_until = 200\n"),
            "at least 43600",
        ),
        (
            &format!("revoked = [\"x\"]\n{key}"),
            "a token id is 16 characters",
        ),
    ] {
        write(&path, text, 0o600);
        let error = load(&path, &Policy::default()).unwrap_err();
        let is_io = error.is_io();
        let shown = format!("{:#}", anyhow::Error::from(error));
        assert!(shown.contains(expect), "{text}: {shown}");
        assert!(
            !shown.contains(&secret[..8]) && !shown.contains("12345"),
            "{shown}"
        );
        assert!(!is_io);
    }
    let missing = load(&path.with_file_name("none"), &Policy::default()).unwrap_err();
    assert!(missing.is_not_found() && missing.is_io());
}

#[test]
fn an_edge_shows_its_key_in_a_header_of_its_own_or_the_usual_one() {
    use crate::sign::pull;

    let (_tmp, path) = place();
    let secret = BASE64URL.encode((0..32).collect::<Vec<u8>>());
    let other = BASE64URL.encode((100..132).collect::<Vec<u8>>());
    let text = |more: &str| {
        format!(
            "[[key]]\nkid = \"k\"\nsecret = \"{other}\"\n[[key]]\nkid = \"e\"\nsecret = \"{secret}\"\n{more}\n"
        )
    };
    let shows = |field: &str, more: &str| {
        write(&path, &text(more), 0o600);
        let ring = ring(&path);
        let value = |name: &str| (name == field).then_some(secret.as_bytes()).into_iter();
        pull("/media/a/b/c.wav", value, &ring, NOW).is_some()
    };
    assert!(shows("x-tonearm-pull", "audience = \"edge:cdn\""));
    assert!(!shows("x-other", "audience = \"edge:cdn\""));
    let named = "audience = \"edge:cdn\"\nheader = \"X-Other\"";
    assert!(shows("x-other", named) && !shows("x-tonearm-pull", named));
    let ended = format!("audience = \"edge:cdn\"\nverify_until = {}", NOW.0);
    assert!(!shows("x-tonearm-pull", &ended));
    assert!(!shows("x-tonearm-pull", ""));
    for more in [
        "header = \"X-Other\"",
        "audience = \"edge:cdn\"\nheader = \"a b\"",
    ] {
        write(&path, &text(more), 0o600);
        let error = load(&path, &Policy::default()).unwrap_err().to_string();
        assert!(error.contains("key \"e\": header: "), "{error}");
    }
}
