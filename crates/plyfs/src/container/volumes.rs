//! What of the host a container sees beside its own files: binds, volumes, tmpfs. They bypass the union.
//!
//! A volume is a directory `volumes/<name>/_data` in the store's root, as Docker keeps it; one without a name of its own
//! has 64 hexadecimal digits and the mark of the container that it goes with.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use plyfs_store::Store;
use plyfs_store::containers::{Container, MountPoint};
use plyfs_store::intent::Intent;
use plyfs_sys::Dir;
use plyfs_sys::within::Links;

use super::names;
use crate::store::Servers;

/// One `-v`, as it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) source: Source,
    /// In the container: absolute, without `.` and `..`.
    pub(crate) destination: String,
    pub(crate) read_only: bool,
    /// Do not fill an empty volume from the image.
    pub(crate) no_copy: bool,
}

/// Where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A path of the host.
    Path(PathBuf),
    /// A volume that lives on its own.
    Named(String),
    /// A volume that goes with the container.
    Nameless,
}

/// Reads `[SRC:]DST[:OPTIONS]`; relative paths begin at `cwd`.
pub(crate) fn parse(text: &str, cwd: &Path) -> anyhow::Result<Wish> {
    let words: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match words[..] {
        [destination] => (None, destination, ""),
        [source, destination] => (Some(source), destination, ""),
        [source, destination, options] => (Some(source), destination, options),
        _ => bail!("invalid volume {text:?}: too many colons"),
    };
    let bad = || format!("invalid volume {text:?}");
    let mut wish = Wish {
        source: source.map_or(Ok(Source::Nameless), |source| origin(source, cwd)).with_context(bad)?,
        destination: place(destination).with_context(bad)?,
        read_only: false,
        no_copy: false,
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => wish.read_only = true,
            "rw" | "rprivate" => {}
            "nocopy" => wish.no_copy = true,
            other => bail!("invalid volume {text:?}: unknown option {other:?} (known: ro, rw, nocopy)"),
        }
    }
    Ok(wish)
}

fn origin(source: &str, cwd: &Path) -> anyhow::Result<Source> {
    if source.is_empty() {
        bail!("the source is empty");
    }
    if source.starts_with('/') {
        return Ok(Source::Path(PathBuf::from(source)));
    }
    if source.starts_with('.') {
        return Ok(Source::Path(cwd.join(source)));
    }
    names::check(source)
        .context("a source is an absolute path, one that begins with ., or a volume's name")?;
    Ok(Source::Named(source.to_owned()))
}

/// A destination: absolute, not the root itself.
pub(crate) fn place(text: &str) -> anyhow::Result<String> {
    if !text.starts_with('/') {
        bail!("the destination {text:?} must be an absolute path");
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        bail!("the destination cannot be /");
    }
    Ok(format!("/{}", parts.join("/")))
}

/// Where a volume's files are.
pub(crate) fn data(store: &Store, name: &str) -> PathBuf {
    store.layout().volume(name).join("_data")
}

/// Docker's documents do not always say where a volume's files are: it follows from the name.
pub(crate) fn locate(store: &Store, container: &mut Container) {
    let lost = |point: &&mut MountPoint| !point.name.is_empty() && point.source.is_empty();
    for point in container.mount_points.values_mut().filter(lost) {
        point.source = data(store, &point.name).display().to_string();
        "volume".clone_into(&mut point.kind);
    }
}

/// Sees to it that a wish's source is there, and says how the container's document is to name it. What `intent` is told of
/// goes again if there will be no such container.
pub(crate) fn provide(store: &Store, intent: &Intent, wish: &Wish) -> anyhow::Result<MountPoint> {
    let mut point = MountPoint {
        destination: wish.destination.clone(),
        rw: !wish.read_only,
        propagation: "rprivate".to_owned(),
        ..MountPoint::default()
    };
    let name = match &wish.source {
        Source::Path(path) => {
            if !path.exists() {
                fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
            }
            point.source = utf8(path)?;
            "bind".clone_into(&mut point.kind);
            return Ok(point);
        }
        Source::Named(name) => name.clone(),
        Source::Nameless => {
            point.other.insert("PlyfsNameless".to_owned(), true.into());
            let name = store.new_container_id()?;
            intent.volume(&name)?;
            name
        }
    };
    let dir = data(store, &name);
    let (volumes, one) = (store.layout().volumes(), store.layout().volume(&name));
    // Closed: set-user-id programs of containers are nothing for this machine's users to run (CVE-2021-41091). Containers
    // reach theirs by a mount. The store's own root may have been there before, open.
    for (dir, mode) in [(&volumes, 0o700), (&one, 0o700), (&dir, 0o755)] {
        match DirBuilder::new().mode(mode).create(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("making {}", dir.display()));
            }
            _ => {}
        }
    }
    point.source = utf8(&dir)?;
    "volume".clone_into(&mut point.kind);
    "local".clone_into(&mut point.driver);
    point.name = name;
    point.other.insert("CopyData".to_owned(), (!wish.no_copy).into());
    Ok(point)
}

fn utf8(path: &Path) -> anyhow::Result<String> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("{} is no UTF-8, and the container's documents are", path.display()),
    }
}

/// Fills empty volumes with what the image has in their places. To be called before a container's first run; `root` is
/// the container's.
pub(crate) fn fill(container: &Container, root: &Dir) -> anyhow::Result<()> {
    let volumes = container.mount_points.values().filter(|point| point.kind == "volume");
    for point in volumes {
        if point.other.get("CopyData").and_then(serde_json::Value::as_bool) == Some(false) {
            continue;
        }
        let from = match root.within(Path::new(&point.destination), Links::Inside) {
            Ok(from) => from,
            // The image has nothing there, or no directory.
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        let to = Dir::open(Path::new(&point.source))?;
        super::rootfs::copy_into_empty(&from, &to)
            .with_context(|| format!("filling the volume for {}", point.destination))?;
    }
    Ok(())
}

/// There is no such directory.
pub(crate) fn is_absent(error: &plyfs_sys::SysError) -> bool {
    use plyfs_sys::Errno;
    matches!(error.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// Removes a container together with the volumes that go with it. `claim` proves that nobody runs it.
pub(crate) fn remove_with(store: &Store, container: &Container, claim: File) -> anyhow::Result<()> {
    let nameless: Vec<_> = container.mount_points.values().filter(|point| is_nameless(point)).collect();
    if nameless.is_empty() {
        return Ok(store.remove_container(&container.id, claim, &Servers)?);
    }
    // If we die after the container and before its volumes, they still go; if the container stays, so do they.
    let intent = store.begin(&format!("rm container {} and its volumes", container.id))?;
    nameless.iter().try_for_each(|point| intent.volume(&point.name))?;
    store.remove_container(&container.id, claim, &Servers)?;
    Ok(intent.undo(store, &Servers)?)
}

/// Docker's own documents lack our mark; there a nameless volume is one with an id for its name that no `-v` asked for
/// (`Spec.Source` is empty).
fn is_nameless(point: &MountPoint) -> bool {
    let id = point.name.len() == 64 && point.name.bytes().all(|c| c.is_ascii_hexdigit());
    let ours = point.other.contains_key("PlyfsNameless");
    let theirs = point.other.get("Spec").is_some_and(|spec| spec.get("Source").is_none());
    point.kind == "volume" && id && (ours || theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_as_docker_reads_them() {
        let wish = |text: &str| parse(text, Path::new("/here")).unwrap();
        let a = wish("/a:/b/../c/:ro");
        assert_eq!((a.source, a.destination.as_str(), a.read_only), (Source::Path("/a".into()), "/c", true));
        assert_eq!(wish("./a:/b").source, Source::Path("/here/./a".into()));
        assert_eq!(wish("data:/b:nocopy").source, Source::Named("data".into()));
        assert_eq!(wish("/b").source, Source::Nameless);
        for bad in ["", "/a:b", "/a:/", "/a:/..", "a/b:/c", ":/c", "/a:/b:z", "/a:/b:ro:x", "b"] {
            assert!(parse(bad, Path::new("/here")).is_err(), "{bad}");
        }
    }
}
