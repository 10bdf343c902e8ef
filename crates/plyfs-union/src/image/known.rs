//! Attributes known from the image index: the one place where they do not come from a branch.
//!
//! What is known is of the object that serves a node, as long as that lies on a covered branch and is reached by a name.
//! Whoever copies, opens, removes or changes something looks at the object itself (`Union::spot`), as without an index.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use plyfs_sys::{Kind, Leaf, Stat};

use crate::attr::Attr;
use crate::error::Result;
use crate::image::attach::{self, Image};
use crate::image::stamp;
use crate::image::tree::Entry;
use crate::marks;
use crate::nodes::{HomeBy, Node, Spot};
use crate::perms::Shown;
use crate::resolve::{BranchIdx, Resolved};
use crate::union::Union;

/// What the index says of an object.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) stat: Stat,
    /// It has no xattrs at all: no facts of ours, no marks, no ACL, no capability.
    pub(crate) plain: bool,
}

/// An object that was looked for: by itself, or in the index.
#[derive(Debug)]
pub(crate) enum Sight {
    Seen(Spot, Stat),
    Known(Known),
}

impl Sight {
    pub(crate) fn stat(&self) -> &Stat {
        match self {
            Sight::Seen(_, stat) => stat,
            Sight::Known(known) => &known.stat,
        }
    }

    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Sight::Known(known) if known.plain)
    }
}

/// An entry of the index and the branch that it is about.
struct At<'a> {
    image: &'a Image,
    entry: Entry<'a>,
    branch: BranchIdx,
}

impl Union {
    /// The object under a name of `parent`, for who makes a node of it. `None` where facts of ours may tell that it is
    /// another (`ids::origin`), or more than it looks (`metacopy.rs`): those are read.
    pub(crate) fn known_child(&self, parent: &Node, name: &Leaf, resolved: &Resolved) -> Option<Known> {
        let at = self.entry_at(parent, name, resolved.branch)?;
        let known = self.known_at(&at)?;
        let is_it = known.stat.kind == resolved.kind;
        let has_no_facts = known.plain || !marks::may_have_facts(self.stack.branch(resolved.branch));
        (is_it && has_no_facts).then_some(known)
    }

    /// What the node's attributes are now: known, or looked at.
    pub(crate) fn attr_now(&self, node: &Node) -> Result<Attr> {
        if let Some(known) = self.serving(node).and_then(|at| self.known_at(&at))
            && let Some(attr) = self.attr_known(node, &known)
        {
            return attr;
        }
        let (spot, stat) = self.spot(node)?;
        self.attr(node, &spot, &stat)
    }

    /// Attributes from what is known of the serving object; `None` if an xattr may say more (`perms.rs`).
    pub(crate) fn attr_known(&self, node: &Node, known: &Known) -> Option<Result<Attr>> {
        let enough = known.plain || !self.overrides.is_on();
        enough.then(|| self.attr_shown(node, &Shown::real(&known.stat), &known.stat))
    }

    /// A symlink's text.
    pub(crate) fn known_target(&self, node: &Node) -> Option<OsString> {
        Some(OsString::from_vec(self.serving(node)?.entry.target()?.to_vec()))
    }

    /// Has the node's object no xattr at all, for sure?
    pub(crate) fn has_no_xattrs(&self, node: &Node) -> bool {
        self.serving(node).is_some_and(|at| !at.entry.has_xattrs())
    }

    /// Would its branch say of this xattr that it is absent?
    pub(crate) fn lacks_xattr(&self, node: &Node, name: &OsStr) -> bool {
        let symlink = node.kind == Kind::Symlink;
        self.serving(node).is_some_and(|at| {
            let told = at
                .image
                .layer(at.branch)
                .and_then(|layer| stamp::is_told_absent(at.image.tree(), layer, name.as_bytes(), symlink));
            !at.entry.has_xattrs() && told == Some(true)
        })
    }

    fn known_at(&self, at: &At<'_>) -> Option<Known> {
        let stat = at.entry.stat(self.stack.branch(at.branch).dev)?;
        Some(Known { stat, plain: !at.entry.has_xattrs() })
    }

    /// The entry of a name, if it speaks of what `branch` has.
    fn entry_at(&self, parent: &Node, name: &Leaf, branch: BranchIdx) -> Option<At<'_>> {
        let image = self.stack.image()?;
        let layer = image.layer(branch)?;
        let entry = image.entry(attach::record(parent)?, name)?;
        (entry.layer()? == layer).then_some(At { image, entry, branch })
    }

    /// The entry of the object that serves a node.
    fn serving(&self, node: &Node) -> Option<At<'_>> {
        let image = self.stack.image()?;
        if let Ok(dir) = node.as_dir() {
            if dir.gone.read().is_some() {
                return None;
            }
            let top = dir.at.read().first().cloned()?;
            let layer = image.layer(top.branch)?;
            let entry = image.tree().folder(top.record?)?.entry()?;
            let is_it = entry.layer()? == layer && entry.kind()?.is_dir();
            return is_it.then_some(At { image, entry, branch: top.branch });
        }
        let home = node.as_other().ok()?.state.read().home.clone();
        if !matches!(home.by, HomeBy::Name) || !image.covers(home.branch) {
            return None;
        }
        let link = node.link()?;
        let at = self.entry_at(&link.parent, &link.name, home.branch)?;
        let is_it = at.entry.kind()? == node.kind && at.entry.ino()? == home.real.ino;
        is_it.then_some(at)
    }
}
