//! A real Debian root as an image of two layers: pulled, compared, saved.

use plyfs_tests::{Scratch, debian, require_programs, require_root, sh};

use crate::five_layers;
use crate::registry::Registry;
use crate::root::Root;

#[test]
fn a_pulled_debian_is_debian() {
    if !require_root("device nodes")
        || !require_programs(&["debootstrap", "umoci", "skopeo", "docker-registry"])
    {
        return;
    }
    let Some(base) = debian::base() else { return };
    let scratch = Scratch::new();
    let dir = scratch.root().display();
    let pack = "tar --format=posix --pax-option=delete=atime,delete=ctime --xattrs --xattrs-include=* --numeric-owner --sort=name";
    sh(format!(
        "cd {dir}; umoci init --layout lay; umoci new --image lay:deb
         {pack} -C {base} -cf 1.tar .; umoci raw add-layer --image lay:deb 1.tar
         mkdir -p 2/usr/share 2/etc/apt; : > 2/usr/share/.wh.doc; : > 2/etc/apt/.wh..wh..opq; echo changed > 2/etc/issue
         for d in . usr usr/share etc etc/apt; do chmod --reference={base}/$d 2/$d; done
         {pack} -C 2 -cf 2.tar .; umoci raw add-layer --image lay:deb 2.tar
         umoci unpack --image lay:deb bundle",
        base = base.display()
    ))
    .ok();
    let registry = Registry::new(&scratch);
    registry.push(&format!("oci:{dir}/lay:deb"), "debian:test", "");
    let root = Root::new(&scratch);
    let name = format!("{}/debian:test", registry.host());
    root.ok(&["pull", "-q", &name]);
    let mount = root.mount(&scratch);
    five_layers::compare(&scratch.path("bundle/rootfs"), mount.dir());
    mount.unmount();
    root.ok(&["save", &name, "-o", scratch.path("saved.tar").to_str().unwrap()]);
    for (number, diff) in root.diff_ids(&name).iter().enumerate() {
        let blob = format!("blobs/sha256/{}", diff.replace("sha256:", ""));
        sh(format!("cd {dir}; tar -xOf saved.tar {blob} | cmp - {}.tar", number + 1)).ok();
    }
}
