//! What an operation tells while it works, and how it is told to stop.

use std::fmt;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// What happens to one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Its turn comes later.
    Waiting,
    /// It is in the store.
    AlreadyExists,
    /// On its way; bytes of the blob, all of them if known. Unpacking goes on at the same time.
    Downloading {
        /// So many are here.
        done: u64,
        /// Of so many; 0 if not known.
        total: u64,
    },
    /// All of it is unpacked; the layers below are not yet.
    Unpacked,
    /// The connection broke; it will be tried again.
    Retrying,
    /// In the store.
    Complete,
}

/// Who is told. Called from several threads.
pub trait Progress: Sync {
    /// `index` counts layers from the bottom, `name` is short.
    fn layer(&self, index: usize, name: &str, state: LayerState);
}

/// Nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn layer(&self, _: usize, _: &str, _: LayerState) {}
}

type Hook = Box<dyn Fn() + Send>;

/// A switch by which another thread stops an operation.
#[derive(Default)]
pub struct Cancel {
    flag: AtomicBool,
    hooks: Mutex<Vec<Hook>>,
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.flag).finish()
    }
}

impl Cancel {
    /// Not yet.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Stop: what waits for a registry fails at once, what reads fails at its next read.
    pub fn cancel(&self) {
        self.flag.store(true, SeqCst);
        if let Ok(hooks) = self.hooks.lock() {
            hooks.iter().for_each(|hook| hook());
        }
    }

    /// Whether it is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(SeqCst)
    }

    /// Fails when it is to stop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Runs `hook` on cancelling, at once if that was before.
    pub(crate) fn on_cancel(&self, hook: impl Fn() + Send + 'static) {
        // Asked with the lock held: who cancels sets the flag first, and then runs what it finds under the lock.
        let Ok(mut hooks) = self.hooks.lock() else { return };
        if self.is_cancelled() {
            hook();
        } else {
            hooks.push(Box::new(hook));
        }
    }

    /// `reader`, failing when it is to stop.
    pub(crate) fn stops<R: Read>(&self, reader: R) -> impl Read + use<'_, R> {
        Stops { reader, cancel: self }
    }

    /// Waits, and fails at once when it is to stop.
    pub(crate) fn sleep(&self, length: Duration) -> Result<()> {
        const LOOK: Duration = Duration::from_millis(50);
        let end = Instant::now() + length;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}

struct Stops<'a, R> {
    reader: R,
    cancel: &'a Cancel,
}

impl<R: Read> Read for Stops<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() { Err(io::Error::other("interrupted")) } else { self.reader.read(buf) }
    }
}
