//! What both suites share: mounting, where that is possible.

use plyfs_fuse::{MountError, StartError};

/// What was mounted; `None`, aloud, where FUSE cannot be mounted.
pub(crate) fn unless_impossible<T>(mounted: Result<T, StartError>) -> Option<T> {
    match mounted {
        Ok(mounted) => Some(mounted),
        Err(StartError::Mount(
            error @ (MountError::NoDevice(_) | MountError::DeviceDenied(_) | MountError::NoHelper),
        )) => {
            println!("SKIPPED: cannot mount here: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}
