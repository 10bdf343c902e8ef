//! Docker's tests of its AUFS driver (moby v23 `daemon/graphdriver/aufs/aufs_test.go`), one by one, by its names. Diff and
//! ApplyDiff: `archives`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use plyfs_store::{Access, Change, ChangeKind, Driver, Store};
use plyfs_tests::mount::is_mounted;
use plyfs_tests::{Scratch, require_root};

use super::common::{Real, id, layer, put, store};

/// Every directory and file of layer `name` that is on disk.
fn remains(store: &Store, name: &str) -> Vec<PathBuf> {
    let aufs = store.layout().driver();
    let places = ["diff", "mnt", "layers"].map(|dir| aufs.join(dir).join(name));
    let going = ["diff", "mnt"].map(|dir| aufs.join(dir).join(format!("{name}-removing")));
    places.into_iter().chain(going).filter(|path| path.symlink_metadata().is_ok()).collect()
}

#[test]
fn new_driver() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    assert_eq!(Driver::NAME, "aufs");
    for dir in ["aufs", "aufs/mnt", "aufs/diff", "aufs/layers"] {
        let meta = fs::metadata(scratch.path("root").join(dir)).unwrap();
        assert!(meta.is_dir(), "{dir}");
        assert_eq!(meta.mode() & 0o7777, 0o710, "{dir}");
    }
    assert!(store.check().unwrap().is_empty());
}

#[test]
fn new_driver_from_existing_dir() {
    let scratch = Scratch::new();
    layer(store(&scratch).driver(), "1", None, &["f"]);
    let again = store(&scratch);
    assert!(again.driver().exists(&id("1")));
    assert!(again.driver().diff_dir(&id("1")).join("f").exists());
}

#[test]
fn create_new_dir() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let driver = store.driver();
    layer(driver, "1", None, &[]);
    layer(driver, "2", Some("1"), &[]);
    layer(driver, "3", Some("2"), &[]);
    assert_eq!(remains(&store, "1").len(), 3);
    for dir in [driver.diff_dir(&id("3")), driver.mount_dir(&id("3"))] {
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o755, "{}", dir.display());
    }
    let lines = |name: &str| fs::read_to_string(store.layout().parents_of(&id(name))).unwrap();
    assert_eq!((lines("1").as_str(), lines("2").as_str(), lines("3").as_str()), ("", "1\n", "2\n1\n"));
    let again = driver.create(&id("1"), None).unwrap_err();
    assert!(again.to_string().contains("exists already"), "{again}");
}

#[test]
fn remove_image() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    layer(store.driver(), "1", None, &["a/b/c"]);
    store.driver().remove(&id("1"), &Real).unwrap();
    assert_eq!(remains(&store, "1"), Vec::<PathBuf>::new());
    // Docker: absence is fine.
    store.driver().remove(&id("1"), &Real).unwrap();
}

#[test]
fn get_without_parent() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let dir = layer(store.driver(), "1", None, &[]);
    let got = store.driver().get(&id("1"), &Real).unwrap();
    assert_eq!(got.path(), dir);
    assert!(!store.driver().is_mounted(&id("1")).unwrap());
    got.put().unwrap();
}

#[test]
fn cleanup_with_no_dirs_and_with_dir() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    assert!(store.driver().cleanup(&Real).unwrap().is_empty());
    layer(store.driver(), "1", None, &[]);
    assert!(store.driver().cleanup(&Real).unwrap().is_empty());
    assert!(store.driver().exists(&id("1")));
}

#[test]
fn mount_with_parent() {
    if !require_root("mounting a union") {
        return;
    }
    let scratch = Scratch::new();
    let store = store(&scratch);
    let driver = store.driver();
    layer(driver, "1", None, &["below"]);
    layer(driver, "2", Some("1"), &["own"]);
    let got = driver.get(&id("2"), &Real).unwrap();
    assert_eq!(got.path(), scratch.path("root/aufs/mnt/2"));
    assert!(is_mounted(got.path()) && driver.is_mounted(&id("2")).unwrap());
    assert_eq!(plyfs_tests::tree::names(got.path()), ["below", "own"]);
    fs::write(got.path().join("new"), "x").unwrap();
    got.put().unwrap();
    assert!(!driver.is_mounted(&id("2")).unwrap());
    assert!(driver.diff_dir(&id("2")).join("new").exists());
    assert_eq!(fs::read_dir(driver.mount_dir(&id("2"))).unwrap().count(), 0);
}

#[test]
fn removed_mounted_dir() {
    if !require_root("mounting a union") {
        return;
    }
    let scratch = Scratch::new();
    let store = store(&scratch);
    let driver = store.driver();
    layer(driver, "1", None, &["below"]);
    layer(driver, "2", Some("1"), &[]);
    let place = driver.get(&id("2"), &Real).unwrap().keep();
    driver.remove(&id("2"), &Real).unwrap();
    assert!(!is_mounted(&place));
    assert_eq!(remains(&store, "2"), Vec::<PathBuf>::new());
    assert!(driver.diff_dir(&id("1")).join("below").exists());
    assert!(!store.layout().counts().join("2").exists());
}

#[test]
fn create_with_invalid_parent() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let error = store.driver().create(&id("1"), Some(&id("docker"))).unwrap_err();
    assert_eq!(error.to_string(), "no such parent layer: docker");
    // Docker left what it had made.
    assert_eq!(remains(&store, "1"), Vec::<PathBuf>::new());
    for bad in ["", ".", "..", "a/b", "../x", "1-removing", ".hidden", "a b", "a\nb"] {
        assert!(plyfs_store::LayerId::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn changes() {
    if !require_root("mounting a union") {
        return;
    }
    let scratch = Scratch::new();
    let store = store(&scratch);
    let driver = store.driver();
    let add = |path: &str| vec![Change { path: path.into(), kind: ChangeKind::Add }];
    layer(driver, "1", None, &[]);
    layer(driver, "2", Some("1"), &[]);
    let two = driver.get(&id("2"), &Real).unwrap();
    fs::File::create(two.path().join("test.txt")).unwrap();
    // Not the direct parent: Docker's generic walk.
    assert_eq!(driver.changes(&id("2"), None).unwrap(), add("/test.txt"));
    driver.create(&id("3"), Some(&id("2"))).unwrap();
    let three = driver.get(&id("3"), &Real).unwrap();
    fs::File::create(three.path().join("test2.txt")).unwrap();
    // No record for the unchanged root.
    assert_eq!(driver.changes(&id("3"), Some(&id("2"))).unwrap(), add("/test2.txt"));
}

#[test]
fn diff_size_sparse() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let dir = layer(store.driver(), "1", None, &[]);
    fs::File::create(dir.join("test_file")).unwrap().set_len(1024).unwrap();
    assert_eq!(store.driver().diff_size(&id("1")).unwrap(), 1024);
}

#[test]
fn child_diff_size() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let dir = layer(store.driver(), "1", None, &[]);
    fs::File::create(dir.join("test_file")).unwrap().set_len(1024).unwrap();
    layer(store.driver(), "2", Some("1"), &[]);
    assert_eq!(store.driver().diff_size(&id("2")).unwrap(), 0);
    assert!(store.driver().diff_size(&id("3")).unwrap_err().is_not_found());
}

#[test]
fn exists() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    layer(store.driver(), "1", None, &[]);
    assert!(!store.driver().exists(&id("none")));
    assert!(store.driver().exists(&id("1")));
    assert!(store.driver().metadata(&id("1")).is_empty());
}

#[test]
fn status() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    layer(store.driver(), "1", None, &[]);
    layer(store.driver(), "2", Some("1"), &[]);
    let rows = store.driver().status().unwrap().rows();
    let root = scratch.path("root/aufs").display().to_string();
    assert_eq!(rows[0], ("Root Dir", root));
    assert_eq!(rows[1].0, "Backing Filesystem");
    assert_eq!(rows[2], ("Dirs", "2".to_owned()));
    assert_eq!(rows[3], ("Dirperm1 Supported", "true".to_owned()));
}

#[test]
fn stale_cleanup() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    layer(store(&scratch).driver(), "1", None, &["f"]);
    for dir in ["aufs/diff/123-removing", "aufs/mnt/123-removing", "aufs/diff/no-layer", "aufs/mnt/no-layer"]
    {
        put(&root.join(dir).join("d/f"), "x");
    }
    assert!(!Store::open(&root, Access::Read, &Real).unwrap().check().unwrap().is_empty());
    let store = store(&scratch);
    assert_eq!(plyfs_tests::tree::names(root.join("aufs/diff")), ["1"]);
    assert_eq!(plyfs_tests::tree::names(root.join("aufs/mnt")), ["1"]);
    store.driver().remove(&id("1"), &Real).unwrap();
    assert!(store.check().unwrap().is_empty());
}

/// Docker's own test: each layer writes a file, every tenth deletes its parent's.
fn many_layers(root: &Path) {
    let store = Store::open(root, Access::Write, &Real).unwrap();
    let driver = store.driver();
    // As long as the ids of Docker's test, which are hashes.
    let name = |at: u32| id(format!("{at:064x}"));
    let mut expected = 0;
    let mut mounted = Vec::new();
    for at in 1..127 {
        driver.create(&name(at), (at > 1).then(|| name(at - 1)).as_ref()).unwrap();
        let got = driver.get(&name(at), &Real).unwrap();
        fs::write(got.path().join(name(at).as_str()), b"").unwrap();
        expected += 1;
        if at % 10 == 0 {
            fs::remove_file(got.path().join(name(at - 1).as_str())).unwrap();
            expected -= 1;
        }
        // Some stay mounted, as in Docker's test all do.
        if at % 25 == 1 {
            mounted.push(got);
        } else {
            got.put().unwrap();
        }
    }
    let top = driver.get(&name(126), &Real).unwrap();
    let seen = plyfs_tests::tree::names(top.path());
    assert_eq!(seen.len(), expected, "{seen:?}");
    assert!(!seen.contains(&name(119).to_string()) && seen.contains(&name(120).to_string()));
    let options = driver.spec(&name(126), true).unwrap().options().len();
    assert!(options > 126 * 64, "{options}");
    top.put().unwrap();
    mounted.into_iter().for_each(|one| one.put().unwrap());
    let deeper = driver.create(&id("128"), Some(&name(126)));
    deeper.unwrap();
    let error = driver.create(&id("129"), Some(&id("128"))).unwrap_err();
    assert!(error.to_string().contains("the driver's limit is 126"), "{error}");
}

#[test]
fn more_than_42_layers() {
    if require_root("mounting unions") {
        many_layers(&Scratch::new().path("root"));
    }
}

/// Docker's kernel took one page of options at mount, and what did not fit by remounts. Here nothing is split; and nothing
/// happens when the text is a page, one byte less, one more.
#[test]
fn more_than_42_layers_matching_path_length() {
    if !require_root("mounting unions") {
        return;
    }
    let page = rustix::param::page_size();
    for want in [page - 1, page, page + 1, 2 * page] {
        let scratch = Scratch::new();
        let store = store(&scratch);
        let driver = store.driver();
        // Layers with ids of the usual length until one more, with an id of the length that is missing, makes it.
        let name = |at: usize| id(format!("{at:064x}"));
        let length = |top: &plyfs_store::LayerId| driver.spec(top, true).unwrap().options().len();
        let add = |own: &plyfs_store::LayerId, at: usize| {
            driver.create(own, at.checked_sub(1).map(name).as_ref()).unwrap();
            put(&driver.diff_dir(own).join(format!("f{at}")), "x");
        };
        let mut layers = 0;
        let top = loop {
            add(&name(layers), layers);
            let so_far = length(&name(layers));
            layers += 1;
            let one_more =
                so_far + ":".len() + driver.diff_dir(&id("x")).as_os_str().len() - 1 + "=ro+wh".len();
            if let Some(missing @ 1..=200) = want.checked_sub(one_more) {
                let top = id("t".repeat(missing));
                add(&top, layers);
                break top;
            }
        };
        assert_eq!(length(&top), want);
        let got = driver.get(&top, &Real).unwrap();
        assert_eq!(fs::read_dir(got.path()).unwrap().count(), layers + 1, "{want}");
        got.put().unwrap();
    }
}

#[test]
fn a_root_behind_a_symlink() {
    if !require_root("mounting a union") {
        return;
    }
    let scratch = Scratch::new();
    scratch.dir("real");
    std::os::unix::fs::symlink("real", scratch.path("link")).unwrap();
    let store = Store::open(&scratch.path("link/root"), Access::Write, &Real).unwrap();
    let driver = store.driver();
    layer(driver, "1", None, &["below"]);
    layer(driver, "2", Some("1"), &[]);
    let place = driver.get(&id("2"), &Real).unwrap().keep();
    assert!(driver.is_mounted(&id("2")).unwrap(), "{}", place.display());
    let again = Store::open(&scratch.path("link/root"), Access::Write, &Real).unwrap();
    again.driver().put(&id("2"), &Real).unwrap();
    assert!(!is_mounted(&scratch.path("real/root/aufs/mnt/2")));
}

#[test]
fn an_ordinary_user_removes_what_has_no_permissions() {
    if !require_root("becoming another user") {
        return;
    }
    let scratch = Scratch::new();
    std::os::unix::fs::chown(scratch.dir("theirs"), Some(1234), Some(1234)).unwrap();
    let ran = super::worker::run_as_user(&scratch.path("theirs/root"), "stubborn");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(scratch.path("theirs/root/aufs/diff").is_dir(), "it did something");
}

#[test]
fn what_is_mounted_inside_a_layer_is_not_deleted() {
    if !require_root("bind mounts") {
        return;
    }
    let scratch = Scratch::new();
    let store = store(&scratch);
    let dir = layer(store.driver(), "1", None, &["a/inner/", "b"]);
    let precious = scratch.file("precious/file", "x");
    let bind =
        format!("mount --bind {} {}", scratch.path("precious").display(), dir.join("a/inner").display());
    plyfs_tests::sh(bind).ok();
    let error = store.driver().remove(&id("1"), &Real).unwrap_err();
    assert!(error.to_string().contains("mounted"), "{error}");
    assert!(precious.exists());
    // The layer is gone all the same; what is left of it goes when it can.
    assert!(!store.driver().exists(&id("1")));
    let gone = scratch.path("root/aufs/diff/1-removing");
    plyfs_tests::sh(format!("umount {}", gone.join("a/inner").display())).ok();
    drop(super::common::store(&scratch));
    assert!(!gone.exists() && precious.exists());
}
