//! What a service manager is told, where one listens (sd_notify(3)); elsewhere nothing happens.

use sd_notify::NotifyState;

/// Listeners are served from now on.
pub(super) fn ready() {
    tell(&NotifyState::Ready);
}

/// The server still looks after itself. To be called more often than every half of `WatchdogSec`.
pub(super) fn alive() {
    tell(&NotifyState::Watchdog);
}

/// The end has begun.
pub(super) fn stopping() {
    tell(&NotifyState::Stopping);
}

fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, std::slice::from_ref(state)) {
        tracing::warn!(%error, ?state, "the service manager cannot be told");
    }
}
