//! diff, commit, export, inspect.

use std::fs;

use plyfs_tests::{run, sh};

use crate::store::Store;

const WORK: &str = "echo new > /new; echo x >> /etc/passwd; rm /etc/group; rm -r /home; mkdir /d; ln -s a /d/l; chmod 600 /bin/busybox";

#[test]
fn diff_has_dockers_letters() {
    let Some(store) = Store::new() else { return };
    store.ok(&["run", "--name", "work", "bb", "sh", "-c", WORK]);
    let want = "C /bin\nC /bin/busybox\nA /d\nA /d/l\nC /etc\nD /etc/group\nC /etc/passwd\nD /home\nA /new";
    assert_eq!(store.ok(&["diff", "work"]), want);
    let json: serde_json::Value = serde_json::from_str(&store.ok(&["diff", "--json", "work"])).unwrap();
    assert_eq!(json["changes"].as_array().unwrap().len(), 9);
    store.plyfs(&["diff", "nothing"]).exits(1);
}

#[test]
fn a_running_containers_changes_are_seen() {
    let Some(store) = Store::new() else { return };
    let script = "dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null; touch /done; sleep 1000";
    store.ok(&["run", "-d", "--name", "runs", "bb", "sh", "-c", script]);
    crate::store::wait_for("its work", || store.ok(&["diff", "runs"]).contains("A /done"));
    let id = store.plyfs(&["commit", "runs", "big:1"]).ok();
    assert!(id.err.contains("not paused"), "crun without control groups cannot: {}", id.err);
    assert_eq!(store.ok(&["run", "--rm", "big:1", "stat", "-c", "%s", "/big"]), (3 << 20).to_string());
    assert!(store.ok(&["ps"]).contains("runs"));
    store.ok(&["rm", "-f", "runs"]);
}

#[test]
fn a_committed_image_runs() {
    let Some(store) = Store::new() else { return };
    store.ok(&[
        "run",
        "--name",
        "work",
        "-e",
        "A=1",
        "-w",
        "/d",
        "bb",
        "sh",
        "-c",
        "echo new > /new; rm /etc/group",
    ]);
    let words = [
        "commit",
        "-a",
        "me",
        "-m",
        "why",
        "-c",
        r#"CMD ["cat", "/new"]"#,
        "-c",
        "ENV B=2",
        "work",
        "new:v1",
    ];
    let id = store.ok(&words);
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    assert_eq!(store.ok(&["run", "--rm", "new:v1"]), "new");
    let script = "echo $A $B; pwd; ls /etc/group 2>/dev/null";
    let ran = store.plyfs(&["run", "--rm", &id[7..19], "sh", "-c", script]);
    assert_eq!(ran.out, "1 2\n/d\n");
    let image = store.inspect("new:v1");
    assert_eq!((image["Author"].as_str(), image["Comment"].as_str()), (Some("me"), Some("why")));
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    store.plyfs(&["commit", "-c", "RUN x", "work"]).exits(1).says("RUN is not one of");
    store.plyfs(&["commit", "work", "Bad Name"]).exits(2).says("is no name of an image");
    // Without a name it is there all the same.
    let nameless = store.ok(&["commit", "work"]);
    assert_eq!(store.inspect(&nameless)["RepoTags"], serde_json::json!([]));
}

#[test]
fn an_export_is_the_whole_tree() {
    let Some(store) = Store::new() else { return };
    store.ok(&["run", "--name", "work", "bb", "sh", "-c", WORK]);
    let (tar, out) = (store.scratch.path("all.tar"), store.scratch.dir("out"));
    store.ok(&["export", "-o", tar.to_str().unwrap(), "work"]);
    sh(format!("tar -xpf {} -C {}", tar.display(), out.display())).ok();
    let root = store.ok(&["mount-container", "work"]);
    let list = |dir: &str| {
        let find = "find . -mindepth 1 -printf '%y %m %U:%G %p %l %T@\\n' | sed 's/\\.[0-9]*$//' | sort";
        let sums = "find . -type f -exec sha256sum {} + | sort";
        sh(format!("cd {dir} && {find} && {sums}")).ok().out
    };
    assert_eq!(list(out.to_str().unwrap()), list(&root));
    store.ok(&["mount-container", "--unmount", "work"]);
    let piped = run(&mut store.command(&["export", "work"])).ok();
    assert!(!piped.out.is_empty());
    // To a terminal it is refused.
    let line = format!(
        "{} --root {} export work",
        plyfs_tests::mount::plyfs_path().display(),
        store.root().display()
    );
    let refused = sh(format!("script -qec '{line}' /dev/null || true")).ok();
    assert!(refused.out.contains("cowardly refusing"), "{}", refused.out);
}

#[test]
fn mount_container_counts_its_uses() {
    let Some(store) = Store::new() else { return };
    store.ok(&["create", "--name", "one", "bb"]);
    let at = store.ok(&["mount-container", "one"]);
    assert_eq!(store.ok(&["mount-container", "one"]), at);
    fs::write(format!("{at}/by-hand"), "x").unwrap();
    assert_eq!(store.ok(&["run", "--rm", "bb", "sh", "-c", "ls /by-hand 2>/dev/null || echo no"]), "no");
    assert_eq!(store.plyfs(&["start", "-a", "one"]).code, 0);
    store.ok(&["mount-container", "--unmount", "one"]);
    assert_eq!(store.mounts().len(), 1);
    store.ok(&["mount-container", "--unmount", "one"]);
    store.is_quiet();
    assert_eq!(store.ok(&["diff", "one"]), "A /by-hand");
}

#[test]
fn a_running_container_keeps_its_mount() {
    let Some(store) = Store::new() else { return };
    store.ok(&["run", "-d", "--name", "one", "bb", "sleep", "1000"]);
    store.plyfs(&["mount-container", "--unmount", "one"]).exits(1).says("it is running");
    store.ok(&["mount-container", "one"]);
    store.ok(&["mount-container", "--unmount", "one"]);
    store.plyfs(&["mount-container", "--unmount", "one"]).exits(1).says("it is running");
    assert_eq!(store.mounts().len(), 1);
    store.ok(&["rm", "-f", "one"]);
}

#[test]
fn an_interrupted_commit_leaves_nothing_frozen() {
    let Some(store) = Store::new() else { return };
    if !plyfs_tests::require_programs(&["runc"]) {
        return;
    }
    let script = "head -c 100000000 /dev/urandom > /big; echo up; sleep 1000";
    store.ok(&["run", "-d", "--name", "one", "--runtime", "runc", "bb", "sh", "-c", script]);
    crate::store::wait_for("the big file", || store.ok(&["logs", "one"]) == "up");
    let pid = store.inspect("one")["State"]["Pid"].to_string();
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let of = |mark: &str| groups.lines().find_map(|line| line.split_once(mark)).map(|(_, group)| group);
    let (file, thawed) = match of(":freezer:") {
        Some(group) => (format!("/sys/fs/cgroup/freezer{group}/freezer.state"), "THAWED\n"),
        None => (format!("/sys/fs/cgroup{}/cgroup.freeze", of("0::").unwrap()), "0\n"),
    };
    let state = || fs::read_to_string(&file).unwrap();
    let mut child = store.command(&["commit", "one", "never:made"]).spawn().unwrap();
    crate::store::wait_for("the pause", || state() != thawed);
    plyfs_sys::process::send(child.id(), plyfs_sys::process::signals::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(state(), thawed);
    assert!(!store.ok(&["images"]).contains("never"));
    store.ok(&["rm", "-f", "one"]);
}

#[test]
fn inspect_is_an_array_like_dockers() {
    let Some(store) = Store::new() else { return };
    let id = store.ok(&["create", "--name", "one", "-l", "a=b", "bb", "echo", "hi"]);
    let one = store.inspect("one");
    assert_eq!(one["Id"], id.as_str());
    assert_eq!((one["Name"].as_str(), one["Path"].as_str()), (Some("/one"), Some("echo")));
    assert_eq!(one["Args"], serde_json::json!(["hi"]));
    assert_eq!(one["Config"]["Labels"]["a"], "b");
    assert_eq!(one["GraphDriver"], serde_json::json!({"Name": "aufs", "Data": null}));
    assert_eq!(one["State"]["StartedAt"], "0001-01-01T00:00:00Z");
    let ran = store.plyfs(&["inspect", "one", "nothing", "bb"]).exits(1).says("No such object: nothing");
    let all: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2);
    store.plyfs(&["inspect", "--type", "image", "one"]).exits(1).says("No such image: one");
}
