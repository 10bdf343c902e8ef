//! Loading archives in every form, made by others.

use std::process::Stdio;

use plyfs_tests::{Scratch, Snapshot, Want, require_programs, require_root, run, sh};

use crate::five_layers;
use crate::root::Root;

#[test]
fn the_same_image_in_every_form() {
    let scratch = Scratch::new();
    let Some((layout, rootfs)) = five_layers::make(&scratch) else { return };
    let (dir, lay) = (scratch.root().display(), layout.display());
    sh(format!(
        "cd {dir}
         skopeo copy -q oci:{lay}:five docker-archive:old.tar:team/five:1
         skopeo copy -q oci:{lay}:five oci-archive:oci.tar:team/five:1
         skopeo copy -q --dest-oci-accept-uncompressed-layers oci:{lay}:five oci:ocidir:team/five:1
         gzip -k old.tar; zstd -q old.tar; gzip -c oci.tar > oci.tgz
         mkdir olddir; tar -C olddir -xf old.tar
         # As Docker before 25 wrote it: a directory for each layer, equal layers as symlinks; manifest.json last.
         mkdir form; cd form; n=0; list=
         for f in $(jq -r '.[0].Layers[]' ../olddir/manifest.json); do
           n=$((n+1)); mkdir $n; mv ../olddir/$f $n/layer.tar.real; echo '1.0' > $n/VERSION
           mkdir x$n; mv $n/layer.tar.real x$n/layer.tar; ln -s ../x$n/layer.tar $n/layer.tar; list=\"$list,\\\"$n/layer.tar\\\"\"
         done
         c=$(jq -r '.[0].Config' ../olddir/manifest.json); cp ../olddir/$c .
         echo \"[{{\\\"Config\\\":\\\"$c\\\",\\\"RepoTags\\\":[\\\"team/five:1\\\"],\\\"Layers\\\":[${{list#,}}]}}]\" > manifest.json
         tar -cf ../form.tar [0-9]* x* *.json; cd ..; rm -rf olddir; mkdir olddir; tar -C olddir -xf old.tar"
    ))
    .ok();
    let forms = [
        "old.tar",
        "old.tar.gz",
        "old.tar.zst",
        "olddir",
        "oci.tar",
        "oci.tgz",
        "ocidir",
        "form.tar",
        "form",
    ];
    let mut ids = Vec::new();
    for form in forms {
        let own = Scratch::new();
        let root = Root::new(&own);
        let path = scratch.path(form);
        assert_eq!(root.ok(&["load", path.to_str().unwrap()]), "Loaded image: team/five:1\n", "{form}");
        ids.push(root.id("team/five:1"));
        let mount = root.mount(&own);
        five_layers::compare(&rootfs, mount.dir());
        mount.unmount();
        if path.is_file() {
            let file = std::fs::File::open(&path).unwrap();
            let piped = root.command(&["load", "-q"]).stdin(Stdio::from(file)).output().unwrap();
            assert!(piped.status.success(), "{form} from standard input");
            assert_eq!(String::from_utf8_lossy(&piped.stdout), "Loaded image: team/five:1\n");
        }
        root.ok(&["rmi", "team/five:1"]);
        root.assert_empty();
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one image in all forms: {ids:?}");
}

#[test]
fn what_podman_saves() {
    let scratch = Scratch::new();
    let Some((layout, rootfs)) = five_layers::make(&scratch) else { return };
    if !require_programs(&["podman"]) {
        return;
    }
    let dir = scratch.root().display();
    let podman = format!("podman --root {dir}/pod --runroot {dir}/podrun --storage-driver vfs");
    sh(format!(
        "cd {dir}; skopeo copy -q oci:{}:five docker-archive:in.tar:localhost/five:1; {podman} load -q -i in.tar
         {podman} save -q --format docker-archive -o d.tar localhost/five:1
         {podman} save -q --format oci-archive -o o.tar localhost/five:1
         {podman} save -q --format docker-archive -m -o m.tar localhost/five:1",
        layout.display()
    ))
    .ok();
    for form in ["d.tar", "o.tar", "m.tar"] {
        let own = Scratch::new();
        let root = Root::new(&own);
        assert_eq!(
            root.ok(&["load", "-i", scratch.path(form).to_str().unwrap()]),
            "Loaded image: localhost/five:1\n"
        );
        let mount = root.mount(&own);
        five_layers::compare(&rootfs, mount.dir());
        mount.unmount();
    }
    sh(format!("{podman} rmi -af; umount {dir}/pod/vfs 2>/dev/null || true")).ok();
}

#[test]
fn root_filesystems() {
    let scratch = Scratch::new();
    if !require_root("owners") || !require_programs(&["tar", "gzip", "zstd"]) {
        return;
    }
    let dir = scratch.root().display();
    sh(format!(
        "cd {dir}; mkdir -p fs/etc fs/bin; echo a > fs/etc/a; ln fs/etc/a fs/etc/b; chown 5:6 fs/bin; head -c 300000 /dev/urandom > fs/bin/r
         tar --format=posix -C fs -cf fs.tar .; split -b 100000 fs.tar part.
         for p in part.*; do gzip -c $p >> members.tar.gz; zstd -q -c $p >> frames.tar.zst; done"
    ))
    .ok();
    let want = Snapshot::of(scratch.path("fs"), Want::ALL);
    for (form, from_stdin) in [
        ("fs.tar", false),
        ("members.tar.gz", false),
        ("frames.tar.zst", false),
        ("members.tar.gz", true),
        ("fs", false),
    ] {
        let own = Scratch::new();
        let root = Root::new(&own);
        let path = scratch.path(form);
        let ran = if from_stdin {
            run(std::process::Command::new("bash").arg("-ec").arg(format!(
                "{} --root {} load --name fs < {}",
                plyfs_tests::mount::plyfs_path().display(),
                own.path("root").display(),
                path.display()
            )))
        } else {
            root.run(&["load", "--name", "fs", path.to_str().unwrap()])
        };
        assert_eq!(ran.ok().out, "Loaded image: fs:latest\n", "{form}");
        let layer = crate::root::entries(&root.path("aufs/diff")).remove(0);
        let mut got = Snapshot::of(root.path("aufs/diff").join(layer), Want::ALL);
        if form == "fs" {
            // An ordinary root of a directory gets no entry of its own, and so no time.
            got.0.insert("".into(), want.0[std::path::Path::new("")].clone());
        }
        want.same(&got, form);
        let history = root.json(&["history", "--json", "fs"]);
        assert_eq!(history["history"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn several_images_and_several_platforms() {
    let scratch = Scratch::new();
    if !require_programs(&["umoci", "skopeo"]) {
        return;
    }
    let dir = scratch.root().display();
    sh(format!(
        "cd {dir}; umoci init --layout lay; for n in a b c; do umoci new --image lay:$n; mkdir $n; echo $n > $n/f; umoci insert --rootless --image lay:$n $n /; done
         for n in a b; do umoci config --image lay:$n --config.label x=$n; done
         jq -c '(.manifests[0] += {{platform:{{os:\"linux\",architecture:\"s390x\"}}}})|(.manifests[1] += {{platform:{{os:\"linux\",architecture:\"amd64\"}}}})|.manifests[0,1].annotations={{\"org.opencontainers.image.ref.name\":\"multi:1\"}}' lay/index.json > i; mv i lay/index.json"
    ))
    .ok();
    let own = Scratch::new();
    let root = Root::new(&own);
    let layout = scratch.path("lay");
    let layout = layout.to_str().unwrap();
    let out = root.ok(&["load", "--platform", "linux/amd64", layout]);
    assert!(out.contains("Loaded image: multi:1\n") && out.contains("Loaded image ID: sha256:"), "{out}");
    assert_eq!(root.names(), ["-:-", "multi:1"]);
    let amd = root.id("multi:1");
    root.ok(&["load", "--platform", "linux/s390x", layout]);
    assert_ne!(root.id("multi:1"), amd);
    root.run(&["load", "--name", "x", layout]).exits(1).says("cannot all be named");
}
