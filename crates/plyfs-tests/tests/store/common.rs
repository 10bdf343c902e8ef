//! What the tests of the store share: opening one, mounting for it with the real program, small files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use plyfs_store::{Access, Driver, LayerId, MountError, Mounter, Store};
use plyfs_tests::mount::with_switches;
use plyfs_tests::{Ran, Scratch, plyfs, run};
use plyfs_union::spec::MountSpec;

/// Mounts with the program under test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Real;

impl Mounter for Real {
    fn mount(&self, spec: &MountSpec, target: &Path) -> Result<(), MountError> {
        let options = with_switches(&spec.options().to_string_lossy());
        said(run(plyfs().args(["mount", "-o", &options, "none"]).arg(target)))
    }

    fn unmount(&self, target: &Path) -> Result<(), MountError> {
        let orderly = said(run(plyfs().arg("umount").arg(target)));
        if orderly.is_ok() {
            return Ok(());
        }
        said(run(Command::new("umount").arg("-l").arg(target)))
    }
}

fn said(ran: Ran) -> Result<(), MountError> {
    if ran.code == 0 { Ok(()) } else { Err(ran.err.into()) }
}

/// For stores in which nothing is ever mounted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Never;

impl Mounter for Never {
    fn mount(&self, _: &MountSpec, target: &Path) -> Result<(), MountError> {
        Err(format!("nothing is to be mounted on {}", target.display()).into())
    }

    fn unmount(&self, target: &Path) -> Result<(), MountError> {
        Err(format!("nothing was to be mounted on {}", target.display()).into())
    }
}

/// A new store in `scratch`, which may hold several.
#[track_caller]
pub(crate) fn store(scratch: &Scratch) -> Store {
    Store::open(&scratch.path("root"), Access::Write, &Real).unwrap()
}

#[track_caller]
pub(crate) fn id(text: impl AsRef<str>) -> LayerId {
    LayerId::parse(text.as_ref()).unwrap()
}

/// Makes a layer with these files (`name/` is a directory).
#[track_caller]
pub(crate) fn layer(driver: &Driver, name: &str, parent: Option<&str>, files: &[&str]) -> PathBuf {
    driver.create(&id(name), parent.map(id).as_ref()).unwrap();
    let dir = driver.diff_dir(&id(name));
    for file in files {
        put(&dir.join(file), file);
    }
    dir
}

/// Writes a small file, or makes a directory if the path ends with a slash; parents are made.
#[track_caller]
pub(crate) fn put(path: &Path, content: &str) {
    if path.to_string_lossy().ends_with('/') {
        return fs::create_dir_all(path).unwrap();
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}
