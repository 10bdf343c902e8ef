//! A temporary folder with branches in it, and filesystems in files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cmd::sh;

/// A temporary folder, removed at the end; what is mounted below it is unmounted first.
#[derive(Debug)]
pub struct Scratch {
    dir: tempfile::TempDir,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Scratch {
    /// A new one, in the system's place for temporary files.
    pub fn new() -> Scratch {
        let dir = tempfile::Builder::new().prefix("plyfs-test-").tempdir().expect("a temporary folder");
        // Other users take part in some tests.
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Scratch { dir }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A path below it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a folder below it.
    #[track_caller]
    pub fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("making {}: {error}", path.display()));
        path
    }

    /// Writes a file below it, parents made.
    #[track_caller]
    pub fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
        path
    }

    /// Mounts a tmpfs on a folder below it (root only).
    #[track_caller]
    pub fn tmpfs(&self, name: &str) -> PathBuf {
        let path = self.dir(name);
        sh(format!("mount -t tmpfs -o size=64m plyfs-test {}", path.display())).ok();
        path
    }

    /// Makes an ext4 of `mib` MiB in a file and mounts it on a folder (root only).
    #[track_caller]
    pub fn ext4(&self, name: &str, mib: u32) -> PathBuf {
        let path = self.dir(name);
        let image = self.path(format!("{name}.img"));
        sh(format!(
            "truncate -s {mib}M {i} && mkfs.ext4 -q -F -m 0 {i} && mount -o loop {i} {p} && rmdir {p}/lost+found",
            i = image.display(),
            p = path.display()
        ))
        .ok();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let own = self.dir.path().to_string_lossy().into_owned();
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let inside =
            |point: &&str| point.strip_prefix(own.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let mut points: Vec<&str> =
            text.lines().filter_map(|line| line.split(' ').nth(4)).filter(inside).collect();
        points.reverse();
        for point in points {
            // Lazily, so that one failed test cannot make every later one fail for its leftovers.
            let ran = sh(format!("umount {point} || umount -l {point}"));
            if ran.code != 0 {
                eprintln!("umount {point}: {}", ran.err);
            }
        }
    }
}
