//! A mount with an image index: the kernel's requests for names and attributes touch no layer, and what does not fit is
//! left aside.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use plyfs_tests::mount::options;
use plyfs_tests::{Mount, Scratch, require_root};
use plyfs_union::image;

const BRANCHES: [&str; 6] = ["up", "l0", "l1", "l2", "l3", "l4"];

/// Five layers, and where their index is.
fn image_of_five(scratch: &Scratch) -> PathBuf {
    for (at, layer) in BRANCHES[1..].iter().enumerate() {
        for name in ["all", "own"] {
            scratch.file(format!("{layer}/dir/deep/{name}{}", if name == "own" { at } else { 0 }), *layer);
        }
        fs::set_permissions(scratch.path(format!("{layer}/dir")), fs::Permissions::from_mode(0o751)).unwrap();
    }
    scratch.file("l1/dir/.wh.gone", "");
    scratch.file("l3/dir/gone", "");
    std::os::unix::fs::symlink("dir/deep/all0", scratch.path("l4/link")).unwrap();
    let layers: Vec<PathBuf> = BRANCHES[1..].iter().map(|name| scratch.path(name)).collect();
    let index = scratch.path("index");
    image::build(&layers, &index).unwrap();
    index
}

fn with_index(scratch: &Scratch, index: &Path) -> String {
    let plain = options(scratch, &BRANCHES);
    format!("{plain},image_index={}", index.display())
}

/// Every object's attributes and target.
fn walk(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![top.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let target = if meta.is_symlink() { fs::read_link(&path).unwrap() } else { PathBuf::new() };
        let facts = [u64::from(meta.mode()), meta.nlink(), meta.ino(), meta.size(), meta.blocks()];
        let line = format!(
            "{facts:?} {}:{} {}.{} {target:?}",
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.ctime_nsec()
        );
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.insert(path.strip_prefix(top).unwrap().to_path_buf(), line);
    }
    all
}

#[test]
fn names_and_attributes_come_from_the_index() {
    if !require_root("mounting") {
        return;
    }
    let scratch = Scratch::new();
    let index = image_of_five(&scratch);
    let mount = Mount::stack(&scratch, &BRANCHES);
    let before = walk(mount.dir());
    mount.unmount();
    assert_eq!(before.len(), 10, "{before:#?}");
    let mount = Mount::new(&with_index(&scratch, &index), scratch.dir("mnt"));
    for layer in &BRANCHES[1..] {
        fs::remove_dir_all(scratch.path(layer)).unwrap();
        scratch.dir(layer);
    }
    assert_eq!(walk(mount.dir()), before);
    assert!(!mount.path("dir/gone").exists() && !mount.path("dir/absent").exists());
    // The content is not in the index, and nobody makes it up.
    fs::read(mount.path("dir/deep/own0")).unwrap_err();
    // The writable branch is what it is.
    fs::write(mount.path("new"), "new").unwrap();
    assert_eq!(fs::read_to_string(mount.path("new")).unwrap(), "new");
    mount.unmount();
    // The layers are others now: the index is left aside.
    let mount = Mount::new(&with_index(&scratch, &index), scratch.dir("mnt"));
    assert_eq!(walk(mount.dir()).len(), 2);
    mount.unmount();
}
