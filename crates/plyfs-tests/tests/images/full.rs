//! A filesystem that is full in the middle of the work.

use plyfs_tests::{Scratch, require_programs, require_root, sh};

use crate::registry::Registry;
use crate::root::Root;

#[test]
fn a_full_disk_leaves_the_store_as_it_was() {
    if !require_root("mounting a tmpfs") || !require_programs(&["skopeo", "docker-registry", "tar"]) {
        return;
    }
    let scratch = Scratch::new();
    let small = Scratch::new();
    let place = small.tmpfs("small");
    let dir = scratch.root().display();
    sh(format!(
        "cd {dir}; mkdir big little; echo x > little/f; head -c 50000000 /dev/urandom > big/a; cp big/a big/b
         tar -C big -cf big.tar .; tar -C little -cf little.tar .
         umoci init --layout lay; umoci new --image lay:big; umoci raw add-layer --image lay:big little.tar
         umoci raw add-layer --image lay:big big.tar"
    ))
    .ok();
    let root = Root::at(&place.join("root"));
    root.ok(&["load", "-q", "--name", "little", scratch.path("little.tar").to_str().unwrap()]);
    let before = sh(format!("cd {}/root; find aufs image plyfs | sort", place.display())).ok().out;
    let unchanged = |what: &str| {
        let after = sh(format!("cd {}/root; find aufs image plyfs | sort", place.display())).ok().out;
        // Parts of downloads are kept, and what became known of blobs.
        let is_kept = |line: &&str| !line.contains("/downloads/") && !line.contains("/distribution");
        assert_eq!(
            after.lines().filter(is_kept).collect::<Vec<_>>(),
            before.lines().collect::<Vec<_>>(),
            "{what}"
        );
    };
    root.run(&["load", scratch.path("big.tar").to_str().unwrap()]).exits(1).says("No space left");
    unchanged("a root filesystem");
    root.run(&["load", scratch.path("lay").to_str().unwrap()]).exits(1).says("No space left");
    unchanged("an OCI layout");
    let registry = Registry::new(&scratch);
    registry.push(&format!("oci:{dir}/lay:big"), "big:1", "");
    root.run(&["pull", &format!("{}/big:1", registry.host())]).exits(1).says("No space left");
    unchanged("a pull");
    root.ok(&["prune", "-f"]);
    assert_eq!(root.names(), ["little:latest"]);
}
