//! The operations of the model suite, and how proptest makes them.

use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;

/// What every symlink of the suite points to: nothing.
pub const TARGET: &str = "no/such/place";

/// Few names, so that operations meet.
pub const NAMES: u8 = 4;

/// How deep places go.
pub const DEPTH: usize = 3;

/// The name with this number.
pub fn name(part: u8) -> String {
    char::from(b'a' + part).to_string()
}

/// A path below the root, by the numbers of its names; never empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub Vec<u8>);

impl Place {
    /// The last name.
    pub fn last(&self) -> u8 {
        self.0[self.0.len() - 1]
    }

    /// Relative to the root.
    pub fn path(&self) -> PathBuf {
        self.0.iter().map(|part| name(*part)).collect()
    }

    /// Whether `other` lies strictly below.
    pub fn is_above(&self, other: &Place) -> bool {
        other.0.len() > self.0.len() && other.0.starts_with(&self.0)
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path().display())
    }
}

/// renameat2's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// None.
    Plain,
    /// RENAME_NOREPLACE.
    NoReplace,
    /// RENAME_EXCHANGE.
    Exchange,
}

/// One operation.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named as the calls are")]
pub enum Op {
    Create(Place, u32),
    /// At this offset, so many bytes of this letter.
    Write(Place, u16, u8, u16),
    Truncate(Place, u16),
    Mkdir(Place, u32),
    Unlink(Place),
    Rmdir(Place),
    Rename(Place, Place, How),
    Link(Place, Place),
    Symlink(Place),
    Mkfifo(Place, u32),
    Chmod(Place, u32),
    /// Drop the union and open it again.
    Remount,
}

/// Places; short ones more often.
pub fn place() -> impl Strategy<Value = Place> {
    (1..=DEPTH).prop_flat_map(|depth| vec(0..NAMES, depth)).prop_map(Place)
}

/// Modes that a later walk by root can read.
pub fn perm() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0o755), Just(0o644), Just(0o700), Just(0o1777), Just(0o2755), Just(0o000), 0..0o1000_u32]
}

/// Operations; `Remount` only where asked for.
pub fn op(remount: bool) -> impl Strategy<Value = Op> {
    let how = prop_oneof![4 => Just(How::Plain), 1 => Just(How::NoReplace), 2 => Just(How::Exchange)];
    prop_oneof![
        6 => (place(), perm()).prop_map(|(p, m)| Op::Create(p, m)),
        6 => (place(), 0..9000_u16, b'0'..=b'z', 1..5000_u16).prop_map(|(p, at, b, n)| Op::Write(p, at, b, n)),
        3 => (place(), 0..9000_u16).prop_map(|(p, n)| Op::Truncate(p, n)),
        6 => (place(), perm()).prop_map(|(p, m)| Op::Mkdir(p, m)),
        8 => place().prop_map(Op::Unlink),
        5 => place().prop_map(Op::Rmdir),
        14 => (place(), place(), how).prop_map(|(a, b, h)| Op::Rename(a, b, h)),
        5 => (place(), place()).prop_map(|(a, b)| Op::Link(a, b)),
        2 => place().prop_map(Op::Symlink),
        1 => (place(), perm()).prop_map(|(p, m)| Op::Mkfifo(p, m)),
        4 => (place(), perm()).prop_map(|(p, m)| Op::Chmod(p, m)),
        1 => place().prop_map(move |p| if remount { Op::Remount } else { Op::Unlink(p) }),
    ]
}
