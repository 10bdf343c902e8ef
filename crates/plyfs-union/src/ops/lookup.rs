//! lookup and forget: from a name to a node. One probe of the index; a miss asks no branch.

use std::ffi::OsStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use plyfs_sys::{Kind, Leaf, Obj, Stat};

use crate::attr::{Entry, Ino};
use crate::error::{Error, Refusal, Result};
use crate::ids::{self, RealId};
use crate::index::Line;
use crate::look;
use crate::marks::{self, Fact};
use crate::names::BadName;
use crate::nodes::{DirAt, Home, HomeBy, Link, Node, OtherState, Place};
use crate::resolve::{Resolved, resolve};
use crate::union::{TRIES, Union};

impl Union {
    /// The node under `name`; `None` if there is none. Reserved names are absent.
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Option<Entry>> {
        let name = match crate::names::Name::new(name, self.strict) {
            Ok(name) => name,
            Err(BadName::Reserved) => return Ok(None),
            Err(bad) => return Err(bad.into()),
        };
        let parent = self.node(parent)?;
        let Some(node) = self.grab_child(&parent, name.leaf())? else { return Ok(None) };
        self.entry(&node).map(Some).inspect_err(|_| self.nodes.put(&node, 1))
    }

    /// The kernel gives back `count` lookups.
    pub fn forget(&self, ino: Ino, count: u64) {
        if let Ok(node) = self.nodes.get(ino) {
            self.nodes.put(&node, count);
        }
    }

    /// The attributes of a node that the caller holds a reference to.
    pub(crate) fn entry(&self, node: &Arc<Node>) -> Result<Entry> {
        let (spot, stat) = self.spot(node)?;
        Ok(Entry { ino: node.ino, attr: self.attr(node, &spot, &stat)? })
    }

    /// The child node with one reference more. No index lock may be held.
    pub(crate) fn grab_child(&self, parent: &Arc<Node>, name: &Leaf) -> Result<Option<Arc<Node>>> {
        let mut asked = false;
        for _ in 0..TRIES {
            let state = self.listed(parent)?;
            let Some(index) = &state.index else { return Ok(None) };
            if !asked && !index.unlisted().is_empty() && index.line(name.as_os_str()).is_none() {
                drop(state);
                self.ask_unlisted(parent, name)?;
                asked = true;
                continue;
            }
            let Some(line) = index.line(name.as_os_str()) else { return Ok(None) };
            let Some(resolved) = resolve(&line.seen) else { return Ok(None) };
            match self.grab_line(parent, name, line, &resolved) {
                Err(Error::Stale) => {}
                found => return found.map(Some),
            }
        }
        Err(Error::Stale)
    }

    /// Branches that can't be listed are asked about this one name.
    fn ask_unlisted(&self, parent: &Arc<Node>, name: &Leaf) -> Result<()> {
        let mut state = self.listed_mut(parent)?;
        let Some(index) = &mut state.index else { return Ok(()) };
        look::ask_unlisted(&self.stack, &self.anchors, parent, index, name)
    }

    /// The node of a visible line: the one remembered, or a new one.
    pub(crate) fn grab_line(
        &self,
        parent: &Arc<Node>,
        name: &Leaf,
        line: &Line,
        resolved: &Resolved,
    ) -> Result<Arc<Node>> {
        let known = line.node();
        if let Some(node) = known.and_then(|ino| self.nodes.grab(ino)) {
            return Ok(node);
        }
        let node = self.new_child(parent, name, resolved)?;
        match line.remember(known, node.ino) {
            Ok(()) => Ok(node),
            // Somebody else was faster; theirs is the node.
            Err(other) => {
                self.nodes.put(&node, 1);
                self.nodes.grab(other).ok_or(Error::Stale)
            }
        }
    }

    fn new_child(&self, parent: &Arc<Node>, name: &Leaf, resolved: &Resolved) -> Result<Arc<Node>> {
        let branch = self.stack.branch(resolved.branch);
        let dir = self.dir(parent, resolved.branch)?;
        let obj = Obj::At(&dir, name);
        let stat = obj.stat().map_err(|e| branch.blame(e))?;
        if stat.kind != resolved.kind {
            return Err(Error::Stale);
        }
        let (identity, bare) = ids::origin(&self.stack, branch, obj, &stat)?;
        let link = Link { parent: parent.clone(), name: name.clone() };
        if stat.kind.is_dir() {
            let top = resolved.branch;
            let at = |&(branch, _): &(u16, u64)| DirAt {
                branch,
                ino: if branch == top { stat.ino } else { 0 },
                place: Place::Named,
            };
            let places = resolved.dirs.iter().map(at).collect();
            let number = ids::number(&self.stack, identity);
            let node = Node::dir(self.nodes.fresh(), number, places, Some(link));
            if marks::fact(branch, obj, Fact::Redirect)?.is_some() {
                node.as_dir()?.redirected.store(true, Ordering::Relaxed);
            }
            return Ok(self.nodes.insert(node));
        }
        self.new_other(link, resolved.branch, (&stat, bare), identity)
    }

    /// A node for a non-directory: hard links of one file are one node, also when only one of them was copied up.
    fn new_other(
        &self,
        link: Link,
        branch: u16,
        (stat, bare): (&Stat, bool),
        identity: RealId,
    ) -> Result<Arc<Node>> {
        // Two names below of one file come apart at copy-up with `noplink`: then they are two from the start.
        let apart = self.noplink && !self.stack.writable(branch);
        let linked = !apart && (stat.nlink > 1 || !self.plinks.is_empty()) && stat.kind != Kind::Dir;
        let own = Home { branch, real: RealId::of(stat), by: HomeBy::Name };
        let home = self.home_of(identity, linked, own);
        if linked && let Some(node) = self.nodes.grab_key(identity) {
            self.found_again(&node, &link, home);
            return Ok(node);
        }
        let number = ids::number(&self.stack, identity);
        let data = self.data_of(&home, &link, (stat, bare))?;
        let state = OtherState { home: home.clone(), identity, generation: 0, data, opened: Weak::new() };
        let node = Node::other(self.nodes.fresh(), stat.kind, number, state, None);
        let node = if linked { self.nodes.insert_linked(identity, node) } else { self.nodes.insert(node) };
        self.found_again(&node, &link, home);
        Ok(node)
    }

    fn home_of(&self, identity: RealId, linked: bool, own: Home) -> Home {
        match self.plinks.find(identity) {
            Some(plink) if linked => {
                Home { branch: plink.branch, real: plink.real, by: HomeBy::Plink(plink.leaf) }
            }
            Some(_) | None => own,
        }
    }

    /// A name of a known file; one that was reachable by a descriptor alone has a name again.
    fn found_again(&self, node: &Arc<Node>, link: &Link, home: Home) {
        node.add_link(&link.parent, &link.name);
        if let Ok(other) = node.as_other() {
            let mut state = other.state.write();
            let held = matches!(state.home.by, HomeBy::Held(_));
            if held && state.home.real == home.real && state.home.branch == home.branch {
                state.home.by = home.by;
            }
        }
    }

    /// The child, which must be there, with one reference more.
    pub(crate) fn grab_existing(&self, parent: &Arc<Node>, name: &Leaf) -> Result<Arc<Node>> {
        self.grab_child(parent, name)?.ok_or(Refusal::Absent.into())
    }
}
