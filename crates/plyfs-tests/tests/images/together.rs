//! Several processes at one store.

use std::process::{Child, Stdio};

use plyfs_tests::{Scratch, require_programs, sh};

use crate::five_layers;
use crate::registry::Registry;
use crate::root::{Root, entries};

#[track_caller]
fn all_succeed(children: Vec<Child>) {
    for child in children {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn the_same_image_pulled_and_loaded_at_once() {
    let scratch = Scratch::new();
    let Some((layout, rootfs)) = five_layers::make(&scratch) else { return };
    if !require_programs(&["docker-registry"]) {
        return;
    }
    let registry = Registry::new(&scratch);
    registry.push(&format!("oci:{}:five", layout.display()), "five:1", "");
    let archive = scratch.path("five.tar");
    sh(format!("skopeo copy -q oci:{}:five docker-archive:{}:five:1", layout.display(), archive.display()))
        .ok();
    let root = Root::new(&scratch);
    root.ok(&["prune", "-f"]);
    let name = format!("{}/five:1", registry.host());
    let start = |words: &[&str]| {
        root.command(words).stdout(Stdio::null()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
    };
    let archive = archive.to_str().unwrap();
    all_succeed(
        (0..3).flat_map(|_| [start(&["pull", "-q", &name]), start(&["load", "-q", archive])]).collect(),
    );
    assert_eq!(root.names().len(), 2, "{:?}", root.names());
    assert_eq!(root.id(&name), root.id("five:1"));
    assert_eq!(entries(&root.path("aufs/diff")).len(), 5, "one copy of each layer");
    assert_eq!(entries(&root.path("plyfs/intents")), Vec::<String>::new());
    root.ok(&["check"]);
    let mount = root.mount(&scratch);
    five_layers::compare(&rootfs, mount.dir());
    mount.unmount();

    // One takes away what others bring; whoever wins, the store is in order.
    for _ in 0..5 {
        let bringing = [start(&["load", "-q", archive]), start(&["load", "-q", archive])];
        drop(root.run(&["rmi", "five:1"]));
        all_succeed(bringing.into());
        root.ok(&["check"]);
    }
    root.run(&["rmi", "five:1"]);
    root.ok(&["rmi", &name]);
    root.assert_empty();
}
