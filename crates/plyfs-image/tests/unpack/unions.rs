//! Packing unions: a commit, stacked over the same layers, shows what the union showed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use plyfs_image::limits::Limits;
use plyfs_image::pack::{pack_changes, pack_tree};
use plyfs_image::unpack::UnpackOptions;
use plyfs_union::spec::{Unknown, parse};
use plyfs_union::{
    Caller, Entry, Ino, Kind, NewNode, OpenHow, RenameFlags, Result, SetAttr, SetTime, Time, Union,
    XattrFlags,
};
use proptest::prelude::*;

use crate::packed::names;
use crate::support::{Head, Place, Tar, root, tree};

const READ_WRITE: OpenHow = OpenHow {
    read: true,
    write: true,
    truncate: false,
    direct: false,
    keeps_set_ids: true,
    kill_suidgid: false,
};

/// A union that is spoken to by path.
struct Spoken(Union);

impl Spoken {
    /// `up` is writable where it is given; the others are layers.
    fn open(up: Option<&Place>, layers: &[&Place]) -> Spoken {
        let up = up.iter().map(|up| format!("{}=rw", up.layer().display()));
        let layers = layers.iter().map(|layer| format!("{}=ro+wh", layer.layer().display()));
        let spec = format!("br:{}", up.chain(layers).collect::<Vec<_>>().join(":"));
        Spoken(Union::open(&parse(&[spec.as_ref()], Unknown::Refuse).unwrap().spec).unwrap())
    }

    fn ino(&self, path: &str) -> Option<Ino> {
        let mut at = Ino::ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = self.0.lookup(at, name.as_ref()).ok()??.ino;
        }
        Some(at)
    }

    /// The directory and the name; `None` where there is no such directory.
    fn place<'a>(&self, path: &'a str) -> Option<(Ino, &'a OsStr)> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        Some((self.ino(above)?, name.as_ref()))
    }

    fn file(&self, path: &str) -> Option<Result<Entry>> {
        let (dir, name) = self.place(path)?;
        Some(self.0.mknod(&Caller::me(), dir, name, NewNode { kind: Kind::File, perm: 0o644, rdev: (0, 0) }))
    }

    fn write(&self, path: &str, text: &str) -> Option<()> {
        let opened = self.0.open_file(self.ino(path)?, READ_WRITE).ok()?;
        self.0.write(opened.fh, 0, text.as_bytes(), false).unwrap();
        self.0.release(opened.fh);
        Some(())
    }

    fn mkdir(&self, path: &str) -> Option<Result<Entry>> {
        let (dir, name) = self.place(path)?;
        Some(self.0.mkdir(&Caller::me(), dir, name, 0o755))
    }

    fn rm(&self, path: &str) -> Option<Result<()>> {
        let (dir, name) = self.place(path)?;
        Some(self.0.unlink(dir, name))
    }

    fn rmdir(&self, path: &str) -> Option<Result<()>> {
        let (dir, name) = self.place(path)?;
        Some(self.0.rmdir(dir, name))
    }

    fn mv(&self, from: &str, to: &str) -> Option<Result<()>> {
        Some(self.0.rename(self.place(from)?, self.place(to)?, RenameFlags::empty()))
    }

    fn link(&self, from: &str, to: &str) -> Option<Result<Entry>> {
        let (dir, name) = self.place(to)?;
        Some(self.0.link(self.ino(from)?, dir, name))
    }

    fn symlink(&self, path: &str, target: &str) -> Option<Result<Entry>> {
        let (dir, name) = self.place(path)?;
        Some(self.0.symlink(&Caller::me(), dir, name, target.as_ref()))
    }

    fn chmod(&self, path: &str, perm: u32) -> Option<()> {
        let change = SetAttr { perm: Some(perm), ..SetAttr::default() };
        self.0.setattr(self.ino(path)?, None, &change).ok().map(drop)
    }

    fn touch(&self, path: &str) -> Option<()> {
        let time = SetTime::At(Time { sec: 1_600_000_000, nsec: 123 });
        let change = SetAttr { mtime: Some(time), ..SetAttr::default() };
        self.0.setattr(self.ino(path)?, None, &change).ok().map(drop)
    }

    fn mark(&self, path: &str, value: &str) -> Option<()> {
        self.0.setxattr(self.ino(path)?, "user.t".as_ref(), value.as_bytes(), XattrFlags::empty()).ok()
    }

    /// All it shows, through `pack_tree` and back. The time of a directory is that of its last change, which a layer
    /// need not hold.
    fn view(&self) -> BTreeMap<PathBuf, String> {
        let mut packed = Vec::new();
        pack_tree(&self.0, &mut packed).unwrap();
        let place = Place::new();
        place.unpack(&packed).unwrap();
        let mut all = tree(&place.layer());
        for text in all.values_mut().filter(|text| text.starts_with('4')) {
            let words: Vec<&str> = text.split(' ').collect();
            *text = [&words[..2], &words[3..]].concat().join(" ");
        }
        all
    }
}

/// Commits `union`, which is `up` over `layers`, and compares what a stack of the commit shows.
fn commit(union: &Spoken, layers: &[&Place]) -> (Place, Vec<u8>) {
    let mut packed = Vec::new();
    pack_changes(&union.0, &mut packed).unwrap();
    let mut again = Vec::new();
    pack_changes(&union.0, &mut again).unwrap();
    assert!(packed == again, "not the same bytes each time");
    let committed = Place::new();
    let limits = Limits::default();
    let done = committed.unpack_with(&packed, &UnpackOptions::new(&limits)).unwrap();
    assert_eq!(done.warnings, []);
    let all: Vec<&Place> = std::iter::once(&committed).chain(layers.iter().copied()).collect();
    let (mut want, mut got) = (union.view(), Spoken::open(None, &all).view());
    // A layer can't say that a file of its own is another name of one below: such links come apart.
    for text in want.values_mut().chain(got.values_mut()) {
        text.truncate(text.find(" = [").unwrap_or(text.len()));
    }
    assert_eq!(want, got, "{:?}", names(&packed));
    (committed, packed)
}

fn base() -> Place {
    let place = Place::new();
    let tar = Tar::new()
        .dir("d")
        .file("d/a", "a")
        .file("d/b", "b")
        .dir("d/e")
        .pax(b'x', &[("SCHILY.xattr.user.x", b"1"), ("mtime", b"7.5")])
        .file("d/e/f", vec![b'f'; 20_000])
        .hard_link("h1", "d/a")
        .hard_link("d/e/h2", "d/a")
        .symlink("l", "d/a")
        .raw(&Head::new("s", b'0').mode(0o4755).size(1), b"s")
        .dir("empty")
        .raw(&Head::new("p", b'6'), b"")
        .end();
    place.unpack(&tar).unwrap();
    place
}

#[test]
fn nothing_changed_is_nothing() {
    if !root() {
        return;
    }
    let (up, low) = (Place::new(), base());
    let union = Spoken::open(Some(&up), &[&low]);
    let (_, packed) = commit(&union, &[&low]);
    assert_eq!(packed, [0; 1024]);
}

#[test]
fn changes_of_every_kind() {
    if !root() {
        return;
    }
    let (up, low) = (Place::new(), base());
    let union = Spoken::open(Some(&up), &[&low]);
    union.file("new").unwrap().unwrap();
    union.write("d/b", "changed").unwrap();
    union.chmod("s", 0o6711).unwrap();
    union.touch("d/e/f").unwrap();
    union.mark("d", "on a directory").unwrap();
    union.rm("l").unwrap().unwrap();
    union.symlink("l", "elsewhere").unwrap().unwrap();
    union.rmdir("empty").unwrap().unwrap();
    union.mkdir("d/new").unwrap().unwrap();
    union.file("d/new/x").unwrap().unwrap();
    union.rm("p").unwrap().unwrap();
    let (_, packed) = commit(&union, &[&low]);
    let want = [".wh.empty", ".wh.p", "d/", "d/b", "d/e/", "d/e/f", "d/new/", "d/new/x", "l", "new", "s"];
    assert_eq!(names(&packed), want);
}

/// The whole moved tree is in the layer, and its old place is gone.
#[test]
fn renamed_directories() {
    if !root() {
        return;
    }
    let (up, low) = (Place::new(), base());
    let union = Spoken::open(Some(&up), &[&low]);
    union.mv("d", "moved").unwrap().unwrap();
    union.mv("moved/e", "empty/e").unwrap().unwrap();
    union.file("moved/e").unwrap().unwrap();
    let (_, packed) = commit(&union, &[&low]);
    let names = names(&packed);
    for name in [".wh.d", "moved/a", "moved/e", "empty/e/f"] {
        assert!(names.iter().any(|there| there == name), "{name} not in {names:?}");
    }
    // Back again: a redirect to its own old place.
    drop(union);
    let union = Spoken::open(Some(&up), &[&low]);
    union.rm("moved/e").unwrap().unwrap();
    union.mv("empty/e", "moved/e").unwrap().unwrap();
    union.mv("moved", "d").unwrap().unwrap();
    commit(&union, &[&low]);
}

/// Only metadata was copied up: the layer has the data that is below.
#[test]
fn copies_of_metadata_alone() {
    if !root() {
        return;
    }
    let (up, low) = (Place::new(), base());
    let spec = format!("lowerdir={},upperdir={},metacopy=on", low.layer().display(), up.layer().display());
    let Ok(parsed) = parse(&[spec.as_ref()], Unknown::Warn) else { panic!("{spec}") };
    let union = Spoken(Union::open(&parsed.spec).unwrap());
    union.chmod("d/e/f", 0o600).unwrap();
    union.mv("d/e/f", "d/g").unwrap().unwrap();
    let copied = fs::read(up.at("d/g")).unwrap();
    let (committed, _) = commit(&union, &[&low]);
    assert_eq!(fs::read(committed.at("d/g")).unwrap(), vec![b'f'; 20_000]);
    eprintln!("the copy itself {} data", if copied == vec![b'f'; 20_000] { "has" } else { "has no" });
}

/// One name of a hard-linked file was written: the others show the same, so they are in the layer, as its links.
#[test]
fn pseudo_links() {
    if !root() {
        return;
    }
    let (up, low) = (Place::new(), base());
    let union = Spoken::open(Some(&up), &[&low]);
    union.write("h1", "through one name").unwrap();
    let (committed, packed) = commit(&union, &[&low]);
    for name in ["h1", "d/a", "d/e/h2"] {
        assert_eq!(committed.text(name), "through one name", "{:?}", names(&packed));
        assert_eq!(fs::metadata(committed.at(name)).unwrap().nlink(), 3);
    }
    union.rm("d/a").unwrap().unwrap();
    union.link("h1", "h3").unwrap().unwrap();
    commit(&union, &[&low]);
}

#[test]
fn a_directory_in_the_place_of_a_file_lets_nothing_through() {
    if !root() {
        return;
    }
    let (up, low, lowest) = (Place::new(), Place::new(), Place::new());
    lowest.unpack(&Tar::new().dir("x").file("x/deep", "").end()).unwrap();
    low.unpack(&Tar::new().file("x", "").end()).unwrap();
    let union = Spoken::open(Some(&up), &[&low, &lowest]);
    union.rm("x").unwrap().unwrap();
    union.mkdir("x").unwrap().unwrap();
    let (_, packed) = commit(&union, &[&low, &lowest]);
    assert_eq!(names(&packed), ["x/", "x/.wh..wh..opq"]);
    // And the other way round.
    drop(union);
    let up = Place::new();
    let union = Spoken::open(Some(&up), &[&lowest]);
    union.rm("x/deep").unwrap().unwrap();
    union.rmdir("x").unwrap().unwrap();
    union.file("x").unwrap().unwrap();
    commit(&union, &[&lowest]);
}

#[test]
fn long_names_and_their_whiteouts() {
    if !root() {
        return;
    }
    let (up, low) = (Place::new(), Place::new());
    let (long, other) = ("n".repeat(255), "o".repeat(253));
    let tar = Tar::new()
        .long(b'L', long.as_bytes())
        .file("x", "1")
        .long(b'L', other.as_bytes())
        .file("x", "2")
        .end();
    low.unpack(&tar).unwrap();
    let union = Spoken::open(Some(&up), &[&low]);
    union.rm(&long).unwrap().unwrap();
    union.mv(&other, "short").unwrap().unwrap();
    let (_, packed) = commit(&union, &[&low]);
    assert_eq!(names(&packed), [format!(".wh.{long}"), format!(".wh.{other}"), "short".to_owned()]);
}

#[test]
fn the_root_s_own_attributes() {
    if !root() {
        return;
    }
    let (up, low) = (Place::new(), base());
    let union = Spoken::open(Some(&up), &[&low]);
    union.chmod("", 0o700).unwrap();
    let (_, packed) = commit(&union, &[&low]);
    assert_eq!(names(&packed), ["./"]);
}

const PATHS: [&str; 12] =
    ["d", "d/a", "d/b", "d/e", "d/e/f", "d/e/h2", "h1", "l", "empty", "new", "d/new", "empty/x"];

fn step(union: &Spoken, (what, one, other): (u8, usize, usize)) {
    let (one, other) = (PATHS[one], PATHS[other]);
    // Most are refused, as in life.
    match what % 11 {
        0 => drop(union.file(one)),
        1 => drop(union.write(one, other)),
        2 => drop(union.mkdir(one)),
        3 => drop(union.rm(one)),
        4 => drop(union.rmdir(one)),
        5 | 6 => drop(union.mv(one, other)),
        7 => drop(union.link(one, other)),
        8 => drop(union.symlink(one, other)),
        9 => drop(union.chmod(one, 0o700)),
        _ => drop(union.mark(one, other)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commits_of_random_changes(steps in proptest::collection::vec((any::<u8>(), 0usize..12, 0usize..12), 1..25)) {
    if !root() {
        return Ok(());
    }
        let (up, low) = (Place::new(), base());
        let union = Spoken::open(Some(&up), &[&low]);
        for one in steps {
            step(&union, one);
        }
        commit(&union, &[&low]);
        // And as another process finds it.
        drop(union);
        commit(&Spoken::open(Some(&up), &[&low]), &[&low]);
    }
}
