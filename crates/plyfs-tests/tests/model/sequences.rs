//! Random sequences of operations: the engine's answers and trees are the model's, before and after reopening.

use plyfs_tests::model::layers::{Item, layer};
use plyfs_tests::model::op::{Op, op};
use plyfs_tests::model::{engine, same_answer};
use plyfs_tests::random::check;
use plyfs_union::spec::Bounds;
use proptest::collection::vec;
use proptest::strategy::Strategy;

use crate::bench::Bench;

/// Room for the lines of a directory or two.
pub(crate) const TIGHT: Bounds = Bounds { index_lines: 3, nodes: 200_000 };

type Case = (Vec<Vec<Item>>, Vec<Op>);

fn cases(layers: std::ops::RangeInclusive<usize>, length: usize) -> impl Strategy<Value = Case> {
    (vec(layer(), layers), vec(op(true), 1..length))
}

/// One case: compares each answer, and the trees at the end (after every operation, if `often`).
fn follow((layers, ops): Case, writable: usize, often: bool) -> Result<(), String> {
    follow_on(Bench::new(&layers, writable)?, &ops, often)
}

fn follow_on(mut bench: Bench, ops: &[Op], often: bool) -> Result<(), String> {
    for (at, op) in ops.iter().enumerate() {
        if let Op::Remount = op {
            bench.reopen()?;
            bench.compare(&format!("reopened after {at} operations"))?;
            continue;
        }
        let should = bench.model.apply(op);
        let is = engine::apply(bench.union(), op);
        same_answer(op, should, is, false).map_err(|why| format!("operation {at}: {why}"))?;
        if often {
            bench.compare(&format!("after operation {at}, {op:?}"))?;
        }
    }
    bench.compare("at the end")?;
    let before = engine::snapshot(bench.union())?;
    bench.reopen()?;
    let lines = before.diff(&engine::snapshot(bench.union())?);
    if !lines.is_empty() {
        return Err(format!("reopening changed the tree (before | after):\n{}", lines.join("\n")));
    }
    bench.compare("at the end, reopened")?;
    bench.below_unchanged()
}

#[test]
fn short_sequences_are_compared_after_each_operation() {
    check(400, &cases(2..=4, 12), |case| follow(case, 1, true));
}

#[test]
fn long_sequences_over_one_writable_branch() {
    check(150, &cases(2..=4, 80), |case| follow(case, 1, false));
}

#[test]
fn long_sequences_over_two_writable_branches() {
    check(150, &cases(3..=4, 60), |case| follow(case, 2, false));
}

/// The yardstick is straight: a plain folder and the kernel say the same as the model.
#[test]
fn the_model_is_what_linux_says() {
    check(300, &(vec(op(false), 1..80)), |ops| {
        let scratch = plyfs_tests::Scratch::new();
        let mut model = plyfs_tests::model::Model::default();
        let dir = scratch.dir("plain");
        for op in &ops {
            same_answer(op, model.apply(op), plyfs_tests::model::real::apply(&dir, op), true)?;
        }
        let seen = plyfs_tests::model::real::snapshot(&dir)?;
        plyfs_tests::model::compare(&model.snapshot(), &seen, "at the end")
    });
}

/// Hardly any index can stay, while everything visible stays known: each is dropped and read again all the time, and
/// no object gets a second node.
fn follow_tight((layers, ops): Case, writable: usize) -> Result<(), String> {
    follow_tight_on(Bench::bounded(&layers, writable, TIGHT)?, &ops)
}

fn follow_tight_on(mut bench: Bench, ops: &[Op]) -> Result<(), String> {
    let mut model = std::mem::take(&mut bench.model);
    let mut pinned = bench.pin()?;
    for (at, op) in ops.iter().enumerate() {
        if let Op::Remount = op {
            continue;
        }
        let is = engine::apply(bench.union(), op);
        same_answer(op, model.apply(op), is, false).map_err(|why| format!("operation {at}: {why}"))?;
        // The old references go after the new ones are taken: whoever was known stays known.
        let now = bench.pin().map_err(|why| format!("after operation {at}, {op:?}: {why}"))?;
        drop(std::mem::replace(&mut pinned, now));
    }
    drop(pinned);
    bench.model = model;
    bench.compare("at the end")?;
    bench.reopen()?;
    bench.compare("at the end, reopened")?;
    bench.below_unchanged()
}

#[test]
fn dropped_indexes_change_nothing() {
    check(100, &cases(2..=4, 60), |case| follow_tight(case, 1));
    check(60, &cases(3..=4, 60), |case| follow_tight(case, 2));
}

#[test]
fn one_branch_alone_is_a_plain_folder() {
    check(60, &cases(1..=1, 60), |case| follow(case, 1, false));
}

/// The read-only branches are known from an image index: nothing shows that.
#[test]
fn an_image_index_changes_nothing() {
    let on = |layers: &[_], writable| Bench::with_image(layers, writable, Bounds::default());
    check(200, &cases(2..=4, 12), |(layers, ops)| follow_on(on(&layers, 1)?, &ops, true));
    check(100, &cases(2..=5, 80), |(layers, ops)| follow_on(on(&layers, 1)?, &ops, false));
    check(100, &cases(3..=5, 60), |(layers, ops)| follow_on(on(&layers, 2)?, &ops, false));
}

#[test]
fn an_image_index_changes_nothing_where_indexes_are_dropped() {
    let on = |layers: &[_], writable| Bench::with_image(layers, writable, TIGHT);
    check(60, &cases(2..=4, 60), |(layers, ops)| follow_tight_on(on(&layers, 1)?, &ops));
    check(40, &cases(3..=5, 60), |(layers, ops)| follow_tight_on(on(&layers, 2)?, &ops));
}
