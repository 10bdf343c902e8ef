//! Files that appear whole: `--output` of the commands that write archives.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use plyfs_sys::{Dir, Errno, Leaf, SysError};
use tempfile::{Builder, NamedTempFile};

use crate::exit::Failure;

/// Symlinks followed, as Linux does (path_resolution(7)).
const HOPS: usize = 40;

/// Lets `write` write the file `path`. Until all is written a file that was there stays as it is; then it is replaced,
/// also behind a symlink. What is no regular file (a pipe, a device) is written to as it is.
///
/// The file has no name until it is complete, so that a killed command leaves nothing; where the filesystem cannot do that
/// (NFS), one that is killed leaves a `.tmp` file beside it.
pub(crate) fn write(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        let file = File::options().write(true).open(path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        return buffered(file, path, write).map(drop);
    }
    let target = behind_links(path).with_context(|| format!("following {}", path.display()))?;
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let making = || format!("making a file in {}", dir.display());
    let opened = Dir::open(dir).with_context(making)?;
    let temp = match opened.tmpfile(0o600) {
        Ok(file) => named(dir, &opened, buffered(file, path, write)?).with_context(making)?,
        Err(error) if matches!(error.errno(), Errno::OPNOTSUPP | Errno::ISDIR) => {
            buffered(NamedTempFile::new_in(dir).with_context(making)?, path, write)?
        }
        Err(error) => return Err(anyhow::Error::new(error).context(making()).into()),
    };
    temp.persist(&target).with_context(|| format!("renaming to {}", target.display()))?;
    Ok(())
}

fn buffered<W: Write>(
    out: W,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<W, Failure> {
    let mut out = BufWriter::with_capacity(256 << 10, out);
    write(&mut out)?;
    let out = out.into_inner().map_err(io::IntoInnerError::into_error);
    Ok(out.with_context(|| format!("writing {}", path.display()))?)
}

/// Gives the file a name for the moment before it replaces the one that is there.
fn named(dir: &Path, opened: &Dir, file: File) -> io::Result<NamedTempFile> {
    let plain = |error: &SysError| io::Error::from_raw_os_error(error.errno().raw_os_error());
    let mut file = Some(file);
    Builder::new().make_in(dir, |path| {
        let leaf = path.file_name().and_then(Leaf::new).ok_or(io::ErrorKind::InvalidInput)?;
        let held = file.take().ok_or(io::ErrorKind::InvalidInput)?;
        match opened.link_fd(std::os::fd::AsFd::as_fd(&held), &leaf) {
            Ok(()) => Ok(held),
            Err(error) => {
                file = Some(held);
                Err(plain(&error))
            }
        }
    })
}

/// Where the last of the symlinks that begin with `path` leads, whether something is there or not.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..HOPS {
        match fs::read_link(&at) {
            Ok(to) => at = at.parent().unwrap_or(Path::new("")).join(to),
            // EINVAL: no link.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(at);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symlinks"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_behind_links_too() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::os::unix::fs::symlink("file", &link).unwrap();
        let put = |text: &'static [u8]| {
            let before = fs::read_dir(dir.path()).unwrap().count();
            write(&link, |out| {
                // While it is written it has no name.
                assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before);
                Ok(out.write_all(text).context("writing")?)
            })
        };
        for text in [&b"a longer text"[..], b"short"] {
            put(text).unwrap();
            assert_eq!(fs::read(&file).unwrap(), text);
        }
        write(&link, |_| Err(Failure::usage("no"))).unwrap_err();
        assert_eq!(fs::read(&file).unwrap(), b"short");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("file"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        write(Path::new("/dev/null"), |out| Ok(out.write_all(b"x").context("writing")?)).unwrap();
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("link", &link).unwrap();
        assert!(write(&link, |_| Ok(())).is_err());
    }
}
