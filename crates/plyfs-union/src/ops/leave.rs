//! Leaving a node behind: its file gets a new node, because the kernel cannot open the old one as is needed now.
//!
//! Descriptors opened before stay with the old node and go on reading what they read, as after a copy-up by kernel
//! overlayfs; whatever else is asked of the old node concerns the new one. The kernel hears ESTALE for the open,
//! looks the name up again (LOOKUP_REVAL) and opens the new node.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::RwLockReadGuard;

use crate::attr::Ino;
use crate::error::{Error, Result};
use crate::nodes::{DirState, HomeBy, Link, Node};
use crate::passthrough::{Mode, Pages};
use crate::union::{TRIES, Union, stand_back};

impl Union {
    /// Gives the file of `node` a new node, unless that was done already or is not needed any more.
    pub(crate) fn leave_behind(&self, node: &Arc<Node>) -> Result<()> {
        let other = node.as_other()?;
        let _no_copy_up = other.copyup.lock();
        for tries in 0..TRIES {
            if node.successor().is_some() {
                return Ok(());
            }
            let links = node.links();
            let held = self.hold(node)?;
            // Read, so that they can be told of the new node.
            for link in &links {
                drop(self.listed(&link.parent)?);
            }
            let door = other.door.lock();
            if !matches!(door.mode, Mode::Passing { .. }) {
                // The last of them was closed meanwhile, and others may have come who are served.
                return Ok(());
            }
            // All names at once, and without waiting: what changes names locks directories in an order that the
            // names of one file need not follow.
            let Some(states) = lock_all(&links)? else {
                drop(door);
                stand_back(tries);
                continue;
            };
            let state = other.state.read().clone();
            let next = Node::other(self.nodes.fresh(), node.kind, node.number, state.clone(), None);
            let new = next.as_other()?;
            new.door.lock().reserve();
            if self.stack.writable(state.home.branch) && state.data.is_none() {
                // The old node's descriptors may write on, past whatever pages the new one has.
                new.door.lock().pages = Pages::Bypass;
                new.mappers.store(1, Relaxed);
            }
            for link in &links {
                next.add_link(&link.parent, &link.name);
            }
            let next = self.nodes.insert(next);
            // The reference it was born with is the old node's.
            if !node.succeed(&next, &links) {
                self.nodes.put(&next, 1);
                continue;
            }
            for (link, state) in links.iter().zip(&states) {
                if let Some(line) = state.index.as_ref().and_then(|index| index.line(link.name.as_os_str())) {
                    // Another node under this name cannot be: the name is this node's.
                    line.remember(Some(node.ino), next.ino).ok();
                }
            }
            self.nodes.replace_key(state.identity, node, &next);
            other.state.write().home.by = HomeBy::Held(held);
            drop(states);
            drop(door);
            for link in &links {
                self.nodes.unlink(node, &link.parent, &link.name);
            }
            return Ok(());
        }
        Err(Error::Stale)
    }

    /// The node that took over from `ino`, where it was left behind: what is done to one shows at the other.
    pub fn successor_of(&self, ino: Ino) -> Option<Ino> {
        let node = self.nodes.get(ino).ok()?;
        node.successor().map(|next| next.ino)
    }
}

/// The listings of all parents; `None` if one is being changed, or was dropped just now.
fn lock_all(links: &[Link]) -> Result<Option<Vec<RwLockReadGuard<'_, DirState>>>> {
    let mut states = Vec::with_capacity(links.len());
    for link in links {
        // Recursive: two names may lie in one directory.
        match link.parent.as_dir()?.index.try_read_recursive() {
            Some(state) if state.index.is_some() => states.push(state),
            Some(_) | None => return Ok(None),
        }
    }
    Ok(Some(states))
}
