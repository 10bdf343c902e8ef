//! Random changes of files that begin as copies of metadata alone, against plain vectors: by two names, by descriptors
//! opened early, and over reopening. $PLYFS_SEED and $PLYFS_CASES as in the model suite.

use std::ffi::OsStr;
use std::fs;

use plyfs_union::spec::{MountSpec, Speed};
use plyfs_union::{Fh, SetAttr};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::bench::{Branches, READ, READ_WRITE, Tree, UP_LOW};
use crate::metacopy::bytes_of;

/// `a` and `b` are one file, `c` is another.
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Op {
    Chmod(usize),
    Mark(usize),
    Write(usize, u16, u8, u16),
    Resize(usize, u16),
    Empty(usize),
    Punch(usize, u16, u16),
    Copy { from: usize, to: usize, from_at: u16, to_at: u16, len: u16 },
    Move(usize),
    Open(usize),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let name = || 0..NAMES.len();
    let at = || 0..30_000_u16;
    prop_oneof![
        6 => name().prop_map(Op::Chmod),
        2 => name().prop_map(Op::Mark),
        4 => (name(), at(), b'A'..=b'Z', 1..9000_u16).prop_map(|(n, a, b, l)| Op::Write(n, a, b, l)),
        3 => (name(), at()).prop_map(|(n, size)| Op::Resize(n, size)),
        1 => name().prop_map(Op::Empty),
        1 => (name(), at(), 1..9000_u16).prop_map(|(n, a, l)| Op::Punch(n, a, l)),
        2 => (name(), name(), at(), at(), 1..9000_u16)
            .prop_map(|(from, to, from_at, to_at, len)| Op::Copy { from, to, from_at, to_at, len }),
        2 => name().prop_map(Op::Move),
        2 => name().prop_map(Op::Open),
        3 => Just(Op::Reopen),
    ]
}

struct World {
    branches: Branches,
    tree: Option<Tree>,
    /// Descriptors that stay open, with the number of their file.
    open: Vec<(usize, Fh)>,
    /// What the two files are.
    model: [Vec<u8>; 2],
    moved: [bool; 3],
}

fn file_of(name: usize) -> usize {
    name / 2
}

fn overwrite(file: &mut Vec<u8>, at: usize, data: &[u8]) {
    if file.len() < at + data.len() {
        file.resize(at + data.len(), 0);
    }
    file[at..at + data.len()].copy_from_slice(data);
}

impl World {
    fn new(sizes: [u16; 2]) -> World {
        let branches = Branches::new();
        let model =
            sizes.map(|size| (0..u32::from(size)).map(|at| (at * 31 % 251) as u8).collect::<Vec<u8>>());
        for (name, file) in [("low/a", &model[0]), ("low/c", &model[1])] {
            branches.file(name, "");
            fs::write(branches.path(name), file).unwrap();
        }
        branches.hard_link("low/a", "low/b");
        let mut world = World { branches, tree: None, open: Vec::new(), model, moved: [false; 3] };
        world.reopen();
        world
    }

    fn reopen(&mut self) {
        self.tree = None;
        self.open.clear();
        let speed = Speed { metacopy_from: Some(0), ..Speed::default() };
        let spec = MountSpec { speed, volatile: true, ..MountSpec::default() };
        self.tree = Some(self.branches.open_with(UP_LOW, spec));
    }

    fn tree(&self) -> &Tree {
        self.tree.as_ref().unwrap()
    }

    fn name(&self, name: usize) -> String {
        format!("{}{}", NAMES[name], if self.moved[name] { "2" } else { "" })
    }

    fn with<T>(&self, name: usize, work: impl FnOnce(&Tree, Fh) -> T) -> T {
        let tree = self.tree();
        let early = self.open.iter().rev().find(|(file, _)| *file == file_of(name));
        if let Some((_, file)) = early {
            return work(tree, *file);
        }
        let file = tree.open_file(tree.ino(&self.name(name)), READ_WRITE).unwrap().fh;
        let done = work(tree, file);
        tree.release(file);
        done
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Chmod(name) => {
                self.tree().chmod(self.tree().ino(&self.name(name)), 0o640).unwrap();
            }
            Op::Mark(name) => self.tree().mark(self.tree().ino(&self.name(name))).unwrap(),
            Op::Write(name, at, byte, len) => {
                let data = vec![byte; len.into()];
                self.with(name, |tree, file| tree.write(file, at.into(), &data, false)).unwrap();
                overwrite(&mut self.model[file_of(name)], at.into(), &data);
            }
            Op::Resize(name, size) => self.resize(name, size.into()),
            Op::Empty(name) => self.resize(name, 0),
            Op::Punch(name, at, len) => {
                let (from, to) = (usize::from(at), usize::from(at) + usize::from(len));
                // FALLOC_FL_PUNCH_HOLE with FALLOC_FL_KEEP_SIZE.
                self.with(name, |tree, file| tree.fallocate(file, 3, at.into(), len.into(), false)).unwrap();
                let file = &mut self.model[file_of(name)];
                let end = file.len();
                file[from.min(end)..to.min(end)].fill(0);
            }
            Op::Copy { from, to, from_at, to_at, len } => self.copy((from, from_at), (to, to_at), len),
            Op::Move(name) => {
                let old = self.name(name);
                self.moved[name] ^= true;
                self.tree().mv(&old, &self.name(name)).unwrap();
            }
            Op::Open(name) => {
                let file = self.tree().open_file(self.tree().ino(&self.name(name)), READ_WRITE).unwrap().fh;
                self.open.push((file_of(name), file));
            }
            Op::Reopen => self.reopen(),
        }
    }

    fn resize(&mut self, name: usize, size: usize) {
        let change = SetAttr { size: Some(size as u64), ..SetAttr::default() };
        self.tree().setattr(self.tree().ino(&self.name(name)), None, &change).unwrap();
        self.model[file_of(name)].resize(size, 0);
    }

    fn copy(&mut self, (from, from_at): (usize, u16), (to, to_at): (usize, u16), len: u16) {
        if file_of(from) == file_of(to) {
            return;
        }
        let tree = self.tree();
        let source = tree.open_file(tree.ino(&self.name(from)), READ).unwrap().fh;
        let done = self.with(to, |tree, file| {
            tree.copy_file_range((source, from_at.into()), (file, to_at.into()), len.into(), false)
        });
        let done = done.unwrap() as usize;
        tree.release(source);
        let data: Vec<u8> =
            self.model[file_of(from)].iter().skip(from_at.into()).take(done).copied().collect();
        assert_eq!(data.len(), done);
        if done > 0 {
            overwrite(&mut self.model[file_of(to)], to_at.into(), &data);
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let tree = self.tree();
        for name in 0..NAMES.len() {
            let path = self.name(name);
            let should = &self.model[file_of(name)];
            let is = bytes_of(tree, tree.ino(&path));
            prop_assert_eq!(is.len(), should.len(), "length of {}", path);
            prop_assert_eq!(is.iter().zip(should).position(|(a, b)| a != b), None, "{} differs at", path);
        }
        for (file, fh) in &self.open {
            let mut buf = vec![0; 70_000];
            let count = tree.read(*fh, 0, &mut buf).unwrap();
            prop_assert!(buf[..count] == self.model[*file], "by a descriptor opened before");
        }
        let a = tree.ino(&self.name(0));
        prop_assert_eq!(a, tree.ino(&self.name(1)));
        prop_assert!(!tree.listxattr(a).unwrap().windows(5).any(|word| word == b"plyfs"));
        prop_assert!(tree.lookup(a, OsStr::new("x")).is_err());
        Ok(())
    }
}

#[test]
fn files_are_what_was_written_to_them() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("PLYFS_SEED", 1_u64).to_le_bytes());
    let cases = 250 * number("PLYFS_CASES", 100) as u32 / 100;
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let cases = ([0..25_000_u16, 0..25_000_u16], vec(op(), 1..14));
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(&cases, |(sizes, ops)| {
        let mut world = World::new(sizes);
        for op in &ops {
            world.apply(op);
            world.check()?;
        }
        world.reopen();
        world.check()
    });
    outcome.unwrap();
}
