//! The handle, and the thread that owns the connection.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Transaction};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::Error;
use crate::migrate::migrate;

/// Transactions that may wait; beyond it callers wait their turn to queue.
const ORDERS_MAX: usize = 256;

/// Patience with another process that holds the file (a backup, a curious admin).
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Prepared statements kept.
const STATEMENTS_MAX: usize = 128;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// What the writer thread is sent.
enum Order {
    Run(Job),
    /// End now; the answer says that the file is closed.
    Close(oneshot::Sender<()>),
}

/// The store: clones share one writer thread, which ends after the last clone is gone and its queue is empty.
#[derive(Clone, Debug)]
pub struct Store {
    orders: mpsc::Sender<Order>,
}

impl Store {
    /// Opens the file, or creates it readable by its owner only, and brings its schema up to date.
    ///
    /// Answers that a crash or a power cut left half-written are marked as stopped.
    ///
    /// # Errors
    /// The file can't be opened, is no database, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
        let mut connection = Connection::open(path)?;
        configure(&connection)?;
        migrate(&mut connection)?;
        crate::messages::stop_interrupted(&connection)?;
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || run(connection, inbox))
            .expect("the system has a thread to spare at start");
        Ok(Self { orders })
    }

    /// Waits until everything asked before is on the disk.
    ///
    /// # Errors
    /// The writer thread is gone.
    pub async fn flush(&self) -> Result<(), Error> {
        self.call(|_| Ok(())).await
    }

    /// Finishes what was asked before, folds the log into the file and closes it. Other clones of the handle get
    /// [`Error::Closed`] from then on. A store that is only dropped loses nothing either.
    pub async fn close(self) {
        let (closed, done) = oneshot::channel();
        if self.orders.send(Order::Close(closed)).await.is_ok() {
            // Another clone may have been faster.
            let _ = done.await;
        }
    }

    /// Runs `work` in a transaction on the writer thread: committed where it returns `Ok`, else rolled back.
    ///
    /// A caller that stops waiting changes nothing: work that was queued is done.
    pub(crate) async fn call<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = move |connection: &mut Connection| {
            // Nobody may be waiting any more.
            let _ = reply.send(in_transaction(connection, work));
        };
        self.orders.send(Order::Run(Box::new(job))).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

fn configure(connection: &Connection) -> Result<(), Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What is deleted is overwritten: chats are private.
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(())
}

fn run(mut connection: Connection, mut inbox: mpsc::Receiver<Order>) {
    while let Some(order) = inbox.blocking_recv() {
        match order {
            Order::Run(job) => {
                if catch_unwind(AssertUnwindSafe(|| job(&mut connection))).is_err() {
                    error!("a transaction panicked and was rolled back");
                }
            }
            Order::Close(closed) => {
                drop(connection);
                // Nobody may be waiting any more.
                let _ = closed.send(());
                return;
            }
        }
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let transaction = connection.transaction()?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_rolls_back_and_the_writer_lives_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("wels.db")).unwrap();
        let lost = store
            .call(|tx| -> Result<(), Error> {
                tx.execute("INSERT INTO settings VALUES ('a', 'b')", [])?;
                panic!("on purpose");
            })
            .await;
        assert!(matches!(lost, Err(Error::Closed)));
        assert_eq!(store.setting("a").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_closed_store_leaves_one_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wels.db");
        let store = Store::open(&path).unwrap();
        let clone = store.clone();
        store.set_setting("a", Some("b")).await.unwrap();
        store.close().await;
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no log beside it");
        assert!(matches!(clone.setting("a").await, Err(Error::Closed)));
        assert_eq!(Store::open(&path).unwrap().setting("a").await.unwrap().as_deref(), Some("b"));
    }
}
