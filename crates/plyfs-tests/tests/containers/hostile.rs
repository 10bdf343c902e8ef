//! Images that try to make plyfs, which is root, touch what is not theirs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use plyfs_tests::images;
use serde_json::{Value, json};

use crate::store::Store;

/// A directory of the host, with files that must stay as they are.
struct Prey {
    dir: PathBuf,
}

impl Prey {
    fn new(store: &Store) -> Prey {
        let dir = store.scratch.dir("prey");
        fs::write(dir.join("passwd"), "evil:x:0:0::/:/bin/sh\n").unwrap();
        for name in ["hosts", "resolv.conf", "hostname", "mtab", "console"] {
            fs::write(dir.join(name), name).unwrap();
        }
        Prey { dir }
    }

    /// A link to it that climbs as far as one may.
    fn climbing(&self) -> String {
        format!("/../../../../../../../../..{}", self.dir.display())
    }

    #[track_caller]
    fn is_whole(&self) {
        let mut names: Vec<_> =
            fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["console", "hostname", "hosts", "mtab", "passwd", "resolv.conf"]);
        for name in ["hosts", "resolv.conf", "hostname", "mtab", "console"] {
            assert_eq!(fs::read_to_string(self.dir.join(name)).unwrap(), name);
        }
    }
}

fn with_image(config: &Value, fill: impl FnOnce(&Path, &Prey)) -> Option<(Store, Prey)> {
    let store = Store::empty()?;
    let prey = Prey::new(&store);
    images::register(&store.root(), "evil:latest", config, |dir| {
        images::busybox(dir);
        fill(dir, &prey);
    });
    Some((store, prey))
}

#[test]
fn directories_of_the_init_layer_that_are_links() {
    let made = with_image(&json!({"Cmd": ["sh"]}), |dir, prey| {
        fs::remove_dir_all(dir.join("etc")).unwrap();
        for name in ["etc", "dev", "proc", "sys"] {
            symlink(prey.climbing(), dir.join(name)).unwrap();
        }
    });
    let Some((store, prey)) = made else { return };
    let said = store.ok(&[
        "run",
        "--name",
        "evil",
        "evil",
        "sh",
        "-c",
        "ls -d /etc/hosts /dev/null; cat /etc/hostname",
    ]);
    assert!(said.starts_with("/dev/null\n/etc/hosts\n"), "{said}");
    prey.is_whole();
}

#[test]
fn a_passwd_file_elsewhere() {
    let made = with_image(&json!({"Cmd": ["sh"], "User": "evil"}), |dir, prey| {
        fs::remove_file(dir.join("etc/passwd")).unwrap();
        symlink(prey.dir.join("passwd"), dir.join("etc/passwd")).unwrap();
    });
    let Some((store, prey)) = made else { return };
    store.plyfs(&["run", "--rm", "evil", "true"]).exits(125).says("unable to find user evil");
    prey.is_whole();
}

#[test]
fn a_passwd_file_that_never_ends() {
    let made = with_image(&json!({"Cmd": ["id", "-u"], "User": "0"}), |dir, _| {
        fs::remove_file(dir.join("etc/passwd")).unwrap();
        plyfs_tests::sh(format!("mkfifo {}", dir.join("etc/passwd").display())).ok();
    });
    let Some((store, _)) = made else { return };
    store.plyfs(&["run", "--rm", "evil"]).exits(125).says("no regular file");
    store.is_quiet();
}

#[test]
fn places_behind_links() {
    let config = json!({"Cmd": ["sh"], "WorkingDir": "/link/work/dir", "Volumes": {"/link/volume": {}}});
    let made = with_image(&config, |dir, prey| symlink(prey.climbing(), dir.join("link")).unwrap());
    let Some((store, prey)) = made else { return };
    // Where the link leads inside there is nothing: it is refused, or made inside.
    let ran = store.plyfs(&["run", "--rm", "evil", "pwd"]);
    assert_ne!(ran.code, 0, "{}", ran.out);
    prey.is_whole();
    let data = store.scratch.dir("data");
    let bind = format!("{}:/link/bind/deep", data.display());
    let words = ["run", "--rm", "-w", "/", "-v", &bind, "-v", "/link/volume", "evil", "true"];
    store.plyfs(&words);
    prey.is_whole();
    let file = store.scratch.file("one", "one");
    let bind = format!("{}:/link/hosts", file.display());
    store.plyfs(&["run", "--rm", "-w", "/", "-v", &bind, "evil", "true"]);
    prey.is_whole();
}

#[test]
fn a_volume_filled_from_behind_a_link() {
    let config = json!({"Cmd": ["sh"], "Volumes": {"/stolen": {}}});
    let made = with_image(&config, |dir, prey| symlink(&prey.dir, dir.join("stolen")).unwrap());
    let Some((store, prey)) = made else { return };
    let ran = store.plyfs(&["run", "--name", "thief", "evil", "ls", "/stolen"]);
    assert!(!ran.out.contains("passwd"), "{}", ran.out);
    prey.is_whole();
}

#[test]
fn names_that_are_paths() {
    let Some(store) = Store::new() else { return };
    for name in ["../x", "a/b", "..", "-x"] {
        store.plyfs(&["create", &format!("--name={name}"), "bb"]).exits(125);
        store.plyfs(&["rm", "--", name]).exits(1).says("No such container");
    }
    store.plyfs(&["run", "--rm", "-v", "a/b:/y", "bb", "true"]).exits(125);
}
