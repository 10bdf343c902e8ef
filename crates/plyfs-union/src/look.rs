//! Looking: asks the branches what they have. I/O, read only.
//!
//! `fill` reads a directory's branches into an index once; `walk` follows a path through the lower branches for a
//! redirect. What the answers mean is decided in `resolve.rs`.

use std::path::Path;
use std::sync::Arc;

use plyfs_sys::{Dir, Errno, Kind, Leaf, RawEntry};

use crate::anchor::Anchors;
use crate::branch::{Branch, Stack};
use crate::error::{Error, Result};
use crate::index::{Index, put};
use crate::marks::{self, DirMarks};
use crate::names::{self, Word};
use crate::nodes::{DirAt, Node, Place, Places};
use crate::resolve::{BranchIdx, Found, Seen, Sightings, directories, resolve};

/// Reads every branch of `node` into an index, and says which branches really show (opaque marks and redirects
/// applied).
pub(crate) fn fill(stack: &Stack, anchors: &Anchors, node: &Node) -> Result<(Index, Places)> {
    let mut waiting: Vec<DirAt> = node.as_dir()?.at.read().iter().rev().cloned().collect();
    let mut index = Index::default();
    let mut places = Places::new();
    while let Some(mut at) = waiting.pop() {
        if at.record.is_some() {
            // The image index has all of them from here down.
            if let Some(below) = stack.image().and_then(|image| image.below(&at, &waiting)) {
                below.lines.into_iter().for_each(|(name, seen)| index.add_below(name, seen));
                places.extend(below.places);
                break;
            }
            at.record = None;
        }
        let branch = stack.branch(at.branch);
        let dir = match &at.place {
            Place::Path(path) if !places.is_empty() => open_path(branch, path)?,
            Place::Path(_) | Place::Named => anchors.dir(stack, node, at.branch)?,
        };
        places.push(at);
        if is_foreign_mount(branch, &dir)? {
            continue;
        }
        let DirMarks { opaque, redirect } = marks_of(branch, &dir, !waiting.is_empty())?;
        let opaque = match read(&mut index, branch, &dir) {
            Err(Error::Sys { source, .. }) if source.errno() == Errno::ACCESS => {
                index.add_unlisted(branch.index);
                has_opaque_mark(branch, &dir)?
            }
            read => read?,
        } || opaque;
        if let Some(target) = redirect {
            let target = absolute(node, &target, branch.index, &waiting)?;
            let mut below = walk(stack, &target, branch.index + 1)?;
            stack.recognise(&target, &mut below);
            waiting = below.into_iter().rev().collect();
        } else if opaque {
            break;
        }
    }
    index.filled();
    Ok((index, places))
}

/// Where the branch is no private copy of its mount, other mounts show through: they are not part of the branch.
fn is_foreign_mount(branch: &Branch, dir: &Dir) -> Result<bool> {
    Ok(!branch.private && dir.stat_self().map_err(|e| branch.blame(e))?.dev != branch.dev)
}

/// The marks in xattrs, asked for only where they can matter.
fn marks_of(branch: &Branch, dir: &Dir, more_below: bool) -> Result<DirMarks> {
    // A renamed directory may lie on one branch alone, and merge with another name below.
    if branch.honours && (more_below || marks::may_have_facts(branch) || branch.keeper.is_foreign()) {
        marks::dir_marks(branch, dir)
    } else {
        Ok(DirMarks::default())
    }
}

/// Reads one branch's directory. `true` if the opaque mark lies in it.
fn read(index: &mut Index, branch: &Branch, dir: &Dir) -> Result<bool> {
    let mut entries = Vec::new();
    dir.entries(&mut |entry| entries.push(entry)).map_err(|e| branch.blame(e))?;
    let mut opaque = false;
    for entry in entries {
        match names::word(&entry.leaf) {
            Word::Plain => read_plain(index, branch, dir, entry)?,
            Word::Whiteout(name)
                if branch.honours && !matches!(entry.kind, Some(kind) if kind != Kind::File) =>
            {
                index.add(name, branch.index, |seen| seen.whiteout = true);
            }
            Word::LongWhiteout if branch.honours => {
                if let Some(name) = long_whiteout(branch, dir, &entry.leaf)? {
                    index.add(name, branch.index, |seen| seen.whiteout = true);
                }
            }
            Word::Opaque => opaque |= branch.honours,
            Word::Whiteout(_) | Word::LongWhiteout | Word::Private => {}
        }
    }
    Ok(opaque)
}

/// The name that a long whiteout hides; `None` for anything that only looks like one.
fn long_whiteout(branch: &Branch, dir: &Dir, leaf: &Leaf) -> Result<Option<Leaf>> {
    match dir.readlink(leaf) {
        Ok(name) => Ok(Leaf::new(&name)),
        Err(e) if matches!(e.errno(), Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(e) => Err(branch.blame(e)),
    }
}

fn read_plain(index: &mut Index, branch: &Branch, dir: &Dir, entry: RawEntry) -> Result<()> {
    let kind = match entry.kind {
        Some(kind) => kind,
        // The filesystem does not tell types in listings. Gone since: not there.
        None => match dir.try_stat(&entry.leaf).map_err(|e| branch.blame(e))? {
            Some(stat) => stat.kind,
            None => return Ok(()),
        },
    };
    let whiteout = kind == Kind::CharDevice && branch.honours && marks::is_whiteout_device(dir, &entry.leaf)?;
    if whiteout {
        index.add(entry.leaf, branch.index, |seen| seen.whiteout = true);
    } else {
        index.add(entry.leaf, branch.index, put(kind, entry.ino));
    }
    Ok(())
}

fn has_opaque_mark(branch: &Branch, dir: &Dir) -> Result<bool> {
    let mark = names::opaque_mark();
    Ok(branch.honours && dir.try_stat(&mark).map_err(|e| branch.blame(e))?.is_some())
}

/// Asks the branches of `index` that can't be listed about one name.
pub(crate) fn ask_unlisted(
    stack: &Stack,
    anchors: &Anchors,
    node: &Node,
    index: &mut Index,
    name: &Leaf,
) -> Result<()> {
    for branch in index.unlisted().to_vec() {
        let dir = anchors.dir(stack, node, branch)?;
        if let Some(seen) = probe(stack.branch(branch), &dir, name)? {
            index.change(name, branch, |one| *one = seen);
        }
    }
    Ok(())
}

/// What one branch's directory has under one name, without reading the whole directory.
pub(crate) fn probe(branch: &Branch, dir: &Dir, name: &Leaf) -> Result<Option<Seen>> {
    let blame = |e| branch.blame(e);
    let (names::WhiteoutName::File(mark) | names::WhiteoutName::Long(mark)) = names::whiteout_of(name);
    let mut whiteout = branch.honours
        && match names::whiteout_of(name) {
            names::WhiteoutName::File(_) => {
                dir.try_stat(&mark).map_err(blame)?.is_some_and(|stat| stat.kind == Kind::File)
            }
            names::WhiteoutName::Long(_) => long_whiteout(branch, dir, &mark)?.as_ref() == Some(name),
        };
    let mut found =
        dir.try_stat(name).map_err(blame)?.map(|stat| (stat, Found { kind: stat.kind, ino: stat.ino }));
    if let Some((stat, _)) = found
        && branch.honours
        && stat.is_null_device()
        && marks::is_whiteout_device(dir, name)?
    {
        (whiteout, found) = (true, None);
    }
    let found = found.map(|(_, found)| found);
    Ok((whiteout || found.is_some()).then_some(Seen { branch: branch.index, whiteout, found }))
}

/// The merged directory at `path` (absolute, in the branches from `from` down), top first; empty if there is none.
pub(crate) fn walk(stack: &Stack, path: &Path, from: BranchIdx) -> Result<Places> {
    let here = walk_in(stack, path, from, &|_| true)?;
    let places = here.into_iter().map(|(branch, _, path)| DirAt {
        branch,
        ino: 0,
        place: Place::Path(path.into()),
        record: None,
    });
    Ok(places.collect())
}

type Here = Vec<(BranchIdx, Arc<Dir>, Vec<Leaf>)>;

/// Which branches a walk takes part in.
type Counts<'a> = &'a dyn Fn(&Branch) -> bool;

fn walk_in(stack: &Stack, path: &Path, from: BranchIdx, counts: Counts<'_>) -> Result<Here> {
    let mut here: Here = stack.branches[usize::from(from).min(stack.branches.len())..]
        .iter()
        .filter(|branch| counts(branch))
        .map(|branch| Ok((branch.index, branch.root()?, Vec::new())))
        .collect::<Result<_>>()?;
    for component in path.components() {
        let std::path::Component::Normal(component) = component else { continue };
        let Some(leaf) = Leaf::new(component) else { return Ok(Here::new()) };
        here = step(stack, &here, &leaf, counts)?;
    }
    Ok(here)
}

/// A regular file found by a path through the branches.
pub(crate) struct FileAt {
    pub(crate) branch: BranchIdx,
    pub(crate) dir: Arc<Dir>,
    pub(crate) leaf: Leaf,
    /// From the branch's root.
    pub(crate) path: Vec<Leaf>,
    /// Its path in the branches below that, where its directory is.
    pub(crate) below: Option<std::path::PathBuf>,
}

/// The regular file that shows at `path` in those of the branches from `from` down that count.
pub(crate) fn find_file(
    stack: &Stack,
    path: &Path,
    from: BranchIdx,
    counts: Counts<'_>,
) -> Result<Option<FileAt>> {
    let (Some(parent), Some(leaf)) = (path.parent(), path.file_name().and_then(Leaf::new)) else {
        return Ok(None);
    };
    let here = walk_in(stack, parent, from, counts)?;
    let mut seen = Sightings::new();
    for (index, dir, _) in &here {
        seen.extend(probe(stack.branch(*index), dir, &leaf)?);
    }
    let Some(found) = resolve(&seen).filter(|found| found.kind == Kind::File) else { return Ok(None) };
    let below = here.iter().find(|(index, ..)| *index > found.branch);
    let below = below.map(|(_, _, path)| path_of(path).join(leaf.as_os_str()));
    let at = here.iter().find(|(index, ..)| *index == found.branch);
    Ok(at.map(|(branch, dir, path)| {
        let path = [path.as_slice(), std::slice::from_ref(&leaf)].concat();
        FileAt { branch: *branch, dir: dir.clone(), leaf, path, below }
    }))
}

/// Is a name, or a directory on the way to it, not there?
pub(crate) fn is_absent(error: &plyfs_sys::SysError) -> bool {
    matches!(error.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// One component of [`walk`], with whiteouts, opaque marks and redirects of the branches passed.
fn step(stack: &Stack, here: &Here, leaf: &Leaf, counts: Counts<'_>) -> Result<Here> {
    let mut seen = Sightings::new();
    for (index, dir, _) in here {
        seen.extend(probe(stack.branch(*index), dir, leaf)?);
    }
    let mut next = Here::new();
    for index in directories(&seen) {
        let Some((_, dir, path)) = here.iter().find(|(branch, ..)| *branch == index) else { continue };
        let branch = stack.branch(index);
        let child = Arc::new(dir.child(leaf).map_err(|e| branch.blame(e))?);
        let path = [path.as_slice(), std::slice::from_ref(leaf)].concat();
        let marks = marks_of(branch, &child, true)?;
        let opaque = marks.opaque || has_opaque_mark(branch, &child)?;
        next.push((index, child, path.clone()));
        if let Some(target) = marks.redirect {
            // overlayfs writes a redirect within the same parent as a bare name.
            let above = path_of(&path[..path.len() - 1]);
            let target = if target.is_absolute() { target } else { above.join(target) };
            next.extend(walk_in(stack, &target, index + 1, counts)?);
            break;
        }
        if opaque {
            break;
        }
    }
    Ok(next)
}

fn path_of(leaves: &[Leaf]) -> std::path::PathBuf {
    std::iter::once(std::ffi::OsStr::new("/")).chain(leaves.iter().map(Leaf::as_os_str)).collect()
}

pub(crate) fn open_path(branch: &Branch, path: &[Leaf]) -> Result<Arc<Dir>> {
    let mut dir = branch.root()?;
    for leaf in path {
        dir = Arc::new(dir.child(leaf).map_err(|e| branch.blame(e))?);
    }
    Ok(dir)
}

/// overlayfs writes a redirect within the same parent as a bare name.
fn absolute(node: &Node, target: &Path, branch: BranchIdx, below: &[DirAt]) -> Result<std::path::PathBuf> {
    if target.is_absolute() {
        return Ok(target.to_owned());
    }
    let next = below.last().map_or(branch + 1, |at| at.branch);
    let parent = node.link().map(|link| link.parent);
    let base = match parent {
        Some(parent) => path_on(&parent, next)?,
        None => std::path::PathBuf::from("/"),
    };
    Ok(base.join(target))
}

/// The path of a directory inside a branch, absolute: where it is or would be.
pub(crate) fn path_on(node: &Node, branch: BranchIdx) -> Result<std::path::PathBuf> {
    let mut names = Vec::new();
    let mut at = node.at(branch)?.map(|at| at.place);
    let mut link = node.link();
    loop {
        if let Some(Place::Path(path)) = &at {
            names.extend(path.iter().rev().cloned());
            break;
        }
        let Some(this) = link else { break };
        names.push(this.name);
        at = this.parent.at(branch)?.map(|at| at.place);
        link = this.parent.link();
    }
    let mut path = std::path::PathBuf::from("/");
    path.extend(names.iter().rev().map(Leaf::as_os_str));
    Ok(path)
}
