//! A directory whose files are read by name, never through a symlink that leads out of it.

use std::path::{Path, PathBuf};

use plyfs_sys::{Access, Dir, Errno, Kind, Leaf, Links};

use super::{Found, Members};
use crate::error::{Error, Result};

/// The directory.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    dir: Dir,
}

impl Directory {
    /// Opens it.
    pub(crate) fn open(path: &Path) -> Result<Directory> {
        let dir = Dir::open(path).map_err(|error| Error::Refused(error.to_string()))?;
        Ok(Directory { path: path.to_owned(), dir })
    }

    /// The directory itself.
    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The directory that holds `name`, and the last word; `None` if there is none.
    fn place(&self, name: &str) -> plyfs_sys::Result<Option<(Dir, Leaf)>> {
        let (above, last) = name.rsplit_once('/').unwrap_or(("", name));
        let Some(leaf) = Leaf::from_bytes(last.as_bytes()) else { return Ok(None) };
        let dir = if above.is_empty() {
            self.dir.again()
        } else {
            self.dir.within(Path::new(above), Links::Inside)
        };
        match dir {
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            dir => Ok(Some((dir?, leaf))),
        }
    }

    fn find(&self, name: &str) -> plyfs_sys::Result<Option<Found>> {
        let Some((dir, leaf)) = self.place(name)? else { return Ok(None) };
        Ok(match dir.try_stat(&leaf)? {
            Some(stat) if stat.kind == Kind::File => {
                let file = dir.open_file(&leaf, Access::Read)?;
                Some(Found::File(Box::new(file), stat.size))
            }
            Some(stat) if stat.kind == Kind::Symlink => {
                Some(Found::Symlink(dir.readlink(&leaf)?.to_string_lossy().into_owned()))
            }
            _ => None,
        })
    }
}

impl Members for Directory {
    fn look(&self, name: &str) -> Result<Option<Found>> {
        self.find(name)
            .map_err(|error| Error::Refused(format!("{}: {error}", self.path.join(name).display())))
    }

    fn has(&self, name: &str) -> bool {
        matches!(self.find(name), Ok(Some(_)))
    }
}
