//! The `-init` layer (moby `layer/../initlayer`): mount points and empty files that the runtime binds over, between the
//! image and what the container writes.
//!
//! Docker mounts the layer's union for this; here the union is opened in this process. Each step names one entry of one
//! directory of the union, so whatever the image holds, nothing outside the layer is reached.

use std::ffi::OsStr;

use anyhow::Context;
use plyfs_store::{ChainId, LayerId, Store};
use plyfs_sys::Kind;
use plyfs_union::{Caller, Entry, Ino, NewNode, Union};

#[derive(Debug, Clone, Copy)]
enum What {
    Dir,
    File,
    Link(&'static str),
}

/// In the order in which they are made.
const ENTRIES: [(&str, What); 10] = [
    ("dev/pts", What::Dir),
    ("dev/shm", What::Dir),
    ("proc", What::Dir),
    ("sys", What::Dir),
    (".dockerenv", What::File),
    ("etc/resolv.conf", What::File),
    ("etc/hosts", What::File),
    ("etc/hostname", What::File),
    ("dev/console", What::File),
    ("etc/mtab", What::Link("/proc/mounts")),
];

/// Fills the layer over the stack `top`.
pub(crate) fn fill(store: &Store, init: &LayerId, top: Option<ChainId>) -> anyhow::Result<()> {
    let mut spec = store.driver().spec(init, true)?;
    spec.image_index = super::image_index(store, top);
    let union = Union::open(&spec).context("opening the layers")?;
    let who = Caller { uid: 0, gid: 0, ..Caller::me() };
    for (path, what) in ENTRIES {
        make(&union, &who, path, what).with_context(|| format!("making /{path} in the init layer"))?;
    }
    Ok(())
}

/// Every non-directory on the way and at the end goes (a directory at the end stays), then the entry is made.
fn make(union: &Union, who: &Caller, path: &str, what: What) -> plyfs_union::Result<()> {
    let mut parent = Ino::ROOT;
    let names: Vec<&OsStr> = path.split('/').map(OsStr::new).collect();
    for (at, name) in names.iter().enumerate() {
        let last = at + 1 == names.len();
        let there = match union.lookup(parent, name)? {
            Some(entry) if entry.attr.kind.is_dir() => Some(entry),
            Some(_) => {
                union.unlink(parent, name)?;
                None
            }
            None => None,
        };
        parent = match (there, last) {
            (Some(entry), _) => entry.ino,
            (None, true) => return entry(union, who, parent, name, what).map(drop),
            (None, false) => union.mkdir(who, parent, name, 0o755)?.ino,
        };
    }
    Ok(())
}

fn entry(union: &Union, who: &Caller, parent: Ino, name: &OsStr, what: What) -> plyfs_union::Result<Entry> {
    match what {
        What::Dir => union.mkdir(who, parent, name, 0o755),
        What::File => union.mknod(who, parent, name, NewNode { kind: Kind::File, perm: 0o755, rdev: (0, 0) }),
        What::Link(target) => union.symlink(who, parent, name, OsStr::new(target)),
    }
}
