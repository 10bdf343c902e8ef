//! Which branch takes a new entry, a copy, a renamed one. Pure.
//!
//! Here: `tdp` (top-down-parent), the default of both `create=` and `cpup=` (aufs.5). The other policies gather
//! facts about free space first and are not offered yet: asking for them is refused at mount.

use crate::branch::Stack;
use crate::error::Refusal;
use crate::nodes::DirAt;
use crate::resolve::{BranchIdx, Seen, first_whiteout};

/// What the policies need to know of a stack.
pub(crate) trait Writable {
    fn writable(&self, branch: BranchIdx) -> bool;
}

impl Writable for Stack {
    fn writable(&self, branch: BranchIdx) -> bool {
        Stack::writable(self, branch)
    }
}

impl Writable for &[bool] {
    fn writable(&self, branch: BranchIdx) -> bool {
        self.get(usize::from(branch)).copied().unwrap_or(false)
    }
}

/// The branch for a new entry `seen` (not visible now) in the directory at `parent`.
pub(crate) fn for_new(stack: &dyn Writable, parent: &[DirAt], seen: &[Seen]) -> Result<BranchIdx, Refusal> {
    let top = parent.first().map(|at| at.branch).ok_or(Refusal::Absent)?;
    top_down_parent(stack, parent, first_whiteout(seen).unwrap_or(top))
}

/// The branch for a copy of (or a whiteout over) what lies on `from` in the directory at `parent`.
pub(crate) fn for_copy(
    stack: &dyn Writable,
    parent: &[DirAt],
    from: BranchIdx,
) -> Result<BranchIdx, Refusal> {
    top_down_parent(stack, parent, from)
}

/// aufs.5 `tdp`: the reference branch if writable, else the highest writable branch above it that has the parent,
/// else the nearest writable one above the parent (which is then copied up).
fn top_down_parent(
    stack: &dyn Writable,
    parent: &[DirAt],
    reference: BranchIdx,
) -> Result<BranchIdx, Refusal> {
    if stack.writable(reference) {
        return Ok(reference);
    }
    let with_parent = parent.iter().map(|at| at.branch).find(|&b| b < reference && stack.writable(b));
    let top = parent.first().map_or(reference, |at| at.branch.min(reference));
    with_parent.or_else(|| (0..top).rev().find(|&b| stack.writable(b))).ok_or(Refusal::ReadOnly)
}

/// The branch on which a rename works: the source's if it may be written and the new parent is there too; never
/// below an existing target, a whiteout of the target name, or the new parent's own choice (aufs.5 4.6).
pub(crate) fn for_rename(
    stack: &dyn Writable,
    (from_parent, from_branch): (&[DirAt], BranchIdx),
    (to_parent, to_seen, to_branch): (&[DirAt], &[Seen], Option<BranchIdx>),
) -> Result<BranchIdx, Refusal> {
    let source = for_copy(stack, from_parent, from_branch)?;
    let has_parent = to_parent.iter().any(|at| at.branch == source);
    let target = match to_branch {
        Some(branch) => for_copy(stack, to_parent, branch)?,
        None if has_parent => first_whiteout(to_seen).unwrap_or(source),
        None => for_new(stack, to_parent, to_seen)?,
    };
    let highest = source.min(target);
    (0..=highest).rev().find(|&b| stack.writable(b)).ok_or(Refusal::ReadOnly)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Place;

    fn at(branches: &[u16]) -> Vec<DirAt> {
        branches.iter().map(|&branch| DirAt { branch, ino: 0, place: Place::Named, record: None }).collect()
    }

    fn wh(branch: u16) -> Seen {
        Seen { branch, whiteout: true, found: None }
    }

    #[test]
    fn tdp_for_new_entries() {
        let check = |perms: &str, parent: &[u16], seen: &[Seen], want| {
            let perms: Vec<bool> = perms.chars().map(|c| c == 'w').collect();
            let got = for_new(&perms.as_slice(), &at(parent), seen);
            assert_eq!(got, want, "{perms:?} {parent:?}");
        };
        check("w", &[0], &[], Ok(0));
        check("wr", &[0, 1], &[], Ok(0));
        check("wr", &[1], &[], Ok(0));
        check("ww", &[1], &[], Ok(1));
        check("ww", &[0, 1], &[wh(1)], Ok(1));
        check("rw", &[0, 1], &[], Err(Refusal::ReadOnly));
        check("rw", &[1], &[], Ok(1));
        check("wrr", &[2], &[], Ok(0));
        check("wwr", &[0, 2], &[wh(2)], Ok(0));
        check("wwr", &[2], &[], Ok(1));
        check("r", &[0], &[], Err(Refusal::ReadOnly));
    }

    #[test]
    fn rename_never_works_below_its_target() {
        let check = |perms: &str, from: (&[u16], u16), to: (&[u16], &[Seen], Option<u16>), want| {
            let perms: Vec<bool> = perms.chars().map(|c| c == 'w').collect();
            let got = for_rename(&perms.as_slice(), (&at(from.0), from.1), (&at(to.0), to.1, to.2));
            assert_eq!(got, want, "{perms:?} {from:?} {to:?}");
        };
        check("wr", (&[0, 1], 1), (&[0, 1], &[], None), Ok(0));
        check("ww", (&[0, 1], 1), (&[0, 1], &[], None), Ok(1));
        check("ww", (&[0, 1], 1), (&[0], &[], None), Ok(0));
        check("ww", (&[0, 1], 1), (&[0, 1], &[], Some(0)), Ok(0));
        check("ww", (&[0, 1], 1), (&[0, 1], &[wh(0)], None), Ok(0));
        check("ww", (&[0, 1], 0), (&[1], &[], None), Ok(0));
        check("rw", (&[0, 1], 0), (&[0, 1], &[], None), Err(Refusal::ReadOnly));
    }
}
