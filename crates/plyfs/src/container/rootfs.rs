//! Looking into a container's root and making what has to be there. Every path is followed as if the root were `/`
//! (`openat2`, RESOLVE_IN_ROOT): links of the image lead nowhere else.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, bail};
use plyfs_sys::obj::SetXattr;
use plyfs_sys::stat::{Kind, NewTime};
use plyfs_sys::within::Links;
use plyfs_sys::{Access, Dir, Errno, Leaf, Obj, Stat};

use super::user::{self, Who};

/// No passwd or group file is read further.
const LIMIT: u64 = 4 << 20;

/// Who `text` (`USER[:GROUP]`) is in this root.
pub(crate) fn who(root: &Dir, text: &str) -> anyhow::Result<Who> {
    user::resolve(text, &read(root, "/etc/passwd")?, &read(root, "/etc/group")?)
}

/// A file's text; empty if there is none. What is no regular file is refused: runtimes open it, and would hang at a FIFO.
fn read(root: &Dir, path: &str) -> anyhow::Result<String> {
    let file = match root.file_within(Path::new(path), Links::Inside) {
        Err(error) if super::volumes::is_absent(&error) => return Ok(String::new()),
        Err(error) if error.errno() == Errno::INVAL => {
            bail!("{path} of the container is no regular file: refused")
        }
        file => file.with_context(|| format!("reading {path} of the container"))?,
    };
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).with_context(|| format!("reading {path} of the container"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Makes the directories of `path` that are missing: mode 0755, root's.
pub(crate) fn make_dirs(root: &Dir, path: &str) -> anyhow::Result<()> {
    let mut so_far = std::path::PathBuf::from("/");
    let mut dir = root.again()?;
    for part in Path::new(path).iter().filter(|part| *part != "/") {
        so_far.push(part);
        dir = match root.within(&so_far, Links::Inside) {
            Ok(next) => next,
            Err(error) if error.errno() == Errno::NOENT => {
                let Some(leaf) = Leaf::new(part) else { bail!("{path:?} is no directory to begin in") };
                // A link to nowhere stays what it is: EEXIST.
                dir.mkdir(&leaf, 0o755)
                    .with_context(|| format!("making {} in the container", so_far.display()))?;
                dir.child(&leaf)?
            }
            Err(error) => {
                return Err(error).with_context(|| format!("{} of the container", so_far.display()));
            }
        };
    }
    Ok(())
}

/// Makes what `source` is to be mounted on, unless something is there: a directory, or an empty file. (Runtimes would do it
/// too, each with modes of its own.)
pub(crate) fn make_mount_point(root: &Dir, path: &str, source_is_dir: bool) -> anyhow::Result<()> {
    // There the runtime mounts filesystems of its own first.
    if ["/dev", "/proc", "/sys"].iter().any(|system| Path::new(path).starts_with(system)) {
        return Ok(());
    }
    if source_is_dir {
        return match root.within(Path::new(path), Links::Inside) {
            Err(error) if error.errno() == Errno::NOENT => make_dirs(root, path),
            // What is wrong with it the runtime says.
            _ => Ok(()),
        };
    }
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    make_dirs(root, above)?;
    let parent = root.within(Path::new(&format!("/{above}")), Links::Inside)?;
    let Some(leaf) = Leaf::from_bytes(name.as_bytes()) else { bail!("{path:?} is no place for a file") };
    if parent.try_stat(&leaf)?.is_none() {
        parent.create(&leaf, 0o755).with_context(|| format!("making {path} in the container"))?;
    }
    Ok(())
}

/// Copies what is in `from` into `to`, with owners, modes, times and extended attributes, and gives `to` those of `from`,
/// if `to` is empty.
pub(crate) fn copy_into_empty(from: &Dir, to: &Dir) -> anyhow::Result<()> {
    let mut count = 0;
    to.entries(&mut |_| count += 1)?;
    if count > 0 {
        return Ok(());
    }
    copy_contents(from, to)?;
    dress(&Obj::Dir(from), &Obj::Dir(to), &from.stat_self()?)
}

fn copy_contents(from: &Dir, to: &Dir) -> anyhow::Result<()> {
    let mut names = Vec::new();
    from.entries(&mut |entry| names.push(entry.leaf))?;
    for leaf in names {
        copy_entry(from, to, &leaf).with_context(|| format!("copying {}", leaf.as_os_str().display()))?;
    }
    Ok(())
}

fn copy_entry(from: &Dir, to: &Dir, leaf: &Leaf) -> anyhow::Result<()> {
    let stat = from.stat(leaf)?;
    match stat.kind {
        Kind::Dir => {
            to.mkdir(leaf, 0o700)?;
            let (inner, made) = (from.child(leaf)?, to.child(leaf)?);
            copy_contents(&inner, &made)?;
            return dress(&Obj::Dir(&inner), &Obj::Dir(&made), &stat);
        }
        Kind::File => {
            let (source, target) = (from.open_file(leaf, Access::Read)?, to.create(leaf, 0o600)?);
            plyfs_sys::file::copy_contents(&source, stat.size, &target, stat.size)?;
            return dress(&Obj::Fd(source.as_fd()), &Obj::Fd(target.as_fd()), &stat);
        }
        Kind::Symlink => to.symlink(leaf, &from.readlink(leaf)?)?,
        kind => to.mknod(leaf, kind, stat.perm, stat.rdev)?,
    }
    dress(&Obj::At(from, leaf), &Obj::At(to, leaf), &stat)
}

/// Gives a copy the owner, mode, extended attributes and times of what it was copied from.
fn dress(from: &Obj<'_>, to: &Obj<'_>, stat: &Stat) -> anyhow::Result<()> {
    to.chown(Some(stat.uid), Some(stat.gid))?;
    if stat.kind != Kind::Symlink {
        to.chmod(stat.perm)?;
        for name in from.xattr_names()? {
            let name = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&name);
            if let Some(value) = from.xattr(name)? {
                to.set_xattr(name, &value, SetXattr::Any)?;
            }
        }
    }
    to.set_times(NewTime::At(stat.atime), NewTime::At(stat.mtime))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        std::fs::create_dir_all(inside.join("real")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("passwd"), "evil:x:7:7::/:\n").unwrap();
        std::fs::create_dir(inside.join("etc")).unwrap();
        symlink(outside.join("passwd"), inside.join("etc/passwd")).unwrap();
        symlink("../../../../out", inside.join("up")).unwrap();
        symlink("/real", inside.join("abs")).unwrap();
        let root = Dir::open(&inside).unwrap();
        assert!(who(&root, "evil").is_err());
        assert!(make_dirs(&root, "/up/x").is_err());
        make_dirs(&root, "/abs/../abs/made/here").unwrap();
        assert!(inside.join("real/made/here").is_dir());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    }
}
