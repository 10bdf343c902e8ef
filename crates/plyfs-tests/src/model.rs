//! A union as it should look, in memory: the yardstick of the model suite.
//!
//! [`Model`] is a plain tree with Linux's answers. [`layers`] makes random stacks of branches, on disk and merged in
//! memory; [`op`] the operations; [`engine`] and [`real`] do them on the engine and on a mounted or plain folder.

pub mod engine;
pub mod layers;
pub mod op;
pub mod real;

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::tree::{Snapshot, hash};
use op::{How, Op, Place, name};

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A regular file.
    File(Vec<u8>),
    /// A directory.
    Dir(BTreeMap<u8, usize>),
    /// A symlink; its target never exists.
    Symlink(String),
    /// A FIFO.
    Fifo,
}

/// An object and its mode.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub body: Body,
    /// Permission bits.
    pub perm: u32,
    /// It came from a branch where it had several names; what its link count says then is not the model's matter.
    pub linked_below: bool,
}

/// A tree of objects; number 0 is the root.
#[derive(Debug, Clone)]
pub struct Model {
    nodes: Vec<Node>,
}

impl Default for Model {
    fn default() -> Model {
        Model::new(0o755)
    }
}

type Done = Result<(), Errno>;

impl Model {
    /// An empty tree.
    pub fn new(perm: u32) -> Model {
        Model { nodes: vec![Node { body: Body::Dir(BTreeMap::new()), perm, linked_below: false }] }
    }

    /// Adds an object without a name.
    pub fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Names object `node` in directory `dir`.
    pub fn name(&mut self, dir: usize, name: u8, node: usize) {
        self.entries_mut(dir).insert(name, node);
    }

    fn entries(&self, dir: usize) -> Option<&BTreeMap<u8, usize>> {
        match &self.nodes[dir].body {
            Body::Dir(entries) => Some(entries),
            _ => None,
        }
    }

    fn entries_mut(&mut self, dir: usize) -> &mut BTreeMap<u8, usize> {
        match &mut self.nodes[dir].body {
            Body::Dir(entries) => entries,
            other => panic!("not a directory: {other:?}"),
        }
    }

    fn is_dir(&self, node: usize) -> bool {
        matches!(self.nodes[node].body, Body::Dir(_))
    }

    /// The directory that holds a place's last name.
    fn parent(&self, place: &Place) -> Result<usize, Errno> {
        let mut at = 0;
        for part in &place.0[..place.0.len() - 1] {
            at = *self.entries(at).ok_or(Errno::NOTDIR)?.get(part).ok_or(Errno::NOENT)?;
            match self.nodes[at].body {
                Body::Dir(_) => {}
                Body::Symlink(_) => return Err(Errno::NOENT),
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(at)
    }

    fn find(&self, place: &Place) -> Result<(usize, Option<usize>), Errno> {
        let dir = self.parent(place)?;
        Ok((dir, self.entries(dir).and_then(|entries| entries.get(&place.last())).copied()))
    }

    fn existing(&self, place: &Place) -> Result<(usize, usize), Errno> {
        let (dir, node) = self.find(place)?;
        Ok((dir, node.ok_or(Errno::NOENT)?))
    }

    fn make(&mut self, place: &Place, body: Body, perm: u32) -> Done {
        let (dir, node) = self.find(place)?;
        if node.is_some() {
            return Err(Errno::EXIST);
        }
        let node = self.add(Node { body, perm, linked_below: false });
        self.name(dir, place.last(), node);
        Ok(())
    }

    /// The file a following call reaches.
    fn file(&mut self, place: &Place, fifo: Errno) -> Result<&mut Vec<u8>, Errno> {
        let (_, node) = self.existing(place)?;
        match &mut self.nodes[node].body {
            Body::File(data) => Ok(data),
            Body::Dir(_) => Err(Errno::ISDIR),
            Body::Symlink(_) => Err(Errno::NOENT),
            Body::Fifo => Err(fifo),
        }
    }

    /// Does one operation, with Linux's answer.
    pub fn apply(&mut self, op: &Op) -> Done {
        match op {
            Op::Create(place, perm) => self.make(place, Body::File(Vec::new()), *perm),
            Op::Mkdir(place, perm) => self.make(place, Body::Dir(BTreeMap::new()), *perm),
            Op::Symlink(place) => self.make(place, Body::Symlink(op::TARGET.to_owned()), 0o777),
            Op::Mkfifo(place, perm) => self.make(place, Body::Fifo, *perm),
            Op::Write(place, at, byte, length) => {
                let file = self.file(place, Errno::NXIO)?;
                let (at, end) = (usize::from(*at), usize::from(*at) + usize::from(*length));
                file.resize(file.len().max(end), 0);
                file[at..end].fill(*byte);
                Ok(())
            }
            Op::Truncate(place, length) => {
                self.file(place, Errno::INVAL)?.resize(*length as usize, 0);
                Ok(())
            }
            Op::Chmod(place, perm) => {
                let (_, node) = self.existing(place)?;
                if let Body::Symlink(_) = self.nodes[node].body {
                    return Err(Errno::NOENT);
                }
                self.nodes[node].perm = *perm;
                Ok(())
            }
            Op::Unlink(place) => self.remove(place, false),
            Op::Rmdir(place) => self.remove(place, true),
            Op::Link(from, to) => self.link(from, to),
            Op::Rename(from, to, how) => self.rename(from, to, *how),
            Op::Remount => Ok(()),
        }
    }

    fn remove(&mut self, place: &Place, want_dir: bool) -> Done {
        let (dir, node) = self.existing(place)?;
        match (self.entries(node), want_dir) {
            (Some(_), false) => return Err(Errno::ISDIR),
            (None, true) => return Err(Errno::NOTDIR),
            (Some(entries), true) if !entries.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.entries_mut(dir).remove(&place.last());
        Ok(())
    }

    fn link(&mut self, from: &Place, to: &Place) -> Done {
        let (_, node) = self.existing(from)?;
        let (dir, there) = self.find(to)?;
        if there.is_some() {
            return Err(Errno::EXIST);
        }
        if self.is_dir(node) {
            return Err(Errno::PERM);
        }
        self.name(dir, to.last(), node);
        Ok(())
    }

    fn rename(&mut self, from: &Place, to: &Place, how: How) -> Done {
        let (to_dir, there) = {
            // Linux resolves both parents before it looks at either name.
            self.parent(from)?;
            self.find(to)?
        };
        let (from_dir, node) = self.existing(from)?;
        match (how, there) {
            (How::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (How::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        if from.is_above(to) {
            return Err(Errno::INVAL);
        }
        if to.is_above(from) {
            return Err(if how == How::Exchange { Errno::INVAL } else { Errno::NOTEMPTY });
        }
        if there == Some(node) {
            return Ok(());
        }
        if let (Some(there), false) = (there, how == How::Exchange) {
            match (self.is_dir(node), self.entries(there)) {
                (true, None) => return Err(Errno::NOTDIR),
                (false, Some(_)) => return Err(Errno::ISDIR),
                (true, Some(entries)) if !entries.is_empty() => return Err(Errno::NOTEMPTY),
                _ => {}
            }
        }
        self.entries_mut(from_dir).remove(&from.last());
        self.name(to_dir, to.last(), node);
        if let (How::Exchange, Some(there)) = (how, there) {
            self.name(from_dir, from.last(), there);
        }
        Ok(())
    }

    /// The tree as text lines (see [`line()`]).
    pub fn snapshot(&self) -> Snapshot {
        let mut paths: BTreeMap<usize, Vec<PathBuf>> = BTreeMap::new();
        self.visit(0, PathBuf::new(), &mut |node, path| paths.entry(node).or_default().push(path));
        let mut map = BTreeMap::new();
        for (node, mut paths) in paths {
            paths.sort();
            let Node { body, perm, linked_below } = &self.nodes[node];
            let (text, perm) = match body {
                Body::File(data) => (format!("file {} {:016x}", data.len(), hash(data)), Some(*perm)),
                Body::Dir(_) => ("dir".to_owned(), Some(*perm)),
                Body::Symlink(target) => (format!("link -> {target}"), None),
                Body::Fifo => ("fifo".to_owned(), Some(*perm)),
            };
            let links = match body {
                Body::Dir(_) => None,
                _ if *linked_below => Some("*".to_owned()),
                _ => Some(paths.len().to_string()),
            };
            for path in &paths {
                map.insert(path.clone(), line(&text, perm, links.as_deref(), &paths[0]));
            }
        }
        Snapshot(map)
    }

    fn visit(&self, node: usize, path: PathBuf, each: &mut impl FnMut(usize, PathBuf)) {
        if let Some(entries) = self.entries(node) {
            for (part, child) in entries {
                self.visit(*child, path.join(name(*part)), each);
            }
        }
        each(node, path);
    }
}

/// One object's line: what it is, mode, link count, and the first of all its names.
pub fn line(text: &str, perm: Option<u32>, links: Option<&str>, first: &std::path::Path) -> String {
    let mut line = text.to_owned();
    if let Some(perm) = perm {
        line.push_str(&format!(" {perm:04o}"));
    }
    if let Some(links) = links {
        line.push_str(&format!(" first={} links={links}", first.display()));
    }
    line
}

/// Fails with the difference unless `seen` is what `model` says. `links=*` of the model fits any number.
///
/// # Errors
/// The differing lines.
pub fn compare(model: &Snapshot, seen: &Snapshot, what: &str) -> Result<(), String> {
    let cut = |text: &String| text.split(" links=").next().unwrap_or("").to_owned();
    let mut seen = seen.clone();
    for (path, text) in &model.0 {
        if text.ends_with("links=*")
            && let Some(other) = seen.0.get_mut(path)
            && cut(other) == cut(text)
        {
            other.clone_from(text);
        }
    }
    let lines = model.diff(&seen);
    if lines.is_empty() { Ok(()) } else { Err(format!("{what} (model | seen):\n{}", lines.join("\n"))) }
}

/// A failed comparison of answers.
///
/// # Errors
/// When one refused and the other did not, or, with `exact`, when the numbers differ.
pub fn same_answer(op: &Op, model: Done, seen: Done, exact: bool) -> Result<(), String> {
    let equal = if exact { model == seen } else { model.is_ok() == seen.is_ok() };
    if equal { Ok(()) } else { Err(format!("{op:?}: should be {model:?}, is {seen:?}")) }
}
