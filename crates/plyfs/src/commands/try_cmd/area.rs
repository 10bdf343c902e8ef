//! Where `try` keeps its writable branches while it runs, and after it if they are kept.
//!
//! ```text
//! DIR/root, DIR/mount-home ...   the writable branches
//! DIR/work/{low,view}            mount points in a private namespace; always empty to the host
//! DIR/README                     only when kept: what this is, how to mount it
//! ```

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use plyfs_sys::{cred, mounts, process};

use super::parts::branch_name;
use crate::exit::told;

const WORK: &str = "work";
const README: &str = "README";
const PREFIX: &str = "try-";

/// The directory of one run.
#[derive(Debug)]
pub(crate) struct Area {
    dir: PathBuf,
    /// Directories made on the way to `dir`, outermost first.
    made: Vec<PathBuf>,
    /// Name and mount point of each branch.
    branches: Vec<(String, PathBuf)>,
    kept: bool,
    /// Tells other runs that this one still lives.
    _lock: Option<OwnedFd>,
}

impl Area {
    /// `--keep DIR`, or a fresh directory below the data root.
    pub(crate) fn open(keep: Option<&Path>) -> anyhow::Result<Area> {
        let mut made = Vec::new();
        let (dir, lock) = match keep {
            Some(dir) => (chosen(dir, &mut made).with_context(|| format!("--keep {}", dir.display()))?, None),
            None => fresh(&mut made)?,
        };
        let area = Area { dir, made, branches: Vec::new(), kept: false, _lock: lock };
        for path in [area.dir.join(WORK), area.low(), area.view()] {
            fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        }
        Ok(area)
    }

    /// The directory itself, absolute.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the host's files are bound, read-only.
    pub(crate) fn low(&self) -> PathBuf {
        self.dir.join(WORK).join("low")
    }

    /// Where the view is put together.
    pub(crate) fn view(&self) -> PathBuf {
        self.dir.join(WORK).join("view")
    }

    /// Makes the writable branch for the mount at `at`, whose root must look like `model`.
    pub(crate) fn branch(&mut self, at: &Path, model: &Path) -> anyhow::Result<PathBuf> {
        let taken: Vec<String> = self.branches.iter().map(|(name, _)| name.clone()).collect();
        let name = branch_name(at, &taken);
        let path = self.dir.join(&name);
        self.branches.push((name, at.to_owned()));
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        let meta = fs::metadata(model).with_context(|| model.display().to_string())?;
        let mode = match chown(&path, Some(meta.uid()), Some(meta.gid())) {
            Ok(()) => meta.mode() & 0o7777,
            // An ordinary user: ours it is then, with the rights that we have as a stranger.
            Err(_) => mode_of_stranger(&meta),
        };
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .with_context(|| format!("setting the mode of {}", path.display()))?;
        Ok(path)
    }

    /// The changes stay; says so in a README.
    pub(crate) fn keep(&mut self) -> anyhow::Result<()> {
        let path = self.dir.join(README);
        let written = fs::write(&path, self.readme());
        // A server's umask is 0.
        let written = written.and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)));
        written.with_context(|| format!("writing {}", path.display()))?;
        for (name, _) in &self.branches {
            // As somebody's own, so that an ordinary user can remove what is in it.
            let branch = self.dir.join(name);
            let mode = fs::metadata(&branch)?.mode() & 0o7777;
            fs::set_permissions(&branch, Permissions::from_mode(mode | 0o700))?;
        }
        self.kept = true;
        Ok(())
    }

    fn readme(&self) -> String {
        // The kept branches and VIEW lie in `/`, and a branch may hold neither: so it is bound to another place, and
        // for that an ordinary user needs a namespace. Root's shell has one too, and nobody else sees the mounts.
        let unshare = if cred::effective_uid() == 0 { "unshare -m" } else { "unshare -Urm" };
        let mut text = format!(
            "What a command run by `plyfs try` changed. Each directory is a writable branch of a union: new and\n\
             changed files as they are, deleted ones as whiteouts (.wh.NAME).\n\n\
             To see the machine as the command left it, with LOW and VIEW for two empty directories elsewhere:\n\n  \
             {unshare}\n  mount --rbind / LOW\n"
        );
        for (name, at) in &self.branches {
            let inside = |root: &str| Path::new(root).iter().chain(at.iter().skip(1)).collect::<PathBuf>();
            let (upper, lower) = (option_path(&self.dir.join(name)), option_path(&inside("LOW")));
            let view = inside("VIEW");
            text.push_str(&format!("  plyfs mount -o 'br:{upper}=rw:{lower}=ro' none {}\n", view.display()));
        }
        text.push_str(
            "\nIn the end:\n\n  umount -R VIEW; exit\n\nTo throw it away, remove this directory.\n",
        );
        text
    }

    /// Removes what is not to be kept. Nothing may be mounted here any more.
    pub(crate) fn close(&mut self) -> anyhow::Result<()> {
        remove_work(&self.dir)?;
        if self.kept {
            return Ok(());
        }
        for (name, _) in &self.branches {
            let path = self.dir.join(name);
            gone(remove_tree(&path), &path)?;
        }
        for dir in self.made.iter().rev() {
            match fs::remove_dir(dir) {
                // Another run's directory lies beside ours.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && *dir != self.dir => break,
                other => gone(other, dir)?,
            }
        }
        Ok(())
    }
}

/// Removes the mount points. Fails, and nothing must be removed, if anything is mounted below `dir`: removing through
/// a mount could reach the machine's own files.
fn remove_work(dir: &Path) -> anyhow::Result<()> {
    let list = mounts::list()?;
    if let Some(mount) = list.iter().find(|mount| mount.mount_point.starts_with(dir)) {
        bail!("{} is still mounted; {} is left alone", mount.mount_point.display(), dir.display());
    }
    let work = dir.join(WORK);
    for path in [work.join("low"), work.join("view"), work] {
        gone(fs::remove_dir(&path), &path)?;
    }
    Ok(())
}

/// Removes what runs that were killed have left in a data root.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    let named =
        entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    for dir in named.map(|entry| entry.path()) {
        // Kept by its owner's wish, or at work.
        if dir.join(README).exists() || !matches!(process::try_lock(&dir), Ok(Some(_))) {
            continue;
        }
        if let Err(error) = sweep_one(&dir) {
            tracing::warn!("cleaning up after an earlier run: {}", told(&error));
        }
    }
}

fn sweep_one(dir: &Path) -> anyhow::Result<()> {
    remove_work(dir)?;
    gone(remove_tree(dir), dir)
}

/// `:` and `,` mean something in options.
fn option_path(path: &Path) -> String {
    let text = path.display().to_string();
    text.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

fn gone(result: io::Result<()>, path: &Path) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// rm -r that first opens directories which their owner has closed. Symbolic links are never followed.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_all(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn open_all(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_all(&entry.path())?;
        }
    }
    Ok(())
}

/// The rights that `meta` gives to us, who are not its owner, as an owner's rights.
fn mode_of_stranger(meta: &fs::Metadata) -> u32 {
    let mode = meta.mode() & 0o7777;
    if meta.uid() == cred::effective_uid() {
        return mode;
    }
    let ours = if meta.gid() == cred::effective_gid() { mode >> 3 } else { mode } & 0o7;
    (mode & 0o7077) | (ours << 6)
}

/// A directory of the user's choice: made if missing (with its parents), empty if there.
fn chosen(dir: &Path, made: &mut Vec<PathBuf>) -> anyhow::Result<PathBuf> {
    make(dir, 0o755, made)?;
    let real = dir.canonicalize()?;
    if fs::read_dir(&real)?.next().is_some() {
        bail!("is not empty");
    }
    if real.parent().is_none() {
        bail!("is the root directory");
    }
    Ok(real)
}

fn fresh(made: &mut Vec<PathBuf>) -> anyhow::Result<(PathBuf, Option<OwnedFd>)> {
    let mut refusal = anyhow!("no place");
    for root in roots() {
        match make_root(&root, made).and_then(|()| locked(&root)) {
            Ok((dir, lock)) => {
                made.push(dir.clone());
                return Ok((dir, lock));
            }
            Err(error) => refusal = anyhow::Error::new(error).context(root.display().to_string()),
        }
    }
    Err(refusal.context("making a directory for the writable branches"))
}

/// A new directory in `root`, locked before it gets the name by which [`sweep`] would find it.
fn locked(root: &Path) -> io::Result<(PathBuf, Option<OwnedFd>)> {
    let root = root.canonicalize()?;
    sweep(&root);
    let new = tempfile::Builder::new().prefix("new-").rand_bytes(8).tempdir_in(&root)?;
    let lock = process::try_lock(new.path()).map_err(io::Error::other)?;
    let id = new.path().file_name().unwrap_or_default().to_string_lossy().replace("new-", PREFIX);
    let dir = root.join(id);
    fs::rename(new.keep(), &dir)?;
    Ok((dir, lock))
}

/// Data roots to try, best first.
fn roots() -> Vec<PathBuf> {
    let var = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let mut roots = Vec::new();
    if cred::effective_uid() == 0 {
        roots.push(PathBuf::from("/var/lib/plyfs"));
    } else {
        roots.extend(var("XDG_DATA_HOME").map(|dir| dir.join("plyfs")));
        roots.extend(var("HOME").map(|dir| dir.join(".local/share/plyfs")));
    }
    roots.push(std::env::temp_dir());
    roots
}

/// Root's is where the store keeps images, and closed like it.
fn make_root(root: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    if let Some(parent) = root.parent() {
        make(parent, 0o755, made)?;
    }
    make(root, 0o710, made)
}

/// mkdir -p, remembering what was made.
fn make(dir: &Path, mode: u32, made: &mut Vec<PathBuf>) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(dir) {
        Ok(()) => {
            made.push(dir.to_owned());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or(error)?;
            make(parent, mode, made)?;
            make(dir, mode, made)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_area_keeps_branches_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("a/b,c");
        let mut area = Area::open(Some(&dir)).unwrap();
        let branch = area.branch(Path::new("/"), scratch.path()).unwrap();
        fs::write(branch.join("new"), "x").unwrap();
        area.keep().unwrap();
        area.close().unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["README", "root"]);
        let readme = fs::read_to_string(dir.join("README")).unwrap();
        assert!(readme.contains("b\\,c/root=rw:LOW=ro' none VIEW\n"), "{readme}");
        assert!(Area::open(Some(&dir)).is_err(), "not empty");
    }

    #[test]
    fn what_a_killed_run_left_is_swept_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let (alive, _lock) = locked(root.path()).unwrap();
        let (dead, lock) = locked(root.path()).unwrap();
        fs::create_dir_all(dead.join("root/etc")).unwrap();
        fs::create_dir_all(dead.join("work/low")).unwrap();
        drop(lock);
        let kept = root.path().join("try-kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join(README), "").unwrap();
        sweep(root.path());
        assert!(alive.is_dir() && kept.is_dir() && !dead.exists());
    }

    #[test]
    fn a_closed_area_leaves_no_trace() {
        let scratch = tempfile::tempdir().unwrap();
        let mut area = Area::open(Some(&scratch.path().join("x/y"))).unwrap();
        let branch = area.branch(Path::new("/home"), scratch.path()).unwrap();
        fs::create_dir_all(branch.join("d/e")).unwrap();
        fs::set_permissions(branch.join("d"), Permissions::from_mode(0o000)).unwrap();
        area.close().unwrap();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
