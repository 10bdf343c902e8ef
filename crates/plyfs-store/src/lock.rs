//! Locks between processes (and threads): flock(2) on files of the store. They go with the process that holds them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{Doing, Result};

/// Locks the file at `path` (made if missing) until the answer is dropped. Waits.
pub(crate) fn exclusive(path: &Path) -> Result<File> {
    let options =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = options.doing("opening the lock", path)?;
    file.lock().doing("locking", path)?;
    Ok(file)
}

/// Locks the file at `path`; `None` if there is none, or not any more when its lock was free.
pub(crate) fn exclusive_if_there(path: &Path) -> Result<Option<File>> {
    loop {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.doing("opening", path)?,
        };
        file.lock().doing("locking", path)?;
        if is_still_at(&file, path)? {
            return Ok(Some(file));
        }
    }
}

/// Locks the file at `path` if nobody else has; `None` if somebody has, or there is none.
pub(crate) fn try_exclusive(path: &Path) -> Result<Option<File>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.doing("opening", path)?,
    };
    match file.try_lock() {
        Ok(()) => Ok(is_still_at(&file, path)?.then_some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error).doing("locking", path),
    }
}

/// As [`try_exclusive`], for a lock that others ask about ([`is_held`]): who only asks has it for a moment.
pub(crate) fn try_exclusive_patiently(path: &Path) -> Result<Option<File>> {
    const TRIES: u32 = 20;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);
    for _ in 1..TRIES {
        match try_exclusive(path)? {
            None if path.exists() => std::thread::sleep(PAUSE),
            answer => return Ok(answer),
        }
    }
    try_exclusive(path)
}

/// Whether somebody has locked the file at `path`. Two who ask do not see each other.
pub(crate) fn is_held(path: &Path) -> Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.doing("opening", path)?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(std::fs::TryLockError::WouldBlock) => Ok(true),
        Err(std::fs::TryLockError::Error(error)) => Err(error).doing("asking for the lock of", path),
    }
}

/// Whether the name still leads to what was locked: it may have been removed, or replaced, meanwhile.
pub(crate) fn is_still_at(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata().doing("looking at", path)?;
    match path.symlink_metadata() {
        Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).doing("looking at", path),
    }
}
