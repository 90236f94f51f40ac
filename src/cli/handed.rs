//! Listening sockets that a service manager opened and hands over (sd_listen_fds(3)): it keeps them
//! through a restart, so that who connects meanwhile waits, and nobody is refused.

use std::net::TcpListener;

use anyhow::{Context as _, bail};
use listenfd::ListenFd;

/// The name of the admin listener's socket (`FileDescriptorName=`), and of the one that answers ACME by
/// http-01; any other is the public one's.
const ADMIN: &str = "admin";
const ACME: &str = "acme";
/// The variable with all names, between colons.
pub(super) const NAMES: &str = "LISTEN_FDNAMES";

/// What was handed over.
#[derive(Debug, Default)]
pub(super) struct Handed {
    pub(super) public: Option<TcpListener>,
    pub(super) admin: Option<TcpListener>,
    pub(super) acme: Option<TcpListener>,
}

impl Handed {
    /// Takes what there is. Without names, the first is public and the second of the admin listener.
    pub(super) fn take(environment: &[(String, String)]) -> anyhow::Result<Self> {
        let mut variables = environment.iter();
        let names = variables.find_map(|(name, value)| (name == NAMES).then_some(value));
        let mut sockets = ListenFd::from_env();
        let mut handed = Self::default();
        for at in 0..sockets.len() {
            let socket = sockets
                .take_tcp_listener(at)
                .with_context(|| format!("socket {at} of the service manager"))?;
            let Some(socket) = socket else { continue };
            if !socket2::SockRef::from(&socket).is_listener()? {
                bail!("socket {at} of the service manager does not listen");
            }
            let name = names.map(|names| names.split(':').nth(at).unwrap_or_default());
            let of_admin = name.map_or(at == 1, |name| name == ADMIN);
            let place = match name {
                _ if of_admin => &mut handed.admin,
                Some(ACME) => &mut handed.acme,
                _ => &mut handed.public,
            };
            if place.replace(socket).is_some() {
                bail!(
                    "the service manager hands two sockets to one listener; name the admin listener's {ADMIN:?}"
                );
            }
        }
        Ok(handed)
    }
}
