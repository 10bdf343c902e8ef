//! `check`: each thing that does not fit is found, and named.

use std::fs;

use plyfs_store::{Access, Store};
use plyfs_tests::{Scratch, plyfs, run};

use super::common::Never;
use super::worker::{self, image_of};

/// A store with two images that share a layer, and a container.
fn filled(scratch: &Scratch) -> Store {
    let root = scratch.path("root");
    let store = Store::open(&root, Access::Write, &Never).unwrap();
    worker::fill(&root);
    assert_eq!(store.check().unwrap(), []);
    store
}

/// What check says, without the root.
fn said(store: &Store) -> String {
    let root = format!("{}/", store.layout().root().display());
    let lines =
        store.check().unwrap().into_iter().map(|one| format!("{}: {}\n", one.path.display(), one.what));
    lines.collect::<String>().replace(&root, "")
}

#[test]
fn each_break_is_found() {
    type Break = fn(&Store);
    let cases: [(&str, Break); 11] = [
        ("is missing, although the layer exists", |store| {
            let id = &store.driver().layers().unwrap()[0];
            fs::remove_dir_all(store.driver().diff_dir(id)).unwrap();
        }),
        ("which does not exist", |store| {
            let top = store.image(&image_of(0)).unwrap().top().unwrap();
            let below = &store.stack(&top).unwrap()[1];
            fs::remove_file(store.layout().parents_of(&below.id)).unwrap();
        }),
        ("differs from the ancestors of", |store| {
            let id =
                &store.find_container("/c").map(|one| store.container_layers(&one.id).unwrap()).unwrap().id;
            let path = store.layout().parents_of(id);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.lines().take(1).map(|line| format!("{line}\n")).collect::<String>())
                .unwrap();
        }),
        ("is not named by the chain ID of its diff and parent", |store| {
            let top = store.image(&image_of(0)).unwrap().top().unwrap();
            fs::write(store.layout().chain(&top).join("diff"), format!("sha256:{}", "0".repeat(64))).unwrap();
        }),
        ("has no file \"size\"", |store| {
            let top = store.image(&image_of(0)).unwrap().top().unwrap();
            fs::remove_file(store.layout().chain(&top).join("size")).unwrap();
        }),
        ("which is not there: pull it again", |store| {
            let top = store.image(&image_of(0)).unwrap().top().unwrap();
            fs::remove_dir_all(store.layout().chain(&top)).unwrap();
        }),
        ("is a layer that no image and no container uses", |store| {
            store.driver().create(&super::common::id("lost"), None).unwrap();
        }),
        ("does not hash to its name", |store| {
            fs::write(store.layout().config(&image_of(0)), "{}").unwrap();
        }),
        ("names image", |store| {
            fs::remove_file(store.layout().config(&image_of(0))).unwrap();
        }),
        ("no such layer of container", |store| {
            let id = store.find_container("/c").unwrap().id;
            fs::remove_dir_all(store.layout().container_layer(&id)).unwrap();
        }),
        ("has no container", |store| {
            let id = store.find_container("/c").unwrap().id;
            fs::remove_dir_all(store.layout().container(&id)).unwrap();
        }),
    ];
    for (wanted, damage) in cases {
        let scratch = Scratch::new();
        let store = filled(&scratch);
        damage(&store);
        let said = said(&store);
        assert!(said.contains(wanted), "wanted {wanted:?}, found:\n{said}");
    }
}

#[test]
fn the_command_tells_and_its_exit_code_too() {
    let scratch = Scratch::new();
    let store = filled(&scratch);
    let check = |json: &[&str]| run(plyfs().arg("--root").arg(store.layout().root()).arg("check").args(json));
    let good = check(&[]).exits(0).out;
    assert!(good.ends_with(": no problem\n"), "{good}");
    store.driver().create(&super::common::id("lost"), None).unwrap();
    let bad = check(&[]).exits(1).out;
    assert!(bad.starts_with("problem: ") && bad.ends_with(": 1 problem\n"), "{bad}");
    let json: serde_json::Value = serde_json::from_str(&check(&["--json"]).exits(1).out).unwrap();
    assert_eq!(json["version"], 1);
    assert!(json["problems"][0]["path"].as_str().unwrap().ends_with("aufs/diff/lost"), "{json}");
    // What it says that helps, helps.
    run(plyfs().arg("--root").arg(store.layout().root()).args(["prune", "--force"])).exits(0);
    assert!(check(&[]).exits(0).out.ends_with(": no problem\n"));
}
