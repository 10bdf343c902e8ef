//! Metadata on disk: files replaced whole, directories that appear whole, reading with a limit.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result};
use crate::id::hex;
use crate::lock;

/// No document of the store is larger (Docker and containerd read configs of at most 4 MiB; tar-split files are streamed
/// and not read by this).
pub(crate) const DOCUMENT_LIMIT: u64 = 16 << 20;

/// Files being written begin so; nobody reads them.
const TEMP: &str = ".tmp-";

/// Replaces (or makes) the file at `path` with `bytes`, mode 0600: readers see the old or the new contents, whatever
/// happens, and the new ones are on disk when this returns.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, true)?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// The same for what is worth nothing after a power cut: whole at any time, and not waited for.
pub(crate) fn write_atomic_unsynced(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, false)
}

fn replace(path: &Path, bytes: &[u8], sync: bool) -> Result<()> {
    let (temp, mut file) = create_temp(path.parent().unwrap_or(Path::new("/")))?;
    let mut write = || {
        file.write_all(bytes).doing("writing", &temp)?;
        if sync {
            file.sync_data().doing("syncing", &temp)?;
        }
        fs::rename(&temp, path).doing("renaming to", path)
    };
    let written = write();
    if written.is_err() {
        forget(&temp);
    }
    written
}

/// A new temporary file in `dir`, locked as long as its writer lives: what is not locked may be swept.
fn create_temp(dir: &Path) -> Result<(PathBuf, File)> {
    loop {
        let temp = dir.join(format!("{TEMP}{}", random_hex::<8>()?));
        let file = create_new(&temp)?;
        file.lock().doing("locking", &temp)?;
        // Somebody may have swept it before it was locked.
        if lock::is_still_at(&file, &temp)? {
            return Ok((temp, file));
        }
    }
}

/// Makes a new file that is on disk when this returns.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = create_new(path)?;
    file.write_all(bytes).doing("writing", path)?;
    file.sync_data().doing("syncing", path)
}

/// Makes a new file, mode 0600.
pub(crate) fn create_new(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).doing("making", path)
}

/// Names in `dir` are on disk when this returns.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).doing("syncing", dir)
}

/// Makes a directory (and what leads to it) unless it is there.
pub(crate) fn make_dirs(dir: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(dir).doing("making", dir)
}

/// The whole file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        // Not a directory: something lies where a directory of ours could be, and is none.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        file => file.doing("opening", path)?,
    };
    let mut bytes = Vec::new();
    file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).doing("reading", path)?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(Error::corrupt(path, format_args!("larger than {} MiB", DOCUMENT_LIMIT >> 20)));
    }
    Ok(Some(bytes))
}

/// The whole file as text without white space around it; `None` if there is none.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) => Err(Error::corrupt(path, error)),
    }
}

/// A JSON document; `None` if there is none.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::corrupt(path, error))
}

/// Replaces a JSON document.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::corrupt(path, error))?;
    write_atomic(path, &bytes)
}

/// Names in a directory that are UTF-8 (all of ours are), without temporary ones, unsorted; none if there is no such
/// directory.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = all_names(dir)?;
    names.retain(|name| !name.starts_with(TEMP));
    Ok(names)
}

fn all_names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing("listing", dir)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.doing("listing", dir)?.file_name();
        names.extend(name.into_string().ok());
    }
    Ok(names)
}

/// Removes a file; fine if there is none.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing("removing", path),
    }
}

/// Removes a directory of metadata with all that is in it; fine if there is none.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing("removing", path),
    }
}

/// Removes temporary files of dead writers from a directory.
pub(crate) fn sweep(dir: &Path) -> Result<()> {
    for name in all_names(dir)?.iter().filter(|name| name.starts_with(TEMP)) {
        let path = dir.join(name);
        if let Some(_lock) = lock::try_exclusive(&path)? {
            remove_file(&path)?;
        }
    }
    Ok(())
}

/// Removes what failed half-way; a failure to do so leaves a temporary name that nobody reads, and is swept later.
fn forget(temp: &Path) {
    if let Err(error) = remove_file(temp) {
        tracing::warn!("{error}");
    }
}

/// Directories under construction begin so (Docker's word).
const DRAFT: &str = "write-set-";

/// Removes the draft called `name`, if it was left in `dir`.
pub(crate) fn remove_draft(dir: &Path, name: &str) -> Result<()> {
    remove_dir(&dir.join(format!("{DRAFT}{name}")))
}

/// The names (as given to [`Draft::begin`]) of drafts in `dir`.
pub(crate) fn drafts(dir: &Path) -> Result<Vec<String>> {
    Ok(names(dir)?.iter().filter_map(|name| name.strip_prefix(DRAFT)).map(str::to_owned).collect())
}

/// A directory of metadata under construction. It appears whole, or (dropped) not at all.
#[derive(Debug)]
pub(crate) struct Draft {
    path: Option<PathBuf>,
}

impl Draft {
    /// Begins the one called `name` in `dir`, which must be on the filesystem where it will appear. What an earlier attempt
    /// left under the name goes.
    pub(crate) fn begin(dir: &Path, name: &str) -> Result<Draft> {
        make_dirs(dir, 0o700)?;
        let path = dir.join(format!("{DRAFT}{name}"));
        remove_dir(&path)?;
        fs::DirBuilder::new().mode(0o700).create(&path).doing("making", &path)?;
        Ok(Draft { path: Some(path) })
    }

    /// Its place meanwhile.
    pub(crate) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new("/nonexistent"))
    }

    /// Adds a file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_new(&self.path().join(name), bytes)
    }

    /// Makes it appear at `at`. `false`: there is one already, this one is dropped.
    pub(crate) fn publish(mut self, at: &Path) -> Result<bool> {
        let parent = at.parent().unwrap_or(Path::new("/"));
        make_dirs(parent, 0o700)?;
        sync_dir(self.path())?;
        match fs::rename(self.path(), at) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                return Ok(false);
            }
            renamed => renamed.doing("renaming to", at)?,
        }
        self.path = None;
        sync_dir(parent)?;
        Ok(true)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = remove_dir(path)
        {
            tracing::warn!("{error}");
        }
    }
}

/// `2 * N` random hexadecimal digits, from the kernel.
pub(crate) fn random_hex<const N: usize>() -> Result<String> {
    let mut bytes = [0_u8; N];
    let mut filled = 0;
    while filled < N {
        let rest = &mut bytes[filled..];
        let got = rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
            .map_err(io::Error::from)
            .doing("asking for random bytes from", "getrandom(2)")?;
        filled += got;
    }
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(read_text(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(names(dir.path()).unwrap(), ["f"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d");
        fs::create_dir(&path).unwrap();
        assert!(write_atomic(&path, b"x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_what_a_dead_writer_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let (alive, _file) = create_temp(dir.path()).unwrap();
        let (dead, file) = create_temp(dir.path()).unwrap();
        drop(file);
        sweep(dir.path()).unwrap();
        assert!(alive.exists() && !dead.exists());
    }

    #[test]
    fn a_draft_appears_once() {
        let dir = tempfile::tempdir().unwrap();
        let (tmp, at) = (dir.path().join("tmp"), dir.path().join("at/x"));
        let draft = |text: &[u8]| {
            let draft = Draft::begin(&tmp, "x").unwrap();
            draft.write("f", text).unwrap();
            draft
        };
        assert!(draft(b"1").publish(&at).unwrap());
        assert!(!draft(b"2").publish(&at).unwrap());
        drop(draft(b"3"));
        std::mem::forget(draft(b"4"));
        remove_draft(&tmp, "x").unwrap();
        assert_eq!(read_text(&at.join("f")).unwrap().as_deref(), Some("1"));
        assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
    }
}
