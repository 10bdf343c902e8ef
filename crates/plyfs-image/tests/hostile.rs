//! Hostile layers: one test per known pitfall of layer import, each with a crafted archive. Refused or neutralised, and
//! nothing outside the layer's directory touched: every `Place` looks at a canary beside it.
//!
//! The numbers are those of the list of pitfalls: h17 (media types) belongs to manifests, not to archives, and is tested
//! where manifests are read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends by panicking and says what it skips"
)]

#[path = "unpack_support/mod.rs"]
mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use plyfs_image::digest::{DiffId, Digest};
use plyfs_image::limits::Limits;
use plyfs_image::unpack::{Error, Expected, Loss, Owners, UnpackOptions, unpack_blob};
use plyfs_sys::Dir;
use support::{Head, Place, Tar, lost, record, root, seal, xattrs};

fn stat(place: &Place, name: &str) -> fs::Metadata {
    fs::symlink_metadata(place.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn exists(place: &Place, name: &str) -> bool {
    fs::symlink_metadata(place.at(name)).is_ok()
}

/// Row 1: a symlink, then a write below it.
#[test]
fn h01_symlink_ancestor() {
    for target in ["../canary", "/canary", "../../../../canary"] {
        let place = Place::new();
        let outside = place.folder.path().join("canary");
        // Absolute outside, absolute inside, relative upwards: none leads to a directory of this layer.
        let absolute = outside.to_str().unwrap();
        for target in [target, absolute] {
            let tar = Tar::new().symlink("link", target).file("link/file", "forged").end();
            place.refused(&tar, "symlink");
            fs::remove_file(place.at("link")).unwrap();
        }
    }
    // Where it does lead inside, it works as for the container that it was made in: `/` is the layer's root.
    let place = Place::new();
    let tar = Tar::new()
        .dir("real")
        .symlink("absolute", "/real")
        .symlink("upwards", "../../../real")
        .symlink("self", "/")
        .file("absolute/a", "1")
        .file("upwards/b", "2")
        .file("self/real/c", "3")
        .file("self/self/self/d", "4")
        .end();
    place.unpack(&tar).unwrap();
    for (name, text) in [("real/a", "1"), ("real/b", "2"), ("real/c", "3"), ("d", "4")] {
        assert_eq!(place.text(name), text);
    }
    // Chains, loops, and a link that replaces a directory that was used before.
    let place = Place::new();
    let tar = Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "").end();
    place.refused(&tar, "symlink");
    let place = Place::new();
    let tar = Tar::new().dir("d").file("d/one", "").symlink("d", "../canary").file("d/file", "forged").end();
    place.refused(&tar, "symlink");
    // Symlinks that magic links could be.
    let place = Place::new();
    place.refused(&Tar::new().symlink("m", "/proc/self/root").file("m/x", "").end(), "symlink");
}

/// Row 2: somebody swaps a directory for a symlink while the layer is unpacked. What was checked is what is used.
#[test]
fn h02_race_between_check_and_use() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let place = Place::new();
    let outside = place.folder.path().join("canary");
    let (here, done) = (place.layer(), AtomicBool::new(false));
    fs::create_dir(here.join("d")).unwrap();
    std::os::unix::fs::symlink(&outside, here.join("s")).unwrap();
    let mut tar = Tar::new();
    for i in 0..400 {
        // Another directory in between, so that the parent is looked up each time.
        tar = tar.file(format!("d/f{i}"), "forged").file(format!("other/f{i}"), "");
    }
    let tar = tar.end();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = Dir::open(&here).unwrap();
            let leaf = |name: &str| plyfs_sys::Leaf::from_bytes(name.as_bytes()).unwrap();
            while !done.load(Ordering::Relaxed) {
                drop(dir.rename(&leaf("d"), &dir, &leaf("s"), plyfs_sys::RenameHow::Exchange));
            }
        });
        let limits = Limits::default();
        // It may well fail; it must not write elsewhere.
        for _ in 0..5 {
            drop(plyfs_image::unpack::unpack(&tar[..], &place.dir(), &UnpackOptions::new(&limits), None));
        }
        done.store(true, Ordering::Relaxed);
    });
    place.check_canary();
}

/// Row 3: modes, owners and times go to the object itself, never through a link.
#[test]
fn h03_attributes_through_a_link() {
    let place = Place::new();
    let outside = place.folder.path().join("canary/file");
    let tar = Tar::new()
        .raw(&Head::new("l", b'2').link(outside.to_str().unwrap()).mode(0o777), b"")
        .dir("d")
        .symlink("d/up", "../../canary")
        .file("t", "x")
        .hard_link("h", "l")
        .raw(&Head::new("l", b'2').link(outside.to_str().unwrap()).mode(0o4777).owner(1, 1), b"")
        .end();
    let options = Limits::default();
    let done = place.unpack_with(&tar, &UnpackOptions { owners: ours(), ..UnpackOptions::new(&options) });
    done.unwrap();
    assert!(stat(&place, "l").file_type().is_symlink());
    // A directory's attributes are set at the end: by then a link has taken its place.
    let place = Place::new();
    let tar = Tar::new().raw(&Head::new("d", b'5').mode(0o777), b"").symlink("d", "../canary").end();
    place.unpack(&tar).unwrap();
    assert!(stat(&place, "d").file_type().is_symlink());
}

fn ours() -> Owners {
    if rustix::process::geteuid().is_root() { Owners::AsIs } else { Owners::Ours }
}

/// Row 4: hard links to what is outside, through a symlink, to a symlink's target, to directories.
#[test]
fn h04_hard_link_out_of_the_root() {
    let outside = |place: &Place| place.folder.path().join("canary/file").to_str().unwrap().to_owned();
    let place = Place::new();
    place.refused(&Tar::new().hard_link("h", outside(&place)).end(), "hard link");
    place.refused(&Tar::new().hard_link("h", "../canary/file").end(), "..");
    // A link to a symlink is another name of the symlink, not of what it points at.
    let place = Place::new();
    let tar = Tar::new().symlink("s", outside(&place)).hard_link("h", "s").end();
    place.unpack(&tar).unwrap();
    assert!(stat(&place, "h").file_type().is_symlink());
    assert_eq!(stat(&place, "h").ino(), stat(&place, "s").ino());
    // Then a file of that name replaces the name, and does not write through it.
    let place = Place::new();
    let tar = Tar::new()
        .symlink("s", outside(&place))
        .hard_link("h", "s")
        .file("h", "forged")
        .file("s", "forged")
        .end();
    place.unpack(&tar).unwrap();
    assert_eq!(place.text("h"), "forged");
    let place = Place::new();
    place.refused(&Tar::new().symlink("up", "../canary").hard_link("h", "up/file").end(), "symlink");
    place.refused(&Tar::new().dir("d").hard_link("h", "d").end(), "directory");
    place.refused(&Tar::new().hard_link("h2", "/").end(), "directory");
    place.refused(&Tar::new().hard_link("itself", "itself").end(), "itself");
    place.refused(&Tar::new().file(".wh.x", "").hard_link("plain", ".wh.x").end(), "reserved");
    place.refused(&Tar::new().hard_link("p", ".wh..wh.plnk/1").end(), "did not come");
}

/// Row 5: whiteouts of nothing, of the directory itself, of its parent; through a symlink; of a wrong type.
#[test]
fn h05_whiteout_of_the_parent() {
    let place = Place::new();
    for name in [".wh.", ".wh..", ".wh...", "d/.wh...", "d/.wh..", "d/.wh.", "./.wh.../", ".wh.../x"] {
        place.refused(&Tar::new().dir("d").file(name, "").end(), "whiteout");
    }
    let place = Place::new();
    place.refused(&Tar::new().dir("d").symlink("l", "d").file("l/.wh.x", "").end(), "symlink");
    place.refused(&Tar::new().symlink("m", "../canary").file("m/.wh.x", "").end(), "symlink");
    place.refused(&Tar::new().symlink("o", "../canary").file("o/.wh..wh..opq", "").end(), "symlink");
    for kind in [b'2', b'3', b'4', b'5', b'6'] {
        let place = Place::new();
        place.refused(&Tar::new().raw(&Head::new(".wh.x", kind).link("y"), b"").end(), "regular file");
        place.refused(&Tar::new().raw(&Head::new(".wh..wh..opq", kind).link("y"), b"").end(), "regular file");
    }
    let place = Place::new();
    place.refused(&Tar::new().file(".wh.d/x", "").end(), "below a whiteout");
    // Contents, a link, set-id bits: the whiteout stays, they don't.
    let place = Place::new();
    let tar = Tar::new()
        .file("f", "text")
        .file(".wh.a", "contents")
        .hard_link(".wh.b", "f")
        .raw(&Head::new(".wh.c", b'0').mode(0o6755), b"")
        .end();
    let done = place.unpack(&tar).unwrap();
    assert!(lost(&done, Loss::Whiteout));
    for name in [".wh.a", ".wh.b", ".wh.c"] {
        let stat = stat(&place, name);
        assert!(
            stat.is_file() && stat.len() == 0 && stat.nlink() == 1 && stat.mode() & 0o6000 == 0,
            "{name}"
        );
    }
    // Names too long for the prefix: kept as plyfs keeps them; too long for any file: refused.
    let place = Place::new();
    let long = "n".repeat(255);
    place.unpack(&Tar::new().long(b'L', format!(".wh.{long}").as_bytes()).file("x", "").end()).unwrap();
    let there: Vec<_> = fs::read_dir(place.layer()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(fs::read_link(&there[0]).unwrap().to_str(), Some(&long[..]));
    let tar = Tar::new().long(b'L', format!(".wh.n{long}").as_bytes()).file("x", "").end();
    place.refused(&tar, "too long");
}

/// Row 6: the root as something else than a directory.
#[test]
fn h06_root_that_is_no_directory() {
    for name in ["/", "./", ".", "", "//", "././"] {
        let place = Place::new();
        place.refused(&Tar::new().symlink(name, "../canary").end(), "root");
        place.refused(&Tar::new().file(name, "x").end(), "root");
        place.refused(&Tar::new().hard_link(name, "x").end(), "root");
        assert!(place.layer().is_dir());
    }
    let place = Place::new();
    place.unpack(&Tar::new().raw(&Head::new("./", b'5').mode(0o700), b"").end()).unwrap();
    assert_eq!(stat(&place, "").mode() & 0o7777, 0o700);
}

/// Row 7: `..`, absolute names, NUL.
#[test]
fn h07_dot_dot_and_absolute_names() {
    let place = Place::new();
    let absolute = place.folder.path().join("canary/file");
    for name in ["../canary/file", "d/../../canary/file", "..", "d/..", "/../canary/file", "./../x"] {
        place.refused(&Tar::new().file(name, "forged").end(), "..");
        place.refused(&Tar::new().dir(name).end(), "..");
        place.refused(&Tar::new().pax(b'x', &[("path", name.as_bytes())]).file("x", "").end(), "..");
        place.refused(&Tar::new().long(b'L', name.as_bytes()).file("x", "").end(), "..");
    }
    place.refused(&Tar::new().pax(b'x', &[("path", b"a\0b")]).file("x", "").end(), "NUL");
    // An absolute name is one inside the layer.
    let tar =
        Tar::new().pax(b'x', &[("path", absolute.to_str().unwrap().as_bytes())]).file("x", "inside").end();
    place.unpack(&tar).unwrap();
    let inside = absolute.to_str().unwrap().trim_start_matches('/').to_owned();
    assert_eq!(place.text(&inside), "inside");
}

/// Row 8: `link/` is the link itself.
#[test]
fn h08_trailing_slash() {
    for name in ["link/", "link//", "link/.", "link/./"] {
        let place = Place::new();
        let tar = Tar::new().symlink("link", "../canary").raw(&Head::new(name, b'5').mode(0o777), b"").end();
        place.unpack(&tar).unwrap();
        assert!(stat(&place, "link").is_dir());
        let place = Place::new();
        let tar = Tar::new().symlink("link", "../canary/file").file(name, "forged").end();
        place.unpack(&tar).unwrap();
        assert_eq!(place.text("link"), "forged");
    }
    let place = Place::new();
    let tar = Tar::new().symlink("link", "../canary/file").hard_link("h", "link/").end();
    place.unpack(&tar).unwrap();
    assert!(stat(&place, "h").file_type().is_symlink());
}

/// Row 9: the same name again, of any type: the last one counts.
#[test]
fn h09_duplicates() {
    type Make = fn(Tar) -> Tar;
    let kinds: [(&str, Make); 6] = [
        ("file", |tar| tar.file("n", "first, second or third")),
        ("empty", |tar| tar.file("n", "")),
        ("dir", |tar| tar.dir("n/").file("n/inside", "deep").dir("n/e").dir("n/e/f")),
        ("symlink", |tar| tar.symlink("n", "../canary")),
        ("hard link", |tar| tar.hard_link("n", "other")),
        ("fifo", |tar| tar.raw(&Head::new("n", b'6'), b"")),
    ];
    for (before, first) in kinds {
        for (after, second) in kinds {
            let place = Place::new();
            let tar = second(first(Tar::new().file("other", "text"))).file("last", "").end();
            let done = place.unpack(&tar).unwrap_or_else(|e| panic!("{before}, then {after}: {e}"));
            let alone = Place::new();
            let want =
                alone.unpack(&second(Tar::new().file("other", "text")).file("last", "").end()).unwrap();
            let kinds = |place: &Place| {
                let mut tree = support::tree(&place.layer());
                tree.remove(std::path::Path::new(""));
                tree
            };
            assert_eq!(kinds(&place), kinds(&alone), "{before}, then {after}");
            assert_eq!(done.size, want.size, "{before}, then {after}");
        }
    }
    // A directory over a directory merges, and has the last one's attributes.
    let place = Place::new();
    let tar = Tar::new().dir("d").file("d/a", "1").raw(&Head::new("d", b'5').mode(0o700), b"").end();
    place.unpack(&tar).unwrap();
    assert_eq!((place.text("d/a"), stat(&place, "d").mode() & 0o7777), ("1".to_owned(), 0o700));
    // A file is not what other names lie below.
    place.refused(&Tar::new().file("f", "").file("f/x", "").end(), "another kind");
}

/// Row 10: archives that one reader reads so and another otherwise.
#[test]
fn h10_parser_disagreement() {
    // The PAX size counts: what a reader of the header alone takes for an entry is a file's contents.
    let inner = Tar::new().file("smuggled", "evil").end();
    let place = Place::new();
    let size = inner.len().to_string();
    let tar =
        Tar::new().pax(b'x', &[("size", size.as_bytes())]).raw(&Head::new("f", b'0').size(0), &inner).end();
    place.unpack(&tar).unwrap();
    assert!(!exists(&place, "smuggled") && stat(&place, "f").len() == inner.len() as u64);
    // An entry without contents that claims some.
    for kind in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        let place = Place::new();
        let head = Head::new("d", kind).link("x").size(1024);
        place.refused(&Tar::new().raw(&head, &inner).end(), "disagree");
        let tar =
            Tar::new().pax(b'x', &[("size", b"512")]).raw(&Head::new("d", kind).link("x"), &inner).end();
        place.refused(&tar, "disagree");
    }
    let place = Place::new();
    for records in [
        &[("size", &b"0"[..])][..],
        &[("path", b"x")],
        &[("linkpath", b"x")],
        &[("SCHILY.xattr.user.a", b"x")],
    ] {
        place.refused(&Tar::new().pax(b'g', records).file("a", "1").end(), "global header");
    }
    let one_zero = Tar::new().file("a", "").block(&[0; 512]).file("b", "").end();
    place.refused(&one_zero, "single block");
    let x = |tar: Tar| tar.pax(b'x', &[("path", b"p")]);
    place.refused(&x(x(Tar::new())).file("a", "").end(), "two extended headers");
    place.refused(&Tar::new().long(b'L', b"a").long(b'L', b"b").file("a", "").end(), "two extended headers");
    place.refused(&x(Tar::new()).end(), "without an entry");
    place.refused(&x(Tar::new()).long(b'L', b"other").file("a", "").end(), "disagree");
    let tar = Tar::new().pax(b'x', &[("linkpath", b"p")]).long(b'K', b"other").symlink("a", "x").end();
    place.refused(&tar, "disagree");
    place.refused(&Tar::new().raw(&Head::new("a", b'D'), b"").end(), "unknown type");
    let mut wrong = Head::new("a", b'0').block();
    wrong[0] ^= 1;
    place.refused(&Tar::new().block(&wrong).end(), "checksum");
    for size in ["-1", "0x10", "1e3", "99999999999999999999", " 1"] {
        place.refused(&Tar::new().pax(b'x', &[("size", size.as_bytes())]).file("a", "").end(), "number");
    }
    // Behind the end: told, and part of the digest.
    let place = Place::new();
    let tar = [Tar::new().file("a", "").end(), Tar::new().file("b", "").end()].concat();
    let done = place.unpack(&tar).unwrap();
    assert!(lost(&done, Loss::Trailing) && !exists(&place, "b"));
}

/// Row 11: huge extended headers, names, links, xattrs, maps of sparse files.
#[test]
fn h11_huge_headers() {
    let place = Place::new();
    for kind in [b'x', b'g', b'L', b'K'] {
        // Refused by what it says, before any of it is read.
        place.refused(&Tar::new().raw(&Head::new("x", kind).size(4 << 30), b"").end(), "pax_header");
    }
    let long = vec![b'n'; 5000];
    place.refused(&Tar::new().pax(b'x', &[("path", &long)]).file("a", "").end(), "limit name");
    place.refused(&Tar::new().pax(b'x', &[("linkpath", &long)]).symlink("a", "b").end(), "limit link");
    let value = vec![0; 70_000];
    place.refused(
        &Tar::new().pax(b'x', &[("SCHILY.xattr.user.a", &value)]).file("a", "").end(),
        "xattr_value",
    );
    let value = &value[..60_000];
    let names: Vec<String> = (0..5).map(|i| format!("SCHILY.xattr.user.{i}")).collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|name| (&name[..], value)).collect();
    place.refused(&Tar::new().pax(b'x', &records).file("a", "").end(), "xattrs_per_entry");
    let deep = "d/".repeat(300);
    place.refused(&Tar::new().pax(b'x', &[("path", deep.as_bytes())]).dir("d").end(), "limit depth");
    // Deeper with each symlink, though each name is short.
    let place = Place::new();
    let half = "d/".repeat(200);
    let tar = Tar::new()
        .pax(b'x', &[("path", half.as_bytes())])
        .dir("d")
        .long(b'K', &half.as_bytes()[..399])
        .symlink("s", "x");
    let rest = format!("s/{half}");
    place.refused(&tar.pax(b'x', &[("path", rest.as_bytes())]).dir("d").end(), "limit depth");
    let mut limits = Limits::default();
    limits.sparse_map = 1000;
    let error = place.unpack_with(&sparse_forever(), &UnpackOptions::new(&limits)).unwrap_err();
    assert!(error.to_string().contains("--limit sparse_map=N"), "{error}");
    let mut head = Head { gnu: true, ..Head::new("s", b'S') }.block();
    head[386..398].copy_from_slice(b"77777777777\0");
    head[398..410].copy_from_slice(b"77777777777\0");
    seal(&mut head);
    place.refused(&Tar::new().block(&head).end(), "map of a sparse file");
    let overlong = [b"9999999999 path=".to_vec(), vec![b'a'; 100], b"\n".to_vec()].concat();
    let tar =
        Tar::new().raw(&Head::new("x", b'x').size(overlong.len() as u64), &overlong).file("a", "").end();
    place.refused(&tar, "malformed");
}

/// A map that goes on and on.
fn sparse_forever() -> Vec<u8> {
    let mut head = Head { gnu: true, ..Head::new("s", b'S') }.block();
    head[482] = 1;
    head[483..495].copy_from_slice(b"77777777777\0");
    seal(&mut head);
    let mut tar = Tar::new().block(&head);
    let mut extension = [0; 512];
    for piece in extension[..504].chunks_exact_mut(24) {
        piece[..12].copy_from_slice(b"00000000001\0");
        piece[12..].copy_from_slice(b"00000000000\0");
    }
    extension[504] = 1;
    for _ in 0..1000 / 21 + 1 {
        tar = tar.block(&extension);
    }
    tar.end()
}

/// Row 12: bombs.
#[test]
fn h12_bombs() {
    let mut limits = Limits::default();
    let place = Place::new();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let blob = |blob: &[u8], limits: &Limits| {
        let error = unpack_blob(blob, &place.dir(), &UnpackOptions::new(limits), None).unwrap_err();
        place.check_canary();
        error.to_string()
    };
    (limits.ratio_from, limits.ratio) = (1 << 20, 100);
    let zeros = Tar::new().file("zeros", vec![0; 20 << 20]).end();
    for bomb in [gzip(&zeros), zstd::encode_all(&zeros[..], 3).unwrap()] {
        let error = blob(&bomb, &limits);
        assert!(error.contains("--limit ratio=N"), "{error}");
    }
    limits = Limits::default();
    limits.layer_bytes = 1 << 20;
    assert!(blob(&zeros, &limits).contains("layer_bytes"));
    // Holes count too.
    let mut hole = Head { gnu: true, ..Head::new("hole", b'S') }.block();
    hole[483..495].copy_from_slice(b"77777777777\0");
    seal(&mut hole);
    assert!(blob(&Tar::new().block(&hole).end(), &limits).contains("layer_bytes"));
    limits = Limits::default();
    limits.entries = 10;
    let many = (0..11).fold(Tar::new(), |tar, i| tar.file(i.to_string(), "")).end();
    assert!(blob(&many, &limits).contains("entries"));
    limits.entries = 11;
    limits.kept_in_memory = 1000;
    let dirs = (0..11).fold(Tar::new(), |tar, i| tar.dir(i.to_string())).end();
    assert!(blob(&dirs, &limits).contains("kept_in_memory"));
    // A frame that wants 2 GiB of memory.
    assert!(blob(b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00", &limits).contains("memory"));
}

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
        support::gate(false, "making devices");
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

/// Row 18: what was promised is compared, and a wrong digest is an error that says both.
#[test]
fn h18_digests() {
    let place = Place::new();
    let limits = Limits::default();
    let tar = Tar::new().file("a", "text").end();
    let blob = zstd::encode_all(&tar[..], 1).unwrap();
    let done = unpack_blob(&blob[..], &place.dir(), &UnpackOptions::new(&limits), None).unwrap();
    let right = Expected {
        digest: Some(Digest::of(&blob)),
        size: Some(blob.len() as u64),
        diff_id: Some(DiffId(Digest::of(&tar))),
    };
    done.verify(&right).unwrap();
    let wrong = [
        Expected { digest: Some(Digest::of(b"")), ..right.clone() },
        Expected { size: Some(1), ..right.clone() },
        Expected { diff_id: Some(DiffId(Digest::of(b""))), ..right },
    ];
    for (expected, what) in wrong.iter().zip(["digest", "size", "diff ID"]) {
        let Err(Error::Mismatch { what: told, .. }) = done.verify(expected) else {
            panic!("{what} not compared")
        };
        assert_eq!(told, what);
    }
    // A tail that only the digest knows of: behind the frames, behind the archive.
    let mut longer = tar.clone();
    longer.extend_from_slice(&[0; 10_000]);
    let place = Place::new();
    let done = unpack_blob(&longer[..], &place.dir(), &UnpackOptions::new(&limits), None).unwrap();
    assert_eq!((done.digest, done.layer.diff_id.0), (Digest::of(&longer), Digest::of(&longer)));
}

/// Row 19: broken compressed data is an error, wherever it breaks.
#[test]
fn h19_broken_compression() {
    let limits = Limits::default();
    let noise: Vec<u8> = (0..40_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let tar = Tar::new().file("a", &noise).end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&tar).unwrap();
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    zstd.include_checksum(true).unwrap();
    zstd.write_all(&tar).unwrap();
    for blob in [gzip.finish().unwrap(), zstd.finish().unwrap()] {
        for cut in (7..blob.len()).step_by(blob.len() / 40) {
            let place = Place::new();
            let unpack = |blob: &[u8]| unpack_blob(blob, &place.dir(), &UnpackOptions::new(&limits), None);
            assert!(unpack(&blob[..cut]).is_err(), "cut at {cut} of {}", blob.len());
            let mut flipped = blob.clone();
            flipped[cut] ^= 0x10;
            // A flipped bit in a header's optional fields may go unnoticed here; the digest is another.
            if let Ok(done) = unpack(&flipped) {
                assert_ne!(done.digest, Digest::of(&blob));
            }
            place.check_canary();
        }
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
