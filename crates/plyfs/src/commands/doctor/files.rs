//! What the filesystems at hand can do: extended attributes and reflinks, tried on a file of our own.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use plyfs_sys::process::probe;

use super::{Check, State};
use crate::exit::told;
use crate::runtime_dir;

const RUNTIME: &str = "runtime directory";

/// The runtime directory, /tmp and the working directory, each filesystem once.
pub(super) fn checks() -> Vec<Check> {
    let mut places: Vec<(&str, PathBuf)> = Vec::new();
    let home = runtime_dir::home();
    let mut checks = vec![runtime(&home)];
    places.extend(home.ok().map(|home| (RUNTIME, home)));
    places.push(("/tmp", PathBuf::from("/tmp")));
    places.extend(std::env::current_dir().ok().map(|cwd| ("working directory", cwd)));
    for (name, place) in places {
        checks.push(attributes(name, &place));
        // Branches never lie there.
        if name != RUNTIME {
            checks.push(reflink(name, &place));
        }
    }
    checks
}

fn runtime(home: &anyhow::Result<PathBuf>) -> Check {
    let enables = "si_<id>/br0 and its like, plyfs status, which, diff";
    match home {
        Ok(home) => Check::new(RUNTIME, State::Ok, home.display().to_string(), enables, ""),
        Err(error) => Check::new(
            "runtime directory",
            State::Lacking,
            told(error),
            enables,
            "export XDG_RUNTIME_DIR=...",
        ),
    }
}

fn scratch(place: &Path) -> std::io::Result<File> {
    tempfile::tempfile_in(place)
}

fn attributes(name: &str, place: &Path) -> Check {
    let enables = "stable inode numbers and renamed lower directories (trusted. as root, user. otherwise)";
    let label = format!("xattrs ({name})");
    let file = match scratch(place) {
        Ok(file) => file,
        Err(error) => {
            return Check::new(label, State::Lacking, format!("{}: {error}", place.display()), enables, "");
        }
    };
    let works = |space: &str| probe::keeps_xattr(file.as_fd(), space);
    let found = |list: &str| format!("{}: {list}", place.display());
    match (works("user.plyfs.probe"), works("trusted.plyfs.probe")) {
        (true, true) => Check::new(label, State::Ok, found("user. and trusted."), enables, ""),
        (true, false) => Check::new(label, State::Ok, found("user."), enables, ""),
        (false, true) => Check::new(label, State::Ok, found("trusted."), enables, ""),
        (false, false) => {
            let mend = "use a filesystem with extended attributes (ext4, xfs, btrfs; tmpfs since Linux 6.6)";
            Check::new(label, State::Lacking, found("none"), enables, mend)
        }
    }
}

fn reflink(name: &str, place: &Path) -> Check {
    let enables = "copy-up without copying data";
    let label = format!("reflink ({name})");
    let works = match (scratch(place), scratch(place)) {
        (Ok(from), Ok(to)) => probe::can_reflink(from.as_fd(), to.as_fd()),
        _ => false,
    };
    let (state, word) = if works { (State::Ok, "yes") } else { (State::Lacking, "no") };
    let found = format!("{}: {word}", place.display());
    Check::new(label, state, found, enables, "keep branches on btrfs, xfs or bcachefs")
}
