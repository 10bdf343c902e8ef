//! open, release, and the descriptor behind a handle.

use std::fs::File;
use std::sync::Arc;

use parking_lot::RwLock;
use std::os::fd::AsFd;

use plyfs_sys::{Access, Errno, Kind, Obj};

use crate::attr::{Fh, Ino, OpenHow};
use crate::error::{Error, Refusal, Result};
use crate::handles::{Backing, FileHandle};
use crate::ids::RealId;
use crate::nodes::{HomeBy, Node};
use crate::ops::complete::Need;
use crate::ops::setattr::kill_set_ids;
use crate::policy;
use crate::union::{TRIES, Union};

impl Union {
    /// Opens a regular file. For writing only a writable branch must be in reach: the copy comes with the first
    /// write (aufs.5), and O_TRUNC copies nothing.
    pub fn open_file(&self, ino: Ino, how: OpenHow) -> Result<Fh> {
        let node = self.node(ino)?;
        if node.kind != Kind::File {
            return Err(if node.kind.is_dir() { Refusal::IsADirectory } else { Refusal::Invalid }.into());
        }
        if how.write {
            self.check_writable(&node)?;
        }
        if how.truncate && how.write {
            self.copy_up(&node, Need::First(0))?;
            let backing = self.open_backing(&node, true)?;
            plyfs_sys::file::truncate(&backing.file, 0)?;
            if how.kill_suidgid {
                let obj = Obj::Fd(backing.file.as_fd());
                kill_set_ids(obj, &obj.stat()?)?;
            }
        }
        let write = how.write && !self.lacks_data(&node)?;
        let backing = self.open_backing(&node, write)?;
        Ok(self.new_handle(node, how, backing))
    }

    pub(crate) fn new_handle(&self, node: Arc<Node>, how: OpenHow, backing: Backing) -> Fh {
        node.refer();
        let handle = FileHandle { node, read: how.read, write: how.write, backing: RwLock::new(backing) };
        self.files.insert(handle)
    }

    /// Closes a file.
    pub fn release(&self, fh: Fh) {
        if let Some(handle) = self.files.remove(fh) {
            self.nodes.put(&handle.node, 1);
        }
    }

    fn check_writable(&self, node: &Arc<Node>) -> Result<()> {
        let home = node.as_other()?.state.read().home.clone();
        if self.stack.writable(home.branch) {
            return Ok(());
        }
        let parent = match (&home.by, node.link()) {
            (HomeBy::Name | HomeBy::Plink(_), Some(link)) => link.parent,
            (_, None) | (HomeBy::Held(_), _) => self.root.clone(),
        };
        let places = parent.as_dir()?.at.read().clone();
        policy::for_copy(&self.usable(&[&parent]), &places, home.branch)?;
        Ok(())
    }

    /// Opens the file that has the data now; a copy that is to be written gets its data first.
    pub(crate) fn open_backing(&self, node: &Arc<Node>, write: bool) -> Result<Backing> {
        let other = node.as_other()?;
        for _ in 0..TRIES {
            if let Some(backing) = self.open_elsewhere(node, write)? {
                return Ok(backing);
            }
            let generation = other.state.read().generation;
            let (spot, _) = self.spot(node)?;
            let branch = self.stack.branch(spot.branch);
            let writable = write && branch.writable;
            let opened = match spot.obj().open(if writable { Access::ReadWrite } else { Access::Read }) {
                // An ordinary user's file that may be written but not read.
                Err(e) if writable && e.errno() == Errno::ACCESS => spot.obj().open(Access::Write),
                Err(e) if e.errno() == Errno::NOENT => continue,
                opened => opened,
            };
            let file = Arc::new(opened.map_err(|e| branch.blame(e))?);
            let stat = Obj::Fd(file.as_fd()).stat().map_err(|e| branch.blame(e))?;
            let mut state = other.state.write();
            // It was opened by a name, which may have become another file's since.
            let whole = state.data.is_none();
            if whole && state.generation == generation && RealId::of(&stat) == state.home.real {
                state.opened = Arc::downgrade(&file);
                return Ok(Backing { file, generation, writable });
            }
        }
        Err(Error::Stale)
    }

    /// The descriptor to use now: a newer one if the file was copied up since, or is to be written for the first time.
    pub(crate) fn backing(&self, handle: &FileHandle, write: bool) -> Result<Backing> {
        let current = |backing: &Backing| -> Result<bool> {
            let generation = handle.node.as_other()?.state.read().generation;
            Ok(backing.generation == generation && (!write || backing.writable))
        };
        let backing = handle.backing.read().clone();
        if current(&backing)? {
            return Ok(backing);
        }
        let mut slot = handle.backing.write();
        if !current(&slot)? {
            let write = handle.write && (write || !self.lacks_data(&handle.node)?);
            *slot = self.open_backing(&handle.node, write)?;
        }
        Ok(slot.clone())
    }

    /// A descriptor that keeps a file reachable when its last name goes: an open one if there is one.
    pub(crate) fn hold(&self, node: &Arc<Node>) -> Result<Arc<File>> {
        if let Some(file) = node.as_other()?.state.read().opened.upgrade() {
            return Ok(file);
        }
        let (spot, _) = self.spot(node)?;
        spot.hold().map(Arc::new).map_err(|e| self.stack.branch(spot.branch).blame(e))
    }
}
