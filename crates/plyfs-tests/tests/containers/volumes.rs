//! Binds and volumes: they bypass the union.

use std::fs;

use serde_json::json;

use crate::store::Store;

#[test]
fn binds_are_the_hosts_own_files() {
    let Some(store) = Store::new() else { return };
    let dir = store.scratch.path("made/by/run");
    let file = store.scratch.file("file", "host\n");
    let binds = [format!("{}:/data/deep", dir.display()), format!("{}:/conf/f:ro", file.display())];
    let script = "echo new > /data/deep/x; cat /conf/f; ! echo y > /conf/f; mkdir /own";
    let words = ["run", "--name", "b1", "-v", &binds[0], "-v", &binds[1], "bb", "sh", "-c", script];
    let ran = store.plyfs(&words).ok().says("Read-only");
    assert_eq!(ran.out, "host\n");
    assert_eq!(fs::read_to_string(dir.join("x")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "host\n");
    let diff = store.ok(&["diff", "b1"]);
    assert!(diff.contains("A /own") && !diff.contains("/data/deep"), "{diff}");
    let mounts = store.inspect("b1")["Mounts"].clone();
    assert_eq!(mounts[0]["Destination"], "/conf/f");
    assert_eq!((mounts[0]["Type"].clone(), mounts[0]["RW"].clone()), (json!("bind"), json!(false)));
    store
        .plyfs(&["run", "--rm", "-v", &binds[0], "-v", &binds[0], "bb", "true"])
        .exits(125)
        .says("Duplicate");
}

#[test]
fn what_lies_in_another_is_mounted_after_it() {
    let Some(store) = Store::new() else { return };
    let (etc, deep) = (store.scratch.path("etc"), store.scratch.path("deep"));
    let binds = [format!("{}:/etc", etc.display()), format!("{}:/tmpfs/a/b", deep.display())];
    let script =
        "for f in resolv.conf hosts hostname; do grep -q \" /etc/$f \" /proc/self/mountinfo && echo $f; done
                  cat /etc/hostname; echo x > /tmpfs/a/b/x; echo y > /etc/y";
    let words = ["run", "--rm", "--hostname", "me", "--tmpfs", "/tmpfs", "-v", &binds[0], "-v", &binds[1]];
    let out = store.ok(&[&words[..], &["bb", "sh", "-c", script]].concat());
    assert_eq!(out, "resolv.conf\nhosts\nhostname\nme");
    assert!(etc.join("y").exists() && deep.join("x").exists());
    // They lie over the host's directory, not in it.
    assert_eq!(fs::read(etc.join("hostname")).unwrap(), b"");
}

#[test]
fn volumes_are_filled_once_and_shared() {
    let Some(store) = Store::new() else { return };
    // From the image, with owners and modes.
    let script = "ls /etc; stat -c '%a %u' /root; echo more > /etc2/more";
    let words = ["run", "--rm", "-v", "data:/etc2", "-v", "roots:/root", "bb", "sh", "-c", script];
    assert!(store.ok(&words).ends_with("700 0"));
    let data = store.root().join("volumes/data/_data");
    assert_eq!(fs::read_to_string(data.join("more")).unwrap(), "more\n");
    // A named one stays with what is in it; what the image has in the place does not come back.
    let words = ["run", "--rm", "-v", "data:/etc", "bb", "sh", "-c", "cat /etc/more; test ! -e /etc/passwd"];
    assert_eq!(store.ok(&words), "more");
    let words = ["run", "--rm", "-v", "fresh:/etc", "bb", "cat", "/etc/group"];
    assert!(store.ok(&words).contains("www"));
    assert!(store.root().join("volumes/fresh/_data/passwd").exists());
}

#[test]
fn volumes_of_the_image_go_with_the_container() {
    let Some(store) = Store::with(&json!({"Cmd": ["sh"], "Volumes": {"/home": {}, "/srv/x/": {}}})) else {
        return;
    };
    let volumes = || fs::read_dir(store.root().join("volumes")).map(|dir| dir.count()).unwrap_or(0);
    store.ok(&["run", "--rm", "bb", "sh", "-c", "echo a > /home/a; echo b > /srv/x/b"]);
    assert_eq!(volumes(), 0);
    // Nor is any left of a container that could not be made: /proc takes no directory.
    store.plyfs(&["create", "-v", "/x", "-v", "/proc/no/way:/y", "bb"]).exits(125);
    assert_eq!(volumes(), 0);
    store.ok(&["run", "--name", "keeps", "bb", "sh", "-c", "echo a >> /home/a"]);
    assert_eq!(volumes(), 2);
    store.ok(&["start", "-a", "keeps"]);
    let home = store.inspect("keeps")["Mounts"][0]["Source"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(format!("{home}/a")).unwrap(), "a\na\n");
    assert_eq!(store.ok(&["diff", "keeps"]), "A /srv\nA /srv/x".replace("\nA /srv/x", ""));
    store.ok(&["create", "--name", "other", "-v", "kept:/home", "bb"]);
    assert_eq!(volumes(), 4);
    store.ok(&["rm", "keeps"]);
    assert_eq!(volumes(), 4);
    store.ok(&["rm", "-v", "other"]);
    // Named ones stay; so do those that nobody asked to remove.
    assert_eq!(volumes(), 3);
}
