//! Set-user-id and set-group-id bits that the kernel has cached and a write has cleared.
//!
//! With FUSE_HANDLE_KILLPRIV_V2 the engine clears them when asked with a write or an open that truncates; but neither
//! reply carries attributes, so the kernel would go on showing, and executing by, the old mode. Not here: clearing
//! (`plyfs-union`), when it is asked for (the kernel).

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use parking_lot::Mutex;
use plyfs_union::{Attr, Ino, Kind};
use plyfs_wire::Notifier;
use tracing::warn;

const SETID: u32 = 0o6000;

/// Which nodes the kernel believes to have such bits. A node that stays here too long costs one notification.
#[derive(Debug, Default)]
pub(crate) struct SetIds {
    notifier: OnceLock<Notifier>,
    /// Spares writers the lock on the many mounts where such files are never written.
    any: AtomicBool,
    nodes: Mutex<HashSet<Ino>>,
}

impl SetIds {
    /// The connection to tell the kernel by.
    pub(crate) fn connect(&self, notifier: Notifier) {
        // There is one connection in a skin's life; a second call would bring the same.
        self.notifier.get_or_init(|| notifier);
    }

    /// The kernel is about to hear of these attributes.
    pub(crate) fn told(&self, node: Ino, attr: &Attr) {
        if attr.kind == Kind::File && attr.perm & SETID != 0 {
            self.nodes.lock().insert(node);
            self.any.store(true, SeqCst);
        }
    }

    /// The engine was asked to clear the bits of `node`, before the reply is sent: whoever wrote then sees the new mode.
    pub(crate) fn cleared(&self, node: Ino) {
        if !self.any.load(SeqCst) || !self.nodes.lock().remove(&node) {
            return;
        }
        // Attributes only: that takes no lock in the kernel, so it may be done from inside a request.
        if let Some(Err(error)) = self.notifier.get().map(|notifier| notifier.inval_inode(node.0, false)) {
            warn!(node = node.0, "the kernel keeps an old mode: {error}");
        }
    }
}
