//! Tests of the file: what is written is read; what is damaged is refused or does no harm.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use tempfile::TempDir;

use super::format::{HEADER, SUM, VERSION, put};
use super::{ImageIndex, build, survey};
use crate::names::{WhiteoutName, whiteout_of};
use crate::spec::{BranchSpec, MountSpec, Perm};
use crate::{Ino, Kind, Union};

/// Two layers, and the bytes of their index.
struct Sample {
    dir: TempDir,
    layers: Vec<PathBuf>,
    bytes: Vec<u8>,
}

impl Sample {
    fn new() -> Sample {
        let dir = tempfile::tempdir().unwrap();
        let layers = vec![dir.path().join("l0"), dir.path().join("l1")];
        for layer in &layers {
            fs::create_dir_all(layer.join("d/e/f")).unwrap();
            fs::write(layer.join("d/file"), "text").unwrap();
        }
        for name in 0..20 {
            fs::write(layers[1].join(format!("d/e/{name}")), "").unwrap();
        }
        let WhiteoutName::File(hides) = whiteout_of(&leaf("7")) else { unreachable!("a short name") };
        fs::write(layers[0].join("d/e").join(hides.as_os_str()), "").unwrap();
        std::os::unix::fs::symlink("to/some/where", layers[0].join("link")).unwrap();
        let index = dir.path().join("index");
        build(&layers, &index).unwrap();
        let bytes = fs::read(&index).unwrap();
        Sample { dir, layers, bytes }
    }

    fn index(&self) -> PathBuf {
        self.dir.path().join("index")
    }

    /// Opens a union with these bytes for an index and asks it for everything. Gives how many objects it has and
    /// whether the index was in use to the end.
    fn walk(&self, bytes: &[u8]) -> (usize, bool) {
        fs::remove_file(self.index()).unwrap();
        fs::write(self.index(), bytes).unwrap();
        let spec = MountSpec {
            branches: self.layers.iter().map(|path| BranchSpec::new(path, Perm::Ro).with_wh()).collect(),
            image_index: Some(self.index()),
            ..MountSpec::default()
        };
        let union = Union::open(&spec).unwrap();
        let mut todo = vec![Ino::ROOT];
        let mut count = 0;
        while let Some(ino) = todo.pop() {
            count += 1;
            let Ok(attr) = union.getattr(ino, None) else { continue };
            if attr.kind == Kind::Symlink {
                let _may_fail = union.readlink(ino);
            }
            let mut names = Vec::new();
            let listed = union.list(ino, 2, &mut |entry| {
                names.push(entry.name.to_os_string());
                ControlFlow::Continue(())
            });
            if listed.is_ok() {
                let children = names.iter().filter_map(|name| union.lookup(ino, name).ok().flatten());
                todo.extend(children.map(|entry| entry.ino));
            }
        }
        (count, union.image_index().is_some())
    }
}

fn leaf(name: &str) -> plyfs_sys::Leaf {
    plyfs_sys::Leaf::new(name.as_ref()).unwrap()
}

/// With a right checksum, so that what is behind it is looked at.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = SUM.checksum(&bytes[..HEADER - 8]);
    put(&mut bytes, HEADER - 8, &sum.to_le_bytes());
    bytes
}

/// Objects of the sample: the root, d, d/e, d/e/f, d/file, link, and 19 of 20 files.
const OBJECTS: usize = 25;

#[test]
fn what_is_written_is_read() {
    let sample = Sample::new();
    assert_eq!(survey(&sample.bytes), Ok(OBJECTS as u64), "the hidden name too, the root not");
    let index = ImageIndex::open(&sample.index()).unwrap();
    assert_eq!(index.check().unwrap(), OBJECTS as u64);
    assert_eq!(index.layers().unwrap(), sample.layers);
    assert_eq!(sample.walk(&sample.bytes), (OBJECTS, true));
    // Nothing but the index is left.
    assert_eq!(fs::read_dir(sample.dir.path()).unwrap().count(), 3);
}

#[test]
fn every_byte_of_the_header_counts() {
    let sample = Sample::new();
    for at in 0..HEADER {
        for bit in [1, 0x80] {
            let mut bytes = sample.bytes.clone();
            bytes[at] ^= bit;
            let why = survey(&bytes).expect_err(&format!("byte {at}"));
            assert!(!why.is_empty());
            // With a right checksum it may be another index, of other layers; it is no disaster.
            let _any = survey(&sealed(bytes));
        }
    }
    let mut bytes = sample.bytes.clone();
    put(&mut bytes, 8, &(VERSION + 1).to_le_bytes());
    assert!(survey(&bytes).unwrap_err().contains("version 2"));
}

#[test]
fn a_cut_file_is_refused() {
    let sample = Sample::new();
    for length in (0..sample.bytes.len()).step_by(7).chain([HEADER - 1, HEADER, HEADER + 1]) {
        survey(&sample.bytes[..length]).unwrap_err();
    }
    let longer = [&sample.bytes[..], b"x"].concat();
    survey(&longer).unwrap_err();
    assert_eq!(sample.walk(&sample.bytes[..sample.bytes.len() - 1]), (OBJECTS, false), "the layers serve");
    assert_eq!(sample.walk(b"no index"), (OBJECTS, false));
}

#[test]
fn a_damaged_list_of_layers_is_noticed_at_once() {
    let sample = Sample::new();
    for at in HEADER..HEADER + 128 {
        let mut bytes = sample.bytes.clone();
        bytes[at] ^= 4;
        assert!(survey(&bytes).unwrap_err().contains("Layers"), "byte {at}");
    }
}

#[test]
fn an_index_serves_who_sees_what_its_builder_saw() {
    let sample = Sample::new();
    let other = |at: usize| {
        let mut bytes = sample.bytes.clone();
        bytes[at] ^= 1;
        sealed(bytes)
    };
    for (at, what) in [(24, "sight of trusted xattrs"), (28, "user"), (32, "id maps")] {
        assert_eq!(survey(&other(at)), Ok(OBJECTS as u64));
        assert_eq!(sample.walk(&other(at)), (OBJECTS, false), "another {what}");
    }
}

#[test]
fn a_directory_that_is_damaged_ends_the_use_of_the_index() {
    let sample = Sample::new();
    let mut bytes = sample.bytes.clone();
    // From the second directory on: the root is right.
    let dirs = HEADER + 128 + 32;
    bytes[dirs..dirs + 32].fill(0xff);
    let (count, used) = sample.walk(&bytes);
    assert_eq!((count, used), (OBJECTS, false), "no child of the root");
    let mut bytes = sample.bytes.clone();
    bytes[dirs + 8..dirs + 16].fill(0xff);
    assert_eq!(sample.walk(&bytes), (OBJECTS, false), "its names are not in the file");
    assert!(survey(&bytes).is_err());
}

/// Changes of the body: at random, a few bytes at once, often to values that lead somewhere.
fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let value = prop_oneof![Just(0), Just(1), Just(2), Just(0xff), any::<u8>()];
    proptest::collection::vec((any::<prop::sample::Index>(), value), 1..12)
        .prop_map(|all| all.into_iter().map(|(at, value)| (at.index(1 << 20), value)).collect())
}

#[test]
fn damage_does_no_harm() {
    let sample = Sample::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..400 {
        let changes = changes().new_tree(&mut runner).unwrap().current();
        let mut bytes = sample.bytes.clone();
        let body = HEADER + 128..bytes.len();
        for (at, value) in &changes {
            bytes[body.start + at % body.len()] = *value;
        }
        let _any = survey(&bytes);
        let (count, _) = sample.walk(&bytes);
        assert!(count < 10_000, "{changes:?}");
    }
}

#[test]
fn an_index_is_replaced_whole() {
    let sample = Sample::new();
    let before = ImageIndex::open(&sample.index()).unwrap();
    fs::write(sample.layers[0].join("new"), "").unwrap();
    let built = build(&sample.layers, &sample.index()).unwrap();
    assert_eq!(built.entries, OBJECTS as u64 + 1);
    assert_eq!(built.bytes, fs::metadata(sample.index()).unwrap().len());
    assert_eq!(before.check().unwrap(), OBJECTS as u64, "who has the old one keeps it");
    assert!(build(&sample.layers, Path::new("/")).is_err());
    assert!(build(&[sample.dir.path().join("absent")], &sample.index()).is_err());
    assert_eq!(ImageIndex::open(&sample.index()).unwrap().check().unwrap(), OBJECTS as u64 + 1);
}
