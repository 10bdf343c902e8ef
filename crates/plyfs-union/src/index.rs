//! `Index`: one directory of the union, merged once (design D6): every name with what each branch has under it.
//!
//! A lookup is one probe; a miss asks no branch. The index is kept right by the operations themselves, under the
//! directory's lock. Filling it from the branches: `look.rs`.

use std::collections::hash_map::Entry as Slot;
use std::ffi::OsStr;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::HashMap;

use plyfs_sys::{Kind, Leaf};

use crate::attr::Ino;
use crate::ledger::Share;
use crate::order::Order;
use crate::resolve::{BranchIdx, Found, Resolved, Seen, Sightings, resolve, update};

/// One name.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) seen: Sightings,
    /// The node last known under this name; 0 for none. May name a node that is gone.
    node: AtomicU64,
}

impl Line {
    pub(crate) fn node(&self) -> Option<Ino> {
        match self.node.load(Ordering::Acquire) {
            0 => None,
            ino => Some(Ino(ino)),
        }
    }

    /// Replaces the remembered node unless somebody else did since `old` was read.
    pub(crate) fn remember(&self, old: Option<Ino>, new: Ino) -> Result<(), Ino> {
        let old = old.map_or(0, |ino| ino.0);
        match self.node.compare_exchange(old, new.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(other) => Err(Ino(other)),
        }
    }
}

/// All names of one directory.
#[derive(Debug, Default)]
pub(crate) struct Index {
    lines: HashMap<Leaf, Line>,
    /// Branches whose directory we may pass through but not list (an ordinary user, mode 0711): names there are
    /// asked for one by one.
    unlisted: Vec<BranchIdx>,
    /// Visible subdirectories: the directory's link count is two more (POSIX).
    subdirs: u32,
    /// Once somebody has listed the directory.
    order: Option<Order>,
    /// What it costs (`ledger.rs`).
    share: Share,
}

impl Index {
    pub(crate) fn line(&self, name: &OsStr) -> Option<&Line> {
        self.lines.get(name)
    }

    /// What each branch has under `name`.
    pub(crate) fn seen(&self, name: &OsStr) -> &[Seen] {
        self.lines.get(name).map_or(&[], |line| &line.seen)
    }

    /// The same, to be kept while the index changes.
    pub(crate) fn sightings(&self, name: &OsStr) -> Sightings {
        self.lines.get(name).map(|line| line.seen.clone()).unwrap_or_default()
    }

    pub(crate) fn resolved(&self, name: &OsStr) -> Option<Resolved> {
        resolve(self.seen(name))
    }

    /// Has [`Index::after`] an order to go by?
    pub(crate) fn is_ordered(&self) -> bool {
        self.order.is_some()
    }

    /// Gives the names an order, kept from now on.
    pub(crate) fn put_in_order(&mut self) {
        let lines = &self.lines;
        self.order.get_or_insert_with(|| Order::of(lines.keys()));
    }

    /// Visible names that come after `cookie`, each with its own cookie; nothing unless ordered.
    pub(crate) fn after(&self, cookie: u64) -> impl Iterator<Item = (u64, &Leaf, &Line, Resolved)> {
        self.order.iter().flat_map(move |order| order.after(cookie)).filter_map(|(cookie, name)| {
            let line = self.lines.get(name)?;
            resolve(&line.seen).map(|resolved| (cookie, name, line, resolved))
        })
    }

    /// Visible names with their answers, in no order.
    pub(crate) fn visible(&self) -> impl Iterator<Item = (&Leaf, Resolved)> {
        self.lines.iter().filter_map(|(name, line)| resolve(&line.seen).map(|r| (name, r)))
    }

    /// Does nothing show?
    pub(crate) fn is_empty(&self) -> bool {
        self.visible().next().is_none()
    }

    /// Does a visible name lie on a branch of this kind, shown or covered?
    pub(crate) fn visible_on(&self, branch: impl Fn(BranchIdx) -> bool) -> bool {
        let lies_there = |line: &Line| line.seen.iter().any(|one| one.found.is_some() && branch(one.branch));
        self.visible().any(|(name, _)| self.line(name.as_os_str()).is_some_and(lies_there))
    }

    pub(crate) fn subdirs(&self) -> u32 {
        self.subdirs
    }

    /// While filling: branches come top first.
    pub(crate) fn add(&mut self, name: Leaf, branch: BranchIdx, change: impl FnOnce(&mut Seen)) {
        update(&mut self.lines.entry(name).or_default().seen, branch, change);
    }

    /// What branches below all that were added have under a name, top first.
    pub(crate) fn add_below(&mut self, name: Leaf, seen: Sightings) {
        match self.lines.entry(name) {
            Slot::Occupied(mut slot) => slot.get_mut().seen.extend(seen),
            Slot::Vacant(slot) => {
                slot.insert(Line { seen, ..Line::default() });
            }
        }
    }

    /// The branch's directory can't be listed.
    pub(crate) fn add_unlisted(&mut self, branch: BranchIdx) {
        self.unlisted.push(branch);
    }

    /// Branches to be asked for names that are not known yet.
    pub(crate) fn unlisted(&self) -> &[BranchIdx] {
        &self.unlisted
    }

    /// After filling.
    pub(crate) fn filled(&mut self) {
        self.lines.retain(|_, line| !line.seen.is_empty());
        self.subdirs = self.visible().filter(|(_, r)| r.kind == Kind::Dir).count() as u32;
        self.share.set(self.lines.len());
    }

    /// From now on its lines count.
    pub(crate) fn join(&mut self, share: Share) {
        self.share = share;
        self.share.set(self.lines.len());
    }

    /// Names whose node is remembered.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&Leaf, Ino)> {
        self.lines.iter().filter_map(|(name, line)| line.node().map(|ino| (name, ino)))
    }

    /// Before anything is known of a name but its node.
    pub(crate) fn add_known(&mut self, name: Leaf, node: Ino) {
        self.lines.entry(name).or_default().node = AtomicU64::new(node.0);
    }

    /// Every name, visible or not.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Leaf> {
        self.lines.keys()
    }

    /// Tells the index what an operation did to `name` on `branch`.
    pub(crate) fn change(&mut self, name: &Leaf, branch: BranchIdx, change: impl FnOnce(&mut Seen)) {
        let mut slot = match self.lines.entry(name.clone()) {
            Slot::Occupied(slot) => slot,
            Slot::Vacant(slot) => {
                if let Some(order) = &mut self.order {
                    order.add(name);
                }
                slot.insert_entry(Line::default())
            }
        };
        let was_dir = is_dir(&slot.get().seen);
        update(&mut slot.get_mut().seen, branch, change);
        let is_dir = is_dir(&slot.get().seen);
        if slot.get().seen.is_empty() {
            slot.remove();
            if let Some(order) = &mut self.order {
                order.remove(name);
            }
        }
        self.subdirs = self.subdirs + u32::from(is_dir) - u32::from(was_dir);
        self.share.set(self.lines.len());
    }

    /// The name now means another node (or, with `None`, none that is known).
    pub(crate) fn set_node(&mut self, name: &OsStr, node: Option<Ino>) {
        if let Some(line) = self.lines.get_mut(name) {
            line.node = AtomicU64::new(node.map_or(0, |ino| ino.0));
        }
    }
}

fn is_dir(seen: &[Seen]) -> bool {
    resolve(seen).is_some_and(|r| r.kind == Kind::Dir)
}

/// The entry `found` on a branch, in the words of [`Index::change`].
pub(crate) fn put(kind: Kind, ino: u64) -> impl FnOnce(&mut Seen) {
    move |seen| seen.found = Some(Found { kind, ino })
}

/// The entry is gone.
pub(crate) fn take(seen: &mut Seen) {
    seen.found = None;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subdirs_are_counted_through_changes() {
        let name = Leaf::new(OsStr::new("d")).unwrap();
        let mut index = Index::default();
        index.add(name.clone(), 1, put(Kind::Dir, 7));
        index.filled();
        assert_eq!(index.subdirs(), 1);
        index.change(&name, 0, |seen| seen.whiteout = true);
        assert_eq!(index.subdirs(), 0);
        assert!(index.is_empty() && index.resolved(name.as_os_str()).is_none());
        index.change(&name, 0, put(Kind::Dir, 9));
        assert_eq!(index.subdirs(), 1);
        index.change(&name, 0, |seen| seen.whiteout = false);
        assert_eq!(index.resolved(name.as_os_str()).unwrap().dirs.len(), 2);
        index.change(&name, 0, take);
        index.change(&name, 1, take);
        assert_eq!((index.subdirs(), index.line(name.as_os_str()).is_none()), (0, true));
    }
}
