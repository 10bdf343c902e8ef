//! Building an image index: a union of the layers, to be looked at only, is walked once, and what it knows is written down.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plyfs_sys::{Dir, Errno, Kind, Leaf, Obj, RenameHow, Stat, SysError, Time, file};

use crate::copyup::discard;
use crate::error::{Error, Refusal, Result};
use crate::image::format::{Layout, NONE, Part, Viewer, dir, entry, place, put, seen};
use crate::image::tree::kind_number;
use crate::image::{Record, stamp, unfit};
use crate::nodes::{Node, Place};
use crate::resolve::{Resolved, Seen, Sightings, resolve};
use crate::spec::{BranchSpec, Grammar, MountSpec, Perm};
use crate::union::{Union, index};

/// What was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// Merged directories, the root among them.
    pub directories: u64,
    /// Names, hidden ones too.
    pub entries: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Sections in the making.
pub(super) type Parts = [Vec<u8>; Part::ALL.len()];

/// Reads `layers` (top first; their whiteouts and opaque marks count) and writes their merged tree to `into`: under a
/// temporary name, made durable, renamed. An index that is there is replaced; mounts that use it keep the old one.
///
/// The layers must not change meanwhile, nor ever after. Best synced before: some filesystems settle only then how many
/// blocks a file has. What stands in the way of an index (another filesystem inside of
/// a layer, a directory that this user can't list) is an error.
pub fn build(layers: &[PathBuf], into: &Path) -> Result<Built> {
    let parts = encode(layers)?;
    let header = Layout::header(Viewer::ours()?, &parts);
    let whole: Vec<&[u8]> = std::iter::once(&header[..]).chain(parts.iter().map(|part| &part[..])).collect();
    write(into, &whole)?;
    let count = |part: Part| (parts[part as usize].len() / part.record()) as u64;
    Ok(Built {
        directories: count(Part::Dirs),
        entries: count(Part::Entries) - 1,
        bytes: whole.iter().map(|part| part.len() as u64).sum(),
    })
}

/// A file that is whole or not there.
fn write(into: &Path, parts: &[&[u8]]) -> Result<()> {
    let parent = into.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let leaf = into.file_name().and_then(Leaf::new).ok_or_else(|| unfit(into, "is no name for a file"))?;
    let on = |e: SysError| Error::from(e.on(into));
    let parent = Dir::open(parent)?;
    let (temp, out) = temporary(&parent, &leaf).map_err(on)?;
    write_out(&out, parts)
        .and_then(|()| file::fsync(&out, false))
        .and_then(|()| parent.rename(&temp, &parent, &leaf, RenameHow::Replace))
        .inspect_err(|_| discard(&parent, &temp, Kind::File))
        .map_err(on)?;
    parent.fsync().map_err(on)
}

/// A new file `NAME.tmp-PID-N`; another process of this number may have left some.
fn temporary(parent: &Dir, leaf: &Leaf) -> plyfs_sys::Result<(Leaf, File)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = [leaf.as_bytes(), format!(".tmp-{}-{number}", std::process::id()).as_bytes()].concat();
        let temp = Leaf::from_bytes(&name).ok_or_else(|| SysError::new("openat", Errno::INVAL))?;
        match parent.create(&temp, 0o444) {
            Err(e) if e.errno() == Errno::EXIST => {}
            made => return made.map(|out| (temp, out)),
        }
    }
}

fn write_out(out: &File, parts: &[&[u8]]) -> plyfs_sys::Result<()> {
    let mut at = 0;
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let wrote = file::write_at(out, rest, at)?;
            rest = rest.get(wrote..).unwrap_or_default();
            at += wrote as u64;
        }
    }
    Ok(())
}

/// A union of the layers alone.
pub(super) fn to_look_at(layers: &[PathBuf]) -> MountSpec {
    MountSpec {
        grammar: Grammar::Overlay,
        branches: layers.iter().map(|path| BranchSpec::new(path, Perm::Ro).with_wh()).collect(),
        look_only: true,
        ..MountSpec::default()
    }
}

/// The sections of the index of `layers`.
pub(super) fn encode(layers: &[PathBuf]) -> Result<Parts> {
    let union = Union::open(&to_look_at(layers))?;
    let mut making = Making { union: &union, parts: Parts::default(), pending: Vec::new() };
    for branch in &union.stack.branches {
        let name = stamp::name_of(branch);
        let at = making.text(name)?;
        let record = stamp::record(branch, (at, name.len() as u32))?;
        making.parts[Part::Layers as usize].extend(record);
    }
    making.root()?;
    while let Some((node, record)) = making.pending.pop() {
        let done = making.folder(&node, record);
        union.nodes.put(&node, 1);
        done?;
    }
    Ok(making.parts)
}

struct Making<'a> {
    union: &'a Union,
    parts: Parts,
    /// Directories still to be read, each with a reference and its record's number.
    pending: Vec<(Arc<Node>, Record)>,
}

/// The object that serves an entry.
struct Served {
    layer: u16,
    stat: Stat,
    has_xattrs: bool,
    target: Vec<u8>,
}

impl Making<'_> {
    fn text(&mut self, bytes: &[u8]) -> Result<u32> {
        let text = &mut self.parts[Part::Text as usize];
        let at = u32::try_from(text.len()).ok().filter(|&at| at.checked_add(bytes.len() as u32).is_some());
        text.extend_from_slice(bytes);
        at.ok_or_else(too_big)
    }

    /// Adds a record; gives its number.
    fn add(&mut self, part: Part, record: &[u8]) -> Result<u32> {
        let section = &mut self.parts[part as usize];
        let number = u32::try_from(section.len() / part.record()).ok().filter(|&number| number != NONE);
        section.extend_from_slice(record);
        number.ok_or_else(too_big)
    }

    /// Changes a word of a record.
    fn set(&mut self, part: Part, number: u32, at: usize, word: u32) {
        put(&mut self.parts[part as usize], number as usize * part.record() + at, &word.to_le_bytes());
    }

    /// How many records there are.
    fn count(&self, part: Part) -> Result<u32> {
        u32::try_from(self.parts[part as usize].len() / part.record()).map_err(|_| too_big())
    }

    fn root(&mut self) -> Result<()> {
        let root = self.union.root.clone();
        let top = self.union.stack.branch(0);
        let dir = top.root()?;
        let served = self.served(0, Obj::Dir(&dir), Path::new("/"))?;
        let entry = self.entry(b"", &[], Some(served))?;
        let record = self.dir_record(0, entry)?;
        root.refer();
        self.pending.push((root, record));
        Ok(())
    }

    fn dir_record(&mut self, parent: Record, entry: u32) -> Result<Record> {
        let mut bytes = vec![0; Part::Dirs.record()];
        put(&mut bytes, dir::PARENT, &parent.to_le_bytes());
        put(&mut bytes, dir::ENTRY, &entry.to_le_bytes());
        let number = self.add(Part::Dirs, &bytes)?;
        self.set(Part::Entries, entry, entry::DIR, number);
        Ok(number)
    }

    /// Reads a directory: its places, its names; its subdirectories wait.
    fn folder(&mut self, node: &Arc<Node>, record: Record) -> Result<()> {
        let mut lines = self.lines(node)?;
        lines.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
        self.places(node, record)?;
        let first = self.count(Part::Entries)?;
        self.set(Part::Dirs, record, dir::FIRST_NAME, first);
        self.set(Part::Dirs, record, dir::NAMES, u32::try_from(lines.len()).map_err(|_| too_big())?);
        for (name, seen) in lines {
            let resolved = resolve(&seen);
            let served = resolved.as_ref().map(|resolved| self.look(node, &name, resolved)).transpose()?;
            let entry = self.entry(name.as_bytes(), &seen, served)?;
            if resolved.is_some_and(|resolved| resolved.kind.is_dir()) {
                let child = self.union.grab_existing(node, &name)?;
                let record =
                    self.dir_record(record, entry).inspect_err(|_| self.union.nodes.put(&child, 1))?;
                self.pending.push((child, record));
            }
        }
        Ok(())
    }

    fn lines(&self, node: &Arc<Node>) -> Result<Vec<(Leaf, Sightings)>> {
        let state = self.union.listed(node)?;
        let listing = index(&state)?;
        if !listing.unlisted().is_empty() {
            let path = crate::look::path_on(node, node.top()?)?;
            let denied = SysError::new("getdents64", Errno::ACCESS).on(path);
            return Err(self.union.stack.branch(listing.unlisted()[0]).blame(denied));
        }
        let line = |name: &Leaf| (name.clone(), listing.seen(name.as_os_str()).iter().copied().collect());
        Ok(listing.names().map(line).collect())
    }

    fn places(&mut self, node: &Arc<Node>, record: Record) -> Result<()> {
        let places = node.as_dir()?.at.read().clone();
        let first = self.count(Part::Places)?;
        self.set(Part::Dirs, record, dir::FIRST_PLACE, first);
        self.set(Part::Dirs, record, dir::PLACES, places.len() as u32);
        for at in &places {
            let mut bytes = vec![0; Part::Places.record()];
            put(&mut bytes, place::LAYER, &at.branch.to_le_bytes());
            if let Place::Path(path) = &at.place
                && !path.is_empty()
            {
                let path = path.iter().map(Leaf::as_bytes).collect::<Vec<_>>().join(&b'/');
                let text = self.text(&path)?;
                put(&mut bytes, place::HAS_PATH, &1_u16.to_le_bytes());
                put(&mut bytes, place::PATH, &text.to_le_bytes());
                put(&mut bytes, place::PATH_LENGTH, &(path.len() as u32).to_le_bytes());
            }
            self.add(Part::Places, &bytes)?;
        }
        Ok(())
    }

    /// The object that shows under a name.
    fn look(&self, parent: &Arc<Node>, name: &Leaf, resolved: &Resolved) -> Result<Served> {
        let dir = self.union.dir(parent, resolved.branch)?;
        let shown = crate::look::path_on(parent, resolved.branch)?.join(name.as_os_str());
        let served = self.served(resolved.branch, Obj::At(&dir, name), &shown)?;
        // Replaced while we read: nobody keeps to the contract.
        if served.stat.kind == resolved.kind { Ok(served) } else { Err(Refusal::Invalid.into()) }
    }

    fn served(&self, layer: u16, obj: Obj<'_>, shown: &Path) -> Result<Served> {
        let branch = self.union.stack.branch(layer);
        let blame = |e| branch.blame(e);
        let stat = obj.stat().map_err(blame)?;
        if stat.dev != branch.dev {
            let path = branch.path.join(shown.strip_prefix("/").unwrap_or(shown));
            let why = "is on another filesystem than its layer; such a layer can't be in an image index";
            return Err(unfit(&path, why));
        }
        let has_xattrs = !obj.xattr_names().map_err(blame)?.is_empty();
        let target = if stat.kind == Kind::Symlink {
            obj.readlink().map_err(blame)?.as_bytes().to_vec()
        } else {
            vec![]
        };
        Ok(Served { layer, stat, has_xattrs, target })
    }

    /// Adds the entry of a name.
    fn entry(&mut self, name: &[u8], all: &[Seen], served: Option<Served>) -> Result<u32> {
        let mut bytes = vec![0; Part::Entries.record()];
        let first = self.count(Part::Seen)?;
        for one in all {
            self.add(Part::Seen, &seen_record(one))?;
        }
        put(&mut bytes, entry::NAME, &self.text(name)?.to_le_bytes());
        put(&mut bytes, entry::NAME_LENGTH, &(name.len() as u16).to_le_bytes());
        put(&mut bytes, entry::SEEN, &(all.len() as u16).to_le_bytes());
        put(&mut bytes, entry::FIRST_SEEN, &first.to_le_bytes());
        put(&mut bytes, entry::DIR, &NONE.to_le_bytes());
        if let Some(served) = served {
            put(&mut bytes, entry::TARGET, &self.text(&served.target)?.to_le_bytes());
            put(&mut bytes, entry::TARGET_LENGTH, &(served.target.len() as u32).to_le_bytes());
            put_served(&mut bytes, &served);
        }
        self.add(Part::Entries, &bytes)
    }
}

fn seen_record(one: &Seen) -> Vec<u8> {
    let mut bytes = vec![0; Part::Seen.record()];
    put(&mut bytes, seen::LAYER, &one.branch.to_le_bytes());
    put(&mut bytes, seen::WHITEOUT, &[u8::from(one.whiteout)]);
    if let Some(found) = one.found {
        put(&mut bytes, seen::KIND, &[kind_number(found.kind)]);
        put(&mut bytes, seen::INO, &found.ino.to_le_bytes());
    }
    bytes
}

fn put_served(bytes: &mut [u8], served: &Served) {
    let stat = &served.stat;
    let flags = if served.has_xattrs { entry::HAS_XATTRS } else { 0 }
        | if stat.btime.is_some() { entry::HAS_BIRTH } else { 0 };
    put(bytes, entry::LAYER, &served.layer.to_le_bytes());
    put(bytes, entry::KIND, &[kind_number(stat.kind)]);
    put(bytes, entry::FLAGS, &[flags]);
    for (at, long) in [(entry::INO, stat.ino), (entry::SIZE, stat.size), (entry::BLOCKS, stat.blocks)] {
        put(bytes, at, &long.to_le_bytes());
    }
    let birth = stat.btime.unwrap_or(Time { sec: 0, nsec: 0 });
    for (number, time) in [stat.atime, stat.mtime, stat.ctime, birth].into_iter().enumerate() {
        put(bytes, entry::SECONDS + 8 * number, &time.sec.to_le_bytes());
        put(bytes, entry::NANOS + 4 * number, &time.nsec.to_le_bytes());
    }
    let words = [
        (entry::PERM, stat.perm),
        (entry::NLINK, stat.nlink),
        (entry::UID, stat.uid),
        (entry::GID, stat.gid),
        (entry::BLKSIZE, stat.blksize),
        (entry::MAJOR, stat.rdev.major),
        (entry::MINOR, stat.rdev.minor),
    ];
    for (at, word) in words {
        put(bytes, at, &word.to_le_bytes());
    }
}

fn too_big() -> Error {
    unfit(Path::new("."), "the image is too big for an image index (4 GiB of names, 4 billion objects)")
}
