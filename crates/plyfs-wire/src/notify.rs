//! Telling the kernel that what it cached is no longer so.
//!
//! Never to be called from inside the handling of a request on the same directory: the kernel holds its lock until
//! that request is answered, and waits for it here. The exception is [`Notifier::inval_inode`] without data, which takes
//! no lock. Not here: knowing what changed.

use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use plyfs_sys::dev::Device;
use plyfs_sys::{Errno, Result};
use zerocopy::IntoBytes;

use crate::messages::flags::EXPIRE_ONLY;
use crate::messages::replies::*;
use crate::messages::{OutHeader, notify_code};

/// Sends notifications on a session's connection; may outlive the session (then nothing is sent).
#[derive(Debug, Clone)]
pub struct Notifier {
    device: Arc<Device>,
    /// The agreed minor version of the protocol.
    minor: u32,
}

/// First minor version with FUSE_NOTIFY_PRUNE.
const PRUNE_SINCE: u32 = 45;
/// Node ids per message; the kernel takes them in as many at a time.
const PRUNE_BATCH: usize = 512;

impl Notifier {
    pub(crate) fn new(device: Arc<Device>, minor: u32) -> Notifier {
        Notifier { device, minor }
    }

    /// Attributes of `node` changed, and its data if `data`. False: the kernel does not know the node.
    pub fn inval_inode(&self, node: u64, data: bool) -> Result<bool> {
        // A negative offset leaves data alone; length 0 means to the end.
        let off = if data { 0 } else { -1 };
        let out = NotifyInvalInodeOut { ino: node, off, len: 0 };
        self.send(notify_code::INVAL_INODE, &[out.as_bytes()])
    }

    /// `name` in `parent` changed or may have. False: the kernel did not know the name.
    pub fn inval_entry(&self, parent: u64, name: &OsStr) -> Result<bool> {
        self.entry(parent, name, 0)
    }

    /// `name` in `parent` is to be looked up again before it is next used, without forgetting it (agreed
    /// HAS_EXPIRE_ONLY; older kernels forget it).
    pub fn expire_entry(&self, parent: u64, name: &OsStr) -> Result<bool> {
        self.entry(parent, name, EXPIRE_ONLY)
    }

    /// `name` in `parent`, which was `child`, is gone; watchers are told.
    pub fn delete(&self, parent: u64, child: u64, name: &OsStr) -> Result<bool> {
        let out = NotifyDeleteOut { parent, child, namelen: length(name), padding: 0 };
        self.send(notify_code::DELETE, &[out.as_bytes(), name.as_bytes(), b"\0"])
    }

    /// Whether the kernel knows [`Notifier::prune`].
    pub fn can_prune(&self) -> bool {
        self.minor >= PRUNE_SINCE
    }

    /// Asks the kernel to let go of those of `nodes` that nobody uses; forgets follow. False: the connection has ended.
    pub fn prune(&self, nodes: &[u64]) -> Result<bool> {
        for batch in nodes.chunks(PRUNE_BATCH) {
            let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            let out = NotifyPruneOut { count, ..NotifyPruneOut::default() };
            if !self.send(notify_code::PRUNE, &[out.as_bytes(), batch.as_bytes()])? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn entry(&self, parent: u64, name: &OsStr, flags: u32) -> Result<bool> {
        let out = NotifyInvalEntryOut { parent, namelen: length(name), flags };
        self.send(notify_code::INVAL_ENTRY, &[out.as_bytes(), name.as_bytes(), b"\0"])
    }

    fn send(&self, code: i32, body: &[&[u8]]) -> Result<bool> {
        let length = size_of::<OutHeader>() + body.iter().map(|part| part.len()).sum::<usize>();
        let len = u32::try_from(length).unwrap_or(u32::MAX);
        let head = OutHeader { len, error: code, unique: 0 };
        let mut parts = vec![IoSlice::new(head.as_bytes())];
        parts.extend(body.iter().map(|part| IoSlice::new(part)));
        match self.device.send(&parts) {
            Ok(()) => Ok(true),
            // Not cached, or nobody there any more: nothing to forget.
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn length(name: &OsStr) -> u32 {
    u32::try_from(name.len()).unwrap_or(u32::MAX)
}
