//! Under systemd: says when the daemon is ready, and from then on that it is alive, as long as its store answers.

use std::time::Duration;

use sd_notify::NotifyState;
use store::Store;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, warn};

use super::{Board, BoxState};

/// How soon the console learns that the box was claimed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How soon it learns of anything else.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// A store that takes longer is not alive.
const STORE_TIME_MAX: Duration = Duration::from_secs(20);

/// Tells systemd and the console; never ends. Started when everything is ready.
pub(crate) async fn supervise(store: Store, board: Board) {
    let mut changes = board.watch();
    tell(&changes.borrow_and_update().clone());
    notify(NotifyState::Ready);
    let every = sd_notify::watchdog_enabled().map_or(LOOK_EVERY, |limit| LOOK_EVERY.min(limit / 3));
    let mut looks = interval(every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first comes at once.
    looks.tick().await;
    loop {
        tokio::select! {
            biased;
            _ = looks.tick() => look(&store, &board).await,
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                tell(&changes.borrow_and_update().clone());
                tokio::time::sleep(TELL_EVERY.min(every)).await;
            }
        }
    }
}

/// Whether the store is alive, and the box claimed.
async fn look(store: &Store, board: &Board) {
    match timeout(STORE_TIME_MAX, store.is_claimed()).await {
        Ok(Ok(claimed)) => {
            if claimed && board.watch().borrow().claim_code.is_some() {
                board.change(|state| state.claim_code = None);
            }
            notify(NotifyState::Watchdog);
        }
        Ok(Err(error)) => warn!(%error, "the store does not answer"),
        Err(_) => warn!("the store does not answer in time"),
    }
}

fn tell(state: &BoxState) {
    let told = super::runtime().map_or(Ok(()), |runtime| state.write(&runtime));
    told.unwrap_or_else(|error| error!("the console is not told: {error:#}"));
}

/// Does nothing where nobody listens.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "systemd is not told");
    }
}
