//! The daemon's side of the stick's door: who knocks is heard, and a stick is there until they hang up.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use tracing::{info, warn};
use update::Carrier;

use super::door::{self, Answer, Hello, Kind, Order};

/// Sticks at once.
const STICKS_MAX: usize = 8;
/// Letters of a stick's own name that are shown.
const LABEL_CHARS_MAX: usize = 32;

/// A stick that is plugged in.
#[derive(Debug)]
pub(crate) struct Stick {
    /// Never the same twice while the daemon runs: what was shown of one is not agreed to of another.
    pub(crate) id: String,
    pub(crate) hello: Hello,
    /// The device, or the root of its file system; nothing while it is exchanged.
    opened: Mutex<Option<File>>,
    link: UnixStream,
}

/// What happens at the door.
#[derive(Debug)]
pub(crate) enum News {
    Came(Arc<Stick>),
    Gone { id: String },
}

impl Stick {
    /// What it carries.
    ///
    /// # Errors
    /// As [`Carrier::open`]; or the stick is being written to.
    pub(crate) fn carrier(&self) -> Result<Carrier, update::Error> {
        let shown = PathBuf::from(&self.hello.device);
        let no_bundle = || update::Error::NoBundle { path: shown.clone() };
        let opened = self.opened();
        let file = opened.as_ref().and_then(|file| file.try_clone().ok()).ok_or_else(no_bundle)?;
        match self.hello.kind {
            Kind::Image => Carrier::from_file(&shown, file),
            Kind::Folder => Carrier::from_folder(&shown, &file),
        }
    }

    /// The root of its file system, to read in; a stick with a bundle as its bytes has none.
    pub(crate) fn folder(&self) -> Option<File> {
        (self.hello.kind == Kind::Folder).then(|| self.opened().as_ref()?.try_clone().ok()).flatten()
    }

    /// Does `work` in the root of the file system, writable for as long.
    ///
    /// # Errors
    /// It can't be made writable, or `work` fails.
    pub(crate) fn writing<T>(&self, work: impl FnOnce(&File) -> Result<T>) -> Result<T> {
        let folder = self.exchange(Order::Writable)?;
        let done = work(&folder);
        drop(folder);
        let read_only = self.exchange(Order::ReadOnly);
        let value = done?;
        *self.opened() = Some(read_only.context("the stick was written, and can't be read back")?);
        Ok(value)
    }

    fn exchange(&self, order: Order) -> Result<File> {
        // A file system is writable only once nobody reads in it.
        self.opened().take();
        door::send(&self.link, &order, None).context("the stick is gone")?;
        let (answer, descriptor): (Answer, Option<OwnedFd>) =
            door::receive(&self.link).context("the stick is gone")?;
        match (answer.error, descriptor) {
            (None, Some(descriptor)) => Ok(File::from(descriptor)),
            (error, _) => bail!(error.unwrap_or_else(|| "the stick was not handed over".into())),
        }
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Option<File>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the door in the daemon's runtime folder, and tells `tell` who comes and goes.
///
/// # Errors
/// The socket can't be made.
pub(crate) fn listen(runtime: &Path, tell: impl Fn(News) + Clone + Send + 'static) -> Result<()> {
    let path = runtime.join(door::SOCKET);
    // An earlier daemon's.
    let _ = std::fs::remove_file(&path);
    let what = || format!("cannot open the stick's door {}", path.display());
    let listener = UnixListener::bind(&path).with_context(what)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).with_context(what)?;
    let n_sticks = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for link in listener.incoming().flatten() {
            let (tell, n_sticks) = (tell.clone(), Arc::clone(&n_sticks));
            if n_sticks.load(Ordering::Relaxed) >= STICKS_MAX {
                warn!("more than {STICKS_MAX} sticks at once: one is left alone");
                continue;
            }
            n_sticks.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || {
                if let Err(error) = attend(link, &tell) {
                    warn!("a stick could not be taken: {error:#}");
                }
                n_sticks.fetch_sub(1, Ordering::Relaxed);
            });
        }
    };
    std::thread::Builder::new().name("sticks".into()).spawn(accept)?;
    Ok(())
}

/// One stick, from its coming to its going.
fn attend(link: UnixStream, tell: &impl Fn(News)) -> Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let (hello, descriptor) = door::receive::<Hello>(&link).context("nobody who brings a stick")?;
    let opened = File::from(descriptor.context("a stick without its descriptor")?);
    let id = format!("stick-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let label = hello.label.chars().filter(|letter| !letter.is_control()).take(LABEL_CHARS_MAX).collect();
    let hello = Hello { label, ..hello };
    info!(id, device = hello.device, kind = ?hello.kind, "a stick came");
    let watch = link.try_clone().context("cannot watch the stick")?;
    let stick = Stick { id: id.clone(), hello, opened: Mutex::new(Some(opened)), link };
    tell(News::Came(Arc::new(stick)));
    door::wait_for_hang_up(&watch);
    info!(id, "the stick is gone");
    tell(News::Gone { id });
    Ok(())
}
