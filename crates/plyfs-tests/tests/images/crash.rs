//! Pulls and loads that are killed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use plyfs_tests::{Scratch, require_programs, run, sh};

use crate::five_layers;
use crate::proxy::Proxy;
use crate::registry::Registry;
use crate::root::{Root, entries};

#[test]
fn a_pull_that_was_killed_goes_on() {
    let scratch = Scratch::new();
    let Some((layout, rootfs)) = five_layers::make(&scratch) else { return };
    if !require_programs(&["docker-registry"]) {
        return;
    }
    let registry = Registry::new(&scratch);
    registry.push(&format!("oci:{}:five", layout.display()), "five:1", "");
    let root = Root::new(&scratch);
    // So slow that it is killed on its way: each connection gives little, and breaks.
    for signal in ["KILL", "TERM", "INT"] {
        let proxy = Proxy::new(registry.host(), 150_000);
        let name = format!("{}/five:1", proxy.host());
        let mut child =
            root.command(&["pull", &name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while proxy.connections() < 5 || entries(&root.path("plyfs/downloads")).is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60), "no download begins");
            std::thread::sleep(Duration::from_millis(1));
        }
        sh(format!("kill -{signal} {}", child.id())).ok();
        let status = child.wait().unwrap();
        // It may have been fast enough after all.
        if status.success() {
            root.ok(&["rmi", &name]);
            continue;
        }
        if signal != "KILL" {
            assert_eq!(status.code(), Some(1), "{signal}: ended by itself");
            root.assert_empty();
        }
    }
    let name = format!("{}/five:1", registry.host());
    root.ok(&["pull", &name]);
    assert_eq!(entries(&root.path("plyfs/downloads")), Vec::<String>::new());
    assert_eq!(root.names(), [name]);
    let mount = root.mount(&scratch);
    five_layers::compare(&rootfs, mount.dir());
    mount.unmount();
    root.ok(&["rmi", &format!("{}/five:1", registry.host())]);
    root.assert_empty();
}

#[test]
fn a_load_that_was_killed_leaves_nothing() {
    let scratch = Scratch::new();
    let Some((layout, _)) = five_layers::make(&scratch) else { return };
    let archive = scratch.path("five.tar");
    sh(format!("skopeo copy -q oci:{}:five docker-archive:{}:five:1", layout.display(), archive.display()))
        .ok();
    let root = Root::new(&scratch);
    for wait in [0, 5, 10, 20, 40, 80, 160] {
        let mut command = root.command(&["load", "-q", "-i"]);
        let mut child = command.arg(&archive).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        sh(format!("kill -KILL {} 2>/dev/null || true", child.id()));
        if child.wait().unwrap().success() {
            run(&mut root.command(&["rmi", "five:1"])).ok();
        }
        // Any command that writes mends first.
        root.ok(&["prune", "-f"]);
        if root.names().is_empty() {
            root.assert_empty();
        } else {
            // Killed after the image was complete.
            root.ok(&["rmi", "five:1"]);
            root.assert_empty();
        }
    }
}
