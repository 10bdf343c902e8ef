//! A client: a thread with a subtree of its own, whose every answer it knows beforehand.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{FileType, Stat};

use super::super::bench::tree::Dice;
use super::content::Content;
use super::model::{Changed, Kind, Model, Time, join};

/// Operations told with a wrong answer.
const MEMORY: usize = 16;

/// Longest read.
pub(super) const READ: u64 = 256 << 10;

/// An open descriptor, kept over other operations.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) file: File,
    pub(crate) id: u64,
    pub(crate) writable: bool,
    /// The layer's data that it may go on reading (passthrough).
    pub(crate) pinned: Option<Content>,
}

/// A subtree under work.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) top: PathBuf,
    pub(crate) dice: Dice,
    pub(crate) model: Model,
    pub(crate) held: Vec<Held>,
    /// Names that were taken away.
    pub(crate) graves: VecDeque<String>,
    log: VecDeque<String>,
    names: u64,
    /// Descriptors seen to go on reading a layer's file.
    pub(crate) pinned_reads: u64,
}

/// What a stat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    kind: FileType,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    ino: u64,
    links: u64,
    changed: Time,
}

impl Seen {
    #[allow(clippy::unnecessary_cast, reason = "the number of links has fewer bits on other machines")]
    fn of(stat: &Stat) -> Seen {
        Seen {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            size: stat.st_size.cast_unsigned(),
            ino: stat.st_ino,
            links: stat.st_nlink as u64,
            changed: (stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
        }
    }
}

impl Client {
    pub(crate) fn new(top: PathBuf, model: Model, seed: u64) -> Client {
        Client {
            top,
            dice: Dice(seed),
            model,
            held: Vec::new(),
            graves: VecDeque::new(),
            log: VecDeque::new(),
            names: 0,
            pinned_reads: 0,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.top.clone() } else { self.top.join(name) }
    }

    /// Notes what is done, for the report of a wrong answer.
    pub(crate) fn note(&mut self, text: String) {
        if self.log.len() == MEMORY {
            self.log.pop_front();
        }
        self.log.push_back(text);
    }

    /// The operations done last.
    pub(crate) fn log(&self) -> String {
        self.log.iter().map(|line| format!("\n    {line}")).collect()
    }

    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.dice.below(one_in) == 0
    }

    /// One of the names that `is_so`.
    pub(crate) fn pick(&mut self, is_so: impl Fn(&str, &Kind) -> bool) -> Option<String> {
        let model = &self.model;
        let fits = |(name, id): (&String, &u64)| {
            let object = model.objects.get(id)?;
            is_so(name, &object.kind).then(|| name.clone())
        };
        let mut fitting: Vec<String> = model.names.iter().filter_map(fits).collect();
        if fitting.is_empty() {
            return None;
        }
        Some(fitting.swap_remove(self.dice.below(fitting.len() as u64) as usize))
    }

    pub(crate) fn pick_file(&mut self) -> Option<String> {
        self.pick(|_, kind| matches!(kind, Kind::File(_)))
    }

    /// Any directory, also the top.
    pub(crate) fn pick_dir(&mut self) -> String {
        self.pick(|_, kind| matches!(kind, Kind::Dir)).unwrap_or_default()
    }

    /// A name that is not there: sometimes one that was.
    pub(crate) fn fresh(&mut self) -> String {
        if self.chance(3)
            && let Some(name) = self.graves.pop_front()
            && !self.model.names.contains_key(&name)
            && self
                .model
                .object(super::model::parent(&name))
                .is_some_and(|(_, o)| matches!(o.kind, Kind::Dir))
        {
            return name;
        }
        self.names += 1;
        let long = if self.chance(20) { "-".repeat(180) } else { String::new() };
        let dir = self.pick_dir();
        join(&dir, &format!("n{}{long}", self.names))
    }

    pub(crate) fn bury(&mut self, name: &str) {
        if self.graves.len() == 32 {
            self.graves.pop_front();
        }
        self.graves.push_back(name.to_owned());
    }

    pub(crate) fn id(&self, name: &str) -> Result<u64> {
        self.model.names.get(name).copied().with_context(|| format!("the soak lost {name}"))
    }

    /// Compares a stat by name with the model.
    pub(crate) fn check_stat(&mut self, name: &str) -> Result<()> {
        let path = self.path(name);
        let stat = rustix::fs::lstat(&path).with_context(|| format!("lstat {}", path.display()))?;
        let id = self.id(name)?;
        self.compare(&path, id, Seen::of(&stat))
    }

    /// Compares a stat through a descriptor with the model.
    pub(crate) fn check_held_stat(&mut self, at: usize) -> Result<()> {
        let held = &self.held[at];
        let stat = rustix::fs::fstat(&held.file).context("fstat of an open file")?;
        let (path, id) = (self.shown(held.id), held.id);
        self.compare(&path, id, Seen::of(&stat))
    }

    /// A name of an object, for messages.
    pub(crate) fn shown(&self, id: u64) -> PathBuf {
        let name = self.model.names.iter().find(|(_, other)| **other == id).map(|(name, _)| name.as_str());
        name.map_or_else(|| self.path("(no name)"), |name| self.path(name))
    }

    fn compare(&mut self, path: &Path, id: u64, seen: Seen) -> Result<()> {
        let object = self.model.objects.get_mut(&id).context("the soak lost an object")?;
        let kind = match seen.kind {
            FileType::RegularFile => "file",
            FileType::Directory => "directory",
            FileType::Symlink => "symlink",
            _ => "something else",
        };
        same(path, "kind", object.kind.word(), kind)?;
        if let Kind::File(content) = &object.kind {
            same(path, "size", content.size(), seen.size)?;
            match object.changed {
                Changed::Exactly(time) => same(path, "mtime", time, seen.changed)?,
                Changed::NotBefore(time) if seen.changed < time => {
                    bail!("{}: mtime: expected {time:?} or later, got {:?}", path.display(), seen.changed)
                }
                Changed::NotBefore(_) | Changed::Unknown => {}
            }
            object.changed = Changed::Exactly(seen.changed);
            if object.links > 0 {
                same(path, "links", object.links, seen.links)?;
            }
        }
        same(
            path,
            "mode",
            format!("{:o}", *object.mode.get_or_insert(seen.mode)),
            format!("{:o}", seen.mode),
        )?;
        same(path, "owner", *object.owner.get_or_insert(seen.owner), seen.owner)?;
        same(path, "inode number", *object.ino.get_or_insert(seen.ino), seen.ino)
    }

    /// A range for reading: whole if not too big.
    pub(crate) fn range(&mut self, size: u64) -> (u64, usize) {
        if size <= READ {
            return (0, READ as usize);
        }
        let at = if self.chance(4) { size - size.min(READ / 2) } else { self.dice.below(size) };
        (at, (1 + self.dice.below(READ)) as usize)
    }

    /// Reads by name and compares.
    pub(crate) fn check_read(&mut self, name: &str) -> Result<()> {
        let path = self.path(name);
        let id = self.id(name)?;
        let size = self.size(id);
        let (at, len) = self.range(size);
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let got = read(&file, at, len).with_context(|| format!("reading {} at {at}", path.display()))?;
        let expected = self.expected(id, at, len);
        match difference(&expected, &got) {
            None => Ok(()),
            Some(text) => Err(anyhow!("{}: read of {len} at {at} (size {size}): {text}", path.display())),
        }
    }

    pub(crate) fn size(&self, id: u64) -> u64 {
        self.model.objects.get(&id).and_then(|object| object.content()).map_or(0, Content::size)
    }

    pub(crate) fn expected(&self, id: u64, at: u64, len: usize) -> Vec<u8> {
        let content = self.model.objects.get(&id).and_then(|object| object.content());
        content.map(|content| content.read(at, len)).unwrap_or_default()
    }

    /// Lists a directory and compares.
    pub(crate) fn check_list(&mut self, dir: &str) -> Result<()> {
        let path = self.path(dir);
        let list = || -> io::Result<Vec<String>> {
            fs::read_dir(&path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        let mut got = list().with_context(|| format!("listing {}", path.display()))?;
        got.sort();
        same(&path, "listing", self.model.children(dir), got)
    }

    /// Compares the whole subtree.
    pub(crate) fn check_all(&mut self) -> Result<()> {
        self.note("look at everything".into());
        for name in self.model.names.keys().cloned().collect::<Vec<_>>() {
            self.check_stat(&name)?;
            match &self.model.object(&name).context("the soak lost an object")?.1.kind {
                Kind::File(_) => self.check_read(&name)?,
                Kind::Dir => self.check_list(&name)?,
                Kind::Symlink(target) => {
                    let path = self.path(&name);
                    let got = fs::read_link(&path).with_context(|| format!("readlink {}", path.display()))?;
                    same(&path, "target", Path::new(target), got.as_path())?;
                }
            }
        }
        Ok(())
    }
}

/// Reads until the end or `len`.
pub(super) fn read(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut bytes[done..], at + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// In what two readings differ.
pub(super) fn difference(expected: &[u8], got: &[u8]) -> Option<String> {
    if expected.len() != got.len() {
        return Some(format!("expected {} bytes, got {}", expected.len(), got.len()));
    }
    let at = expected.iter().zip(got).position(|(a, b)| a != b)?;
    let show = |bytes: &[u8]| format!("{:02x?}", &bytes[at..bytes.len().min(at + 8)]);
    Some(format!("at +{at} expected {}, got {}", show(expected), show(got)))
}

/// An error that says what was expected.
pub(super) fn same<T: PartialEq + std::fmt::Debug>(
    path: &Path,
    what: &str,
    expected: T,
    got: T,
) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    bail!("{}: {what}: expected {expected:?}, got {got:?}", path.display())
}
