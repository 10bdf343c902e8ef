//! Files that somebody asked for by name (`save -o`, `export -o`): they appear whole, or not at all.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::Context;
use plyfs_sys::{Dir, Errno, Leaf, SysError};
use tempfile::{Builder, NamedTempFile};

use crate::exit::Failure;

/// Makes or replaces the file at `path` with what `fill` writes. What is there and no regular file (a pipe, a device) is
/// written to as it is.
///
/// The file has no name until it is complete, so that a killed command leaves nothing; where the filesystem cannot do that
/// (NFS), one that is killed leaves a `.tmp` file beside it.
pub(crate) fn write(path: &Path, fill: impl FnOnce(&File) -> Result<(), Failure>) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok_and(|status| !status.is_file()) {
        let file = File::options().write(true).truncate(true).open(path);
        return fill(&file.with_context(|| format!("opening {}", path.display()))?);
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let making = || format!("making a file in {}", dir.display());
    let opened = Dir::open(dir).with_context(making)?;
    let whole = match opened.tmpfile(0o600) {
        Ok(file) => {
            fill(&file)?;
            named(dir, &opened, file).with_context(making)?
        }
        Err(error) if matches!(error.errno(), Errno::OPNOTSUPP | Errno::ISDIR) => {
            let file = NamedTempFile::new_in(dir).with_context(making)?;
            fill(file.as_file())?;
            file
        }
        Err(error) => return Err(anyhow::Error::new(error).context(making()).into()),
    };
    whole.persist(path).with_context(|| format!("renaming to {}", path.display()))?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        for text in ["one", "two"] {
            write(&path, |mut file| {
                // While it is written it has no name.
                assert_eq!(names(), usize::from(text == "two"));
                Ok(file.write_all(text.as_bytes()).context("writing")?)
            })
            .unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert!(write(&path, |_| Err(anyhow::anyhow!("no").into())).is_err());
        assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), names()), ("two", 1));
    }
}
