//! opendir, readdir, releasedir: the merged listing, as it was when the directory was opened or rewound.

use std::ffi::OsString;
use std::sync::Arc;

use parking_lot::RwLock;
use plyfs_sys::{Kind, Leaf, Obj};
use smallvec::SmallVec;

use crate::attr::{DirEntry, Fh, Ino};
use crate::error::{Refusal, Result};
use crate::handles::DirHandle;
use crate::ids::{self, RealId};
use crate::marks;
use crate::nodes::Node;
use crate::resolve::Resolved;
use crate::union::Union;

impl Union {
    /// Opens a directory and takes its listing.
    pub fn open_dir(&self, ino: Ino) -> Result<Fh> {
        let node = self.node(ino)?;
        let entries = self.listing(&node)?;
        node.refer();
        Ok(self.dirs.insert(DirHandle { node, entries: RwLock::new(entries) }))
    }

    /// Entry number `index` of the listing; `None` past its end.
    pub fn dir_entry(&self, fh: Fh, index: u64) -> Result<Option<DirEntry>> {
        let handle = self.dirs.get(fh)?;
        let entry = handle.entries.read().get(usize::try_from(index).unwrap_or(usize::MAX)).cloned();
        Ok(entry)
    }

    /// Takes the listing anew (POSIX rewinddir).
    pub fn dir_rewind(&self, fh: Fh) -> Result<()> {
        let handle = self.dirs.get(fh)?;
        let entries = self.listing(&handle.node)?;
        *handle.entries.write() = entries;
        Ok(())
    }

    /// Closes a directory.
    pub fn release_dir(&self, fh: Fh) {
        if let Some(handle) = self.dirs.remove(fh) {
            self.nodes.put(&handle.node, 1);
        }
    }

    /// Makes a directory durable on every writable branch that has it.
    pub fn fsync_dir(&self, fh: Fh, _data_only: bool) -> Result<()> {
        if self.volatile {
            return Ok(());
        }
        let node = self.dirs.get(fh)?.node.clone();
        if let Some((branch, dir)) = node.as_dir()?.gone.read().clone() {
            return dir.fsync().map_err(|e| self.stack.branch(branch).blame(e));
        }
        let branches: Vec<u16> = node.as_dir()?.at.read().iter().map(|at| at.branch).collect();
        for branch in branches.into_iter().filter(|&b| self.stack.writable(b)) {
            self.dir(&node, branch)?.fsync().map_err(|e| self.stack.branch(branch).blame(e))?;
        }
        Ok(())
    }

    fn listing(&self, node: &Arc<Node>) -> Result<SmallVec<[DirEntry; 0]>> {
        let state = self.listed(node)?;
        let mut entries = SmallVec::new();
        let parent = node.link().map_or(node.number, |link| link.parent.number);
        for (name, ino) in [(".", node.number), ("..", parent)] {
            entries.push(DirEntry { name: OsString::from(name), ino, kind: Kind::Dir });
        }
        if let Some(index) = &state.index {
            if !index.unlisted().is_empty() {
                return Err(Refusal::Denied.into());
            }
            for (name, resolved) in index.visible() {
                let known = index.line(name.as_os_str()).and_then(crate::index::Line::node);
                let number = known.and_then(|ino| self.nodes.get(ino).ok()).map(|node| node.number);
                let ino = match number {
                    Some(number) => number,
                    None => self.number_of(node, name, &resolved)?,
                };
                entries.push(DirEntry { name: name.to_os_string(), ino, kind: resolved.kind });
            }
        }
        Ok(entries)
    }

    /// The `st_ino` of a child that is not known yet, from the branch's listing; where copies may be, from the copy.
    fn number_of(&self, parent: &Arc<Node>, name: &Leaf, resolved: &Resolved) -> Result<u64> {
        let branch = self.stack.branch(resolved.branch);
        if !marks::may_have_facts(branch) {
            return Ok(ids::number(&self.stack, RealId { dev: branch.dev, ino: resolved.ino }));
        }
        let dir = self.dir(parent, resolved.branch)?;
        let obj = Obj::At(&dir, name);
        let stat = obj.stat().map_err(|e| branch.blame(e))?;
        Ok(ids::number(&self.stack, ids::identity(&self.stack, branch, obj, &stat)?))
    }
}
