//! Whatever is signed: it verifies, nothing else does, and nothing panics.

use proptest::prelude::*;

use super::*;

fn claims() -> impl Strategy<Value = Claims> {
    let disposition = prop_oneof![
        Just(Disposition::Inline),
        Just(Disposition::Attachment(None)),
        "[a-zA-Zäöü .-]{1,40}".prop_map(|name| Disposition::Attachment(Some(name))),
    ];
    (
        1..43_500_u64,
        proptest::option::of(disposition),
        proptest::option::of(0..1_000_000_000_u32),
        any::<bool>(),
        proptest::option::of(any::<[u8; 12]>().prop_map(TokenId)),
        proptest::option::of((NOW.0 - 5_000..=NOW.0 + 30).prop_map(UnixTime)),
        any::<bool>(),
    )
        .prop_map(
            |(ttl, disposition, generation, host_bound, token_id, not_before, prefix)| Claims {
                exp: NOW.plus(ttl),
                disposition,
                generation,
                host_bound,
                token_id,
                not_before,
                prefix: prefix.then_some(7),
            },
        )
}

fn media_path() -> impl Strategy<Value = String> {
    "/media/[a-z0-9]{1,8}/[a-z0-9_-]{1,8}/[A-Za-z0-9._-]{1,20}\\.wav"
        .prop_filter("no dot segments", |path| check_path(path).is_ok())
}

proptest! {
    #[test]
    fn what_is_minted_verifies_and_says_the_same(path in media_path(), claims in claims()) {
        let policy = Policy::default();
        let minted = mint(&path, &claims, "Rec.Example.com:443", &ring(), &policy, NOW).unwrap();
        let request = get("rec.example.com", &minted.target);
        let grant = verify(request, &ring(), &policy, NOW).unwrap();
        prop_assert_eq!(grant.path(), path);
        prop_assert_eq!(grant.claims(), &claims);
    }

    #[test]
    fn any_one_changed_byte_is_refused(
        path in media_path(),
        claims in claims(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let policy = Policy::default();
        // A prefix grant covers other paths by design.
        let claims = Claims { prefix: None, ..claims };
        let ring = ring();
        let minted = mint(&path, &claims, "h", &ring, &policy, NOW).unwrap().target;
        // The URL itself is known.
        verify(get("h", &minted), &ring, &policy, NOW).unwrap();
        let mut bytes = minted.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if let Ok(changed) = String::from_utf8(bytes) {
            prop_assert!(verify(get("h", &changed), &ring, &policy, NOW).is_err(), "{}", changed);
        }
    }

    #[test]
    fn the_canonical_form_is_injective(
        a in (media_path(), claims()),
        b in (media_path(), claims()),
    ) {
        let canonical = |(path, claims): &(String, Claims)| {
            let host = if claims.host_bound { "h" } else { "*" };
            let covered = claims.prefix.map_or(path.as_str(), |bytes| &path[..usize::from(bytes)]);
            (format!("{host}\n{covered}\n{}", claims.encode("k")), (covered.to_owned(), claims.clone()))
        };
        let ((text_a, value_a), (text_b, value_b)) = (canonical(&a), canonical(&b));
        prop_assert_eq!(text_a == text_b, value_a == value_b);
    }

    #[test]
    fn no_target_panics(target in "\\PC{0,300}") {
        let _ = verify(get("h", &target), &ring(), &Policy::default(), NOW);
        let _ = redact(&target);
        let _ = TokenTrace::of_query(&target);
    }

    #[test]
    fn no_token_panics(token in "1\\.k26a\\.[0-9]{10}(\\.[a-z][A-Za-z0-9_-]{0,20}){0,4}\\.[A-Za-z0-9_-]{43}") {
        let target = format!("/media/a/b/c.wav?sig={token}");
        prop_assert!(verify(get("h", &target), &ring(), &Policy::default(), NOW).is_err());
    }
}
