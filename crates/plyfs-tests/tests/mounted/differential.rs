//! The model suite's operations through the mount and in a plain folder: the kernel's answers and the trees are equal.

use plyfs_tests::model::layers::{Item, Layer, layer, merge};
use plyfs_tests::model::op::{Op, op};
use plyfs_tests::model::{compare, real, same_answer};
use plyfs_tests::random::check;
use plyfs_tests::{Mount, Scratch, Snapshot, Want, require_root, sh};
use proptest::collection::vec;
use proptest::strategy::Strategy;

fn cases(length: usize) -> impl Strategy<Value = (Vec<Vec<Item>>, Vec<Op>)> {
    (vec(layer(), 2..=3), vec(op(true), 1..length))
}

/// One case over `writable` writable branches.
fn follow(layers: &[Vec<Item>], ops: &[Op], writable: usize) -> Result<(), String> {
    let scratch = Scratch::new();
    let layers: Vec<Layer> = layers.iter().map(|items| Layer::new(items)).collect();
    let mut words = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        layer.write(&scratch.dir(format!("br{at}")));
        words.push(format!("br{at}={}", if at < writable { "rw" } else { "ro+wh" }));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let low = scratch.path(format!("br{}", layers.len() - 1));
    let below = Snapshot::of(&low, Want::ALL);
    let mut mount = Mount::stack(&scratch, &words);
    let seen = real::snapshot(mount.dir())?;
    compare(&merge(&layers).snapshot(), &seen, "just mounted")?;
    // The plain folder starts as a copy of the union.
    let plain = scratch.dir("plain");
    sh(format!("cp -a {}/. {}", mount.dir().display(), plain.display())).ok();
    for (at, op) in ops.iter().enumerate() {
        if let Op::Remount = op {
            mount.unmount();
            mount = Mount::stack(&scratch, &words);
            continue;
        }
        let should = real::apply(&plain, op);
        let is = real::apply(mount.dir(), op);
        same_answer(op, should, is, true).map_err(|why| format!("operation {at}: {why}"))?;
    }
    let look = |mount: &Mount, when: &str| {
        // A copy made by cp -a loses links whose other names are hidden below: counts are the model suite's matter.
        let cut = |mut snapshot: Snapshot| {
            for line in snapshot.0.values_mut() {
                let end = line.find(" links=").unwrap_or(line.len());
                line.truncate(end);
            }
            snapshot
        };
        compare(&cut(real::snapshot(&plain)?), &cut(real::snapshot(mount.dir())?), when)
    };
    look(&mount, "at the end")?;
    mount.unmount();
    let mount = Mount::stack(&scratch, &words);
    look(&mount, "remounted")?;
    let lines = below.diff(&Snapshot::of(&low, Want::ALL));
    if lines.is_empty() { Ok(()) } else { Err(format!("the lowest branch changed:\n{}", lines.join("\n"))) }
}

#[test]
fn one_writable_branch_against_a_plain_folder() {
    if !require_root("files of any mode") {
        return;
    }
    check(60, &cases(60), |(layers, ops)| follow(&layers, &ops, 1));
}

#[test]
fn two_writable_branches_against_a_plain_folder() {
    if !require_root("files of any mode") {
        return;
    }
    check(40, &cases(60), |(layers, ops)| {
        let mut layers = layers;
        layers.insert(0, Vec::new());
        follow(&layers, &ops, 2)
    });
}

#[test]
fn four_writers_in_one_folder_leave_a_tree_that_a_remount_shows_again() {
    if !require_root("files of any mode") {
        return;
    }
    let cases = (vec(layer(), 1..=2), vec(vec(op(false), 1..80_usize), 4));
    check(25, &cases, |(layers, ops)| {
        let scratch = Scratch::new();
        let mut words = vec!["top".to_owned()];
        for (at, items) in layers.iter().enumerate() {
            Layer::new(items).write(&scratch.dir(format!("br{at}")));
            words.push(format!("br{at}=ro+wh"));
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mount = Mount::stack(&scratch, &words);
        std::thread::scope(|scope| {
            for ops in &ops {
                let root = mount.dir();
                scope.spawn(move || {
                    for op in ops {
                        // The race decides which calls are refused.
                        let _refused = real::apply(root, op);
                    }
                });
            }
        });
        let before = real::snapshot(mount.dir())?;
        mount.unmount();
        let mount = Mount::stack(&scratch, &words);
        let lines = before.diff(&real::snapshot(mount.dir())?);
        if lines.is_empty() { Ok(()) } else { Err(format!("(before | remounted)\n{}", lines.join("\n"))) }
    });
}
