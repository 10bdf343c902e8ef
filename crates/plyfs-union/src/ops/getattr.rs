//! getattr and readlink.

use std::ffi::OsString;

use crate::attr::{Attr, Fh, Ino};
use crate::error::{Refusal, Result};
use crate::nodes::Node;
use crate::union::Union;

impl Union {
    /// Attributes of a node. An open handle adds nothing here: a node knows where its file is, also unlinked.
    pub fn getattr(&self, ino: Ino, _fh: Option<Fh>) -> Result<Attr> {
        let node = self.node(ino)?;
        self.attr_told(ino, &node)
    }

    /// Attributes of `node`, in the answer to a request that named `ino`. What the kernel keeps of a node that was left
    /// behind may become untrue without a word.
    pub(crate) fn attr_told(&self, ino: Ino, node: &Node) -> Result<Attr> {
        let attr = self.attr_now(node)?;
        Ok(Attr { lasts: attr.lasts && self.successor_of(ino).is_none(), ..attr })
    }

    /// The text of a symlink.
    pub fn readlink(&self, ino: Ino) -> Result<OsString> {
        let node = self.node(ino)?;
        if node.kind != plyfs_sys::Kind::Symlink {
            return Err(Refusal::Invalid.into());
        }
        if let Some(target) = self.known_target(&node) {
            return Ok(target);
        }
        let (spot, _) = self.spot(&node)?;
        spot.obj().readlink().map_err(|e| self.stack.branch(spot.branch).blame(e))
    }
}
