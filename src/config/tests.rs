use std::collections::HashMap;
use std::path::Path;

use super::*;
use crate::route::Template;

fn collect(file: &str, environment: &[(&str, &str)], flags: Flags) -> Result<Values, ConfigError> {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("tonearm.toml");
    std::fs::write(&path, file).unwrap();
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    Values::collect(flags, &environment, Some(&path))
}

fn config_of(file: &str) -> Result<Config, String> {
    collect(file, &[], vec![])
        .and_then(|values| values.config())
        .map_err(|error| {
            let text = error.to_string();
            text.split_once("/tonearm.toml")
                .map_or(text.clone(), |(_, rest)| rest.to_owned())
        })
}

#[test]
fn the_defaults_are_a_configuration() {
    let config = config_of("").unwrap();
    assert_eq!(config.policy, Policy::default());
    assert_eq!(config.server, server::Settings::default());
    assert_eq!(config.resolver.template, Template::default());
    assert_eq!(config.storage, Storage::Directory("storage".into()));
    assert_eq!(config.bucket_limits, Limits::default());
    assert_eq!(config.delivery, Delivery::Proxy);
    assert!(config.workers >= 1);
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = "listen = \"127.0.0.1:1\"\n[url]\nbase_ttl = \"1m\"\nmax_ttl = \"1h\"\n";
    let environment = [
        ("TONEARM_LISTEN", "127.0.0.1:2"),
        ("TONEARM_URL_BASE_TTL", "2m"),
    ];
    let flags = vec![
        ("listen", Some("127.0.0.1:3".to_owned())),
        ("storage", None),
    ];
    let values = collect(file, &environment, flags).unwrap();
    let config = values.config().unwrap();
    assert_eq!(config.listen.port(), 3);
    assert_eq!((config.policy.base, config.policy.max_ttl), (120, 3600));
    let sources: HashMap<_, _> = values
        .rows()
        .map(|(setting, value)| (setting.key, value.source.to_string()))
        .collect();
    assert_eq!(sources["listen"], "--listen");
    assert_eq!(sources["url.base_ttl"], "TONEARM_URL_BASE_TTL");
    assert!(
        sources["url.max_ttl"].ends_with("tonearm.toml:4"),
        "{}",
        sources["url.max_ttl"]
    );
    assert_eq!(sources["storage"], "default");
    assert_eq!(sources.len(), SETTINGS.len());
}

#[test]
fn values() {
    let config = config_of(
        "workers = 3\npublic_base_url = \"https://rec.example.com/\"\n[resolver]\n\
         allowed_app_ids = [\"1\", \"2\"]\npath = \"/r?id=%s\"\n[log]\nformat = \"json\"\n",
    )
    .unwrap();
    assert_eq!(config.workers, 3);
    assert_eq!(config.resolver.allowed_apps.unwrap().len(), 2);
    assert_eq!(config.resolver.allowed_accounts, None);
    assert_eq!(
        config.resolver.public_base_url.unwrap().to_string(),
        "https://rec.example.com"
    );
    assert_eq!(config.log_format, LogFormat::Json);
}

#[test]
fn a_wrong_file_says_where_and_what() {
    for (file, expect) in [
        (
            "listen = \"8080\"",
            ":1:10: listen = \"8080\": an address and a port are needed, such as 127.0.0.1:8080 or [::]:8080\n  |\n1 | listen = \"8080\"\n  |          ^^^^^^",
        ),
        (
            "storage = \"s\"\n\nlisten_port = 80\n",
            ":3:1: listen_port is no setting; `tonearm config show` lists all there are\n  |\n3 | listen_port = 80\n  | ^^^^^^^^^^^",
        ),
        (
            "base_ttl = \"5m\"",
            ":1:1: base_ttl is no setting; did you mean url.base_ttl?\n  |\n1 | base_ttl = \"5m\"\n  | ^^^^^^^^",
        ),
        (
            "[urls]\nbase_ttl = \"5m\"",
            ":1:2: urls is no setting; `tonearm config show` lists all there are\n  |\n1 | [urls]\n  |  ^^^^",
        ),
        (
            "[url]\nbase_ttl = 5.5",
            ":2:12: url.base_ttl: a text, a number or a list of texts is needed\n  |\n2 | base_ttl = 5.5\n  |            ^^^",
        ),
        (
            "[url]\nmax_ttl = \"4m\"",
            ":2:11: url.max_ttl = \"4m\": at least 5m is needed\n  |\n2 | max_ttl = \"4m\"\n  |           ^^^^",
        ),
        (
            "[resolver]\nallowed_app_ids = []",
            ":2:19: resolver.allowed_app_ids: an empty list allows nobody; leave the line out to allow any\n  |\n2 | allowed_app_ids = []\n  |                   ^^",
        ),
    ] {
        assert_eq!(config_of(file).unwrap_err(), expect, "{file}");
    }
    assert!(config_of("listen = ").unwrap_err().starts_with(":1:"));
}

#[test]
fn values_that_will_not_do() {
    for (key, text) in [
        ("storage", ""),
        ("storage", "ftp://bucket"),
        ("listen", "localhost:8080"),
        ("public_base_url", "rec.example.com"),
        ("workers", "-1"),
        ("workers", "2000"),
        ("url.base_ttl", "15 parsecs"),
        ("url.base_ttl", "-5m"),
        ("url.max_ttl", "0s"),
        ("url.bucket", "0s"),
        ("resolver.path", "/r"),
        ("resolver.allowed_app_ids", "1,a/b"),
        ("limits.header_timeout", "0s"),
        ("log.filter", "a=b=c"),
        ("log.format", "xml"),
    ] {
        let flags = vec![(key, Some(text.to_owned()))];
        let error = collect("", &[], flags)
            .unwrap()
            .config()
            .unwrap_err()
            .to_string();
        let flag = format!("--{}: {key} = {text:?}: ", key.replace(['_', '.'], "-"));
        assert!(error.starts_with(&flag), "{error}");
    }
}

#[test]
fn a_variable_that_is_no_setting_is_an_error_with_the_nearest_one() {
    for (variable, hint) in [
        ("TONEARM_STORGAE", "did you mean TONEARM_STORAGE?"),
        ("TONEARM_URL_BASETTL", "did you mean TONEARM_URL_BASE_TTL?"),
        (
            "TONEARM_log_format",
            "`tonearm config show` lists all there are",
        ),
        (
            "TONEARM_COLOUR",
            "`tonearm config show` lists all there are",
        ),
    ] {
        let error = collect("", &[(variable, "x")], vec![]).unwrap_err();
        let expect = format!("{variable} is no setting; {hint}");
        assert_eq!(error, ConfigError::Setting(expect));
    }
    // What Kubernetes sets beside a service of our name.
    for foreign in ["TONEARM_SERVICE_HOST", "TONEARM_PORT_8080_TCP", "TONEARMS"] {
        assert!(collect("", &[(foreign, "x")], vec![]).is_ok(), "{foreign}");
    }
}

#[test]
fn a_named_file_must_be_there() {
    let missing = Path::new("/nonexistent/tonearm.toml");
    let error = Values::collect(vec![], &[], Some(missing)).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn durations() {
    for (text, seconds) in [
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("12h", 43_200),
        ("0s", 0),
    ] {
        assert_eq!(
            duration(text).map(|span| span.as_secs()),
            Ok(seconds),
            "{text}"
        );
    }
    assert!(duration("").is_err());
    assert!(duration("5").is_err());
}

#[test]
fn deliveries() {
    let of = |object: &str, cache: &str| {
        config_of(&format!(
            "storage = \"s3://b\"\n[object]\n{object}\n[cache]\n{cache}"
        ))
    };
    let Ok(Config {
        delivery: Delivery::Cache(cache, trust),
        ..
    }) = of("delivery = \"cache\"", "size = \"1GiB\"\ntrust = \"10m\"")
    else {
        panic!()
    };
    assert_eq!((cache.size, cache.slice, trust), (1 << 30, 1 << 20, 600));
    let presign = of("delivery = \"presign\"", "").unwrap().delivery;
    assert_eq!(presign, Delivery::Presign(Duration::from_mins(5)));
    for (object, cache, problem) in [
        (
            "delivery = \"disk\"",
            "",
            "proxy, cache or presign is needed",
        ),
        ("", "slice = \"1KiB\"", "64KiB"),
        ("", "slice = \"64MiB\"\nsize = \"1GiB\"\n", ""),
        ("", "slice = \"64MiB\"\nsize = \"1023MiB\"", "at least 16"),
        ("", "keep = \"0s\"", "more than 0s"),
        ("", "trust = \"0s\"", "at least 1s"),
    ] {
        match of(object, cache) {
            Ok(_) => assert_eq!(problem, "", "{object} {cache}"),
            Err(error) => assert!(!problem.is_empty() && error.contains(problem), "{error}"),
        }
    }
    let bunny =
        "[url]\nformat = \"bunny\"\ncdn_base_url = \"https://a.example\"\nkey_file = \"k\"\n";
    let file = format!("storage = \"s3://b\"\n{bunny}[object]\ndelivery = \"presign\"\n");
    let error = config_of(&file).unwrap_err();
    assert!(error.contains("url.format has to be native"), "{error}");
}
