//! Names that lead elsewhere, and links, whiteouts and roots that do (rows 1 to 8).

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::{Head, Place, Tar, lost};
use plyfs_image::limits::Limits;
use plyfs_image::unpack::{Loss, Owners, UnpackOptions};
use plyfs_sys::Dir;

use crate::stat;

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
    for i in 0..200 {
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
        for _ in 0..3 {
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
