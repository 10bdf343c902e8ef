//! Which nodes the kernel might let go of when it holds too many: its names pin our nodes, and it keeps them for ever.
//!
//! Chosen by age and second chance: the oldest of those that no request has named since the hand last passed. What
//! the kernel answers from its own caches is not seen here; it alone knows what is in use, and keeps that. Not here:
//! how it is asked (`plyfs-fuse`).

use std::ffi::OsString;

use crate::attr::Ino;
use crate::nodes::Node;
use crate::union::Union;

/// A node that was not asked for of late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cold {
    /// The node.
    pub ino: Ino,
    /// Its names by their directories, where forgetting them harms nobody: none of a directory, which may be somebody's
    /// working directory, and none of an open file.
    pub names: Vec<(Ino, OsString)>,
}

impl Cold {
    fn of(node: &Node) -> Cold {
        let open = node.as_other().map_or(true, |other| other.state.read().opened.strong_count() > 0);
        let names = if open { Default::default() } else { node.links() };
        let names = names.iter().map(|link| (link.parent.ino, link.name.to_os_string())).collect();
        Cold { ino: node.ino, names }
    }
}

impl Union {
    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.count()
    }

    /// How many of them are beyond the bound.
    pub fn surplus_nodes(&self) -> usize {
        self.nodes.count().saturating_sub(self.bounds.nodes)
    }

    /// Up to `want` nodes to do without, children before the directories they are in. Who was named once is not named
    /// again before all others were.
    pub fn cold_nodes(&self, want: usize) -> Vec<Cold> {
        self.nodes.coldest(want).iter().rev().map(|node| Cold::of(node)).collect()
    }
}
