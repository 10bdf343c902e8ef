//! The forms in which archives tell names, numbers, times and holes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use plyfs_image::limits::Limits;
use plyfs_image::unpack::{Loss, UnpackOptions, unpack_blob};

use crate::support::{Head, Place, Tar, lost, root, seal, tree, xattrs};

fn stat(place: &Place, name: &str) -> fs::Metadata {
    fs::symlink_metadata(place.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn long_names() {
    let place = Place::new();
    let name = |word: &str| format!("{}/{word}", "long-directory-name".repeat(10));
    let mut prefixed = Head::new("in-name", b'0').block();
    prefixed[345..356].copy_from_slice(b"in/a/prefix");
    seal(&mut prefixed);
    let tar = Tar::new()
        .long(b'L', name("gnu").as_bytes())
        .file("short", "gnu")
        .long(b'K', name("gnu").as_bytes())
        .symlink("link", "x")
        .pax(b'x', &[("path", name("pax").as_bytes())])
        .file("short", "pax")
        .long(b'K', name("pax").as_bytes())
        .long(b'L', b"hard")
        .hard_link("short", "x")
        .pax(b'x', &[("path", b"not\xffutf8")])
        .file("x", "raw")
        .block(&prefixed)
        .end();
    place.unpack(&tar).unwrap();
    assert_eq!((place.text(&name("gnu")), place.text(&name("pax"))), ("gnu".into(), "pax".into()));
    assert_eq!(fs::read_link(place.at("link")).unwrap().to_str(), Some(&name("gnu")[..]));
    assert_eq!(place.text("hard"), "pax");
    assert_eq!(place.text("in/a/prefix/in-name"), "");
    assert!(!place.at("short").exists());
}

#[test]
fn numbers_and_times() {
    let place = Place::new();
    let mut old = Head::new("old", b'0').block();
    // Base-256: a time before the epoch.
    old[136..148].copy_from_slice(&[0xff; 12]);
    seal(&mut old);
    let tar = Tar::new()
        .block(&old)
        .pax(b'g', &[("mtime", b"77.5"), ("comment", b"from a tool")])
        .file("global", "")
        .pax(b'x', &[("mtime", b"1234567890.123456789"), ("atime", b"2000000000.000000001")])
        .file("own", "")
        .pax(b'x', &[("mtime", b"-1.5")])
        .symlink("before", "x")
        .pax(b'x', &[("mtime", b"")])
        .dir("d")
        .file("d/f", "")
        .end();
    place.unpack(&tar).unwrap();
    let times = |name: &str| (stat(&place, name).mtime(), stat(&place, name).mtime_nsec());
    assert_eq!(times("old"), (-1, 0));
    assert_eq!(times("global"), (77, 500_000_000));
    assert_eq!(times("own"), (1_234_567_890, 123_456_789));
    assert_eq!((stat(&place, "own").atime(), stat(&place, "own").atime_nsec()), (2_000_000_000, 1));
    assert_eq!(times("before"), (-2, 500_000_000));
    // Taken back: the header's own. A directory has it although a file came after it.
    assert_eq!(times("d"), (1_000_000_000, 0));
}

#[test]
fn large_owners() {
    if !root() {
        return;
    }
    let place = Place::new();
    let mut base = Head::new("base", b'0').block();
    base[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]);
    seal(&mut base);
    let tar = Tar::new()
        .block(&base)
        .pax(b'x', &[("uid", b"3000000"), ("gid", b"4294967294")])
        .file("pax", "")
        .end();
    place.unpack(&tar).unwrap();
    assert_eq!(stat(&place, "base").uid(), 0x7fff_ffff);
    assert_eq!((stat(&place, "pax").uid(), stat(&place, "pax").gid()), (3_000_000, 4_294_967_294));
    for (key, value) in [("uid", "4294967295"), ("uid", "4294967296"), ("gid", "-1")] {
        place.refused(&Tar::new().pax(b'x', &[(key, value.as_bytes())]).file("a", "").end(), "number");
    }
}

#[test]
fn old_types() {
    let place = Place::new();
    let mut v7 = Head::new("v7/", 0).mode(0o755).block();
    v7[257..265].fill(0);
    seal(&mut v7);
    let tar = Tar::new()
        .block(&v7)
        .raw(&Head::new("v7/file", 0).size(3), b"old")
        .raw(&Head::new("contiguous", b'7').size(1), b"c")
        .end();
    place.unpack(&tar).unwrap();
    assert_eq!((place.text("v7/file"), place.text("contiguous")), ("old".into(), "c".into()));
    // No end of archive at all: as Go's reader, an end.
    let place = Place::new();
    place.unpack(&Tar::new().file("a", "x").0).unwrap();
    place.unpack(b"").unwrap();
    let cut = Tar::new().file("a", vec![1; 600]).0;
    for at in [1, 511, 513, 1111] {
        let place = Place::new();
        place.refused(&cut[..at], "cut off");
    }
}

/// A file of three pieces, the last two in an extension.
fn sparse() -> (Vec<u8>, Vec<u8>) {
    let pieces = [(0u64, 512u64), (1 << 20, 1000), (3 << 20, 0)];
    let piece = |(offset, len): (u64, u64)| format!("{offset:011o}\0{len:011o}\0").into_bytes();
    let mut head = Head { gnu: true, ..Head::new("sparse", b'S').size(1512) }.block();
    head[386..410].copy_from_slice(&piece(pieces[0]));
    head[482] = 1;
    head[483..495].copy_from_slice(format!("{:011o}\0", 3 << 20).as_bytes());
    seal(&mut head);
    let mut extension = [0; 512];
    extension[..24].copy_from_slice(&piece(pieces[1]));
    extension[24..48].copy_from_slice(&piece(pieces[2]));
    let body = [vec![1; 512], vec![2; 1000]].concat();
    let mut want = vec![0; 3 << 20];
    want[..512].fill(1);
    want[1 << 20..(1 << 20) + 1000].fill(2);
    (Tar::new().block(&head).block(&extension).body(&body).file("after", "x").end(), want)
}

#[test]
fn gnu_sparse_files() {
    let place = Place::new();
    let (tar, want) = sparse();
    let done = place.unpack(&tar).unwrap();
    assert!(fs::read(place.at("sparse")).unwrap() == want);
    assert!(stat(&place, "sparse").blocks() < 1000, "holes were filled");
    assert_eq!((done.size, place.text("after")), ((3 << 20) + 1, "x".into()));
    let pax = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.name", b"f")];
    place.refused(&Tar::new().pax(b'x', &pax).file("GNUSparseFile.0/f", "").end(), "PAX form");
}

#[test]
fn xattrs_of_every_kind_of_entry() {
    let place = Place::new();
    let value: Vec<u8> = (0..=255).collect();
    let records = [("SCHILY.xattr.user.all-bytes", &value[..]), ("SCHILY.xattr.user.empty", b"")];
    let tar = Tar::new()
        .pax(b'x', &records)
        .file("f", "x")
        .pax(b'x', &records)
        .dir("d")
        .pax(b'x', &records)
        .symlink("l", "x")
        .pax(b'x', &[("LIBARCHIVE.xattr.user.a", b"YQ==")])
        .file("other", "")
        .end();
    let done = place.unpack(&tar).unwrap();
    let want = [("user.all-bytes".to_owned(), value.clone()), ("user.empty".to_owned(), Vec::new())];
    assert_eq!(xattrs(&place.at("f")), want);
    assert_eq!(xattrs(&place.at("d")), want);
    // Linux has no `user.` xattrs on symlinks: told.
    assert!(lost(&done, Loss::Xattr) && lost(&done, Loss::Unread));
    assert_eq!(done.warnings.iter().find(|w| w.loss == Loss::Xattr).unwrap().first, "l");
}

#[test]
fn modes_do_not_depend_on_the_umask_or_the_parent() {
    let place = Place::new();
    let tar = Tar::new()
        .raw(&Head::new("d", b'5').mode(0o2777), b"")
        .raw(&Head::new("d/f", b'0').mode(0o666), b"")
        .raw(&Head::new("d/sub", b'5').mode(0o1777), b"")
        .raw(&Head::new("closed", b'5').mode(0o000), b"")
        .raw(&Head::new("closed/p", b'6').mode(0o622), b"")
        .end();
    place.unpack(&tar).unwrap();
    let mode = |name: &str| stat(&place, name).mode() & 0o7777;
    assert_eq!((mode("d"), mode("d/f"), mode("d/sub")), (0o2777, 0o666, 0o1777));
    if root() {
        assert_eq!((mode("closed"), mode("closed/p")), (0, 0o622));
    }
}

#[test]
fn a_default_acl_does_not_rub_off() {
    let place = Place::new();
    // u::rwx,u:1000:rwx,g::r-x,m::rwx,o::r-x, as the kernel keeps it.
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 7, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)];
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        acl.extend([&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let tar = Tar::new()
        .pax(b'x', &[("SCHILY.xattr.system.posix_acl_default", &acl)])
        .dir("d")
        .file("d/f", "")
        .dir("d/sub")
        .end();
    let done = place.unpack(&tar).unwrap();
    if lost(&done, Loss::Xattr) {
        eprintln!("SKIPPED: no ACLs on this filesystem");
        return;
    }
    assert_eq!(xattrs(&place.at("d")), [("system.posix_acl_default".to_owned(), acl)]);
    assert_eq!(xattrs(&place.at("d/f")), []);
    assert_eq!(xattrs(&place.at("d/sub")), []);
    assert_eq!(stat(&place, "d/f").mode() & 0o7777, 0o644);
}

#[test]
fn blobs_of_every_compression_give_the_same_layer() {
    use std::io::Write;
    let noise: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let tar = Tar::new().dir("d").file("d/noise", &noise).file("d/zeros", vec![0; 4 << 20]).end();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let members: Vec<u8> = tar.chunks(700_001).flat_map(gzip).collect();
    let frames: Vec<u8> = tar.chunks(700_001).flat_map(|part| zstd::encode_all(part, 1).unwrap()).collect();
    let mut layers = Vec::new();
    for blob in [tar.clone(), gzip(&tar), members, zstd::encode_all(&tar[..], 1).unwrap(), frames] {
        let place = Place::new();
        let limits = Limits::default();
        let done = unpack_blob(&blob[..], &place.dir(), &UnpackOptions::new(&limits), None).unwrap();
        assert_eq!(done.size, blob.len() as u64);
        let mut tree = tree(&place.layer());
        tree.remove(std::path::Path::new(""));
        layers.push((done.layer.diff_id, done.layer.size, tree));
    }
    for layer in &layers {
        assert_eq!(*layer, layers[0]);
    }
}
