//! mount(2), umount2(2) and what is mounted now (/proc/self/mountinfo).
//!
//! Not here: which options a FUSE mount needs (`plyfs-wire`), namespaces (`crate::process`).

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub use rustix::mount::{MountFlags, UnmountFlags};

use crate::error::{Errno, Named, Result, SysError};

/// The kernel's list of this process's mounts.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// mount(2) of a new filesystem. `data` is the filesystem's own option text.
pub fn mount(source: &OsStr, target: &Path, fs_type: &OsStr, flags: MountFlags, data: &OsStr) -> Result<()> {
    let data = CString::new(data.as_bytes()).map_err(|_| SysError::new("mount", Errno::INVAL).on(target))?;
    rustix::mount::mount(source, target, fs_type, flags, Some(data.as_c_str()))
        .named("mount")
        .map_err(|error| error.on(target))
}

/// umount2(2); never follows a symbolic link in the last component.
pub fn unmount(target: &Path, flags: UnmountFlags) -> Result<()> {
    rustix::mount::unmount(target, flags | UnmountFlags::NOFOLLOW)
        .named("umount2")
        .map_err(|error| error.on(target))
}

/// One mount (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Unique while the mount lives.
    pub id: u64,
    /// The mount below.
    pub parent: u64,
    /// `st_dev` of its files: major, minor.
    pub dev: (u32, u32),
    /// Which directory of the filesystem is its root.
    pub root: PathBuf,
    /// Where it is, seen from this process's root.
    pub mount_point: PathBuf,
    /// Options of this mount (`rw,noatime`).
    pub options: OsString,
    /// `ext4`, `fuse.aufs`.
    pub fs_type: OsString,
    /// What was mounted, or any word.
    pub source: OsString,
    /// Options of the filesystem.
    pub super_options: OsString,
}

/// Every mount of this process's namespace, in the kernel's order: later lines cover earlier ones.
pub fn list() -> Result<Vec<MountInfo>> {
    let text = std::fs::read(MOUNTINFO).map_err(|error| SysError::from_io("read", &error).on(MOUNTINFO))?;
    Ok(parse(&text))
}

/// The topmost mount exactly at `path` (absolute, without links), if it is a mount point.
pub fn at(path: &Path) -> Result<Option<MountInfo>> {
    let mounts = list()?;
    Ok(mounts.into_iter().rev().find(|mount| mount.mount_point == path))
}

/// Whether something is mounted exactly at `path`.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    Ok(at(path)?.is_some())
}

/// Reads mountinfo's text. Lines that do not have its form are left out: the kernel writes none.
pub fn parse(text: &[u8]) -> Vec<MountInfo> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let mut words = line.split(|byte| *byte == b' ');
    let id = number(words.next()?)?;
    let parent = number(words.next()?)?;
    let mut dev = words.next()?.splitn(2, |byte| *byte == b':');
    let dev = (u32::try_from(number(dev.next()?)?).ok()?, u32::try_from(number(dev.next()?)?).ok()?);
    let root = PathBuf::from(unescape(words.next()?));
    let mount_point = PathBuf::from(unescape(words.next()?));
    let options = unescape(words.next()?);
    // Optional fields (shared:N, master:N ...) end with a lone hyphen.
    words.by_ref().find(|word| *word == b"-")?;
    let fs_type = unescape(words.next()?);
    let source = unescape(words.next()?);
    let super_options = unescape(words.next().unwrap_or_default());
    Some(MountInfo { id, parent, dev, root, mount_point, options, fs_type, source, super_options })
}

fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Decodes `\040` and its like: a backslash and three octal digits.
fn unescape(word: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, tail)) = rest.split_first() {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whole() {
        let text = b"36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 shared:7 - fuse.aufs my\\040src rw,user_id=0\n";
        let [one] = &parse(text)[..] else { panic!("one line") };
        assert_eq!((one.id, one.parent, one.dev), (36, 35, (98, 0)));
        assert_eq!(one.root, Path::new("/mnt1"));
        assert_eq!(one.mount_point, Path::new("/mnt 2\\x"));
        assert_eq!(one.options, "rw,noatime");
        assert_eq!((&one.fs_type, &one.source), (&"fuse.aufs".into(), &"my src".into()));
        assert_eq!(one.super_options, "rw,user_id=0");
    }

    #[test]
    fn no_optional_fields_and_odd_lines() {
        let text = b"1 2 0:5 / / rw - proc proc rw\nnonsense\n\n3 1 0:6 / /a rw - tmpfs  rw\n";
        let all = parse(text);
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].source, "");
        assert_eq!(unescape(b"\\9\\04\\"), "\\9\\04\\");
    }

    #[test]
    fn the_root_is_a_mount_point() {
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/self/nothing")).unwrap());
    }
}
