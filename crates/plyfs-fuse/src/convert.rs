//! Values of the engine to values of the protocol and back. Pure.
//!
//! Not here: calls ([`crate::adapter`]).

use plyfs_union::{
    Attr, DirEntry, Entry, Fh, Kind, OpenHow, Opened, Pages, RenameFlags, Seek, SetAttr, SetTime, StatFs,
    Time, XattrFlags,
};
use plyfs_wire::dirents::Line;
use plyfs_wire::messages::flags::{
    OPEN_KILL_SUIDGID, OpenFlags, STATX_BASIC_STATS, STATX_BTIME, SetattrValid,
};
use plyfs_wire::messages::replies::{self as wire, AttrOut, EntryOut, OpenOut, StatfsOut, StatxOut, SxTime};
use plyfs_wire::messages::requests::SetattrIn;
use plyfs_wire::{Errno, RequestContext};

/// How long the kernel may keep names, absent names and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    sec: u64,
    nsec: u32,
}

impl Validity {
    /// For these attributes: none where they may change without a word.
    fn of(self, attr: &Attr) -> Validity {
        if attr.lasts { self } else { Validity { sec: 0, nsec: 0 } }
    }

    /// As the mount's `timeout` says; without one, longer than any machine runs (136 years).
    pub(crate) fn new(timeout: Option<plyfs_union::spec::Seconds>) -> Validity {
        match timeout {
            None => Validity { sec: u32::MAX.into(), nsec: 0 },
            Some(limit) => {
                let nsec = u32::try_from(limit.0 % 1000).unwrap_or(0) * 1_000_000;
                Validity { sec: (limit.0 / 1000).min(u32::MAX.into()), nsec }
            }
        }
    }
}

/// A found name.
pub(crate) fn entry(entry: &Entry, validity: Validity) -> EntryOut {
    let kept = validity.of(&entry.attr);
    EntryOut {
        nodeid: entry.ino.0,
        attr: attr(&entry.attr),
        attr_valid: kept.sec,
        attr_valid_nsec: kept.nsec,
        ..absent(validity)
    }
}

/// A name that is not there, which the kernel may remember.
pub(crate) fn absent(validity: Validity) -> EntryOut {
    EntryOut {
        entry_valid: validity.sec,
        entry_valid_nsec: validity.nsec,
        attr_valid: validity.sec,
        attr_valid_nsec: validity.nsec,
        ..EntryOut::default()
    }
}

/// The answer to getattr and setattr.
pub(crate) fn attr_out(found: &Attr, validity: Validity) -> AttrOut {
    let validity = validity.of(found);
    AttrOut { attr_valid: validity.sec, attr_valid_nsec: validity.nsec, dummy: 0, attr: attr(found) }
}

#[expect(clippy::cast_sign_loss, reason = "times before 1970 travel as two's complement")]
fn attr(attr: &Attr) -> wire::Attr {
    wire::Attr {
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.sec as u64,
        mtime: attr.mtime.sec as u64,
        ctime: attr.ctime.sec as u64,
        atimensec: attr.atime.nsec,
        mtimensec: attr.mtime.nsec,
        ctimensec: attr.ctime.nsec,
        mode: mode(attr),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: encode_dev(attr.rdev),
        blksize: attr.blksize,
        flags: 0,
    }
}

/// The answer to statx.
pub(crate) fn statx_out(attr: &Attr, validity: Validity) -> StatxOut {
    let validity = validity.of(attr);
    let time = |time: Time| SxTime { tv_sec: time.sec, tv_nsec: time.nsec, reserved: 0 };
    let stat = wire::Statx {
        mask: STATX_BASIC_STATS | if attr.btime.is_some() { STATX_BTIME } else { 0 },
        blksize: attr.blksize,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        mode: u16::try_from(mode(attr)).unwrap_or(0),
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        atime: time(attr.atime),
        btime: attr.btime.map(time).unwrap_or_default(),
        ctime: time(attr.ctime),
        mtime: time(attr.mtime),
        rdev_major: attr.rdev.0,
        rdev_minor: attr.rdev.1,
        ..wire::Statx::default()
    };
    StatxOut { attr_valid: validity.sec, attr_valid_nsec: validity.nsec, stat, ..StatxOut::default() }
}

fn mode(attr: &Attr) -> u32 {
    attr.kind.mode_bits() | (attr.perm & 0o7777)
}

/// `d_type`.
fn dirent_kind(kind: Kind) -> u32 {
    kind.mode_bits() >> 12
}

/// A listing's line.
pub(crate) fn line<'a>(entry: &DirEntry<'a>) -> Line<'a> {
    Line { name: entry.name, ino: entry.ino, kind: dirent_kind(entry.kind), next: entry.cookie }
}

/// The kernel's 32-bit form of a device number: twelve bits of major amid twenty of minor.
fn encode_dev((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The same, read.
pub(crate) fn decode_dev(dev: u32) -> (u32, u32) {
    ((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00))
}

/// The answer to open and create. Close need not be told.
pub(crate) fn opened(opened: &Opened) -> OpenOut {
    let pages = match (opened.backing, opened.pages) {
        (Some(_), _) => OpenFlags::PASSTHROUGH,
        (None, Pages::Hold) => OpenFlags::KEEP_CACHE,
        (None, Pages::Drop) => OpenFlags::empty(),
        (None, Pages::Bypass) => OpenFlags::DIRECT_IO,
    };
    let open_flags = (pages | OpenFlags::NOFLUSH).bits();
    OpenOut { fh: opened.fh.0, open_flags, backing_id: opened.backing.unwrap_or(0) }
}

/// open(2)'s flags.
pub(crate) fn open_how(cx: &RequestContext, flags: u32, open_flags: u32) -> OpenHow {
    const ACCESS: u32 = 3;
    const WRITE_ONLY: u32 = 1;
    const READ_ONLY: u32 = 0;
    const TRUNCATE: u32 = 0o1000;
    OpenHow {
        read: flags & ACCESS != WRITE_ONLY,
        write: flags & ACCESS != READ_ONLY,
        truncate: flags & TRUNCATE != 0,
        direct: flags & plyfs_sys::file::O_DIRECT != 0,
        keeps_set_ids: cx.uid == 0,
        kill_suidgid: open_flags & OPEN_KILL_SUIDGID != 0,
    }
}

/// What setattr is to change, and through which handle.
pub(crate) fn set_attr(change: &SetattrIn) -> (SetAttr, Option<Fh>) {
    let valid = SetattrValid::from_bits_retain(change.valid);
    let if_valid = |bit, value: u32| valid.contains(bit).then_some(value);
    let set = SetAttr {
        perm: if_valid(SetattrValid::MODE, change.mode & 0o7777),
        uid: if_valid(SetattrValid::UID, change.uid),
        gid: if_valid(SetattrValid::GID, change.gid),
        size: valid.contains(SetattrValid::SIZE).then_some(change.size),
        atime: set_time(
            valid,
            SetattrValid::ATIME,
            SetattrValid::ATIME_NOW,
            (change.atime, change.atimensec),
        ),
        mtime: set_time(
            valid,
            SetattrValid::MTIME,
            SetattrValid::MTIME_NOW,
            (change.mtime, change.mtimensec),
        ),
        kill_suidgid: valid.contains(SetattrValid::KILL_SUIDGID),
    };
    (set, valid.contains(SetattrValid::FH).then_some(Fh(change.fh)))
}

#[expect(clippy::cast_possible_wrap, reason = "times before 1970 travel as two's complement")]
fn set_time(
    valid: SetattrValid,
    set: SetattrValid,
    now: SetattrValid,
    (sec, nsec): (u64, u32),
) -> Option<SetTime> {
    if valid.contains(now) {
        Some(SetTime::Now)
    } else {
        valid.contains(set).then_some(SetTime::At(Time { sec: sec as i64, nsec }))
    }
}

/// lseek's `whence`, of which the kernel sends these two.
pub(crate) fn seek(whence: u32) -> Result<Seek, Errno> {
    match whence {
        3 => Ok(Seek::Data),
        4 => Ok(Seek::Hole),
        _ => Err(Errno::INVAL),
    }
}

/// renameat2's flags; unknown ones are refused, not ignored.
pub(crate) fn rename_flags(flags: u32) -> Result<RenameFlags, Errno> {
    RenameFlags::from_bits(flags).ok_or(Errno::INVAL)
}

/// setxattr's flags; unknown ones are refused, not ignored.
pub(crate) fn xattr_flags(flags: u32) -> Result<XattrFlags, Errno> {
    XattrFlags::from_bits(flags).ok_or(Errno::INVAL)
}

/// The answer to statfs.
pub(crate) fn statfs_out(stat: &StatFs) -> StatfsOut {
    StatfsOut {
        blocks: stat.blocks,
        bfree: stat.bfree,
        bavail: stat.bavail,
        files: stat.files,
        ffree: stat.ffree,
        bsize: stat.bsize,
        namelen: stat.namelen,
        frsize: stat.frsize,
        ..StatfsOut::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plyfs_union::Ino;
    use plyfs_union::spec::Seconds;

    fn sample() -> Attr {
        let time = |sec| Time { sec, nsec: 5 };
        Attr {
            ino: 77,
            kind: Kind::CharDevice,
            perm: 0o4755,
            nlink: 2,
            uid: 10,
            gid: 20,
            rdev: (4095, 0xfffff),
            size: 3,
            blocks: 8,
            blksize: 4096,
            atime: time(-1),
            mtime: time(2),
            ctime: time(3),
            btime: Some(time(4)),
            lasts: true,
        }
    }

    #[test]
    fn entries_carry_attributes_and_times_of_validity() {
        let validity = Validity::new(Some(Seconds(1500)));
        let out = entry(&Entry { ino: Ino(9), attr: sample() }, validity);
        assert_eq!((out.nodeid, out.attr.ino, out.attr.mode), (9, 77, 0o024_755));
        assert_eq!((out.entry_valid, out.entry_valid_nsec), (1, 500_000_000));
        assert_eq!((out.attr_valid, out.attr_valid_nsec), (1, 500_000_000));
        assert_eq!(out.attr.atime, u64::MAX);
        assert_eq!(decode_dev(out.attr.rdev), (4095, 0xfffff));
        let absent = absent(Validity::new(None));
        assert_eq!((absent.nodeid, absent.entry_valid), (0, 4_294_967_295));
        assert_eq!(Validity::new(Some(Seconds(0))), Validity { sec: 0, nsec: 0 });
    }

    #[test]
    fn birth_time_is_told_only_where_known() {
        let validity = Validity::new(None);
        let out = statx_out(&sample(), validity);
        assert_eq!((out.stat.mask, out.stat.btime.tv_sec, out.stat.mode), (0xfff, 4, 0o024_755));
        let out = statx_out(&Attr { btime: None, ..sample() }, validity);
        assert_eq!((out.stat.mask, out.stat.btime.tv_sec), (0x7ff, 0));
    }

    #[test]
    fn setattr_takes_what_is_valid() {
        let all = SetattrIn { valid: 0, fh: 1, size: 2, mode: 0o100_644, uid: 3, ..SetattrIn::default() };
        let (none, fh) = set_attr(&all);
        assert!(none.perm.is_none() && none.uid.is_none() && none.size.is_none() && fh.is_none());
        let valid = SetattrValid::MODE | SetattrValid::SIZE | SetattrValid::FH | SetattrValid::KILL_SUIDGID;
        let (some, fh) = set_attr(&SetattrIn { valid: valid.bits(), ..all });
        assert_eq!((some.perm, some.size, some.uid, fh), (Some(0o644), Some(2), None, Some(Fh(1))));
        assert!(some.kill_suidgid);
        let valid = SetattrValid::ATIME | SetattrValid::ATIME_NOW | SetattrValid::MTIME;
        let (times, _) = set_attr(&SetattrIn { valid: valid.bits(), mtime: u64::MAX, mtimensec: 7, ..all });
        assert_eq!(times.atime, Some(SetTime::Now));
        assert_eq!(times.mtime, Some(SetTime::At(Time { sec: -1, nsec: 7 })));
    }

    fn cx(uid: u32) -> RequestContext {
        RequestContext { unique: 1, uid, gid: 0, pid: 0 }
    }

    #[test]
    fn flags() {
        let how = open_how(&cx(0), 0o1002, 1);
        assert!(how.read && how.write && how.truncate && how.kill_suidgid);
        let how = open_how(&cx(7), 1 | plyfs_sys::file::O_DIRECT, 0);
        assert!(how.direct && !how.keeps_set_ids);
        assert!(!how.read && how.write && !how.truncate && !how.kill_suidgid);
        assert!(rename_flags(8).is_err() && xattr_flags(4).is_err() && seek(0).is_err());
        assert_eq!(seek(3), Ok(Seek::Data));
    }
}
