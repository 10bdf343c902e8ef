//! Docker's tests for every graph driver (moby `daemon/graphdriver/graphtest`), by its names. DiffApply: `archives`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use plyfs_store::{ChangeKind, Store};
use plyfs_tests::tree::Random;
use plyfs_tests::{Scratch, require_root};

use super::common::{Real, id, store};

/// graphtest's `createBase`.
fn create_base(store: &Store, name: &str) {
    store.driver().create(&id(name), None).unwrap();
    let got = store.driver().get(&id(name), &Real).unwrap();
    let (dir, file) = (got.path().join("a subdir"), got.path().join("a file"));
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(1), Some(2)).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o1705)).unwrap();
    fs::write(&file, "Some data").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4222)).unwrap();
    got.put().unwrap();
}

/// graphtest's `verifyBase`.
fn verify_base(root: &Path) {
    let look = |name: &str| {
        let meta = fs::symlink_metadata(root.join(name)).unwrap();
        (meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.is_dir())
    };
    assert_eq!(look("a subdir"), (0o1705, 1, 2, true));
    assert_eq!(look("a file"), (0o4222, 0, 0, false));
    assert_eq!(fs::read_to_string(root.join("a file")).unwrap(), "Some data");
    assert_eq!(plyfs_tests::tree::names(root), ["a file", "a subdir"]);
}

#[test]
fn create_empty() {
    if !require_root("owners") {
        return;
    }
    let scratch = Scratch::new();
    let store = store(&scratch);
    store.driver().create(&id("empty"), None).unwrap();
    assert!(store.driver().exists(&id("empty")));
    let got = store.driver().get(&id("empty"), &Real).unwrap();
    let meta = fs::metadata(got.path()).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o755, 0, 0));
    assert_eq!(fs::read_dir(got.path()).unwrap().count(), 0);
    got.put().unwrap();
}

#[test]
fn create_base_survives() {
    if !require_root("owners") {
        return;
    }
    let scratch = Scratch::new();
    let store = store(&scratch);
    create_base(&store, "base");
    verify_base(store.driver().get(&id("base"), &Real).unwrap().path());
}

#[test]
fn create_snap() {
    if !require_root("mounting unions") {
        return;
    }
    let scratch = Scratch::new();
    let store = store(&scratch);
    create_base(&store, "base");
    store.driver().create(&id("snap"), Some(&id("base"))).unwrap();
    let got = store.driver().get(&id("snap"), &Real).unwrap();
    verify_base(got.path());
    got.put().unwrap();
    store.driver().remove(&id("snap"), &Real).unwrap();
    verify_base(store.driver().get(&id("base"), &Real).unwrap().path());
}

/// Docker's `addLayerFiles`: in each layer a file of the layer's own, and one that is overwritten in each.
#[test]
fn deep_layer_read() {
    if !require_root("mounting unions") {
        return;
    }
    const LAYERS: u32 = 40;
    let scratch = Scratch::new();
    let store = store(&scratch);
    let driver = store.driver();
    driver.create(&id("0"), None).unwrap();
    let base = driver.get(&id("0"), &Real).unwrap();
    fs::write(base.path().join("testfile.txt"), "test contents").unwrap();
    base.put().unwrap();
    for at in 1..=LAYERS {
        driver.create(&id(at.to_string()), Some(&id((at - 1).to_string()))).unwrap();
        let got = driver.get(&id(at.to_string()), &Real).unwrap();
        fs::write(got.path().join("top-id"), at.to_string()).unwrap();
        fs::create_dir(got.path().join(format!("layer-{at}"))).unwrap();
        fs::write(got.path().join(format!("layer-{at}/layer-id")), at.to_string()).unwrap();
        got.put().unwrap();
    }
    driver.create(&id("top"), Some(&id(LAYERS.to_string()))).unwrap();
    let got = driver.get(&id("top"), &Real).unwrap();
    let read = |name: &str| fs::read_to_string(got.path().join(name)).unwrap();
    assert_eq!(read("testfile.txt"), "test contents");
    assert_eq!(read("top-id"), LAYERS.to_string());
    for at in 1..=LAYERS {
        assert_eq!(read(&format!("layer-{at}/layer-id")), at.to_string());
    }
    got.put().unwrap();
}

fn random_content(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..64).map(|_| random.below(256) as u8).collect()
}

/// Docker's `addManyFiles` and `changeManyFiles`, with its figures, and the exact list.
#[test]
fn changes() {
    if !require_root("mounting unions") {
        return;
    }
    let scratch = Scratch::new();
    let store = store(&scratch);
    let driver = store.driver();
    driver.create(&id("base"), None).unwrap();
    let base = driver.get(&id("base"), &Real).unwrap();
    fs::create_dir(base.path().join("directory-0")).unwrap();
    for at in 0..20 {
        fs::write(base.path().join(format!("directory-0/file-{at}")), random_content(3 + at)).unwrap();
    }
    base.put().unwrap();
    driver.create(&id("upper"), Some(&id("base"))).unwrap();
    let upper = driver.get(&id("upper"), &Real).unwrap();
    let mut expected = vec![(ChangeKind::Modify, "/directory-0".to_owned())];
    for at in 0..20 {
        let (kind, path) = match at % 3 {
            0 => (ChangeKind::Modify, format!("/directory-0/file-{at}")),
            1 => (ChangeKind::Add, format!("/directory-0/file-6-{at}")),
            _ => (ChangeKind::Delete, format!("/directory-0/file-{at}")),
        };
        let place = upper.path().join(&path[1..]);
        match kind {
            ChangeKind::Delete => fs::remove_file(place).unwrap(),
            ChangeKind::Add | ChangeKind::Modify => fs::write(place, random_content(6 + at)).unwrap(),
        }
        expected.push((kind, path));
    }
    let told = driver.changes(&id("upper"), Some(&id("base"))).unwrap();
    let mut told: Vec<_> = told.into_iter().map(|one| (one.kind, one.path.display().to_string())).collect();
    assert_eq!(told[0], expected[0], "the directory before what is in it");
    told.sort_by(|a, b| a.1.cmp(&b.1));
    expected.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(told, expected);
    upper.put().unwrap();
}
