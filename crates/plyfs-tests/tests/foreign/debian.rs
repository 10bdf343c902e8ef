//! A real root: debootstrap's, cut into three branches, entered with chroot; packages come and go; a plain copy that
//! went through the same is the judge.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use plyfs_tests::debian::{base, cache};
use plyfs_tests::gate::gate;
use plyfs_tests::{Mount, Scratch, Snapshot, Want, require_programs, require_root, run, sh};

/// The packages that come; the second goes again.
const WORK: &str = "
set -e
export DEBIAN_FRONTEND=noninteractive LC_ALL=C SOURCE_DATE_EPOCH=1700000000
apt-get install -y -q --no-install-recommends --no-download -o Dir::Cache::archives=/debs cowsay xz-utils
apt-get install -y -q --no-install-recommends --no-download -o Dir::Cache::archives=/debs nano libcap2-bin
/usr/games/cowsay moo > /root/said
apt-get purge -y -q nano
apt-get purge -y -q --allow-remove-essential e2fsprogs
dpkg --audit
useradd -m somebody
chown -R somebody /srv
chmod u+s /usr/bin/xz
ln /usr/bin/xz /usr/bin/xz-twin
mv /usr/share/doc /usr/share/papers
ln -s papers /usr/share/doc
rm -rf /usr/share/locale
mkdir /usr/share/locale
setcap cap_net_raw+ep /usr/bin/xzdiff || true
";

/// The root, made once: as root by debootstrap, with the packages that will be installed downloaded into /debs.
fn root() -> Option<PathBuf> {
    let dir = cache().join("debian-ready");
    if dir.is_dir() {
        return Some(dir);
    }
    let base = base()?;
    let part = cache().join("debian-ready.part");
    let fetch = format!(
        "rm -rf {p}; cp -a {b} {p}; mkdir -p {p}/debs/partial; cp /etc/resolv.conf {p}/etc/resolv.conf
         cp -r /etc/apt/apt.conf.d/*proxy* {p}/etc/apt/apt.conf.d/ 2>/dev/null || true
         chroot {p} apt-get update -q
         chroot {p} apt-get install -y -q --no-install-recommends -d -o Dir::Cache::archives=/debs cowsay xz-utils nano libcap2-bin
         rm -rf {p}/var/log/*.log {p}/var/log/apt/*",
        p = part.display(),
        b = base.display()
    );
    let fetched = sh(fetch);
    if !gate(fetched.code == 0, &format!("fetching packages: {}{}", fetched.out, fetched.err)) {
        return None;
    }
    fs::rename(part, &dir).unwrap();
    Some(dir)
}

/// Three lower branches that make the root up: its /usr/share and /var at the bottom, the rest of /usr in the middle
/// with a file that the top hides, everything else on top.
fn cut(scratch: &Scratch, root: &Path) {
    let line = format!(
        "cd {s}; mkdir br1 br2 br3
         cp -a {r}/. br1
         mkdir -p br2/usr br3/usr
         for d in usr/share var; do mkdir -p br3/$d; done
         cp -a {r}/usr/share/. br3/usr/share; cp -a {r}/var/. br3/var
         rm -rf br1/usr/share br1/var
         for d in bin lib; do cp -a {r}/usr/$d br2/usr/$d; rm -rf br1/usr/$d; done
         # The merged folders show the attributes of the topmost: let every layer agree.
         for b in br1 br2 br3; do chmod --reference={r} $b; chown --reference={r} $b; touch -r {r} $b
           touch -r {r}/usr $b/usr; done
         # Something that the layers above hide.
         echo hidden > br3/usr/share/hidden; mkdir -p br2/usr/share; touch -r {r}/usr/share br2/usr/share
         : > br2/usr/share/.wh.hidden
         touch -r {r}/usr/share br2/usr/share br3/usr/share; touch -r {r}/usr br1/usr br2/usr br3/usr",
        s = scratch.root().display(),
        r = root.display()
    );
    sh(line).ok();
}

/// Enters `dir` in namespaces of its own and does the work.
fn work(dir: &Path) {
    let line = format!(
        "mount -t proc proc {d}/proc && mount --rbind /dev {d}/dev && chroot {d} /bin/bash -c '{WORK}'",
        d = dir.display()
    );
    let own = ["-m", "-p", "-f", "--kill-child", "--propagation", "private"];
    run(std::process::Command::new("unshare").args(own).args(["bash", "-ec"]).arg(line)).ok();
}

/// Files whose content tells the time of the work.
const TIMELY: &[&str] = &[
    "var/log",
    "var/cache/ldconfig",
    "var/cache/apt",
    "var/lib/apt/extended_states",
    "var/lib/systemd/deb-systemd-helper-enabled",
    "etc/passwd-",
    "etc/shadow-",
    "etc/group-",
    "etc/gshadow-",
    "etc/subuid-",
    "etc/subgid-",
    "etc/ld.so.cache",
];

/// The paths in both whose time is not `before`'s are touched; their times are the work's, not the filesystem's.
fn compare(before: &Snapshot, plain: &Path, union: &Path) {
    let (want, got) = (Snapshot::of(plain, Want::ALL), Snapshot::of(union, Want::ALL));
    let cut = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.retain(|word| !word.starts_with("mtime="));
        words.join(" ")
    };
    let mut wrong = Vec::new();
    let paths: BTreeSet<&PathBuf> = want.0.keys().chain(got.0.keys()).collect();
    for path in paths {
        if TIMELY.iter().any(|timely| path.starts_with(timely)) {
            continue;
        }
        let (a, b) = (want.0.get(path), got.0.get(path));
        let untouched = a.is_some() && a == before.0.get(path);
        let same = match (a, b) {
            (Some(a), Some(b)) if untouched => a == b,
            (Some(a), Some(b)) => cut(a) == cut(b),
            _ => false,
        };
        if !same {
            wrong.push(format!("{}: plain {a:?}, union {b:?}", path.display()));
        }
    }
    let shown = wrong.iter().take(30).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} differences:\n{shown}", wrong.len());
}

#[test]
fn a_debian_root_in_three_branches_is_a_debian_root() {
    if !require_root("chroot") || !require_programs(&["debootstrap", "unshare", "apt-get"]) {
        return;
    }
    let Some(root) = root() else { return };
    let scratch = Scratch::new();
    cut(&scratch, &root);
    let plain = scratch.dir("plain");
    sh(format!("cp -a {}/. {}", root.display(), plain.display())).ok();
    let before = Snapshot::of(&plain, Want::ALL);
    let branches = ["br1", "br2", "br3"].map(|name| Snapshot::of(scratch.path(name), Want::ALL));
    let words = ["top", "br1=ro+wh", "br2=ro+wh", "br3=ro+wh"];
    sh(format!(
        "mkdir {s}/top; chmod --reference={r} {s}/top; touch -r {r} {s}/top",
        s = scratch.root().display(),
        r = root.display()
    ))
    .ok();
    let mount = Mount::stack(&scratch, &words);
    before.same(&Snapshot::of(mount.dir(), Want::ALL), "before any work");
    work(&plain);
    work(mount.dir());
    compare(&before, &plain, mount.dir());
    mount.unmount();
    let mount = Mount::stack(&scratch, &words);
    compare(&before, &plain, mount.dir());
    for (name, before) in ["br1", "br2", "br3"].iter().zip(&branches) {
        before.same(&Snapshot::of(scratch.path(name), Want::ALL), name);
    }
    let fetch = format!(
        "diff -r --no-dereference -q {p}/usr {m}/usr",
        p = plain.display(),
        m = mount.dir().display()
    );
    let ran = sh(fetch);
    assert_eq!(ran.code, 0, "diff -r: {}", ran.out);
}
