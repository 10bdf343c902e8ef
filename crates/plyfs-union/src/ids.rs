//! Identity: stable inode numbers (design D4) and owners as the union shows them (`uidmapping`, `squash_to_*`).

use plyfs_sys::{Dev, Obj, Stat, cred};

use crate::branch::{Branch, Stack};
use crate::error::{Refusal, Result};
use crate::marks::{self, Fact};
use crate::spec::{IdRange, MountSpec};

/// A real object: filesystem and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RealId {
    pub(crate) dev: Dev,
    pub(crate) ino: u64,
}

impl RealId {
    pub(crate) fn of(stat: &Stat) -> RealId {
        RealId { dev: stat.dev, ino: stat.ino }
    }
}

/// Room for the filesystem's position above the inode number.
const INO_BITS: u32 = 48;

/// The `st_ino` of an object: its own number while all branches are on one filesystem, else with the filesystem's
/// position on top.
pub(crate) fn number(stack: &Stack, id: RealId) -> u64 {
    match stack.fs_position(id.dev) {
        Some(0) if id.ino >> INO_BITS == 0 => id.ino,
        Some(position) if id.ino >> INO_BITS == 0 && position < 0x7fff => {
            id.ino | (position as u64) << INO_BITS
        }
        // A number of 48 bits and more, or a filesystem inside a branch (btrfs subvolume): mixed, top bit set.
        Some(_) | None => {
            let fs = u64::from(id.dev.major) << 32 | u64::from(id.dev.minor);
            let mixed = (id.ino ^ fs.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ mixed >> 29) | 1 << 63
        }
    }
}

/// Who an object is in the union: what it was copied up from, or itself.
pub(crate) fn identity(stack: &Stack, branch: &Branch, obj: Obj<'_>, stat: &Stat) -> Result<RealId> {
    Ok(origin(stack, branch, obj, stat)?.0)
}

/// The same, and whether it may be a copy of metadata alone (`metacopy.rs`): with one getxattr(2) at most.
pub(crate) fn origin(stack: &Stack, branch: &Branch, obj: Obj<'_>, stat: &Stat) -> Result<(RealId, bool)> {
    let own = RealId::of(stat);
    if !marks::may_have_facts(branch) {
        return Ok((own, false));
    }
    let text = marks::fact(branch, obj, Fact::Origin)?.unwrap_or_default();
    let (text, bare) = match text.strip_suffix(BARE) {
        Some(text) => (text, true),
        None => (&*text, false),
    };
    // A branch whose whiteouts do not count shows what was renamed away as well: two files, not one.
    let known = if branch.honours { parse_origin(stack, text) } else { None };
    Ok((known.unwrap_or(own), bare))
}

/// At the end of the origin of a copy of metadata alone.
const BARE: &[u8] = b"+data";

/// Says in the origin of a copy that its data is elsewhere. `false`: the branch can't keep it.
pub(crate) fn mark_bare(branch: &Branch, obj: Obj<'_>) -> Result<bool> {
    let mut text = marks::fact(branch, obj, Fact::Origin)?.unwrap_or_else(|| b"-".to_vec());
    text.extend_from_slice(BARE);
    marks::keep_fact(branch, obj, Fact::Origin, &text)
}

/// Takes that back. Where it fails, the next look asks once more than it must, nothing else.
pub(crate) fn unmark_bare(branch: &Branch, obj: Obj<'_>) -> Result<()> {
    let text = marks::fact(branch, obj, Fact::Origin)?.unwrap_or_default();
    match text.strip_suffix(BARE) {
        Some(b"-") => marks::drop_fact(branch, obj, Fact::Origin),
        Some(text) => marks::keep_fact(branch, obj, Fact::Origin, text).map(drop),
        None => Ok(()),
    }
}

/// `FSID:INO`; `None` if that filesystem is not in the stack any more: then the copy stands for itself.
pub(crate) fn parse_origin(stack: &Stack, text: &[u8]) -> Option<RealId> {
    let (fsid, ino) = std::str::from_utf8(text).ok()?.split_once(':')?;
    let dev = stack.dev_of_fsid(u64::from_str_radix(fsid, 16).ok()?)?;
    Some(RealId { dev, ino: ino.parse().ok()? })
}

/// The text kept with a copy so that it keeps `id`'s identity; `None` if its filesystem has none.
pub(crate) fn origin_text(stack: &Stack, id: RealId) -> Option<String> {
    let branch = stack.branches.iter().find(|b| b.dev == id.dev && b.fsid != 0)?;
    Some(format!("{:x}:{}", branch.fsid, id.ino))
}

/// Owners: from branch to union and back.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdMap {
    uid: Vec<IdRange>,
    gid: Vec<IdRange>,
    squash_uid: Option<u32>,
    squash_gid: Option<u32>,
    adopt: Option<(u32, u32)>,
}

/// What an id outside of the map shows as (the kernel's `overflowuid`).
const OVERFLOW: u32 = 65534;

impl IdMap {
    pub(crate) fn new(spec: &MountSpec) -> IdMap {
        let root = spec.squash.root.then_some(0);
        IdMap {
            uid: spec.uid_map.clone(),
            gid: spec.gid_map.clone(),
            squash_uid: spec.squash.uid.or(root),
            squash_gid: spec.squash.gid.or(root),
            adopt: spec.adopt_unmapped.then(|| (cred::effective_uid(), cred::effective_gid())),
        }
    }

    /// As the union shows it.
    pub(crate) fn shown(&self, uid: u32, gid: u32) -> (u32, u32) {
        let shown = |squash: Option<u32>, map: &[IdRange], id| {
            squash.unwrap_or_else(|| translate(map, id, |r| (r.outside, r.inside)).unwrap_or(OVERFLOW))
        };
        (shown(self.squash_uid, &self.uid, uid), shown(self.squash_gid, &self.gid, gid))
    }

    /// Owner and mode of an object whose owner is not mapped, where those are adopted: ours, with our own rights to it
    /// as the owner's and everybody's. Set-id bits mean an owner and are not shown.
    pub(crate) fn adopted(&self, uid: u32, gid: u32, perm: u32) -> (u32, u32, u32) {
        let Some((own_uid, own_gid)) = self.adopt else { return (uid, gid, perm) };
        if uid != OVERFLOW && gid != OVERFLOW {
            return (uid, gid, perm);
        }
        let rights = match (uid == own_uid, gid == own_gid) {
            (true, _) => perm >> 6 & 7,
            (false, true) => perm >> 3 & 7,
            (false, false) => perm & 7,
        };
        (own_uid, own_gid, perm & 0o1000 | rights << 6 | rights << 3 | rights)
    }

    /// As the branch keeps it; EINVAL for an id outside of the map (as chown(2) in a user namespace).
    pub(crate) fn kept_uid(&self, uid: u32) -> Result<u32> {
        kept(self.squash_uid, &self.uid, uid)
    }

    /// As [`IdMap::kept_uid`].
    pub(crate) fn kept_gid(&self, gid: u32) -> Result<u32> {
        kept(self.squash_gid, &self.gid, gid)
    }
}

fn kept(squash: Option<u32>, map: &[IdRange], id: u32) -> Result<u32> {
    match squash {
        Some(squashed) => Ok(squashed),
        None => translate(map, id, |r| (r.inside, r.outside)).ok_or(Refusal::Invalid.into()),
    }
}

fn translate(map: &[IdRange], id: u32, ends: impl Fn(&IdRange) -> (u32, u32)) -> Option<u32> {
    if map.is_empty() {
        return Some(id);
    }
    map.iter().find_map(|range| {
        let (from, to) = ends(range);
        let offset = id.checked_sub(from)?;
        (offset < range.count).then_some(to.checked_add(offset)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmapped_owners_are_adopted_with_the_rights_one_has() {
        let map = IdMap { adopt: Some((1000, 1000)), ..IdMap::default() };
        assert_eq!(map.adopted(OVERFLOW, OVERFLOW, 0o1777), (1000, 1000, 0o1777));
        assert_eq!(map.adopted(OVERFLOW, OVERFLOW, 0o4755), (1000, 1000, 0o555));
        assert_eq!(map.adopted(OVERFLOW, 1000, 0o640), (1000, 1000, 0o444));
        assert_eq!(map.adopted(1000, 1000, 0o640), (1000, 1000, 0o640));
    }

    #[test]
    fn ids_map_both_ways() {
        let map = IdMap {
            uid: vec![
                IdRange { inside: 0, outside: 1000, count: 1 },
                IdRange { inside: 1, outside: 100_000, count: 10 },
            ],
            squash_gid: Some(7),
            ..IdMap::default()
        };
        assert_eq!(map.shown(1000, 5), (0, 7));
        assert_eq!(map.shown(100_003, 5), (4, 7));
        assert_eq!(map.shown(5, 5), (OVERFLOW, 7));
        assert_eq!(map.kept_uid(4).unwrap(), 100_003);
        assert!(map.kept_uid(11).is_err());
        assert_eq!(map.kept_gid(3).unwrap(), 7);
    }
}
