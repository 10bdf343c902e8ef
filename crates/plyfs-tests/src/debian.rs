//! A real Debian root, made once by debootstrap and kept.

use std::fs;
use std::path::PathBuf;

use crate::cmd::sh;
use crate::gate::gate;

/// Where what was fetched is kept: $PLYFS_CACHE or `target/cache`.
pub fn cache() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let default = || here.ancestors().nth(2).unwrap().join("target/cache");
    std::env::var_os("PLYFS_CACHE").map_or_else(default, PathBuf::from)
}

/// The root: minbase of bookworm. `None`: it could not be made.
pub fn base() -> Option<PathBuf> {
    let base = cache().join("debian");
    fs::create_dir_all(cache()).unwrap();
    if !base.is_dir() {
        let part = cache().join("debian.part");
        let made = sh(format!("rm -rf {p}; debootstrap --variant=minbase bookworm {p}", p = part.display()));
        if !gate(made.code == 0, &format!("debootstrap failed: {}{}", made.out, made.err)) {
            return None;
        }
        fs::rename(part, &base).unwrap();
    }
    Some(base)
}
