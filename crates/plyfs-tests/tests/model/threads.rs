//! Four threads at once: in folders of their own each answer is the model's; in one folder together the tree stays
//! whole, and a reopened union shows the same.

use plyfs_tests::model::layers::{Item, Layer, merge};
use plyfs_tests::model::op::{Op, Place, op};
use plyfs_tests::model::{Model, engine, same_answer};
use plyfs_tests::random::check;
use plyfs_union::spec::Bounds;
use proptest::collection::vec;
use proptest::strategy::Strategy;

use crate::bench::Bench;

const THREADS: u8 = 4;

/// A lower branch where each of a, b, c, d is a folder with something in it.
fn below() -> impl Strategy<Value = Vec<Item>> {
    plyfs_tests::model::layers::layer().prop_map(|items| {
        let own = (0..THREADS).map(|at| Item::Dir(Place(vec![at]), 0o755));
        own.chain(items).collect()
    })
}

/// The operation, moved into thread `at`'s folder.
fn moved(op: &Op, at: u8) -> Op {
    let into = |place: &Place| {
        let mut parts = vec![at];
        parts.extend(&place.0);
        Place(parts)
    };
    match op {
        Op::Create(p, m) => Op::Create(into(p), *m),
        Op::Write(p, at, b, n) => Op::Write(into(p), *at, *b, *n),
        Op::Truncate(p, n) => Op::Truncate(into(p), *n),
        Op::Mkdir(p, m) => Op::Mkdir(into(p), *m),
        Op::Unlink(p) => Op::Unlink(into(p)),
        Op::Rmdir(p) => Op::Rmdir(into(p)),
        Op::Rename(a, b, h) => Op::Rename(into(a), into(b), *h),
        Op::Link(a, b) => Op::Link(into(a), into(b)),
        Op::Symlink(p) => Op::Symlink(into(p)),
        Op::Mkfifo(p, m) => Op::Mkfifo(into(p), *m),
        Op::Chmod(p, m) => Op::Chmod(into(p), *m),
        Op::Remount => Op::Remount,
    }
}

type Case = (Vec<Vec<Item>>, Vec<Vec<Op>>);

fn cases(length: usize) -> impl Strategy<Value = Case> {
    (vec(below(), 2..=3), vec(vec(op(false), 1..length), THREADS as usize))
}

#[test]
fn folders_of_their_own() {
    check(40, &cases(60), |(mut layers, ops)| {
        // Hard links between two threads' folders would tie their models together.
        for layer in &mut layers {
            layer.retain(|item| !matches!(item, Item::Link(a, b) if a.0[0] != b.0[0]));
        }
        let tops: Vec<Item> = (0..THREADS).map(|at| Item::Dir(Place(vec![at]), 0o755)).collect();
        layers.insert(0, tops);
        let mut bench = Bench::new(&layers, 1)?;
        let start = bench.model.clone();
        let union = bench.union();
        let run = |at: u8, ops: &[Op]| -> Result<(Model, Vec<Op>), String> {
            let mut model = start.clone();
            let ops: Vec<Op> = ops.iter().map(|op| moved(op, at)).collect();
            for (number, op) in ops.iter().enumerate() {
                let should = model.apply(op);
                let is = engine::apply(union, op);
                same_answer(op, should, is, false)
                    .map_err(|why| format!("thread {at}, operation {number}: {why}"))?;
            }
            Ok((model, ops))
        };
        let done = std::thread::scope(|scope| {
            let run = &run;
            let threads: Vec<_> =
                ops.iter().zip(0..).map(|(ops, at)| scope.spawn(move || run(at, ops))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread")).collect::<Result<Vec<_>, _>>()
        })?;
        // Disjoint folders: one after another gives the same as at once.
        for (_, ops) in &done {
            for op in ops {
                let _refused = bench.model.apply(op);
            }
        }
        bench.compare("after all threads")?;
        bench.reopen()?;
        bench.compare("after all threads, reopened")?;
        bench.below_unchanged()
    });
}

#[test]
fn one_folder_together() {
    together(60, Bounds::default(), false);
}

#[test]
fn one_folder_together_over_an_image_index() {
    together(40, Bounds::default(), true);
    together(30, crate::sequences::TIGHT, true);
}

#[test]
fn one_folder_together_while_indexes_are_dropped() {
    together(40, crate::sequences::TIGHT, false);
}

fn together(times: u32, bounds: Bounds, image: bool) {
    check(times, &cases(80), |(layers, ops)| {
        let mut all = vec![Vec::new()];
        all.extend(layers);
        let make = if image { Bench::with_image } else { Bench::bounded };
        let mut bench = make(&all, 1, bounds)?;
        let union = bench.union();
        std::thread::scope(|scope| {
            for ops in &ops {
                scope.spawn(move || {
                    for op in ops {
                        // Who wins a race decides which calls are refused; only the tree's health is judged.
                        let _refused = engine::apply(union, op);
                    }
                });
            }
        });
        let before = engine::snapshot(bench.union())?;
        bench.reopen()?;
        let after = engine::snapshot(bench.union())?;
        let lines = before.diff(&after);
        if !lines.is_empty() {
            return Err(format!("reopening changed the tree (before | after):\n{}", lines.join("\n")));
        }
        let temporary = leftovers(&bench);
        if !temporary.is_empty() {
            return Err(format!("temporary names are left: {temporary:?}"));
        }
        bench.compare_image("after all threads")?;
        bench.below_unchanged()
    });
}

/// Names of unfinished work in the writable branch: `.wh..wh.` words other than AUFS's lasting ones.
fn leftovers(bench: &Bench) -> Vec<String> {
    let lasting = [".wh..wh..opq", ".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph"];
    let tree = plyfs_tests::Snapshot::of(bench.scratch.path("br0"), plyfs_tests::Want::PLAIN);
    let names = tree.0.into_keys().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    names.filter(|name| name.starts_with(".wh..wh.") && !lasting.contains(&name.as_str())).collect()
}

#[test]
fn the_model_itself_merges_as_aufs_5_says() {
    let file = |path: &[u8], byte| Item::File(Place(path.to_vec()), byte, 3, 0o644);
    let top = [Item::Whiteout(Place(vec![0])), Item::Dir(Place(vec![1]), 0o700)];
    let middle = [file(&[0], b'x'), file(&[1], b'y'), Item::Opaque(Place(vec![2]), 0o755)];
    let low = [file(&[1, 0], b'z'), file(&[2, 0], b'z'), file(&[3], b'z')];
    let layers = [Layer::new(&top), Layer::new(&middle), Layer::new(&low)];
    let seen: Vec<String> =
        merge(&layers).snapshot().0.into_keys().map(|path| path.display().to_string()).collect();
    // a is whited out; b is a directory above a file above a directory: both directories merge; c is opaque.
    assert_eq!(seen, ["", "b", "b/a", "c", "d"]);
}
