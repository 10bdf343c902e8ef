//! What a layer may bring along: owners, devices, xattrs, reserved and temporary names (rows 13 to 16, 20).

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::support::{Head, Place, Tar, lost, record, root, seal, xattrs};
use plyfs_image::limits::Limits;
use plyfs_image::unpack::{Loss, Owners, UnpackOptions, unpack_blob};

use crate::stat;

/// Row 13: no helper programs, no names of users looked up.
#[test]
fn h13_no_helpers() {
    let place = Place::new();
    let limits = Limits::default();
    for (magic, name) in [(&b"\xfd7zXZ\0\0\0"[..], "xz"), (b"BZh9\0\0\0\0", "bzip2")] {
        let error = unpack_blob(magic, &place.dir(), &UnpackOptions::new(&limits), None).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    // The names say root and daemon; the numbers count.
    let mut head = Head::new("f", b'0').owner(1234, 5678).block();
    head[265..269].copy_from_slice(b"root");
    head[297..303].copy_from_slice(b"daemon");
    seal(&mut head);
    let tar = Tar::new().pax(b'x', &[("uname", b"root"), ("gname", b"bin")]).block(&head).end();
    if root() {
        place.unpack(&tar).unwrap();
        assert_eq!((stat(&place, "f").uid(), stat(&place, "f").gid()), (1234, 5678));
    }
}

/// Row 14: set-id bits and capabilities come as they are; devices, too, where they may be; a device 0/0 is no whiteout.
#[test]
fn h14_devices_and_set_ids() {
    if !root() {
        return;
    }
    let place = Place::new();
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tar = Tar::new()
        .pax(b'x', &[("SCHILY.xattr.security.capability", capability)])
        .raw(&Head::new("s", b'0').mode(0o6711).owner(12, 34).size(1), b"x")
        .raw(&Head::new("null", b'3').dev(1, 3), b"")
        .raw(&Head::new("zero", b'3').dev(0, 0), b"")
        .raw(&Head::new("block", b'4').dev(7, 300), b"")
        .end();
    let done = place.unpack(&tar).unwrap();
    assert_eq!(stat(&place, "s").mode() & 0o7777, 0o6711);
    assert_eq!(xattrs(&place.at("s")), [("security.capability".to_owned(), capability.to_vec())]);
    if lost(&done, Loss::Device) {
        crate::support::gate(false, "making devices");
        return;
    }
    assert!(stat(&place, "null").file_type().is_char_device() && stat(&place, "null").rdev() == 0x103);
    assert_eq!(stat(&place, "block").rdev(), rustix::fs::makedev(7, 300));
    let leaf = |name: &str| plyfs_sys::Leaf::from_bytes(name.as_bytes()).unwrap();
    assert!(plyfs_union::layer::is_device(&place.dir(), &leaf("zero")).unwrap(), "would be a whiteout");
    // Owners::Ours neither gives away nor fails.
    let place = Place::new();
    let limits = Limits::default();
    let options = UnpackOptions { owners: Owners::Ours, ..UnpackOptions::new(&limits) };
    let done = place.unpack_with(&tar, &options).unwrap();
    assert!(lost(&done, Loss::Owner));
    assert_eq!(stat(&place, "s").uid(), rustix::process::geteuid().as_raw());
}

/// Row 15: xattrs that would change what a union shows.
#[test]
fn h15_marks_in_xattrs() {
    let marks = [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.overlay.opaque",
        "user.overlay.metacopy",
        "user.fuseoverlayfs.opaque",
        "trusted.plyfs.redirect",
        "user.plyfs.data",
        "trusted.plyfs.marks",
        "user.containers.override_stat",
    ];
    let place = Place::new();
    let keys: Vec<String> = marks.iter().map(|mark| format!("SCHILY.xattr.{mark}")).collect();
    let mut records: Vec<(&str, &[u8])> = keys.iter().map(|key| (&key[..], &b"y"[..])).collect();
    records.push(("SCHILY.xattr.user.kept", b"binary\n=\0value"));
    let tar = Tar::new()
        .pax(b'x', &records)
        .dir("./")
        .pax(b'x', &records)
        .dir("d")
        .pax(b'x', &records)
        .file("f", "x")
        .pax(b'x', &records)
        .file(".wh.w", "")
        .end();
    let done = place.unpack(&tar).unwrap();
    assert!(lost(&done, Loss::MarkXattr));
    let kept = [("user.kept".to_owned(), b"binary\n=\0value".to_vec())];
    for (name, want) in [("", &kept[..]), ("d", &kept), ("f", &kept), (".wh.w", &[])] {
        if name.is_empty() || !lost(&done, Loss::Xattr) {
            assert_eq!(xattrs(&place.at(name)), want, "{name}");
        }
    }
    let empty_name = record("SCHILY.xattr.", b"x");
    let tar =
        Tar::new().raw(&Head::new("x", b'x').size(empty_name.len() as u64), &empty_name).file("e", "").end();
    place.unpack(&tar).unwrap();
}

/// Row 16: reserved names can't be made inside a container; private words in an archive do nothing.
#[test]
fn h16_reserved_names() {
    if !root() {
        return;
    }
    use plyfs_union::spec::{Unknown, parse};
    use plyfs_union::{Caller, Ino, NewNode, Union};
    let place = Place::new();
    let spec = format!("br:{}=rw", place.layer().display());
    let union = Union::open(&parse(&[spec.as_ref()], Unknown::Refuse).unwrap().spec).unwrap();
    for name in [".wh.x", ".wh..wh..opq", ".wh."] {
        let node = NewNode { kind: plyfs_union::Kind::File, perm: 0o644, rdev: (0, 0) };
        assert!(union.mknod(&Caller::me(), Ino::ROOT, name.as_ref(), node).is_err(), "{name}");
    }
    let mut layer = Vec::new();
    let packed = plyfs_image::pack::pack_changes(&union, &mut layer).unwrap();
    assert_eq!(packed.entries, 0);
    drop(union);
    let private =
        [".wh..wh.aufs", ".wh..wh.orph/x", ".wh..wh..plyfs.1", ".wh..wh..long.0", "d/.wh..wh.plnk/x"];
    for name in private {
        let place = Place::new();
        let tar = Tar::new().file(name, "forged").symlink(name, "../canary").dir(name).end();
        let done = place.unpack(&tar).unwrap();
        assert!(lost(&done, Loss::PrivateWord));
        assert_eq!(fs::read_dir(place.layer()).unwrap().count(), 0, "{name}");
        place.refused(&Tar::new().hard_link("h", name).end(), "reserved");
    }
}

/// Row 20: nothing temporary is left, and what is temporary is in the layer's own directory.
#[test]
fn h20_temporary_names() {
    let place = Place::new();
    let tar = Tar::new()
        .dir(".wh..wh.plnk")
        .file(".wh..wh.plnk/1.2", "source")
        .hard_link("a", "/.wh..wh.plnk/1.2")
        .hard_link("b", ".wh..wh.plnk/1.2")
        .file(".wh..wh.plnk/unused", "source")
        .end();
    let done = place.unpack(&tar).unwrap();
    assert_eq!((place.text("a"), done.size), ("source".to_owned(), 6));
    assert_eq!(stat(&place, "a").ino(), stat(&place, "b").ino());
    assert_eq!(stat(&place, "a").nlink(), 2);
    assert_eq!(fs::read_dir(place.layer()).unwrap().count(), 2);
}
