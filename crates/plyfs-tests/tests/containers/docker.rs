//! A data root that Docker wrote: looked at as it is, changed only on request.

use std::fs;

use serde_json::{Value, json};

use crate::store::Store;

/// A store with one ended container `old`, from which all that is plyfs' own was taken away, and to which was given what
/// Docker writes and plyfs does not.
fn dockers() -> Option<Store> {
    let store = Store::new()?;
    store.ok(&[
        "run",
        "--name",
        "old",
        "-v",
        "data:/data",
        "bb",
        "sh",
        "-c",
        "echo said; echo x > /new; echo y >> /data/y",
    ]);
    let id = store.inspect("old")["Id"].as_str().unwrap().to_owned();
    fs::remove_dir_all(store.root().join("plyfs")).unwrap();
    let dir = store.root().join("containers").join(id);
    fs::remove_file(dir.join("runner.lock")).unwrap();
    let path = dir.join("config.v2.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    document["Managed"] = json!(false);
    document["StreamConfig"] = json!({});
    document["Config"]["Cmd"] = json!(null);
    document["MountPoints"]["/data"]["Source"] = json!("");
    fs::write(&path, serde_json::to_vec(&document).unwrap()).unwrap();
    Some(store)
}

#[test]
fn dockers_containers_are_shown_and_left_alone() {
    let Some(store) = dockers() else { return };
    assert!(store.ok(&["ps", "-a"]).contains("old"));
    assert_eq!(store.ok(&["logs", "old"]), "said");
    assert_eq!(store.ok(&["diff", "old"]), "A /new");
    assert_eq!(store.inspect("old")["State"]["Status"], "exited");
    let tar = store.scratch.path("old.tar");
    store.ok(&["export", "-o", tar.to_str().unwrap(), "old"]);
    for words in [&["start", "old"][..], &["rm", "old"], &["mount-container", "old"], &["commit", "old"]] {
        store.plyfs(words).exits(1).says("--writable");
    }
    store.plyfs(&["run", "--rm", "bb", "true"]).exits(125).says("--writable");
    assert!(!store.root().join("plyfs").exists(), "something was made in it");
    // On request it runs, and keeps what it had.
    assert_eq!(store.ok(&["--writable", "start", "-a", "old"]), "said");
    assert_eq!(fs::read_to_string(store.root().join("volumes/data/_data/y")).unwrap(), "y\ny\n");
    let document = fs::read_to_string(
        store
            .root()
            .join("containers")
            .join(store.inspect("old")["Id"].as_str().unwrap())
            .join("config.v2.json"),
    );
    assert!(document.unwrap().contains("StreamConfig"), "what plyfs does not know was lost");
}
