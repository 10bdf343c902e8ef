//! Saving: others read it, and every layer is the one that came.

use std::process::Stdio;

use plyfs_tests::{Ran, Scratch, require_programs, run, sh};
use serde_json::Value;

use crate::five_layers;
use crate::root::Root;

fn loaded(scratch: &Scratch) -> Option<Root> {
    let (layout, _) = five_layers::make(scratch)?;
    let root = Root::new(scratch);
    root.ok(&["load", "-q", "--name", "team/five", layout.to_str().unwrap()]);
    Some(root)
}

#[track_caller]
fn json(ran: Ran) -> Value {
    serde_json::from_str(&ran.ok().out).unwrap()
}

#[test]
fn others_read_what_we_save() {
    let scratch = Scratch::new();
    let Some(root) = loaded(&scratch) else { return };
    let (dir, want) = (scratch.root().display(), root.diff_ids("team/five:five"));
    let archive = scratch.path("saved.tar");
    root.ok(&["save", "team/five", "-o", archive.to_str().unwrap()]);
    let layers = |from: &str| -> Vec<String> {
        let told = json(sh(format!("skopeo inspect {from}")));
        told["Layers"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(layers(&format!("docker-archive:{dir}/saved.tar:team/five:five")), want);
    assert_eq!(layers(&format!("oci-archive:{dir}/saved.tar:five")), want);
    // Byte for byte: the layers' archives as they were made.
    for (number, diff) in want.iter().enumerate() {
        let blob = format!("blobs/sha256/{}", diff.replace("sha256:", ""));
        sh(format!("cd {dir}; tar -xOf saved.tar {blob} | cmp - l{}.tar", number + 1)).ok();
    }
    root.ok(&["save", "--format", "oci-dir", "-o", scratch.path("out").to_str().unwrap(), "team/five:five"]);
    assert_eq!(layers(&format!("oci:{dir}/out:five")), want);
    sh(format!("cd {dir}; skopeo copy -q oci:out:five dir:plain; umoci unpack --image out:five again")).ok();
    five_layers::compare(&scratch.path("bundle/rootfs"), &scratch.path("again/rootfs"));
    root.run(&["save", "--format", "oci-dir", "-o", scratch.path("out").to_str().unwrap(), "team/five"])
        .exits(1)
        .says("not empty");
    // The same bytes each time, whole or not at all.
    let piped = root.command(&["save", "team/five"]).stdin(Stdio::null()).output().unwrap();
    assert!(piped.status.success() && piped.stdout == std::fs::read(&archive).unwrap());
    root.run(&["save", "team/five", "no/such", "-o", scratch.path("none").to_str().unwrap()])
        .exits(1)
        .says("no such image");
    assert!(!scratch.path("none").exists());
    // And back.
    let id = root.id("team/five:five");
    root.ok(&["rmi", "team/five:five"]);
    root.assert_empty();
    assert_eq!(root.ok(&["load", "-q", archive.to_str().unwrap()]), "Loaded image: team/five:five\n");
    assert_eq!(root.id("team/five:five"), id);
}

#[test]
fn podman_loads_what_we_save() {
    let scratch = Scratch::new();
    let Some(root) = loaded(&scratch) else { return };
    if !require_programs(&["podman"]) {
        return;
    }
    let dir = scratch.root().display();
    let podman = format!("podman --root {dir}/pod --runroot {dir}/podrun --storage-driver vfs");
    for format in ["docker-archive", "oci"] {
        let archive = scratch.path(format!("{format}.tar"));
        root.ok(&["save", "--format", format, "team/five:five", "-o", archive.to_str().unwrap()]);
        let out = sh(format!("{podman} load -q -i {}", archive.display())).ok().out;
        assert!(out.starts_with("Loaded image"), "{format}: {out}");
        let id = sh(format!("{podman} images -q --no-trunc")).ok().out;
        assert_eq!(id.trim(), root.id("team/five:five"), "{format}");
        sh(format!("{podman} rmi -af")).ok();
    }
    sh(format!("umount {dir}/pod/vfs 2>/dev/null || true")).ok();
}

/// containerd with places of its own; it ends with the test.
struct Containerd(std::process::Child);

impl Drop for Containerd {
    fn drop(&mut self) {
        sh(format!("kill {}", self.0.id()));
        drop(self.0.wait());
    }
}

#[test]
fn containerd_imports_what_we_save() {
    let scratch = Scratch::new();
    let Some(root) = loaded(&scratch) else { return };
    if !require_programs(&["containerd", "ctr"]) {
        return;
    }
    let dir = scratch.root().display();
    let config = format!(
        "version = 2\nroot = \"{dir}/cd-root\"\nstate = \"{dir}/cd-state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{dir}/cd.sock\"\n"
    );
    let config = scratch.file("containerd.toml", config);
    let log = std::fs::File::create(scratch.path("containerd.log")).unwrap();
    let mut command = std::process::Command::new("containerd");
    command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let daemon = Containerd(command.spawn().unwrap());
    let ctr = format!("ctr --address {dir}/cd.sock --namespace test");
    sh(format!("for n in $(seq 300); do {ctr} version >/dev/null 2>&1 && exit 0; sleep 0.1; done; cat {dir}/containerd.log >&2; exit 1")).ok();
    for format in ["docker-archive", "oci"] {
        let archive = scratch.path(format!("{format}.tar"));
        root.ok(&["save", "--format", format, "team/five:five", "-o", archive.to_str().unwrap()]);
        sh(format!("{ctr} images import --snapshotter native {}", archive.display())).ok();
        let names = sh(format!("{ctr} images list -q")).ok().out;
        assert!(names.lines().any(|name| name == "docker.io/team/five:five"), "{format}: {names}");
        let blobs = sh(format!("{ctr} content ls -q")).ok().out;
        for diff in root.diff_ids("team/five:five") {
            assert!(blobs.contains(&diff), "{format}: containerd has no {diff}");
        }
        sh(format!("{ctr} images rm --sync docker.io/team/five:five")).ok();
    }
    drop(daemon);
}

#[test]
fn what_was_changed_in_the_store_is_noticed() {
    let scratch = Scratch::new();
    let Some(root) = loaded(&scratch) else { return };
    let diff = root.path("aufs/diff");
    sh(format!("f=$(ls {}/*/bin-file); echo changed > $f", diff.display())).ok();
    let out = scratch.path("bad.tar");
    root.run(&["save", "team/five", "-o", out.to_str().unwrap()]).exits(1).says("bin-file");
    assert!(!out.exists());
    let ran = run(root.command(&["save", "team/five"]).stdout(Stdio::null()));
    assert_eq!(ran.code, 1);
}
