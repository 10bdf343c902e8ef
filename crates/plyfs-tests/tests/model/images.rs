//! Image indexes: a union that knows its lowest branches from one shows just what a union without shows, in every
//! attribute; also where those branches were once a writable branch, with all the facts that plyfs keeps there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use plyfs_tests::model::layers::{Item, Layer, layer};
use plyfs_tests::model::op::{Op, Place, op, place};
use plyfs_tests::model::{engine, real};
use plyfs_tests::random::check;
use plyfs_tests::{Scratch, Snapshot};
use plyfs_union::image;
use plyfs_union::spec::{BranchSpec, MountSpec, Perm};
use plyfs_union::{Attr, Ino, Kind, Time, Union};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::bench::Bench;

/// What [`Item`] has no word for; what does not fit is left out.
#[derive(Debug, Clone)]
enum Extra {
    Xattr(Place, &'static str),
    /// Opaque as overlayfs says it.
    Opaque(Place),
    /// Renamed as overlayfs says it.
    Redirect(Place, Place),
    /// A character device: 0/0 is overlayfs' whiteout.
    Device(Place, u32),
    /// A name of 255 bytes, of bytes that are no text, or with odd characters.
    Name(Place, &'static [u8]),
    LongLink(Place),
    Sparse(Place),
    Owner(Place),
}

fn extra() -> impl Strategy<Value = Extra> {
    let xattrs = select(vec!["user.a", "trusted.b", "security.c", "user.overlay.d"]);
    let names = select(vec![&[b'n'; 255][..], b"\xff\xfe", b"a b\n", b".wh", b"\x80.wh."]);
    prop_oneof![
        (place(), xattrs).prop_map(|(p, x)| Extra::Xattr(p, x)),
        place().prop_map(Extra::Opaque),
        (place(), place()).prop_map(|(p, to)| Extra::Redirect(p, to)),
        (place(), 0..2_u32).prop_map(|(p, number)| Extra::Device(p, number)),
        (place(), names).prop_map(|(p, name)| Extra::Name(p, name)),
        place().prop_map(Extra::LongLink),
        place().prop_map(Extra::Sparse),
        place().prop_map(Extra::Owner),
    ]
}

fn add(branch: &Path, extra: &Extra) {
    let at = |place: &Place| branch.join(place.path());
    let xattr = |place: &Place, name: &str, value: &[u8]| {
        // On what is no symlink, where it exists.
        let _misfit = plyfs_tests::tree::setxattr(&at(place), name, value);
    };
    match extra {
        Extra::Xattr(place, name) => xattr(place, name, b"1"),
        Extra::Opaque(place) => xattr(place, "trusted.overlay.opaque", b"y"),
        Extra::Redirect(place, to) => {
            xattr(place, "trusted.overlay.redirect", format!("/{}", to.path().display()).as_bytes());
        }
        Extra::Device(place, number) => {
            let kind = rustix::fs::FileType::CharacterDevice;
            let dev = rustix::fs::makedev(*number, 0);
            let _taken = rustix::fs::mknodat(rustix::fs::CWD, at(place), kind, 0o600.into(), dev);
        }
        Extra::Name(place, name) => {
            let _no_folder = fs::write(at(place).join(OsStr::from_bytes(name)), "odd");
        }
        Extra::LongLink(place) => {
            let _taken = std::os::unix::fs::symlink("t/".repeat(1000), at(place));
        }
        Extra::Sparse(place) => {
            // A FIFO would wait for its other end.
            if fs::symlink_metadata(at(place)).is_ok_and(|meta| meta.is_file()) {
                fs::OpenOptions::new().write(true).open(at(place)).unwrap().set_len(100_000).unwrap();
            }
        }
        Extra::Owner(place) => {
            let _absent = std::os::unix::fs::lchown(at(place), Some(7), Some(8));
        }
    }
}

/// Names of xattrs that are asked for whether they are there or not.
const ASKED: [&str; 8] = [
    "user.a",
    "trusted.b",
    "security.c",
    "security.capability",
    "user.overlay.d",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "other.none",
];

/// All that the union says of itself; times of access, which reading changes, left out.
fn everything(union: &Union) -> Result<Snapshot, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![(PathBuf::new(), Ino::ROOT)];
    while let Some((path, ino)) = todo.pop() {
        let at = |e: plyfs_union::Error| format!("{}: {e}", path.display());
        let attr = union.getattr(ino, None).map_err(at)?;
        let mut text = format!("{:?}", timeless(attr));
        if attr.kind == Kind::Symlink {
            text += &format!(" -> {:?}", union.readlink(ino).map_err(at)?);
        }
        text += &format!(" {:?}", String::from_utf8_lossy(&union.listxattr(ino).map_err(at)?));
        for name in ASKED {
            let value = union.getxattr(ino, name.as_ref()).map_err(|e| e.errno());
            text += &format!(" {name}={value:?}");
        }
        all.insert(path.clone(), text);
        if attr.kind == Kind::Dir {
            let mut names = Vec::new();
            let mut line = |entry: plyfs_union::DirEntry<'_>| {
                names.push((entry.name.to_os_string(), entry.ino, entry.kind, entry.cookie));
                ControlFlow::Continue(())
            };
            union.list(ino, 2, &mut line).map_err(at)?;
            for (name, number, kind, cookie) in names {
                let child = union.lookup(ino, &name).map_err(at)?.ok_or("listed, not found")?;
                let path = path.join(&name);
                // As the look-up says, which must be what is said later.
                let key = path.join(format!("/{number} {kind:?} {cookie}"));
                all.insert(
                    key.strip_prefix("/").unwrap_or(&key).into(),
                    format!("{:?}", timeless(child.attr)),
                );
                todo.push((path, child.ino));
            }
        }
    }
    Ok(Snapshot(all))
}

fn timeless(attr: Attr) -> Attr {
    Attr { atime: Time { sec: 0, nsec: 0 }, ..attr }
}

/// Opens `spec` with and without an image index of all branches from `first` on, and compares.
fn same_with_and_without(scratch: &Scratch, spec: &MountSpec, first: usize) -> Result<(), String> {
    let failed = |e: plyfs_union::Error| e.to_string();
    let layers: Vec<PathBuf> = spec.branches[first..].iter().map(|branch| branch.path.clone()).collect();
    let index = scratch.path("index");
    let built = image::build(&layers, &index).map_err(failed)?;
    assert_eq!(built.bytes, fs::metadata(&index).unwrap().len());
    let spec = MountSpec { look_only: true, image_index: None, ..spec.clone() };
    let without = everything(&Union::open(&spec).map_err(failed)?)?;
    let spec = MountSpec { image_index: Some(index.clone()), ..spec };
    let with = Union::open(&spec).map_err(failed)?;
    if with.image_index().is_none() {
        return Err("the index is not used".to_owned());
    }
    // Twice: nodes that are found, and nodes that are known.
    for when in ["first", "again"] {
        let lines = without.diff(&everything(&with)?);
        if !lines.is_empty() {
            return Err(format!("{when} (without | with):\n{}", lines.join("\n")));
        }
    }
    if with.image_index().is_none() {
        return Err("the index is not used any more".to_owned());
    }
    let found = image::verify(&index, &layers).map_err(failed)?;
    if found.is_empty() { Ok(()) } else { Err(format!("verify: {found:?}")) }
}

type Case = (Vec<(Vec<Item>, Vec<Extra>)>, usize);

fn cases() -> impl Strategy<Value = Case> {
    (vec((layer(), vec(extra(), 0..8)), 1..=6), 0..3_usize)
}

fn compare((layers, above): Case) -> Result<(), String> {
    let scratch = Scratch::new();
    let mut spec = MountSpec::default();
    for (at, (items, extras)) in layers.iter().enumerate() {
        let path = scratch.dir(format!("br{at}"));
        Layer::new(items).write(&path);
        extras.iter().for_each(|extra| add(&path, extra));
        spec.branches.push(BranchSpec::new(&path, Perm::Ro).with_wh());
    }
    same_with_and_without(&scratch, &spec, above.min(layers.len() - 1))
}

#[test]
fn what_is_known_is_what_is_there() {
    check(300, &cases(), compare);
}

/// Layers that were a container's: operations, then the writable branch becomes a layer, twice, and more operations.
fn freeze((layers, ops): (Vec<Vec<Item>>, [Vec<Op>; 3])) -> Result<(), String> {
    let mut bench = Bench::new(&layers, 1)?;
    for (round, ops) in ops.iter().enumerate() {
        for op in ops {
            // Refused or not: what has come of it is a state of a branch.
            let _refused = engine::apply(bench.union(), op);
        }
        bench.union = None;
        same_with_and_without(&bench.scratch, &bench.spec, 1)
            .map_err(|why| format!("round {round}: {why}"))?;
        bench.spec.branches[0] = BranchSpec::new(&bench.spec.branches[0].path, Perm::Ro).with_wh();
        let top = bench.scratch.dir(format!("top{round}"));
        bench.spec.branches.insert(0, BranchSpec::new(top, Perm::Rw));
        same_with_and_without(&bench.scratch, &bench.spec, 1)
            .map_err(|why| format!("frozen {round}: {why}"))?;
        bench.spec.image_index = Some(bench.scratch.path("index"));
        bench.reopen()?;
    }
    Ok(())
}

#[test]
fn branches_with_facts_of_plyfs_are_known_too() {
    let ops = || vec(op(false), 1..25);
    let cases = (vec(layer(), 2..=3), (ops(), ops(), ops()).prop_map(|(a, b, c)| [a, b, c]));
    check(150, &cases, freeze);
}

/// What is changed in a layer is found, whatever it is.
fn notice((layers, ops): (Vec<Vec<Item>>, Vec<(usize, Op)>)) -> Result<(), String> {
    let scratch = Scratch::new();
    let paths: Vec<PathBuf> = (0..layers.len()).map(|at| scratch.dir(format!("br{at}"))).collect();
    for (items, path) in layers.iter().zip(&paths) {
        Layer::new(items).write(path);
    }
    let index = scratch.path("index");
    image::build(&paths, &index).map_err(|e| e.to_string())?;
    let branches: Vec<_> = paths.iter().map(|path| BranchSpec::new(path, Perm::Ro).with_wh()).collect();
    let spec = MountSpec { branches, look_only: true, ..MountSpec::default() };
    let show = || Union::open(&spec).map_err(|e| e.to_string()).and_then(|union| everything(&union));
    let before = show()?;
    for (branch, op) in &ops {
        let _refused = real::apply(&paths[branch % paths.len()], op);
    }
    let changed = !before.diff(&show()?).is_empty();
    let found = image::verify(&index, &paths).map_err(|e| e.to_string())?;
    match (changed, found.is_empty()) {
        (true, true) => Err("changes that show are not found".to_owned()),
        _ => Ok(()),
    }
}

#[test]
fn changes_of_layers_are_found() {
    check(150, &(vec(layer(), 1..=3), vec((0..3_usize, op(false)), 1..4)), notice);
}
