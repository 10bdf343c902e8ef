//! Images made without archives: a busybox registered through the store's own interface.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use plyfs_store::{Access, DiffId, Digest, MountError, Mounter, Store};
use plyfs_union::spec::MountSpec;
use serde_json::{Value, json};

/// Nothing is mounted by making an image.
struct Never;

impl Mounter for Never {
    fn mount(&self, _: &MountSpec, _: &Path) -> Result<(), MountError> {
        Err("nothing is to be mounted here".into())
    }

    fn unmount(&self, _: &Path) -> Result<(), MountError> {
        Err("nothing is to be unmounted here".into())
    }
}

/// Registers an image of one layer that `fill` fills, under `NAME:TAG`, with `config` as its `config`; answers its id.
#[track_caller]
pub fn register(root: &Path, name: &str, config: &Value, fill: impl FnOnce(&Path)) -> String {
    let store = Store::open(root, Access::Write, &Never).expect("opening the store");
    let intent = store.begin("test image").unwrap();
    let draft = store.draft_layer(&intent).unwrap();
    fill(draft.dir());
    // Of no archive: nobody asks here.
    let diff = DiffId(Digest::of(draft.id().as_str().as_bytes()));
    store.commit_layer(&intent, draft, None, diff, 1, &Never).unwrap();
    let document = json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": [diff.to_string()] },
        "created": "2026-01-02T03:04:05Z", "history": [{ "created_by": "plyfs-tests" }],
    });
    let image = store.put_image(serde_json::to_vec(&document).unwrap()).unwrap();
    let repository = name.split(':').next().unwrap();
    store.tag(repository, name, &image.id).unwrap();
    intent.done().unwrap();
    image.id.to_string()
}

/// A small root with busybox' applets.
pub fn busybox(dir: &Path) {
    for (name, mode) in [("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("home", 0o755)] {
        fs::create_dir(dir.join(name)).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::copy("/bin/busybox", dir.join("bin/busybox")).expect("busybox-static is needed");
    let applets = "sh cat echo ls id env pwd sleep kill true false touch rm mkdir mv ln stat hostname ps mount grep head \
        seq tty stty test wc tr dd chmod chown find ip date";
    for applet in applets.split_whitespace() {
        symlink("busybox", dir.join("bin").join(applet)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/home:/bin/sh\n";
    fs::write(dir.join("etc/passwd"), passwd).unwrap();
    fs::write(dir.join("etc/group"), "root:x:0:\nwww:x:34:\nlog:x:40:web\n").unwrap();
}
