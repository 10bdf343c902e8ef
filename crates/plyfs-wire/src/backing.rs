//! Files that the kernel reads and writes by itself (FUSE_PASSTHROUGH).
//!
//! Not here: when that is right (`plyfs-union`), the ioctl itself (`plyfs-sys`).

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use plyfs_sys::dev::Device;
use plyfs_sys::{Result, cred};

/// A session's table of backing files; may outlive the session.
#[derive(Debug, Clone)]
pub struct Backings {
    device: Arc<Device>,
}

impl Backings {
    pub(crate) fn new(device: Arc<Device>) -> Backings {
        Backings { device }
    }

    /// Enters a regular file; the number for [`crate::messages::replies::OpenOut::backing_id`]. With `kill_set_ids`,
    /// what is written through it clears set-id bits, as for writers without CAP_FSETID.
    pub fn register(&self, file: BorrowedFd<'_>, kill_set_ids: bool) -> Result<i32> {
        let _lowered = if kill_set_ids { Some(cred::WithoutFsetid::begin()?) } else { None };
        self.device.register_backing(file)
    }

    /// Removes an entry; files open by it stay so.
    pub fn release(&self, id: i32) {
        if let Err(error) = self.device.release_backing(id) {
            // The connection has ended, and its table with it.
            tracing::debug!(id, "{error}");
        }
    }
}
