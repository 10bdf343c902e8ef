//! Reading and printing mount options: a stack of 127 layers in both grammars.

use std::ffi::{OsStr, OsString};
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use plyfs_union::spec::{Unknown, parse};

const LAYERS: usize = 127;

fn aufs() -> OsString {
    let mut text = "br:/var/lib/layers/upper=rw".to_owned();
    (0..LAYERS).for_each(|i| text += &format!(":/var/lib/layers/{i:03}/diff=ro+wh"));
    text.into()
}

fn overlay() -> OsString {
    let layers: Vec<String> = (0..LAYERS).map(|i| format!("/var/lib/layers/{i:03}/diff")).collect();
    format!("lowerdir={},upperdir=/var/lib/layers/upper,workdir=/var/lib/layers/work", layers.join(":"))
        .into()
}

fn read(options: &OsStr) -> OsString {
    let parsed = parse(&[black_box(options)], Unknown::Refuse);
    parsed.map(|parsed| parsed.spec.options()).unwrap_or_default()
}

fn spec(criterion: &mut Criterion) {
    for (name, options) in [("aufs", aufs()), ("overlay", overlay())] {
        assert!(!read(&options).is_empty(), "{name}: not understood");
        criterion.bench_function(&format!("spec/{name}, {LAYERS} layers, read and print"), |bencher| {
            bencher.iter(|| black_box(read(&options)));
        });
    }
}

criterion_group!(benches, spec);
criterion_main!(benches);
