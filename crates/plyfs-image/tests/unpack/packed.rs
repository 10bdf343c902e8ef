//! Packing layer directories: there and back, the same bytes each time, in an order that other readers need.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use plyfs_image::digest::{DiffId, Digest};
use plyfs_image::pack::{Error, pack_dir};

use crate::support::{Head, Place, Tar, root, tree};

pub(crate) fn without_root(place: &Place) -> BTreeMap<PathBuf, String> {
    let mut all = tree(&place.layer());
    all.remove(std::path::Path::new(""));
    all
}

/// Names of an archive's entries, by a reader that is not ours.
pub(crate) fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    entries.map(|entry| String::from_utf8_lossy(&entry.unwrap().path_bytes()).into_owned()).collect()
}

fn rich() -> Vec<u8> {
    let deep = format!("{}/file", "directory".repeat(12));
    let mut tar = Tar::new()
        .raw(&Head::new("./", b'5').mode(0o751), b"")
        .dir("d")
        .file("d/.wh..wh..opq", "")
        .file("d/z", "z")
        .file("d/.wh.gone", "")
        .file("d/a", vec![b'a'; 100_000])
        .hard_link("hard", "d/a")
        .symlink("l", "d/a")
        .long(b'K', &[b't'; 200])
        .symlink("long-link", "x")
        .pax(
            b'x',
            &[
                ("mtime", b"1500000000.000000005"),
                ("SCHILY.xattr.user.k", b"v\n\0"),
                ("SCHILY.xattr.user.e", b""),
            ],
        )
        .raw(&Head::new("x", b'0').mode(0o4755).size(4), b"text")
        .pax(b'x', &[("path", deep.trim_end_matches("/file").as_bytes())])
        .dir("x")
        .pax(b'x', &[("path", deep.as_bytes())])
        .file("x", "deep")
        .pax(b'x', &[("path", "d/\u{fc}ml\u{e4}ut".as_bytes())])
        .file("x", "")
        .pax(b'x', &[("mtime", b"-5.5")])
        .raw(&Head::new("p", b'6'), b"")
        .long(b'L', format!(".wh.{}", "w".repeat(253)).as_bytes())
        .file("x", "");
    if rustix::process::geteuid().is_root() {
        tar = tar
            .pax(b'x', &[("uid", b"4000000")])
            .raw(&Head::new("big-owner", b'0').owner(0, 77), b"")
            .raw(&Head::new("null", b'3').dev(1, 3), b"")
            .raw(&Head::new("zero", b'3').dev(0, 0), b"");
    }
    tar.end()
}

#[test]
fn there_and_back() {
    let place = Place::new();
    place.unpack(&rich()).unwrap();
    let mut packed = Vec::new();
    let done = pack_dir(&place.dir(), &mut packed).unwrap();
    assert_eq!(done.diff_id, DiffId(Digest::of(&packed)));
    assert_eq!(done.bytes, packed.len() as u64);
    let again = Place::new();
    let unpacked = again.unpack(&packed).unwrap();
    assert_eq!((unpacked.entries, unpacked.warnings.len()), (done.entries, 0));
    assert_eq!(without_root(&again), without_root(&place));
    assert_eq!(fs::metadata(again.layer()).unwrap().permissions().mode() & 0o7777, 0o751);
    // The same bytes from another directory with the same content.
    let mut twice = Vec::new();
    pack_dir(&again.dir(), &mut twice).unwrap();
    assert!(packed == twice);
}

#[test]
fn order_is_fixed_and_whiteouts_come_first() {
    if !root() {
        return;
    }
    let place = Place::new();
    let tar = Tar::new()
        .file("b", "")
        .file("a.c", "")
        .dir("a")
        .file("a/z", "")
        .file("a/.wh.y", "")
        .file("a/.wh..wh..opq", "")
        .file(".wh.z", "")
        .file("B", "")
        .hard_link("0", "b")
        .end();
    place.unpack(&tar).unwrap();
    // What a branch keeps for itself stays behind.
    for private in [".wh..wh.aufs", ".wh..wh..plyfs.1.2.3", "a/.wh..wh..plyfs.1.2.3"] {
        fs::write(place.at(private), "").unwrap();
    }
    fs::create_dir(place.at(".wh..wh.plnk")).unwrap();
    fs::write(place.at(".wh..wh.plnk/1.2"), "").unwrap();
    std::os::unix::net::UnixListener::bind(place.at("socket")).unwrap();
    let mut packed = Vec::new();
    let done = pack_dir(&place.dir(), &mut packed).unwrap();
    assert_eq!(names(&packed), [".wh.z", "0", "B", "a/", "a/.wh..wh..opq", "a/.wh.y", "a/z", "a.c", "b"]);
    assert_eq!(done.left_out, ["socket"]);
}

#[test]
fn whiteouts_that_are_links_of_each_other_become_files() {
    let place = Place::new();
    fs::write(place.at(".wh..wh.aufs"), "").unwrap();
    for name in [".wh.a", ".wh.b"] {
        fs::hard_link(place.at(".wh..wh.aufs"), place.at(name)).unwrap();
    }
    let mut packed = Vec::new();
    pack_dir(&place.dir(), &mut packed).unwrap();
    let again = Place::new();
    again.unpack(&packed).unwrap();
    for name in [".wh.a", ".wh.b"] {
        assert_eq!(fs::metadata(again.at(name)).unwrap().nlink(), 1);
    }
}

#[test]
fn what_depends_on_branches_below_is_refused() {
    if !root() {
        return;
    }
    for (mark, dir) in [
        ("trusted.plyfs.redirect", true),
        ("trusted.overlay.opaque", true),
        ("trusted.plyfs.data", false),
        ("trusted.overlay.metacopy", false),
    ] {
        let place = Place::new();
        place.unpack(&Tar::new().dir("d").file("f", "").end()).unwrap();
        let at = place.at(if dir { "d" } else { "f" });
        if rustix::fs::setxattr(&at, mark, b"y", rustix::fs::XattrFlags::empty()).is_err() {
            crate::support::gate(false, "trusted xattrs");
            return;
        }
        let error = pack_dir(&place.dir(), std::io::sink()).unwrap_err();
        assert!(matches!(error, Error::NotPlain { .. }), "{mark}: {error}");
    }
}
