//! A real image's life: made by umoci from debootstrap's root, served by a real registry, pulled, run, changed by apt and
//! git, committed, and run again.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use plyfs_tests::debian::cache;
use plyfs_tests::gate::gate;
use plyfs_tests::{Scratch, require_programs, require_root, run, sh};

/// An OCI layout of a Debian, made once.
fn layout() -> Option<PathBuf> {
    let dir = cache().join("debian-oci");
    if dir.is_dir() {
        return Some(dir);
    }
    let (root, part) = (cache().join("debian"), cache().join("debian-oci.part"));
    fs::create_dir_all(cache()).unwrap();
    let line = format!(
        "rm -rf {p} {p}.bundle
         [ -d {r} ] || {{ rm -rf {r}.part; debootstrap --variant=minbase bookworm {r}.part; mv {r}.part {r}; }}
         umoci init --layout {p}; umoci new --image {p}:bookworm
         umoci unpack --image {p}:bookworm {p}.bundle
         cp -a {r}/. {p}.bundle/rootfs
         umoci repack --image {p}:bookworm {p}.bundle
         umoci config --image {p}:bookworm --config.cmd /bin/bash --config.env PATH=/usr/sbin:/usr/bin:/sbin:/bin
         rm -rf {p}.bundle; mv {p} {d}",
        p = part.display(),
        r = root.display(),
        d = dir.display()
    );
    let made = sh(line);
    gate(made.code == 0, &format!("making the image: {}{}", made.out, made.err)).then_some(dir)
}

/// Debian's docker-registry on loopback, ended when dropped.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(scratch: &Scratch) -> Registry {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = scratch.file(
            "registry.yml",
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http: {{addr: '127.0.0.1:{port}'}}\n",
                scratch.path("registry").display()
            ),
        );
        let mut command = Command::new("docker-registry");
        let process =
            command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(since.elapsed() < Duration::from_secs(30), "the registry does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Registry { process, address: format!("127.0.0.1:{port}") }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have died already; the test says then what it lacked.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn command(scratch: &Scratch) -> Command {
    let mut command = plyfs_tests::plyfs();
    command.arg("--root").arg(scratch.path("store"));
    command
}

#[track_caller]
fn ok(scratch: &Scratch, words: &[&str]) -> String {
    run(command(scratch).args(words)).ok().out
}

/// A repository to clone.
fn repository(scratch: &Scratch) -> PathBuf {
    let dir = scratch.dir("source/project");
    let line = format!(
        "cd {d}; git init -q; echo one > one; git add one
         git -c user.name=n -c user.email=e commit -qm first",
        d = dir.display()
    );
    sh(line).ok();
    dir.parent().unwrap().to_owned()
}

/// What is done in the container: packages from Debian, a clone of a local repository.
const WORK: &str = "
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends git
git config --global --add safe.directory '*'
git clone -q /source/project /root/clone
rm -rf /usr/share/doc
mv /usr/share/perl5 /usr/share/perl5-moved
mv /usr/share/perl5-moved /usr/share/perl5
dpkg --audit
";

#[test]
fn a_pulled_debian_is_changed_by_apt_and_git_and_committed() {
    let programs = ["debootstrap", "umoci", "skopeo", "docker-registry", "crun", "git"];
    if !require_root("running containers") || !require_programs(&programs) {
        return;
    }
    let Some(layout) = layout() else { return };
    let scratch = Scratch::new();
    let registry = Registry::start(&scratch);
    let name = format!("{}/debian:bookworm", registry.address);
    let (from, to) = (format!("oci:{}:bookworm", layout.display()), format!("docker://{name}"));
    let mut copy = Command::new("skopeo");
    run(copy.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", &from, &to])).ok();
    let said = ok(&scratch, &["pull", &name]);
    assert!(said.contains("Status: Downloaded newer image for"), "{said}");

    let source = format!("{}:/source:ro", repository(&scratch).display());
    ok(&scratch, &["run", "--name", "work", "-v", &source, &name, "bash", "-c", WORK]);
    assert!(is_empty_everywhere(&scratch.path("store/aufs/mnt")), "something is mounted after the end");

    let changes = ok(&scratch, &["diff", "work"]);
    for line in ["A /root/clone/one", "A /usr/bin/git", "C /var/lib/dpkg/status", "D /usr/share/doc"] {
        assert!(changes.lines().any(|one| one == line), "diff lacks {line}:\n{changes}");
    }
    for name in ["/.dockerenv", "/etc/resolv.conf", "/source"] {
        assert!(!changes.lines().any(|one| one == format!("A {name}")), "diff shows {name}");
    }
    let image = ok(&scratch, &["commit", "-m", "git", "work", "with-git:1"]);
    assert!(image.starts_with("sha256:"), "{image}");
    let look = "git -C /root/clone log --oneline | grep -q first && test ! -e /usr/share/doc && dpkg --audit \
                && test -d /usr/share/perl5 && test ! -e /usr/share/perl5-moved && git --version";
    let said = ok(&scratch, &["run", "--rm", "with-git:1", "bash", "-c", look]);
    assert!(said.starts_with("git version"), "{said}");
    saved_is_what_it_was(&scratch);

    ok(&scratch, &["rm", "work"]);
    ok(&scratch, &["rmi", "with-git:1", &name]);
    assert_eq!(fs::read_dir(scratch.path("store/aufs/diff")).unwrap().count(), 0, "layers are left");
    let info = ok(&scratch, &["info"]);
    assert!(
        info.contains("Containers: 0") && info.contains("Images: 0") && info.contains(" Dirs: 0"),
        "{info}"
    );
}

/// The committed image, saved and unpacked by umoci, is what the container saw.
fn saved_is_what_it_was(scratch: &Scratch) {
    let archive = scratch.path("with-git.tar").display().to_string();
    ok(scratch, &["save", "with-git:1", "-o", &archive]);
    let line = format!(
        "skopeo --insecure-policy copy -q docker-archive:{archive} oci:{o}:x
         umoci unpack --image {o}:x {b} >/dev/null
         test -f {b}/rootfs/root/clone/one; test ! -e {b}/rootfs/usr/share/doc; test -x {b}/rootfs/usr/bin/git
         rm -rf {o} {b} {archive}",
        o = scratch.path("saved-oci").display(),
        b = scratch.path("saved-bundle").display()
    );
    sh(line).ok();
}

fn is_empty_everywhere(mounts: &Path) -> bool {
    fs::read_dir(mounts).unwrap().all(|entry| fs::read_dir(entry.unwrap().path()).unwrap().next().is_none())
}
