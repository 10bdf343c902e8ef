//! An image index against its layers: they are read as for a new one, and the two are compared, name by name.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use plyfs_sys::{Dev, Stat};

use crate::error::Result;
use crate::image::format::{Layout, Part, Viewer};
use crate::image::tree::{Entry, Folder, Tree};
use crate::image::{ImageIndex, build};

/// Something that is not as the index says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// In the merged tree, absolute.
    pub path: PathBuf,
    /// What: first as the index has it, then as the layers have it.
    pub what: String,
}

/// Compares the whole index with `layers` (top first), and its content with its checksums. Empty: nothing is wrong.
///
/// Not compared: times of last access, which reading changes, and the number of blocks, which some filesystems
/// settle later. An index that can't be read at all, or layers that can't, are an error.
pub fn verify(index: &Path, layers: &[PathBuf]) -> Result<Vec<Difference>> {
    let index = ImageIndex::open(index)?;
    index.check()?;
    let parts = build::encode(layers)?;
    let fresh = [Layout::header(Viewer::ours()?, &parts), parts.concat()].concat();
    let layout = Layout::read(&fresh).map_err(|why| super::unfit(&index.path, why))?;
    let mut work = Work { differences: Vec::new(), pending: Vec::new() };
    work.compare(index.tree(), Tree::new(&fresh, &layout));
    Ok(work.differences)
}

struct Work<'a> {
    differences: Vec<Difference>,
    pending: Vec<(PathBuf, Folder<'a>, Folder<'a>)>,
}

impl<'a> Work<'a> {
    fn say(&mut self, path: &Path, what: impl Into<String>) {
        self.differences.push(Difference { path: path.to_owned(), what: what.into() });
    }

    fn compare(&mut self, kept: Tree<'a>, fresh: Tree<'a>) {
        let root = Path::new("/");
        if kept.layout().viewer != fresh.layout().viewer {
            self.say(root, "built by another user or in another user namespace: not used here");
        }
        if kept.layers() != fresh.layers() {
            return self.say(root, format!("of {} layers, but there are {}", kept.layers(), fresh.layers()));
        }
        for number in 0..kept.layers() as u32 {
            // Without the name, which is for people.
            let identity = |tree: Tree<'a>| {
                tree.record(Part::Layers, number).map(|record| &record[..super::format::layer::NAME])
            };
            if identity(kept) != identity(fresh) {
                self.say(root, format!("layer {number} is another directory, or its root was changed"));
            }
        }
        let (Some(kept), Some(fresh)) = (kept.folder(0), fresh.folder(0)) else {
            return self.say(root, "damaged");
        };
        if let (Some(kept), Some(fresh)) = (kept.entry(), fresh.entry()) {
            self.entries(root, kept, fresh);
        }
        self.pending.push((root.to_owned(), kept, fresh));
        while let Some((path, kept, fresh)) = self.pending.pop() {
            self.folders(&path, kept, fresh);
        }
        self.differences.sort_by(|a, b| a.path.cmp(&b.path));
    }

    fn folders(&mut self, path: &Path, kept: Folder<'a>, fresh: Folder<'a>) {
        if kept.places() != fresh.places() {
            self.say(path, "other layers merge here");
        }
        let (mut a, mut b) = (0, 0);
        loop {
            let (ours, theirs) = (kept.name(a), fresh.name(b));
            let name = |entry: Option<Entry<'a>>| entry.and_then(Entry::name);
            let order = match (name(ours), name(theirs)) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(ours), Some(theirs)) => ours.cmp(theirs),
            };
            a += u32::from(order != Ordering::Greater);
            b += u32::from(order != Ordering::Less);
            match (order, ours, theirs) {
                (Ordering::Less, Some(ours), _) => self.say(&path.join(ours.shown()), "no layer has it"),
                (Ordering::Greater, _, Some(theirs)) => {
                    self.say(&path.join(theirs.shown()), "missing in the index")
                }
                (Ordering::Equal, Some(ours), Some(theirs)) => {
                    let path = path.join(theirs.shown());
                    self.entries(&path, ours, theirs);
                    match (kept.child(ours), fresh.child(theirs)) {
                        (Some(ours), Some(theirs)) => self.pending.push((path, ours, theirs)),
                        (None, None) => {}
                        _ => self.say(&path, "a directory on one side only"),
                    }
                }
                _ => return,
            }
        }
    }

    fn entries(&mut self, path: &Path, kept: Entry<'a>, fresh: Entry<'a>) {
        if kept.seen(0) != fresh.seen(0) {
            self.say(path, "the layers have other things under this name");
        }
        if kept.layer() != fresh.layer() {
            self.say(path, format!("layer {:?}, layer {:?}", kept.layer(), fresh.layer()));
        }
        if kept.has_xattrs() != fresh.has_xattrs() {
            self.say(path, format!("xattrs: {}, {}", kept.has_xattrs(), fresh.has_xattrs()));
        }
        if kept.target() != fresh.target() {
            self.say(path, "another target");
        }
        match (kept.stat(Dev::default()), fresh.stat(Dev::default())) {
            (Some(kept), Some(fresh)) => {
                for (what, a, b) in differences(&kept, &fresh) {
                    self.say(path, format!("{what}: {a}, {b}"));
                }
            }
            (None, None) => {}
            _ => self.say(path, "shows on one side only"),
        }
    }
}

fn differences(a: &Stat, b: &Stat) -> Vec<(&'static str, String, String)> {
    let facts = |stat: &Stat| {
        [
            ("type", format!("{:?}", stat.kind)),
            ("inode", stat.ino.to_string()),
            ("mode", format!("{:04o}", stat.perm)),
            ("owner", format!("{}:{}", stat.uid, stat.gid)),
            ("links", stat.nlink.to_string()),
            ("device", format!("{}:{}", stat.rdev.major, stat.rdev.minor)),
            ("size", stat.size.to_string()),
            ("I/O size", stat.blksize.to_string()),
            ("mtime", format!("{}.{:09}", stat.mtime.sec, stat.mtime.nsec)),
            ("ctime", format!("{}.{:09}", stat.ctime.sec, stat.ctime.nsec)),
            ("btime", format!("{:?}", stat.btime.map(|time| (time.sec, time.nsec)))),
        ]
    };
    let both = facts(a).into_iter().zip(facts(b));
    both.filter(|(a, b)| a.1 != b.1).map(|((what, a), (_, b))| (what, a, b)).collect()
}
