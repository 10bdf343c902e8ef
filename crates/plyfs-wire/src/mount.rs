//! Mounting and unmounting: mount(2) where we may, fusermount3 where we may not.
//!
//! Not here: the helper's own protocol (`crate::fusermount`), the session that follows ([`crate::session`]), what the
//! options mean to a union.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use plyfs_sys::dev::{DEVICE_PATH, Device};
use plyfs_sys::mounts::{self, MountFlags, UnmountFlags};
use plyfs_sys::{Errno, SysError, cred};
use tracing::debug;

use crate::fusermount;

/// What to mount and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// First word in /proc/mounts.
    pub source: OsString,
    /// The type becomes `fuse.<subtype>`.
    pub subtype: String,
    /// Flags that the kernel keeps (ro, nosuid, noatime ...).
    pub flags: MountFlags,
    /// Users other than the mounting one may use the mount.
    pub allow_other: bool,
    /// Permission is checked by the kernel from our attributes and ACLs.
    pub default_permissions: bool,
    /// Bytes per READ at most.
    pub max_read: u32,
}

/// Why a mount or unmount failed, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum MountError {
    #[error(
        "{DEVICE_PATH} is missing or not served: load the kernel module fuse (modprobe fuse), or in a \
             container pass the device in ({0})"
    )]
    NoDevice(SysError),
    #[error(
        "{DEVICE_PATH} may not be opened by this user, and fusermount3 opens it with the same rights: its owner \
             must allow it (chmod 666 {DEVICE_PATH}) ({0})"
    )]
    DeviceDenied(SysError),
    #[error(
        "mounting without CAP_SYS_ADMIN needs the program fusermount3, which is not installed \
             (Debian, Ubuntu, Fedora, Alpine, Arch: package fuse3), or a user namespace (unshare -Urm)"
    )]
    NoHelper,
    #[error("{} does not exist", .0.display())]
    TargetMissing(PathBuf),
    #[error("{} is not a directory", .0.display())]
    TargetNotDirectory(PathBuf),
    #[error("{} is busy", .0.display())]
    Busy(PathBuf),
    #[error("{} is not mounted", .0.display())]
    NotMounted(PathBuf),
    #[error("option allow_other is for root, unless the line user_allow_other stands in /etc/fuse.conf")]
    AllowOtherDenied,
    #[error("fusermount3: {0}")]
    Helper(String),
    #[error("{0}")]
    Sys(#[from] SysError),
}

/// Mounts on `target` and gives the device over which the kernel will speak, INIT first.
pub fn mount(target: &Path, options: &MountOptions) -> Result<Device, MountError> {
    let target = check_target(target)?;
    let device = match Device::open() {
        Ok(device) => device,
        // libfuse's helper opens it with our rights and is refused too; one that asks the host outside of a container
        // may have others.
        Err(error) if matches!(error.errno(), Errno::ACCESS | Errno::PERM) => {
            return fusermount::mount(&target, options).map_err(|helper| match helper {
                MountError::NoHelper => MountError::DeviceDenied(error),
                other => other,
            });
        }
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NODEV | Errno::NXIO) => {
            return Err(MountError::NoDevice(error));
        }
        Err(error) => return Err(error.into()),
    };
    match mount_directly(&device, &target, options) {
        Ok(()) => Ok(device),
        Err(error) if error.errno() == Errno::PERM => {
            debug!("{error}; trying fusermount3");
            fusermount::mount(&target, options)
        }
        Err(error) => Err(explain(error, &target)),
    }
}

/// Ends the mount on `target`; with `lazy` it disappears at once and ends when its last user does.
pub fn unmount(target: &Path, lazy: bool) -> Result<(), MountError> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match mounts::unmount(target, flags) {
        Ok(()) => Ok(()),
        Err(error) if error.errno() == Errno::PERM => fusermount::unmount(target, lazy),
        Err(error) => Err(explain(error, target)),
    }
}

/// The target as an absolute path without links. A dead FUSE mount there (ENOTCONN) counts as a directory to
/// mount over.
fn check_target(target: &Path) -> Result<PathBuf, MountError> {
    let missing = |error: std::io::Error| match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => MountError::TargetMissing(target.into()),
        Some(Errno::NOTDIR) => MountError::TargetNotDirectory(target.into()),
        _ => SysError::from_io("stat", &error).on(target).into(),
    };
    let target_path = target.canonicalize().map_err(missing)?;
    let kind = std::fs::metadata(&target_path).map_err(missing)?;
    if kind.is_dir() { Ok(target_path) } else { Err(MountError::TargetNotDirectory(target.into())) }
}

fn mount_directly(device: &Device, target: &Path, options: &MountOptions) -> Result<(), SysError> {
    let mode =
        std::fs::metadata(target).map_err(|error| SysError::from_io("stat", &error).on(target))?.mode();
    let data = kernel_data(device.number(), mode, options);
    let fs_type = OsString::from(format!("fuse.{}", options.subtype));
    match mounts::mount(&options.source, target, &fs_type, options.flags, OsStr::new(&data)) {
        // Kernels without CONFIG_BLOCK aside, ENODEV says that the module is not loaded yet and cannot be.
        Err(error) if error.errno() == Errno::NODEV => {
            Err(SysError::new("mount", Errno::NODEV).on(DEVICE_PATH))
        }
        other => other,
    }
}

/// The options of the kernel's `fuse` file system.
fn kernel_data(fd: i32, mode: u32, options: &MountOptions) -> String {
    let mut data = format!(
        "fd={fd},rootmode={:o},user_id={},group_id={},max_read={}",
        mode & 0o170_000,
        cred::effective_uid(),
        cred::effective_gid(),
        options.max_read
    );
    for (on, word) in
        [(options.default_permissions, ",default_permissions"), (options.allow_other, ",allow_other")]
    {
        if on {
            data.push_str(word);
        }
    }
    data
}

/// The conditions that people meet, by name.
fn explain(error: SysError, target: &Path) -> MountError {
    match error.errno() {
        Errno::BUSY => MountError::Busy(target.into()),
        Errno::NOENT => MountError::TargetMissing(target.into()),
        Errno::NOTDIR => MountError::TargetNotDirectory(target.into()),
        Errno::NODEV => MountError::NoDevice(error),
        Errno::INVAL if error.call() == "umount2" => MountError::NotMounted(target.into()),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn options() -> MountOptions {
        MountOptions {
            source: "none".into(),
            subtype: "aufs".into(),
            flags: MountFlags::NOATIME,
            allow_other: true,
            default_permissions: true,
            max_read: 1 << 20,
        }
    }

    #[test]
    fn data_names_the_descriptor_and_the_root() {
        let text = kernel_data(5, 0o040_755, &options());
        assert!(text.starts_with("fd=5,rootmode=40000,user_id="), "{text}");
        assert!(text.ends_with(",max_read=1048576,default_permissions,allow_other"), "{text}");
    }

    #[test]
    fn targets_must_be_directories() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(mount(&file, &options()), Err(MountError::TargetNotDirectory(_))));
        assert!(matches!(mount(&dir.path().join("no"), &options()), Err(MountError::TargetMissing(_))));
        let below = file.join("x");
        assert!(matches!(mount(&below, &options()), Err(MountError::TargetNotDirectory(_))));
    }

    #[test]
    fn unmounting_what_is_not_mounted_says_so() {
        let dir = tempfile::tempdir().unwrap();
        if cred::effective_uid() == 0 {
            let error = unmount(dir.path(), false).unwrap_err();
            assert!(matches!(error, MountError::NotMounted(_)), "{error}");
        }
    }
}
