//! Marks on a branch: whiteouts, opaque directories, and plyfs' own facts in xattrs.
//!
//! A deletion is *written* one way, AUFS's (plain files, the OCI layer format); it is *read* in AUFS's, overlayfs'
//! and fuse-overlayfs' ways (design D2). Not here: names of the words (`names.rs`), when to write which (`plan.rs`).
//!
//! Own facts live under `trusted.plyfs.` or, without CAP_SYS_ADMIN, `user.plyfs.`:
//! `origin` = `FSID:INO` (hex, decimal) of what was copied up, with `+data` behind it where there is `data`; `redirect` = absolute path, inside the branches
//! below, of what a directory merges with; `device` on a character device 0/0 that is a device; `links` = how many
//! names of a copied-up hard-linked file are still served by the branches below; `data` = where the data of a copy of
//! metadata alone is (`metacopy.rs`). The attribute `marks` on a
//! branch's root says that any of them may be found there: other branches are never asked.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};

use plyfs_sys::{Dev, Dir, Errno, Kind, Leaf, Obj, RenameHow, SetXattr, SysError};

use crate::branch::Branch;
use crate::error::{Error, Refusal, Result};
use crate::names::{self, WhiteoutName};

/// A fact of ours about one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fact {
    Origin,
    Redirect,
    Device,
    Links,
    Data,
}

impl Fact {
    fn word(self) -> &'static str {
        match self {
            Fact::Origin => "origin",
            Fact::Redirect => "redirect",
            Fact::Device => "device",
            Fact::Links => "links",
            Fact::Data => "data",
        }
    }
}

const NAMESPACES: [&str; 2] = ["trusted.plyfs.", "user.plyfs."];
const UNKNOWN: u8 = 0xff;
const NOWHERE: u8 = 0xfe;

/// Xattrs users never see and can't set: ours and the foreign marks, which would change what the union shows.
const HIDDEN: [&str; 6] = [
    "trusted.plyfs.",
    "user.plyfs.",
    "trusted.overlay.",
    "user.overlay.",
    "user.fuseoverlayfs.",
    "security.fuseoverlayfs.",
];

/// Foreign opaque marks; the value is `y`.
const OPAQUE_XATTRS: [&str; 3] =
    ["trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"];
/// overlayfs' redirects, read like our own.
const FOREIGN_REDIRECTS: [&str; 2] = ["trusted.overlay.redirect", "user.overlay.redirect"];

/// overlayfs' copies of metadata alone.
const FOREIGN_METACOPIES: [&str; 2] = ["trusted.overlay.metacopy", "user.overlay.metacopy"];

/// Is this xattr reserved?
pub(crate) fn is_hidden_xattr(name: &[u8]) -> bool {
    HIDDEN.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

/// Where a branch keeps our facts: which xattr namespace, if any. Found out at the first write.
#[derive(Debug)]
pub(crate) struct Keeper {
    namespace: AtomicU8,
    /// The root has marks of overlayfs: so may any file.
    foreign: bool,
}

impl Keeper {
    /// Reads the mark on the branch's root.
    pub(crate) fn find(root: &Dir) -> Result<Keeper> {
        let names = match Obj::Dir(root).xattr_names() {
            Err(e) if matches!(e.errno(), Errno::PERM | Errno::ACCESS) => Vec::new(),
            names => names?,
        };
        let begins = |prefix: &str| names.iter().any(|name| name.starts_with(prefix.as_bytes()));
        let foreign = begins("trusted.overlay.") || begins("user.overlay.");
        let is_mark = |namespace: &&str| names.contains(&format!("{namespace}marks").into_bytes());
        let found = NAMESPACES.iter().position(is_mark).map_or(UNKNOWN, |at| at as u8);
        Ok(Keeper { namespace: AtomicU8::new(found), foreign })
    }

    fn namespace(&self) -> Option<&'static str> {
        NAMESPACES.get(usize::from(self.namespace.load(Ordering::Relaxed))).copied()
    }

    /// Was the branch written by overlayfs?
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }
}

/// May any fact of ours be found on this branch?
pub(crate) fn may_have_facts(branch: &Branch) -> bool {
    branch.keeper.namespace().is_some()
}

/// The value of a fact; `None` where there is none or none can be.
pub(crate) fn fact(branch: &Branch, obj: Obj<'_>, fact: Fact) -> Result<Option<Vec<u8>>> {
    let Some(namespace) = branch.keeper.namespace() else { return Ok(None) };
    obj.xattr(&fact_name(namespace, fact)).map_err(|e| branch.blame(e))
}

fn fact_name(namespace: &str, fact: Fact) -> OsString {
    OsString::from(format!("{namespace}{}", fact.word()))
}

/// Keeps a fact. `Ok(false)` where the branch can't keep it (no xattrs; `user.` on a symlink or device).
pub(crate) fn keep_fact(branch: &Branch, obj: Obj<'_>, fact: Fact, value: &[u8]) -> Result<bool> {
    let Some(namespace) = claim(branch)? else { return Ok(false) };
    let name = fact_name(namespace, fact);
    match obj.set_xattr(&name, value, SetXattr::Any) {
        Ok(()) => Ok(true),
        // `user.` xattrs need write permission, which the owner can give for a moment.
        Err(e) if e.errno() == Errno::ACCESS => {
            let perm = obj.stat().map_err(|e| branch.blame(e))?.perm;
            obj.chmod(perm | 0o200).map_err(|e| branch.blame(e))?;
            let kept = obj.set_xattr(&name, value, SetXattr::Any);
            obj.chmod(perm).map_err(|e| branch.blame(e))?;
            kept.map(|()| true).map_err(|e| branch.blame(e))
        }
        Err(e) if matches!(e.errno(), Errno::PERM | Errno::OPNOTSUPP | Errno::NOSPC | Errno::TOOBIG) => {
            Ok(false)
        }
        Err(e) => Err(branch.blame(e)),
    }
}

/// Removes a fact, if kept.
pub(crate) fn drop_fact(branch: &Branch, obj: Obj<'_>, fact: Fact) -> Result<()> {
    let Some(namespace) = branch.keeper.namespace() else { return Ok(()) };
    match obj.remove_xattr(&fact_name(namespace, fact)) {
        Err(e) if !matches!(e.errno(), Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {
            Err(branch.blame(e))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a fact; any failure is one.
pub(crate) fn drop_fact_for_sure(branch: &Branch, obj: Obj<'_>, fact: Fact) -> Result<()> {
    let Some(namespace) = branch.keeper.namespace() else { return Ok(()) };
    match obj.remove_xattr(&fact_name(namespace, fact)) {
        Err(e) if e.errno() == Errno::NODATA => Ok(()),
        done => done.map_err(|e| branch.blame(e)),
    }
}

/// Is the object a copy of metadata alone that overlayfs made? Then its redirect, if it has one.
pub(crate) fn foreign_metacopy(branch: &Branch, obj: Obj<'_>) -> Result<Option<Option<PathBuf>>> {
    let names = obj.xattr_names().map_err(|e| branch.blame(e))?;
    let is_one_of = |name: &[u8], words: &[&str]| words.iter().any(|word| word.as_bytes() == name);
    if !names.iter().any(|name| is_one_of(name, &FOREIGN_METACOPIES)) {
        return Ok(None);
    }
    let Some(name) = names.iter().find(|name| is_one_of(name, &FOREIGN_REDIRECTS)) else {
        return Ok(Some(None));
    };
    let value = obj.xattr(OsStr::from_bytes(name)).map_err(|e| branch.blame(e))?;
    Ok(Some(value.map(|path| PathBuf::from(OsString::from_vec(path)))))
}

/// The namespace for writing; the first write marks the root.
fn claim(branch: &Branch) -> Result<Option<&'static str>> {
    if let Some(known) = branch.keeper.namespace() {
        return Ok(Some(known));
    }
    if branch.keeper.namespace.load(Ordering::Relaxed) == NOWHERE {
        return Ok(None);
    }
    for (i, namespace) in NAMESPACES.iter().enumerate() {
        let name = OsString::from(format!("{namespace}marks"));
        match Obj::Dir(&*branch.root()?).set_xattr(&name, b"1", SetXattr::Any) {
            Ok(()) => {
                branch.keeper.namespace.store(i as u8, Ordering::Relaxed);
                return Ok(Some(namespace));
            }
            Err(e) if matches!(e.errno(), Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS) => {}
            Err(e) => return Err(branch.blame(e)),
        }
    }
    tracing::warn!(branch = %branch.path.display(), "no xattrs: inode numbers change at copy-up, merged directories can't be renamed");
    branch.keeper.namespace.store(NOWHERE, Ordering::Relaxed);
    Ok(None)
}

/// What the xattrs of a directory say about merging it.
#[derive(Debug, Default)]
pub(crate) struct DirMarks {
    pub(crate) opaque: bool,
    pub(crate) redirect: Option<PathBuf>,
}

/// Reads the marks of a directory on a branch (one listxattr(2), and a getxattr(2) per mark there).
pub(crate) fn dir_marks(branch: &Branch, dir: &Dir) -> Result<DirMarks> {
    let mut marks = DirMarks::default();
    if !branch.honours {
        return Ok(marks);
    }
    let obj = Obj::Dir(dir);
    let names = obj.xattr_names().map_err(|e| branch.blame(e))?;
    let is_redirect = |name: &[u8]| {
        FOREIGN_REDIRECTS.iter().any(|r| r.as_bytes() == name)
            || NAMESPACES.iter().any(|n| name.strip_prefix(n.as_bytes()) == Some(b"redirect"))
    };
    for name in names {
        let opaque = OPAQUE_XATTRS.iter().any(|o| o.as_bytes() == name);
        if !opaque && !is_redirect(&name) {
            continue;
        }
        let value = obj.xattr(OsStr::from_bytes(&name)).map_err(|e| branch.blame(e))?;
        match value {
            Some(value) if opaque => marks.opaque |= value == b"y",
            Some(value) => marks.redirect = Some(PathBuf::from(OsString::from_vec(value))),
            None => {}
        }
    }
    Ok(marks)
}

/// Is the character device 0/0 `leaf` a whiteout (overlayfs), not a device somebody made in a union?
pub(crate) fn is_whiteout_device(dir: &Dir, leaf: &Leaf) -> Result<bool> {
    if !dir.stat(leaf)?.is_null_device() {
        return Ok(false);
    }
    for namespace in NAMESPACES {
        if Obj::At(dir, leaf).xattr(&fact_name(namespace, Fact::Device))?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What says of a character device 0/0 that it is one, in the order to try.
pub(crate) fn device_marks() -> impl Iterator<Item = OsString> {
    NAMESPACES.iter().map(|namespace| fact_name(namespace, Fact::Device))
}

/// Makes the whiteout of `name` in `dir`; fine if it is there already.
pub(crate) fn make_whiteout(branch: &Branch, dir: &Dir, name: &Leaf) -> Result<()> {
    let made = match names::whiteout_of(name) {
        WhiteoutName::File(leaf) => make_whiteout_file(branch, dir, &leaf),
        WhiteoutName::Long(leaf) => make_long_whiteout(dir, &leaf, name).map_err(|e| branch.blame(e)),
    };
    match made {
        Err(Error::Sys { source, .. }) if source.errno() == Errno::EXIST => Ok(()),
        made => made,
    }
}

fn make_whiteout_file(branch: &Branch, dir: &Dir, leaf: &Leaf) -> Result<()> {
    if !branch.nolwh {
        let base = names::whiteout_base();
        for _ in 0..2 {
            match branch.root()?.link(&base, dir, leaf) {
                Ok(()) => return Ok(()),
                Err(e) if e.errno() == Errno::NOENT => make_base(branch, &base)?,
                // EMLINK: the family is full; links may also be impossible here at all.
                Err(e) if e.errno() == Errno::EXIST => return Err(branch.blame(e)),
                Err(_) => break,
            }
        }
    }
    dir.create(leaf, 0o444).map(drop).map_err(|e| branch.blame(e))
}

/// The base comes into being with the first whiteout, not at mount: a failed mount leaves branches as they were.
fn make_base(branch: &Branch, base: &Leaf) -> Result<()> {
    let root = branch.root()?;
    let before = root.stat_self()?;
    match root.create(base, 0o444) {
        Ok(_) => {}
        Err(e) if e.errno() == Errno::EXIST => return Ok(()),
        Err(e) => return Err(branch.blame(e)),
    }
    crate::copyup::restore_times(&root, &before).map_err(|e| branch.blame(e))
}

fn make_long_whiteout(dir: &Dir, leaf: &Leaf, name: &Leaf) -> plyfs_sys::Result<()> {
    match dir.symlink(leaf, name.as_os_str()) {
        Err(e) if e.errno() == Errno::EXIST => match dir.readlink(leaf)? == name.as_os_str() {
            true => Ok(()),
            // Another name of the same hash has it: said, not lost.
            false => Err(SysError::new("symlinkat", Errno::NAMETOOLONG).on(name.as_os_str())),
        },
        done => done,
    }
}

/// Removes the whiteout of `name`, in whichever form it is; fine if there is none.
pub(crate) fn drop_whiteout(branch: &Branch, dir: &Dir, name: &Leaf) -> Result<()> {
    let leaf = match names::whiteout_of(name) {
        WhiteoutName::File(leaf) => leaf,
        WhiteoutName::Long(leaf) => match dir.readlink(&leaf) {
            Ok(text) if text == name.as_os_str() => leaf,
            // None, or another name's.
            Ok(_) => return Ok(()),
            Err(e) if matches!(e.errno(), Errno::NOENT | Errno::INVAL) => return Ok(()),
            Err(e) => return Err(branch.blame(e)),
        },
    };
    match dir.unlink(&leaf) {
        Err(e) if e.errno() != Errno::NOENT => return Err(branch.blame(e)),
        Ok(()) | Err(_) => {}
    }
    Ok(())
}

/// Where the whiteout of `name` is overlayfs' device under the name itself, puts ours beside it and takes the device
/// away, so that the name is free for a new entry.
pub(crate) fn free_name(branch: &Branch, dir: &Dir, name: &Leaf) -> Result<()> {
    let there = dir.try_stat(name).map_err(|e| branch.blame(e))?;
    if there.is_some_and(|stat| stat.is_null_device()) && is_whiteout_device(dir, name)? {
        make_whiteout(branch, dir, name)?;
        dir.unlink(name).map_err(|e| branch.blame(e))?;
    }
    Ok(())
}

/// Marks `dir` opaque; fine if it is already.
pub(crate) fn make_opaque(branch: &Branch, dir: &Dir) -> Result<()> {
    match make_whiteout_file(branch, dir, &names::opaque_mark()) {
        Err(Error::Sys { source, .. }) if source.errno() == Errno::EXIST => Ok(()),
        made => made,
    }
}

/// Keeps where a directory's lower part is, before it is renamed. EXDEV where the branch can't keep it: AUFS's answer.
pub(crate) fn make_redirect(branch: &Branch, dir: &Dir, to: &std::path::Path) -> Result<()> {
    match keep_fact(branch, Obj::Dir(dir), Fact::Redirect, to.as_os_str().as_bytes())? {
        true => Ok(()),
        false => Err(Refusal::CrossesBranches.into()),
    }
}

/// Makes the character device 0/0 so that nobody takes it for a whiteout: marked before it gets its name.
pub(crate) fn make_null_device(branch: &Branch, dir: &Dir, leaf: &Leaf, perm: u32) -> Result<()> {
    let temp = names::temp();
    dir.mknod(&temp, Kind::CharDevice, perm, Dev::default()).map_err(|e| branch.blame(e))?;
    let made = keep_fact(branch, Obj::At(dir, &temp), Fact::Device, b"1").and_then(|kept| match kept {
        true => dir.rename(&temp, dir, leaf, RenameHow::NoReplace).map_err(|e| branch.blame(e)),
        false => Err(Refusal::Forbidden.into()),
    });
    if made.is_err() {
        dir.unlink(&temp).map_err(|e| branch.blame(e))?;
    }
    made
}
