//! readdir, without handles: a listing goes on after a cookie (`order.rs`), so that opening a directory needs no word
//! to the engine and the kernel may keep listings.

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::RwLockReadGuard;
use plyfs_sys::{Kind, Leaf, Obj};

use crate::attr::{Attr, DirEntry, Entry, Ino};
use crate::error::{Error, Refusal, Result};
use crate::ids::{self, RealId};
use crate::index::Line;
use crate::marks;
use crate::nodes::{DirState, Node};
use crate::resolve::Resolved;
use crate::union::{Union, index, index_mut};

const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

impl Union {
    /// Feeds `each` with the lines after `cookie` (0: from the start) until it breaks or the listing ends.
    pub fn list(
        &self,
        ino: Ino,
        cookie: u64,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let node = self.node(ino)?;
        if self.list_dots(&node, cookie, each).is_break() {
            return Ok(());
        }
        let state = self.listed_in_order(&node)?;
        let Some(index) = &state.index else { return Ok(()) };
        for (cookie, name, line, resolved) in index.after(cookie) {
            let known = line.node().and_then(|ino| self.nodes.get(ino).ok());
            let number = known.map_or_else(|| self.number_of(&node, name, &resolved), |node| Ok(node.number));
            let entry = DirEntry { name: name.as_os_str(), ino: number?, kind: resolved.kind, cookie };
            if each(entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The same with every line's node and attributes: each line that `each` continues from has raised its node's
    /// lookup count by one. `.` and `..` and a name that can't be looked up come without.
    pub fn list_plus(
        &self,
        ino: Ino,
        cookie: u64,
        fits: &dyn Fn(&OsStr) -> bool,
        each: &mut dyn FnMut(DirEntry<'_>, Option<Entry>) -> ControlFlow<()>,
    ) -> Result<()> {
        let node = self.node(ino)?;
        if self.list_dots(&node, cookie, &mut |entry| each(entry, None)).is_break() {
            return Ok(());
        }
        let state = self.listed_in_order(&node)?;
        let Some(index) = &state.index else { return Ok(()) };
        for (cookie, name, line, resolved) in index.after(cookie) {
            // Asked first, so that a line without room costs no look-up.
            if !fits(name.as_os_str()) {
                break;
            }
            let found = self.child_of_line(&node, name, line, &resolved);
            let number = match &found {
                Ok(Some((child, _))) => child.number,
                Ok(None) => continue,
                Err(_) => resolved.ino,
            };
            let entry = DirEntry { name: name.as_os_str(), ino: number, kind: resolved.kind, cookie };
            let found = found.ok().flatten().map(|(child, attr)| Entry { ino: child.ino, attr });
            if each(entry, found).is_break() {
                if let Some(found) = found {
                    self.forget(found.ino, 1);
                }
                break;
            }
        }
        Ok(())
    }

    /// A listed name's node with one reference more; `None` if it is gone by now.
    fn child_of_line(
        &self,
        parent: &Arc<Node>,
        name: &Leaf,
        line: &Line,
        resolved: &Resolved,
    ) -> Result<Option<(Arc<Node>, Attr)>> {
        match self.grab_line(parent, name, line, resolved) {
            Ok(found) => self.attr_of(found).map(Some),
            Err(Error::Stale) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn list_dots(
        &self,
        node: &Arc<Node>,
        cookie: u64,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let parent = node.link().map_or(node.number, |link| link.parent.number);
        for (at, name, ino) in [(DOT, ".", node.number), (DOT_DOT, "..", parent)] {
            if cookie < at {
                each(DirEntry { name: OsStr::new(name), ino, kind: Kind::Dir, cookie: at })?;
            }
        }
        ControlFlow::Continue(())
    }

    fn listed_in_order<'a>(&self, node: &'a Arc<Node>) -> Result<RwLockReadGuard<'a, DirState>> {
        let mut state = self.listed(node)?;
        if state.index.as_ref().is_some_and(|index| !index.is_ordered()) {
            drop(state);
            let mut changing = self.listed_mut(node)?;
            if !changing.removed {
                index_mut(&mut changing)?.put_in_order();
            }
            state = parking_lot::RwLockWriteGuard::downgrade(changing);
        }
        if !state.removed && !index(&state)?.unlisted().is_empty() {
            return Err(Refusal::Denied.into());
        }
        Ok(state)
    }

    /// Makes a directory durable on every writable branch that has it.
    pub fn fsync_dir(&self, ino: Ino, _data_only: bool) -> Result<()> {
        if self.volatile {
            return Ok(());
        }
        let node = self.node(ino)?;
        if let Some((branch, dir)) = node.as_dir()?.gone.read().clone() {
            return dir.fsync().map_err(|e| self.stack.branch(branch).blame(e));
        }
        let branches: Vec<u16> = node.as_dir()?.at.read().iter().map(|at| at.branch).collect();
        for branch in branches.into_iter().filter(|&b| self.stack.writable(b)) {
            self.dir(&node, branch)?.fsync().map_err(|e| self.stack.branch(branch).blame(e))?;
        }
        Ok(())
    }

    /// The `st_ino` of a child that is not known yet, from the branch's listing; where copies may be, from the copy.
    fn number_of(&self, parent: &Arc<Node>, name: &Leaf, resolved: &Resolved) -> Result<u64> {
        let branch = self.stack.branch(resolved.branch);
        if !marks::may_have_facts(branch) {
            return Ok(ids::number(&self.stack, RealId { dev: branch.dev, ino: resolved.ino }));
        }
        if let Some(known) = self.known_child(parent, name, resolved) {
            return Ok(ids::number(&self.stack, RealId::of(&known.stat)));
        }
        let dir = self.dir(parent, resolved.branch)?;
        let obj = Obj::At(&dir, name);
        let stat = obj.stat().map_err(|e| branch.blame(e))?;
        Ok(ids::number(&self.stack, ids::identity(&self.stack, branch, obj, &stat)?))
    }
}
