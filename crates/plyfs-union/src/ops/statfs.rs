//! statfs and sync.

use plyfs_sys::fsinfo;

use crate::attr::{Ino, StatFs};
use crate::error::Result;
use crate::names::{NAME_MAX, NAME_MAX_STRICT};
use crate::union::Union;

impl Union {
    /// Figures of branch 0; with `sum` of every distinct filesystem together (aufs.5 4.14).
    pub fn statfs(&self, _ino: Ino) -> Result<StatFs> {
        let limit = if self.strict { NAME_MAX_STRICT } else { NAME_MAX };
        let mut devs = Vec::new();
        let mut total: Option<StatFs> = None;
        for branch in &self.stack.branches {
            if devs.contains(&branch.dev) {
                continue;
            }
            devs.push(branch.dev);
            let info = fsinfo::of(&*branch.root()?).map_err(|e| branch.blame(e))?;
            let unit = info.frsize.max(1);
            let one = StatFs {
                bsize: u32::try_from(info.bsize).unwrap_or(4096),
                frsize: u32::try_from(unit).unwrap_or(4096),
                blocks: info.blocks,
                bfree: info.bfree,
                bavail: info.bavail,
                files: info.files,
                ffree: info.ffree,
                namelen: u32::try_from(limit.min(info.namelen as usize)).unwrap_or(255),
            };
            total = Some(total.map_or(one, |sum| add(sum, one)));
            if !self.sum {
                break;
            }
        }
        total.ok_or(crate::error::Error::Stale)
    }

    /// Makes every writable branch durable.
    pub fn sync(&self) -> Result<()> {
        for branch in self.stack.branches.iter().filter(|b| b.writable && !self.volatile) {
            branch.root()?.syncfs().map_err(|e| branch.blame(e))?;
        }
        Ok(())
    }
}

/// Blocks are counted in the smaller unit.
fn add(a: StatFs, b: StatFs) -> StatFs {
    let unit = a.frsize.min(b.frsize).max(1);
    let blocks = |of: StatFs, count: u64| count * u64::from(of.frsize) / u64::from(unit);
    StatFs {
        bsize: a.bsize.min(b.bsize),
        frsize: unit,
        blocks: blocks(a, a.blocks) + blocks(b, b.blocks),
        bfree: blocks(a, a.bfree) + blocks(b, b.bfree),
        bavail: blocks(a, a.bavail) + blocks(b, b.bavail),
        files: a.files + b.files,
        ffree: a.ffree + b.ffree,
        namelen: a.namelen.min(b.namelen),
    }
}
