//! What all requests share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use store::Store;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::recovery::Recovery;
use crate::runs::Runs;
use crate::slot::ModelSlot;
use crate::throttle::Throttle;
use crate::updates::Updates;

/// Password hashes computed at once: each takes 19 MiB and a core for tens of milliseconds.
const PASSWORDS_AT_ONCE: usize = 2;

/// Prompts rendered and tokenised at once.
const PROMPTS_AT_ONCE: usize = 2;

/// Requests of one owner that may wait or run at once.
pub(crate) const OWNER_REQUESTS_MAX: usize = 16;

/// How the service behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The box's name: `NAME` and `NAME.local` are its hosts.
    pub box_name: String,
    /// More host names under which the box may be called.
    pub hosts: Vec<String>,
    /// Whether `/v1` asks for a key. Without, only callers on this very machine get in (claimed or not).
    pub require_api_key: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { box_name: "wels".into(), hosts: Vec::new(), require_api_key: true }
    }
}

/// The service: clones share one.
#[derive(Clone, Debug)]
pub struct App {
    shared: Arc<Shared>,
}

/// Fields of the service; [`App`] dereferences to it. Outside this crate it is opaque.
#[derive(Debug)]
pub struct Shared {
    pub(crate) store: Store,
    pub(crate) slot: ModelSlot,
    pub(crate) updates: Option<Updates>,
    pub(crate) recovery: Recovery,
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) throttle: Throttle,
    pub(crate) runs: Runs,
    /// Tasks that outlive their connection; awaited at the end.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the service is to end.
    pub(crate) ending: CancellationToken,
    pub(crate) started: Instant,
    claimed: AtomicBool,
    passwords: Arc<Semaphore>,
    prompts: Arc<Semaphore>,
    requests_by_owner: Arc<Mutex<HashMap<u64, usize>>>,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl App {
    /// A service on `store`, for the model in `slot`; without `updates` nothing can be installed from the page,
    /// and whoever can open `recovery` lets people back in who have lost their password.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn new(
        store: Store,
        slot: ModelSlot,
        updates: Option<Updates>,
        recovery: Recovery,
        config: Config,
    ) -> Result<Self, store::Error> {
        let claimed = AtomicBool::new(store.is_claimed().await?);
        let shared = Shared {
            store,
            slot,
            updates,
            recovery,
            config,
            claimed,
            metrics: Metrics::default(),
            throttle: Throttle::default(),
            runs: Runs::default(),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            started: Instant::now(),
            passwords: Arc::new(Semaphore::new(PASSWORDS_AT_ONCE)),
            prompts: Arc::new(Semaphore::new(PROMPTS_AT_ONCE)),
            requests_by_owner: Arc::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Stops the runs of the page, keeps what they wrote, and waits until all of it is on the disk.
    pub(crate) async fn drain(&self) {
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Err(error) = self.store.flush().await {
            tracing::error!(%error, "the store did not finish");
        }
    }
}

impl Shared {
    pub(crate) fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::Acquire)
    }

    pub(crate) fn set_claimed(&self) {
        self.claimed.store(true, Ordering::Release);
    }

    /// Hashes or verifies a password, off the async threads and few at a time.
    pub(crate) async fn password_work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        bounded(&self.passwords, work).await
    }

    /// Renders and tokenises a prompt, off the async threads and few at a time.
    pub(crate) async fn prompt_work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        bounded(&self.prompts, work).await
    }

    /// A place among the requests of `owner`, given back when dropped.
    pub(crate) fn admit(&self, owner: u64) -> Result<Place, Problem> {
        let mut by_owner = self.requests_by_owner.lock().expect("nothing panics while it holds the lock");
        let count = by_owner.entry(owner).or_default();
        if *count >= OWNER_REQUESTS_MAX {
            let message = format!(
                "{count} of your requests are waiting or running, which is the most one account may have"
            );
            let status = axum::http::StatusCode::TOO_MANY_REQUESTS;
            let problem = Problem::new(status, "too_many_requests", message);
            return Err(problem.retry_after(std::time::Duration::from_secs(5)));
        }
        *count += 1;
        Ok(Place { by_owner: Arc::clone(&self.requests_by_owner), owner })
    }
}

async fn bounded<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let permit = Arc::clone(permits).acquire_owned().await.expect("this semaphore is never closed");
    let work = move || {
        // Held by the work: it goes on when its client has left.
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::internal(&error))
}

/// One of the requests an owner may have at once.
#[derive(Debug)]
pub(crate) struct Place {
    by_owner: Arc<Mutex<HashMap<u64, usize>>>,
    owner: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_owner = self.by_owner.lock().expect("nothing panics while it holds the lock");
        if let Some(count) = by_owner.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                by_owner.remove(&self.owner);
            }
        }
    }
}
