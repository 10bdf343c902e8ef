//! What is mounted: the kernel's list (mountinfo) and our own records (`runtime_dir`) put together.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use plyfs_sys::mounts::{self, MountInfo};
use plyfs_union::Union;
use plyfs_union::spec::{Atime, MountSpec};

use crate::exit::Failure;
use crate::runtime_dir::{self, Found};

/// The filesystem type in /proc/mounts.
const TYPE: &str = "fuse.aufs";

/// A union that is mounted here.
#[derive(Debug, Clone)]
pub(crate) struct Mounted {
    /// What the kernel says.
    pub(crate) info: MountInfo,
    /// What its server wrote down; `None` if that cannot be read or was never written.
    pub(crate) found: Option<Found>,
}

/// Every union mounted in this mount namespace. Records of mounts that are gone are cleaned away first.
pub(crate) fn all() -> anyhow::Result<Vec<Mounted>> {
    let mounts = mounts::list()?;
    runtime_dir::sweep(&mounts);
    let records = runtime_dir::all();
    let ours = mounts.into_iter().filter(|mount| mount.fs_type == TYPE);
    Ok(ours
        .map(|info| {
            // The newest one: device numbers are used again.
            let found = records.iter().rev().find(|found| found.record.is_of(&info)).cloned();
            Mounted { info, found }
        })
        .collect())
}

/// The union mounted on `dir`.
pub(crate) fn at(dir: &Path) -> Result<Mounted, Failure> {
    let place = mount_point(dir)?;
    let list = mounts::list().map_err(anyhow::Error::new)?;
    let top = list.iter().rev().find(|mount| mount.mount_point == place);
    let Some(top) = top else {
        return Err(Failure::from(anyhow!("{}: nothing is mounted here", dir.display())));
    };
    let found = all()?.into_iter().find(|mounted| mounted.info.id == top.id);
    found.ok_or_else(|| {
        let kind = top.fs_type.to_string_lossy();
        Failure::from(anyhow!("{}: is a mount of type {kind}, not one of plyfs", dir.display()))
    })
}

/// The absolute path of a mount point, without asking the mount itself: its server may be dead.
pub(crate) fn mount_point(dir: &Path) -> anyhow::Result<PathBuf> {
    let place = beside(dir)?;
    let listed = |path: &Path| mounts::is_mount_point(path).is_ok_and(|is| is);
    if listed(&place) {
        return Ok(place);
    }
    // A symbolic link to the mount point.
    match std::fs::canonicalize(&place) {
        Ok(real) => Ok(real),
        Err(error) => Err(error).with_context(|| dir.display().to_string()),
    }
}

/// `path` with its parent resolved and its own name left alone: a symbolic link, a dead mount or a missing file
/// keeps its place.
pub(crate) fn beside(path: &Path) -> anyhow::Result<PathBuf> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    let name = path.file_name().filter(|_| !path.as_os_str().as_bytes().ends_with(b"/."));
    match name {
        Some(name) => {
            let parent = std::fs::canonicalize(parent).with_context(|| parent.display().to_string())?;
            Ok(parent.join(name))
        }
        None => std::fs::canonicalize(path).with_context(|| path.display().to_string()),
    }
}

/// The union that `path` lies in, and where in it. The path and its parents may be missing.
pub(crate) fn containing(path: &Path) -> Result<(Mounted, PathBuf), Failure> {
    let place = nearest(path)?;
    let list = mounts::list().map_err(anyhow::Error::new)?;
    let inside = list.iter().enumerate().filter(|(_, mount)| place.starts_with(&mount.mount_point));
    // The deepest mount point, and of several mounts on it the last.
    let top = inside.max_by_key(|(at, mount)| (mount.mount_point.components().count(), *at));
    let here = all()?;
    let found = top.and_then(|(_, top)| here.into_iter().find(|mounted| mounted.info.id == top.id));
    let Some(mounted) = found else {
        return Err(Failure::from(anyhow!("{}: is not in a mount of plyfs", path.display())));
    };
    let inner = place.strip_prefix(&mounted.info.mount_point).unwrap_or(&place).to_path_buf();
    Ok((mounted, inner))
}

/// Like [`beside`], for a path of which any number of last components may be missing.
fn nearest(path: &Path) -> anyhow::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut rest = path;
    loop {
        match (beside(rest), rest.parent(), rest.file_name()) {
            (Ok(mut place), _, _) => {
                place.extend(missing.iter().rev());
                return Ok(place);
            }
            (Err(_), Some(parent), Some(name)) => {
                missing.push(name);
                rest = parent;
            }
            (Err(error), _, _) => return Err(error),
        }
    }
}

impl Mounted {
    /// Opens the same branches once more, for reading: what the server knows, without asking it.
    pub(crate) fn open_read_only(&self) -> Result<Union, Failure> {
        let Some(found) = &self.found else {
            return Err(Failure::from(anyhow!(
                "{}: its branches are not known (no readable record in /run/plyfs)",
                self.info.mount_point.display()
            )));
        };
        let mut spec = found.record.spec().with_context(|| format!("reading {}", found.dir.display()))?;
        spec.kernel.read_only = true;
        open_beside(&spec)
            .with_context(|| format!("opening the branches of {}", self.info.mount_point.display()))
            .map_err(Failure::from)
    }

    /// What the mount is now: what its server wrote down (nothing, without a record), with the flags that the kernel
    /// has, which a remount may have changed.
    pub(crate) fn spec(&self) -> anyhow::Result<MountSpec> {
        let mut spec = match &self.found {
            Some(found) => found.record.spec().with_context(|| format!("reading {}", found.dir.display()))?,
            None => MountSpec::default(),
        };
        let (mount, kernel) = (|word| has_option(&self.info.options, word), &mut spec.kernel);
        // What nobody has said and does not hold stays unsaid.
        let told = |old: Option<bool>, now: bool| if now { Some(true) } else { old.map(|_| false) };
        kernel.nosuid = told(kernel.nosuid, mount("nosuid"));
        kernel.nodev = told(kernel.nodev, mount("nodev"));
        kernel.noexec = mount("noexec");
        kernel.atime = match (mount("noatime"), mount("relatime")) {
            (true, _) if kernel.atime == Atime::Unsaid => Atime::Unsaid,
            (true, _) => Atime::Noatime,
            (_, true) => Atime::Relatime,
            _ => Atime::Strictatime,
        };
        kernel.sync = has_option(&self.info.super_options, "sync");
        kernel.read_only = self.is_read_only();
        Ok(spec)
    }

    /// `SOURCE` as given.
    pub(crate) fn source(&self) -> &OsStr {
        &self.info.source
    }

    /// Whether `ro` holds.
    pub(crate) fn is_read_only(&self) -> bool {
        has_option(&self.info.options, "ro") || has_option(&self.info.super_options, "ro")
    }
}

/// Opens branches that a server may have open for writing, to look at them only.
pub(crate) fn open_beside(spec: &MountSpec) -> anyhow::Result<Union> {
    Ok(Union::open(&MountSpec { look_only: true, ..spec.clone() })?)
}

/// Whether a comma-separated list has `word`.
pub(crate) fn has_option(options: &OsStr, word: &str) -> bool {
    options.as_bytes().split(|&byte| byte == b',').any(|option| option == word.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("nowhere", real.join("link")).unwrap();
        assert_eq!(beside(&real.join("link")).unwrap(), real.join("link"));
        assert_eq!(beside(&real.join("missing/")).unwrap(), real.join("missing"));
        assert_eq!(beside(&real.join(".")).unwrap(), real);
        assert_eq!(beside(&real.join("..")).unwrap(), real.parent().unwrap());
        assert_eq!(nearest(&real.join("a/b/c")).unwrap(), real.join("a/b/c"));
        assert!(beside(&real.join("a/b")).is_err());
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let error = at(Path::new("/proc")).unwrap_err();
        assert!(error.to_string().contains("type proc"), "{error}");
        let (error, _) = (containing(Path::new("/proc/self")).unwrap_err(), ());
        assert!(error.to_string().contains("not in a mount"), "{error}");
    }

    #[test]
    fn options_are_whole_words() {
        assert!(has_option(OsStr::new("rw,ro"), "ro"));
        assert!(!has_option(OsStr::new("rw,errors=remount-ro"), "ro"));
    }
}
