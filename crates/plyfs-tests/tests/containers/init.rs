//! The `-init` layer (Docker's list, exactly).

use std::fs;
use std::path::Path;

use plyfs_tests::{images, sh};
use serde_json::json;

use crate::store::Store;

/// Type, mode, owner, size of files, and path of everything in a directory.
fn listing(dir: &Path) -> Vec<String> {
    let find = format!(
        "cd {} && find . -mindepth 1 -printf '%y %m %U:%G %p %l\\n' | sed 's/ $//' | sort -k4",
        dir.display()
    );
    sh(find).ok().out.lines().map(str::to_owned).collect()
}

fn init_dir(store: &Store, name: &str) -> std::path::PathBuf {
    let layer = store.layer(name);
    layer.with_file_name(format!("{}-init", layer.file_name().unwrap().to_str().unwrap()))
}

const FRESH: [&str; 13] = [
    "f 755 0:0 ./.dockerenv",
    "d 755 0:0 ./dev",
    "f 755 0:0 ./dev/console",
    "d 755 0:0 ./dev/pts",
    "d 755 0:0 ./dev/shm",
    "d 755 0:0 ./etc",
    "f 755 0:0 ./etc/hostname",
    "f 755 0:0 ./etc/hosts",
    "l 777 0:0 ./etc/mtab /proc/mounts",
    "f 755 0:0 ./etc/resolv.conf",
    "d 755 0:0 ./proc",
    "d 755 0:0 ./sys",
    "",
];

/// What plyfs marks unions with is not Docker's.
fn without_marks(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().filter(|line| !line.contains(".wh..wh.")).collect()
}

#[test]
fn it_holds_dockers_list() {
    let Some(store) = Store::new() else { return };
    store.ok(&["create", "--name", "one", "bb"]);
    let dir = init_dir(&store, "one");
    let want: Vec<&str> = FRESH.into_iter().filter(|line| !line.is_empty()).collect();
    assert_eq!(without_marks(listing(&dir)), want);
    for file in [".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "dev/console"] {
        assert_eq!(fs::metadata(dir.join(file)).unwrap().len(), 0, "{file}");
    }
    assert_eq!(fs::read_dir(store.layer("one")).unwrap().count(), 0, "the container's own layer is empty");
    // Nothing of it is a change of the container's, before and after a run.
    store.ok(&["run", "--name", "two", "bb", "true"]);
    assert_eq!(store.ok(&["diff", "two"]), "");
}

#[test]
fn what_an_image_has_in_the_way_is_replaced_and_directories_stay() {
    let Some(store) = Store::empty() else { return };
    images::register(&store.root(), "odd:latest", &json!({"Cmd": ["sh"]}), |dir| {
        images::busybox(dir);
        fs::write(dir.join("etc/hosts"), "old\n").unwrap();
        fs::create_dir_all(dir.join("etc/resolv.conf/kept")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join("proc")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.join("dev")).unwrap();
        std::os::unix::fs::symlink("old", dir.join("etc/mtab")).unwrap();
    });
    store.ok(&["create", "--name", "odd", "odd"]);
    let lines = listing(&init_dir(&store, "odd"));
    for want in [
        "f 755 0:0 ./etc/hosts",
        "d 755 0:0 ./proc",
        "d 755 0:0 ./dev/pts",
        "l 777 0:0 ./etc/mtab /proc/mounts",
    ] {
        assert!(lines.iter().any(|line| line == want), "{want} is missing in {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("resolv.conf")), "{lines:#?}");
    let root = store.ok(&["mount-container", "odd"]);
    assert!(Path::new(&root).join("etc/resolv.conf/kept").is_dir());
    assert_eq!(fs::read_to_string(Path::new(&root).join("etc/passwd")).unwrap().lines().count(), 2);
    store.ok(&["mount-container", "--unmount", "odd"]);
    store.is_quiet();
}
