//! How many index lines are kept over all directories, and which directory gives way when there are too many.
//!
//! A directory's index can be read again, so it may go; the least recently used go first (second chance: a directory
//! used since the hand last passed is passed over once). Dropped is what the branches say; which node the kernel knows
//! under which name is set aside in the directory ([`DirState::known`]) and put back when the index is read again:
//! a second node for a known child must never come to be. A removed directory has no index and is never filled.
//!
//! Nobody waits here: a directory that somebody holds is in use and is passed over. So this may be called with index
//! locks held; the queue is a short lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::attr::Ino;
use crate::index::Index;
use crate::nodes::{DirState, Node};
use crate::union::Union;

/// The count, and the directories that have an index, in the order in which they are asked to give way.
#[derive(Debug)]
pub(crate) struct Ledger {
    limit: usize,
    total: Arc<AtomicUsize>,
    queue: Mutex<VecDeque<Ino>>,
}

/// One index' part of the total, given back when the index is dropped.
#[derive(Debug, Default)]
pub(crate) struct Share {
    total: Option<Arc<AtomicUsize>>,
    mine: usize,
}

impl Share {
    /// The index has so many lines now.
    pub(crate) fn set(&mut self, lines: usize) {
        if let Some(total) = &self.total {
            // Two steps, so that the total never wraps around zero.
            total.fetch_add(lines, Relaxed);
            total.fetch_sub(self.mine, Relaxed);
        }
        self.mine = lines;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Ledger {
    pub(crate) fn new(limit: usize) -> Ledger {
        Ledger { limit, total: Arc::default(), queue: Mutex::default() }
    }

    /// A directory was read.
    pub(crate) fn enter(&self, dir: Ino) -> Share {
        self.queue.lock().push_back(dir);
        Share { total: Some(self.total.clone()), mine: 0 }
    }

    fn is_full(&self) -> bool {
        self.total.load(Relaxed) > self.limit
    }
}

impl Union {
    /// Drops indexes until the total is within its bound, or every directory had its turn.
    pub(crate) fn make_room(&self) {
        if !self.ledger.is_full() {
            return;
        }
        let mut turns = self.ledger.queue.lock().len();
        while turns > 0 && self.ledger.is_full() {
            turns -= 1;
            let Some(dir) = self.ledger.queue.lock().pop_front() else { return };
            if !self.gives_way(dir) {
                self.ledger.queue.lock().push_back(dir);
            }
        }
    }

    /// `false`: it is in use, and keeps its place in the queue.
    fn gives_way(&self, ino: Ino) -> bool {
        let Some(node) = self.nodes.peek(ino) else { return true };
        let Ok(dir) = node.as_dir() else { return true };
        let Some(mut state) = dir.index.try_write() else { return false };
        if state.index.is_some() && dir.recent.swap(false, Relaxed) {
            return false;
        }
        if let Some(index) = state.index.take() {
            state.known = self.living(&node, &index);
            state.dropped = true;
        }
        true
    }

    /// The children of `dir` that the kernel or others refer to, by name.
    pub(crate) fn living(&self, dir: &Node, index: &Index) -> Vec<(plyfs_sys::Leaf, Ino)> {
        let alive = |name: &plyfs_sys::Leaf, ino: Ino| {
            self.nodes.peek(ino).is_some_and(|child| child.has_link(dir, name))
        };
        index.known().filter(|(name, ino)| alive(name, *ino)).map(|(name, ino)| (name.clone(), ino)).collect()
    }

    /// Puts the known children back into an index that was read again. One that is of another kind now was replaced
    /// behind our back: its name means a new node.
    pub(crate) fn put_back(&self, state: &mut DirState) {
        let DirState { index: Some(index), known, .. } = state else { return };
        for (name, ino) in std::mem::take(known) {
            let Some(child) = self.nodes.peek(ino) else { continue };
            if index.resolved(name.as_os_str()).is_some_and(|now| now.kind == child.kind) {
                index.set_node(name.as_os_str(), Some(ino));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let ledger = Ledger::new(10);
        let (mut a, mut b) = (ledger.enter(Ino(1)), ledger.enter(Ino(2)));
        a.set(6);
        b.set(4);
        assert!(!ledger.is_full());
        b.set(5);
        assert!(ledger.is_full());
        drop(a);
        assert_eq!(ledger.total.load(Relaxed), 5);
        drop(b);
        assert_eq!(ledger.total.load(Relaxed), 0);
    }
}
