//! Under systemd: says when the daemon is ready, and from then on that it is alive, as long as its store answers.

use std::path::PathBuf;
use std::time::Duration;

use sd_notify::NotifyState;
use store::Store;
use tracing::{error, warn};

use super::BoxState;

/// How soon the console learns that the box was claimed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A store that takes longer is not alive.
const STORE_TIME_MAX: Duration = Duration::from_secs(20);

/// Tells systemd and the console; never ends. Started when everything is ready.
pub(crate) async fn supervise(store: Store, mut state: BoxState) {
    // Set by `RuntimeDirectory=`.
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    let tell = |state: &BoxState| {
        let told = runtime.as_deref().map_or(Ok(()), |runtime| state.write(runtime));
        told.unwrap_or_else(|error| error!("the console is not told: {error:#}"));
    };
    tell(&state);
    notify(NotifyState::Ready);
    let every = sd_notify::watchdog_enabled().map_or(LOOK_EVERY, |limit| LOOK_EVERY.min(limit / 3));
    loop {
        tokio::time::sleep(every).await;
        match tokio::time::timeout(STORE_TIME_MAX, store.is_claimed()).await {
            Ok(Ok(claimed)) => {
                if claimed && state.claim_code.take().is_some() {
                    tell(&state);
                }
                notify(NotifyState::Watchdog);
            }
            Ok(Err(error)) => warn!(%error, "the store does not answer"),
            Err(_) => warn!("the store does not answer in time"),
        }
    }
}

/// Does nothing where nobody listens.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "systemd is not told");
    }
}
