//! Changes: Docker's rules (moby `pkg/archive/changes.go`), and that the cost is that of the changes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use plyfs_store::{ChangeKind, Driver, Store};
use plyfs_tests::{Scratch, require_programs, require_root, run};

use super::common::{Real, id, layer, put, store};

/// `C /etc`, as `docker diff` prints it.
fn lines(driver: &Driver, name: &str, parent: Option<&str>) -> Vec<String> {
    let changes = driver.changes(&id(name), parent.map(id).as_ref()).unwrap();
    let letter = |kind| match kind {
        ChangeKind::Modify => 'C',
        ChangeKind::Add => 'A',
        ChangeKind::Delete => 'D',
    };
    changes.iter().map(|change| format!("{} {}", letter(change.kind), change.path.display())).collect()
}

/// Layer 1 with these files, and an empty layer 2 over it.
fn over(scratch: &Scratch, files: &[&str]) -> Store {
    let store = store(scratch);
    layer(store.driver(), "1", None, files);
    layer(store.driver(), "2", Some("1"), &[]);
    store
}

/// Does something through the mounted layer 2; answers what has changed then.
#[track_caller]
fn after(store: &Store, act: impl FnOnce(&Path)) -> Vec<String> {
    let got = store.driver().get(&id("2"), &Real).unwrap();
    act(got.path());
    let mounted = lines(store.driver(), "2", Some("1"));
    got.put().unwrap();
    let unmounted = lines(store.driver(), "2", Some("1"));
    assert_eq!(mounted, unmounted, "the same, mounted or not");
    unmounted
}

#[test]
fn a_directory_comes_before_what_is_in_it() {
    if !require_root("mounting unions") {
        return;
    }
    let scratch = Scratch::new();
    let store = over(&scratch, &["a/b/changed", "a/b/gone", "a/other", "still/f"]);
    let changes = after(&store, |root| {
        fs::write(root.join("a/b/changed"), "new").unwrap();
        fs::remove_file(root.join("a/b/gone")).unwrap();
        put(&root.join("a/b/new/deep"), "x");
    });
    let wanted = ["C /a", "C /a/b", "C /a/b/changed", "D /a/b/gone", "A /a/b/new", "A /a/b/new/deep"];
    assert_eq!(changes, wanted);
}

#[test]
fn an_unchanged_directory_is_not_told() {
    if !require_root("mounting unions") {
        return;
    }
    let scratch = Scratch::new();
    let store = over(&scratch, &["touched/f", "kept/f", "mode/f", "owner/f"]);
    let changes = after(&store, |root| {
        // Copied up, and then as it was: only fractions of a second differ, which archives do not keep.
        let time = fs::metadata(root.join("kept")).unwrap().modified().unwrap();
        fs::write(root.join("kept/new"), "x").unwrap();
        fs::remove_file(root.join("kept/new")).unwrap();
        let whole = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let whole = std::time::UNIX_EPOCH + std::time::Duration::from_secs(whole);
        fs::File::open(root.join("kept")).unwrap().set_modified(whole).unwrap();
        fs::set_permissions(root.join("mode"), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(root.join("owner"), Some(5), None).unwrap();
        let early = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        fs::File::open(root.join("touched")).unwrap().set_modified(early).unwrap();
    });
    assert!(store.driver().diff_dir(&id("2")).join("kept").is_dir(), "it was copied up");
    assert_eq!(changes, ["C /mode", "C /owner", "C /touched"]);
}

#[test]
fn against_an_ancestor_that_is_not_the_parent() {
    if !require_root("mounting unions") {
        return;
    }
    let scratch = Scratch::new();
    let store = over(&scratch, &["one", "d/one"]);
    let driver = store.driver();
    after(&store, |root| {
        fs::remove_file(root.join("one")).unwrap();
        put(&root.join("d/two"), "x");
    });
    layer(driver, "3", Some("2"), &[]);
    let got = driver.get(&id("3"), &Real).unwrap();
    put(&got.path().join("one"), "again");
    fs::remove_file(got.path().join("d/two")).unwrap();
    put(&got.path().join("three"), "x");
    got.put().unwrap();
    assert_eq!(lines(driver, "3", Some("2")), ["C /d", "D /d/two", "A /one", "A /three"]);
    // Added and removed in between: nothing but the directory's time tells.
    assert_eq!(lines(driver, "3", Some("1")), ["C /d", "C /one", "A /three"]);
    assert_eq!(lines(driver, "3", None), ["A /d", "A /d/one", "A /one", "A /three"]);
    let error = driver.changes(&id("1"), Some(&id("3"))).unwrap_err();
    assert!(error.to_string().contains("is no ancestor"), "{error}");
}

#[test]
fn opaque_directories_and_changes_of_type() {
    if !require_root("mounting unions") {
        return;
    }
    let scratch = Scratch::new();
    let store = over(&scratch, &["opaque/gone", "opaque/back", "dir/f", "file", "link"]);
    let changes = after(&store, |root| {
        fs::remove_dir_all(root.join("opaque")).unwrap();
        put(&root.join("opaque/back"), "other");
        fs::remove_dir_all(root.join("dir")).unwrap();
        put(&root.join("dir"), "a file now");
        fs::remove_file(root.join("file")).unwrap();
        put(&root.join("file/inside"), "a directory now");
        fs::remove_file(root.join("link")).unwrap();
        symlink("dir", root.join("link")).unwrap();
    });
    assert!(store.driver().diff_dir(&id("2")).join("opaque/.wh..wh..opq").exists());
    let wanted =
        ["C /dir", "C /file", "A /file/inside", "C /link", "C /opaque", "C /opaque/back", "D /opaque/gone"];
    assert_eq!(changes, wanted);
}

#[test]
fn renamed_directories_and_hard_links() {
    if !require_root("mounting unions") {
        return;
    }
    let scratch = Scratch::new();
    let store = over(&scratch, &["old/a", "old/sub/b", "linked"]);
    let below = store.driver().diff_dir(&id("1"));
    fs::hard_link(below.join("linked"), below.join("other")).unwrap();
    let changes = after(&store, |root| {
        fs::rename(root.join("old"), root.join("new")).unwrap();
        fs::hard_link(root.join("linked"), root.join("third")).unwrap();
        fs::write(root.join("third"), "all three names").unwrap();
    });
    // A redirected directory is whole in the list; what is gone is told once; each name of a file is.
    let wanted =
        ["C /linked", "A /new", "A /new/a", "A /new/sub", "A /new/sub/b", "D /old", "C /other", "A /third"];
    assert_eq!(changes, wanted);
}

const LOOK: &str = "PLYFS_CHANGES_OF";

#[test]
#[ignore = "no test: a process for `a_large_lower_layer_is_not_walked`"]
fn look() {
    let Some(root) = std::env::var_os(LOOK) else { return };
    let store = Store::open(Path::new(&root), plyfs_store::Access::Read, &Real).unwrap();
    let found = lines(store.driver(), "2", Some("1"));
    assert_eq!(found, ["C /many-7", "C /many-7/f3", "A /many-7/new", "C /wide", "D /wide/f77"]);
}

/// Calls of these names that looking for the changes takes.
fn calls(root: &Path, names: &str) -> usize {
    let out = root.with_extension("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(&out).arg(format!("-etrace={names}"));
    strace.arg(std::env::current_exe().unwrap());
    strace.args(["--exact", "changes::look", "--ignored", "--test-threads=1"]);
    run(strace.env(LOOK, root)).ok();
    fs::read_to_string(out).unwrap().lines().filter(|line| line.contains('(')).count()
}

/// 20,000 files in 200 directories, and 5,000 in one, of which three changed: the calls must be those of three changes.
/// What is counted is what the kernel was asked, so that no cache of ours can hide a walk.
#[test]
fn a_large_lower_layer_is_not_walked() {
    if !require_root("mounting unions") || !require_programs(&["strace"]) {
        return;
    }
    let scratch = Scratch::new();
    scratch.tmpfs("fast");
    let root = scratch.path("fast/root");
    let store = Store::open(&root, plyfs_store::Access::Write, &Real).unwrap();
    let below = layer(store.driver(), "1", None, &[]);
    for dir in 0..200 {
        fs::create_dir(below.join(format!("many-{dir}"))).unwrap();
        (0..100).for_each(|at| drop(fs::File::create(below.join(format!("many-{dir}/f{at}"))).unwrap()));
    }
    fs::create_dir(below.join("wide")).unwrap();
    (0..5000).for_each(|at| drop(fs::File::create(below.join(format!("wide/f{at}"))).unwrap()));
    layer(store.driver(), "2", Some("1"), &[]);
    after(&store, |root| {
        fs::write(root.join("many-7/f3"), "changed").unwrap();
        fs::write(root.join("many-7/new"), "x").unwrap();
        fs::remove_file(root.join("wide/f77")).unwrap();
    });
    // The tool counts: a whole walk would open each of the directories.
    let listed = calls(&root, "getdents64");
    assert!((6..60).contains(&listed), "{listed} calls of getdents64");
    let looked = calls(&root, "statx,newfstatat,stat,lstat");
    assert!((3..200).contains(&looked), "{looked} calls of stat and its like");
}
