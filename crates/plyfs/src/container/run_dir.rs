//! `/run/plyfs/containers/<id>/`: what a running container needs until it ends. Gone after a reboot, as the container is.
//!
//! ```text
//! owner         which boot, and which store's container: a copy of a store has containers of the same ids
//! config.json   the OCI bundle's
//! state/        the runtime's own
//! runtime       the runtime's path
//! tty.sock      on which the runtime hands the terminal over
//! pid           of the first process
//! log           the runtime's words
//! exit          empty; in the end the exit code, for who has it open (the container may be removed with its end)
//! ```

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use plyfs_store::Store;
use plyfs_sys::process;

/// Who runs a container: this boot of the machine, and the file that a runner locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    boot: String,
    file: String,
}

impl Owner {
    /// Whoever runs, or would run, this container of this store now.
    pub(crate) fn now(store: &Store, id: &str) -> anyhow::Result<Owner> {
        const BOOT: &str = "/proc/sys/kernel/random/boot_id";
        let boot = fs::read_to_string(BOOT).with_context(|| format!("reading {BOOT}"))?.trim().to_owned();
        let file = store.runner_file(id)?.map(|(dev, ino)| format!("{dev}:{ino}"));
        Ok(Owner { boot, file: file.unwrap_or_default() })
    }

    /// One line.
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.boot, self.file)
    }

    /// Whose a run is that was written down as `text`.
    pub(crate) fn whose(&self, text: &str) -> Whose {
        match text.trim_end().split_once(' ') {
            Some((boot, _)) if boot != self.boot => Whose::OldBoots,
            Some((_, file)) if file != self.file => Whose::Anothers,
            _ => Whose::Ours,
        }
    }
}

/// Whose a run is, seen from a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The container's, or one of a version of plyfs that did not say.
    Ours,
    /// Of before the machine was started: no process of it lives.
    OldBoots,
    /// That of a container in another copy of the store: not to be touched.
    Anothers,
}

/// The directory of one container.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Where it is, or would be.
    pub(crate) fn of(id: &str) -> anyhow::Result<RunDir> {
        Ok(RunDir { path: crate::runtime_dir::home()?.join("containers").join(id) })
    }

    /// Makes it, empty.
    pub(crate) fn make(id: &str, owner: &Owner) -> anyhow::Result<RunDir> {
        let dir = RunDir::of(id)?;
        if dir.whose(owner) == Some(Whose::Anothers) && dir.lives() {
            let path = dir.path.display();
            bail!(
                "container {id} is being run from another copy of this store (see {path}): stop it there first"
            );
        }
        dir.remove()?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir.path);
        made.with_context(|| format!("making {}", dir.path.display()))?;
        let file = dir.file("owner");
        fs::write(&file, owner.text()).with_context(|| format!("writing {}", file.display()))?;
        Ok(dir)
    }

    /// Whose run it is; `None`: there is none.
    pub(crate) fn whose(&self, owner: &Owner) -> Option<Whose> {
        let text = fs::read_to_string(self.file("owner")).unwrap_or_default();
        self.path.exists().then(|| owner.whose(&text))
    }

    /// Its first process, or one that got its number, lives.
    fn lives(&self) -> bool {
        let pid = fs::read_to_string(self.file("pid")).ok().and_then(|text| text.trim().parse().ok());
        pid.is_some_and(|pid| process::start_time(pid).is_some())
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// One of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The runtime that was used, if there is one to be asked.
    pub(crate) fn runtime(&self) -> Option<PathBuf> {
        fs::read_to_string(self.file("runtime")).ok().map(PathBuf::from)
    }

    /// Removes it; fine if it is not there. The runtime must have been told before.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_known_by_boot_and_file() {
        let owner = Owner { boot: "b".to_owned(), file: "1:2".to_owned() };
        assert_eq!(owner.whose(&owner.text()), Whose::Ours);
        assert_eq!(owner.whose(""), Whose::Ours);
        assert_eq!(owner.whose("b 1:3"), Whose::Anothers);
        assert_eq!(owner.whose("a 1:2"), Whose::OldBoots);
    }
}
