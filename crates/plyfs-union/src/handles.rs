//! Open files.
//!
//! A file handle has one descriptor at most. After a copy-up its next use opens the copy: a descriptor opened before
//! sees what is written after it (aufs.5; overlayfs does not). With passthrough the kernel itself reads on in the file
//! below, as with overlayfs (`ops/leave.rs`).

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::HashMap;

use parking_lot::RwLock;

use crate::attr::Fh;
use crate::error::{Error, Result};
use crate::nodes::Node;

/// Handles by number.
#[derive(Debug)]
pub(crate) struct Handles<T> {
    open: RwLock<HashMap<u64, Arc<T>>>,
    next: AtomicU64,
}

impl<T> Default for Handles<T> {
    fn default() -> Handles<T> {
        Handles { open: RwLock::default(), next: AtomicU64::new(1) }
    }
}

impl<T> Handles<T> {
    pub(crate) fn insert(&self, handle: T) -> Fh {
        let fh = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(fh, Arc::new(handle));
        Fh(fh)
    }

    pub(crate) fn get(&self, fh: Fh) -> Result<Arc<T>> {
        self.open.read().get(&fh.0).cloned().ok_or(Error::BadHandle)
    }

    pub(crate) fn find(&self, is_it: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.open.read().values().find(|handle| is_it(handle)).cloned()
    }

    pub(crate) fn remove(&self, fh: Fh) -> Option<Arc<T>> {
        self.open.write().remove(&fh.0)
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct FileHandle {
    pub(crate) node: Arc<Node>,
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// `None` until first used: where the kernel reads and writes by itself, the server may never need one.
    pub(crate) backing: RwLock<Option<Backing>>,
    /// The kernel may map the file for writing by this handle.
    pub(crate) maps: bool,
}

/// The branch's file behind a handle.
#[derive(Debug, Clone)]
pub(crate) struct Backing {
    pub(crate) file: Arc<File>,
    /// The node's generation when it was opened: an older one than the node's means it was copied up since.
    pub(crate) generation: u64,
    /// The descriptor may be written through (it is on a writable branch).
    pub(crate) writable: bool,
}
