//! A branch was changed directly, by somebody else: what was read of it is read again, and the kernel is to forget
//! exactly what is no longer so.
//!
//! A union directory that was read is read again and compared: names that appeared, disappeared or mean another object
//! now are told, and so are the directory itself (its times, its cached listing) and, where asked for by its path, a
//! changed object. Nodes whose object is the same stay; others lose their name here and live on, as after unlink, for
//! those who have them open. A directory stays the same node while its topmost one is the same; what is below it is
//! compared in turn if any other is not.
//!
//! Not here: noticing changes, telling the kernel (`plyfs-fuse`), reading (`look.rs`).

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use plyfs_sys::{Kind, Leaf};

use crate::attr::Ino;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::look;
use crate::names::{self, Word};
use crate::nodes::{DirAt, DirState, HomeBy, Node, Place, Places};
use crate::resolve::{BranchIdx, Resolved, resolve};
use crate::union::{TRIES, Union, stand_back};

/// One thing for the kernel to forget.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stale {
    /// What it knows of a name, be it an object or that there is none.
    Entry {
        /// The directory.
        parent: Ino,
        /// The name in it.
        name: OsString,
    },
    /// Attributes of a node; with `data` also a file's pages, a symlink's text, a directory's listing.
    Node {
        /// The node.
        ino: Ino,
        /// See above.
        data: bool,
    },
}

/// What has been found so far, and directories still to be compared.
#[derive(Default)]
struct Work {
    stale: Vec<Stale>,
    dirs: Vec<Arc<Node>>,
}

impl Work {
    fn entry(&mut self, parent: &Node, name: &Leaf) {
        self.stale.push(Stale::Entry { parent: parent.ino, name: name.to_os_string() });
    }

    fn node(&mut self, node: &Node) {
        node.has_no_capability(false);
        self.stale.push(Stale::Node { ino: node.ino, data: true });
    }

    fn done(mut self) -> Vec<Stale> {
        self.stale.sort();
        self.stale.dedup();
        self.stale
    }
}

impl Union {
    /// Somebody changed `path` (from the root of branch number `branch`, 0 on top) directly in that branch: the entry of
    /// that name came, went or was replaced, or the object changed in place. A whiteout or an opaque mark has a path
    /// too; where a whole tree came or went, its top is enough. Gives what the kernel must forget, if it is told
    /// anything; from now on the union shows the branch as it is.
    pub fn branch_changed(&self, branch: usize, path: &Path) -> Result<Vec<Stale>> {
        let branch = BranchIdx::try_from(branch).ok().filter(|&b| usize::from(b) < self.stack.branches.len());
        let branch = branch.ok_or(crate::error::Refusal::Invalid)?;
        let leaves: Vec<Leaf> = path
            .components()
            .filter_map(|part| match part {
                std::path::Component::Normal(name) => Leaf::new(name),
                _ => None,
            })
            .collect();
        let _topology = self.renames.lock();
        self.stack.distrust_image(Some(branch), "one of its layers was changed");
        let mut work = Work::default();
        self.find_changed(branch, &leaves, &mut work)?;
        self.compare_all(&mut work)?;
        self.tell_object(branch, &leaves, &mut work)?;
        self.anchors.idle();
        Ok(work.done())
    }

    /// The same for everything known: nobody knows what was changed.
    pub fn refresh(&self) -> Result<Vec<Stale>> {
        let _topology = self.renames.lock();
        self.stack.distrust_image(None, "its layers may have been changed");
        let mut work = Work::default();
        self.anchors.idle();
        let mut dirs: Vec<(usize, Arc<Node>)> = self
            .nodes
            .all()
            .into_iter()
            .filter(|node| node.kind.is_dir())
            .map(|node| (depth(&node), node))
            .collect();
        // The last is compared first: what is above goes before what is below.
        dirs.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        work.dirs = dirs.into_iter().map(|(_, node)| node).collect();
        self.compare_all(&mut work)?;
        for node in self.nodes.all() {
            work.node(&node);
        }
        self.anchors.idle();
        Ok(work.done())
    }

    /// The union's directories that the change is in: those of its parent, or of the nearest one above that is known.
    fn find_changed(&self, branch: BranchIdx, leaves: &[Leaf], work: &mut Work) -> Result<()> {
        for end in (0..leaves.len().max(1)).rev() {
            let found = self.merged_with(branch, &leaves[..end.min(leaves.len())])?;
            if !found.is_empty() {
                work.dirs.extend(found);
                return Ok(());
            }
        }
        Ok(())
    }

    /// The union's directories that show a branch's directory. Redirects make this a search.
    fn merged_with(&self, branch: BranchIdx, leaves: &[Leaf]) -> Result<Vec<Arc<Node>>> {
        let mut found = Vec::new();
        let wanted: std::path::PathBuf =
            std::iter::once(std::ffi::OsStr::new("/")).chain(leaves.iter().map(Leaf::as_os_str)).collect();
        for node in self.nodes.all().into_iter().filter(|node| node.kind.is_dir()) {
            let Some(at) = node.at(branch)? else { continue };
            let name = node.link().map(|link| link.name);
            let maybe = matches!(at.place, Place::Path(_)) || name.as_ref() == leaves.last();
            if maybe && look::path_on(&node, branch)? == wanted {
                found.push(node);
            }
        }
        Ok(found)
    }

    fn compare_all(&self, work: &mut Work) -> Result<()> {
        while let Some(node) = work.dirs.pop() {
            let mut tries = 0;
            while let Err(error) = self.compare(&node, work) {
                tries += 1;
                // It goes on changing while it is read.
                if tries == TRIES || !is_passing(&error) {
                    return Err(error);
                }
                stand_back(tries);
            }
        }
        Ok(())
    }

    /// Reads a directory again and compares; what it finds goes to `work`.
    fn compare(&self, node: &Arc<Node>, work: &mut Work) -> Result<()> {
        let link = node.link();
        let parent = link.as_ref().map(|link| self.listed(&link.parent)).transpose()?;
        let base = match (&link, &parent) {
            (Some(link), Some(state)) => {
                let resolved = state.index.as_ref().and_then(|index| index.resolved(link.name.as_os_str()));
                // Renamed or removed meanwhile: through us, so the kernel knows.
                let Some(resolved) =
                    resolved.filter(|now| now.kind.is_dir() && node.has_link(&link.parent, &link.name))
                else {
                    return Ok(());
                };
                self.places(node, &resolved)?
            }
            _ if node.ino == Ino::ROOT => self.root_places(),
            // Removed; its users see it as it was.
            _ => return Ok(()),
        };
        let dir = node.as_dir()?;
        let mut state = dir.index.write();
        if state.removed {
            return Ok(());
        }
        work.node(node);
        let before = std::mem::replace(&mut *dir.at.write(), base.clone());
        if before.iter().any(|at| matches!(&at.place, Place::Path(path) if !path.is_empty())) {
            dir.redirected.store(true, Relaxed);
        }
        for at in before.iter().chain(&base) {
            self.anchors.forget(node, at.branch);
        }
        let Some(old) = state.index.take() else {
            if state.dropped {
                self.compare_dropped(node, &mut state, work)?;
            }
            return Ok(());
        };
        match look::fill(&self.stack, &self.anchors, node) {
            Ok((new, places)) => {
                *dir.at.write() = places;
                self.replace(node, &mut state, (old, new), work)
            }
            Err(error) => {
                // The next try compares with the same.
                (state.index, *dir.at.write()) = (Some(old), before);
                Err(error)
            }
        }
    }

    /// Where a directory lies, from its parent's listing: as for a new node (`ops/lookup.rs`).
    fn places(&self, node: &Node, resolved: &Resolved) -> Result<Places> {
        let old = node.as_dir()?.at.read().clone();
        let link = node.link();
        let stays = |branch, ino| old.iter().any(|at| at.branch == branch && at.ino == ino);
        let record = link.map(|link| self.stack.record_of(&link.parent, &link.name));
        let at = |&(branch, ino): &(BranchIdx, u64)| DirAt {
            branch,
            ino: if stays(branch, ino) { ino } else { 0 },
            place: Place::Named,
            record: record.as_ref().and_then(|record| record(branch)),
        };
        Ok(resolved.dirs.iter().map(at).collect())
    }

    fn root_places(&self) -> Places {
        let at = |branch: &crate::branch::Branch| DirAt {
            branch: branch.index,
            ino: 0,
            place: Place::Path(Arc::from([])),
            record: self.stack.root_record(branch.index),
        };
        self.stack.branches.iter().map(at).collect()
    }

    /// The index is not in memory: the kernel may know any name as absent, and the children set aside.
    fn compare_dropped(&self, node: &Arc<Node>, state: &mut DirState, work: &mut Work) -> Result<()> {
        let known = std::mem::take(&mut state.known);
        let filled = look::fill(&self.stack, &self.anchors, node);
        state.known = known;
        let (new, places) = filled?;
        *node.as_dir()?.at.write() = places;
        let mut old = Index::default();
        for (name, ino) in std::mem::take(&mut state.known) {
            old.add_known(name, ino);
        }
        self.replace(node, state, (old, new), work)
    }

    /// Compares name by name; the new index is in place afterwards.
    fn replace(
        &self,
        node: &Arc<Node>,
        state: &mut DirState,
        (old, mut new): (Index, Index),
        work: &mut Work,
    ) -> Result<()> {
        if !new.unlisted().is_empty() {
            for name in old.names() {
                look::ask_unlisted(&self.stack, &self.anchors, node, &mut new, name)?;
            }
        }
        let all = std::mem::take(&mut state.dropped);
        for name in old.names() {
            self.judge(node, name, &old, &mut new, work)?;
        }
        let mut fresh = HashSet::new();
        for (name, now) in new.visible() {
            let was = old.resolved(name.as_os_str());
            if all || was.is_none() {
                work.entry(node, name);
            }
            if now.kind != Kind::Dir && !was.is_some_and(|was| is_same(&was, &now)) {
                fresh.insert((now.branch, now.ino));
            }
        }
        self.expect_links(&fresh)?;
        new.join(self.book(node.ino));
        state.index = Some(new);
        Ok(())
    }

    /// Objects that may have been given one more name: should they be known by another, they must be found by it.
    fn expect_links(&self, fresh: &HashSet<(BranchIdx, u64)>) -> Result<()> {
        if fresh.is_empty() {
            return Ok(());
        }
        for node in
            self.nodes.all().into_iter().filter(|node| node.kind != Kind::Dir && node.link().is_some())
        {
            let state = node.as_other()?.state.read().clone();
            if fresh.contains(&(state.home.branch, state.home.real.ino)) {
                self.nodes.set_key(state.identity, &node);
            }
        }
        Ok(())
    }

    /// One name that was there.
    fn judge(
        &self,
        dir: &Arc<Node>,
        name: &Leaf,
        old: &Index,
        new: &mut Index,
        work: &mut Work,
    ) -> Result<()> {
        let Some(line) = old.line(name.as_os_str()) else { return Ok(()) };
        let (was, now) = (resolve(&line.seen), new.resolved(name.as_os_str()));
        let known = line.node().and_then(|ino| self.nodes.peek(ino)).filter(|node| node.has_link(dir, name));
        let same = match (&now, &known) {
            (None, None) => was.is_none(),
            (None, Some(_)) => false,
            (Some(now), None) => was.as_ref().is_some_and(|was| is_same(was, now)),
            (Some(now), Some(node)) => self.is_still(node, was.as_ref(), now)?,
        };
        if !same {
            work.entry(dir, name);
        }
        let Some(node) = known else { return Ok(()) };
        if !same {
            return self.detach(&node, dir, name);
        }
        new.set_node(name.as_os_str(), Some(node.ino));
        if was != now && node.kind.is_dir() {
            work.dirs.push(node);
        }
        Ok(())
    }

    /// Is `node` the object that the name means now? `was`: what it meant, if that is known.
    fn is_still(&self, node: &Node, was: Option<&Resolved>, now: &Resolved) -> Result<bool> {
        if node.kind != now.kind {
            return Ok(false);
        }
        if let Some(was) = was {
            return Ok(is_same(was, now));
        }
        if node.kind.is_dir() {
            let top = node.as_dir()?.at.read().first().cloned();
            return Ok(top.is_some_and(|at| at.branch == now.branch && (at.ino == 0 || at.ino == now.ino)));
        }
        let home = node.as_other()?.state.read().home.clone();
        let by_name = matches!(home.by, HomeBy::Name);
        Ok(!by_name || home.branch == now.branch && home.real.ino == now.ino)
    }

    /// The object under this name is gone from the union. The directory's index lock is held.
    fn detach(&self, node: &Arc<Node>, parent: &Arc<Node>, name: &Leaf) -> Result<()> {
        if let Ok(dir) = node.as_dir() {
            let top = dir.at.read().first().map(|at| at.branch);
            let last = top.and_then(|top| self.anchors.kept(node, top).map(|dir| (top, dir)));
            let mut state = dir.index.write();
            let mut inside = state.index.take().map(|index| self.living(node, &index)).unwrap_or_default();
            inside.append(&mut state.known);
            for (name, ino) in inside {
                if let Some(child) = self.nodes.peek(ino) {
                    self.detach(&child, node, &name)?;
                }
            }
            (state.removed, state.dropped) = (true, false);
            for at in dir.at.read().iter() {
                self.anchors.forget(node, at.branch);
            }
            *dir.gone.write() = last;
        } else {
            self.hold_open(node)?;
        }
        self.nodes.unlink(node, parent, name);
        Ok(())
    }

    /// A file that loses its last name stays reachable for who has it open.
    fn hold_open(&self, node: &Arc<Node>) -> Result<()> {
        if node.links().len() > 1 {
            return Ok(());
        }
        self.nodes.forget_key(node);
        let opened = node.opened()?.or_else(|| {
            let open = self.files.find(|handle| handle.node.ino == node.ino)?;
            open.backing.read().as_ref().map(|backing| backing.file.clone())
        });
        let mut state = node.as_other()?.state.write();
        if let (Some(file), HomeBy::Name) = (opened, &state.home.by) {
            state.home.by = HomeBy::Held(file);
        }
        Ok(())
    }

    /// The object itself, if it is shown: its attributes and data. A directory's entries may have changed too.
    fn tell_object(&self, branch: BranchIdx, leaves: &[Leaf], work: &mut Work) -> Result<()> {
        let dirs = self.merged_with(branch, leaves)?;
        if !dirs.is_empty() {
            work.dirs.extend(dirs);
            return self.compare_all(work);
        }
        let Some((last, above)) = leaves.split_last() else { return Ok(()) };
        if !matches!(names::word(last), Word::Plain) {
            return Ok(());
        }
        for parent in self.merged_with(branch, above)? {
            let state = parent.as_dir()?.index.read();
            let children = match &state.index {
                Some(index) => index.line(last.as_os_str()).and_then(|line| line.node()),
                None => state.known.iter().find(|(name, _)| name == last).map(|(_, ino)| *ino),
            };
            if let Some(node) = children.and_then(|ino| self.nodes.peek(ino))
                && node.kind != Kind::Dir
            {
                work.node(&node);
            }
        }
        Ok(())
    }
}

/// Do two answers mean one object? A directory is what its top is: from there come its number and attributes.
fn is_same(was: &Resolved, now: &Resolved) -> bool {
    was.kind == now.kind && (was.branch, was.ino) == (now.branch, now.ino)
}

fn depth(node: &Arc<Node>) -> usize {
    std::iter::successors(node.link(), |link| link.parent.link()).count()
}

/// Errors of reading what is being changed.
fn is_passing(error: &Error) -> bool {
    use plyfs_sys::Errno;
    matches!(error, Error::Stale)
        || matches!(error, Error::Sys { source, .. } if matches!(source.errno(), Errno::NOENT | Errno::NOTDIR | Errno::STALE))
}
