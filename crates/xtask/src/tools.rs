//! Outside programs that the suites and the bench need: Debian packages, crates installed into `target/tools`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::run;

/// A program and the Debian package that has it.
const PACKAGES: &[(&str, &str)] = &[
    ("fusermount3", "fuse3"),
    ("mount.fuse3", "fuse3"),
    ("debootstrap", "debootstrap"),
    ("setfattr", "attr"),
    ("setfacl", "acl"),
    ("newuidmap", "uidmap"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mksquashfs", "squashfs-tools"),
    ("strace", "strace"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("cc", "gcc"),
    ("g++", "g++"),
    ("python3", "python3"),
    ("fincore", "util-linux-extra"),
    ("git", "git"),
    ("fuse-overlayfs", "fuse-overlayfs"),
    ("unionfs", "unionfs-fuse"),
    ("mkfs.xfs", "xfsprogs"),
    ("busybox", "busybox-static"),
    ("crun", "crun"),
    ("runc", "runc"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("buildah", "buildah"),
    ("podman", "podman"),
    ("docker-registry", "docker-registry"),
    ("ctr", "containerd"),
    ("zstd", "zstd"),
];

/// Crates whose programs the suites run: program, crate.
const CRATES: &[(&str, &str)] = &[("pjdfstest", "pjdfstest"), ("fsx", "fsx")];

/// Debian packages that are missing.
pub(crate) fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<&str> =
        PACKAGES.iter().filter(|(program, _)| !run::have(program)).map(|(_, package)| *package).collect();
    missing.dedup();
    missing
}

/// Installs `packages` with apt-get.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    let install = || {
        run::run(
            Command::new("apt-get")
                .args(["install", "-y", "-q", "--no-install-recommends"])
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    // The lists may be old or absent: one update, one more try.
    install().or_else(|_| {
        run::run(Command::new("apt-get").args(["update", "-q"]))?;
        install()
    })
}

/// Where `cargo install` puts programs.
pub(crate) fn dir(root: &Path) -> PathBuf {
    root.join("target/tools")
}

/// Installs a crate's program into `target/tools` unless it is there.
pub(crate) fn crate_program(root: &Path, program: &str, krate: &str) -> Result<PathBuf> {
    let path = dir(root).join("bin").join(program);
    if path.is_file() {
        return Ok(path);
    }
    run::run(
        run::cargo(root)
            .args(["install", "--quiet", "--locked", "--root"])
            .arg(dir(root))
            .arg("--target-dir")
            .arg(dir(root).join("build"))
            .arg(krate),
    )?;
    if !path.is_file() {
        bail!("cargo install {krate} left no {}", path.display());
    }
    Ok(path)
}

/// Installs what the foreign suite runs.
pub(crate) fn foreign(root: &Path) -> Result<()> {
    for (program, krate) in CRATES {
        crate_program(root, program, krate)?;
    }
    Ok(())
}
