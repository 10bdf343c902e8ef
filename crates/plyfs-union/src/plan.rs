//! Deciding: from what the branches have to the steps that change them. Pure.
//!
//! The order of the steps is the contract: a branch after any prefix of a plan shows the old state or the new one
//! (the property test below). Doing them: `act.rs`.

use crate::resolve::{BranchIdx, Seen, on, shows_below};

/// The two names a rename works on; other operations use `From` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    From,
    To,
}

/// One step on the working branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the whiteout of a name.
    Whiteout(Side),
    /// Remove the whiteout of a name.
    DropWhiteout(Side),
    /// Make the new entry; a directory opaque from its first instant.
    Make { opaque: bool },
    /// Unlink the real entry.
    Unlink,
    /// Move the real directory to a temporary name, then delete it.
    Retire,
    /// Mark the real directory opaque (it merges with nothing now).
    Opaque(Side),
    /// Keep in the real directory where its lower part is.
    Redirect(Side),
    /// Put an empty twin in place of the directory that is to be replaced: it holds only marks.
    Clear,
    /// rename(2), replacing what is there.
    Rename,
    /// renameat2(2) RENAME_EXCHANGE.
    Exchange,
}

/// Steps, in order.
pub(crate) type Plan = Vec<Step>;

fn whiteouted(seen: &[Seen], branch: BranchIdx) -> bool {
    on(seen, branch).is_some_and(|one| one.whiteout)
}

/// A new entry on `branch` under a name that is not visible. aufs.5 `diropq=`: a directory over a whiteout is opaque.
pub(crate) fn create(seen: &[Seen], branch: BranchIdx, dir: bool, always_opaque: bool) -> Plan {
    let over = whiteouted(seen, branch);
    let mut plan = vec![Step::Make { opaque: dir && (over || always_opaque) }];
    if over {
        plan.push(Step::DropWhiteout(Side::From));
    }
    plan
}

/// Removes a visible name; the whiteout exists before the entry it replaces is gone.
pub(crate) fn remove(seen: &[Seen], branch: BranchIdx, dir: bool) -> Plan {
    let mut plan = Plan::new();
    if shows_below(seen, branch) && !whiteouted(seen, branch) {
        plan.push(Step::Whiteout(Side::From));
    }
    if on(seen, branch).is_some_and(|one| one.found.is_some()) {
        plan.push(if dir { Step::Retire } else { Step::Unlink });
    }
    plan
}

/// What is known of one side of a rename.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) seen: &'a [Seen],
    /// A directory.
    pub(crate) dir: bool,
    /// A directory that merges with lower ones.
    pub(crate) merged: bool,
}

/// Marks that let a directory be moved to the name `to`: what it merges with stays the same.
fn moving(plan: &mut Plan, side: Side, this: &End<'_>, to: &[Seen], branch: BranchIdx) {
    if !this.dir {
        return;
    }
    if this.merged {
        plan.push(Step::Redirect(side));
    } else if whiteouted(to, branch) || shows_below(to, branch) {
        plan.push(Step::Opaque(side));
    }
}

/// Renames `from`, which is on `branch`, over `to`. `clear`: the target directory on `branch` holds marks and must
/// be swapped for an empty one first.
pub(crate) fn rename(from: &End<'_>, to: &End<'_>, branch: BranchIdx, clear: bool) -> Plan {
    let mut plan = Plan::new();
    moving(&mut plan, Side::From, from, to.seen, branch);
    let to_whiteout = whiteouted(to.seen, branch);
    if clear {
        // An empty twin must not let lower directories show: the whiteout beside it hides them.
        if !to_whiteout && shows_below(to.seen, branch) {
            plan.push(Step::Whiteout(Side::To));
        }
        plan.push(Step::Clear);
    }
    if shows_below(from.seen, branch) && !whiteouted(from.seen, branch) {
        plan.push(Step::Whiteout(Side::From));
    }
    plan.push(Step::Rename);
    if to_whiteout || plan.contains(&Step::Whiteout(Side::To)) {
        plan.push(Step::DropWhiteout(Side::To));
    }
    plan
}

/// Exchanges two names that are both on `branch`.
pub(crate) fn exchange(from: &End<'_>, to: &End<'_>, branch: BranchIdx) -> Plan {
    let mut plan = Plan::new();
    moving(&mut plan, Side::From, from, to.seen, branch);
    moving(&mut plan, Side::To, to, from.seen, branch);
    plan.push(Step::Exchange);
    plan
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
