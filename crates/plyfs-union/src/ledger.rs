//! How many index lines are kept over all directories, and which directory gives way when there are too many.
//!
//! A directory's index can be read again, so it may go; the least recently used go first (second chance: a directory
//! used since the hand last passed is passed over once). Dropped is what the branches say; which node the kernel knows
//! under which name is set aside in the directory ([`DirState::known`]) and put back when the index is read again:
//! a second node for a known child must never come to be. A removed directory has no index and is never filled.
//!
//! Nobody waits here: a directory that somebody holds is in use and is passed over. So this may be called with index
//! locks held; the queue is a short lock.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::attr::Ino;
use crate::index::Index;
use crate::nodes::{DirState, Node};
use crate::union::Union;

/// So many entries of the queue cost nothing worth looking for.
const SHORT: usize = 1024;

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

    /// By [`Union::book`], which keeps the queue short.
    fn enter(&self, dir: Ino) -> Share {
        self.queue.lock().push_back(dir);
        Share { total: Some(self.total.clone()), mine: 0 }
    }

    /// Drops entries that no directory needs, if there are more than `most`: a directory that was read anew while it
    /// had an index has two, one that is gone still has one.
    fn sweep(&self, most: usize, is_known: impl Fn(Ino) -> bool) {
        let mut queue = self.queue.lock();
        if queue.len() > most {
            let mut seen = HashSet::new();
            queue.retain(|dir| is_known(*dir) && seen.insert(*dir));
        }
    }

    fn is_full(&self) -> bool {
        self.total.load(Relaxed) > self.limit
    }
}

impl Union {
    /// A directory was read: the share of its index. The queue is kept to [`SHORT`] entries, or two for each node.
    pub(crate) fn book(&self, dir: Ino) -> Share {
        if self.ledger.queue.lock().len() >= SHORT {
            let most = SHORT.max(2 * self.nodes.count());
            self.ledger.sweep(most - 1, |dir| self.nodes.peek(dir).is_some());
        }
        self.ledger.enter(dir)
    }

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
    use std::path::Path;

    use super::*;
    use crate::spec::{BranchSpec, MountSpec, Perm};

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

    #[test]
    fn needless_entries_of_a_long_queue_go() {
        let ledger = Ledger::new(10);
        let dirs = [1, 2, 3, 2, 1, 3, 3].map(Ino);
        let _shares = dirs.map(|dir| ledger.enter(dir));
        ledger.sweep(dirs.len(), |_| false);
        assert_eq!(*ledger.queue.lock(), dirs, "it is not too long");
        ledger.sweep(dirs.len() - 1, |dir| dir != Ino(2));
        assert_eq!(*ledger.queue.lock(), [Ino(1), Ino(3)]);
    }

    #[test]
    fn changes_of_a_branch_do_not_lengthen_the_queue_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let branches = vec![BranchSpec::new(dir.path(), Perm::Rw)];
        let union = Union::open(&MountSpec { branches, ..MountSpec::default() }).unwrap();
        drop(union.listed(&union.root).unwrap());
        for _ in 0..SHORT + 10 {
            union.branch_changed(0, Path::new("name")).unwrap();
        }
        let queue = union.ledger.queue.lock();
        assert!(queue.len() <= SHORT && queue.contains(&Ino::ROOT), "{} entries", queue.len());
    }
}
