//! fuse-overlayfs' `xattr_permissions`: owner, mode and type of an object kept in an xattr instead of the inode, for
//! branches on filesystems or under users that can't hold the real ones.
//!
//! Format (containers/storage): `UID:GID:MODE[:TYPE]`, mode octal, type `file`, `dir`, `symlink`, `pipe`, `socket`,
//! `block-MAJOR-MINOR`, `char-MAJOR-MINOR`.

use std::ffi::OsStr;

use plyfs_sys::{Dev, Kind, Obj, SetXattr, Stat};

use crate::error::Result;

/// Which xattr serves, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Override {
    Off,
    Xattr(&'static str),
}

/// What an object pretends to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) perm: u32,
    pub(crate) kind: Kind,
    pub(crate) rdev: Dev,
}

impl Shown {
    /// What it is by its inode.
    pub(crate) fn real(stat: &Stat) -> Shown {
        Shown { uid: stat.uid, gid: stat.gid, perm: stat.perm, kind: stat.kind, rdev: stat.rdev }
    }
}

impl Override {
    /// 1: `security.`, written by root only; 2: `user.`, as containers/storage does.
    pub(crate) fn new(xattr_permissions: u8) -> Override {
        match xattr_permissions {
            1 => Override::Xattr("security.fuseoverlayfs.override_stat"),
            2 => Override::Xattr("user.containers.override_stat"),
            _ => Override::Off,
        }
    }

    pub(crate) fn is_on(self) -> bool {
        self != Override::Off
    }

    /// Is this the xattr that keeps the facts? Then users don't see it.
    pub(crate) fn is(self, name: &[u8]) -> bool {
        matches!(self, Override::Xattr(own) if own.as_bytes() == name)
    }

    pub(crate) fn apply(self, obj: Obj<'_>, stat: &Stat) -> Result<Shown> {
        let real = Shown::real(stat);
        let Override::Xattr(name) = self else { return Ok(real) };
        let value = obj.xattr(OsStr::new(name))?;
        Ok(value.and_then(|text| parse(std::str::from_utf8(&text).ok()?, real)).unwrap_or(real))
    }

    /// Keeps what the object pretends to be.
    pub(crate) fn keep(self, obj: Obj<'_>, shown: &Shown) -> Result<()> {
        let Override::Xattr(name) = self else { return Ok(()) };
        Ok(obj.set_xattr(OsStr::new(name), print(shown).as_bytes(), SetXattr::Any)?)
    }
}

fn parse(text: &str, real: Shown) -> Option<Shown> {
    let mut words = text.split(':');
    let uid = words.next()?.parse().ok()?;
    let gid = words.next()?.parse().ok()?;
    let perm = u32::from_str_radix(words.next()?, 8).ok()? & 0o7777;
    let (kind, rdev) = match words.next() {
        None => (real.kind, real.rdev),
        Some(word) => parse_kind(word)?,
    };
    Some(Shown { uid, gid, perm, kind, rdev })
}

fn parse_kind(word: &str) -> Option<(Kind, Dev)> {
    let mut parts = word.split('-');
    let kind = match parts.next()? {
        "file" => Kind::File,
        "dir" => Kind::Dir,
        "symlink" => Kind::Symlink,
        "pipe" => Kind::Fifo,
        "socket" => Kind::Socket,
        "block" => Kind::BlockDevice,
        "char" => Kind::CharDevice,
        _ => return None,
    };
    let mut number = || parts.next().map_or(Some(0), |text| text.parse().ok());
    Some((kind, Dev { major: number()?, minor: number()? }))
}

fn print(shown: &Shown) -> String {
    let kind = match shown.kind {
        Kind::File => "file".to_owned(),
        Kind::Dir => "dir".to_owned(),
        Kind::Symlink => "symlink".to_owned(),
        Kind::Fifo => "pipe".to_owned(),
        Kind::Socket => "socket".to_owned(),
        Kind::BlockDevice => format!("block-{}-{}", shown.rdev.major, shown.rdev.minor),
        Kind::CharDevice => format!("char-{}-{}", shown.rdev.major, shown.rdev.minor),
    };
    format!("{}:{}:{:o}:{kind}", shown.uid, shown.gid, shown.perm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses() {
        let real = Shown { uid: 1, gid: 2, perm: 0o600, kind: Kind::File, rdev: Dev::default() };
        let check = |text: &str, want: Shown| assert_eq!(parse(text, real), Some(want), "{text}");
        check("0:5:755", Shown { uid: 0, gid: 5, perm: 0o755, ..real });
        let device =
            Shown { uid: 0, gid: 0, perm: 0o660, kind: Kind::CharDevice, rdev: Dev { major: 1, minor: 3 } };
        check("0:0:660:char-1-3", device);
        assert_eq!(parse(&print(&device), real), Some(device));
        for bad in ["", "1", "a:b:c", "0:0:9", "0:0:644:what"] {
            assert_eq!(parse(bad, real), None, "{bad}");
        }
    }
}
