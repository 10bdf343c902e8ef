//! Set-user-id and set-group-id bits that the kernel has cached and a write has cleared.
//!
//! With FUSE_HANDLE_KILLPRIV_V2 the engine clears them when asked with a write or an open that truncates; but neither
//! reply carries attributes, so the kernel would go on showing, and executing by, the old mode. Not here: clearing
//! (`plyfs-union`), when it is asked for (the kernel), telling (`tell`).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use parking_lot::Mutex;
use plyfs_union::{Attr, Ino, Kind};

const SETID: u32 = 0o6000;

/// Which nodes the kernel believes to have such bits. A node that stays here too long costs one notification.
#[derive(Debug, Default)]
pub(crate) struct SetIds {
    /// Spares writers the lock on the many mounts where such files are never written.
    any: AtomicBool,
    nodes: Mutex<HashSet<Ino>>,
}

impl SetIds {
    /// The kernel is about to hear of these attributes.
    pub(crate) fn told(&self, node: Ino, attr: &Attr) {
        if attr.kind == Kind::File && attr.perm & SETID != 0 {
            self.nodes.lock().insert(node);
            self.any.store(true, SeqCst);
        }
    }

    /// The engine was asked to clear the bits of `node`: does the kernel still believe in them? To be asked, and told,
    /// before the reply is sent: whoever wrote then sees the new mode.
    pub(crate) fn cleared(&self, node: Ino) -> bool {
        self.any.load(SeqCst) && self.nodes.lock().remove(&node)
    }
}
