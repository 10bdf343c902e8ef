//! From what each branch says about a name to what the union says. Pure.
//!
//! One rule for whiteouts (OCI layer.md): a whiteout hides what lies in the branches *below* it, never an entry
//! beside it. AUFS answers EIO to such a pair; this reading makes both states on the way of every removal and
//! creation legal.

use plyfs_sys::Kind;
use smallvec::SmallVec;

/// Position of a branch in the stack, 0 on top.
pub(crate) type BranchIdx = u16;

/// What one branch has under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) branch: BranchIdx,
    /// A whiteout lies beside or instead of the entry.
    pub(crate) whiteout: bool,
    /// The entry itself: its type and inode number on that branch.
    pub(crate) found: Option<Found>,
}

/// An entry on one branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) ino: u64,
}

/// All branches' say about one name, top first; branches that say nothing are left out.
pub(crate) type Sightings = SmallVec<[Seen; 1]>;

/// What the union shows under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) kind: Kind,
    pub(crate) branch: BranchIdx,
    pub(crate) ino: u64,
    /// For a directory: every branch whose directory shows through, top first (marks inside not yet considered).
    pub(crate) dirs: SmallVec<[(BranchIdx, u64); 2]>,
}

/// The union's answer; `None` if the name is absent (aufs.5: the first entry gives the type; entries of another
/// type below a directory are skipped, and merging goes on below them).
pub(crate) fn resolve(seen: &[Seen]) -> Option<Resolved> {
    let mut answer: Option<Resolved> = None;
    for one in seen {
        if let Some(found) = one.found {
            let top = answer.get_or_insert_with(|| Resolved {
                kind: found.kind,
                branch: one.branch,
                ino: found.ino,
                dirs: SmallVec::new(),
            });
            if top.kind != Kind::Dir {
                break;
            }
            if found.kind == Kind::Dir {
                top.dirs.push((one.branch, found.ino));
            }
        }
        if one.whiteout {
            break;
        }
    }
    answer
}

/// The directories that merge below a directory of the same path: entries of another type are skipped.
pub(crate) fn directories(seen: &[Seen]) -> impl Iterator<Item = BranchIdx> + '_ {
    let end = seen.iter().position(|one| one.whiteout).map_or(seen.len(), |last| last + 1);
    let is_dir = |one: &&Seen| one.found.is_some_and(|found| found.kind == Kind::Dir);
    seen[..end].iter().filter(is_dir).map(|one| one.branch)
}

/// Would the name still show if branch `branch` and all above had nothing of it?
pub(crate) fn shows_below(seen: &[Seen], branch: BranchIdx) -> bool {
    let below = seen.iter().position(|one| one.branch > branch).unwrap_or(seen.len());
    resolve(&seen[below..]).is_some()
}

/// What branch `branch` itself has.
pub(crate) fn on(seen: &[Seen], branch: BranchIdx) -> Option<Seen> {
    seen.iter().find(|one| one.branch == branch).copied()
}

/// The topmost whiteout that hides something or nothing.
pub(crate) fn first_whiteout(seen: &[Seen]) -> Option<BranchIdx> {
    seen.iter().find(|one| one.whiteout).map(|one| one.branch)
}

/// Changes what `branch` has under the name; leaves no empty line behind.
pub(crate) fn update(seen: &mut Sightings, branch: BranchIdx, change: impl FnOnce(&mut Seen)) {
    let at = seen.iter().position(|one| one.branch >= branch).unwrap_or(seen.len());
    if seen.get(at).is_none_or(|one| one.branch != branch) {
        seen.insert(at, Seen { branch, whiteout: false, found: None });
    }
    change(&mut seen[at]);
    if !seen[at].whiteout && seen[at].found.is_none() {
        seen.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"f . w d+w"`: per branch nothing, file, dir, whiteout, dir beside a whiteout.
    fn sightings(text: &str) -> Sightings {
        let mut all = Sightings::new();
        for (branch, word) in text.split_whitespace().enumerate() {
            let kind = match word.as_bytes()[0] {
                b'f' => Some(Kind::File),
                b'd' => Some(Kind::Dir),
                b'l' => Some(Kind::Symlink),
                _ => None,
            };
            let whiteout = word.ends_with('w');
            let found = kind.map(|kind| Found { kind, ino: branch as u64 + 10 });
            update(&mut all, branch as u16, |one| (one.whiteout, one.found) = (whiteout, found));
        }
        all
    }

    fn check(text: &str, want: Option<(Kind, u16, &[u16])>) {
        let got = resolve(&sightings(text));
        let got = got.map(|r| (r.kind, r.branch, r.dirs.iter().map(|d| d.0).collect::<Vec<_>>()));
        assert_eq!(got, want.map(|(k, b, d)| (k, b, d.to_vec())), "{text}");
    }

    #[test]
    fn the_first_entry_wins_and_directories_merge() {
        check("", None);
        check(". . .", None);
        check("f", Some((Kind::File, 0, &[])));
        check(". f f", Some((Kind::File, 1, &[])));
        check("w f", None);
        check(". w f", None);
        check("f w f", Some((Kind::File, 0, &[])));
        check("d . d", Some((Kind::Dir, 0, &[0, 2])));
        check("d f d", Some((Kind::Dir, 0, &[0, 2])));
        check("f d d", Some((Kind::File, 0, &[])));
        check("d w d", Some((Kind::Dir, 0, &[0])));
        check("dw d", Some((Kind::Dir, 0, &[0])));
        check("fw f", Some((Kind::File, 0, &[])));
        check(". l d", Some((Kind::Symlink, 1, &[])));
    }

    #[test]
    fn what_shows_below() {
        let check =
            |text, branch, want| assert_eq!(shows_below(&sightings(text), branch), want, "{text} {branch}");
        check("f f", 0, true);
        check("f", 0, false);
        check("f w f", 0, false);
        check("fw f", 0, true);
        check(". f f", 0, true);
        check(". f f", 1, true);
        check("f f .", 1, false);
    }
}
