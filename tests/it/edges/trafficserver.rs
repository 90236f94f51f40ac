//! Apache Traffic Server, with `deploy/trafficserver`.

use std::path::Path;
use std::process::Command;

use super::check;
use super::setup::{Edge, Origin, PULLS, deployed, free_port};
use crate::harness::{has_peer, skips};

/// Debian's package of plugins brings it.
const SLICE: &str = "/usr/lib/trafficserver/modules/slice.so";

#[test]
fn trafficserver_asks_tonearm() {
    let install = "apt-get install trafficserver trafficserver-experimental-plugins";
    let found = Path::new(SLICE).exists() || skips("Traffic Server's slice", install);
    if !(found && has_peer("traffic_server", install)) {
        return;
    }
    let origin = Origin::start();
    let edge = start(&origin);
    check(&edge, origin);
}

/// In a directory of its own, where its user may write.
fn start(origin: &Origin) -> Edge {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for name in ["etc", "cache", "log", "run"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    let (port, at) = (free_port(), root.display());
    let write = |name: &str, text: String| std::fs::write(root.join(name), text).unwrap();
    let places = [("127.0.0.1:8080", &*origin.program.public.to_string())];
    let from = |name: &str, places: &[(&str, &str)]| {
        let text = deployed(&format!("trafficserver/{name}"), places);
        write(&format!("etc/{name}"), text);
    };
    from("remap.config", &places);
    from("plugin.config", &[]);
    from("tonearm.lua", &[]);
    from("tonearm-inside.config", &[]);
    from("tonearm-pull.config", &[("SECRET", PULLS)]);
    let port_of = format!("STRING {port}:ip-in=127.0.0.1\n");
    from("records.config", &[("STRING 80 80:ipv6\n", &port_of)]);
    // As who runs the tests, in little room, and without a program that looks at crashes.
    let mut records = std::fs::read_to_string(root.join("etc/records.config")).unwrap();
    records.push_str(
        "CONFIG proxy.config.admin.user_id STRING #-1\n\
         CONFIG proxy.config.crash_log_helper STRING NULL\n\
         CONFIG proxy.config.exec_thread.autoconfig INT 0\n\
         CONFIG proxy.config.exec_thread.limit INT 2\n\
         CONFIG proxy.config.cache.ram_cache.size INT 32M\n",
    );
    write("etc/records.config", records);
    write("etc/storage.config", format!("{at}/cache 256M\n"));
    write("etc/ip_allow.yaml", IP_ALLOW.to_owned());
    let layout = [
        ("prefix", String::new()),
        ("sysconfdir", "/etc".to_owned()),
        ("datadir", "/cache".to_owned()),
        ("cachedir", "/cache".to_owned()),
        ("localstatedir", "/run".to_owned()),
        ("runtimedir", "/run".to_owned()),
        ("logdir", "/log".to_owned()),
    ];
    let mut layout: String = layout
        .map(|(name, at_root)| format!("{name}: {at}{at_root}\n"))
        .concat();
    layout.push_str(
        "exec_prefix: /usr\nbindir: /usr/bin\nsbindir: /usr/bin\nincludedir: /usr/include\n",
    );
    layout.push_str("libdir: /usr/lib/trafficserver\nlibexecdir: /usr/lib/trafficserver/modules\n");
    write("runroot.yaml", layout);
    let mut command = Command::new("traffic_server");
    command.arg(format!("--run-root={at}/runroot.yaml"));
    let mut edge = Edge::start(command, port, dir);
    edge.late = 1;
    edge
}

/// Debian's own lets nobody but this machine do anything but ask.
const IP_ALLOW: &str =
    "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.1\n    action: allow\n    methods: ALL\n";
