//! Branches changed directly: told where, or only that something changed, the union is what one opened now would be,
//! while everything known before stays referred to.

use std::path::PathBuf;

use plyfs_tests::model::engine;
use plyfs_tests::model::layers::{Item, layer};
use plyfs_tests::model::op::{Op, Place, name, op};
use plyfs_tests::model::real;
use plyfs_tests::random::check;
use plyfs_union::Union;
use plyfs_union::spec::{Bounds, MountSpec};
use proptest::collection::vec;
use proptest::strategy::Strategy;

use crate::bench::Bench;
use crate::sequences::TIGHT;

type Case = (Vec<Vec<Item>>, Vec<(usize, Op)>);

fn cases() -> impl Strategy<Value = Case> {
    (vec(layer(), 2..=4), vec((0_usize..4, op(false)), 1..40))
}

fn path(place: &Place) -> PathBuf {
    place.0.iter().map(|part| name(*part)).collect()
}

/// What an operation changes; it may have failed half-way.
fn places(op: &Op) -> Vec<PathBuf> {
    match op {
        Op::Create(a, _) | Op::Write(a, ..) | Op::Truncate(a, _) | Op::Mkdir(a, _) | Op::Unlink(a) => {
            vec![path(a)]
        }
        Op::Rmdir(a) | Op::Symlink(a) | Op::Mkfifo(a, _) | Op::Chmod(a, _) => vec![path(a)],
        Op::Rename(a, b, _) | Op::Link(a, b) => vec![path(a), path(b)],
        Op::Remount => vec![],
    }
}

fn follow((layers, ops): Case, bounds: Bounds, told: bool) -> Result<(), String> {
    follow_on(&Bench::bounded(&layers, 1, bounds)?, (&layers, &ops), told)
}

fn follow_on(bench: &Bench, (layers, ops): (&[Vec<Item>], &[(usize, Op)]), told: bool) -> Result<(), String> {
    let mut pinned = bench.pin()?;
    for (at, (branch, op)) in ops.iter().enumerate() {
        let branch = branch % layers.len();
        // Refused or not, the union is to show what is there then.
        let _refused = real::apply(&bench.scratch.path(format!("br{branch}")), op);
        let failed = |error: plyfs_union::Error| format!("operation {at}, {op:?} on {branch}: {error}");
        if told {
            for path in places(op) {
                bench.union().branch_changed(branch, &path).map_err(failed)?;
            }
        } else {
            bench.union().refresh().map_err(failed)?;
        }
        let when = format!("after operation {at}, {op:?} on branch {branch}");
        let spec = MountSpec { look_only: true, image_index: None, ..bench.spec.clone() };
        let fresh = Union::open(&spec).map_err(|error| format!("{when}: {error}"))?;
        let wanted = engine::snapshot(&fresh).map_err(|error| format!("{when}, opened now: {error}"))?;
        let shown = engine::snapshot(bench.union()).map_err(|error| format!("{when}: {error}"))?;
        let lines = wanted.diff(&shown);
        if !lines.is_empty() {
            return Err(format!("{when} (opened now | told):\n{}", lines.join("\n")));
        }
        let now = bench.pin().map_err(|error| format!("{when}: {error}"))?;
        drop(std::mem::replace(&mut pinned, now));
    }
    Ok(())
}

#[test]
fn what_is_told_shows() {
    check(40, &cases(), |case| follow(case, Bounds::default(), true));
}

#[test]
fn what_is_told_shows_without_indexes() {
    check(30, &cases(), |case| follow(case, TIGHT, true));
}

#[test]
fn a_refresh_shows_all() {
    check(30, &cases(), |case| follow(case, Bounds::default(), false));
}

/// A change of a layer ends the use of the image index; one of the branch above it does not.
#[test]
fn what_is_told_shows_over_an_image_index() {
    let on = |layers: &[_]| Bench::with_image(layers, 1, Bounds::default());
    check(40, &cases(), |(layers, ops)| follow_on(&on(&layers)?, (&layers, &ops), true));
    check(20, &cases(), |(layers, ops)| follow_on(&on(&layers)?, (&layers, &ops), false));
    check(40, &cases(), |(layers, ops)| {
        let bench = on(&layers)?;
        let above: Vec<_> = ops.into_iter().map(|(_, op)| (0, op)).collect();
        follow_on(&bench, (&layers, &above), true)?;
        bench.compare_image("after changes above")
    });
}
