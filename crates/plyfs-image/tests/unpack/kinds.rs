//! Every kind of entry.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use plyfs_image::digest::{DiffId, Digest};

use crate::support::{Head, Place, Tar, root};

#[test]
fn a_plain_layer() {
    if !root() {
        return;
    }
    let place = Place::new();
    let tar = Tar::new()
        .dir("./")
        .dir("./d/")
        .file("./d/a", "hello")
        .raw(&Head::new("d/s", b'0').mode(0o4755).size(3), b"sui")
        .symlink("d/l", "/d/a")
        .hard_link("d/h", "d/a")
        .raw(&Head::new("d/p", b'6'), b"")
        .file("implied/by/name", "")
        .file("big", vec![7; 3_000_000])
        .end();
    let done = place.unpack(&tar).unwrap();
    assert_eq!(done.diff_id, DiffId(Digest::of(&tar)));
    assert_eq!((done.entries, done.archive_bytes), (9, tar.len() as u64));
    assert_eq!(done.size, 5 + 3 + 4 + 3_000_000);
    assert_eq!(done.warnings, []);
    assert_eq!(place.text("d/h"), "hello");
    let stat = |name: &str| fs::symlink_metadata(place.at(name)).unwrap();
    assert_eq!(stat("d/s").mode() & 0o7777, 0o4755);
    assert_eq!(fs::read_link(place.at("d/l")).unwrap().to_str(), Some("/d/a"));
    assert_eq!(stat("d/l").mtime(), 1_000_000_000);
    assert_eq!((stat("d/a").ino(), stat("d/a").nlink()), (stat("d/h").ino(), 2));
    assert!(stat("d/p").file_type().is_fifo());
    assert_eq!(stat("implied/by").mode() & 0o7777, 0o755);
    assert_eq!((stat("d").mtime(), stat("").mtime()), (1_000_000_000, 1_000_000_000));
    assert_eq!(fs::read(place.at("big")).unwrap(), vec![7; 3_000_000]);
}
