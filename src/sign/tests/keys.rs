//! Keys and rings: what they are taken for, when they hold, and what they know.

use super::*;

#[test]
fn a_key_has_windows_and_an_audience() {
    let secret: Vec<u8> = (0..32).collect();
    let key = |kid: &str, window, audience| Key::new(kid, &secret, window, audience).unwrap();
    let leaving = Window {
        mint_until: Some(NOW),
        verify_until: Some(NOW.plus(43_500)),
        ..Window::default()
    };
    let coming = Window {
        mint_from: Some(NOW),
        ..Window::default()
    };
    let ring = ring_of(vec![
        key("coming", coming, Audience::Origin),
        key("leaving", leaving, Audience::Origin),
        key("edge", coming, Audience::Edge("cdn".into())),
    ]);
    let minting = |at| ring.minting(at).unwrap().kid().to_owned();
    assert_eq!(minting(UnixTime(NOW.0 - 1)), "leaving");
    assert_eq!(minting(NOW), "coming");

    let policy = Policy::default();
    let claims = Claims::until(UnixTime(NOW.0 + 43_499));
    let before = UnixTime(NOW.0 - 1);
    let old = mint("/a", &claims, "*", &ring, &policy, before)
        .unwrap()
        .target;
    let at = |now| verify(get("h", &old), &ring, &policy, now).map(drop);
    assert_eq!(at(NOW.plus(43_498)), Ok(()));
    assert_eq!(at(NOW.plus(43_499)), Err(Refusal::Expired));
    assert_eq!(at(NOW.plus(43_500)), Err(Refusal::KeyRetired));

    let ending = Window {
        verify_until: Some(NOW.plus(43_500)),
        ..Window::default()
    };
    let alone = ring_of(vec![key("ending", ending, Audience::Origin)]);
    assert!(alone.minting(UnixTime(NOW.0 - 1)).is_some());
    assert!(alone.minting(NOW).is_none(), "its URLs would outlive it");

    let mac = ring.keys()[2].sign("*", "/a", "1.edge.1767229200");
    let for_edge = format!("/a?sig=1.edge.1767229200.{}", token::encode_mac(&mac));
    let verdict = verify(get("h", &for_edge), &ring, &policy, NOW);
    assert_eq!(verdict, Err(Refusal::UnknownKey));
}

#[test]
fn keys_and_rings_that_will_not_do() {
    let key = |kid: &str, secret: &[u8], window| Key::new(kid, secret, window, Audience::Origin);
    let secret: Vec<u8> = (0..32).collect();
    let none = Window::default();
    assert_eq!(key("", &secret, none).unwrap_err(), KeyError::Kid);
    assert_eq!(key("a.b", &secret, none).unwrap_err(), KeyError::Kid);
    assert_eq!(
        key("a", &secret[..31], none).unwrap_err(),
        KeyError::Short(31)
    );
    assert_eq!(key("a", &[7; 64], none).unwrap_err(), KeyError::Weak(1));
    let reversed = Window {
        mint_from: Some(NOW),
        mint_until: Some(NOW),
        ..none
    };
    assert_eq!(
        key("a", &secret, reversed).unwrap_err(),
        KeyError::EmptyWindow
    );

    let ring = |keys| Keyring::new(keys, HashSet::new(), &Policy::default()).unwrap_err();
    assert_eq!(ring(vec![]), KeyringError::Empty);
    let twice = vec![
        key("a", &secret, none).unwrap(),
        key("a", &secret, none).unwrap(),
    ];
    assert_eq!(ring(twice), KeyringError::DuplicateKid("a".into()));
    let hasty = Window {
        mint_until: Some(UnixTime(1)),
        verify_until: Some(UnixTime(43_500)),
        ..none
    };
    let least = UnixTime(43_501);
    assert_eq!(
        ring(vec![key("a", &secret, hasty).unwrap()]),
        KeyringError::RetiredTooSoon {
            kid: "a".into(),
            least
        }
    );
}

#[test]
fn revocation_of_one_url_and_of_a_generation() {
    let id: TokenId = "AAECAwQFBgcICQoL".parse().unwrap();
    let ring = Keyring::new(
        vec![vector_key("k26a")],
        HashSet::from([id]),
        &Policy::default(),
    );
    let target = signed("1.k26a.1767229200.jAAECAwQFBgcICQoL");
    let verdict = verify(get("h", &target), &ring.unwrap(), &Policy::default(), NOW);
    assert_eq!(verdict, Err(Refusal::Revoked));

    let target = signed("1.k26a.1767229200");
    let grant = verify(get("h", &target), &self::ring(), &Policy::default(), NOW).unwrap();
    assert_eq!(grant.check_generation(0), Ok(()));
    assert_eq!(grant.check_generation(1), Err(Refusal::Revoked));
}

#[test]
fn a_url_that_is_known_is_held_against_time_and_its_mac_each_time() {
    let (policy, ring) = (Policy::default(), ring());
    let ask = |host: &str, target: &str, now| verify(get(host, target), &ring, &policy, now).err();
    let target = signed("1.k26a.1767229200");
    for _ in 0..2 {
        assert_eq!(ask("h", &target, NOW), None);
        assert_eq!(
            ask("h", &target, UnixTime(1_767_229_200)),
            Some(Refusal::Expired)
        );
        assert_eq!(
            ask("h", &target, UnixTime(1_767_100_000)),
            Some(Refusal::TtlTooLong)
        );
        let other = if target.ends_with('A') { "E" } else { "A" };
        let forged = format!("{}{other}", &target[..target.len() - 1]);
        assert!(ask("h", &forged, NOW).is_some());
        assert_eq!(
            ask("h", &format!("{target}&x=1.{}", "A".repeat(43)), NOW),
            None
        );
        let head = SignedRequest {
            method: "PUT",
            ..get("h", &target)
        };
        assert_eq!(verify(head, &ring, &policy, NOW), Err(Refusal::Method));
    }
    let claims = Claims {
        host_bound: true,
        ..Claims::until(NOW.plus(600))
    };
    let bound = mint("/media/a/b/c.wav", &claims, "h", &ring, &policy, NOW)
        .unwrap()
        .target;
    assert_eq!(ask("h", &bound, NOW), None);
    assert_eq!(ask("other", &bound, NOW), Some(Refusal::BadSignature));
}
