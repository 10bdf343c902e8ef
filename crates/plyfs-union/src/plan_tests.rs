//! Tables of plans, and the property that every prefix of a plan leaves a legal branch.

use plyfs_sys::Kind;
use proptest::prelude::*;

use super::*;
use crate::resolve::{Found, Sightings, update};

fn seen(text: &str) -> Sightings {
    let mut all = Sightings::new();
    for (branch, word) in text.split_whitespace().enumerate() {
        let kind = match word.as_bytes()[0] {
            b'f' => Some(Kind::File),
            b'd' => Some(Kind::Dir),
            _ => None,
        };
        let found = kind.map(|kind| Found { kind, ino: 1 });
        update(&mut all, branch as u16, |one| (one.whiteout, one.found) = (word.ends_with('w'), found));
    }
    all
}

#[test]
fn removals() {
    let check =
        |text, branch, dir, want: &[Step]| assert_eq!(remove(&seen(text), branch, dir), want, "{text}");
    check("f f", 0, false, &[Step::Whiteout(Side::From), Step::Unlink]);
    check("f .", 0, false, &[Step::Unlink]);
    check(". f", 0, false, &[Step::Whiteout(Side::From)]);
    check("fw f", 0, false, &[Step::Unlink]);
    check("d d", 0, true, &[Step::Whiteout(Side::From), Step::Retire]);
    check("f w f", 0, false, &[Step::Unlink]);
}

#[test]
fn creations() {
    let check = |text, dir, want: &[Step]| assert_eq!(create(&seen(text), 0, dir, false), want, "{text}");
    check(".", false, &[Step::Make { opaque: false }]);
    check("w f", false, &[Step::Make { opaque: false }, Step::DropWhiteout(Side::From)]);
    check("w d", true, &[Step::Make { opaque: true }, Step::DropWhiteout(Side::From)]);
    check(". w", true, &[Step::Make { opaque: false }]);
}

#[test]
fn renames() {
    let check = |from: (&str, bool, bool), to: (&str, bool), clear, want: &[Step]| {
        let (a, b) = (seen(from.0), seen(to.0));
        let from_end = End { seen: &a, dir: from.1, merged: from.2 };
        let to_end = End { seen: &b, dir: to.1, merged: false };
        assert_eq!(rename(&from_end, &to_end, 0, clear), want, "{from:?} {to:?}");
    };
    use Side::{From, To};
    use Step::{Clear, DropWhiteout, Opaque, Redirect, Rename, Whiteout};
    check(("f", false, false), (".", false), false, &[Rename]);
    check(("f f", false, false), (".", false), false, &[Whiteout(From), Rename]);
    check(("f", false, false), ("w f", false), false, &[Rename, DropWhiteout(To)]);
    check(("d d", true, true), (".", false), false, &[Redirect(From), Whiteout(From), Rename]);
    check(("d", true, false), ("w d", false), false, &[Opaque(From), Rename, DropWhiteout(To)]);
    check(("d", true, false), (". d", true), false, &[Opaque(From), Rename]);
    check(
        ("d", true, false),
        ("d d", true),
        true,
        &[Opaque(From), Whiteout(To), Clear, Rename, DropWhiteout(To)],
    );
}

/// A little world of two names on three branches, the top one writable: enough for every case of a plan.
#[derive(Debug, Clone, Default, PartialEq)]
struct Thing {
    label: u32,
    dir: bool,
    opaque: bool,
    /// Merges with this name of the branches below instead of its own.
    redirect: Option<usize>,
    holds_marks: bool,
}

#[derive(Debug, Clone, Default)]
struct World {
    things: [[Option<Thing>; 3]; 2],
    whiteouts: [[bool; 3]; 2],
}

impl World {
    fn seen(&self, name: usize) -> Sightings {
        let mut all = Sightings::new();
        for branch in 0..3 {
            let found = self.things[name][branch].as_ref().map(|thing| Found {
                kind: if thing.dir { Kind::Dir } else { Kind::File },
                ino: u64::from(thing.label),
            });
            let whiteout = self.whiteouts[name][branch];
            update(&mut all, branch as u16, |one| (one.whiteout, one.found) = (whiteout, found));
        }
        all
    }

    /// What users see under a name: the labels that merge.
    fn view(&self, name: usize, from: usize) -> Vec<u32> {
        self.merge(name, from, false)
    }

    /// `dirs_only`: the lower part of a directory, for which entries of another type are skipped.
    fn merge(&self, name: usize, from: usize, dirs_only: bool) -> Vec<u32> {
        let mut labels = vec![];
        for branch in from..3 {
            if let Some(thing) = &self.things[name][branch] {
                if labels.is_empty() && !thing.dir && !dirs_only {
                    return vec![thing.label];
                }
                if thing.dir {
                    labels.push(thing.label);
                    if let Some(other) = thing.redirect {
                        labels.extend(self.merge(other, branch + 1, true));
                        return labels;
                    }
                    if thing.opaque {
                        break;
                    }
                }
            }
            if self.whiteouts[name][branch] {
                break;
            }
        }
        labels
    }

    fn views(&self) -> [Vec<u32>; 2] {
        [self.view(0, 0), self.view(1, 0)]
    }

    fn end<'a>(&self, name: usize, seen: &'a [Seen]) -> End<'a> {
        let dir = self.things[name][0].as_ref().is_some_and(|thing| thing.dir);
        End { seen, dir, merged: dir && self.view(name, 0).len() > 1 }
    }

    fn apply(&mut self, step: Step) {
        let at = |side| usize::from(side == Side::To);
        match step {
            Step::Whiteout(side) => self.whiteouts[at(side)][0] = true,
            Step::DropWhiteout(side) => self.whiteouts[at(side)][0] = false,
            Step::Make { opaque } => {
                self.things[0][0] = Some(Thing { label: 99, dir: opaque, opaque, ..Thing::default() });
            }
            Step::Unlink | Step::Retire => self.things[0][0] = None,
            Step::Opaque(side) => self.things[at(side)][0].as_mut().unwrap().opaque = true,
            Step::Redirect(side) => {
                let thing = self.things[at(side)][0].as_mut().unwrap();
                thing.redirect = thing.redirect.or(Some(at(side)));
            }
            Step::Clear => {
                let thing = self.things[1][0].as_mut().unwrap();
                (thing.holds_marks, thing.opaque, thing.redirect) = (false, false, None);
            }
            Step::Rename => {
                assert!(!self.things[1][0].as_ref().is_some_and(|thing| thing.holds_marks), "ENOTEMPTY");
                self.things[1][0] = self.things[0][0].take();
            }
            Step::Exchange => {
                let (a, b) = self.things.split_at_mut(1);
                std::mem::swap(&mut a[0][0], &mut b[0][0]);
            }
        }
    }
}

fn things() -> impl Strategy<Value = Option<Thing>> {
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(Thing::default())),
        2 => any::<bool>().prop_map(|opaque| Some(Thing { dir: true, opaque, holds_marks: opaque, ..Thing::default() })),
    ]
}

prop_compose! {
    fn worlds()(
        mut things in prop::array::uniform2(prop::array::uniform3(things())),
        whiteouts in prop::array::uniform2(prop::array::uniform3(prop::bool::weighted(0.3))),
    ) -> World {
        for (i, thing) in things.iter_mut().flatten().enumerate() {
            if let Some(thing) = thing {
                thing.label = i as u32 + 1;
            }
        }
        World { things, whiteouts }
    }
}

/// Applies a plan step by step; every state in between shows the old or the new view.
fn check_prefixes(mut world: World, plan: &[Step], new: &[Vec<u32>; 2]) -> Result<(), TestCaseError> {
    let old = world.views();
    for step in plan {
        world.apply(*step);
        let now = world.views();
        prop_assert!(
            now == old || now == *new,
            "after {step:?} of {plan:?}: {now:?}, old {old:?}, new {new:?}"
        );
    }
    prop_assert_eq!(&world.views(), new, "after {:?}", plan);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn every_prefix_of_a_removal_is_legal(world in worlds()) {
        let old = world.views();
        prop_assume!(!old[0].is_empty());
        let dir = world.seen(0).iter().find_map(|one| one.found).is_some_and(|f| f.kind == Kind::Dir);
        let plan = remove(&world.seen(0), 0, dir);
        // A directory that is removed shows nothing: which ones merge in it does not matter.
        let mut world = world;
        for step in &plan {
            world.apply(*step);
            let now = world.views();
            let same = now[0].first() == old[0].first() || now[0].is_empty();
            prop_assert!(same && now[1] == old[1], "after {step:?} of {plan:?}: {now:?}, old {old:?}");
        }
        prop_assert_eq!(world.views(), [vec![], old[1].clone()]);
    }

    #[test]
    fn every_prefix_of_a_creation_is_legal(world in worlds(), dir in any::<bool>()) {
        let old = world.views();
        prop_assume!(old[0].is_empty());
        let plan = create(&world.seen(0), 0, dir, false);
        check_prefixes(world, &plan, &[vec![99], old[1].clone()])?;
    }

    #[test]
    fn every_prefix_of_a_rename_is_legal(world in worlds()) {
        let old = world.views();
        // Copied up before; and a target directory is empty to its users, so what it merges does not matter.
        prop_assume!(world.things[0][0].is_some());
        let (a, b) = (world.seen(0), world.seen(1));
        let (from, to) = (world.end(0, &a), world.end(1, &b));
        let to_dir = crate::resolve::resolve(&b).map(|r| r.kind == Kind::Dir);
        prop_assume!(to_dir.is_none_or(|dir| dir == from.dir));
        let clear = world.things[1][0].as_ref().is_some_and(|thing| thing.dir && (thing.holds_marks || to.merged));
        let plan = rename(&from, &to, 0, clear);
        let mut world = world;
        // The union of what the target shows is no content of its own: only the top label tells old from new.
        for step in &plan {
            world.apply(*step);
            let now = world.views();
            let same_target = now[1].first() == old[1].first();
            let before = now[0] == old[0] && same_target;
            let after = now[0].is_empty() && now[1] == old[0];
            prop_assert!(before || after, "after {step:?} of {plan:?}: {now:?}, old {old:?}");
        }
        prop_assert_eq!(world.views(), [vec![], old[0].clone()]);
    }

    #[test]
    fn every_prefix_of_an_exchange_is_legal(world in worlds()) {
        let old = world.views();
        prop_assume!(world.things[0][0].is_some() && world.things[1][0].is_some());
        let (a, b) = (world.seen(0), world.seen(1));
        let plan = exchange(&world.end(0, &a), &world.end(1, &b), 0);
        check_prefixes(world, &plan, &[old[1].clone(), old[0].clone()])?;
    }
}
