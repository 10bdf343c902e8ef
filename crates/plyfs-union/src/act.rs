//! Doing: executes the steps of a plan on one branch, in order, and says how far it came.
//!
//! Dumb on purpose: what to do is decided in `plan.rs`. Only this file, `copyup*.rs`, `marks.rs` and `plink.rs` write
//! to branches' directories.

use std::sync::Arc;

use plyfs_sys::{Dir, Errno, Kind, Leaf, Obj, RenameHow};

use crate::branch::Branch;
use crate::copyup::discard;
use crate::error::Result;
use crate::marks;
use crate::names;
use crate::plan::{Side, Step};
use crate::union::Union;

/// One name on the working branch.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: Leaf,
    /// Where a directory's lower part is, for `Step::Redirect`.
    pub(crate) lower: Option<std::path::PathBuf>,
}

impl Target {
    fn child(&self, branch: &Branch) -> Result<Dir> {
        self.dir.child(&self.name).map_err(|e| branch.blame(e))
    }
}

/// Runs every step but `Make`, which is the operation's own.
pub(crate) fn run(union: &Union, branch: &Branch, plan: &[Step], from: &Target, to: &Target) -> Result<()> {
    let _server = plyfs_sys::cred::ActAs::server();
    for step in plan {
        let at = |side: &Side| if *side == Side::From { from } else { to };
        let blame = |e| branch.blame(e);
        match step {
            Step::Whiteout(side) => marks::make_whiteout(branch, &at(side).dir, &at(side).name)?,
            Step::DropWhiteout(side) => marks::drop_whiteout(branch, &at(side).dir, &at(side).name)?,
            Step::Make { .. } => {}
            Step::Unlink => from.dir.unlink(&from.name).map_err(blame)?,
            Step::Retire => retire(branch, &from.dir, &from.name)?,
            Step::Opaque(side) => marks::make_opaque(branch, &at(side).child(branch)?)?,
            Step::Redirect(side) => {
                let lower = at(side).lower.as_deref().unwrap_or(std::path::Path::new("/"));
                marks::make_redirect(branch, &at(side).child(branch)?, lower)?;
            }
            Step::Clear => clear(union, branch, to)?,
            Step::Rename => {
                from.dir.rename(&from.name, &to.dir, &to.name, RenameHow::Replace).map_err(blame)?;
            }
            Step::Exchange => {
                from.dir.rename(&from.name, &to.dir, &to.name, RenameHow::Exchange).map_err(blame)?;
            }
        }
    }
    Ok(())
}

/// Makes a directory opaque from its first instant.
pub(crate) fn make_opaque_dir(
    branch: &Branch,
    dir: &Dir,
    name: &Leaf,
    make: &dyn Fn(&Leaf) -> Result<()>,
) -> Result<()> {
    let temp = names::temp();
    make(&temp)?;
    let made = dir
        .child(&temp)
        .map_err(|e| branch.blame(e))
        .and_then(|child| {
            let before = child.stat_self()?;
            let _server = plyfs_sys::cred::ActAs::server();
            marks::make_opaque(branch, &child)?;
            crate::copyup::restore_times(&child, &before).map_err(|e| branch.blame(e))
        })
        .and_then(|()| dir.rename(&temp, dir, name, RenameHow::NoReplace).map_err(|e| branch.blame(e)));
    if made.is_err() {
        remove_tree(dir, &temp);
    }
    made
}

/// The directory vanishes in one rename; what it holds (marks only) is deleted after that.
fn retire(branch: &Branch, dir: &Dir, name: &Leaf) -> Result<()> {
    // Most are plainly empty.
    match dir.rmdir(name) {
        Ok(()) => return Ok(()),
        Err(e) if matches!(e.errno(), Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(e) => return Err(branch.blame(e)),
    }
    let temp = names::temp();
    dir.rename(name, dir, &temp, RenameHow::NoReplace).map_err(|e| branch.blame(e))?;
    remove_tree(dir, &temp);
    Ok(())
}

/// Swaps the target directory, which holds only marks, for an empty twin.
fn clear(union: &Union, branch: &Branch, to: &Target) -> Result<()> {
    let stat = to.dir.stat(&to.name).map_err(|e| branch.blame(e))?;
    let temp = names::temp();
    let twin = union.twin(branch, &to.dir, &temp, Obj::At(&to.dir, &to.name), &stat, None).and_then(|_| {
        to.dir.rename(&temp, &to.dir, &to.name, RenameHow::Exchange).map_err(|e| branch.blame(e))
    });
    twin.inspect_err(|_| discard(&to.dir, &temp, Kind::Dir))?;
    remove_tree(&to.dir, &temp);
    Ok(())
}

/// Deletes a retired directory. A failure leaves an invisible name behind, which `check` finds.
fn remove_tree(dir: &Dir, name: &Leaf) {
    if let Err(e) = try_remove_tree(dir, name) {
        tracing::warn!("retired directory left behind: {e}");
    }
}

fn try_remove_tree(dir: &Dir, name: &Leaf) -> plyfs_sys::Result<()> {
    let child = dir.child(name)?;
    let mut entries = Vec::new();
    child.entries(&mut |entry| entries.push(entry))?;
    for entry in entries {
        let is_dir = match entry.kind {
            Some(kind) => kind.is_dir(),
            None => child.stat(&entry.leaf)?.kind.is_dir(),
        };
        if is_dir { try_remove_tree(&child, &entry.leaf)? } else { child.unlink(&entry.leaf)? }
    }
    dir.rmdir(name)
}
