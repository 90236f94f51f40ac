//! How a release is built: with a profile of what its server does, which fits the toolchain.

use std::path::{Path, PathBuf};
use std::process::Command;

const TOOLCHAIN: &str = include_str!("../../rust-toolchain.toml");

/// First bytes of an indexed profile of LLVM.
const MAGIC: &[u8] = b"\xfflprofi\x81";

fn cargo_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".cargo")
}

/// What the compiler is told, where cargo says `args`.
fn told(args: &str, counting: bool) -> String {
    let mut wrapper = Command::new(cargo_directory().join("rustc"));
    wrapper
        .arg("echo")
        .args(args.split(' '))
        .env_remove("PROFILE_INTO");
    if counting {
        wrapper.env("PROFILE_INTO", "/counts");
    }
    let output = wrapper.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

fn profile() -> PathBuf {
    let channel = TOOLCHAIN.split('"').nth(1).unwrap();
    cargo_directory().join(format!("{channel}.profdata"))
}

/// Another toolchain names all functions otherwise: none would be found in the profile, and nothing would tell.
#[test]
fn a_profile_is_of_the_toolchain_that_builds() {
    let bytes =
        std::fs::read(profile()).expect("a new toolchain wants a new profile: .cargo/train");
    assert!(bytes.starts_with(MAGIC));
}

#[test]
fn only_optimised_builds_for_the_host_have_the_profile() {
    let uses = format!(
        "-Cprofile-use={} -Cllvm-args=-no-pgo-warn-mismatch",
        profile().display()
    );
    for (args, counting, more) in [
        ("--crate-name a -C opt-level=3 -C lto", false, Some(&*uses)),
        (
            "--crate-name a -C opt-level=3 -C lto",
            true,
            Some("-Cprofile-generate=/counts"),
        ),
        ("--crate-name a -C embed-bitcode=no", false, None),
        ("--crate-name a -C opt-level=1", true, None),
        (
            "-C opt-level=3 --target x86_64-unknown-linux-gnu",
            false,
            None,
        ),
        ("-vV", false, None),
    ] {
        let expect = [args].into_iter().chain(more).collect::<Vec<_>>().join(" ");
        assert_eq!(told(args, counting), expect);
    }
}
