//! lookup and forget: from a name to a node. One probe of the index; a miss asks no branch.

use std::ffi::OsStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use plyfs_sys::{Kind, Leaf};

use crate::attr::{Attr, Entry, Ino};
use crate::error::{Error, Refusal, Result};
use crate::ids::{self, RealId};
use crate::image::Sight;
use crate::index::Line;
use crate::look;
use crate::marks::{self, Fact};
use crate::names::BadName;
use crate::nodes::{DirAt, Home, HomeBy, Link, Node, OtherState, Place, Spot, SpotBy};
use crate::resolve::{Resolved, resolve};
use crate::union::{TRIES, Union, stand_back};

/// A node with one reference more.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) node: Arc<Node>,
    /// What serves it and its attributes, if it was looked at for this.
    pub(crate) seen: Option<Sight>,
}

impl Union {
    /// The node under `name`; `None` if there is none. Reserved names are absent.
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Option<Entry>> {
        let name = match crate::names::Name::new(name, self.strict) {
            Ok(name) => name,
            Err(BadName::Reserved) => return Ok(None),
            Err(bad) => return Err(bad.into()),
        };
        let parent = self.node(parent)?;
        let Some(found) = self.find_child(&parent, name.leaf())? else { return Ok(None) };
        let (node, attr) = self.attr_of(found)?;
        Ok(Some(Entry { ino: node.ino, attr }))
    }

    /// The attributes of a node just found, from what was seen then if it serves. Gives the reference back on failure.
    pub(crate) fn attr_of(&self, found: Found) -> Result<(Arc<Node>, Attr)> {
        let Found { node, seen } = found;
        let attr = match seen {
            Some(Sight::Seen(spot, stat)) => self.attr(&node, &spot, &stat),
            Some(Sight::Known(known)) => {
                self.attr_known(&node, &known).unwrap_or_else(|| self.attr_now(&node))
            }
            None => self.attr_now(&node),
        };
        match attr {
            Ok(attr) => Ok((node, attr)),
            Err(e) => {
                self.nodes.put(&node, 1);
                Err(e)
            }
        }
    }

    /// The kernel gives back `count` lookups.
    pub fn forget(&self, ino: Ino, count: u64) {
        if let Ok(node) = self.nodes.get(ino) {
            self.nodes.put(&node, count);
        }
    }

    /// The attributes of a node that the caller holds a reference to.
    pub(crate) fn entry(&self, node: &Arc<Node>) -> Result<Entry> {
        Ok(Entry { ino: node.ino, attr: self.attr_now(node)? })
    }

    /// The child node with one reference more. No index lock may be held.
    pub(crate) fn grab_child(&self, parent: &Arc<Node>, name: &Leaf) -> Result<Option<Arc<Node>>> {
        Ok(self.find_child(parent, name)?.map(|found| found.node))
    }

    fn find_child(&self, parent: &Arc<Node>, name: &Leaf) -> Result<Option<Found>> {
        let mut asked = false;
        for tries in 0..TRIES {
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
            drop(state);
            stand_back(tries);
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
    ) -> Result<Found> {
        let known = line.node();
        if let Some(node) = known.and_then(|ino| self.nodes.grab(ino)) {
            return Ok(Found { node, seen: None });
        }
        let found = self.new_child(parent, name, resolved)?;
        match line.remember(known, found.node.ino) {
            Ok(()) => Ok(found),
            // Somebody else was faster; theirs is the node.
            Err(other) => {
                self.nodes.put(&found.node, 1);
                let node = self.nodes.grab(other).ok_or(Error::Stale)?;
                Ok(Found { node, seen: None })
            }
        }
    }

    fn new_child(&self, parent: &Arc<Node>, name: &Leaf, resolved: &Resolved) -> Result<Found> {
        let (sight, (identity, bare)) = match self.known_child(parent, name, resolved) {
            Some(known) => {
                let own = RealId::of(&known.stat);
                (Sight::Known(known), (own, false))
            }
            None => self.look_at_child(parent, name, resolved)?,
        };
        let link = Link { parent: parent.clone(), name: name.clone() };
        if resolved.kind.is_dir() {
            let node = self.new_dir(link, resolved, &sight, identity)?;
            return Ok(Found { node, seen: Some(sight) });
        }
        let node = self.new_other(link, resolved.branch, (&sight, bare), identity)?;
        // Another name of a file that was copied up is served from elsewhere.
        let state = node.as_other()?.state.read();
        let here = state.home.real == RealId::of(sight.stat());
        drop(state);
        Ok(Found { node, seen: here.then_some(sight) })
    }

    /// The object itself, and what [`ids::origin`] says of it.
    fn look_at_child(
        &self,
        parent: &Arc<Node>,
        name: &Leaf,
        resolved: &Resolved,
    ) -> Result<(Sight, (RealId, bool))> {
        let branch = self.stack.branch(resolved.branch);
        let spot =
            Spot { branch: branch.index, by: SpotBy::At(self.dir(parent, resolved.branch)?, name.clone()) };
        let stat = spot.obj().stat().map_err(|e| branch.blame(e))?;
        if stat.kind != resolved.kind {
            return Err(Error::Stale);
        }
        let origin = ids::origin(&self.stack, branch, spot.obj(), &stat)?;
        Ok((Sight::Seen(spot, stat), origin))
    }

    fn new_dir(&self, link: Link, resolved: &Resolved, sight: &Sight, identity: RealId) -> Result<Arc<Node>> {
        let top = resolved.branch;
        let record = self.stack.record_of(&link.parent, &link.name);
        let at = |&(branch, _): &(u16, u64)| DirAt {
            branch,
            ino: if branch == top { sight.stat().ino } else { 0 },
            place: Place::Named,
            record: record(branch),
        };
        let places = resolved.dirs.iter().map(at).collect();
        let number = ids::number(&self.stack, identity);
        let node = Node::dir(self.nodes.fresh(), number, places, Some(link));
        // What is known from the index has no facts that count.
        if let Sight::Seen(spot, _) = sight
            && marks::fact(self.stack.branch(top), spot.obj(), Fact::Redirect)?.is_some()
        {
            node.as_dir()?.redirected.store(true, Ordering::Relaxed);
        }
        Ok(self.nodes.insert(node))
    }

    /// A node for a non-directory: hard links of one file are one node, also when only one of them was copied up.
    fn new_other(
        &self,
        link: Link,
        branch: u16,
        (sight, bare): (&Sight, bool),
        identity: RealId,
    ) -> Result<Arc<Node>> {
        let stat = sight.stat();
        // Two names below of one file come apart at copy-up with `noplink`: then they are two from the start.
        let apart = self.noplink && !self.stack.writable(branch);
        let linked = !apart && (stat.nlink > 1 || !self.plinks.is_empty()) && stat.kind != Kind::Dir;
        let own = Home { branch, real: RealId::of(stat), by: HomeBy::Name };
        let home = self.home_of(identity, linked, own);
        if linked && let Some(node) = self.nodes.grab_key(identity) {
            self.found_again(&node, &link, home)?;
            return Ok(node);
        }
        let number = ids::number(&self.stack, identity);
        let whole = sight.is_plain() && matches!(home.by, HomeBy::Name);
        let data = if whole { None } else { self.data_of(&home, &link, (stat, bare))? };
        let state = OtherState { home: home.clone(), identity, generation: 0, data, opened: Weak::new() };
        let node = Node::other(self.nodes.fresh(), stat.kind, number, state, None);
        let node = if linked { self.nodes.insert_linked(identity, node) } else { self.nodes.insert(node) };
        self.found_again(&node, &link, home)?;
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

    /// A name of a known file; one that was reachable by a descriptor alone has a name again. Gives the reference back
    /// if it was left behind just now.
    fn found_again(&self, node: &Arc<Node>, link: &Link, home: Home) -> Result<()> {
        if !node.add_link(&link.parent, &link.name) {
            self.nodes.put(node, 1);
            return Err(Error::Stale);
        }
        if let Ok(other) = node.as_other() {
            let mut state = other.state.write();
            let held = matches!(state.home.by, HomeBy::Held(_)) && node.successor().is_none();
            if held && state.home.real == home.real && state.home.branch == home.branch {
                state.home.by = home.by;
            }
        }
        Ok(())
    }

    /// The child, which must be there, with one reference more.
    pub(crate) fn grab_existing(&self, parent: &Arc<Node>, name: &Leaf) -> Result<Arc<Node>> {
        self.grab_child(parent, name)?.ok_or(Refusal::Absent.into())
    }
}
