//! Telling the kernel what it cannot know. From inside requests only what takes no lock there: attributes.

use std::sync::OnceLock;

use plyfs_wire::Notifier;
use tracing::warn;

/// The connection's notifications, once there is a connection.
#[derive(Debug, Default)]
pub(crate) struct Tell {
    notifier: OnceLock<Notifier>,
}

impl Tell {
    /// The connection to tell the kernel by.
    pub(crate) fn connect(&self, notifier: Notifier) {
        // There is one connection in a skin's life; a second call would bring the same.
        self.notifier.get_or_init(|| notifier);
    }

    /// The attributes that the kernel keeps of `node` may be untrue. May be called from inside a request.
    pub(crate) fn forget_attr(&self, node: u64) {
        if let Some(Err(error)) = self.notifier.get().map(|notifier| notifier.inval_inode(node, false)) {
            warn!(node, "the kernel keeps old attributes: {error}");
        }
    }
}
