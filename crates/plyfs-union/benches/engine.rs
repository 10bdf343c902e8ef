//! The engine without a mount, over 1, 16 and 127 layers: lookup of a name that is there and of one that is not, getattr,
//! listing, opening a union whose one directory is then looked at for the first time, and the same from an image index.
//!
//! What a request costs on top of this is the wire and the kernel: `cargo xtask bench`.
#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up has nothing to say")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use plyfs_union::spec::{BranchSpec, MountSpec, Perm};
use plyfs_union::{DirEntry, Ino, Union};
use tempfile::TempDir;

const LAYERS: [usize; 3] = [1, 16, 127];
/// Names of the merged directory.
const NAMES: usize = 1_000;

/// A writable branch over `layers` read-only ones; the directory `d` is in all, its names are spread.
fn branches(layers: usize) -> (TempDir, MountSpec) {
    let dir = tempfile::Builder::new().prefix("plyfs-criterion-").tempdir().unwrap();
    let mut spec = MountSpec::default();
    for layer in 0..=layers {
        let path = dir.path().join(format!("{layer}"));
        fs::create_dir_all(path.join("d")).unwrap();
        spec.branches.push(BranchSpec::new(path, if layer == 0 { Perm::Rw } else { Perm::Ro }));
    }
    for i in 0..NAMES {
        fs::write(dir.path().join(format!("{}/d/name-{i:04}", 1 + i % layers)), "x").unwrap();
    }
    (dir, spec)
}

fn names() -> Vec<OsString> {
    (0..NAMES).map(|i| format!("name-{i:04}").into()).collect()
}

fn dir_of(union: &Union) -> Ino {
    union.lookup(Ino::ROOT, OsStr::new("d")).unwrap().unwrap().ino
}

fn count(union: &Union, dir: Ino) -> u64 {
    let mut lines = 0;
    let mut each = |entry: DirEntry<'_>| {
        black_box(entry);
        lines += 1;
        ControlFlow::Continue(())
    };
    union.list(dir, 0, &mut each).unwrap();
    lines
}

fn warm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine, warm");
    let names = names();
    for layers in LAYERS {
        let (_dir, spec) = branches(layers);
        let union = Union::open(&spec).unwrap();
        let dir = dir_of(&union);
        assert_eq!(count(&union, dir), 2 + NAMES as u64);
        let mut turn = names.iter().cycle();
        group.bench_function(BenchmarkId::new("lookup and forget, hit", layers), |bencher| {
            bencher.iter(|| {
                let entry = union.lookup(dir, turn.next().unwrap()).unwrap().unwrap();
                union.forget(entry.ino, 1);
            });
        });
        let missing = OsStr::new("missing");
        group.bench_function(BenchmarkId::new("lookup, miss", layers), |bencher| {
            bencher.iter(|| assert!(union.lookup(dir, black_box(missing)).unwrap().is_none()));
        });
        let file = union.lookup(dir, &names[0]).unwrap().unwrap().ino;
        group.bench_function(BenchmarkId::new("getattr", layers), |bencher| {
            bencher.iter(|| black_box(union.getattr(file, None).unwrap()));
        });
        group.bench_function(BenchmarkId::new("list 1,000 names", layers), |bencher| {
            bencher.iter(|| count(&union, dir));
        });
    }
}

fn fresh(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine, fresh");
    group.sample_size(20);
    for layers in LAYERS {
        let (_dir, spec) = branches(layers);
        group.bench_function(BenchmarkId::new("open and close", layers), |bencher| {
            bencher.iter(|| Union::open(&spec).unwrap());
        });
        group.bench_function(
            BenchmarkId::new("open, first lookup in a merged directory", layers),
            |bencher| {
                bencher.iter(|| {
                    let union = Union::open(&spec).unwrap();
                    let dir = dir_of(&union);
                    assert!(union.lookup(dir, OsStr::new("missing")).unwrap().is_none());
                });
            },
        );
    }
}

/// Attributes of all names through a new union, read from the layers and from an image index of them.
fn image(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine, image");
    group.sample_size(20);
    for layers in LAYERS {
        let (dir, mut spec) = branches(layers);
        spec.branches[1..].iter_mut().for_each(|branch| branch.wh = true);
        let below: Vec<_> = spec.branches[1..].iter().map(|branch| branch.path.clone()).collect();
        let index = dir.path().join("index");
        plyfs_union::image::build(&below, &index).unwrap();
        for image_index in [None, Some(index)] {
            let spec = MountSpec { image_index, ..spec.clone() };
            let from = if spec.image_index.is_some() { "the index" } else { "the layers" };
            let what = format!("open, attributes of 1,000 names from {from}");
            group.bench_function(BenchmarkId::new(what, layers), |bencher| {
                bencher.iter(|| {
                    let union = Union::open(&spec).unwrap();
                    assert_eq!(union.image_index().is_some(), spec.image_index.is_some());
                    let dir = dir_of(&union);
                    let mut each = |_: DirEntry<'_>, entry: Option<plyfs_union::Entry>| {
                        black_box(entry);
                        ControlFlow::Continue(())
                    };
                    union.list_plus(dir, 0, &|_| true, &mut each).unwrap();
                });
            });
        }
    }
}

criterion_group!(benches, warm, fresh, image);
criterion_main!(benches);
