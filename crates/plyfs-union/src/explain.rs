//! Which branch serves a path, what it hides, and why: `plyfs which`.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use plyfs_sys::{Dir, Kind, Leaf};

use crate::error::{Refusal, Result};
use crate::look;
use crate::metacopy::{self, DataAt};
use crate::nodes::Node;
use crate::resolve::{BranchIdx, Seen, resolve};
use crate::union::Union;

/// Which branch serves a path, and what it hides.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// Every branch that has something to say, top first.
    pub steps: Vec<Layer>,
}

/// One branch's say about a path.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Position of the branch, 0 on top.
    pub branch: u16,
    /// Path inside the branch, absolute (differs from the union's behind a renamed directory).
    pub path: PathBuf,
    /// What is there.
    pub what: LayerSays,
    /// Where its data is, if it is a copy of metadata alone.
    pub data: Option<DataAt>,
}

/// What a branch has under the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerSays {
    /// It serves the file, or is the topmost directory of the merge.
    Serves(Kind),
    /// A directory merged under the upper ones.
    Merged,
    /// Hidden by a file above.
    Hidden(Kind),
    /// An entry of another type under a directory: skipped.
    OtherType(Kind),
    /// Whiteout: hides everything below.
    Whiteout,
    /// Present, but behind a whiteout above.
    WhitedOut(Kind),
    /// Present, but behind an opaque directory above, or the parent was moved away.
    BehindOpaque(Kind),
}

impl Union {
    /// Which branches have `path` (within the union), top first, and why lower ones are hidden.
    pub fn explain(&self, path: &Path) -> Result<Explanation> {
        let mut leaves = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => leaves.push(self.name(name)?.leaf().clone()),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(Refusal::Invalid.into()),
            }
        }
        let Some(last) = leaves.pop() else { return self.explain_root() };
        let mut parent = self.root.clone();
        let mut held = Vec::new();
        for leaf in &leaves {
            let child = self.grab_existing(&parent, leaf);
            match child {
                Ok(child) => {
                    held.push(child.clone());
                    parent = child;
                }
                Err(e) => {
                    held.iter().for_each(|node| self.nodes.put(node, 1));
                    return Err(e);
                }
            }
        }
        let explained = self.explain_child(&parent, &last);
        held.iter().for_each(|node| self.nodes.put(node, 1));
        explained
    }

    fn explain_root(&self) -> Result<Explanation> {
        let says = |i: u16| if i == 0 { LayerSays::Serves(Kind::Dir) } else { LayerSays::Merged };
        let layer = |b: &crate::branch::Branch| Layer {
            branch: b.index,
            path: "/".into(),
            what: says(b.index),
            data: None,
        };
        Ok(Explanation { steps: self.stack.branches.iter().map(layer).collect() })
    }

    fn explain_child(&self, parent: &Arc<Node>, name: &Leaf) -> Result<Explanation> {
        let state = self.listed(parent)?;
        let seen = crate::union::index(&state)?.seen(name.as_os_str());
        let mut steps = Vec::new();
        for layer in judge(seen) {
            let (branch, what) = layer;
            let path = look::path_on(parent, branch)?.join(name.as_os_str());
            let data = self.explain_data(parent, branch, what, name)?;
            steps.push(Layer { branch, path, what, data });
        }
        steps.extend(self.behind_opaque(parent, name)?);
        Ok(Explanation { steps })
    }

    fn explain_data(
        &self,
        parent: &Arc<Node>,
        branch: BranchIdx,
        what: LayerSays,
        name: &Leaf,
    ) -> Result<Option<DataAt>> {
        if !matches!(what, LayerSays::Serves(Kind::File) | LayerSays::Hidden(Kind::File)) {
            return Ok(None);
        }
        let dir = self.dir(parent, branch)?;
        metacopy::explain(&self.stack, parent, (self.stack.branch(branch), &dir), name)
    }

    /// Branches cut off from the parent by an opaque mark or a redirect may have the path all the same.
    fn behind_opaque(&self, parent: &Arc<Node>, name: &Leaf) -> Result<Vec<Layer>> {
        let places = parent.as_dir()?.at.read().clone();
        let mut names = vec![];
        let mut here = parent.clone();
        while let Some(link) = here.link() {
            names.push(link.name);
            here = link.parent;
        }
        let last = places.last().map_or(0, |at| at.branch);
        let mut layers = Vec::new();
        for branch in self.stack.branches.iter().filter(|b| b.index > last) {
            let mut dir: Arc<Dir> = branch.root()?;
            let reached = names.iter().rev().all(|leaf| match dir.child(leaf) {
                Ok(child) => {
                    dir = Arc::new(child);
                    true
                }
                Err(_) => false,
            });
            if let (true, Some(stat)) = (reached, dir.try_stat(name).ok().flatten()) {
                let mut path: PathBuf = PathBuf::from("/");
                path.extend(names.iter().rev().map(Leaf::as_os_str));
                let what = LayerSays::BehindOpaque(stat.kind);
                layers.push(Layer {
                    branch: branch.index,
                    path: path.join(name.as_os_str()),
                    what,
                    data: None,
                });
            }
        }
        Ok(layers)
    }
}

/// Each sighting's part in the answer.
fn judge(seen: &[Seen]) -> Vec<(BranchIdx, LayerSays)> {
    let top = resolve(seen);
    let mut whited_out = false;
    let mut says = Vec::new();
    for one in seen {
        if let Some(found) = one.found {
            let what = match &top {
                _ if whited_out => LayerSays::WhitedOut(found.kind),
                Some(top) if top.branch == one.branch => LayerSays::Serves(found.kind),
                Some(top) if top.dirs.iter().any(|(branch, _)| *branch == one.branch) => LayerSays::Merged,
                Some(top) if top.kind.is_dir() => LayerSays::OtherType(found.kind),
                Some(_) | None => LayerSays::Hidden(found.kind),
            };
            says.push((one.branch, what));
        }
        if one.whiteout {
            says.push((one.branch, LayerSays::Whiteout));
            whited_out = true;
        }
    }
    says
}
