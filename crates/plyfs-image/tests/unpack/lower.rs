//! Layers that refer to what is only in the layers below.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use plyfs_image::limits::Limits;
use plyfs_image::unpack::UnpackOptions;
use plyfs_union::Union;
use plyfs_union::spec::{Unknown, parse};

use crate::support::{Head, Place, Tar, root};

fn union_of(place: &Place) -> Union {
    let spec = format!("br:{}=ro+wh", place.layer().display());
    Union::open(&parse(&[spec.as_ref()], Unknown::Refuse).unwrap().spec).unwrap()
}

#[test]
fn a_hard_link_to_a_file_of_a_lower_layer() {
    let below = Place::new();
    let tar = Tar::new()
        .dir("d")
        .pax(b'x', &[("SCHILY.xattr.user.a", b"1"), ("mtime", b"5.25")])
        .raw(&Head::new("d/f", b'0').mode(0o4751).size(5), b"hello")
        .symlink("d/l", "f")
        .end();
    below.unpack(&tar).unwrap();
    let lower = union_of(&below);
    let limits = Limits::default();
    let options = UnpackOptions { lower: Some(&lower), ..UnpackOptions::new(&limits) };
    let place = Place::new();
    let tar = Tar::new().hard_link("new", "d/f").hard_link("d/l2", "./d/l").end();
    let done = place.unpack_with(&tar, &options).unwrap();
    let (new, old) =
        (fs::symlink_metadata(place.at("new")).unwrap(), fs::symlink_metadata(place.at("d/f")).unwrap());
    assert_eq!((new.ino(), new.nlink(), new.mode() & 0o7777), (old.ino(), 2, 0o4751));
    assert_eq!((new.mtime(), new.mtime_nsec()), (5, 250_000_000));
    assert_eq!((place.text("new"), done.size), ("hello".to_owned(), 6));
    assert_eq!(fs::read_link(place.at("d/l2")).unwrap().to_str(), Some("f"));
    assert_eq!(crate::support::xattrs(&place.at("new")), [("user.a".to_owned(), b"1".to_vec())]);
    let place = Place::new();
    let error = place.unpack_with(&Tar::new().hard_link("new", "d").end(), &options).unwrap_err();
    assert!(error.to_string().contains("directory"), "{error}");
    let error = place.unpack_with(&Tar::new().hard_link("new", "absent").end(), &options).unwrap_err();
    assert!(error.to_string().contains("neither"), "{error}");
    place.refused(&tar, "no layers below");
}

#[test]
fn a_directory_that_only_leads_somewhere_is_as_it_is_below() {
    if !root() {
        return;
    }
    let below = Place::new();
    below.unpack(&Tar::new().raw(&Head::new("tmp", b'5').mode(0o1777), b"").end()).unwrap();
    let lower = union_of(&below);
    let limits = Limits::default();
    let options = UnpackOptions { lower: Some(&lower), ..UnpackOptions::new(&limits) };
    let place = Place::new();
    place.unpack_with(&Tar::new().file("tmp/a/f", "").file("tmp/.wh.x", "").end(), &options).unwrap();
    let mode = |name: &str| fs::metadata(place.at(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("tmp"), mode("tmp/a")), (0o1777, 0o755));
    assert_eq!(fs::metadata(place.at("tmp")).unwrap().mtime(), 1_000_000_000);
}
