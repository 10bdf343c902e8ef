//! Pulling from a real registry.

use std::fs;

use plyfs_tests::{Scratch, require_programs, run, sh};

use crate::five_layers;
use crate::proxy::Proxy;
use crate::registry::{Registry, free_port};
use crate::root::{Root, entries};

#[test]
fn five_layers_are_what_umoci_unpacks() {
    let scratch = Scratch::new();
    let Some((layout, rootfs)) = five_layers::make(&scratch) else { return };
    if !require_programs(&["docker-registry"]) {
        return;
    }
    let registry = Registry::new(&scratch);
    registry.push(&format!("oci:{}:five", layout.display()), "team/five:1", "");
    let root = Root::new(&scratch);
    let name = format!("{}/team/five:1", registry.host());
    let ran = root.run(&["pull", &name]).ok();
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "1: Pulling from team/five");
    assert_eq!(lines.iter().filter(|line| line.ends_with(": Pull complete")).count(), 5);
    let inspect =
        sh(format!("skopeo inspect --tls-verify=false --format '{{{{.Digest}}}}' docker://{name}")).ok().out;
    assert_eq!(lines[6], format!("Digest: {}", inspect.trim()));
    assert_eq!(lines[7..], [format!("Status: Downloaded newer image for {name}"), name.clone()]);
    let mount = root.mount(&scratch);
    five_layers::compare(&rootfs, mount.dir());
    mount.unmount();

    let again = root.ok(&["pull", &name]);
    assert_eq!(again.lines().filter(|line| line.ends_with(": Already exists")).count(), 5);
    assert!(again.contains(&format!("Status: Image is up to date for {name}")));
    let at = format!("{}/team/five@{}", registry.host(), inspect.trim());
    assert_eq!(root.ok(&["pull", "-q", &at]), format!("{at}\n"));
    assert_eq!(root.names(), [format!("{}/team/five:1", registry.host())]);
    let digest = root.json(&["images", "--json"])["images"][0]["digest"].clone();
    assert_eq!(digest, inspect.trim());
    assert_eq!(entries(&root.path("plyfs/downloads")), Vec::<String>::new());
    let gone = root.ok(&["rmi", &name]);
    assert_eq!(gone.lines().filter(|line| line.starts_with("Deleted: sha256:")).count(), 6);
    root.assert_empty();
}

#[test]
fn connections_that_break_all_the_time() {
    let scratch = Scratch::new();
    let Some((layout, rootfs)) = five_layers::make(&scratch) else { return };
    if !require_programs(&["docker-registry"]) {
        return;
    }
    let registry = Registry::new(&scratch);
    for (name, form) in [("gzip", "oci"), ("zstd", "oci --dest-compress-format=zstd"), ("docker", "v2s2")] {
        let options = format!("--dest-force-compress-format=false -f {form}");
        let plain = sh("skopeo copy --help").ok().out.contains("force-compress");
        let options = if plain { options } else { format!("-f {form}") };
        registry.push(&format!("oci:{}:five", layout.display()), &format!("five:{name}"), &options);
        let proxy = Proxy::new(registry.host(), 400_000);
        let own = Scratch::new();
        let root = Root::new(&own);
        root.ok(&["pull", &format!("{}/five:{name}", proxy.host())]);
        assert!(proxy.connections() > 8, "{} connections", proxy.connections());
        let mount = root.mount(&own);
        five_layers::compare(&rootfs, mount.dir());
        mount.unmount();
    }
}

#[test]
fn logins_by_file_and_by_helper() {
    let scratch = Scratch::new();
    if !require_programs(&["docker-registry", "skopeo", "umoci"]) {
        return;
    }
    let registry = Registry::with_login(&scratch);
    sh(format!("cd {}; umoci init --layout lay; umoci new --image lay:x; mkdir d; echo 1 > d/f; umoci insert --rootless --image lay:x d /", scratch.root().display())).ok();
    registry.push(&format!("oci:{}:x", scratch.path("lay").display()), "x:1", "--dest-creds me:secret");
    let name = format!("{}/x:1", registry.host());
    let root = Root::new(&scratch);
    root.run(&["pull", &name]).exits(1).says("needs a login");
    // As `docker login` and `podman login` write it: base64 of me:secret
    let file = format!(r#"{{"auths":{{"{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#, registry.host());
    let config = scratch.file("docker/config.json", &file);
    let dir = config.parent().unwrap();
    run(root
        .command(&["pull", "-q", &name])
        .env_remove("REGISTRY_AUTH_FILE")
        .env("XDG_RUNTIME_DIR", "/nonexistent")
        .env("DOCKER_CONFIG", dir))
    .ok();
    root.ok(&["rmi", &name]);
    run(root.command(&["pull", "-q", &name]).env("REGISTRY_AUTH_FILE", &config)).ok();
    root.ok(&["rmi", &name]);
    let script = format!(
        "#!/bin/sh\nread host\n[ \"$1 $host\" = 'get {}' ] && echo '{{\"Username\":\"me\",\"Secret\":\"secret\"}}'\n",
        registry.host()
    );
    let helper = scratch.file("bin/docker-credential-plyfs-test", script);
    fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let file = format!(r#"{{"credHelpers":{{"{}":"plyfs-test"}}}}"#, registry.host());
    let config = scratch.file("helped.json", file);
    let path = format!("{}:{}", scratch.path("bin").display(), std::env::var("PATH").unwrap());
    run(root.command(&["pull", "-q", &name]).env("REGISTRY_AUTH_FILE", &config).env("PATH", path)).ok();
    assert_eq!(root.names(), [name]);
}

#[test]
fn what_is_not_there_is_told() {
    let scratch = Scratch::new();
    let root = Root::new(&scratch);
    let port = free_port();
    root.run(&["pull", &format!("127.0.0.1:{port}/x")]).exits(1).says("refused");
    for bad in ["UPPER", "a:..", "../x", "x@sha256:../../etc/passwd", "-x"] {
        root.run(&["pull", bad]).exits(2);
    }
    root.assert_empty();
    if !require_programs(&["docker-registry"]) {
        return;
    }
    let registry = Registry::new(&scratch);
    root.run(&["pull", &format!("{}/x:1", registry.host())]).exits(1).says("not found");
    root.assert_empty();
}

#[test]
fn loopback_registries_may_speak_either() {
    let scratch = Scratch::new();
    if !require_programs(&["docker-registry", "skopeo", "umoci", "openssl"]) {
        return;
    }
    let registry = Registry::with_tls(&scratch);
    let dir = scratch.root().display();
    sh(format!("cd {dir}; umoci init --layout lay; umoci new --image lay:x; mkdir d; echo 1 > d/f; umoci insert --rootless --image lay:x d /")).ok();
    registry.push(&format!("oci:{dir}/lay:x"), "x:1", "");
    let root = Root::new(&scratch);
    let name = format!("{}/x:1", registry.host());
    root.ok(&["pull", "-q", &name]);
    root.ok(&["rmi", &name]);
    root.ok(&["pull", "-q", "--insecure-registry", &registry.host(), &name]);
    root.run(&["pull", "--plain-http", &name]).exits(1);
    let plain = Scratch::new();
    let registry = Registry::new(&plain);
    registry.push(&format!("oci:{dir}/lay:x"), "x:1", "");
    let name = format!("{}/x:1", registry.host());
    root.ok(&["pull", "-q", "--insecure-registry", &registry.host(), &name]);
    root.ok(&["pull", "-q", "--plain-http", &name]);
}
