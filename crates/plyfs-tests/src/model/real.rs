//! The operations on a real folder, mounted or plain, by way of the kernel.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs as rfs;
use rustix::io::Errno;

use super::line;
use super::op::{How, Op, TARGET};
use crate::tree::{Snapshot, hash};

/// mkfifo(3), umask aside.
///
/// # Errors
/// The kernel's.
pub fn mkfifo(path: &Path, perm: u32) -> Result<(), Errno> {
    rfs::mknodat(rfs::CWD, path, rfs::FileType::Fifo, rfs::Mode::from_raw_mode(perm), 0)?;
    rfs::chmod(path, rfs::Mode::from_raw_mode(perm))
}

/// Does one operation below `root`.
///
/// # Errors
/// The kernel's answer.
pub fn apply(root: &Path, op: &Op) -> Result<(), Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let chmod =
        |path: &Path, perm: &u32| fs::set_permissions(path, Permissions::from_mode(*perm)).map_err(errno);
    match op {
        Op::Create(place, perm) => {
            let path = root.join(place.path());
            fs::File::create_new(&path).map_err(errno)?;
            chmod(&path, perm)
        }
        Op::Mkdir(place, perm) => {
            let path = root.join(place.path());
            fs::create_dir(&path).map_err(errno)?;
            chmod(&path, perm)
        }
        Op::Symlink(place) => std::os::unix::fs::symlink(TARGET, root.join(place.path())).map_err(errno),
        Op::Mkfifo(place, perm) => mkfifo(&root.join(place.path()), *perm),
        Op::Write(place, at, byte, length) => {
            let mut how = fs::OpenOptions::new();
            // O_NONBLOCK: a FIFO without a reader answers ENXIO at once.
            how.write(true).custom_flags(rfs::OFlags::NONBLOCK.bits() as i32);
            let file = how.open(root.join(place.path())).map_err(errno)?;
            file.write_all_at(&vec![*byte; usize::from(*length)], u64::from(*at)).map_err(errno)
        }
        Op::Truncate(place, length) => truncate(&root.join(place.path()), u64::from(*length)),
        Op::Chmod(place, perm) => chmod(&root.join(place.path()), perm),
        Op::Unlink(place) => rfs::unlink(root.join(place.path())),
        Op::Rmdir(place) => rfs::rmdir(root.join(place.path())),
        Op::Link(from, to) => {
            let flags = rfs::AtFlags::empty();
            rfs::linkat(rfs::CWD, root.join(from.path()), rfs::CWD, root.join(to.path()), flags)
        }
        Op::Rename(from, to, how) => {
            let flags = match how {
                How::Plain => rfs::RenameFlags::empty(),
                How::NoReplace => rfs::RenameFlags::NOREPLACE,
                How::Exchange => rfs::RenameFlags::EXCHANGE,
            };
            rfs::renameat_with(rfs::CWD, root.join(from.path()), rfs::CWD, root.join(to.path()), flags)
        }
        Op::Remount => Ok(()),
    }
}

/// truncate(2): a FIFO gives EINVAL without being opened.
fn truncate(path: &Path, length: u64) -> Result<(), Errno> {
    let meta = rfs::stat(path)?;
    match rfs::FileType::from_raw_mode(meta.st_mode) {
        rfs::FileType::Fifo => Err(Errno::INVAL),
        rfs::FileType::Directory => Err(Errno::ISDIR),
        _ => {
            let file = fs::OpenOptions::new().write(true).open(path);
            let done = file.and_then(|file| file.set_len(length));
            done.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        }
    }
}

/// The folder in the model's words.
///
/// # Errors
/// What could not be read, and why.
pub fn snapshot(root: &Path) -> Result<Snapshot, String> {
    let mut seen: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut texts: BTreeMap<PathBuf, (String, Option<u32>, Option<u64>, u64)> = BTreeMap::new();
    visit(root, Path::new(""), &mut seen, &mut texts)?;
    for paths in seen.values_mut() {
        paths.sort();
    }
    let lines = texts.into_iter().map(|(path, (text, perm, links, ino))| {
        let links = links.map(|links| links.to_string());
        let text = line(&text, perm, links.as_deref(), &seen[&ino][0]);
        (path, text)
    });
    Ok(Snapshot(lines.collect()))
}

type Texts = BTreeMap<PathBuf, (String, Option<u32>, Option<u64>, u64)>;

fn visit(
    root: &Path,
    below: &Path,
    seen: &mut BTreeMap<u64, Vec<PathBuf>>,
    texts: &mut Texts,
) -> Result<(), String> {
    let path = root.join(below);
    let at = |error: std::io::Error| format!("{}: {error}", path.display());
    let meta = fs::symlink_metadata(&path).map_err(at)?;
    let kind = meta.file_type();
    let (text, perm) = if kind.is_dir() {
        ("dir".to_owned(), Some(meta.mode() & 0o7777))
    } else if kind.is_symlink() {
        (format!("link -> {}", fs::read_link(&path).map_err(at)?.display()), None)
    } else if kind.is_fifo() {
        ("fifo".to_owned(), Some(meta.mode() & 0o7777))
    } else {
        let data = fs::read(&path).map_err(at)?;
        if data.len() as u64 != meta.len() {
            return Err(format!(
                "{}: stat says {} bytes, read gives {}",
                path.display(),
                meta.len(),
                data.len()
            ));
        }
        (format!("file {} {:016x}", data.len(), hash(&data)), Some(meta.mode() & 0o7777))
    };
    let links = (!kind.is_dir()).then(|| meta.nlink());
    seen.entry(meta.ino()).or_default().push(below.to_path_buf());
    texts.insert(below.to_path_buf(), (text, perm, links, meta.ino()));
    if kind.is_dir() {
        for entry in fs::read_dir(&path).map_err(at)? {
            visit(root, &below.join(entry.map_err(at)?.file_name()), seen, texts)?;
        }
    }
    Ok(())
}
